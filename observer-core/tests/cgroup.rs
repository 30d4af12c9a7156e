//! The systemd unit and the container in the path of a cgroup.

use observer_core::cgroup::{container, unit};
use proptest::prelude::*;

/// Paths with their unit and their container. `ID` and `OTHER` stand for 64 hexadecimal digits.
const CASES: [(&str, Option<&str>, Option<&str>); 64] = [
    // systemd: the innermost unit, and none where a slice is further inside.
    ("/", None, None),
    ("/init.scope", Some("init.scope"), None),
    ("/system.slice/nginx.service", Some("nginx.service"), None),
    ("/system.slice/nginx.service/workers/1", Some("nginx.service"), None),
    ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service"), None),
    ("/system.slice/dbus.socket", Some("dbus.socket"), None),
    (r"/system.slice/mnt-a\x20b.mount", Some(r"mnt-a\x20b.mount"), None),
    (r"/system.slice/dev-sda2.swap", Some("dev-sda2.swap"), None),
    ("/system.slice/_cpu.service", Some("cpu.service"), None),
    ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope"), None),
    ("/user.slice/user-1000.slice/user@1000.service/init.scope", Some("init.scope"), None),
    (
        r"/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome\x2dTerminal-7.scope",
        Some(r"app-org.gnome\x2dTerminal-7.scope"),
        None,
    ),
    ("/user.slice/user-1000.slice/user@1000.service/app.slice/tmux.service", Some("tmux.service"), None),
    ("/user.slice/user-1000.slice/user@1000.service/app.slice", None, None),
    ("/system.slice", None, None),
    ("/system.slice/a.timer", None, None),
    ("/system.slice/.service", None, None),
    ("/system.slice/@a.service", None, None),
    ("/system.slice/a b.service", None, None),
    ("/system.slice/x.service/a b.service", Some("x.service"), None),
    // docker.
    ("/docker/ID", None, Some("ID")),
    ("/system.slice/docker-ID.scope", Some("docker-ID.scope"), Some("ID")),
    ("/system.slice/docker-ID.scope/init.scope", Some("init.scope"), Some("ID")),
    ("/system.slice:docker:ID", None, Some("ID")),
    ("/system.slice/docker.service", Some("docker.service"), None),
    ("/docker/buildx", None, None),
    // containerd, of Kubernetes and of nerdctl.
    (
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1b_2c.slice/cri-containerd-ID.scope",
        Some("cri-containerd-ID.scope"),
        Some("ID"),
    ),
    (
        "/system.slice/containerd.service/kubepods-besteffort-pod1b_2c.slice:cri-containerd:ID",
        Some("containerd.service"),
        Some("ID"),
    ),
    ("/system.slice/nerdctl-ID.scope", Some("nerdctl-ID.scope"), Some("ID")),
    // Kubernetes without systemd.
    ("/kubepods/burstable/pod0bd6c8f2-6a0f-4b1e-9f3c-3d5a1f0b7a11/ID", None, Some("ID")),
    ("/kubepods/pod0bd6c8f26a0f4b1e9f3c3d5a1f0b7a11/ID", None, Some("ID")),
    ("/kubelet/kubepods/besteffort/pod1b-2c/ID", None, Some("ID")),
    ("/kubepods/burstable/pod1b-2c", None, None),
    ("/kubepods/a/b/pod1b-2c/ID", None, None),
    ("/pods/burstable/pod1b-2c/ID", None, None),
    ("/kubepods/burstable/podium/ID", None, None),
    // cri-o.
    ("/kubepods.slice/kubepods-pod1b_2c.slice/crio-ID.scope", Some("crio-ID.scope"), Some("ID")),
    ("/kubepods/burstable/pod1b-2c/crio-ID", None, Some("ID")),
    ("/system.slice/crio-conmon-ID.scope", Some("crio-conmon-ID.scope"), None),
    // podman.
    ("/machine.slice/libpod-ID.scope/container", Some("libpod-ID.scope"), Some("ID")),
    (
        "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
        Some("libpod-ID.scope"),
        Some("ID"),
    ),
    ("/libpod_parent/libpod-ID", None, Some("ID")),
    ("/system.slice/web.service/libpod-payload-ID", Some("web.service"), Some("ID")),
    ("/system.slice/web.service/supervisor", Some("web.service"), None),
    ("/machine.slice/libpod-conmon-ID.scope", Some("libpod-conmon-ID.scope"), None),
    // runc and crun by themselves.
    ("/system.slice/runc-web-1.scope", Some("runc-web-1.scope"), Some("web-1")),
    ("/user.slice/crun-web.scope/container", Some("crun-web.scope"), Some("web")),
    ("/system.slice:runc:web", None, Some("web")),
    ("/system.slice/runc-.scope", Some("runc-.scope"), None),
    ("/system.slice/run-u5.scope", Some("run-u5.scope"), None),
    // systemd-nspawn and machines of systemd-machined.
    (r"/machine.slice/machine-web\x2d1.scope/payload/init.scope", Some("init.scope"), Some("web-1")),
    (r"/machine.slice/machine-web\x2d1.scope/supervisor", Some(r"machine-web\x2d1.scope"), None),
    (
        "/machine.slice/systemd-nspawn@web-1.service/payload",
        Some("systemd-nspawn@web-1.service"),
        Some("web-1"),
    ),
    ("/machine.slice/systemd-nspawn@web-1.service/supervisor", Some("systemd-nspawn@web-1.service"), None),
    (r"/machine.slice/machine-qemu\x2d3\x2dweb.scope", Some(r"machine-qemu\x2d3\x2dweb.scope"), None),
    ("/machine.slice/machine-.scope", Some("machine-.scope"), None),
    ("/machine.slice/machine-a-b.scope", Some("machine-a-b.scope"), None),
    (r"/machine.slice/machine-a\x0ab.scope", Some(r"machine-a\x0ab.scope"), None),
    // lxc.
    ("/lxc.payload.web-1/init.scope", Some("init.scope"), Some("web-1")),
    ("/lxc.payload/web-1", None, Some("web-1")),
    ("/lxc/web-1/ns", None, Some("web-1")),
    ("/lxc.monitor.web-1", None, None),
    // One in the other: the innermost, and what its payload runs in.
    ("/docker/OTHER/system.slice/docker-ID.scope", Some("docker-ID.scope"), Some("ID")),
    (
        r"/lxc.payload.outer/machine.slice/machine-in.scope/supervisor",
        Some("machine-in.scope"),
        Some("outer"),
    ),
];

fn filled(text: &str) -> String {
    text.replace("OTHER", &"0f".repeat(32)).replace("ID", &"1b2c".repeat(16))
}

#[test]
fn each_manager_and_runtime_is_recognized_by_the_names_that_it_gives() {
    for (path, in_unit, in_container) in CASES {
        let path = filled(path);
        let found = container(path.as_bytes()).map(|id| String::from_utf8(id.into_owned()).expect("text"));
        assert_eq!(
            unit(path.as_bytes()),
            in_unit.map(filled).as_deref().map(str::as_bytes),
            "unit of {path}"
        );
        assert_eq!(found, in_container.map(filled), "container of {path}");
    }
}

#[test]
fn what_is_cut_or_hostile_is_in_no_container_that_is_known() {
    let whole = filled("/docker/ID");
    for end in 0..whole.len() {
        assert_eq!(whole.as_bytes().get(..end).and_then(container), None, "{end} bytes");
    }
    let upper = whole.to_uppercase().replace("DOCKER", "docker");
    let longer = format!("{whole}0");
    let relative = whole.trim_start_matches('/').to_owned();
    let long = format!("/{}", "a/".repeat(2_048));
    for path in [&upper, &longer, &relative, &long, "", "/docker//", "/lxc/", "/lxc.payload."] {
        assert_eq!((container(path.as_bytes()), unit(path.as_bytes())), (None, None), "{path}");
    }
    for name in
        [&b"a\x1b[2J"[..], b"a\nb", b"\xff\xfe", b"a\0b", "\u{202e}a".as_bytes(), b"a b", br"a\x2", br"a\"]
    {
        for (before, after) in
            [("/lxc.payload.", ""), ("/runc-", ".scope"), ("/machine-", ".scope"), ("/lxc/", "")]
        {
            let path = [before.as_bytes(), name, after.as_bytes()].concat();
            assert_eq!(container(&path), None, "{path:?}");
        }
        assert_eq!(unit(&[b"/", name, b" .service"].concat()), None, "{name:?}");
    }
}

/// Undoes systemd's escapes, as simply as it can be written.
fn without_escapes(path: &[u8]) -> Vec<u8> {
    let mut plain = path.to_vec();
    for value in 0..=u8::MAX {
        let escape = format!("\\x{value:02x}").into_bytes();
        while let Some(at) = plain.windows(4).position(|window| window == escape) {
            plain.splice(at..at + 4, [value]);
        }
    }
    plain
}

/// Words of which the names of cgroups are made, and bytes that are in none.
fn path() -> impl Strategy<Value = Vec<u8>> {
    let digits = "1b2c".repeat(16);
    let words = [
        "/",
        "docker",
        "-",
        ".scope",
        ".slice",
        ".service",
        "kubepods",
        "pod",
        "libpod",
        "payload",
        "machine-",
        "lxc",
        ".",
        ":",
        "_",
        "@",
        r"\x2d",
        r"\x2",
        "a",
        "supervisor",
        "crio",
        "runc",
        "systemd-nspawn@",
        &digits,
    ]
    .map(|word| word.as_bytes().to_vec());
    let word = prop_oneof![
        8 => prop::sample::select(words.to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(word, 0..24).prop_map(|words| [b"/".to_vec(), words.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_found_is_a_part_of_the_path(path in path(), noise: Vec<u8>) {
        for path in [path, noise] {
            let has = |whole: &[u8], part: &[u8]| whole.windows(part.len()).any(|window| window == part);
            if let Some(unit) = unit(&path) {
                prop_assert!(!unit.is_empty() && has(&path, unit));
            }
            if let Some(container) = container(&path) {
                prop_assert!(!container.is_empty() && (has(&path, &container) || has(&without_escapes(&path), &container)));
            }
        }
    }
}
