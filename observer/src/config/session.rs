//! One `[[session]]`: its fields, and the rule that they make.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use observer_common::limits::COMM_LEN;
use observer_core::Rule;
use observer_core::rule::{HomeRule, Pattern, TtyRule};
use serde::Deserialize;
use toml::Spanned;

use super::fault::{ConfigFault, OneOrMore};
use crate::text::glob::{Glob, bytes_min, split_literal};

/// comms that are never a session unless a rule has its own list: shells, multiplexers and login programs.
pub const NOT_COMM_DEFAULT: [&str; 44] = [
    // shells
    "sh",
    "bash",
    "rbash",
    "dash",
    "ash",
    "zsh",
    "fish",
    "ksh",
    "ksh93",
    "mksh",
    "tcsh",
    "csh",
    "nu",
    "elvish",
    "xonsh",
    "pwsh",
    "busybox",
    // multiplexers and terminals' own servers
    "tmux",
    "tmux: server",
    "tmux: client",
    "screen",
    "SCREEN",
    "zellij",
    "dtach",
    "abduco",
    "byobu",
    // login programs
    "login",
    "agetty",
    "getty",
    "mingetty",
    "su",
    "runuser",
    "(sd-pam)",
    "systemd",
    "newgrp",
    "sg",
    // remote shells
    "sshd",
    "sshd-session",
    "sshd-auth",
    "ssh",
    "mosh-server",
    "mosh-client",
    "dropbear",
    "autossh",
];

/// comms of wrappers, which run the program that is the session, unless a rule has its own list.
pub const WRAPPERS_DEFAULT: [&str; 32] = [
    "sudo",
    "doas",
    "pkexec",
    "env",
    "timeout",
    "nice",
    "ionice",
    "chrt",
    "taskset",
    "nohup",
    "setsid",
    "stdbuf",
    "unbuffer",
    "script",
    "scriptreplay",
    "npx",
    "npm exec*",
    "npm run*",
    "uv",
    "uvx",
    "pipx",
    "strace",
    "ltrace",
    "unshare",
    "nsenter",
    "setpriv",
    "flock",
    "chronic",
    "time",
    "direnv",
    "systemd-run",
    "dumb-init",
];

/// How old a process must be to be a session where there is no configuration: it excludes `ls` and other short commands.
const MIN_AGE_DEFAULT: Duration = Duration::from_secs(1);

/// A `[[session]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionSection {
    cwd: Option<Spanned<String>>,
    tty: Option<Spanned<String>>,
    comm: Option<Spanned<OneOrMore>>,
    program: Option<Spanned<OneOrMore>>,
    not_comm: Option<Spanned<OneOrMore>>,
    wrappers: Option<Spanned<OneOrMore>>,
    exe: Option<Spanned<String>>,
    cgroup: Option<Spanned<String>>,
    user: Option<Spanned<String>>,
    #[serde(default)]
    owner: bool,
    min_age: Option<Spanned<String>>,
    name: Option<Spanned<String>>,
}

/// The rule that applies without a configuration.
pub fn default_rule() -> Rule {
    let glob = |glob: &str| Glob::name(glob).map(boxed);
    let globs = |globs: &[&str]| globs.iter().copied().filter_map(|it| glob(it).ok()).collect();
    Rule {
        home: HomeRule::Cwd,
        tty: Glob::path("pts/*").map_or(TtyRule::Any, |pts| TtyRule::Matches(boxed(pts))),
        comm: Vec::new(),
        program: Vec::new(),
        not_comm: globs(&NOT_COMM_DEFAULT),
        wrappers: globs(&WRAPPERS_DEFAULT),
        exe: None,
        cgroup: None,
        uid: None,
        owner: false,
        min_age_ns: MIN_AGE_DEFAULT.as_nanos() as u64,
        name: "{basename}".into(),
    }
}

impl SessionSection {
    /// The rule, or the fault of the section. What can never match is added to `warnings`.
    pub(super) fn compile(self, warnings: &mut Vec<ConfigFault>) -> Result<Rule, ConfigFault> {
        let default = default_rule();
        let mut comms = |own: Option<Spanned<OneOrMore>>, default| match own {
            Some(own) => {
                let globs = OneOrMore::strings(own);
                warnings.extend(globs.iter().filter_map(never_a_comm));
                globs.into_iter().map(|glob| spanned(glob, |it| Glob::name(it).map(boxed))).collect()
            }
            None => Ok(default),
        };
        let programs = self.program.map(OneOrMore::strings).unwrap_or_default();
        let path = |field: &'static str| {
            move |glob: &str| match glob.starts_with('/') {
                true => Glob::path(glob).map(boxed),
                false => Err(format!(
                    "{field} is matched against absolute paths, found {glob:?}: begin it with `/`"
                )),
            }
        };
        Ok(Rule {
            home: self.cwd.map_or(Ok(HomeRule::Cwd), |cwd| spanned(cwd, home))?,
            tty: self.tty.map_or(Ok(TtyRule::Any), |tty| spanned(tty, terminal))?,
            comm: comms(self.comm, Vec::new())?,
            program: programs.into_iter().map(|glob| spanned(glob, program)).collect::<Result<_, _>>()?,
            not_comm: comms(self.not_comm, default.not_comm)?,
            wrappers: comms(self.wrappers, default.wrappers)?,
            exe: self.exe.map(|exe| spanned(exe, path("exe"))).transpose()?,
            cgroup: self.cgroup.map(|cgroup| spanned(cgroup, path("cgroup"))).transpose()?,
            uid: self.user.map(|user| spanned(user, uid)).transpose()?,
            owner: self.owner,
            min_age_ns: self.min_age.map_or(Ok(0), |age| spanned(age, min_age))?,
            name: self.name.map_or(Ok(default.name), |name| spanned(name, template))?,
        })
    }
}

fn boxed(glob: Glob) -> Box<dyn Pattern> {
    Box::new(glob)
}

/// Compiles one value; a fault is reported at its place.
fn spanned<T>(
    value: Spanned<String>,
    compile: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, ConfigFault> {
    let span = value.span();
    compile(value.get_ref()).map_err(|message| ConfigFault { span: Some(span), message })
}

/// The fault of a glob that matches no comm, because the kernel keeps fewer bytes.
fn never_a_comm(glob: &Spanned<String>) -> Option<ConfigFault> {
    let (text, longest) = (glob.get_ref(), COMM_LEN - 1);
    (bytes_min(text) > longest).then(|| ConfigFault {
        span: Some(glob.span()),
        message: format!(
            "{text:?} matches no comm, because the kernel cuts comm to {longest} bytes: shorten it, or use `program`"
        ),
    })
}

fn program(glob: &str) -> Result<Box<dyn Pattern>, String> {
    match glob.contains('/') {
        false => Glob::name(glob).map(boxed),
        true => Err(format!("program is a name without a path, found {glob:?}: use `exe` for a path")),
    }
}

fn home(glob: &str) -> Result<HomeRule, String> {
    if !glob.starts_with('/') {
        let next = "write the directory's absolute path, beginning with `/`";
        return Err(match glob.starts_with('~') {
            true => format!("`~` has no meaning for a daemon, found {glob:?}: {next}"),
            false => format!("cwd must be an absolute path, found {glob:?}: {next}"),
        });
    }
    if Path::new(glob).components().any(|part| part == Component::ParentDir) {
        return Err(format!("cwd cannot hold `..`, found {glob:?}: write the path that it leads to"));
    }
    let (literal, wild) = split_literal(glob);
    let mut canonical = globset::escape(&canonicalize(Path::new(literal))?);
    if !wild.is_empty() {
        // The root is "/" as a whole path, and empty before a component.
        canonical.truncate(canonical.trim_end_matches('/').len());
        canonical.push_str(wild.trim_end_matches('/'));
    }
    Glob::path(&canonical).map(|glob| HomeRule::Prefix(boxed(glob)))
}

/// The path with the symlinks of its existing part resolved, because the kernel reports paths without symlinks.
fn canonicalize(path: &Path) -> Result<String, String> {
    let mut missing = PathBuf::new();
    let mut existing = path;
    let found = loop {
        match std::fs::canonicalize(existing) {
            Ok(found) => break found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(format!(
                    "{} cannot be resolved: {error}; write a path that the daemon may search",
                    existing.display()
                ));
            }
        }
        let (Some(parent), Some(leaf)) = (existing.parent(), existing.file_name()) else {
            break PathBuf::from("/");
        };
        missing = if missing.as_os_str().is_empty() { leaf.into() } else { Path::new(leaf).join(&missing) };
        existing = parent;
    };
    let whole = if missing.as_os_str().is_empty() { found } else { found.join(missing) };
    whole.into_os_string().into_string().map_err(|path| {
        format!(
            "{} leads to a path that is not UTF-8 ({path:?}): use a wildcard for that part",
            existing.display()
        )
    })
}

fn terminal(rule: &str) -> Result<TtyRule, String> {
    match rule {
        "any" => Ok(TtyRule::Any),
        "none" => Ok(TtyRule::None),
        "" => Err("tty is empty: write \"any\", \"none\" or a glob such as \"pts/*\"".into()),
        glob if glob.starts_with('/') => Err(format!(
            "tty is a terminal's name without /dev/, found {glob:?}: write for instance \"pts/*\""
        )),
        glob => Glob::path(glob).map(|glob| TtyRule::Matches(boxed(glob))),
    }
}

fn uid(user: &str) -> Result<u32, String> {
    match nix::unistd::User::from_name(user) {
        Ok(Some(known)) => Ok(known.uid.as_raw()),
        Ok(None) => user.parse().map_err(|_| {
            format!(
                "there is no user {user:?} on this machine: create it, correct the name, or write its number"
            )
        }),
        Err(error) => Err(format!("user {user:?} cannot be looked up: {error}; write its number instead")),
    }
}

fn min_age(age: &str) -> Result<u64, String> {
    let expected =
        || format!("min_age must be a span of time, found {age:?}: write for instance \"1s\" or \"500ms\"");
    let span: SignedDuration = age.parse().map_err(|_| expected())?;
    u64::try_from(span.as_nanos()).map_err(|_| expected())
}

fn template(name: &str) -> Result<String, String> {
    let rest = name.replace("{basename}", "").replace("{home}", "").replace("{program}", "");
    if name.is_empty() || rest.contains(['{', '}']) {
        return Err(format!(
            "name may hold the placeholders {{basename}}, {{home}} and {{program}} only, found {name:?}: correct it"
        ));
    }
    Ok(name.into())
}
