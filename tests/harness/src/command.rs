//! Running programs: the command line is printed first, and a failure repeats the program's output.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Lines of a failed program's output that the error repeats.
const TAIL_LINES: usize = 25;

/// The command as a person would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(word).collect::<Vec<_>>().join(" ")
}

fn word(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '=' | ',' | ':' | '+' | '@')
    };
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Prints the command and runs it with this program's own input and output. An exit status other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    eprintln!("xtask: {}", line(command));
    let status = command.status().with_context(|| format!("start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status}); its own message stands above", line(command));
    }
    Ok(())
}

/// Runs it and shows its output only if it fails.
pub fn quiet(command: &mut Command) -> Result<()> {
    capture(command).map(drop)
}

/// Runs it and returns its standard output.
pub fn capture(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("start `{}`", line(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let output_tail = tail(&format!("{stdout}{stderr}"));
        bail!("`{}` failed ({}):\n{output_tail}", line(command), output.status);
    }
    Ok(stdout)
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
}

/// The cargo that runs this program, in this directory. It does not inherit what that cargo says of this program's own
/// package: build scripts that read these variables, such as ring's, would run again after each cargo from a shell.
pub fn cargo(directory: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(directory);
    let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_package)) {
        command.env_remove(name);
    }
    command
}

/// The directories that programs are looked for in: PATH, then cargo's own, where `cargo install` puts them.
pub fn search_path() -> Vec<PathBuf> {
    let mut path: Vec<PathBuf> =
        env::var_os("PATH").map(|value| env::split_paths(&value).collect()).unwrap_or_default();
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    path.extend(home.map(|home| home.join("bin")));
    path
}

/// The first executable of that name on the search path.
pub fn find(name: &str) -> Option<PathBuf> {
    find_in(&search_path(), name)
}

fn find_in(path: &[PathBuf], name: &str) -> Option<PathBuf> {
    which::which_in(name, Some(env::join_paths(path).ok()?), "/").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_pasted_into_a_shell() {
        let mut command = Command::new("cargo");
        command.args(["test", "--", "it's", "", "a b"]);
        assert_eq!(line(&command), r"cargo test -- 'it'\''s' '' 'a b'");
    }

    #[test]
    fn a_failure_repeats_the_output_of_the_program() {
        let error = quiet(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("exit status: 3") && text.contains("out\nerr"), "{text}");
    }

    #[test]
    fn only_executables_are_found() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let path = [directory.path().to_path_buf()];
        let file = directory.path().join("tool");
        assert_eq!(find_in(&path, "tool"), None);
        std::fs::write(&file, "")?;
        assert_eq!(find_in(&path, "tool"), None, "a file without the executable bit");
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        assert_eq!(find_in(&path, "tool"), Some(file));
        Ok(())
    }
}
