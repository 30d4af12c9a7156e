//! What each hook does, separate from the entry points: each module fills one kind of record.

pub mod cgroup;
pub mod comm;
pub mod creds;
pub mod cwd;
pub mod exec;
pub mod exit;
pub mod fork;
pub mod hint;
pub mod ids;
pub mod oom;
pub mod release;
pub mod row;
pub mod signal;
