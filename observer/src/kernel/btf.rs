//! A reader of BTF type information: struct members, and the arguments of functions. It keeps the kernel's bytes
//! and an index, 7 MB in all, where a parsed tree takes 90 MB; and it believes nothing of what they say.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_TYPE_TAG: u32 = 18;

/// Typedef chains and nested anonymous members deeper than this are taken for corruption.
const DEPTH_MAX: usize = 32;

/// Type information of one kernel.
pub struct Btf {
    bytes: Vec<u8>,
    /// Offset of each type's record; ids begin at 1.
    types: Vec<u32>,
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

#[derive(Clone, Copy)]
struct Type {
    at: usize,
    name: u32,
    kind: u32,
    vlen: usize,
    bit_fields: bool,
    /// Size, or the id of the type referred to.
    size_or_type: u32,
}

impl Btf {
    /// Reads and indexes a BTF file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Self::index(bytes).with_context(|| format!("index {}", path.display()))
    }

    fn index(bytes: Vec<u8>) -> Result<Self> {
        let header_len = u32_at(&bytes, 4).context("BTF header is cut short")? as usize;
        ensure!(bytes.get(..2) == Some(0xeb9f_u16.to_ne_bytes().as_slice()), "not BTF: wrong magic number");
        let field = |at| u32_at(&bytes, at).map(|value| value as usize).context("BTF header is cut short");
        let types_at = header_len + field(8)?;
        let types_end = types_at + field(12)?;
        let strings = header_len + field(16)?;
        let strings_end = strings + field(20)?;
        ensure!(types_end <= bytes.len() && strings_end <= bytes.len(), "BTF sections reach beyond the file");
        let mut btf = Self { bytes, types: vec![0], strings, strings_end };
        let mut at = types_at;
        while at < types_end {
            let ty = btf.type_at(at).context("BTF type is cut short")?;
            btf.types.push(at as u32);
            at += 12
                + trailer_len(ty.kind, ty.vlen).with_context(|| format!("unknown BTF kind {}", ty.kind))?;
        }
        Ok(btf)
    }

    /// Member `path` (`a.b` descends) of `struct name`, searched through anonymous members.
    pub fn member(&self, name: &str, path: &str) -> Result<Member, MemberError> {
        let mut found: Option<Member> = None;
        let mut structs = 0;
        let mut conflict = false;
        for ty in self.types_named(name).filter(|ty| ty.kind == KIND_STRUCT && ty.vlen > 0) {
            structs += 1;
            if let Some(member) = self.descend(ty, path) {
                conflict |= found.is_some_and(|other| other != member);
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

    /// How many arguments a tracepoint hands to a BTF program; `None` if the kernel has no such tracepoint.
    pub fn tracepoint_arity(&self, name: &str) -> Option<usize> {
        let typedef = self.types_named(&format!("btf_trace_{name}")).find(|ty| ty.kind == KIND_TYPEDEF)?;
        let proto = self.resolve(typedef.size_or_type)?;
        // A pointer to the prototype, whose first argument is the tracepoint's private data.
        let proto = if proto.kind == KIND_PTR { self.resolve(proto.size_or_type)? } else { proto };
        (proto.kind == KIND_FUNC_PROTO).then(|| proto.vlen.saturating_sub(1))
    }

    fn types_named(&self, name: &str) -> impl Iterator<Item = Type> {
        self.types.iter().skip(1).filter_map(|&at| self.type_at(at as usize)).filter(move |ty| {
            ty.name != 0 && self.string(ty.name).is_some_and(|string| string == name.as_bytes())
        })
    }

    fn descend(&self, ty: Type, path: &str) -> Option<Member> {
        let mut ty = ty;
        let mut base = 0_u32;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            let (member, type_id) = self.find(ty, part, 0)?;
            let bit_offset = base.checked_add(member.bit_offset)?;
            if parts.peek().is_none() {
                return Some(Member { bit_offset, ..member });
            }
            base = bit_offset;
            ty = self.resolve(type_id)?;
        }
        None
    }

    fn find(&self, ty: Type, name: &str, depth: usize) -> Option<(Member, u32)> {
        if depth > DEPTH_MAX || !matches!(ty.kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for index in 0..ty.vlen {
            let at = ty.at + 12 + index * 12;
            let (name_at, type_id, offset) =
                (u32_at(&self.bytes, at)?, u32_at(&self.bytes, at + 4)?, u32_at(&self.bytes, at + 8)?);
            let (bits, bit_offset) =
                if ty.bit_fields { (offset >> 24, offset & 0xff_ffff) } else { (0, offset) };
            let string = self.string(name_at)?;
            if string.is_empty() {
                let inner = self.resolve(type_id)?;
                if let Some((member, type_id)) = self.find(inner, name, depth + 1) {
                    let bit_offset = bit_offset.checked_add(member.bit_offset)?;
                    return Some((Member { bit_offset, ..member }, type_id));
                }
            } else if string == name.as_bytes() {
                return Some((Member { bit_offset, bits, size: self.size_of(type_id, 0) }, type_id));
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
    fn resolve(&self, type_id: u32) -> Option<Type> {
        let mut id = type_id;
        for _ in 0..DEPTH_MAX {
            let ty = self.type_at(*self.types.get(id as usize).filter(|_| id != 0)? as usize)?;
            match ty.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = ty.size_or_type
                }
                _ => return Some(ty),
            }
        }
        None
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let info = u32_at(&self.bytes, at + 4)?;
        Some(Type {
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

/// Bytes after the common 12 of a type.
fn trailer_len(kind: u32, vlen: usize) -> Result<usize> {
    Ok(match kind {
        2 | 7..=12 | 16 | 18 => 0,
        1 | 14 | 17 => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * vlen,
        6 | KIND_FUNC_PROTO => 8 * vlen,
        _ => bail!("unknown"),
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
#[path = "btf_tests.rs"]
mod tests;
