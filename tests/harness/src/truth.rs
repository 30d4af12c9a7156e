//! A process as system calls and /proc show it: the independent witness. observer itself never
//! reads /proc/PID.

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use serde_json::Value;

use crate::text;

/// One process, as the kernel answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// tgid.
    pub pid: u32,
    /// Parent.
    pub ppid: u32,
    /// Start, in clock ticks of boot time (field 22 of stat).
    pub start_ticks: u64,
    /// comm of the leader.
    pub comm: Vec<u8>,
    /// readlink of exe.
    pub exe: Option<Vec<u8>>,
    /// cmdline, split.
    pub argv: Vec<Vec<u8>>,
    /// readlink of cwd, with the kernel's " (deleted)".
    pub cwd: Option<Vec<u8>>,
    /// stat(2) of the cwd.
    pub cwd_dev: Option<String>,
    /// stat(2) of the cwd.
    pub cwd_ino: Option<String>,
    /// Inode number of the mount namespace.
    pub mnt_ns: Option<u64>,
    /// Controlling terminal as observer shows it: `pts/3`.
    pub tty: Option<String>,
    /// Real user id.
    pub uid: u32,
    /// getsid(2).
    pub sid: u32,
    /// getpgid(2).
    pub pgid: u32,
    /// Every thread but an unreaped leader is gone.
    pub dead: bool,
    /// It has one thread, and that one is on its way out (`PF_EXITING`). observer ends a process when its last thread enters its exit,
    /// and /proc shows it as living until it has given everything back: seconds, where thousands wait for each other's locks.
    pub exits: bool,
    /// /proc lets the caller read the links of this process (a sandbox's first process may be closed to root
    /// too). Where it does not, `exe`, `cwd`, its identity and `mnt_ns` are unknown.
    pub readable: bool,
    /// A kernel thread: no row.
    pub kernel_thread: bool,
}

/// Kernel's `PF_KTHREAD`, in field 9 of stat.
const PF_KTHREAD: u64 = 0x0020_0000;
/// Kernel's `PF_EXITING`, in the same field.
const PF_EXITING: u64 = 0x0000_0004;
/// Majors of the Unix 98 pty slaves.
const PTS_MAJORS: std::ops::RangeInclusive<u64> = 136..=143;

impl Truth {
    /// The process that has this pid; `None` if there is none.
    pub fn of(pid: u32) -> Option<Self> {
        let proc = |name: &str| format!("/proc/{pid}/{name}");
        let link = |name: &str| fs::read_link(proc(name)).ok().map(|path| path.into_os_string().into_vec());
        let stat = fs::read(proc("stat")).ok()?;
        let open = stat.iter().position(|&byte| byte == b'(')?;
        let close = stat.iter().rposition(|&byte| byte == b')')?;
        let comm = stat.get(open + 1..close)?.to_vec();
        let rest = String::from_utf8_lossy(stat.get(close + 2..)?).into_owned();
        let field: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Field 3 of proc(5) is the first after comm.
        let at = |number: usize| {
            field.get(number - 3).and_then(|text| text.parse::<i64>().ok()).map(i64::cast_unsigned)
        };
        let dir = fs::metadata(proc("cwd")).ok();
        let mnt_ns = link("ns/mnt").and_then(|name| {
            String::from_utf8(name).ok()?.strip_prefix("mnt:[")?.strip_suffix(']')?.parse().ok()
        });
        let status = fs::read(proc("status")).ok()?;
        let status = String::from_utf8_lossy(&status).into_owned();
        let uid =
            status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?;
        let threads = at(20)?;
        Some(Self {
            pid,
            ppid: u32::try_from(at(4)?).ok()?,
            start_ticks: at(22)?,
            comm,
            exe: link("exe"),
            argv: fs::read(proc("cmdline")).ok().map(|bytes| split(&bytes)).unwrap_or_default(),
            cwd: link("cwd"),
            cwd_dev: dir.as_ref().map(|dir| format!("{}:{}", libc::major(dir.dev()), libc::minor(dir.dev()))),
            cwd_ino: dir.as_ref().map(|dir| dir.ino().to_string()),
            mnt_ns,
            tty: tty(at(7)?),
            uid: uid.parse().ok()?,
            sid: u32::try_from(at(6)?).ok()?,
            pgid: u32::try_from(at(5)?).ok()?,
            readable: !fs::read_link(proc("cwd"))
                .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied),
            dead: matches!(field.first(), Some(&"Z" | &"X")) && threads <= 1,
            exits: at(9)? & PF_EXITING != 0 && threads <= 1,
            kernel_thread: at(9)? & PF_KTHREAD != 0,
        })
    }

    /// Every difference between a row of `observer ps --json` and this.
    pub fn differences(&self, row: &Value) -> Vec<String> {
        let mut found = Vec::new();
        let mut same = |field: &str, shown: String, truth: String| {
            if shown != truth {
                found.push(format!("{field}: observer {shown}, kernel {truth}"));
            }
        };
        let number = |field: &str| row.get(field).and_then(Value::as_u64);
        for (field, truth) in [
            ("pid", self.pid),
            ("ppid", self.ppid),
            ("uid", self.uid),
            ("sid", self.sid),
            ("pgid", self.pgid),
        ] {
            same(field, format!("{:?}", number(field)), format!("{:?}", Some(u64::from(truth))));
        }
        let bytes = |field: &str| row.get(field).and_then(Value::as_str).map(text::decode);
        same("comm", shown(bytes("comm").as_deref()), shown(Some(&self.comm)));
        let start = text::u64_string(row, "start_boottime_ns").map(|ns| ns / ns_per_tick());
        same("start_boottime_ns in ticks", format!("{start:?}"), format!("{:?}", Some(self.start_ticks)));
        same(
            "tty",
            format!("{:?}", row.get("tty").and_then(Value::as_str)),
            format!("{:?}", self.tty.as_deref()),
        );
        let argv = row.get("argv").and_then(Value::as_array).map(|words| {
            words.iter().map(|word| word.as_str().map(text::decode).unwrap_or_default()).collect::<Vec<_>>()
        });
        same("argv", shown_all(argv.as_deref()), shown_all(Some(&self.argv)));
        if !self.readable {
            return found;
        }
        same("mnt_ns", format!("{:?}", text::u64_any(row, "mnt_ns")), format!("{:?}", self.mnt_ns));
        same("exe", shown(bytes("exe").as_deref()), shown(self.exe.as_deref()));
        same("cwd", shown(bytes("cwd").as_deref()), shown(self.cwd.as_deref()));
        for (field, truth) in [("cwd_dev", &self.cwd_dev), ("cwd_ino", &self.cwd_ino)] {
            same(
                field,
                format!("{:?}", row.get(field).and_then(Value::as_str)),
                format!("{:?}", truth.as_deref()),
            );
        }
        found
    }
}

/// Compares the row of `pid` with the kernel, at once: one question, and the truth read before and after it. Asks
/// again only where the truth itself changed meanwhile.
#[track_caller]
pub fn assert_row(daemon: &crate::Daemon, pid: u32) -> Value {
    for _ in 0..50 {
        let before = Truth::of(pid);
        let row = daemon.row(pid);
        let after = Truth::of(pid);
        if before != after {
            continue;
        }
        let truth = before.unwrap_or_else(|| panic!("process {pid} is gone: its test expects it alive"));
        assert!(truth.readable, "/proc/{pid} is open to root");
        let row = row.unwrap_or_else(|| panic!("process {pid} lives and is not in the map: {truth:?}"));
        let mut found = truth.differences(&row);
        if daemon.is_blind_to_older_argv() {
            found.retain(|difference| !difference.starts_with("argv: observer null"));
        }
        assert!(found.is_empty(), "process {pid} is shown wrong:\n  {}\n{row:#}", found.join("\n  "));
        return row;
    }
    panic!("process {pid} changes faster than it can be read");
}

/// Fails unless `pid` has no row, at once; the caller knows that it is dead and its pid not in use again.
#[track_caller]
pub fn assert_no_row(daemon: &crate::Daemon, pid: u32, start_boottime_ns: &str) {
    let row = daemon.row(pid);
    let shown = row.as_ref().and_then(|row| row.get("start_boottime_ns")).and_then(Value::as_str);
    assert!(shown != Some(start_boottime_ns), "process {pid} is dead and still in the map: {row:?}");
}

/// Waits until nothing of a dead process is left in /proc: it was reaped.
#[track_caller]
pub fn gone(pid: u32, limit: Duration) {
    crate::eventually(&format!("process {pid} is reaped"), limit, || {
        if fs::exists(format!("/proc/{pid}")).unwrap_or(false) {
            Err("still there".to_owned())
        } else {
            Ok(())
        }
    });
}

/// ns in one clock tick of /proc/PID/stat.
pub fn ns_per_tick() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    1_000_000_000 / ticks.unsigned_abs()
}

/// A terminal's name from field 7 of stat, whose bits are those of `new_encode_dev`.
fn tty(tty_nr: u64) -> Option<String> {
    let (major, minor) = ((tty_nr >> 8) & 0xfff, (tty_nr & 0xff) | ((tty_nr >> 12) & 0xf_ff00));
    match (major, minor) {
        (0, 0) => None,
        (major, minor) if PTS_MAJORS.contains(&major) => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        (4, minor @ 0..64) => Some(format!("tty{minor}")),
        (4, minor) => Some(format!("ttyS{}", minor - 64)),
        (major, minor) => Some(format!("{major}:{minor}")),
    }
}

fn split(cmdline: &[u8]) -> Vec<Vec<u8>> {
    let whole = cmdline.strip_suffix(&[0]).unwrap_or(cmdline);
    if cmdline.is_empty() { Vec::new() } else { whole.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect() }
}

fn shown(bytes: Option<&[u8]>) -> String {
    bytes.map_or("null".to_owned(), |bytes| format!("\"{}\"", bytes.escape_ascii()))
}

fn shown_all(words: Option<&[Vec<u8>]>) -> String {
    words.map_or("null".to_owned(), |words| {
        format!("[{}]", words.iter().map(|word| shown(Some(word))).collect::<Vec<_>>().join(", "))
    })
}
