//! What the programs expect of the kernel (`observer_common::{offsets, hooks}`), held against its BTF at start. A field
//! that is missing, ambiguous or of another type is a refusal that names it; so is a hook without which there is no
//! map. Other hooks that are not as expected are not attached: their facts have a fallback or become blind spots.

use anyhow::{Result, bail};
use observer_common::hooks::{CONSTANTS, FIXED, Fixed, GROUP_DEAD, HOOKS, Hook, Point, Take, Without};
use observer_common::offsets::{ABSENT, Entry, Offsets, Shape, TABLE};

use super::btf::{Btf, HookError, MemberError, function_name};
use super::shape::expected;

/// What one kernel keeps of the contract.
#[derive(Clone, Debug)]
pub struct Contract {
    /// Where it keeps what the programs read; `ring_bytes`, `typed_loads` and `preempted` are for the caller to set.
    pub offsets: Offsets,
    unfit: Vec<(Point, String)>,
    absent: Vec<Point>,
}

impl Contract {
    /// Holds everything against `btf`.
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
            match check_hook(btf, hook) {
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

    /// Whether there is no need to attach to `point`: this kernel does not have it, so nobody comes there.
    pub fn is_needless(&self, point: Point) -> bool {
        self.absent.contains(&point)
    }

    /// Why nothing may be attached to `point`; `None` if it is as expected.
    pub fn unfit(&self, point: Point) -> Option<&str> {
        self.unfit.iter().find(|(other, _)| *other == point).map(|(_, why)| why.as_str())
    }
}

/// Whether this kernel lacks `point`, and nobody can come there for that reason.
fn is_needless(btf: &Btf, point: Point) -> bool {
    matches!(point, Point::Compat(_)) && matches!(btf.arguments(point), Err(HookError::Missing))
}

fn offsets(btf: &Btf) -> (Offsets, Vec<String>) {
    let mut offsets = Offsets::ZERO;
    let mut problems = Vec::new();
    for (index, entry) in TABLE.iter().enumerate() {
        match offset(btf, entry) {
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
    let exit = btf.arguments(Point::Tracepoint("sched_process_exit")).unwrap_or_default();
    offsets.exit_has_group_dead = u32::from(exit.len() > usize::from(GROUP_DEAD));
    let change_pid = btf.arguments(Point::Function("change_pid")).unwrap_or_default();
    let task = change_pid.iter().position(|&argument| btf.is(argument, Shape::Ptr("task_struct")));
    // Where there is none, nothing is attached to it.
    offsets.change_pid_task = task.map_or(0, |index| index as u32);
    (offsets, problems)
}

fn offset(btf: &Btf, entry: &Entry) -> Result<u32, String> {
    let mut reason = MemberError::NoMember;
    for path in entry.members {
        match btf.member(entry.of, path) {
            Ok(member) if member.bits != 0 || member.bit_offset % 8 != 0 => {
                return Err(format!("struct {}: {path} is a bit field", entry.of));
            }
            Ok(member) if !btf.is(member.type_id, entry.shape) => {
                return Err(format!(
                    "struct {}: {path} is {}, expected {}",
                    entry.of,
                    btf.describe(member.type_id),
                    expected(entry.shape)
                ));
            }
            Ok(member) => return Ok(member.bit_offset / 8),
            Err(MemberError::NoMember) => {}
            Err(other) => reason = other,
        }
    }
    Err(format!("struct {}: {}: {reason}", entry.of, entry.members.join(" or ")))
}

fn check_fixed(btf: &Btf, fixed: &Fixed) -> Result<(), String> {
    let Fixed { of, member: name, offset, shape } = *fixed;
    let member = btf.member(of, name).map_err(|error| format!("struct {of}: {name}: {error}"))?;
    if member.bit_offset != offset * 8 || !btf.is(member.type_id, shape) {
        return Err(format!(
            "struct {of}: {name} is {} at byte {}, expected {} at byte {offset}",
            btf.describe(member.type_id),
            member.bit_offset / 8,
            expected(shape)
        ));
    }
    Ok(())
}

fn check_hook(btf: &Btf, hook: &Hook) -> Result<(), String> {
    let name = describe(hook.point);
    let arguments = btf.arguments(hook.point).map_err(|error| format!("{name}: {error}"))?;
    let fits = |index: u8, shape| match arguments.get(usize::from(index)) {
        Some(&argument) if btf.is(argument, shape) => Ok(()),
        found => Err(format!(
            "{name}: argument {index} is {}, expected {}",
            found.map_or_else(|| "not there".into(), |&argument| btf.describe(argument)),
            expected(shape)
        )),
    };
    for take in hook.takes {
        match *take {
            Take::At(index, shape) => fits(index, shape)?,
            Take::MayBeAt(index, _) if arguments.len() <= usize::from(index) => {}
            Take::MayBeAt(index, shape) => fits(index, shape)?,
            Take::Found(shape) if arguments.iter().any(|&argument| btf.is(argument, shape)) => {}
            Take::ReturnedAfter(count) if arguments.len() == usize::from(count) => {}
            Take::ReturnedAfter(count) => {
                return Err(format!("{name}: takes {} arguments, expected {count}", arguments.len()));
            }
            Take::Found(shape) => return Err(format!("{name}: no argument is {}", expected(shape))),
        }
    }
    Ok(())
}

/// Returns the kind and the kernel's name of a point, for messages.
fn describe(point: Point) -> String {
    match point {
        Point::Tracepoint(name) => format!("tracepoint {name}"),
        Point::Function(_) | Point::Compat(_) | Point::Syscall(_) => {
            format!("function {}", function_name(point))
        }
        Point::Iterator(name) => format!("iterator {name}"),
    }
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod tests;
