//! One watcher receives the changes of many hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::host::Host;
use super::{SERVER, SOON, applied, is_mirrored};
use crate::watch::{Watcher, parsed};

#[test]
fn a_watcher_of_the_database_receives_every_change_of_each_host_once() {
    const CHANGES: usize = 2000;
    let database = applied(&SERVER);
    let hosts = [Host::new(&SERVER.url(&database)), Host::new(&SERVER.url(&database))];
    hosts.iter().for_each(|host| host.delivered(SOON));
    let watcher = Watcher::start(&database, &["--json"]);
    watcher.frames("the state", "snapshot_end");
    for _ in 0..CHANGES / 10 {
        for host in &hosts {
            host.churn(7, 10);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut received: BTreeMap<String, Vec<(u64, String, String)>> = BTreeMap::new();
    let mut left = hosts.len() * CHANGES;
    watcher.until("all changes of both", |line| {
        let frame = parsed(line);
        let text = |name: &str| frame[name].as_str().unwrap_or_default().to_owned();
        if text("kind").starts_with("session_") {
            let event = (frame["event_seq"].as_u64().unwrap(), text("kind"), text("home"));
            received.entry(text("host_id")).or_default().push(event);
            left -= 1;
        }
        left == 0
    });
    for host in &hosts {
        let world = host.shared.world();
        let pushed: Vec<_> = world
            .entries
            .iter()
            .map(|entry| {
                let detail: Value = serde_json::from_str(&entry.detail).unwrap();
                (entry.seq, entry.kind.to_string(), detail["home"].as_str().unwrap().to_owned())
            })
            .collect();
        assert_eq!(pushed.len(), CHANGES);
        assert_eq!(received[&host.host_id.to_string()], pushed);
    }
    for host in &hosts {
        host.delivered(SOON);
        is_mirrored(&SERVER, &database, host);
    }
}
