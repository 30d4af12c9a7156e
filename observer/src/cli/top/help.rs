//! What the keys of `observer top` do, in words.

use super::event::Scope;

/// The keys that do something in this scope, and what they do.
pub(super) fn help(scope: Scope) -> [(&'static str, &'static str); 12] {
    let sorts = match scope {
        Scope::Local => [
            ("n t u s", "sort by name, state, time up, starts"),
            ("c m b d", "sort by CPU, memory, busy or quiet, last death"),
        ],
        Scope::Fleet => {
            [("h n t", "sort by host, name, state"), ("u s d", "sort by time up, starts, last death")]
        }
    };
    let [first, second] = sorts;
    [
        ("↑ ↓ j k", "choose a session; PgUp, PgDn, Home, End"),
        ("Enter", "details: its processes and last events; Enter or Esc closes them"),
        ("[ ]", "scroll the details"),
        ("/", "show only what contains this text; Enter keeps it, Esc drops it"),
        ("← →", "sort by the column beside; r: the other way round"),
        first,
        second,
        ("e", "also sessions that have ended, or not"),
        ("g", "go to its tmux pane, or say how"),
        ("Ctrl-L", "draw the screen again"),
        ("Ctrl-Z", "stop; `fg` continues"),
        ("q", "quit; so does Ctrl-C"),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::rows::column_of;
    use super::*;

    #[test]
    fn the_help_has_the_keys_that_sort_in_the_scope_and_no_others() {
        for scope in [Scope::Local, Scope::Fleet] {
            let lines = help(scope)
                .into_iter()
                .filter(|(_, words)| words.starts_with("sort by ") && !words.contains("beside"));
            let named: Vec<char> = lines.flat_map(|(keys, _)| keys.chars()).filter(|c| *c != ' ').collect();
            let mut sorting: Vec<char> = ('a'..='z').filter(|&c| column_of(c, scope).is_some()).collect();
            sorting.sort_by_key(|c| named.iter().position(|named| named == c));
            assert_eq!(named, sorting);
        }
    }
}
