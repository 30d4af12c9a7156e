//! A program that kills others before the kernel has to.

use std::fs;

use observer_harness::fixture::PuppetOptions;
use observer_harness::{eventually, programs, text};
use serde_json::{Value, json};

use crate::stage::{LIMIT, Stage};

const CONFIG: &str = "[[session]]\ncwd = \"{dir}/homes/*\"\ncomm = \"agent\"\nmin_age = \"0s\"\n";
/// The agent's parent becomes earlyoom when it is told to. It is the first process of a pid namespace, whose /proc shows it
/// nothing else that it may kill, and by its options there is never enough memory.
const SCRIPT: &str =
    "\"$0\" \"$@\" & until test -e \"$GO\"; do sleep 0.02; done; exec earlyoom -r 0 -m 99,1 -s 100,1";

#[test]
fn a_session_that_earlyoom_kills_has_it_as_the_sender() {
    programs::require("earlyoom");
    let stage = Stage::new(CONFIG);
    let home = stage.home("homes/one");
    let go = stage.fixture.dir().join("go");
    let wrapper = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", SCRIPT];
    let agent = stage.fixture.cast(&PuppetOptions {
        program: Some(stage.fixture.program("agent")),
        wrapper: wrapper.map(Into::into).to_vec(),
        dir: Some(home.clone()),
        env: vec![("GO".into(), go.clone().into())],
        ..PuppetOptions::default()
    });
    eventually("the agent has a session", LIMIT, || match stage.pids(&home) {
        pids if pids == [agent.pid] => Ok(()),
        pids => Err(format!("{pids:?}")),
    });
    fs::write(&go, "").expect("have it kill");
    let end = eventually("the session's end", LIMIT, || {
        let entries = stage.entries(&home);
        entries.iter().rfind(|entry| entry["kind"] == "session_ended").cloned().ok_or(format!("{entries:#?}"))
    });
    let death = end.get("death").expect("a certificate");
    let killed = [&death["kind"], &death["signal_name"], &death["oom"], &death["polite_signal"]];
    assert_eq!(killed, [&json!("signaled"), &json!("SIGTERM"), &Value::Null, &Value::Null], "{death:#}");
    let sender = &death["sender"];
    let by = [&sender["kind"], &sender["by"], &sender["comm"]];
    assert_eq!(by, [&json!("user"), &json!("kill"), &json!("earlyoom")], "{death:#}");
    let pid = text::u64_any(sender, "pid").expect("a pid");
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).expect("it lives");
    assert_eq!(comm.trim_end(), "earlyoom", "{death:#}");
    let told = stage.daemon.observer(&["history", "--killed"]);
    let sentence = format!("pid {pid} (earlyoom)");
    assert!(told.text().contains(&sentence) && told.text().contains("sent SIGTERM"), "{sentence}: {told:?}");
}
