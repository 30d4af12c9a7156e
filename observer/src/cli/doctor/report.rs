//! The text file of `observer doctor --report`.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use nix::sys::utsname::uname;

use crate::api::check::Check;
use crate::config::Config;
use crate::socket::client::Client;
use crate::socket::frame::ClientRequest;
use crate::text::bytes::to_line;

/// Lines of the service's log.
const LOG_LINES: &str = "300";
/// Bytes of a section; more is cut.
const SECTION_BYTES_MAX: usize = 256 << 10;
/// In the place of a secret.
const REMOVED: &str = "(removed)";

/// Writes the report into a new file that only this user may read.
///
/// # Errors
///
/// The file exists, or cannot be written.
pub fn write(path: &Path, checks: &[Check], config: Option<&Path>, socket: &Path) -> anyhow::Result<()> {
    let shown = || {
        let path = to_line(path.as_os_str().as_encoded_bytes()).into_owned();
        format!("cannot write the report {path}; name another file: --report FILE")
    };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(shown)?;
    file.write_all(text(checks, config, socket).as_bytes()).with_context(shown)
}

fn text(checks: &[Check], config: Option<&Path>, socket: &Path) -> String {
    let lines: Vec<_> = checks
        .iter()
        .map(Check::plain)
        .map(|(level, name, detail)| format!("{level:<7}  {name}: {detail}"))
        .collect();
    let sections = [
        ("this file", ABOUT.to_owned()),
        ("system", system()),
        ("checks", lines.join("\n")),
        ("configuration", config.map_or_else(|| "none".into(), configuration)),
        ("status", status(socket)),
        ("log", log()),
    ];
    let section = |(name, text): (&str, String)| {
        let cut = text.char_indices().map(|(at, _)| at).find(|&at| at >= SECTION_BYTES_MAX);
        let kept = cut.and_then(|at| text.get(..at)).unwrap_or(&text);
        let more = if cut.is_some() { "\n(cut)" } else { "" };
        format!("== {name}\n{}{more}\n", kept.trim_end())
    };
    sections.map(section).join("\n")
}

const ABOUT: &str = "\
The report of `observer doctor --report`, for a bug report. It has no connection strings and no
arguments of processes. It has paths, names of users and programs, and addresses of the database:
read it before you pass it on.";

fn system() -> String {
    let kernel = uname().map_or_else(
        |error| format!("unknown ({error})"),
        |name| [name.release(), name.version(), name.machine()].map(|part| part.to_string_lossy()).join(" "),
    );
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let distribution =
        release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown");
    format!(
        "observer      {}\nkernel        {kernel}\ndistribution  {distribution}\nprocessors    {}",
        env!("CARGO_PKG_VERSION"),
        std::thread::available_parallelism().map_or(0, usize::from)
    )
}

/// The configuration without comments and secrets. In one that cannot be used, a secret may stand anywhere.
fn configuration(file: &Path) -> String {
    if let Err(error) = Config::load(Some(file)) {
        return format!("left out, because it cannot be used: {error}");
    }
    let text = fs::read_to_string(file).ok().and_then(|text| without_secrets(&text));
    text.unwrap_or_else(|| "left out, because it was changed meanwhile".into())
}

fn without_secrets(text: &str) -> Option<String> {
    let mut table: toml::Table = text.parse().ok()?;
    if let Some(url) = table.get_mut("mirror").and_then(|mirror| mirror.get_mut("database_url")) {
        *url = REMOVED.into();
    }
    toml::to_string(&table).ok()
}

fn status(socket: &Path) -> String {
    let asked = Client::connect(socket).and_then(|mut client| client.ask(&ClientRequest::Status {}));
    match asked {
        Ok(line) => String::from_utf8_lossy(&line).into_owned(),
        Err(error) => error.to_string(),
    }
}

/// The end of the service's log, where systemd keeps it.
fn log() -> String {
    let asked = Command::new("journalctl")
        .args(["--unit", "observer", "--lines", LOG_LINES, "--no-pager", "--output", "short-iso"])
        .stdin(Stdio::null())
        .output();
    match asked {
        Ok(output) => {
            let lines = output.stdout.split(|&byte| byte == b'\n').map(to_line);
            lines.collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("journalctl cannot be run ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::check::Verdict;

    #[test]
    fn a_configuration_is_reported_without_its_secrets() {
        let text = "# the password is hunter2\n[mirror]\ndatabase_url = \"postgresql://u:hunter2@h/d\"\nmirror_argv = true\n";
        let shown = without_secrets(text).unwrap();
        assert!(!shown.contains("hunter2") && shown.contains("(removed)"), "{shown}");
        assert!(shown.contains("mirror_argv = true"), "{shown}");
    }

    #[test]
    fn a_configuration_that_cannot_be_used_is_not_reported() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("observer.toml");
        for text in [
            "[mirror]\ndatabase_ur = \"postgresql://u:hunter2@h/d\"\n",
            "[miror]\ndatabase_url = \"postgresql://u:hunter2@h/d\"\n",
            "[[mirror]]\ndatabase_url = \"postgresql://u:hunter2@h/d\"\n",
            "[mirror\ndatabase_url = \"postgresql://u:hunter2@h/d\"\n",
        ] {
            fs::write(&file, text).unwrap();
            let shown = configuration(&file);
            assert!(shown.starts_with("left out") && !shown.contains("hunter2"), "{shown}");
        }
        fs::write(&file, "[mirror]\ndatabase_url = \"postgresql://u:hunter2@h/d\"\n").unwrap();
        assert_eq!(configuration(&file), "[mirror]\ndatabase_url = \"(removed)\"\n");
    }

    #[test]
    fn a_report_is_a_new_file_for_its_user_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (file, nowhere) = (dir.path().join("report"), dir.path().join("none.sock"));
        let checks = [Check::new("BTF", Verdict::Fails, "one\ntwo \u{1b}[31m: do something")];
        write(&file, &checks, None, &nowhere).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("problem  BTF: one\n         two \\x1b[31m: do something"), "{text}");
        assert!(text.contains("== configuration\nnone\n"), "{text}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let error = write(&file, &checks, None, &nowhere).unwrap_err().to_string();
        assert!(error.ends_with("name another file: --report FILE"), "{error}");
    }
}
