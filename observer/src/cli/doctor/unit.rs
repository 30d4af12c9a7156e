//! What systemd's unit decides for the service.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::api::check::{Check, Verdict};

/// The configuration of the service, unless [`DEFAULTS`] names another.
const CONFIG_DEFAULT: &str = "/etc/observer/observer.toml";
/// The file with variables of the unit.
const DEFAULTS: &str = "/etc/default/observer";
/// The variable there that names a configuration.
const CONFIG_VARIABLE: &str = "OBSERVER_CONFIG=";

/// The configuration with which the unit starts the daemon, if it is there.
pub fn config() -> Option<PathBuf> {
    let defaults = fs::read_to_string(DEFAULTS).unwrap_or_default();
    Some(config_of(&defaults).unwrap_or_else(|| CONFIG_DEFAULT.into())).filter(|file| file.exists())
}

fn config_of(defaults: &str) -> Option<PathBuf> {
    let named = defaults.lines().rev().find_map(|line| line.trim().strip_prefix(CONFIG_VARIABLE));
    named.map(|name| name.trim_matches(['"', '\'']).into())
}

/// Whether the unit lets the service reach a database on another machine. `None` where systemd has no such unit.
pub fn addresses() -> Option<Check> {
    let mut command = Command::new("systemctl");
    command.args(["show", "observer.service", "--property=LoadState,IPAddressAllow,IPAddressDeny"]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    addresses_of(&String::from_utf8_lossy(&output.stdout))
}

fn addresses_of(properties: &str) -> Option<Check> {
    let value = |name: &str| properties.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value("LoadState").filter(|state| *state == "loaded")?;
    let name = "mirror: network of the service";
    let (allowed, denied) = (value("IPAddressAllow").unwrap_or(""), value("IPAddressDeny").unwrap_or(""));
    Some(match (allowed, denied) {
        (_, "") => Check::new(name, Verdict::Fine, "the unit denies no addresses"),
        ("", _) => Check::new(
            name,
            Verdict::Fails,
            "the unit allows no address: `systemctl edit observer`, in [Service] IPAddressAllow= with the addresses of the \
             database and of the servers that resolve its name (docs/mirror.md)",
        ),
        (allowed, _) => Check::new(
            name,
            Verdict::Fine,
            format!(
                "the unit allows {allowed}: the database and the servers that resolve its name have to be among these"
            ),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_allows_no_address_is_a_problem() {
        let verdict = |allow: &str, deny: &str| {
            let check =
                addresses_of(&format!("LoadState=loaded\nIPAddressAllow={allow}\nIPAddressDeny={deny}\n"));
            check.map(|check| check.verdict)
        };
        assert_eq!(verdict("", "::/0 0.0.0.0/0"), Some(Verdict::Fails));
        assert_eq!(verdict("192.0.2.7/32", "::/0 0.0.0.0/0"), Some(Verdict::Fine));
        assert_eq!(verdict("", ""), Some(Verdict::Fine));
        assert_eq!(addresses_of("LoadState=not-found\nIPAddressAllow=\nIPAddressDeny=\n"), None);
        assert_eq!(addresses_of(""), None);
    }

    #[test]
    fn the_last_configuration_that_the_defaults_name_counts() {
        let defaults =
            "# OBSERVER_CONFIG=/a\nOBSERVER_CONFIG=/b\nOBSERVER_CONFIG=\"/c d\"\nOBSERVER_ARGS=x\n";
        assert_eq!(config_of(defaults), Some("/c d".into()));
        assert_eq!(config_of("OBSERVER_ARGS=x\n"), None);
    }
}
