//! What each hook does, apart from what calls it: fills one record from one hook.

pub mod cgroup;
pub mod comm;
pub mod creds;
pub mod cwd;
pub mod exec;
pub mod exit;
pub mod fork;
pub mod hint;
pub mod ids;
pub mod row;
