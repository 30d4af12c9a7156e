//! A container has its own pid namespace: observer could not see the host's processes, and it refuses to run
//! with that reason.

use crate::system::{UNIT, eventually, installed, journal, property, systemctl};

#[test]
fn inside_a_container_the_daemon_refuses_to_run_and_says_where_to_run_it() {
    let _alone = installed();
    let started = systemctl(&["start", UNIT]);
    assert_eq!(started.code, Some(1), "it is not ready: {started:?}");
    let result = journal();
    assert!(result.contains("observer runs inside a pid namespace (a container)"), "{result}");
    assert!(result.contains("run it on the host itself"), "{result}");
    // systemd retries the start all the same, so that no person needs to start the unit after the cause is
    // removed.
    eventually("another try", || property("NRestarts").parse::<u32>().expect("a number") >= 2);
    assert_eq!(systemctl(&["stop", UNIT]).code, Some(0));
    assert!(!std::path::Path::new(crate::system::SOCKET).exists(), "nothing is left");
}
