//! `observer top --database-url` shows the sessions of all hosts on a terminal.

use std::fs::File;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use observer_harness::Pty;
use observer_harness::daemon::product;

use crate::schema::{applied, present, server};

const HOST: &str = "6f9619ff-8b86-5d11-b42d-00cf4fc964ff";
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn sessions_of_all_hosts_are_shown_on_a_terminal_until_it_is_quit() {
    let database = applied();
    let mut daemon = server().session(&database, "postgres");
    let number = present(&mut daemon, HOST);
    let insert = |name: &str| {
        format!(
            "INSERT INTO observer.session (host_no, home_id, home, name, state, certain, starts, detail)
             VALUES ({number}, '{name}'::bytea, '/h/{name}', '{name}', 'detached', true, '{{}}',
                 '{{\"name\": \"{name}\", \"home\": \"/h/{name}\", \"pid\": 7, \"instance\": 1, \"state\": \"detached\"}}')"
        )
    };
    daemon.ask(&insert("alpha"));
    daemon.ask(&insert("beta"));
    let pty = Pty::open();
    let mut command = Command::new(product());
    command.args(["top", "--database-url", &server().url(&database), "a*"]).env("TERM", "xterm");
    pty.control(&mut command);
    let mut child = command.spawn().expect("start observer top");
    let shown = pty.read_until("alpha", LIMIT);
    assert!(shown.contains("HOST") && !shown.contains("beta"), "{shown:?}");
    let mut keys = File::from(pty.master.try_clone().expect("duplicate the master"));
    keys.write_all(b"\r").expect("type Enter");
    let details = pty.read_until("LAST EVENTS", LIMIT);
    assert!(details.contains("processes are known to the host's own daemon"), "{details:?}");
    keys.write_all(b"q").expect("type q");
    pty.read_until("\x1b[?1049l", LIMIT);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}
