//! A wall clock of one program's own, which a test steps: a library that the loader puts before the C library's.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// Seconds are added to CLOCK_REALTIME; every other clock is the kernel's.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long *ahead;

__attribute__((constructor)) static void find(void) {
    const char *path = getenv("OBSERVER_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    void *page = file < 0 ? MAP_FAILED : mmap(0, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) abort();
    ahead = page;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME && ahead) now->tv_sec += *ahead;
    return failed;
}
"#;

/// See the module.
#[derive(Debug)]
pub struct WallClock {
    dir: TempDir,
}

impl WallClock {
    /// As the kernel's.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Self { dir };
        std::fs::write(clock.source(), SOURCE).expect("write the source");
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([clock.library(), clock.source()])
            .status();
        assert!(made.is_ok_and(|status| status.success()), "cc makes a library: is gcc installed?");
        clock.step_to(0);
        clock
    }

    /// So many seconds ahead of the kernel's from now on; negative: behind.
    pub fn step_to(&self, seconds: i64) {
        // In place: the program has it mapped.
        let file = File::options().create(true).truncate(false).write(true).open(self.seconds());
        file.and_then(|file| file.write_all_at(&seconds.to_ne_bytes(), 0)).expect("set the clock");
    }

    /// What the program's environment needs.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        vec![
            ("LD_PRELOAD".into(), self.library().into()),
            ("OBSERVER_TEST_CLOCK".into(), self.seconds().into()),
        ]
    }

    fn library(&self) -> PathBuf {
        self.dir.path().join("clock.so")
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("clock.c")
    }

    fn seconds(&self) -> PathBuf {
        self.dir.path().join("seconds")
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}
