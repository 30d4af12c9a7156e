//! Attaches the programs, and says what is taken from where and what stays unseen.

use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::Ebpf;
use aya::programs::{BtfTracePoint, TracePoint};
use observer_common::hooks::Point;

use super::contract::Contract;
use super::sys;

/// One fact that is taken from the kernel, and what it is taken from on this kernel.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The fact: "birth", "cwd", "uids"…
    pub fact: &'static str,
    /// Where it comes from: "tp_btf/sched_process_fork", "tracepoint/syscalls/sys_exit_{chdir,fchdir}", "iter/task"…
    pub source: String,
    /// Why this and not a better one; empty for the best.
    pub why: String,
}

/// Something that the hooks in use cannot see.
#[derive(Clone, Debug)]
pub struct BlindSpot {
    /// Field or fact concerned: its value carries `as_of` and is read again when asked.
    pub fact: &'static str,
    /// What is not seen, in a sentence.
    pub what: String,
}

/// BTF tracepoints, named like their programs. Without the first three there is no map.
const BTF_TRACEPOINTS: &[(&str, &str)] = &[
    ("birth", "sched_process_fork"),
    ("exec", "sched_process_exec"),
    ("death", "sched_process_exit"),
    ("comm", "task_rename"),
    ("cgroup", "cgroup_attach_task"),
    ("hang-up", "signal_generate"),
];
const VITAL: usize = 3;

/// Exits of system calls: the fallback where fexit cannot be attached. One program serves several.
const SYSCALL_EXITS: &[(&str, &str, &[&str])] = &[
    ("cwd", "sys_exit_chdir", &["chdir", "fchdir"]),
    ("uids", "sys_exit_setuid", &["setuid", "setreuid", "setresuid"]),
    ("sid", "sys_exit_setsid", &["setsid"]),
    ("pgid", "sys_exit_setpgid", &["setpgid"]),
    (
        "paths",
        "sys_exit_paths",
        &[
            "rename",
            "renameat",
            "renameat2",
            "rmdir",
            "unlinkat",
            "mount",
            "umount",
            "move_mount",
            "pivot_root",
            "setns",
            "unshare",
        ],
    ),
];

const WHY_FALLBACK: &str = "this kernel attaches no fexit programs";

/// Attaches everything that this kernel can; errors only where a fact without which there is no map is missing.
/// What is not as the contract says is not attached.
pub fn attach(ebpf: &mut Ebpf, contract: &Contract) -> Result<(Vec<Hook>, Vec<BlindSpot>)> {
    let mut hooks = Vec::new();
    let mut blind = Vec::new();
    for (index, (fact, name)) in BTF_TRACEPOINTS.iter().enumerate() {
        if let Some(why) = contract.unfit(Point::Tracepoint(name)) {
            blind.push(BlindSpot {
                fact,
                what: format!("changes, for this kernel is not as observer knows it: {why}"),
            });
            continue;
        }
        let program: &mut BtfTracePoint = program(ebpf, name)?.try_into()?;
        match program.attach() {
            Ok(_) => hooks.push(Hook { fact, source: format!("tp_btf/{name}"), why: String::new() }),
            Err(error) if index < VITAL => {
                return Err(anyhow!("attach tp_btf/{name}: {error}; see `observer doctor`"));
            }
            Err(error) => {
                blind.push(BlindSpot {
                    fact,
                    what: format!("changes, for tp_btf/{name} does not attach: {error}"),
                });
            }
        }
    }
    with_tracefs(|| attach_syscall_exits(ebpf, &mut hooks, &mut blind))?;
    hooks.push(Hook {
        fact: "snapshot",
        source: "iter/task".into(),
        why: "at start, to heal, when asked, on hints".into(),
    });
    hooks.push(Hook {
        fact: "older argv",
        source: "process_vm_readv".into(),
        why: "of what exec'd before observer did: read once, the process's identity checked afterwards"
            .into(),
    });
    blind.extend(fallback_blind_spots());
    Ok((hooks, blind))
}

fn attach_syscall_exits(ebpf: &mut Ebpf, hooks: &mut Vec<Hook>, blind: &mut Vec<BlindSpot>) -> Result<()> {
    for (fact, name, calls) in SYSCALL_EXITS {
        let mut attached = Vec::new();
        for call in *calls {
            let program: &mut TracePoint = program(ebpf, name)?.try_into()?;
            let point = format!("sys_exit_{call}");
            match program.attach("syscalls", &point) {
                Ok(_) => attached.push(*call),
                Err(error) => blind.push(BlindSpot {
                    fact,
                    what: format!(
                        "{call}, for tracepoint syscalls/{point} does not attach: {}",
                        cause(&error)
                    ),
                }),
            }
        }
        if !attached.is_empty() {
            hooks.push(Hook {
                fact,
                source: format!("tracepoint/syscalls/sys_exit_{{{}}}", attached.join(",")),
                why: WHY_FALLBACK.into(),
            });
        }
    }
    Ok(())
}

/// What the exits of system calls cannot show.
fn fallback_blind_spots() -> Vec<BlindSpot> {
    let spot = |fact, what: &str| BlindSpot { fact, what: what.into() };
    vec![
        spot("cwd", "chdir and fchdir called by 32-bit code"),
        spot("uids", "setuid, setreuid and setresuid called by 32-bit code"),
        spot("sid", "setsid called by 32-bit code"),
        spot("pgid", "setpgid called by 32-bit code"),
        spot("paths", "renames and removals made through io_uring or by 32-bit code"),
        spot("terminal", "a terminal gained or given up by ioctl or by opening it"),
    ]
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::programs::Program> {
    ebpf.program_mut(name)
        .with_context(|| format!("find program {name} in the object: rebuild with `cargo xtask build`"))
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// Where tracefs is mounted, if it is.
pub fn tracefs_mounted() -> bool {
    ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"]
        .iter()
        .any(|path| Path::new(path).exists())
}

/// Runs `attach` with tracefs in reach. Where the machine has it not mounted, it is mounted in a mount namespace that
/// only a thread made for this sees: attached programs outlive both, and the machine stays as it was.
fn with_tracefs<T: Send>(attach: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if tracefs_mounted() {
        return attach();
    }
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            mount_privately().context(
                "tracefs is not mounted, and mounting it for observer alone failed: run `mount -t tracefs nodev \
                 /sys/kernel/tracing` and start observer again",
            )?;
            attach()
        });
        match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("the thread that attaches tracepoints ended early: please report this"),
        }
    })
}

fn mount_privately() -> Result<()> {
    if !sys::has_sys_admin() {
        bail!("it takes CAP_SYS_ADMIN");
    }
    // SAFETY: concerns this thread alone, which shares its file system attributes with no other afterwards.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).context("unshare the mount namespace")?;
    mount(c"none", c"/", c"none", libc::MS_REC | libc::MS_PRIVATE).context("make mounts private")?;
    mount(c"tracefs", c"/sys/kernel/tracing", c"tracefs", 0).context("mount tracefs")
}

fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    // SAFETY: terminated strings that outlive the call.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
