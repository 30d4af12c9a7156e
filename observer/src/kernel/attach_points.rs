//! The part of the kernel's type information by which programs are attached: the numbers of some functions and typedefs.

use anyhow::{Context as _, Result};
use aya::{Btf as AyaBtf, Endianness};
use observer_common::hooks::HOOKS;

use super::btf::{Btf, KIND_FWD, MAGIC, listed_as};

/// `struct btf_header` (include/uapi/linux/btf.h): its version, and its length in bytes.
const VERSION: u8 = 1;
const HEADER_BYTES: u32 = 24;

/// Returns what aya needs to know of `btf`. aya keeps a tree of all types that it is given, and goes through all of them
/// for each program, so it gets types without content instead. Only those that programs are
/// attached to have their name and kind. All have their numbers, which the kernel asks for.
pub fn attach_points(btf: &Btf) -> Result<AyaBtf> {
    AyaBtf::parse(&sparse(btf), Endianness::default()).context("read the kernel's attach points")
}

/// The file with what is needed of `btf`.
fn sparse(btf: &Btf) -> Vec<u8> {
    let mut strings = vec![0];
    let mut types = vec![[0, KIND_FWD << 24, 0]; btf.last_id() as usize];
    for (name, kind) in HOOKS.iter().map(|hook| listed_as(hook.point)) {
        for id in btf.ids(&name, kind) {
            if let Some(ty) = types.get_mut(id as usize - 1) {
                *ty = [strings.len() as u32, kind << 24, 0];
            }
        }
        strings.extend_from_slice(name.as_bytes());
        strings.push(0);
    }
    file(&types, &strings)
}

/// The file with these types, each of a name's place in `strings`, the kind, and what it refers to.
fn file(types: &[[u32; 3]], strings: &[u8]) -> Vec<u8> {
    let (type_bytes, string_bytes) = (size_of_val(types) as u32, strings.len() as u32);
    let mut file = MAGIC.to_ne_bytes().to_vec();
    file.extend([VERSION, 0]);
    file.extend(
        [HEADER_BYTES, 0, type_bytes, type_bytes, string_bytes].iter().flat_map(|word| word.to_ne_bytes()),
    );
    file.extend(types.iter().flatten().flat_map(|word| word.to_ne_bytes()));
    file.extend_from_slice(strings);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::btf::{KIND_FUNC, KIND_TYPEDEF};

    #[test]
    fn what_programs_are_attached_to_has_the_kernels_numbers() {
        let name = |at: usize, text: &str, file: &mut Vec<u8>| {
            file.extend_from_slice(text.as_bytes());
            file.push(0);
            (at + text.len() + 1) as u32
        };
        let mut strings = vec![0];
        let typedef = 1;
        let function = name(1, "btf_trace_task_rename", &mut strings);
        let other = name(function as usize, "bpf_iter_task", &mut strings);
        name(other as usize, "task_rename", &mut strings);
        let types = [
            [0, KIND_FWD << 24, 0],
            [typedef, KIND_TYPEDEF << 24, 1],
            [other, KIND_FUNC << 24, 1],
            [function, KIND_FUNC << 24, 1],
            [function, KIND_TYPEDEF << 24, 1],
        ];
        let btf = Btf::index(file(&types, &strings)).unwrap();
        let sparse = Btf::index(sparse(&btf)).unwrap();
        assert_eq!(sparse.last_id(), 5);
        let ids = |name: &str, kind| sparse.ids(name, kind).collect::<Vec<_>>();
        assert_eq!(ids("btf_trace_task_rename", KIND_TYPEDEF), [2]);
        assert_eq!(ids("bpf_iter_task", KIND_FUNC), [4]);
        assert!(ids("task_rename", KIND_FUNC).is_empty(), "no program is attached to it");
        assert!(attach_points(&btf).is_ok(), "aya reads it");
    }
}
