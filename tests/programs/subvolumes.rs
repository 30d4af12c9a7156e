//! Homes with the inode number of another directory: the root of every btrfs subvolume has the same, and ext4 gives that of a
//! deleted directory to the next one.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use observer_harness::fixture::{self, PuppetOptions};
use observer_harness::{Daemon, Fixture, Options, Pty, Puppet, eventually, programs, text};
use serde_json::Value;

/// Bytes of the file system, more than the least that btrfs takes.
const BYTES: u64 = 128 << 20;
/// How long a session takes to follow its process into another home.
const LONG: Duration = Duration::from_secs(20);

/// A file system whose directories are homes, and a daemon.
struct Scene {
    daemon: Daemon,
    mount: Mount,
    fixture: Fixture,
}

/// A file system that is unmounted when dropped.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn run(program: &str, words: &[&str], path: &Path) {
    let mut command = Command::new(program);
    let output = command.args(words).arg(path).env("PATH", programs::search_path()).output();
    let output = output.unwrap_or_else(|error| panic!("run {program}: {error}"));
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Scene {
    fn new(file_system: &str) -> Self {
        let mkfs = format!("mkfs.{file_system}");
        programs::require(&mkfs);
        let fixture = Fixture::new();
        let (image, homes) = (fixture.dir().join("image"), fixture.mkdir("homes"));
        File::create(&image).and_then(|file| file.set_len(BYTES)).expect("create the image");
        run(&mkfs, &["-q"], &image);
        run("mount", &["-o", "loop", "-t", file_system, &image.display().to_string()], &homes);
        let mount = Mount(homes);
        let config = format!("[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\n", mount.0.display());
        let daemon = Daemon::start(&Options { config: Some(config), ..Options::default() });
        Self { daemon, mount, fixture }
    }

    fn subvolume(&self, name: &str) -> PathBuf {
        let path = self.mount.0.join(name);
        run("btrfs", &["subvolume", "create"], &path);
        path
    }

    fn agent(&self, home: &Path, pty: &Pty) -> Puppet {
        let options =
            PuppetOptions { dir: Some(home.to_owned()), pty: Some(pty), ..PuppetOptions::default() };
        self.fixture.cast(&options)
    }

    /// Name, pid, state, and whether the home is deleted, of each session that has not ended; and how often it started.
    fn sessions(&self) -> Vec<(String, u32, String, bool, usize)> {
        let text_of = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let session = |row: &Value| {
            let pid = text::u64_any(row, "pid").and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
            let starts = row["starts"].as_array().map_or(0, Vec::len);
            (text_of(row, "name"), pid, text_of(row, "state"), row["home_deleted"] == true, starts)
        };
        let mut sessions: Vec<_> =
            self.daemon.list().iter().filter(|row| row["state"] != "ended").map(session).collect();
        sessions.sort();
        sessions
    }

    fn assert_sessions(&self, expected: &[(&str, &Puppet, &str, bool, usize)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, puppet, state, deleted, starts)| {
                ((*name).to_owned(), puppet.pid, (*state).to_owned(), *deleted, *starts)
            })
            .collect();
        eventually("the sessions", LONG, || {
            let sessions = self.sessions();
            if sessions == expected { Ok(()) } else { Err(format!("{sessions:?}, and not {expected:?}")) }
        });
    }
}

#[test]
fn a_subvolume_that_is_deleted_and_made_again_is_another_home() {
    let scene = Scene::new("btrfs");
    let ptys = [Pty::open(), Pty::open()];
    let home = scene.subvolume("alpha");
    let old = scene.agent(&home, &ptys[0]);
    scene.assert_sessions(&[("alpha", &old, "live", false, 1)]);
    run("btrfs", &["subvolume", "delete"], &home);
    scene.subvolume("alpha");
    let new = scene.agent(&home, &ptys[1]);
    scene.assert_sessions(&[("alpha", &new, "live", false, 1), ("alpha#2", &old, "live", true, 1)]);
}

#[test]
fn a_directory_that_got_the_number_of_a_deleted_one_is_another_home() {
    let scene = Scene::new("ext4");
    let ptys = [Pty::open(), Pty::open()];
    let home = scene.mount.0.join("alpha");
    let make = || {
        std::fs::create_dir(&home).expect("make the home");
        std::fs::metadata(&home).expect("look at the home").ino()
    };
    let number = make();
    let old = scene.agent(&home, &ptys[0]);
    scene.assert_sessions(&[("alpha", &old, "live", false, 1)]);
    drop(old);
    scene.assert_sessions(&[]);
    std::fs::remove_dir(&home).expect("delete the home");
    assert_eq!(make(), number, "the number is given again");
    let new = scene.agent(&home, &ptys[1]);
    scene.assert_sessions(&[("alpha", &new, "live", false, 1)]);
}

#[test]
fn two_subvolumes_that_are_swapped_take_their_sessions_along() {
    let scene = Scene::new("btrfs");
    let ptys = [Pty::open(), Pty::open()];
    let homes = ["alpha", "beta"].map(|name| scene.subvolume(name));
    let agents = [scene.agent(&homes[0], &ptys[0]), scene.agent(&homes[1], &ptys[1])];
    scene.assert_sessions(&[("alpha", &agents[0], "live", false, 1), ("beta", &agents[1], "live", false, 1)]);
    fixture::exchange(&homes[0], &homes[1]);
    scene.assert_sessions(&[("alpha", &agents[1], "live", false, 1), ("beta", &agents[0], "live", false, 1)]);
}
