//! A container has a pid namespace of its own: observer could not see the host's processes, and says so.

use crate::system::{UNIT, eventually, installed, journal, property, systemctl};

#[test]
fn inside_a_container_it_refuses_and_says_where_to_run_it() {
    let _alone = installed();
    let started = systemctl(&["start", UNIT]);
    assert_eq!(started.code, Some(1), "it is not ready: {started:?}");
    let said = journal();
    assert!(said.contains("observer runs inside a pid namespace (a container)"), "{said}");
    assert!(said.contains("run it on the host itself"), "{said}");
    // It is tried again all the same: nobody needs to come back once it is mended.
    eventually("another try", || property("NRestarts").parse::<u32>().expect("a number") >= 2);
    assert_eq!(systemctl(&["stop", UNIT]).code, Some(0));
    assert!(!std::path::Path::new(crate::system::SOCKET).exists(), "nothing is left");
}
