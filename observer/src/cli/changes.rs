//! What a change of a session changed, in words.

use unicode_width::UnicodeWidthStr;

use crate::api::changed::Changed;
use crate::api::words::SessionState;
use crate::text::bytes::{Text, to_line};
use crate::text::table::{cut, cut_middle};

/// Cells that a path takes in the words of a change, and a name.
const PATH_CELLS: usize = 36;
const NAME_CELLS: usize = 24;

/// What `changed` says, as parts of a sentence, the most important first, in at most `cells` cells (60 or more). Empty
/// where nothing changed that is worth a word. Another primary differs in every field: of its process little more than
/// the pid is stated.
pub fn describe(changed: &Changed<'_>, cells: usize) -> String {
    let mut parts = Vec::new();
    let is_another = changed.pid.is_some() || changed.start_boottime_ns.is_some();
    if is_another {
        parts.push(match changed.pid {
            Some([before, after]) => format!("primary {before} -> {after}"),
            None => "another primary of the same pid".into(),
        });
    } else {
        parts.extend(executed(changed));
    }
    parts.extend(placed(changed));
    if !is_another {
        parts.extend(directory(changed));
    }
    parts.extend(users(changed));
    parts.extend(surroundings(changed));
    parts.extend(labels(changed));
    if !is_another {
        if executed(changed).is_none() {
            parts.extend(renamed(changed));
        }
        parts.extend(belongings(changed));
    }
    joined(&parts, cells)
}

/// The exec of the primary, if there was one. That of one which happened while no daemon ran has no time.
fn executed(changed: &Changed<'_>) -> Option<String> {
    let is_counted = matches!(changed.exec_id, Some([Some(_), Some(_)]));
    if after(&changed.exec_at).is_none() && !is_counted {
        return None;
    }
    let program = after(&changed.program);
    Some(program.map_or_else(|| "exec'd again".into(), |program| format!("exec'd {}", name(program))))
}

/// The state and what it follows from.
fn placed(changed: &Changed<'_>) -> Vec<String> {
    let mut parts = Vec::new();
    match changed.state {
        Some([_, SessionState::Left]) => {
            let to = after(&changed.moved_to).or_else(|| after(&changed.cwd));
            parts.push(to.map_or_else(|| "left".into(), |to| format!("left for {}", path(to))));
        }
        Some([SessionState::Left, SessionState::Live]) => parts.push("is back".into()),
        Some([_, SessionState::Detached]) => parts.push("terminal gone".into()),
        Some([_, SessionState::Live]) if changed.tty.is_none() => parts.push("is live".into()),
        Some([_, SessionState::Live]) => {}
        Some([_, state @ (SessionState::Ended | SessionState::Unknown)]) => parts.push(state.to_string()),
        None => parts.extend(after(&changed.moved_to).map(|to| format!("went on to {}", path(to)))),
    }
    match &changed.tty {
        Some([_, Some(tty)]) => parts.push(format!("terminal {}", name(tty))),
        Some([_, None]) if !matches!(changed.state, Some([_, SessionState::Detached])) => {
            parts.push("terminal gone".into());
        }
        _ => {}
    }
    match changed.home_deleted {
        Some([_, true]) => parts.push("home deleted".into()),
        Some([_, false]) => parts.push("home is there again".into()),
        None => {}
    }
    parts
}

/// The directory of a primary that did not leave its home or come back to it, which the state says.
fn directory(changed: &Changed<'_>) -> Option<String> {
    if matches!(changed.state, Some([_, SessionState::Left] | [SessionState::Left, _]))
        || matches!(changed.moved_to, Some([_, Some(_)]))
    {
        return None;
    }
    match &changed.cwd {
        Some([_, Some(cwd)]) => Some(format!("in {}", path(cwd))),
        Some([_, None]) => Some(match changed.cwd_truncated {
            Some([_, true]) => "in a directory whose path is too long".into(),
            _ => "directory not known yet".into(),
        }),
        None if matches!(changed.cwd_unreachable, Some([_, true])) => {
            Some("its file system was unmounted".into())
        }
        None if changed.cwd_ino.is_some() || changed.cwd_dev.is_some() => {
            Some("in another directory of the same path".into())
        }
        None => None,
    }
}

/// The users; the effective one where the real one stays.
fn users(changed: &Changed<'_>) -> Option<String> {
    match (changed.uid, changed.euid, changed.suid) {
        (Some([_, uid]), ..) => Some(format!("user {uid}")),
        (None, Some([_, euid]), _) => Some(format!("effective user {euid}")),
        (None, None, Some([_, suid])) => Some(format!("saved user {suid}")),
        (None, None, None) => None,
    }
}

/// What concerns the session beside its primary.
fn surroundings(changed: &Changed<'_>) -> Vec<String> {
    let wrapper = changed.wrapper_pid.map(|[_, after]| match after {
        Some(pid) => format!("wrapper {pid}"),
        None => "no wrapper".into(),
    });
    [
        changed.name.as_ref().map(|[_, after]| format!("named {}", name(after))),
        wrapper,
        changed.roots.map(|[before, after]| format!("roots {before} -> {after}")),
        match (changed.foreign, changed.owner) {
            (Some([_, Some(true)]), Some([_, Some(owner)])) => Some(format!("in a home of user {owner}")),
            (Some([_, Some(true)]), _) => Some("in a home of another user".into()),
            (Some([Some(true), Some(false)]), _) => Some("in a home of its own user".into()),
            _ => None,
        },
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The labels that are others, and those that are gone.
fn labels(changed: &Changed<'_>) -> Vec<String> {
    let Some([before, after]) = &changed.labels else { return Vec::new() };
    let others = after.iter().filter(|(name, value)| before.get(*name) != Some(*value));
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let label = |of: &str| cut(&to_line(of.as_bytes()), NAME_CELLS).into_owned();
    let others = others.map(|(of, value)| format!("label {}={}", label(of), name(value)));
    others.chain(gone.map(|of| format!("no label {}", label(of)))).collect()
}

/// What the process is called, where no exec explains it.
fn renamed(changed: &Changed<'_>) -> Vec<String> {
    [
        after(&changed.program).map(|program| format!("program {}", name(program))),
        changed.comm.as_ref().map(|[_, comm]| format!("comm {}", name(comm))),
        changed.argv.map(|_| "other arguments".into()),
        after(&changed.exe).map(|exe| format!("executable {}", path(exe))),
        matches!(changed.exe_deleted, Some([_, true])).then(|| "executable deleted or replaced".into()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What else belongs to the process.
fn belongings(changed: &Changed<'_>) -> Vec<String> {
    let pane = changed.pane.as_ref().map(|[_, after]| match after {
        Some(pane) => format!("pane {}", name(pane)),
        None => "no pane".into(),
    });
    let foreground = after(&changed.foreground);
    [
        pane,
        changed.stopped.map(|[_, is]| if is { "stopped".into() } else { "continued".into() }),
        foreground.map(|&is| if is { "in the foreground".into() } else { "in the background".into() }),
        changed.ppid.map(|[_, pid]| format!("parent {pid}")),
        changed.sid.map(|[_, sid]| format!("POSIX session {sid}")),
        changed.pgid.map(|[_, pgid]| format!("process group {pgid}")),
        after(&changed.cgroup).map(|cgroup| format!("cgroup {}", path(cgroup))),
        after(&changed.mnt_ns).map(|ns| format!("mount namespace {ns}")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The value after the change, where it is known.
fn after<T>(values: &Option<[Option<T>; 2]>) -> Option<&T> {
    values.as_ref().and_then(|[_, after]| after.as_ref())
}

fn path(path: &Text<'_>) -> String {
    cut_middle(&to_line(path.as_bytes()), PATH_CELLS).into_owned()
}

fn name(name: &Text<'_>) -> String {
    cut(&to_line(name.as_bytes()), NAME_CELLS).into_owned()
}

/// The first parts, as many as there is room for, and how many more there are.
fn joined(parts: &[String], cells: usize) -> String {
    let mut line = String::new();
    for (at, part) in parts.iter().enumerate() {
        let rest = parts.len() - at;
        let comma = if at == 0 { "" } else { ", " };
        // Where parts follow, there must be room to say so.
        let after = if rest > 1 { ", and 10 more".len() } else { 0 };
        if line.width() + comma.len() + part.width() + after > cells {
            line.push_str(&format!("{comma}and {rest} more"));
            break;
        }
        line.push_str(comma);
        line.push_str(part);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(json: &str) -> String {
        describe(&serde_json::from_str(json).unwrap(), 100)
    }

    #[test]
    fn each_change_has_its_words() {
        for (json, expected) in [
            ("{}", ""),
            (r#"{"since":["a","b"]}"#, ""),
            // What ran.
            (
                r#"{"exec_at":["a","b"],"program":["bash","gemini"],"comm":["bash","node"],"argv":[null,null],"exe":["/a","/b"]}"#,
                "exec'd gemini",
            ),
            (r#"{"exec_at":["a","b"],"starts":[null,null]}"#, "exec'd again"),
            (r#"{"exec_at":["a","b"],"program":["a",null]}"#, "exec'd again"),
            (r#"{"exec_at":["a",null],"argv_source":["exec","memory"]}"#, ""),
            (r#"{"exec_at":["a",null],"exec_id":[3,5],"program":["a","b"]}"#, "exec'd b"),
            (r#"{"exec_id":[3,4]}"#, "exec'd again"),
            (r#"{"exec_id":[null,4]}"#, ""),
            (r#"{"program":[null,"codex"],"argv":[null,null]}"#, "program codex, other arguments"),
            (r#"{"comm":["node","MainThread"]}"#, "comm MainThread"),
            (r#"{"exe_deleted":[false,true]}"#, "executable deleted or replaced"),
            // Where it is.
            (
                r#"{"state":["live","left"],"moved_to":[null,"/x"],"cwd":["/a","/x"],"cwd_ino":["1","2"]}"#,
                "left for /x",
            ),
            (r#"{"state":["live","left"],"cwd":["/a",null]}"#, "left"),
            (r#"{"state":["left","live"],"moved_to":["/x",null],"cwd":["/x","/a"]}"#, "is back"),
            (r#"{"state":["left","detached"],"tty":["pts/1",null]}"#, "terminal gone"),
            (r#"{"moved_to":["/x","/y"],"cwd":["/x","/y"]}"#, "went on to /y"),
            (r#"{"cwd":["/srv/a","/srv/a/sub"],"cwd_ino":["1","2"]}"#, "in /srv/a/sub"),
            (r#"{"cwd":["/srv/a",null]}"#, "directory not known yet"),
            (
                r#"{"cwd":["/srv/a",null],"cwd_truncated":[false,true]}"#,
                "in a directory whose path is too long",
            ),
            (r#"{"cwd_ino":["1","2"]}"#, "in another directory of the same path"),
            (
                r#"{"cwd":["/srv/a","/srv/a (deleted)"],"home_deleted":[false,true]}"#,
                "home deleted, in /srv/a (deleted)",
            ),
            // What its environment says.
            (
                r#"{"labels":[{"agent":"1","task":"t"},{"agent":"2\u001b","new":"n"}]}"#,
                r"label agent=2\x1b, label new=n, no label task",
            ),
            // On which terminal.
            (
                r#"{"state":["live","detached"],"tty":["pts/3",null],"foreground":[true,null]}"#,
                "terminal gone",
            ),
            (r#"{"state":["detached","live"],"tty":[null,"pts/3"]}"#, "terminal pts/3"),
            (r#"{"state":["detached","live"]}"#, "is live"),
            (r#"{"tty":["pts/3","pts/4"]}"#, "terminal pts/4"),
            (r#"{"tty":["pts/3",null]}"#, "terminal gone"),
            (r#"{"foreground":[true,false]}"#, "in the background"),
            (r#"{"stopped":[false,true]}"#, "stopped"),
            (r#"{"stopped":[true,false]}"#, "continued"),
            (r#"{"pane":[null,"%5"],"mux":[null,"tmux"]}"#, "pane %5"),
            // Whose it is.
            (r#"{"uid":[0,1000],"euid":[0,1000],"suid":[0,1000]}"#, "user 1000"),
            (r#"{"euid":[1000,0]}"#, "effective user 0"),
            (
                r#"{"name":["a","b"],"roots":[1,3],"wrapper_pid":[null,7]}"#,
                "named b, wrapper 7, roots 1 -> 3",
            ),
            (r#"{"wrapper_pid":[7,null]}"#, "no wrapper"),
            (
                r#"{"ppid":[7,1],"sid":[7,8],"pgid":[7,8],"mnt_ns":[1,2],"cgroup":["/a","/b"]}"#,
                "parent 1, POSIX session 8, process group 8, cgroup /b, mount namespace 2",
            ),
            // Another process.
            (
                r#"{"pid":[123,456],"start_boottime_ns":["1","2"],"exec_at":["a","b"],"program":["a","b"],"cwd":["/a","/b"],
                "comm":["a","b"],"ppid":[1,2],"uid":[0,1]}"#,
                "primary 123 -> 456, user 1",
            ),
            (r#"{"start_boottime_ns":["1","2"]}"#, "another primary of the same pid"),
        ] {
            assert_eq!(words(json), expected, "{json}");
        }
    }

    #[test]
    fn words_are_bounded_and_harmless() {
        let long = "/srv/日本/".to_owned() + &"x".repeat(5_000);
        let json = format!(
            r#"{{"exec_at":["a","b"],"program":["a","\u001b[2J\n{long}"],"state":["live","left"],"moved_to":[null,"/\u202e{long}/end"],
                "tty":[null,"{long}"],"name":["a","{long}"],"uid":[0,4294967295],"roots":[1,4294967295],"cgroup":["a","{long}"]}}"#
        );
        let changed: Changed<'_> = serde_json::from_str(&json).unwrap();
        for cells in 60..200 {
            let words = describe(&changed, cells);
            assert!(words.width() <= cells, "{} {words}", words.width());
            assert!(words.starts_with("exec'd"), "{words}");
        }
        let words = describe(&changed, 100);
        assert!(words.starts_with(r"exec'd \x1b[2J\n/srv"), "{words}");
        assert!(words.contains(r"left for /\u{202e}/srv") && words.contains("x/end, "), "{words}");
        assert!(words.ends_with(" more"), "{words}");
        assert!(words.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{words}");
    }
}
