//! The compiler and linker for the kernel programs.
//!
//! Two ways lead to a libcore for the BPF target: Debian's security archive has a rustc with that libcore
//! precompiled, and a rustup nightly with `rust-src` builds it. The first that is ready is taken; if none is, the
//! first that can be installed.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{tools, workspace};
use observer_harness::{apt, command, failure};

/// Chooses the toolchain: `debian` or `nightly`.
pub(crate) const OVERRIDE: &str = "OBSERVER_BPF_TOOLCHAIN";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];
const NIGHTLY_LINE: &str = "rustup toolchain install nightly --profile minimal --component rust-src";
const NIGHTLY_COMPONENT_LINE: &str = "rustup component add rust-src --toolchain nightly";

/// Where the BPF target's libcore comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// /usr/bin/rustc of Debian's rustc-web, with libstd-rust-web-dev-bpf.
    Debian,
    /// rustup's nightly, with `-Z build-std`.
    Nightly,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debian => "debian (rustc-web)",
            Self::Nightly => "nightly (rustup)",
        })
    }
}

impl Kind {
    /// What a person runs to get it.
    fn install_line(self) -> String {
        match self {
            Self::Debian => format!("as root: apt-get update && {}", apt::install_line(&DEBIAN_PACKAGES)),
            Self::Nightly => NIGHTLY_LINE.to_owned(),
        }
    }
}

/// A compiler and a linker that are both there.
pub(crate) struct Toolchain {
    pub(crate) kind: Kind,
    pub(crate) linker: PathBuf,
}

/// The BPF target of this machine's byte order.
pub(crate) const TARGET: &str =
    if cfg!(target_endian = "little") { "bpfel-unknown-none" } else { "bpfeb-unknown-none" };

impl Toolchain {
    /// The toolchain as it is installed; nothing is changed.
    pub(crate) fn ready() -> Result<Self> {
        let kind = match plan(&Survey::of_this_machine(false)?) {
            Plan::Ready(kind) => kind,
            Plan::Try(_) | Plan::Stuck(_) => bail!("no compiler for the BPF target: run cargo xtask setup"),
        };
        tools::AUDITABLE.ready()?;
        Ok(Self { kind, linker: tools::LINKER.ready()? })
    }

    /// The command that builds the kernel programs into `target_directory`, in the release profile.
    pub(crate) fn build_command(&self, root: &Path, target_directory: &Path) -> Command {
        let mut command = match self.kind {
            Kind::Debian => {
                let mut command = command::cargo(root);
                // The archive's rustc is a release that has the target's libcore; target and flags count as
                // unstable all the same.
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1").arg("build");
                command
            }
            Kind::Nightly => {
                let mut command = rustup();
                command.env_remove("RUSTC").args([
                    "run",
                    "nightly",
                    "cargo",
                    "build",
                    "-Z",
                    "build-std=core",
                ]);
                command
            }
        };
        let mut flags = vec![
            format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
            "-Cdebuginfo=2".to_owned(),
            "-Clink-arg=--btf".to_owned(),
            format!("-Clinker={}", self.linker.display()),
        ];
        // BTF names the files of the source.
        flags.extend(workspace::without_directories(root));
        command
            .current_dir(root)
            // The host's flags and wrappers are not for this target.
            .env_remove("RUSTFLAGS")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .args(["--release", "--package", "observer-ebpf", "--target", TARGET, "--target-dir"])
            .arg(target_directory);
        command
    }
}

/// What is there, as far as the choice depends on it. An `Err` names what is missing.
struct Survey {
    forced: Option<Kind>,
    debian: Result<(), String>,
    nightly: Result<(), String>,
    debian_installable: bool,
    nightly_installable: bool,
}

/// What to do about the compiler.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Ready(Kind),
    /// Install one of these, in this order of preference.
    Try(Vec<Kind>),
    /// A person has to act first; the sentence explains how.
    Stuck(String),
}

impl Survey {
    /// Looks at this machine. Whether something could be installed is asked only `to_install`: it may fetch
    /// package lists.
    fn of_this_machine(to_install: bool) -> Result<Self> {
        let forced = forced(env::var(OVERRIDE).ok().as_deref())?;
        let debian = debian_ready(Path::new(DEBIAN_RUSTC));
        let nightly = nightly_ready();
        let wanted = |kind| forced.is_none_or(|forced| forced == kind);
        let missing = to_install
            && (debian.is_err() || !wanted(Kind::Debian))
            && (nightly.is_err() || !wanted(Kind::Nightly));
        Ok(Self {
            debian_installable: missing
                && wanted(Kind::Debian)
                && failure::is_root()
                && apt::offers(&DEBIAN_PACKAGES),
            nightly_installable: missing && wanted(Kind::Nightly) && command::find("rustup").is_some(),
            forced,
            debian,
            nightly,
        })
    }
}

fn forced(value: Option<&str>) -> Result<Option<Kind>> {
    match value {
        None | Some("") => Ok(None),
        Some("debian") => Ok(Some(Kind::Debian)),
        Some("nightly") => Ok(Some(Kind::Nightly)),
        Some(other) => bail!("{OVERRIDE}={other}: expected debian or nightly; unset it to have one chosen"),
    }
}

fn plan(survey: &Survey) -> Plan {
    let kinds = match survey.forced {
        Some(kind) => vec![kind],
        None => vec![Kind::Debian, Kind::Nightly],
    };
    let found = |kind| match kind {
        Kind::Debian => (&survey.debian, survey.debian_installable),
        Kind::Nightly => (&survey.nightly, survey.nightly_installable),
    };
    if let Some(&ready) = kinds.iter().find(|&&kind| found(kind).0.is_ok()) {
        return Plan::Ready(ready);
    }
    let installable: Vec<_> = kinds.iter().copied().filter(|&kind| found(kind).1).collect();
    if !installable.is_empty() {
        return Plan::Try(installable);
    }
    let missing: Vec<_> = kinds
        .iter()
        .map(|&kind| {
            let why = found(kind).0.as_ref().err().map_or("", String::as_str);
            format!("{kind}: {why}; run {}", kind.install_line())
        })
        .collect();
    Plan::Stuck(format!(
        "no compiler for the BPF target, and none can be installed from here:\n  {}",
        missing.join("\n  ")
    ))
}

/// Whether this rustc is new enough and has the target's libcore.
fn debian_ready(rustc: &Path) -> Result<(), String> {
    if !rustc.exists() {
        return Err(format!("{} is not there", rustc.display()));
    }
    let ask = |arguments: &[&str]| {
        command::capture(Command::new(rustc).env("RUSTC_BOOTSTRAP", "1").args(arguments))
            .map_err(|error| format!("{error:#}"))
    };
    new_enough(&ask(&["--version"])?)?;
    let library = ask(&["--print", "target-libdir", "--target", TARGET])?;
    let found = std::fs::read_dir(library.trim()).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    });
    if found { Ok(()) } else { Err(format!("{} has no libcore for {TARGET}", rustc.display())) }
}

fn rustup() -> Command {
    Command::new(command::find("rustup").unwrap_or_else(|| PathBuf::from("rustup")))
}

/// A nightly that will do stays as it is, whatever newer one there may be: other projects have theirs from it.
fn nightly_steps(present: bool) -> std::iter::Skip<std::str::Split<'static, char>> {
    (if present { NIGHTLY_COMPONENT_LINE } else { NIGHTLY_LINE }).split(' ').skip(1)
}

/// Whether there is a nightly that only lacks rust-src.
fn nightly_present() -> bool {
    nightly_rustc(&["--version"]).is_ok_and(|version| new_enough(&version).is_ok())
}

fn nightly_rustc(arguments: &[&str]) -> Result<String, String> {
    // A look must not download a toolchain.
    command::capture(
        rustup().env("RUSTUP_AUTO_INSTALL", "0").args(["run", "nightly", "rustc"]).args(arguments),
    )
    .map_err(|_| "rustup has no nightly".to_owned())
}

fn nightly_ready() -> Result<(), String> {
    if command::find("rustup").is_none() {
        return Err("rustup is not there".to_owned());
    }
    new_enough(&nightly_rustc(&["--version"])?)?;
    let sysroot = nightly_rustc(&["--print", "sysroot"])?;
    if Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir() {
        Ok(())
    } else {
        Err("rustup's nightly has no rust-src".to_owned())
    }
}

/// Whether `rustc --version` is at least what the workspace declares.
fn new_enough(version: &str) -> Result<(), String> {
    let needed = env!("CARGO_PKG_RUST_VERSION");
    let minor = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let found = version.split_whitespace().nth(1).unwrap_or_default();
    match (minor(found), minor(needed)) {
        (Some(found), Some(needed)) if found >= needed => Ok(()),
        _ => Err(format!("`{}` is older than the {needed} that observer needs", version.trim())),
    }
}

/// Makes sure that there is a compiler, and prints a line about it.
pub(crate) fn install_compiler() -> Result<Kind> {
    match plan(&Survey::of_this_machine(true)?) {
        Plan::Ready(kind) => {
            eprintln!("setup: BPF compiler {kind}: present");
            Ok(kind)
        }
        Plan::Stuck(why) => bail!("{why}"),
        Plan::Try(kinds) => {
            let mut failures = Vec::new();
            for kind in kinds {
                eprintln!("setup: BPF compiler {kind}: installing (about a minute)");
                match install(kind) {
                    Ok(()) => return Ok(kind),
                    Err(error) => {
                        eprintln!("setup: BPF compiler {kind}: could not be installed");
                        failures
                            .push(format!("{kind}: {error:#}\n  to try by hand: {}", kind.install_line()));
                    }
                }
            }
            bail!("no compiler for the BPF target could be installed:\n{}", failures.join("\n"))
        }
    }
}

fn install(kind: Kind) -> Result<()> {
    let ready = match kind {
        Kind::Debian => {
            apt::install(&DEBIAN_PACKAGES)?;
            debian_ready(Path::new(DEBIAN_RUSTC))
        }
        Kind::Nightly => {
            command::quiet(rustup().args(nightly_steps(nightly_present())))?;
            nightly_ready()
        }
    };
    ready.map_err(|why| anyhow::anyhow!("installed, but {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey() -> Survey {
        Survey {
            forced: None,
            debian: Err("no rustc".to_owned()),
            nightly: Err("no nightly".to_owned()),
            debian_installable: false,
            nightly_installable: false,
        }
    }

    #[test]
    fn what_is_ready_comes_before_what_could_be_installed() {
        let found = Survey { nightly: Ok(()), debian_installable: true, ..survey() };
        assert_eq!(plan(&found), Plan::Ready(Kind::Nightly));
        let found = Survey { debian: Ok(()), nightly: Ok(()), ..survey() };
        assert_eq!(plan(&found), Plan::Ready(Kind::Debian));
    }

    #[test]
    fn a_forced_choice_ignores_the_other() {
        let found =
            Survey { forced: Some(Kind::Nightly), debian: Ok(()), nightly_installable: true, ..survey() };
        assert_eq!(plan(&found), Plan::Try(vec![Kind::Nightly]));
    }

    #[test]
    fn both_ways_are_tried_debian_first() {
        let found = Survey { debian_installable: true, nightly_installable: true, ..survey() };
        assert_eq!(plan(&found), Plan::Try(vec![Kind::Debian, Kind::Nightly]));
    }

    #[test]
    fn stuck_names_what_is_missing_and_what_to_run() {
        let Plan::Stuck(text) = plan(&survey()) else { panic!("expected to be stuck") };
        for part in ["no rustc", "no nightly", "as root: apt-get update && apt-get install", NIGHTLY_LINE] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }

    #[test]
    fn a_nightly_that_is_there_is_not_updated() {
        assert_eq!(
            nightly_steps(true).collect::<Vec<_>>(),
            ["component", "add", "rust-src", "--toolchain", "nightly"]
        );
        assert!(nightly_steps(false).eq(NIGHTLY_LINE.split(' ').skip(1)));
    }

    #[test]
    fn an_unknown_override_is_refused_by_name() {
        assert_eq!(forced(Some("debian")).ok(), Some(Some(Kind::Debian)));
        assert_eq!(forced(None).ok(), Some(None));
        let text = forced(Some("stable")).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("stable") && text.contains("debian or nightly"), "{text}");
    }

    #[test]
    fn an_older_compiler_is_not_taken() {
        assert_eq!(new_enough("rustc 1.96.0 (ac68faa20 2026-05-25)"), Ok(()));
        assert_eq!(new_enough("rustc 2.0.0-nightly (x)"), Ok(()));
        assert!(new_enough("rustc 1.63.0 (4b91a6ea7 2022-08-08)").is_err(), "Debian 12's own rustc");
        assert!(new_enough("gibberish").is_err());
    }

    #[test]
    fn a_compiler_without_the_target_is_not_ready() {
        assert_eq!(
            debian_ready(Path::new("/nonexistent/rustc")),
            Err("/nonexistent/rustc is not there".to_owned())
        );
    }

    #[test]
    fn host_flags_do_not_reach_the_kernel_programs() {
        let toolchain = Toolchain { kind: Kind::Debian, linker: PathBuf::from("/x/bpf-linker") };
        let command = toolchain.build_command(Path::new("/w"), Path::new("/w/target/bpf-build"));
        let environment: Vec<_> = command.get_envs().collect();
        assert!(environment.contains(&("RUSTFLAGS".as_ref(), None)));
        assert!(environment.contains(&("RUSTC".as_ref(), Some(DEBIAN_RUSTC.as_ref()))));
        assert!(command::line(&command).contains("--target-dir /w/target/bpf-build"));
    }
}
