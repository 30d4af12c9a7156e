//! Decodes records: golden bytes, every truncation, hostile bytes.
#![allow(clippy::indexing_slicing)]

use observer_common::origin;
use observer_common::record;
use observer_core::death::{AddressClass, SignalContext, SignalOrigin};
use observer_core::input::{Block, RawMemoryScope, RawPath, join_path};
use observer_core::process::DirId;
use observer_core::{DecodeError, Input, ProcessKey, Tgid, decode};
use proptest::prelude::*;

/// Writes a record in the machine's byte order, field by field in the order of the layout.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn header(kind: u32) -> Self {
        Self::default().u32(kind).u32(0).u64(1000).u64(77).u32(42).u32(43)
    }

    fn dir(self) -> Self {
        self.u64(900).u64(0xffff_8880_0000_1240).u32(8).u32(30).u32(5).u32(0)
    }

    fn facts(self, flags: u32) -> Self {
        let ids = self.u64(5).dir().u64(600).u32(7).u32(11).u32(12);
        let rest = ids.u32(1).u32(2).u32(3).u32(136 << 20 | 3).u32(4).u32(9).u32(flags);
        rest.raw(b"pts3\0xxxxxxxxxxx").raw(b"claude\0garbage!!")
    }

    /// Sets the header's length.
    fn done(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.splice(4..8, len.to_ne_bytes());
        self.0
    }
}

fn records() -> Vec<Vec<u8>> {
    let path = b"x\0a\0srv\0";
    let exec = Bytes::header(record::KIND_EXEC).facts(0);
    let exec = exec.u32(8).u32(0).u32(4).u32(6).u32(99).u32(4).u32(4).u32(0);
    let row = Bytes::header(record::KIND_ROW).facts(record::FACT_DEAD).u64(1).u64(2).u64(3).u64(4);
    vec![
        Bytes::header(record::KIND_FORK).facts(record::FACT_FS_SHARED).u64(70).u32(41).u32(0).done(),
        exec.raw(path).raw(b"./pr").raw(b"pr\0-x\0").raw(b"A=b\0").done(),
        Bytes::header(record::KIND_EXIT)
            .u32(9)
            .u32(record::EXIT_SESSION_LEADER)
            .u32(0)
            .u32(42)
            .u64(1)
            .u64(2)
            .u64(3)
            .done(),
        Bytes::header(record::KIND_CWD).dir().u32(4).u32(1).u32(8).u32(1).raw(path).done(),
        Bytes::header(record::KIND_COMM).raw(b"codex\0zzzzzzzzzz").done(),
        Bytes::header(record::KIND_CREDS).u32(1).u32(2).u32(3).u32(0).done(),
        Bytes::header(record::KIND_IDS).u32(1).u32(2).u32(0).u32(0).raw(&[0; 16]).done(),
        Bytes::header(record::KIND_CGROUP).u64(600).u32(2).u32(0).raw(b"/c").done(),
        Bytes::header(record::KIND_HINT).u64(3).done(),
        Bytes::header(record::KIND_SIGNAL)
            .u64(70)
            .u32(41)
            .u32(1000)
            .u32(15)
            .u32(0)
            .u32(origin::SIGNAL_BY_CALLER)
            .u32(0x55)
            .raw(b"systemd\0zzzzzzzz")
            .u32(0)
            .u32(record::SIGNAL_HANDLED)
            .done(),
        Bytes::header(record::KIND_OOM)
            .u32(44)
            .u32(origin::OOM_SCOPE_CGROUP)
            .u32(6)
            .u32(0)
            .raw(b"b\0org\0")
            .done(),
        row.u32(0)
            .u32(0x8b)
            .u32(8)
            .u32(0)
            .u32(0)
            .u32(0)
            .u32(2)
            .u32(0)
            .u64(50)
            .u64(60)
            .u64(70)
            .u64(80)
            .raw(path)
            .raw(b"c\0")
            .done(),
        Bytes::header(record::KIND_RELEASE).u64(5_000_000_000).done(),
    ]
}

#[test]
fn the_sizes_are_those_of_the_record_types() {
    let sizes = [
        size_of::<record::ForkRecord>(),
        size_of::<record::ExecRecord>() + 22,
        size_of::<record::ExitRecord>(),
        size_of::<record::CwdRecord>() + 8,
        size_of::<record::CommRecord>(),
        size_of::<record::CredsRecord>(),
        size_of::<record::IdsRecord>(),
        size_of::<record::CgroupRecord>() + 2,
        size_of::<record::HintRecord>(),
        size_of::<record::SignalRecord>(),
        size_of::<record::OomRecord>() + 6,
        size_of::<record::RowRecord>() + 10,
        size_of::<record::ReleaseRecord>(),
    ];
    assert_eq!(records().iter().map(Vec::len).collect::<Vec<_>>(), sizes);
}

#[test]
fn each_kind_decodes() {
    let key = ProcessKey::new(42, 77);
    for bytes in records() {
        match decode(&bytes).expect("well-formed") {
            Input::Fork { key: of, facts, creator, .. } => {
                assert_eq!((of, creator), (key, ProcessKey::new(41, 70)));
                assert_eq!(facts.parent, ProcessKey::new(7, 5));
                assert_eq!((facts.sid, facts.pgid, facts.exec_id, facts.mnt_ns), (11, 12, 9, 4));
                assert_eq!((facts.uids.uid, facts.uids.euid, facts.uids.suid), (1, 2, 3));
                let cwd = DirId { ino: 900, dev: 8, mnt_id: 30, generation: 5, object: 0x49 };
                assert_eq!(DirId { object: facts.cwd.object & 0xff, ..facts.cwd }, cwd);
                assert_eq!(facts.cgroup_id, 600);
                assert_eq!(facts.comm.0, *b"claude\0\0\0\0\0\0\0\0\0\0");
                assert_eq!(facts.tty.expect("a terminal").shown().as_bytes(), b"pts/3");
                assert!(facts.fs_shared && !facts.leader_gone && !facts.no_mm);
            }
            Input::Exec { exe, filename, argv, env, .. } => {
                assert_eq!(join_path(exe).as_deref(), Some(b"/srv/a/x".as_slice()));
                assert_eq!(filename, b"./pr");
                assert_eq!(argv.strings().collect::<Vec<_>>(), [b"pr".as_slice(), b"-x"]);
                assert!(argv.truncated && !env.truncated);
            }
            Input::Exit { raw_status, led_sid, usage, .. } => {
                assert_eq!((raw_status, led_sid), (9, Some(42)));
                assert_eq!((usage.cpu_ns, usage.children_cpu_ns, usage.max_rss_pages), (1, 2, 3));
            }
            Input::Release { key: of, cpu_ns, .. } => assert_eq!((of, cpu_ns), (key, 5_000_000_000)),
            Input::Cwd { path, fs_shared, mnt_ns, .. } => {
                assert_eq!((path.flags, fs_shared, mnt_ns), (1, true, 4));
            }
            Input::Comm { comm, .. } => assert_eq!(comm.as_bytes(), b"codex"),
            Input::Creds { uids, .. } => assert_eq!((uids.uid, uids.euid, uids.suid), (1, 2, 3)),
            Input::Ids { sid, pgid, tty, .. } => assert_eq!((sid, pgid, tty), (1, 2, None)),
            Input::Cgroup { cgroup_id, path, .. } => assert_eq!((cgroup_id, path), (600, b"/c".as_slice())),
            Input::Hint { bits, .. } => assert_eq!(bits, 3),
            Input::OomVictim { at, caller, thread, scope } => {
                assert_eq!((at.0, caller, thread), (1000, Tgid(42), 44), "the header is the caller's");
                let RawMemoryScope::Cgroup(path) = scope else { panic!("{scope:?}") };
                assert_eq!(join_path(path).as_deref(), Some(b"/org/b".as_slice()));
            }
            Input::Signal { key: of, sent, context } => {
                let expected = SignalContext { caller: Tgid(41), thread: 43, memory: 0x55, is_handled: true };
                assert_eq!(context, expected);
                assert_eq!((of, sent.signal, sent.at.0, sent.origin), (key, 15, 1000, SignalOrigin::Kill));
                let process = sent.process.expect("a sender");
                assert_eq!((process.key, process.uid), (ProcessKey::new(41, 70), 1000));
                assert_eq!(process.comm.as_bytes(), b"systemd");
            }
            Input::PassRow(row) => {
                assert_eq!((row.key, row.dead, row.at.0), (key, Some(0x8b), 1000));
                assert_eq!((row.usage.max_rss_pages, row.rss_pages), (70, 80));
                assert_eq!(join_path(row.cgroup).as_deref(), Some(b"/c".as_slice()));
            }
            other => panic!("no record makes {other:?}"),
        }
    }
}

#[test]
fn what_had_no_memory_left_is_one_of_three() {
    let path = RawPath { components: b"", flags: record::path_flag::FAULT };
    for (word, expected) in [
        (origin::OOM_SCOPE_UNKNOWN, Ok(RawMemoryScope::Unknown)),
        (origin::OOM_SCOPE_HOST, Ok(RawMemoryScope::Host)),
        (origin::OOM_SCOPE_CGROUP, Ok(RawMemoryScope::Cgroup(path))),
        (origin::OOM_SCOPE_CGROUP + 1, Err(DecodeError::Bounds)),
    ] {
        let bytes = Bytes::header(record::KIND_OOM).u32(44).u32(word).u32(0).u32(path.flags).done();
        let scope = decode(&bytes).map(|input| match input {
            Input::OomVictim { scope, .. } => scope,
            other => panic!("no mark: {other:?}"),
        });
        assert_eq!(scope, expected, "{word}");
    }
}

#[test]
fn whoever_was_running_when_the_kernel_sent_a_signal_is_not_its_sender() {
    let sent_at = |signal: u32, origin: u32, code: i32, address: u32| {
        let bytes = Bytes::header(record::KIND_SIGNAL).u64(70).u32(41).u32(0).u32(signal);
        let bytes = bytes.u32(code.cast_unsigned()).u32(origin).u32(0).raw(&[0; 16]);
        let bytes = bytes.u32(address).u32(0).done();
        match decode(&bytes) {
            Ok(Input::Signal { sent, .. }) => Ok((sent.origin, sent.process.is_some())),
            Ok(other) => panic!("not a signal: {other:?}"),
            Err(error) => Err(error),
        }
    };
    let sent = |signal, origin, code| sent_at(signal, origin, code, 0);
    for (origin, code, expected) in [
        (origin::SIGNAL_BY_CALLER, 0, (SignalOrigin::Kill, true)),
        (origin::SIGNAL_BY_CALLER, -1, (SignalOrigin::Queue(-1), true)),
        (origin::SIGNAL_BY_CALLER, -3, (SignalOrigin::Queue(-3), true)),
        (origin::SIGNAL_BY_CALLER, -6, (SignalOrigin::ThreadKill, true)),
        (origin::SIGNAL_BY_KERNEL_FOR_CALLER, 0, (SignalOrigin::KernelForCgroup, true)),
        (origin::SIGNAL_BY_KERNEL_CODE, 1, (SignalOrigin::KernelCode(1, None), false)),
        (origin::SIGNAL_BY_KERNEL, 0, (SignalOrigin::Kernel, false)),
        (origin::SIGNAL_BY_KERNEL_FOR_ENDING, 0, (SignalOrigin::KernelForEnding, true)),
        (origin::SIGNAL_BY_KERNEL_FOR_TRACEE, 0, (SignalOrigin::KernelForTracee, true)),
        (origin::SIGNAL_BY_KERNEL_FOR_CHILD, 0, (SignalOrigin::KernelForChild, true)),
        (origin::SIGNAL_BY_KERNEL_FOR_LIMIT, 0, (SignalOrigin::KernelForLimit, false)),
    ] {
        assert_eq!(sent(9, origin, code), Ok(expected));
    }
    for (address, class) in [
        (origin::ADDRESS_NULL_PAGE, AddressClass::NullPage),
        (origin::ADDRESS_USER, AddressClass::User),
        (origin::ADDRESS_KERNEL, AddressClass::Kernel),
        (origin::ADDRESS_NON_CANONICAL, AddressClass::NonCanonical),
    ] {
        let expected = (SignalOrigin::KernelCode(2, Some(class)), false);
        assert_eq!(sent_at(11, origin::SIGNAL_BY_KERNEL_CODE, 2, address), Ok(expected));
    }
    assert_eq!(sent_at(11, origin::SIGNAL_BY_KERNEL_CODE, 2, 5), Err(DecodeError::Bounds));
    // SIGPIPE is to the process that wrote.
    let expected = Ok((SignalOrigin::KernelForProcess, true));
    assert_eq!(sent(13, origin::SIGNAL_BY_KERNEL_FOR_CALLER, 0), expected);
    for (signal, origin) in [(0, 0), (65, 0), (265, 0), (9, 8)] {
        assert_eq!(sent(signal, origin, 0), Err(DecodeError::Bounds), "signal {signal}, origin {origin}");
    }
}

#[test]
fn only_a_session_leaders_exit_names_a_posix_session() {
    let led_sid = |flags: u32| {
        let bytes =
            Bytes::header(record::KIND_EXIT).u32(9).u32(flags).u32(0).u32(42).u64(0).u64(0).u64(0).done();
        match decode(&bytes) {
            Ok(Input::Exit { led_sid, .. }) => led_sid,
            other => panic!("not an exit: {other:?}"),
        }
    };
    assert_eq!(led_sid(record::EXIT_SESSION_LEADER), Some(42));
    assert_eq!(led_sid(!record::EXIT_SESSION_LEADER), None);
}

#[test]
fn a_truncated_or_extended_record_does_not_decode() {
    for bytes in records() {
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err());
            // The same where the length in the header matches.
            let shorter = Bytes(bytes[..len].to_vec());
            if len >= 32 {
                assert!(decode(&shorter.done()).is_err(), "{} of {}", len, bytes.len());
            }
        }
        let longer = Bytes(bytes).raw(b"\0").done();
        assert_eq!(decode(&longer), Err(DecodeError::Sections));
    }
}

#[test]
fn unknown_kinds_and_lengths_beyond_the_bounds_do_not_decode() {
    assert_eq!(decode(&Bytes::header(99).done()), Err(DecodeError::UnknownKind(99)));
    assert_eq!(decode(&Bytes::header(0).done()), Err(DecodeError::UnknownKind(0)));
    let cwd = |len| Bytes::header(record::KIND_CWD).dir().u32(1).u32(1).u32(len).u32(0);
    assert_eq!(decode(&cwd(u32::MAX).done()), Err(DecodeError::Bounds));
    assert_eq!(decode(&cwd(4097).raw(&[b'a'; 4097]).done()), Err(DecodeError::Bounds));
    assert!(decode(&cwd(4096).raw(&[b'a'; 4096]).done()).is_ok());
    let without_tgid =
        Bytes::default().u32(record::KIND_COMM).u32(0).u64(1).u64(1).u32(0).u32(0).raw(&[0; 16]);
    assert_eq!(decode(&without_tgid.done()), Err(DecodeError::Bounds));
}

#[test]
fn paths_are_joined_from_the_root() {
    let join = |components: &[u8], flags| join_path(RawPath { components, flags }).map(|path| path.to_vec());
    assert_eq!(join(b"", 0), Some(b"/".to_vec()));
    assert_eq!(join(b"c\0b\0a\0", 0), Some(b"/a/b/c".to_vec()));
    let in_memory = record::path_flag::UNREACHABLE | record::path_flag::DELETED;
    assert_eq!(join(b"memfd:a/b\0", in_memory), Some(b"/memfd:a/b".to_vec()), "a name, not a path");
    assert_eq!(join(b"memfd:a/b\0", 0), None, "a directory entry has no slash");
    assert_eq!(join(b"memfd:a/b\0x\0", in_memory), None);
    assert_eq!(join(b"etc/x\0", in_memory), None);
    assert_eq!(join(b"\xff\n\0a\0", record::path_flag::DELETED), Some(b"/a/\xff\n".to_vec()));
    assert_eq!(join(b"c\0", record::path_flag::FAULT), None);
    assert_eq!(join(b"c\0", record::path_flag::TRUNCATED), None);
    for torn in [b"c".as_slice(), b"\0", b"c\0\0a\0", b"c/d\0", b"..\0a\0", b".\0"] {
        assert_eq!(join(torn, 0), None, "{torn:?}");
    }
}

#[test]
fn the_environment_is_selected_by_name() {
    let names = [b"TMUX".to_vec(), b"WINDOW".to_vec()];
    let block =
        Block { bytes: b"TMUX_PANE=1\0TMUX=a=b\0WINDOW\0\0WINDOW=3\0WINDOW=2\0TMUX=cut", truncated: true };
    let chosen: Vec<&[u8]> =
        block.select(|name, value| names.iter().any(|it| it == name) && value != b"3").collect();
    assert_eq!(chosen, [b"TMUX=a=b".as_slice(), b"WINDOW=2"]);
    assert_eq!(Block::default().strings().count(), 0);
    assert_eq!(Block { bytes: b"a\0\0", truncated: false }.strings().count(), 2);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes);
        let _ = join_path(RawPath { components: &bytes, flags: 0 });
    }

    #[test]
    fn damaged_records_never_panic(
        which in 0..13_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let Some(mut bytes) = records().into_iter().nth(which) else { return Ok(()) };
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let len = bytes.len();
        if let Ok(Input::PassRow(row)) = decode(&bytes) {
            prop_assert!(row.cwd_path.components.len() + row.exe.components.len() <= len);
        }
    }
}
