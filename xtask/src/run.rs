//! `cargo xtask run`: from a clean clone to a running daemon.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use observer_harness::{command, failure};

use crate::workspace::Workspace;
use crate::{build, setup};

/// Install what is missing, build, and run the daemon in the foreground (as root; by sudo otherwise).
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Arguments of `observer run`: `cargo xtask run -- --config FILE`.
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let toolchain = setup::for_build()?;
    let binary = build::release(workspace, &toolchain)?;
    let sudo = command::find("sudo");
    let mut command = daemon(&binary, failure::is_root(), sudo.as_deref(), &arguments.arguments)?;
    eprintln!("xtask: {}", command::line(&command));
    let error = command.exec();
    Err(error).with_context(|| format!("run {}", binary.display()))
}

fn daemon(binary: &Path, root: bool, sudo: Option<&Path>, arguments: &[OsString]) -> Result<Command> {
    let mut command = match (root, sudo) {
        (true, _) => Command::new(binary),
        (false, Some(sudo)) => {
            let mut command = Command::new(sudo);
            command.arg(binary);
            command
        }
        (false, None) => {
            bail!(
                "loading kernel programs needs root, and there is no sudo: run as root: {} run",
                binary.display()
            )
        }
    };
    // Cargo's, for compiler plug-ins: no business of a daemon.
    command.env_remove("LD_LIBRARY_PATH").arg("run").args(arguments);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(root: bool, sudo: Option<&str>) -> Result<String> {
        let arguments = ["--config".into(), "x.toml".into()];
        daemon(Path::new("/t/observer"), root, sudo.map(Path::new), &arguments).map(|c| command::line(&c))
    }

    #[test]
    fn root_runs_the_daemon_itself_and_others_by_sudo() -> Result<()> {
        assert_eq!(line(true, Some("/bin/sudo"))?, "/t/observer run --config x.toml");
        assert_eq!(line(false, Some("/bin/sudo"))?, "/bin/sudo /t/observer run --config x.toml");
        Ok(())
    }

    #[test]
    fn without_root_or_sudo_the_error_says_what_to_run() {
        let error = line(false, None).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.ends_with("run as root: /t/observer run"), "{error}");
    }
}
