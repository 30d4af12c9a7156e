//! Tests the unit with a configuration, and what systemd is told.

use std::fs;

use crate::system::{
    UNIT, as_user, eventually, installed, journal, main_pid, observer, property, start, systemctl,
};

const FILE: &str = "/etc/observer/observer.toml";
/// The rule's homes.
const RULE: &str = "[[session]]\ncwd = \"/srv/agents/*\"\n";

/// The configuration of the package with other content, and as it was once this is dropped.
struct Configured {
    packaged: String,
}

impl Configured {
    fn new() -> Self {
        let packaged = fs::read_to_string(FILE).expect("the package has a configuration");
        Self { packaged }.write(RULE)
    }

    fn write(self, text: &str) -> Self {
        fs::write(FILE, text).expect("write the configuration");
        self
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        let _ = fs::write(FILE, &self.packaged);
    }
}

#[test]
fn a_reload_waits_for_the_daemon_and_fails_where_the_former_rules_stay() {
    let _alone = installed();
    let configured = Configured::new();
    start();
    let daemon = main_pid();
    let configured = configured.write(&format!("{RULE}[[session]]\nprogram = \"vim\"\n"));
    let reloaded = systemctl(&["reload", UNIT]);
    assert_eq!(reloaded.code, Some(0), "{reloaded:?} {}", journal());
    assert!(journal().contains("the rules were read again: 2 of them"), "{}", journal());

    let configured = configured.write("[[session]]\ncmm = \"vim\"\n");
    let refused = systemctl(&["reload", UNIT]);
    assert_ne!(refused.code, Some(0), "{refused:?} {}", journal());
    assert!(journal().contains("the rules stay as they are"), "{}", journal());
    let by_hand = observer(&["reload"]);
    assert_eq!(by_hand.code, Some(2), "{by_hand:?}");
    for part in ["the former rules stay in force", "observer.toml:2:1", "cmm"] {
        assert!(by_hand.stderr.contains(part), "{part}: {}", by_hand.stderr);
    }
    assert_eq!(observer(&["check-config", FILE]).code, Some(2), "before a daemon uses it");
    let by_member = as_user("member", &["reload"]);
    assert_eq!(by_member.code, Some(4), "who may ask may not decide: {by_member:?}");
    assert!(by_member.stderr.contains("sudo observer reload"), "{}", by_member.stderr);

    drop(configured.write(RULE));
    assert_eq!((main_pid(), property("ActiveState")), (daemon, "active".into()), "{}", journal());
}

#[test]
fn more_options_do_not_take_the_place_of_the_configuration() {
    const OPTIONS: &str = "/etc/default/observer";
    let _alone = installed();
    let _configured = Configured::new();
    fs::write(OPTIONS, "OBSERVER_ARGS=\"--log-level debug\"\n").expect("write the options");
    start();
    let status = observer(&["status", "--json"]);
    let _ = fs::remove_file(OPTIONS);
    let json: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
    assert_eq!(json.get("config").and_then(|path| path.as_str()), Some(FILE), "{status:?}");
}

#[test]
fn systemd_shows_sessions_and_gaps() {
    let _alone = installed();
    start();
    eventually("the line of the state", || {
        let text = property("StatusText");
        text.contains(" session") && text.contains("no gaps")
    });
}
