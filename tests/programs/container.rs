//! The bundle of a container that has this machine's programs and the row's home.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Directories of the host that the container has, where the host has them.
const SHARED: [&str; 5] = ["/usr", "/bin", "/lib", "/lib64", "/etc"];

/// Writes a bundle to `dir`, whose process has these words, on a terminal of its own in `home`.
pub(crate) fn bundle(dir: &Path, home: &Path, words: &[&str]) -> PathBuf {
    let bundle = dir.join("bundle");
    fs::create_dir_all(bundle.join("rootfs")).expect("create the bundle");
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["newinstance", "ptmxmode=0666"]}),
        bind(home, "rw"),
    ];
    mounts
        .extend(SHARED.map(Path::new).into_iter().filter(|path| path.exists()).map(|path| bind(path, "ro")));
    let namespaces = ["pid", "mount", "uts", "ipc"].map(|kind| json!({"type": kind}));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": words,
            "env": ["PATH=/usr/bin:/bin", "TERM=xterm"],
            "cwd": home,
        },
        "root": {"path": "rootfs"},
        "mounts": mounts,
        "linux": {"namespaces": namespaces},
    });
    fs::write(bundle.join("config.json"), config.to_string()).expect("write the bundle's configuration");
    bundle
}

fn bind(path: &Path, mode: &str) -> Value {
    json!({"destination": path, "type": "bind", "source": path, "options": ["rbind", mode]})
}
