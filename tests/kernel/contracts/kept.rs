//! This kernel's BTF has every member, hook and constant in use as observer-common lists it.

use observer_common::hooks::{Argument, CONSTANTS, FIXED, HOOKS, Hook, Point};
use observer_common::offsets::{CType, KernelMember, MEMBERS, OPTIONAL};
use observer_harness::btf::{WitnessBtf, kind};

#[cfg(target_arch = "x86_64")]
const SYSCALL_PREFIX: &str = "__x64_sys_";
#[cfg(target_arch = "aarch64")]
const SYSCALL_PREFIX: &str = "__arm64_sys_";

/// Returns whether the type in BTF is the listed type.
fn fits(btf: &WitnessBtf, ty: u32, ctype: CType) -> bool {
    let id = btf.resolve(ty);
    let is_struct =
        |id: u32, name: &str| matches!(btf.get(id).kind(), kind::STRUCT | kind::FWD) && btf.name(id) == name;
    let points = |id: u32, name: &str| {
        btf.get(id).kind() == kind::PTR
            && (name.is_empty() || is_struct(btf.resolve(btf.get(id).size_or_type), name))
    };
    let array = btf.array(id).map(|(element, count)| (btf.resolve(element), count));
    let is_text = |element: u32| btf.get(element).kind() == kind::INT && btf.get(element).size_or_type == 1;
    match ctype {
        CType::Int(bytes) => integer(btf, id) == Some(bytes),
        CType::Ptr(name) => points(id, name),
        CType::Struct(name) => is_struct(id, name),
        CType::Text(bytes) => array.is_some_and(|(element, count)| is_text(element) && count == bytes),
        CType::TextFrom(bytes) => array.is_some_and(|(element, count)| is_text(element) && count >= bytes),
        CType::PtrsFrom(least, name) => {
            array.is_some_and(|(element, count)| points(element, name) && count >= least)
        }
        CType::Structs(name) => array.is_some_and(|(element, _)| is_struct(element, name)),
    }
}

/// Returns the size in bytes of an integer, which may be wrapped in structs of one member.
fn integer(btf: &WitnessBtf, id: u32) -> Option<u32> {
    match btf.get(id).kind() {
        kind::INT | kind::ENUM | kind::ENUM64 => Some(btf.get(id).size_or_type),
        kind::STRUCT => match btf.members(id).as_slice() {
            [(_, only)] => integer(btf, btf.resolve(only.ty)),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the byte offset of a member in every struct of that name that has members.
fn places(btf: &WitnessBtf, kernel_member: &KernelMember) -> Vec<Result<u32, String>> {
    let structs =
        btf.named(kind::STRUCT, kernel_member.of).into_iter().filter(|&id| !btf.members(id).is_empty());
    let place = |id| {
        let member =
            kernel_member.names.iter().find_map(|path| btf.member(id, path)).ok_or("no such member")?;
        if member.bits != 0 || member.bit_offset % 8 != 0 {
            return Err("a bit field".to_owned());
        }
        if !fits(btf, member.ty, kernel_member.ctype) {
            return Err(format!("no {:?} but {:?}", kernel_member.ctype, btf.get(btf.resolve(member.ty))));
        }
        Ok(member.bit_offset / 8)
    };
    structs.map(place).collect()
}

#[test]
fn every_member_in_use_is_there_and_what_it_should_be() {
    let btf = WitnessBtf::of_kernel();
    let mut broken = Vec::new();
    for kernel_member in MEMBERS.iter().chain(OPTIONAL) {
        let mut places = places(&btf, kernel_member);
        places.dedup();
        match places.as_slice() {
            [Ok(offset)] => {
                println!(
                    "{}.{} at {offset}: {:?}",
                    kernel_member.of,
                    kernel_member.names.join("/"),
                    kernel_member.ctype
                )
            }
            others => {
                broken.push(format!("{}.{}: {others:?}", kernel_member.of, kernel_member.names.join("/")))
            }
        }
    }
    assert!(broken.is_empty(), "not as observer-common/src/offsets.rs has it:\n{}", broken.join("\n"));
}

#[test]
fn members_with_a_compiled_in_offset_have_that_offset() {
    let btf = WitnessBtf::of_kernel();
    for fixed in FIXED {
        let structs = btf.named(kind::STRUCT, fixed.of);
        let [id] = structs.as_slice() else { panic!("one struct {}: {structs:?}", fixed.of) };
        let member = btf.member(*id, fixed.member).unwrap_or_else(|| panic!("{}.{}", fixed.of, fixed.member));
        assert_eq!(member.bit_offset, fixed.offset * 8, "{}.{}", fixed.of, fixed.member);
        assert!(fits(&btf, member.ty, fixed.ctype), "{}.{}", fixed.of, fixed.member);
    }
    for (of, name, value) in CONSTANTS {
        let enums = btf.named(kind::ENUM, of);
        let found: Vec<_> =
            enums.iter().flat_map(|&id| btf.constants(id)).filter(|(found, _)| found == name).collect();
        assert_eq!(found, [((*name).to_owned(), *value)], "enum {of}");
    }
}

/// Returns the types of the arguments that a program receives at this point.
fn arguments(btf: &WitnessBtf, point: Point) -> Result<Vec<u32>, String> {
    let function = |name: &str| match btf.named(kind::FUNC, name).as_slice() {
        [] => Err(format!("no function {name}")),
        [id] => Ok(btf.arguments(btf.get(*id).size_or_type)),
        several => Err(format!("{} functions {name}", several.len())),
    };
    match point {
        Point::Tracepoint(name) => {
            let typedefs = btf.named(kind::TYPEDEF, &format!("btf_trace_{name}"));
            let id = *typedefs.first().ok_or_else(|| format!("no tracepoint {name}"))?;
            let pointer = btf.get(btf.resolve(id));
            let mut arguments = btf.arguments(pointer.size_or_type);
            arguments.remove(0);
            Ok(arguments)
        }
        Point::Function(name) | Point::Entry(name) | Point::Compat(name) => function(name),
        Point::Syscall(name) => function(&format!("{SYSCALL_PREFIX}{name}")),
        Point::Iterator(name) => function(&format!("bpf_iter_{name}")),
    }
}

fn check(btf: &WitnessBtf, hook: &Hook) -> Result<(), String> {
    let arguments = arguments(btf, hook.point)?;
    for argument in hook.arguments {
        let kept = match *argument {
            Argument::At(index, ctype) => {
                arguments.get(usize::from(index)).is_some_and(|&ty| fits(btf, ty, ctype))
            }
            Argument::MayBeAt(index, ctype) => {
                arguments.get(usize::from(index)).is_none_or(|&ty| fits(btf, ty, ctype))
            }
            Argument::EitherAt(index, one, other) => arguments
                .get(usize::from(index))
                .is_some_and(|&ty| fits(btf, ty, one) || fits(btf, ty, other)),
            Argument::ReturnedAfter(count) => arguments.len() == usize::from(count),
            Argument::Found(ctype) => arguments.iter().any(|&ty| fits(btf, ty, ctype)),
        };
        if !kept {
            return Err(format!("{}: {argument:?}", hook.point.name()));
        }
    }
    Ok(())
}

#[test]
fn every_hook_in_use_is_there_with_the_arguments_that_programs_take() {
    let btf = WitnessBtf::of_kernel();
    let broken: Vec<_> = HOOKS.iter().filter_map(|hook| check(&btf, hook).err()).collect();
    assert!(broken.is_empty(), "not as observer-common/src/hooks.rs has it:\n{}", broken.join("\n"));
}
