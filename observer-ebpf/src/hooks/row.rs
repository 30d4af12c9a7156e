//! Writes a row of the task iterator: every field of one thread group, as it is at that time.

use aya_ebpf::helpers::generated::bpf_seq_write;
use observer_common::chosen;
use observer_common::record::{FACT_DEAD, FACT_EXECUTING, FACT_STOPPED, KIND_ROW, RowRecord};

use crate::access::{Access, Typed, offset};
use crate::emit;
use crate::maps::{CHOSEN, ROW_SCRATCH, TAIL_MASK};
use crate::pages;
use crate::path;
use crate::task::{self, Task};

path::walker!(row_walk, ROW_SCRATCH, dentry_steps);
path::walker!(row_cgroup_walk, ROW_SCRATCH, kernfs_steps);

/// `struct bpf_iter__task`.
#[repr(C)]
pub struct IterTask {
    meta: *mut IterMeta,
    task: *mut u8,
}

/// `struct bpf_iter_meta`.
#[repr(C)]
struct IterMeta {
    seq: *mut u8,
}

/// Writes the row of `ctx.task` if the task leads a group that is chosen, and is no kernel thread.
#[inline(always)]
pub fn write(ctx: *mut IterTask) -> i32 {
    // SAFETY: the iterator's context, as the verifier knows it.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    if task.is_null() {
        return 0;
    }
    let leader = Task::from_iterator(task);
    // Most of the tasks that the iterator visits may be threads, so they are skipped first.
    if !leader.is_leader() || leader.is_kthread() || !is_chosen(leader.tgid()) {
        return 0;
    }
    let now = emit::now();
    let exit_state = leader.exit_state();
    let dead = exit_state != 0 && leader.live() == 0;
    if leader.has_no_mm() && exit_state == 0 && leader.self_exec_id() == 0 {
        // A user-mode helper before its exec (`call_usermodehelper_exec_async`, kernel/umh.c).
        return 0;
    }
    let Some(scratch) = ROW_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: a per-CPU map value; the daemon runs one pass at a time.
    let (walk, body) = unsafe { (&raw mut (*scratch).walk, &mut (*scratch).body) };
    let was_executing = leader.in_execve();
    task::read_facts(leader, &mut body.facts);
    body.exit_code = 0;
    if dead {
        body.facts.flags |= FACT_DEAD;
        body.exit_code = leader.wait_status();
    }
    if leader.is_stopped() {
        body.facts.flags |= FACT_STOPPED;
    }
    let mm = leader.mm();
    body.tty_pgrp = task::tty_pgrp::<Typed>(leader.signal().tty());
    body.arg_start = Typed::u64(mm, offset!(mm_arg_start));
    body.arg_end = Typed::u64(mm, offset!(mm_arg_end));
    body.env_start = Typed::u64(mm, offset!(mm_env_start));
    body.env_end = Typed::u64(mm, offset!(mm_env_end));

    read_usage(leader, mm, body);
    path::reset(walk);
    let namespace = leader.mnt_namespace();
    let (mnt, dentry) = leader.pwd();
    let cwd = path::append(walk, mnt, dentry, namespace, row_walk);
    body.cwd_len = cwd.len;
    body.cwd_flags = cwd.flags;
    let file = Typed::u64(mm, offset!(mm_exe_file));
    let at = offset!(file_path);
    let (mnt, dentry) =
        (Typed::u64(file, at + offset!(path_mnt)), Typed::u64(file, at + offset!(path_dentry)));
    let exe = path::append(walk, mnt, dentry, namespace, row_walk);
    body.exe_len = exe.len;
    body.exe_flags = exe.flags;
    let cgroup = path::append_kernfs(walk, leader.cgroup_kn(), row_cgroup_walk);
    body.cgroup_len = cgroup.len;
    body.cgroup_flags = cgroup.flags;

    if was_executing || leader.in_execve() || leader.self_exec_id() != body.facts.exec_id {
        body.facts.flags |= FACT_EXECUTING;
    }
    let len = size_of::<RowRecord>() as u64 + (path::load!(walk, pos) & TAIL_MASK);
    body.header = emit::header(KIND_ROW, now, leader, leader.pid(), len as usize);
    // SAFETY: `seq` comes from the iterator's context; `len` bytes from the body lie within the map value.
    unsafe { bpf_seq_write((*meta).seq.cast(), (&raw const *body).cast_mut().cast(), len as u32) };
    0
}

/// Fills in what the process has used.
#[inline(always)]
fn read_usage(leader: Task<Typed>, mm: u64, body: &mut RowRecord) {
    body.usage = leader.usage();
    body.rss_pages = pages::resident_pages::<Typed>(mm);
    let peak = pages::peak_pages::<Typed>(mm, body.rss_pages);
    if peak > body.usage.max_rss_pages {
        body.usage.max_rss_pages = peak;
    }
}

fn is_chosen(tgid: u32) -> bool {
    let (word, bit) = chosen::place(tgid);
    CHOSEN.get(word).is_some_and(|chosen| chosen & bit != 0)
}
