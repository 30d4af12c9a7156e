//! The package as an operator handles it: installed, upgraded, removed and purged.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::MutexGuard;

use observer_harness::fixture::PuppetOptions;
use observer_harness::observe::CommandResult;
use observer_harness::{Fixture, Puppet};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::system::{PACKAGE, SOCKET, UNIT, alone, dpkg, eventually, journal, main_pid, property, systemctl};

/// The same package with a lower version, in which the configuration is another one, and a conffile.
const FORMER: &str = "/vm/packages/former.deb";
/// A package with the program of a former version, and the unit of that time.
const EARLIER: &str = "/vm/packages/earlier.deb";
/// What an operator wrote with it: in that version the package had no configuration, and the unit named none.
const EARLIER_CONFIGURATION: &str = r#"[daemon]
env = ["TMUX_PANE", "TMUX", "STY", "WINDOW", "PANE"]

[journal]
max_age = "60d"

[[ignore]]
program = ["less", "tail"]

[[session]]
cwd = "/srv/others/*"
comm = ["node", "python*"]
not_comm = ["htop"]
wrappers = ["run-it"]
user = "root"
min_age = "1s"
name = "{program}-{basename}"
"#;
/// The options of the service, and those that the documents of that time gave as an example.
const OPTIONS: (&str, &str) =
    ("/etc/default/observer", "OBSERVER_ARGS=\"--config /etc/observer/observer.toml\"\n");
/// Version of the journal that the program of that time writes.
const EARLIER_JOURNAL: i32 = 2;
const CONFIGURATION: &str = "/etc/observer/observer.toml";
const TEMPLATE: &str = "/usr/share/observer/observer.toml";
const JOURNAL: &str = "/var/lib/observer/journal.sqlite";
/// Deaths by SIGKILL and SIGTERM in JSON.
const KILLED: &str = "\"signal\":9";
const TERMINATED: &str = "\"signal\":15";
/// What an operator adds to the configuration.
const RULE: &str = "\n[[session]]\ncwd = \"/srv/agents/*\"\n";

/// Purges the package, and returns a guard under which no other test uses it.
fn purged() -> MutexGuard<'static, ()> {
    let alone = alone();
    dpkg(&["--purge", "observer"]);
    alone
}

fn observer(args: &[&str]) -> CommandResult {
    CommandResult::of(Command::new("observer").args(args))
}

fn version() -> String {
    let query = ["--show", "--showformat=${Version}", "observer"];
    CommandResult::of(Command::new("dpkg-query").args(query)).text().to_owned()
}

/// Adds the rule to the configuration and has the service use it.
fn configure() {
    let mut file = fs::File::options().append(true).open(CONFIGURATION).expect("the configuration");
    file.write_all(RULE.as_bytes()).expect("edit it");
    assert_eq!(systemctl(&["restart", UNIT]).code, Some(0), "{}", journal());
}

/// A program that runs in a home of the rule, once it is the session there.
fn session(fixture: &Fixture, name: &str) -> Puppet {
    let home = Path::new("/srv/agents").join(name);
    fs::create_dir_all(&home).expect("a home");
    let puppet = fixture.cast(&PuppetOptions { dir: Some(home), ..PuppetOptions::default() });
    eventually("it is a session", || is_primary(name, &puppet));
    puppet
}

fn is_primary(name: &str, puppet: &Puppet) -> bool {
    observer(&["pid", name]).text().trim() == puppet.pid.to_string()
}

/// The events of a session in the journal, as lines of JSON. Times without a daemon are no events of it.
fn history(name: &str) -> String {
    let result = observer(&["history", name, "--json"]);
    assert_eq!(result.code, Some(0), "{result:?}");
    let lines = result.text().lines().filter(|line| line.contains("\"kind\":\"session_"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn installing_the_package_starts_the_service_and_enables_it() {
    let _alone = purged();
    dpkg(&["--install", PACKAGE]);
    eventually("it is ready", || property("ActiveState") == "active");
    assert_eq!(property("UnitFileState"), "enabled");
    assert!(property("FragmentPath").ends_with("/lib/systemd/system/observer.service"));
    assert_eq!(property("NRestarts"), "0", "{}", journal());
    // Right away: the daemon was ready when dpkg came back.
    assert_eq!(observer(&["audit"]).code, Some(0));
    let status = observer(&["status", "--json"]).json();
    assert_eq!(status.get("config"), Some(&CONFIGURATION.into()), "{status:#}");
    let checked = observer(&["rules", "check", CONFIGURATION]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let verified = CommandResult::of(Command::new("dpkg").args(["--verify", "observer"]));
    assert_eq!((verified.code, verified.text()), (Some(0), ""), "no file differs from the package's");
    let read = |path| fs::read_to_string(path).expect("it is there");
    assert_eq!(read(CONFIGURATION), read(TEMPLATE));
}

#[test]
fn an_upgrade_keeps_the_journal_and_an_edited_configuration() {
    let _alone = purged();
    dpkg(&["--install", FORMER]);
    assert!(version().ends_with("~former"), "{}", version());
    configure();
    let fixture = Fixture::new();
    let (stays, ends) = (session(&fixture, "alpha"), session(&fixture, "beta"));
    ends.killed(libc::SIGKILL);
    eventually("its end is in the journal", || history("beta").contains(KILLED));
    let (daemon, before) = (main_pid(), history("alpha"));
    let edited = fs::read(CONFIGURATION).expect("it is there");

    dpkg(&["--install", PACKAGE]);
    assert!(!version().ends_with("~former"), "{}", version());
    assert_eq!(property("ActiveState"), "active", "{}", journal());
    assert!(![0, daemon].contains(&main_pid()), "the service was restarted");
    assert_eq!(fs::read(CONFIGURATION).expect("it is there"), edited, "the configuration was kept");
    assert_ne!(fs::read(TEMPLATE).expect("it is there"), edited, "the template is another one");
    assert!(history("beta").contains(KILLED), "the journal was kept");
    assert_eq!(history("alpha"), before, "the upgrade is no event of a session that lives through it");
    assert!(is_primary("alpha", &stays), "the map is right");
    assert_eq!(observer(&["pid", "beta"]).code, Some(1), "certainly none");
    assert_eq!(observer(&["audit"]).code, Some(0), "no drift");
}

/// Version of the journal's file.
fn journal_version() -> i32 {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let file = Connection::open_with_flags(JOURNAL, flags).expect("the journal");
    file.pragma_query_value(None, "user_version", |row| row.get(0)).expect("its version")
}

/// Number, kind and pid of each of these lines of a history.
fn events(history: &str) -> Vec<[Value; 3]> {
    let lines = history.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines
        .map(|event| ["event_seq", "kind", "pid"].map(|field| event.get(field).cloned().unwrap_or_default()))
        .collect()
}

#[test]
#[ignore = "needs the program of a former version: cargo xtask build --former"]
fn an_upgrade_from_a_former_version_keeps_its_journal_and_its_configuration() {
    let _alone = purged();
    fs::create_dir_all("/etc/observer").expect("a directory for the configuration");
    fs::write(CONFIGURATION, EARLIER_CONFIGURATION).expect("write as root");
    fs::write(OPTIONS.0, OPTIONS.1).expect("write as root");
    dpkg(&["--install", EARLIER]);
    assert!(version().ends_with("~earlier"), "{}", version());
    configure();
    let fixture = Fixture::new();
    let (stays, ends) = (session(&fixture, "delta"), session(&fixture, "epsilon"));
    ends.killed(libc::SIGKILL);
    eventually("its end is in the journal", || history("epsilon").contains(KILLED));
    assert_eq!(journal_version(), EARLIER_JOURNAL);
    let (daemon, before) = (main_pid(), ["delta", "epsilon"].map(|name| events(&history(name))));
    let edited = fs::read(CONFIGURATION).expect("it is there");

    dpkg(&["--install", PACKAGE]);
    assert!(!version().ends_with("~earlier"), "{}", version());
    assert_eq!(property("ActiveState"), "active", "{}", journal());
    assert_eq!(property("NRestarts"), "0", "{}", journal());
    assert!(![0, daemon].contains(&main_pid()), "the service was restarted");
    assert_eq!(fs::read(CONFIGURATION).expect("it is there"), edited, "the configuration was kept");
    assert_eq!(fs::read_to_string(OPTIONS.0).expect("they are there"), OPTIONS.1, "the options were kept");
    let status = observer(&["status", "--json"]).json();
    assert_eq!(status.get("config"), Some(&CONFIGURATION.into()), "{status:#}");
    assert!(journal_version() > EARLIER_JOURNAL, "the journal was brought to the present version");
    assert!(history("epsilon").contains(KILLED), "{}", history("epsilon"));
    let after = ["delta", "epsilon"].map(|name| events(&history(name)));
    assert_eq!(after, before, "the upgrade is no event of a session that lives through it, or is over");
    assert!(is_primary("delta", &stays), "the map is right");
    assert_eq!(observer(&["pid", "epsilon"]).code, Some(1), "certainly none");
    assert_eq!(observer(&["audit"]).code, Some(0), "no drift");
    stays.killed(libc::SIGTERM);
    eventually("the history goes on", || history("delta").contains(TERMINATED));
    // Other tests have their own options.
    dpkg(&["--purge", "observer"]);
}

#[test]
fn removing_the_package_keeps_the_state_and_purging_leaves_nothing() {
    let _alone = purged();
    dpkg(&["--install", PACKAGE]);
    configure();
    let fixture = Fixture::new();
    session(&fixture, "gamma").killed(libc::SIGTERM);
    eventually("its end is in the journal", || history("gamma").contains(TERMINATED));

    dpkg(&["--remove", "observer"]);
    assert_eq!(main_pid(), 0, "the service is stopped");
    assert!(!Path::new(SOCKET).exists() && !Path::new("/usr/bin/observer").exists());
    assert!(Path::new(JOURNAL).exists(), "the journal is kept");
    assert!(fs::read_to_string(CONFIGURATION).expect("it is there").ends_with(RULE), "the edit is kept");

    dpkg(&["--install", PACKAGE]);
    eventually("it is ready again", || property("ActiveState") == "active");
    assert!(history("gamma").contains(TERMINATED), "{}", history("gamma"));

    // What an operator may add by the documents.
    fs::write("/etc/observer/database_url", "postgresql://h/d").expect("write as root");
    fs::write("/etc/default/observer", "").expect("write as root");
    dpkg(&["--purge", "observer"]);
    let mut find = Command::new("find");
    find.args(["/", "/run", "-xdev", "-name", "*observer*", "!", "-name", "*observer-tests*"]);
    let found = CommandResult::of(find.args(["!", "-path", "/vm*", "!", "-name", "observer-fixture-*"]));
    assert_eq!(found.text().trim(), "", "left behind");
    let user = CommandResult::of(Command::new("id").args(["--user", "observer"]));
    assert_eq!(user.code, Some(0), "the user stays, because files elsewhere could be its own");
}
