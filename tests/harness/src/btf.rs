//! BTF as a tree that can be changed and written again: the kernel's type information, and files that differ from it. The
//! reader is not the product's, so that the one checks the other.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>

use std::collections::HashMap;
use std::path::Path;

/// Where the kernel publishes its own.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Kinds of types.
#[expect(missing_docs, reason = "the format's own words")]
pub mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const FLOAT: u32 = 16;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

/// One type.
#[derive(Clone, Debug)]
pub struct Type {
    /// Offset of its name.
    name: u32,
    info: u32,
    /// Bytes, or the type that it refers to.
    pub size_or_type: u32,
    /// What follows: three words a member, two an argument…
    words: Vec<u32>,
}

impl Type {
    /// Its kind.
    pub fn kind(&self) -> u32 {
        self.info >> 24 & 0x1f
    }
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WitnessMember {
    /// The type in whose record it stands: itself, or one without a name within.
    pub owner: u32,
    /// Which of that type's.
    pub index: usize,
    /// Bits from the start of the struct that was asked for.
    pub bit_offset: u32,
    /// Bits of a bit field; 0 for others.
    pub bits: u32,
    /// Its type.
    pub ty: u32,
}

/// Type information of a kernel.
#[derive(Clone, Debug)]
pub struct WitnessBtf {
    types: Vec<Type>,
    strings: Vec<u8>,
    named: HashMap<String, Vec<u32>>,
}

impl WitnessBtf {
    /// The running kernel's.
    pub fn of_kernel() -> Self {
        Self::parse(&std::fs::read(KERNEL_BTF).expect("the kernel publishes BTF"))
    }

    /// Takes a whole file apart.
    pub fn parse(bytes: &[u8]) -> Self {
        let word = |at: usize| {
            let bytes = bytes.get(at..at + 4).expect("BTF is whole");
            u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
        };
        let header = word(4) as usize;
        let (begin, strings) = (header + word(8) as usize, header + word(16) as usize);
        let end = begin + word(12) as usize;
        let strings = bytes.get(strings..strings + word(20) as usize).expect("BTF is whole").to_vec();
        // Type 0 is `void`, which has no record.
        let mut types = vec![Type { name: 0, info: 0, size_or_type: 0, words: Vec::new() }];
        let mut at = begin;
        while at < end {
            let (name, info, size_or_type) = (word(at), word(at + 4), word(at + 8));
            let count = trailing_words(info >> 24 & 0x1f, (info & 0xffff) as usize);
            let words = (0..count).map(|index| word(at + 12 + index * 4)).collect();
            types.push(Type { name, info, size_or_type, words });
            at += 12 + count * 4;
        }
        let mut btf = Self { types, strings, named: HashMap::new() };
        for id in 1..btf.types.len() as u32 {
            let name = btf.name(id);
            if !name.is_empty() {
                btf.named.entry(name).or_default().push(id);
            }
        }
        btf
    }

    /// As a file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut types = Vec::new();
        for ty in self.types.iter().skip(1) {
            types.extend(
                [ty.name, ty.info, ty.size_or_type].iter().chain(&ty.words).flat_map(|w| w.to_ne_bytes()),
            );
        }
        let (types_len, strings_len) = (types.len() as u32, self.strings.len() as u32);
        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        bytes.extend(
            [24, 0, types_len, types_len, strings_len].iter().flat_map(|word: &u32| word.to_ne_bytes()),
        );
        bytes.extend(types);
        bytes.extend(&self.strings);
        bytes
    }

    /// Writes it to a file.
    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.bytes()).expect("write a BTF file");
    }

    /// A type by its id.
    pub fn get(&self, id: u32) -> &Type {
        self.types.get(id as usize).expect("a type of this id")
    }

    fn get_mut(&mut self, id: u32) -> &mut Type {
        self.types.get_mut(id as usize).expect("a type of this id")
    }

    /// A type's name; empty if it has none.
    pub fn name(&self, id: u32) -> String {
        self.string(self.get(id).name)
    }

    fn string(&self, at: u32) -> String {
        let bytes = self.strings.get(at as usize..).unwrap_or_default();
        String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
    }

    fn intern(&mut self, text: &str) -> u32 {
        let at = self.strings.len() as u32;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        at
    }

    /// Ids of the types of this kind and name, as the file had them.
    pub fn named(&self, kind: u32, name: &str) -> Vec<u32> {
        let all = self.named.get(name).cloned().unwrap_or_default();
        all.into_iter().filter(|&id| self.get(id).kind() == kind).collect()
    }

    /// The type behind typedefs and qualifiers.
    pub fn resolve(&self, id: u32) -> u32 {
        let mut id = id;
        while matches!(
            self.get(id).kind(),
            kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG
        ) {
            id = self.get(id).size_or_type;
        }
        id
    }

    /// Members of one type's record, without looking into what has no name.
    pub fn members(&self, id: u32) -> Vec<(String, WitnessMember)> {
        let ty = self.get(id);
        let bit_fields = ty.info >> 31 == 1;
        let member = |(index, words): (usize, &[u32])| {
            let &[name, ty, offset] = words else { panic!("three words a member") };
            let (bits, bit_offset) =
                if bit_fields { (offset >> 24, offset & 0xff_ffff) } else { (0, offset) };
            (self.string(name), WitnessMember { owner: id, index, bit_offset, bits, ty })
        };
        if matches!(ty.kind(), kind::STRUCT | kind::UNION) {
            ty.words.chunks(3).enumerate().map(member).collect()
        } else {
            Vec::new()
        }
    }

    /// WitnessMember `path` (`a.b` descends) of type `id`, searched through what has no name.
    pub fn member(&self, id: u32, path: &str) -> Option<WitnessMember> {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        for (name, member) in self.members(id) {
            let inner = self.resolve(member.ty);
            let found = match rest {
                _ if name.is_empty() => self.member(inner, path),
                None if name == first => return Some(member),
                Some(rest) if name == first => self.member(inner, rest),
                _ => None,
            };
            if let Some(found) = found {
                return Some(WitnessMember { bit_offset: member.bit_offset + found.bit_offset, ..found });
            }
        }
        None
    }

    /// Types of a function's arguments.
    pub fn arguments(&self, proto: u32) -> Vec<u32> {
        let proto = self.get(proto);
        assert_eq!(proto.kind(), kind::FUNC_PROTO, "a function's prototype");
        proto.words.chunks(2).filter_map(|words| words.last().copied()).collect()
    }

    /// Element and length of an array.
    pub fn array(&self, id: u32) -> Option<(u32, u32)> {
        let ty = self.get(id);
        match ty.words.as_slice() {
            &[element, _, count] if ty.kind() == kind::ARRAY => Some((element, count)),
            _ => None,
        }
    }

    /// Constants of an enum.
    pub fn constants(&self, id: u32) -> Vec<(String, u32)> {
        let ty = self.get(id);
        let constant = |words: &[u32]| match *words {
            [name, value] => Some((self.string(name), value)),
            _ => None,
        };
        if ty.kind() == kind::ENUM { ty.words.chunks(2).filter_map(constant).collect() } else { Vec::new() }
    }

    /// Gives a type another name.
    pub fn rename(&mut self, id: u32, name: &str) {
        self.get_mut(id).name = self.intern(name);
    }

    /// Gives a constant of an enum another name.
    pub fn rename_constant(&mut self, id: u32, name: &str, other: &str) {
        let index = self.constants(id).iter().position(|(found, _)| found == name).expect("such a constant");
        let other = self.intern(other);
        *self.get_mut(id).words.get_mut(index * 2).expect("its name") = other;
    }

    /// Gives a member another name.
    pub fn rename_member(&mut self, member: WitnessMember, name: &str) {
        let name = self.intern(name);
        *self.member_word(member, 0) = name;
    }

    /// Gives a member another type.
    pub fn retype_member(&mut self, member: WitnessMember, ty: u32) {
        *self.member_word(member, 1) = ty;
    }

    /// Moves a member; the others stay.
    pub fn move_member(&mut self, member: WitnessMember, bytes: u32) {
        *self.member_word(member, 2) += bytes * 8;
    }

    /// Moves a member in `file`, whose bytes this was parsed from. To copy and write every type takes seconds in an emulated
    /// machine.
    pub fn move_member_of_file(&self, file: &mut [u8], member: WitnessMember, bytes: u32) {
        let word = |at: usize| {
            let bytes = file.get(at..at + 4).expect("BTF is whole");
            u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
        };
        let types = (word(4) + word(8)) as usize;
        let length = |ty: &Type| 12 + ty.words.len() * 4;
        let before: usize = self.types.iter().take(member.owner as usize).skip(1).map(length).sum();
        let at = types + before + 12 + (member.index * 3 + 2) * 4;
        let moved = word(at) + bytes * 8;
        file.get_mut(at..at + 4).expect("BTF is whole").copy_from_slice(&moved.to_ne_bytes());
    }

    /// Gives argument `index` of a prototype another type.
    pub fn retype_argument(&mut self, proto: u32, index: usize, ty: u32) {
        *self.get_mut(proto).words.get_mut(index * 2 + 1).expect("such an argument") = ty;
    }

    fn member_word(&mut self, member: WitnessMember, word: usize) -> &mut u32 {
        self.get_mut(member.owner).words.get_mut(member.index * 3 + word).expect("such a member")
    }

    /// A second type like this one; its id.
    pub fn duplicate(&mut self, id: u32) -> u32 {
        let copy = self.get(id).clone();
        self.types.push(copy);
        self.types.len() as u32 - 1
    }
}

/// Words after the common three of a type.
fn trailing_words(of: u32, vlen: usize) -> usize {
    match of {
        kind::PTR | kind::FWD | kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT => 0,
        kind::FUNC | kind::FLOAT | kind::TYPE_TAG => 0,
        kind::INT | kind::VAR | kind::DECL_TAG => 1,
        kind::ARRAY => 3,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 3 * vlen,
        kind::ENUM | kind::FUNC_PROTO => 2 * vlen,
        _ => panic!("BTF kind {of} is new"),
    }
}

/// The same file as a machine of the other byte order has it.
pub fn in_other_byte_order(bytes: &[u8]) -> Vec<u8> {
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_ne_bytes(bytes.expect("BTF is whole"))
    };
    let header = word(4) as usize;
    let types = header + word(8) as usize..header + (word(8) + word(12)) as usize;
    let mut other = bytes.to_vec();
    other.swap(0, 1);
    for at in (4..header).chain(types).step_by(4) {
        if let Some(word) = other.get_mut(at..at + 4) {
            word.reverse();
        }
    }
    other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_moved_in_a_file_as_it_is_in_the_tree() {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        // `int`, `struct s { int a, b; }`, and another struct.
        let int = words(&[1, kind::INT << 24, 4, 32]);
        let member = |name, offset| words(&[name, 1, offset]);
        let of = |name, members: &[Vec<u8>]| {
            let head = words(&[name, kind::STRUCT << 24 | members.len() as u32, 8]);
            [head, members.concat()].concat()
        };
        let types = [int, of(5, &[member(7, 0), member(9, 32)]), of(11, &[member(7, 0)])].concat();
        let strings = b"\0int\0s\0a\0b\0t\0";
        let (types_len, strings_len) = (types.len() as u32, strings.len() as u32);
        let mut file = 0xeb9f_u16.to_ne_bytes().to_vec();
        file.extend([1, 0]);
        file.extend(words(&[24, 0, types_len, types_len, strings_len]));
        file.extend([&types[..], strings].concat());
        let btf = WitnessBtf::parse(&file);
        let moved = btf.member(2, "b").expect("a member");
        let (mut tree, mut changed) = (btf.clone(), file.clone());
        tree.move_member(moved, 8);
        btf.move_member_of_file(&mut changed, moved, 8);
        assert_ne!(changed, file);
        assert_eq!(changed, tree.bytes());
    }
}
