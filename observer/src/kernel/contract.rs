//! Compares what the programs expect of the kernel (`observer_common::{offsets, hooks}`) with its BTF at start. observer
//! refuses to start if a member is missing, ambiguous or of another type, or if a hook without which it cannot run differs,
//! and names each. Other hooks that differ are not attached: their facts have a fallback or become blind spots.

use anyhow::{Result, bail};
use observer_common::hooks::{
    Argument, CONSTANTS, FIXED, Fact, FixedMember, GROUP_DEAD, HOOKS, Hook, Point, VICTIM, Without,
};
use observer_common::offsets::{
    ABSENT, CType, KernelMember, MEM_CGROUP_CGROUP, MEMBERS, OOM_CONTROL_MEMCG, Offsets,
    SIGNAL_COUNTED_STIME, SIGNAL_COUNTED_UTIME, SIGNAL_RLIM,
};

use super::btf::{Btf, HookError, MemberError, function_name};
use super::ctype::in_words;

/// The result of the comparison for one kernel.
#[derive(Clone, Debug)]
pub struct Contract {
    /// Where the kernel keeps what the programs read. The caller sets `ring_bytes`, `typed_loads` and `preempted`.
    pub offsets: Offsets,
    unfit: Vec<(Point, String)>,
    absent: Vec<Point>,
}

impl Contract {
    /// Compares everything with `btf`.
    pub fn check(btf: &Btf) -> Result<Self> {
        let (offsets, mut problems) = offsets(btf);
        problems.extend(FIXED.iter().filter_map(|fixed| check_fixed(btf, fixed).err()));
        let other = CONSTANTS.iter().filter(|(of, name, value)| btf.constant(of, name) != Some(*value));
        problems.extend(other.map(|(of, name, value)| format!("enum {of}: {name} is not {value}")));
        let (mut unfit, mut absent) = (Vec::new(), Vec::new());
        for hook in HOOKS {
            if is_needless(btf, hook.point) {
                absent.push(hook.point);
                continue;
            }
            match check_hook(btf, hook).and_then(|()| check_optional(btf, hook)) {
                Ok(()) => {}
                Err(why) if hook.without == Without::Refused => problems.push(why),
                Err(why) => unfit.push((hook.point, why)),
            }
        }
        if !problems.is_empty() {
            bail!(
                "this kernel's BTF lacks what observer reads:\n  {}\nobserver does not know this kernel's layout: \
                 please report these lines with the output of `uname -r`",
                problems.join("\n  ")
            );
        }
        Ok(Self { offsets, unfit, absent })
    }

    /// Whether `point` need not be attached to, because this kernel does not have it and so nothing calls it.
    pub fn is_needless(&self, point: Point) -> bool {
        self.absent.contains(&point)
    }

    /// Why nothing may be attached to `point`; `None` if the point is as expected.
    pub fn unfit(&self, point: Point) -> Option<&str> {
        self.unfit.iter().find(|(other, _)| *other == point).map(|(_, why)| why.as_str())
    }
}

/// Whether this kernel has no entry of this name for 32-bit callers, and therefore no such callers.
fn is_needless(btf: &Btf, point: Point) -> bool {
    matches!(point, Point::Compat(_)) && matches!(btf.arguments(point), Err(HookError::Missing))
}

fn offsets(btf: &Btf) -> (Offsets, Vec<String>) {
    let mut offsets = Offsets::ZERO;
    let mut problems = Vec::new();
    for (index, member) in MEMBERS.iter().enumerate() {
        match offset(btf, member) {
            Ok(offset) => {
                offsets.set(index, offset);
            }
            Err(problem) => problems.push(problem),
        }
    }
    match btf.member("task_struct", "in_execve") {
        Ok(member) if member.bits == 1 => {
            offsets.task_in_execve_byte = member.bit_offset / 8;
            offsets.task_in_execve_mask = 1 << (member.bit_offset % 8);
        }
        _ => offsets.task_in_execve_byte = ABSENT,
    }
    (offsets.mm_rss_stat, offsets.mm_rss_stride) = rss_counters(btf).unwrap_or((ABSENT, 0));
    let exit = btf.arguments(Point::Tracepoint("sched_process_exit")).unwrap_or_default();
    offsets.exit_has_group_dead = u32::from(exit.len() > usize::from(GROUP_DEAD));
    let change_pid = btf.arguments(Point::Function("change_pid")).unwrap_or_default();
    let task = change_pid.iter().position(|&argument| btf.is(argument, CType::Ptr("task_struct")));
    // If there is none, nothing is attached to `change_pid`.
    offsets.change_pid_task = task.map_or(0, |index| index as u32);
    let marked = btf.arguments(Point::Tracepoint("mark_victim")).unwrap_or_default();
    let victim = marked.get(usize::from(VICTIM));
    let is_task = victim.is_some_and(|&victim| btf.is(victim, CType::Ptr("task_struct")));
    offsets.mark_victim_has_task = u32::from(is_task);
    let or_absent = |member| offset(btf, member).unwrap_or(ABSENT);
    offsets.oom_control_memcg = or_absent(&OOM_CONTROL_MEMCG);
    offsets.mem_cgroup_cgroup = or_absent(&MEM_CGROUP_CGROUP);
    offsets.signal_rlim = or_absent(&SIGNAL_RLIM);
    offsets.signal_counted_utime = or_absent(&SIGNAL_COUNTED_UTIME);
    offsets.signal_counted_stime = or_absent(&SIGNAL_COUNTED_STIME);
    (offsets, problems)
}

/// Where the first counter of `mm_struct::rss_stat` is, and the distance between two. Up to 6.1 they are `atomic_long_t`, from
/// 6.2 on `struct percpu_counter`.
fn rss_counters(btf: &Btf) -> Option<(u32, u32)> {
    /// `NR_MM_COUNTERS`, include/linux/mm_types_task.h.
    const COUNTERS: u32 = 4;
    if let Ok(counts) = btf.member("mm_struct", "rss_stat.count") {
        return Some((counts.bit_offset / 8, counts.size / COUNTERS));
    }
    let counters = btf.member("mm_struct", "rss_stat").ok()?;
    let count = btf.member("percpu_counter", "count").ok()?;
    btf.is(counters.type_id, CType::Structs("percpu_counter"))
        .then(|| ((counters.bit_offset + count.bit_offset) / 8, counters.size / COUNTERS))
}

fn offset(btf: &Btf, wanted: &KernelMember) -> Result<u32, String> {
    let of = wanted.of;
    let mut reason = MemberError::NoMember;
    for name in wanted.names {
        match btf.member(of, name) {
            Ok(found) if found.bits != 0 || found.bit_offset % 8 != 0 => {
                return Err(format!("struct {of}: {name} is a bit field"));
            }
            Ok(found) if !btf.is(found.type_id, wanted.ctype) => {
                return Err(format!(
                    "struct {of}: {name} is {}, expected {}",
                    btf.describe(found.type_id),
                    in_words(wanted.ctype)
                ));
            }
            Ok(found) => return Ok(found.bit_offset / 8),
            Err(MemberError::NoMember) => {}
            Err(other) => reason = other,
        }
    }
    Err(format!("struct {of}: {}: {reason}", wanted.names.join(" or ")))
}

fn check_fixed(btf: &Btf, fixed: &FixedMember) -> Result<(), String> {
    let FixedMember { of, member: name, offset, ctype } = *fixed;
    let member = btf.member(of, name).map_err(|error| format!("struct {of}: {name}: {error}"))?;
    if member.bit_offset != offset * 8 || !btf.is(member.type_id, ctype) {
        return Err(format!(
            "struct {of}: {name} is {} at byte {}, expected {} at byte {offset}",
            btf.describe(member.type_id),
            member.bit_offset / 8,
            in_words(ctype)
        ));
    }
    Ok(())
}

fn check_hook(btf: &Btf, hook: &Hook) -> Result<(), String> {
    let name = describe(hook.point);
    let arguments = btf.arguments(hook.point).map_err(|error| format!("{name}: {error}"))?;
    let fits = |index: u8, ctype| match arguments.get(usize::from(index)) {
        Some(&argument) if btf.is(argument, ctype) => Ok(()),
        found => Err(format!(
            "{name}: argument {index} is {}, expected {}",
            found.map_or_else(|| "not there".into(), |&argument| btf.describe(argument)),
            in_words(ctype)
        )),
    };
    for argument in hook.arguments {
        match *argument {
            Argument::At(index, ctype) => fits(index, ctype)?,
            Argument::MayBeAt(index, _) if arguments.len() <= usize::from(index) => {}
            Argument::MayBeAt(index, ctype) => fits(index, ctype)?,
            Argument::EitherAt(index, one, other) => fits(index, one).or_else(|_| fits(index, other))?,
            Argument::Found(ctype) if arguments.iter().any(|&argument| btf.is(argument, ctype)) => {}
            Argument::ReturnedAfter(count) if arguments.len() == usize::from(count) => {}
            Argument::ReturnedAfter(count) => {
                return Err(format!("{name}: takes {} arguments, expected {count}", arguments.len()));
            }
            Argument::Found(ctype) => return Err(format!("{name}: no argument is {}", in_words(ctype))),
        }
    }
    Ok(())
}

/// Checks that the kernel has the member without which the hook tells nothing, if it is one that observer can do without.
fn check_optional(btf: &Btf, hook: &Hook) -> Result<(), String> {
    match hook.fact {
        Fact::OomScope => offset(btf, &OOM_CONTROL_MEMCG).map(drop),
        _ => Ok(()),
    }
}

/// Returns the kind and the kernel's name of a point, for messages.
fn describe(point: Point) -> String {
    match point {
        Point::Tracepoint(name) => format!("tracepoint {name}"),
        Point::Function(_) | Point::Entry(_) | Point::Compat(_) | Point::Syscall(_) => {
            format!("function {}", function_name(point))
        }
        Point::Iterator(name) => format!("iterator {name}"),
    }
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod tests;
