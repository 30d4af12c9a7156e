//! BTF made by hand: what the reader finds, and what it refuses.

use super::*;

/// Bytes of a small BTF file in the making.
#[derive(Default)]
struct Made {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Made {
    fn new() -> Self {
        Self { strings: vec![0], ..Self::default() }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn words(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    /// A type with its common words; its id.
    fn head(&mut self, name: &str, kind: u32, vlen: usize, size_or_type: u32) -> u32 {
        let name = self.string(name);
        self.words(&[name, kind << 24 | vlen as u32, size_or_type]);
        self.count += 1;
        self.count
    }

    fn int(&mut self, bytes: u32) -> u32 {
        let id = self.head("int", 1, 0, bytes);
        self.words(&[bytes * 8]);
        id
    }

    /// Members are (name, type, bit offset).
    fn aggregate(&mut self, kind: u32, name: &str, bytes: u32, members: &[(&str, u32, u32)]) -> u32 {
        let names: Vec<u32> = members.iter().map(|(name, ..)| self.string(name)).collect();
        let id = self.head(name, kind, members.len(), bytes);
        for (&(_, ty, offset), name) in members.iter().zip(names) {
            self.words(&[name, ty, offset]);
        }
        id
    }

    fn bytes(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        bytes.extend([24, 0, types, types, strings].iter().flat_map(|word: &u32| word.to_ne_bytes()));
        bytes.extend_from_slice(&self.types);
        bytes.extend_from_slice(&self.strings);
        bytes
    }

    fn btf(&self) -> Btf {
        Btf::index(self.bytes()).unwrap()
    }
}

/// Where a member stands and how large it is.
fn found(btf: &Btf, of: &str, path: &str) -> Result<(u32, u32), MemberError> {
    btf.member(of, path).map(|member| (member.bit_offset, member.size))
}

#[test]
fn members_are_found_through_anonymous_structs_and_typedefs() {
    let mut made = Made::new();
    let int = made.int(4);
    let inner = made.aggregate(KIND_STRUCT, "", 8, &[("hash", int, 0), ("len", int, 32)]);
    let union = made.aggregate(KIND_UNION, "", 8, &[("", inner, 0)]);
    let qstr = made.aggregate(KIND_STRUCT, "qstr", 16, &[("", union, 0), ("name", int, 64)]);
    let renamed = made.head("qstr_t", KIND_TYPEDEF, 0, qstr);
    made.aggregate(KIND_STRUCT, "dentry", 24, &[("d_flags", int, 0), ("d_name", renamed, 64)]);
    let btf = made.btf();
    assert_eq!(found(&btf, "dentry", "d_flags"), Ok((0, 4)));
    assert_eq!(found(&btf, "dentry", "d_name.len"), Ok((96, 4)));
    assert_eq!(found(&btf, "dentry", "d_name.name"), Ok((128, 4)));
    assert_eq!(found(&btf, "dentry", "d_gone"), Err(MemberError::NoMember));
    assert_eq!(found(&btf, "dentry", "d_flags.deeper"), Err(MemberError::NoMember));
    assert_eq!(found(&btf, "inode", "i_ino"), Err(MemberError::NoStruct));
}

#[test]
fn structs_of_one_name_must_agree_on_the_member() {
    let mut made = Made::new();
    let int = made.int(4);
    made.aggregate(KIND_STRUCT, "pid", 8, &[("count", int, 0), ("level", int, 32)]);
    made.aggregate(KIND_STRUCT, "pid", 12, &[("count", int, 0), ("level", int, 64)]);
    // A declaration without members says nothing.
    made.aggregate(KIND_STRUCT, "pid", 0, &[]);
    let btf = made.btf();
    assert_eq!(found(&btf, "pid", "count"), Ok((0, 4)));
    assert_eq!(found(&btf, "pid", "level"), Err(MemberError::Ambiguous));
}

#[test]
fn bit_fields_are_told_from_members() {
    let mut made = Made::new();
    let int = made.int(4);
    let name = made.string("in_execve");
    made.head("task_struct", 0x80 | KIND_STRUCT, 1, 4);
    made.words(&[name, int, 1 << 24 | 17]);
    let found = made.btf().member("task_struct", "in_execve");
    assert_eq!(found, Ok(Member { bit_offset: 17, bits: 1, size: 4, type_id: int }));
}

#[test]
fn arguments_of_a_tracepoint_are_told_without_its_private_data() {
    let mut made = Made::new();
    let int = made.int(4);
    let proto = made.head("", KIND_FUNC_PROTO, 3, 0);
    made.words(&[0, int, 0, int, 0, int]);
    let pointer = made.head("", KIND_PTR, 0, proto);
    made.head("btf_trace_sched_process_exit", KIND_TYPEDEF, 0, pointer);
    let btf = made.btf();
    assert_eq!(btf.arguments(Point::Tracepoint("sched_process_exit")), Ok(vec![int, int]));
    assert_eq!(btf.arguments(Point::Tracepoint("sched_process_fork")), Err(HookError::Missing));
}

#[test]
fn a_struct_that_holds_itself_often_is_not_searched_for_ever() {
    let mut made = Made::new();
    let int = made.int(4);
    let own = int + 1;
    let members = [("", own, 0), ("", own, 0), ("", own, 0), ("pid", int, 0)];
    assert_eq!(made.aggregate(KIND_STRUCT, "task_struct", 4, &members), own);
    let begin = std::time::Instant::now();
    assert_eq!(found(&made.btf(), "task_struct", "tgid"), Err(MemberError::NoMember));
    assert!(begin.elapsed() < std::time::Duration::from_secs(120), "{:?}", begin.elapsed());
}

#[test]
fn broken_files_are_refused_and_never_a_panic() {
    let mut made = Made::new();
    let int = made.int(4);
    // A struct that holds itself without a name: the search must end.
    made.aggregate(KIND_STRUCT, "", 4, &[("", int + 1, 0)]);
    made.aggregate(KIND_STRUCT, "task_struct", 4, &[("", int + 1, 0), ("pid", int, 0)]);
    assert_eq!(found(&made.btf(), "task_struct", "tgid"), Err(MemberError::NoMember));
    let bytes = made.bytes();
    for len in 0..bytes.len() {
        assert!(Btf::index(bytes[..len].to_vec()).is_err(), "cut at {len}");
    }
    for at in 0..bytes.len() {
        for value in [0x00, 0x01, 0x7f, 0xff] {
            let mut broken = bytes.clone();
            broken[at] = value;
            if let Ok(btf) = Btf::index(broken) {
                let _ = (btf.member("task_struct", "pid"), btf.arguments(Point::Tracepoint("task_struct")));
            }
        }
    }
}
