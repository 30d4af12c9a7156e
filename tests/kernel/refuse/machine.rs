//! Machines and rights that do not suffice.

use observer_harness::daemon::{READY, product};
use observer_harness::observe::CommandResult;
use observer_harness::{Daemon, Options, failure, skip};

use crate::{assert_refused, run};

const NOBODY: [&str; 5] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];

/// Creates a directory that anyone may write to.
fn open_dir() -> tempfile::TempDir {
    failure::require_root();
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("open it to all");
    dir
}

#[track_caller]
fn assert_refuses(result: &CommandResult, words: &[&str]) {
    assert!(
        result.code.is_some_and(|code| code != 0 && code != 124 && code < 126),
        "refused in time: {result:?}"
    );
    assert!(!result.stderr.contains("panicked"), "{}", result.stderr);
    for word in words {
        assert!(
            result.stderr.to_lowercase().contains(&word.to_lowercase()),
            "{word:?} stands in the output: {}",
            result.stderr
        );
    }
}

#[test]
fn without_root_the_daemon_refuses_and_asks_for_root() {
    let dir = open_dir();
    assert_refuses(&run(&NOBODY, dir.path(), &[]), &["root"]);
}

#[test]
fn the_locked_memory_limit_is_raised_only_on_kernels_that_charge_maps_to_it() {
    let limit = |pid: u32| {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory")).expect("that one");
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split('.').map(|part| part.parse::<u32>().expect("a number"));
    let version = (numbers.next(), numbers.next());
    let daemon = limit(Daemon::shared().pid());
    if version < (Some(5), Some(11)) {
        assert_eq!(daemon, ["unlimited", "unlimited", "bytes"], "on {release}");
    } else {
        assert_eq!(daemon, limit(std::process::id()), "as it was, on {release}");
    }
}

#[test]
fn another_pid_namespace_is_refused() {
    let dir = open_dir();
    let wrapper = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    assert_refuses(&run(&wrapper, dir.path(), &[]), &["pid namespace"]);
}

#[test]
fn a_time_namespace_with_another_boot_clock_is_refused() {
    let dir = open_dir();
    if !std::path::Path::new("/proc/self/ns/time").exists() {
        skip!("this kernel has no time namespaces");
    }
    let wrapper = ["unshare", "--time", "--boottime", "1000", "--fork", "--kill-child"];
    assert_refuses(&run(&wrapper, dir.path(), &[]), &["time namespace", "nsenter --target 1 --time"]);
}

#[test]
fn a_kernel_without_btf_is_refused() {
    let dir = open_dir();
    let hide = "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"";
    assert_refuses(&run(&["unshare", "--mount", "sh", "-c", hide], dir.path(), &[]), &["btf"]);
}

#[test]
fn without_tracefs_the_daemon_mounts_it_or_refuses_or_reports_a_blind_spot() {
    let dir = open_dir();
    let socket = dir.path().join("observer.sock");
    let hide = "for at in /sys/kernel/tracing /sys/kernel/debug; do mount -t tmpfs none $at || true; done; exec \"$0\" \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", hide]).arg(product()).args(["run", "--socket"]).arg(&socket);
    command.arg("--state-dir").arg(dir.path().join("state"));
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("start it");
    let end = std::time::Instant::now() + READY;
    while std::time::Instant::now() < end && !matches!(child.try_wait(), Ok(Some(_))) {
        if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let status = CommandResult::of(
        std::process::Command::new(product()).args(["status", "--json", "--socket"]).arg(&socket),
    );
    let ended = child.try_wait().expect("it can be asked for");
    // SAFETY: the child belongs to this process and is not reaped unless `ended` is set.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
    let out = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&out.stderr);
    if ended.is_some() {
        assert!(stderr.contains("tracefs"), "it refused, and says why: {stderr}");
    } else {
        let text = status.json().to_string();
        let by_syscalls = text.contains("tracepoint/syscalls/sys_exit_");
        assert!(
            by_syscalls || text.contains("fexit/set_fs_pwd") || text.contains("tracefs"),
            "attached all the same, or not needed, or it says what is blind: {text}"
        );
    }
}

#[test]
fn commands_that_need_a_daemon_fail_without_one() {
    let dir = open_dir();
    let socket = dir.path().join("observer.sock").display().to_string();
    for args in [&["pid", "x"][..], &["watch", "--json"], &["status", "--json"]] {
        let result =
            CommandResult::of(std::process::Command::new(product()).args(args).args(["--socket", &socket]));
        assert_refused(&result, 4, &["observer run"]);
    }
}

#[test]
fn without_a_daemon_a_snapshot_answers_callers_with_the_rights() {
    let dir = open_dir();
    let socket = dir.path().join("observer.sock").display().to_string();
    let ask = |args: &[&str]| {
        CommandResult::of(std::process::Command::new(product()).args(args).args(["--socket", &socket]))
    };
    let rows = ask(&["ps", "--json"]);
    assert_eq!(rows.code, Some(0), "{rows:?}");
    let rows = rows.json();
    let own = |row: &&serde_json::Value| {
        row.get("pid").and_then(serde_json::Value::as_u64) == Some(std::process::id().into())
    };
    let row = rows.as_array().and_then(|rows| rows.iter().find(own)).expect("this process is shown").clone();
    let truth = observer_harness::Truth::of(std::process::id()).expect("it lives");
    let found = truth.differences(&row);
    assert!(found.is_empty(), "{found:?}");
    for args in [&["list", "--json"][..], &["list", "--porcelain"]] {
        let result = ask(args);
        let none = matches!(result.text().trim(), "" | "[]");
        assert_eq!(result.code, Some(i32::from(none)), "0 found, 1 certainly none: {result:?}");
    }
    let mut command = std::process::Command::new("setpriv");
    command.args(NOBODY.iter().skip(1)).arg(product()).args(["ps", "--json", "--socket", &socket]);
    assert_refuses(&CommandResult::of(&mut command), &["root"]);
}

#[test]
fn a_second_daemon_is_refused_and_names_the_first() {
    let daemon = Daemon::start(&Options::default());
    let dir = daemon.dir().to_owned();
    let result = run(&[], &dir, &[]);
    assert_refuses(&result, &["running", &daemon.pid().to_string()]);
    assert!(!daemon.ps().is_empty(), "the first goes on");
}

#[test]
fn a_socket_path_that_is_no_socket_is_refused_and_left_unchanged() {
    let dir = open_dir();
    let path = dir.path().join("observer.sock");
    std::fs::write(&path, "precious").expect("write a file");
    assert_refuses(&run(&[], dir.path(), &[]), &["socket", &path.display().to_string()]);
    assert_eq!(std::fs::read(&path).ok().as_deref(), Some(&b"precious"[..]), "left alone");
    std::fs::remove_file(&path).expect("remove it");
    std::fs::create_dir(&path).expect("make a directory");
    assert_refuses(&run(&[], dir.path(), &[]), &["socket", &path.display().to_string()]);
}

#[test]
fn a_stale_socket_is_replaced() {
    let mut daemon = Daemon::start(&Options::default());
    daemon.kill();
    assert!(daemon.socket().exists(), "a killed daemon leaves its socket");
    daemon.restart();
    assert!(!daemon.ps().is_empty(), "it answers");
}

#[test]
fn a_daemon_that_receives_sigterm_removes_its_socket_and_exits_0() {
    let mut daemon = Daemon::start(&Options::default());
    assert_eq!(daemon.stop(), Some(0), "SIGTERM is a wish");
    assert!(!daemon.socket().exists(), "no socket is left");
}

#[test]
fn the_doctor_finds_this_machine_fit() {
    let daemon = Daemon::shared();
    let result = daemon.observer(&["doctor"]);
    assert_eq!(result.code, Some(0), "{result:?}");
    assert!(result.text().contains("BTF"), "{result:?}");
}

#[test]
fn too_few_open_files_are_named_and_taken_for_no_wrong_layout() {
    failure::require_root();
    let dir = tempfile::tempdir().expect("a directory");
    // Too few for the maps, for the programs, for what they are attached to, or for the self-test.
    for files in ["12", "30", "34", "40", "50"] {
        let result = run(&["sh", "-c", "ulimit -n $0 && exec \"$@\"", files], dir.path(), &[]);
        println!("{files}: {}", result.stderr);
        let named = format!("may have {files} files open at a time");
        assert_refused(&result, 1, &["Too many open files", &named, "`LimitNOFILE=4096` in the unit"]);
        for wrong in ["self-test failed", "uname -r", "observer doctor"] {
            assert!(!result.stderr.contains(wrong), "{wrong}: {}", result.stderr);
        }
    }
}
