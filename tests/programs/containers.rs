//! Runtimes of containers and sandboxes, in cgroups with the names that managers give: what they run is shown in its unit
//! and its container.

use std::fs;
use std::path::Path;
use std::process::Command;

use observer_harness::fixture::OwnedProcess;
use observer_harness::{Cgroup, eventually};
use serde_json::{Value, json};

use crate::stage::{LIMIT, Stage};
use crate::{container, witness};

/// Every program in a home that runs in a container is a session, at once.
const CONFIG: &str =
    "[[session]]\ncwd = \"{dir}/homes/*\"\ntty = \"any\"\nmin_age = \"0s\"\ncontainer = \"*\"\n";
/// An id as docker and others have them.
const ID: &str = "1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c";
/// What runs inside.
const VIM: &str = "vim -Nu NONE -n notes";

/// A control group below another one.
fn below(outer: &Cgroup, name: &str) -> Cgroup {
    let path = outer.path.join(name);
    fs::create_dir(&path).expect("create a cgroup");
    Cgroup { path }
}

/// The session of a home, once vim runs there, with its unit and its container.
#[track_caller]
fn session(stage: &Stage, home: &Path) -> (Value, Value) {
    let vim = eventually("vim runs", LIMIT, || witness::right_process(home, VIM));
    eventually("vim is the session", LIMIT, || {
        let rows = stage.daemon.list();
        let row = rows.iter().find(|row| row["home"].as_str() == home.to_str() && row["pid"] == vim.pid);
        row.map(|row| (row["unit"].clone(), row["container"].clone())).ok_or_else(|| format!("{rows:#?}"))
    })
}

/// Ends what runs in a home.
#[track_caller]
fn end(home: &Path) {
    eventually("nothing runs in the home", LIMIT, || {
        let processes = witness::processes_in(home);
        let shown = witness::shown(&processes);
        let owned: Vec<_> = processes.iter().map(|process| OwnedProcess::new(process.pid)).collect();
        drop(owned);
        if processes.is_empty() { Ok(()) } else { Err(shown) }
    });
}

#[test]
fn what_runc_runs_is_in_the_container_that_its_cgroup_names() {
    let stage = Stage::new(CONFIG);
    let home = stage.home("homes/runc");
    let dir = stage.fixture.dir();
    let bundle = container::bundle(&dir, &home, &VIM.split(' ').collect::<Vec<_>>());
    let outer = Cgroup::new(&stage.fixture.address);
    let docker = below(&outer, "docker");
    let inner = below(&docker, ID);
    let run = format!(
        "sh -c 'echo 0 > {}/cgroup.procs; exec runc --root {}/runc run --bundle {} {ID}'",
        inner.path.display(),
        dir.display(),
        bundle.display()
    );
    let program = stage.start(&run, &home);
    assert_eq!(session(&stage, &home), (Value::Null, json!(ID)));
    let listed = stage.daemon.observer(&["list", "--long"]);
    assert!(listed.text().contains("CONTAINER") && listed.text().contains(ID), "{listed:?}");
    end(&home);
    drop(program);
    let mut delete = Command::new("runc");
    let _ = delete.arg("--root").arg(dir.join("runc")).args(["delete", "--force", ID]).output();
    drop((inner, docker, outer));
}

#[test]
fn what_runs_in_a_sandbox_is_in_the_unit_and_the_container_of_its_cgroup() {
    let stage = Stage::new(CONFIG);
    let home = stage.home("homes/bwrap");
    let outer = Cgroup::new(&stage.fixture.address);
    let machine = below(&outer, r"machine-web\x2d1.scope");
    let (payload, supervisor) = (below(&machine, "payload"), below(&machine, "supervisor"));
    let bwrap = format!("bwrap --dev-bind / / --unshare-pid --proc /proc {VIM}");
    let start = |group: &Cgroup| {
        stage.start(&format!("sh -c 'echo 0 > {}/cgroup.procs; exec {bwrap}'", group.path.display()), &home)
    };
    let inside = start(&payload);
    assert_eq!(session(&stage, &home), (json!(r"machine-web\x2d1.scope"), json!("web-1")));
    end(&home);
    drop(inside);
    stage.wait_pids(&home, &[]);
    // The runtime itself is in no container.
    let beside = start(&supervisor);
    let vim = eventually("vim runs", LIMIT, || witness::right_process(&home, VIM));
    stage.wait_pids(&home, &[]);
    let explained = stage.daemon.observer(&["explain", &vim.pid.to_string()]);
    assert!(explained.text().contains("it is in no container that is known (container)"), "{explained:?}");
    end(&home);
    drop(beside);
    drop((payload, supervisor, machine, outer));
}
