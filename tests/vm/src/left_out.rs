//! What the machines leave out: tests that pass on this machine's kernel in the same run, and whose result no other kernel
//! decides. Each has its reason, and a run prints all of them.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::targets::{SERVICE, Test};
use crate::ways::{Breadth, Way};
use observer_harness::command;

/// Machines that leave something out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machines {
    All,
    AllButOldest,
    Between,
}

impl Machines {
    fn has(self, breadth: Breadth) -> bool {
        match breadth {
            Breadth::Every => false,
            Breadth::Oldest => self == Self::All,
            Breadth::Newest => self != Self::Between,
            Breadth::Between => true,
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::All => "every machine",
            Self::AllButOldest => "every machine but that of the oldest kernel",
            Self::Between => "machines between the oldest and the newest kernel",
        }
    }
}

/// Tests of a target that machines leave out.
struct LeftOut {
    machines: Machines,
    /// In which way of running the daemon.
    way: Way,
    target: &'static str,
    /// Parts of their names.
    names: &'static [&'static str],
    reason: &'static str,
}

use Machines::{All, AllButOldest, Between};
use Way::{Own, Service, Tracepoints};

/// Tests of canaries that stay away.
const AWAY: &[&str] = &["canary::a_canary_", "canary::a_daemon_", "canary::a_service_manager_hears_nothing_"];
const AWAY_REASON: &str =
    "what is done about canaries that stay away is the same in every way, in each of which they come round";

/// Everything that is left out.
const LEFT_OUT: &[LeftOut] = &[
    LeftOut {
        machines: All,
        way: Own,
        target: "journal",
        names: &[
            "alone::",
            "changed::",
            "corrupt::",
            "crash::",
            "deleted::",
            "disk::",
            "entries::",
            "kills::",
            "memory::",
            "slow::",
            "restart::a_detached_or_left_session_",
            "restart::a_move_during_the_absence_",
            "restart::a_reboot_",
            "restart::a_session_",
            "restart::an_end_and_a_start_",
        ],
        reason: "the journal takes nothing from the kernel but the facts that other targets check, and what became of those \
                 who died while no daemon ran",
    },
    LeftOut {
        machines: All,
        way: Own,
        target: "refuse",
        names: &["clients::", "words::"],
        reason: "the socket's protocol and the command line are the daemon's own",
    },
    LeftOut {
        machines: All,
        way: Own,
        target: "refuse",
        names: &[
            "machine::a_second_daemon_is_refused_and_names_the_first",
            "machine::a_stale_socket_is_replaced",
            "machine::a_socket_path_that_is_no_socket_is_refused_and_left_unchanged",
            "machine::commands_that_need_a_daemon_fail_without_one",
        ],
        reason: "which file is at the socket's path, and who listens there, is the same on every kernel",
    },
    LeftOut {
        machines: All,
        way: Own,
        target: "refuse",
        names: &[
            "layout::a_file_",
            "layout::a_truncated_file_",
            "layout::a_refusal_names_what_the_kernel_lacks",
        ],
        reason: "files of BTF are read and compared by the daemon's own code; contracts compares each kernel's own file",
    },
    LeftOut {
        machines: All,
        way: Own,
        target: "refuse",
        names: &["layout::a_wrong_offset_is_detected_before_it_shows_wrong_values"],
        reason: "contracts has each kernel notice wrong offsets; this is what each command prints then",
    },
    LeftOut {
        machines: Between,
        way: Own,
        target: "refuse",
        names: &["machine::a_daemon_that_receives_sigterm_removes_its_socket_and_exits_0"],
        reason: "the end of a daemon; the oldest and the newest kernel detach its programs",
    },
    LeftOut {
        machines: All,
        way: Own,
        target: "kernel",
        names: &[
            "contract::a_process_has_the_fields_that_scripts_rely_on",
            "contract::a_session_has_the_fields_that_scripts_rely_on",
            "contract::a_change_of_a_session_has_the_fields_that_changed",
            "contract::the_status_has_the_fields_that_scripts_rely_on",
            "watch::the_stream_begins_with_a_whole_snapshot",
            "watch::without_all_only_sessions_are_published",
        ],
        reason: "the shape of JSON is the daemon's own; other tests compare the values with the kernel's",
    },
    LeftOut {
        machines: All,
        way: Own,
        target: "sessions",
        names: &[
            "roots::",
            "program::",
            "reload::",
            "panes::",
            "default_rule::",
            "conditions::",
            "users::",
            "namespaces::",
        ],
        reason: "which process is admitted and elected follows from the facts, which every machine checks",
    },
    LeftOut {
        machines: All,
        way: Own,
        target: "sessions",
        names: &["waits::", "leftovers::wait_", "timeline::", "trying::"],
        reason: "they read the daemon's frames and journal, whose values other tests compare with the kernel's",
    },
    LeftOut {
        machines: All,
        way: Own,
        target: "sessions",
        names: &[
            "logs::",
            "metrics::no_label_",
            "scrapes::an_address_",
            "scrapes::clients_",
            "scrapes::metrics_",
        ],
        reason: "lines of the log, names of metrics and their socket are the daemon's own",
    },
    LeftOut {
        machines: All,
        way: Own,
        target: "sessions",
        names: &["guide::"],
        reason: "commands that the guide shows; that they are right, other tests of sessions check",
    },
    LeftOut {
        machines: All,
        way: Own,
        target: "sessions",
        names: &["secrets::"],
        reason: "who sees which arguments is the daemon's own; that they are those of the exec, every machine checks",
    },
    LeftOut {
        machines: All,
        way: Own,
        target: "sessions",
        names: &["costs::a_session_cost_what_ten_thousand_processes_used"],
        reason: "the same with hundreds of processes is tried on every kernel",
    },
    LeftOut {
        machines: All,
        way: Own,
        target: "sessions",
        names: &["signals::the_recipe_of_the_guide_routes_a_task_to_one_life_of_a_session"],
        reason: "a script of commands; that each signals its own life only, signals:: tries on every kernel",
    },
    LeftOut {
        machines: All,
        way: Own,
        target: "sessions",
        names: &[
            "homes::a_session_anywhere_below_a_home_belongs_to_the_home",
            "homes::homes_of_a_rule_with_a_symlink_have_their_real_path",
            "homes::two_homes_of_one_name_are_ambiguous_by_name_and_exact_by_path",
            "homes::two_programs_on_two_terminals_in_two_directories_are_two_sessions",
            "lives::a_primary_that_execs_its_own_program_is_the_same_session_with_one_more_start",
            "lives::a_program_that_walks_through_thousands_of_homes_is_one_session_and_causes_no_loss",
            "lives::a_program_younger_than_min_age_is_no_session_yet",
            "lives::a_rule_with_tty_none_admits_processes_without_a_terminal",
            "lives::a_session_that_moves_out_is_left_and_is_live_again_on_its_return",
            "lives::a_session_that_stays_a_second_in_another_home_moves_to_that_home",
            "lives::a_session_that_stops_matching_its_rule_stays_a_session",
            "lives::crashes_",
        ],
        reason: "rules, homes and ages are applied to the facts; what is left has a session lose its home's path, its \
                 home, its terminal and its program",
    },
    LeftOut {
        machines: AllButOldest,
        way: Own,
        target: "sessions",
        names: &[
            "arguments::",
            "labels::",
            "leftovers::a",
            "leftovers::leftovers_",
            "leftovers::what_a_",
            "leftovers::where_",
            "service::",
            "signals::a_stopped_",
            "signals::among_",
            "signals::in_another_pid_namespace_",
            "signals::what_cannot_be_signalled_",
            "signals::with_tree_a",
            "signals::with_wait_",
            "signals::without_",
        ],
        reason: "what a session is, has and leaves follows from the facts, which these machines check",
    },
    LeftOut {
        machines: Between,
        way: Own,
        target: "sessions",
        names: &["homes::", "leftovers::", "lives::", "terminal_times::", "units::"],
        reason: "what a session is and leaves follows from the facts, which these machines check",
    },
    LeftOut {
        machines: Between,
        way: Own,
        target: "sessions",
        names: &["costs::a_session_cost_what_all_"],
        reason: "hundreds of lives; the oldest and the newest kernel count the same processes",
    },
    LeftOut {
        machines: Between,
        way: Own,
        target: "contracts",
        names: &["moved::"],
        reason: "wrong offsets are noticed by the daemon's own comparisons; the members' offsets, each kernel's kept:: checks",
    },
    LeftOut {
        machines: Between,
        way: Own,
        target: "hooks",
        names: &["audit::", "canary::nobody_", "canary::a_service_manager_hears_of_", "full::"],
        reason: "audits, canaries and blind spots are the daemon's own; canaries come round on every kernel",
    },
    LeftOut {
        machines: Between,
        way: Own,
        target: "kernel",
        names: &[
            "hostile::a_hostile_comm_",
            "hostile::a_program_with_a_hostile_file_name_",
            "hostile::hostile_directories_",
        ],
        reason: "no kernel looks at the bytes of a name; long and deep paths, which each walks, stay",
    },
    LeftOut {
        machines: AllButOldest,
        way: Own,
        target: "hooks",
        names: AWAY,
        reason: "what is done about canaries that stay away is the daemon's own; they come round on every kernel",
    },
    LeftOut {
        machines: All,
        way: Tracepoints,
        target: "hooks",
        names: &[
            "choice::functions_are_chosen_where_the_kernel_attaches_to_them",
            "choice::system_call_tracepoints_can_be_requested",
            "same::",
        ],
        reason: "they choose their hooks themselves, so they ran the same in the usual way",
    },
    LeftOut {
        machines: All,
        way: Tracepoints,
        target: "hooks",
        names: &[
            "terminal_gained_by_ioctl",
            "terminal_gained_by_opening_it",
            "terminal_given_up",
            "terminal_taken_from_another",
        ],
        reason: "no exit of a system call reports these; choice:: asserts in the usual way that they are a blind spot",
    },
    LeftOut { machines: All, way: Tracepoints, target: "hooks", names: AWAY, reason: AWAY_REASON },
    LeftOut { machines: All, way: Service, target: "hooks", names: AWAY, reason: AWAY_REASON },
    LeftOut {
        machines: All,
        way: Service,
        target: "hooks",
        names: &["same::"],
        reason: "the service may not attach to system calls, as choice:: asserts; the test ends there",
    },
    LeftOut {
        machines: All,
        way: Tracepoints,
        target: "hooks",
        names: &["audit::"],
        reason: "an audit compares the same fields whatever hooks there are, and does so in the usual way",
    },
    LeftOut {
        machines: All,
        way: Service,
        target: "hooks",
        names: &["audit::"],
        reason: "an audit compares the same fields whatever the user's rights are, and does so in the usual way",
    },
    LeftOut {
        machines: AllButOldest,
        way: Service,
        target: "hooks",
        names: &[
            "a_rename_of_a_file_",
            "chdir_",
            "exchange_of_",
            "lazy_unmount",
            "mount_",
            "removal_of_",
            "rename_",
            "root_that_",
            "setpgid_",
            "setsid",
            "terminal_",
            "user_ids",
        ],
        reason: "choice:: attaches all programs with the service's rights; which of them then run, the usual way shows",
    },
    LeftOut {
        machines: All,
        way: Service,
        target: SERVICE,
        names: &["unit::"],
        reason: "systemd's checks of the unit's files, which a container on this machine makes",
    },
    LeftOut {
        machines: Between,
        way: Service,
        target: SERVICE,
        names: &["package::"],
        reason: "dpkg and the package's scripts ask the kernel nothing; the oldest kernel's machine runs them",
    },
];

fn rows(way: Way, breadth: Breadth, target: &str) -> impl Iterator<Item = &'static LeftOut> {
    LEFT_OUT.iter().filter(move |row| row.way == way && row.machines.has(breadth) && row.target == target)
}

/// Parts of names of tests of a target that are left out.
pub(crate) fn names(way: Way, breadth: Breadth, target: &str) -> impl Iterator<Item = &'static str> {
    rows(way, breadth, target).flat_map(|row| row.names.iter().copied())
}

/// For a person: what is left out, and why.
pub(crate) fn report() -> String {
    let mut text =
        "left out of the machines, as passed on this machine's kernel by `cargo xtask test`:\n".to_owned();
    for LeftOut { machines, way, target, names, reason } in LEFT_OUT {
        let machines = machines.in_words();
        let step = if *target == SERVICE { (*target).to_owned() } else { way.step(target) };
        let names = names.join(", ");
        text.push_str(&format!("  {machines}: {step}: {names}\n      ({reason})\n"));
    }
    text
}

/// Fails if something that is left out is no test: the list would leave out nothing, or something else than it says.
pub(crate) fn check(tests: &[Test]) -> Result<()> {
    let mut lists = BTreeMap::new();
    for row in LEFT_OUT {
        let test = tests.iter().find(|test| test.name == row.target);
        let test = test.with_context(|| stale(row.target, "the target itself"))?;
        if !lists.contains_key(row.target) {
            let listing = command::capture(Command::new(&test.program).arg("--list"))?;
            lists.insert(row.target, tests_in(&listing));
        }
        let names = lists.get(row.target).map(Vec::as_slice).unwrap_or_default();
        for part in row.names {
            ensure!(names.iter().any(|name| name.contains(part)), stale(row.target, part));
        }
    }
    Ok(())
}

fn stale(target: &str, part: &str) -> String {
    format!(
        "target {target} has no test {part:?}, which tests/vm/src/left_out.rs leaves out of machines: correct the list"
    )
}

/// Names of tests, from what a test program lists.
fn tests_in(listing: &str) -> Vec<String> {
    listing.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::ways;

    #[test]
    fn a_run_that_nobody_narrows_down_leaves_out_what_the_kernel_does_not_decide() {
        let of = |index| Breadth::of(index, 4, &ways::ALL, &[]);
        assert_eq!(
            [0, 1, 2, 3].map(of),
            [Breadth::Oldest, Breadth::Between, Breadth::Between, Breadth::Newest]
        );
        assert_eq!(Breadth::of(1, 4, &ways::ALL, &["cwd".into()]), Breadth::Every, "a filter");
        assert_eq!(Breadth::of(1, 4, &[Way::Service], &[]), Breadth::Every, "one way");
        let has = |target, part| names(Own, Breadth::Oldest, target).any(|name| name == part);
        assert!(has("sessions", "roots::") && has("refuse", "words::"));
        // What each kernel decides: whether a stranger is signalled, and what is found of those who died unobserved.
        let skips = |target, test: &str| {
            [Breadth::Oldest, Breadth::Newest, Breadth::Between]
                .map(|breadth| names(Own, breadth, target).any(|part| test.contains(part)))
        };
        for (target, test) in [
            ("sessions", "signals::a_stranger_that_gets_the_pid_of_a_session_is_never_signalled"),
            (
                "journal",
                "restart::a_process_that_died_during_the_absence_has_an_unobserved_death_with_an_interval",
            ),
            ("journal", "restart::a_zombie_that_is_found_at_start_has_an_exact_status"),
        ] {
            assert_eq!(skips(target, test), [false; 3], "{test}");
        }
        assert_eq!(
            skips("journal", "restart::a_session_that_survives_a_restart_is_not_recorded_again"),
            [true; 3]
        );
        for way in ways::ALL {
            for row in LEFT_OUT {
                assert_eq!(names(way, Breadth::Every, row.target).count(), 0, "{}", row.target);
            }
        }
    }

    #[test]
    fn what_is_left_out_stands_in_the_report_with_its_reason() {
        let text = report();
        for row in LEFT_OUT {
            assert!(text.contains(row.reason) && row.names.iter().all(|name| text.contains(name)), "{text}");
        }
    }

    #[test]
    fn a_name_that_matches_no_test_is_an_error() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let listing = |skipped: &str| -> String {
            let names = LEFT_OUT.iter().flat_map(|row| row.names).filter(|name| **name != skipped);
            names.map(|name| format!("{name}x: test\n")).collect()
        };
        let programs = |listing: &str| -> Result<Vec<Test>> {
            let program = directory.path().join("program");
            // A shell does not keep the file open for writing.
            fs::write(&program, format!("#!/bin/sh\ncat <<'end'\n{listing}end\n"))?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
            let test = |row: &LeftOut| Test { name: row.target.into(), program: program.clone() };
            Ok(LEFT_OUT.iter().map(test).collect())
        };
        check(&programs(&listing(""))?)?;
        let error = check(&programs(&listing("lives::crashes_"))?).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains("\"lives::crashes_\"")), "{error:?}");
        let error = check(&[]).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("the target itself")));
        Ok(())
    }
}
