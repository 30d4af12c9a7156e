//! Work for the traced daemon to see: a session on a terminal of its own, short lives, renames.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A session named `one`, alive until [`Workload::finish`].
pub(crate) struct Workload {
    terminal: Child,
}

impl Workload {
    /// Begins a session in `homes/one`; has processes born, moved, renamed under and ended around it.
    pub(crate) fn start(homes: &Path) -> Result<Self> {
        let home = homes.join("one");
        let other = homes.join("other");
        fs::create_dir(&home)?;
        fs::create_dir(&other)?;
        let terminal = Command::new("script")
            .args(["-qec", "exec sleep 600", "/dev/null"])
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start script: run cargo xtask setup")?;
        let workload = Self { terminal };
        let mut inside = Command::new("sleep").arg("600").current_dir(&other).spawn()?;
        fs::rename(&other, homes.join("renamed"))?;
        for _ in 0..20 {
            // Its status is for the daemon to see.
            Command::new("sh").args(["-c", "cd / && /bin/true && exit 3"]).status()?;
        }
        inside.kill()?;
        inside.wait()?;
        fs::remove_dir(homes.join("renamed"))?;
        Ok(workload)
    }

    /// Ends the session: with `script` gone, the kernel hangs up its terminal.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.end().context("end the session")
    }

    fn end(&mut self) -> Result<()> {
        if self.terminal.try_wait()?.is_none() {
            self.terminal.kill()?;
            self.terminal.wait()?;
        }
        Ok(())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // Only on the way out of a failure, which is what is reported.
        let _ = self.end();
    }
}
