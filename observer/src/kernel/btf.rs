//! A reader of BTF type information: struct members, and the arguments of functions. It keeps the kernel's bytes and an
//! index, 8 MB in all, where a parsed tree takes 90 MB. It trusts nothing that the bytes say.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use observer_common::hooks::Point;

/// Larger files are refused, bytes. A kernel's type information takes some 5 MiB.
const BTF_BYTES_MAX: u64 = 64 << 20;

pub(super) const KIND_INT: u32 = 1;
pub(super) const KIND_PTR: u32 = 2;
pub(super) const KIND_ARRAY: u32 = 3;
pub(super) const KIND_STRUCT: u32 = 4;
pub(super) const KIND_UNION: u32 = 5;
pub(super) const KIND_ENUM: u32 = 6;
pub(super) const KIND_FWD: u32 = 7;
pub(super) const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
pub(super) const KIND_FUNC: u32 = 12;
pub(super) const KIND_FUNC_PROTO: u32 = 13;
const KIND_TYPE_TAG: u32 = 18;
pub(super) const KIND_ENUM64: u32 = 19;

pub(super) const MAGIC: u16 = 0xeb9f;

/// What precedes a system call's name in the name of its entry (`__SYSCALL_DEFINEx`, arch/*/include/asm/syscall_wrapper.h).
#[cfg(target_arch = "x86_64")]
const SYSCALL_PREFIX: &str = "__x64_sys_";
/// What precedes a system call's name in the name of its entry.
#[cfg(target_arch = "aarch64")]
const SYSCALL_PREFIX: &str = "__arm64_sys_";

/// Longer typedef chains and deeper nested anonymous members count as corrupt.
pub(super) const DEPTH_MAX: usize = 32;
/// Members visited to find one. Without this bound a corrupt struct that contains itself twice without a name would be searched
/// forever.
const VISITS_MAX: u32 = 1 << 20;

/// Type information of one kernel.
pub struct Btf {
    bytes: Vec<u8>,
    /// Offset of each type's record; ids begin at 1.
    types: Vec<u32>,
    /// Types that are looked up by name: hash of the name, and id. Sorted.
    names: Vec<(u32, u32)>,
    strings: usize,
    strings_end: usize,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bits from the start of the struct.
    pub bit_offset: u32,
    /// Bits of a bit field; 0 for others.
    pub bits: u32,
    /// Bytes of its type; 0 where that has no size (a flexible array).
    pub size: u32,
    /// Its type.
    pub type_id: u32,
}

impl Member {
    /// Whether both have the same place and size, which structs of one name must agree on.
    fn agrees_with(&self, other: &Self) -> bool {
        (self.bit_offset, self.bits, self.size) == (other.bit_offset, other.bits, other.size)
    }
}

/// Why a hook cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookError {
    /// BTF has nothing of that name.
    Missing,
    /// BTF has several (static) functions of that name, and the kernel chooses which one a program is attached to.
    Ambiguous,
    /// BTF has something of another kind under that name.
    Malformed,
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "this kernel does not have it",
            Self::Ambiguous => "this kernel has several functions of that name",
            Self::Malformed => "this kernel's type information has something else under that name",
        })
    }
}

/// Why a member cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberError {
    /// No struct of that name.
    NoStruct,
    /// The struct has no such member.
    NoMember,
    /// Several structs of that name disagree on it.
    Ambiguous,
}

impl fmt::Display for MemberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoStruct => "this kernel has no struct of that name",
            Self::NoMember => "the struct has no such member",
            Self::Ambiguous => "several structs of that name disagree on it",
        })
    }
}

/// One type's record.
#[derive(Clone, Copy)]
pub(super) struct BtfType {
    pub(super) at: usize,
    name: u32,
    pub(super) kind: u32,
    pub(super) vlen: usize,
    bit_fields: bool,
    /// Size, or the id of the type referred to.
    pub(super) size_or_type: u32,
}

impl Btf {
    /// Reads and indexes a BTF file.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("read {}", path.display()))?;
        let is_file = file.metadata().is_ok_and(|meta| meta.is_file());
        ensure!(is_file, "read {}: it is no regular file", path.display());
        let mut bytes = Vec::new();
        file.take(BTF_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("read {}", path.display()))?;
        ensure!(
            bytes.len() as u64 <= BTF_BYTES_MAX,
            "read {}: it is larger than {} MiB, which no kernel's type information is",
            path.display(),
            BTF_BYTES_MAX >> 20
        );
        Self::index(bytes).with_context(|| format!("read {}", path.display()))
    }

    pub(super) fn index(bytes: Vec<u8>) -> Result<Self> {
        match bytes.get(..2).and_then(|magic| magic.try_into().ok()).map(u16::from_ne_bytes) {
            Some(MAGIC) => {}
            Some(magic) if magic.swap_bytes() == MAGIC => {
                bail!("it is BTF in the other byte order: of a machine of another kind")
            }
            _ => bail!("it is not BTF: the magic number is wrong"),
        }
        let field =
            |at| u32_at(&bytes, at).map(|value| value as usize).context("the BTF header is cut short");
        let header_len = field(4)?;
        let types_at = header_len + field(8)?;
        let types_end = types_at + field(12)?;
        let strings = header_len + field(16)?;
        let strings_end = strings + field(20)?;
        ensure!(
            types_end <= bytes.len() && strings_end <= bytes.len(),
            "the BTF is cut short: its header speaks of {} bytes, there are {}",
            types_end.max(strings_end),
            bytes.len()
        );
        let mut btf = Self { bytes, types: vec![0], names: Vec::new(), strings, strings_end };
        let mut at = types_at;
        while at < types_end {
            let ty = btf.type_at(at).context("a BTF type is cut short")?;
            if matches!(ty.kind, KIND_STRUCT | KIND_TYPEDEF | KIND_FUNC | KIND_ENUM) && ty.name != 0 {
                let name = btf.string(ty.name).context("the name of a BTF type lies outside the strings")?;
                let entry = (hash(name), btf.types.len() as u32);
                btf.names.push(entry);
            }
            btf.types.push(at as u32);
            at += 12
                + trailer_len(ty.kind, ty.vlen).with_context(|| {
                    format!("BTF kind {} is not known to this observer: it is older than the kernel", ty.kind)
                })?;
        }
        ensure!(at == types_end, "the last BTF type is cut short");
        btf.names.sort_unstable();
        Ok(btf)
    }

    /// Member `path` (`a.b` descends) of `struct name`, searched through anonymous members.
    pub fn member(&self, name: &str, path: &str) -> Result<Member, MemberError> {
        let mut found: Option<Member> = None;
        let mut structs = 0;
        let mut conflict = false;
        let mut visits = 0;
        for ty in self.types_named(name).filter(|ty| ty.kind == KIND_STRUCT && ty.vlen > 0) {
            structs += 1;
            if let Some(member) = self.descend(ty, path, &mut visits) {
                conflict |= found.is_some_and(|other| !other.agrees_with(&member));
                found = Some(member);
            } else {
                conflict |= found.is_some();
            }
        }
        match found {
            _ if structs == 0 => Err(MemberError::NoStruct),
            _ if conflict => Err(MemberError::Ambiguous),
            Some(member) => Ok(member),
            None => Err(MemberError::NoMember),
        }
    }

    /// Types of the arguments that a program gets at `point`, in their order.
    pub fn arguments(&self, point: Point) -> Result<Vec<u32>, HookError> {
        let (name, kind) = listed_as(point);
        let mut proto = self.only(&name, kind)?.size_or_type;
        let mut hidden = 0;
        if kind == KIND_TYPEDEF {
            // A pointer to the prototype, whose first argument is the tracepoint's private data.
            let pointer = self.resolve(proto).ok_or(HookError::Malformed)?;
            proto = if pointer.kind == KIND_PTR { pointer.size_or_type } else { proto };
            hidden = 1;
        }
        let proto = self.resolve(proto).filter(|proto| proto.kind == KIND_FUNC_PROTO);
        let proto = proto.ok_or(HookError::Malformed)?;
        (hidden..proto.vlen)
            .map(|index| u32_at(&self.bytes, proto.at + 12 + index * 8 + 4).ok_or(HookError::Malformed))
            .collect()
    }

    /// The only type of this name and kind. Duplicates of a typedef, which the kernel has for types that differ elsewhere, count
    /// as one.
    fn only(&self, name: &str, kind: u32) -> Result<BtfType, HookError> {
        let mut types = self.types_named(name).filter(|ty| ty.kind == kind);
        let first = types.next().ok_or(HookError::Missing)?;
        if kind == KIND_FUNC && types.next().is_some() { Err(HookError::Ambiguous) } else { Ok(first) }
    }

    /// The value of a constant of an enum.
    pub fn constant(&self, of: &str, name: &str) -> Option<u32> {
        let value = |ty: BtfType| {
            (0..ty.vlen).map(|index| ty.at + 12 + index * 8).find_map(|at| {
                let same = self.string(u32_at(&self.bytes, at)?)? == name.as_bytes();
                same.then(|| u32_at(&self.bytes, at + 4))?
            })
        };
        self.types_named(of).filter(|ty| ty.kind == KIND_ENUM).find_map(value)
    }

    /// The number of the last type.
    pub fn last_id(&self) -> u32 {
        self.types.len() as u32 - 1
    }

    /// The numbers of the types of this name and kind.
    pub fn ids(&self, name: &str, kind: u32) -> impl Iterator<Item = u32> {
        self.named(name).filter(move |(_, ty)| ty.kind == kind).map(|(id, _)| id)
    }

    fn types_named(&self, name: &str) -> impl Iterator<Item = BtfType> {
        self.named(name).map(|(_, ty)| ty)
    }

    fn named(&self, name: &str) -> impl Iterator<Item = (u32, BtfType)> {
        let name = name.as_bytes();
        let hash = hash(name);
        let begin = self.names.partition_point(|&(other, _)| other < hash);
        let same = self.names.iter().skip(begin).take_while(move |&&(other, _)| other == hash);
        same.filter_map(|&(_, id)| Some((id, self.record(id)?)))
            .filter(move |(_, ty)| self.string(ty.name).is_some_and(|string| string == name))
    }

    fn record(&self, id: u32) -> Option<BtfType> {
        self.type_at(*self.types.get(id as usize).filter(|_| id != 0)? as usize)
    }

    /// The name of a type; empty if it has none.
    pub(super) fn name_of(&self, ty: BtfType) -> &[u8] {
        self.string(ty.name).unwrap_or_default()
    }

    /// The 32 bits at offset `at` of a type's record.
    pub(super) fn word(&self, ty: BtfType, at: usize) -> Option<u32> {
        u32_at(&self.bytes, ty.at + at)
    }

    fn descend(&self, ty: BtfType, path: &str, visits: &mut u32) -> Option<Member> {
        let mut ty = ty;
        let mut base = 0_u32;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            let (member, type_id) = self.find(ty, part, 0, visits)?;
            let bit_offset = base.checked_add(member.bit_offset)?;
            if parts.peek().is_none() {
                return Some(Member { bit_offset, ..member });
            }
            base = bit_offset;
            ty = self.resolve(type_id)?;
        }
        None
    }

    fn find(&self, ty: BtfType, name: &str, depth: usize, visits: &mut u32) -> Option<(Member, u32)> {
        if depth > DEPTH_MAX || !matches!(ty.kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for index in 0..ty.vlen {
            *visits += 1;
            if *visits > VISITS_MAX {
                return None;
            }
            let at = ty.at + 12 + index * 12;
            let (name_at, type_id, offset) =
                (u32_at(&self.bytes, at)?, u32_at(&self.bytes, at + 4)?, u32_at(&self.bytes, at + 8)?);
            let (bits, bit_offset) =
                if ty.bit_fields { (offset >> 24, offset & 0xff_ffff) } else { (0, offset) };
            let string = self.string(name_at)?;
            if string.is_empty() {
                let inner = self.resolve(type_id)?;
                if let Some((member, type_id)) = self.find(inner, name, depth + 1, visits) {
                    let bit_offset = bit_offset.checked_add(member.bit_offset)?;
                    return Some((Member { bit_offset, ..member }, type_id));
                }
            } else if string == name.as_bytes() {
                let size = self.size_of(type_id, 0);
                return Some((Member { bit_offset, bits, size, type_id }, type_id));
            }
        }
        None
    }

    fn size_of(&self, type_id: u32, depth: usize) -> u32 {
        let Some(ty) = self.resolve(type_id).filter(|_| depth <= DEPTH_MAX) else { return 0 };
        match ty.kind {
            KIND_PTR => 8,
            KIND_ARRAY => {
                let element = u32_at(&self.bytes, ty.at + 12).unwrap_or(0);
                let count = u32_at(&self.bytes, ty.at + 20).unwrap_or(0);
                self.size_of(element, depth + 1).saturating_mul(count)
            }
            KIND_FUNC | KIND_FUNC_PROTO => 0,
            _ => ty.size_or_type,
        }
    }

    /// The type behind typedefs and qualifiers.
    pub(super) fn resolve(&self, type_id: u32) -> Option<BtfType> {
        let mut id = type_id;
        for _ in 0..DEPTH_MAX {
            let ty = self.record(id)?;
            match ty.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = ty.size_or_type
                }
                _ => return Some(ty),
            }
        }
        None
    }

    fn type_at(&self, at: usize) -> Option<BtfType> {
        let info = u32_at(&self.bytes, at + 4)?;
        Some(BtfType {
            at,
            name: u32_at(&self.bytes, at)?,
            kind: info >> 24 & 0x1f,
            vlen: (info & 0xffff) as usize,
            bit_fields: info >> 31 == 1,
            size_or_type: u32_at(&self.bytes, at + 8)?,
        })
    }

    fn string(&self, at: u32) -> Option<&[u8]> {
        let bytes = self.bytes.get(self.strings.checked_add(at as usize)?..self.strings_end)?;
        bytes.split(|&byte| byte == 0).next()
    }
}

/// Returns the kernel's name of the function of a point; of a tracepoint, its own name.
pub fn function_name(point: Point) -> String {
    match point {
        Point::Syscall(name) => format!("{SYSCALL_PREFIX}{name}"),
        Point::Iterator(name) => format!("bpf_iter_{name}"),
        Point::Tracepoint(name) | Point::Function(name) | Point::Entry(name) | Point::Compat(name) => {
            name.to_owned()
        }
    }
}

/// Returns the name and the kind of the type by which the kernel lists a point.
pub fn listed_as(point: Point) -> (String, u32) {
    match point {
        Point::Tracepoint(name) => (format!("btf_trace_{name}"), KIND_TYPEDEF),
        Point::Function(_) | Point::Entry(_) | Point::Compat(_) | Point::Syscall(_) | Point::Iterator(_) => {
            (function_name(point), KIND_FUNC)
        }
    }
}

/// Returns the bytes of a type's record after the common 12.
fn trailer_len(kind: u32, vlen: usize) -> Result<usize> {
    Ok(match kind {
        // Pointers, forward declarations, typedefs, qualifiers, functions, floats, type tags.
        KIND_PTR | KIND_FWD..=KIND_FUNC | 16 | KIND_TYPE_TAG => 0,
        // Integers, variables, declaration tags.
        KIND_INT | 14 | 17 => 4,
        KIND_ARRAY => 12,
        // Structs, unions, sections of variables, 64-bit enums.
        KIND_STRUCT | KIND_UNION | 15 | KIND_ENUM64 => 12 * vlen,
        KIND_ENUM | KIND_FUNC_PROTO => 8 * vlen,
        _ => bail!("unknown"),
    })
}

/// FNV-1a.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
#[path = "btf_tests.rs"]
mod tests;
