//! What is said of a name that several sessions have: which these are, and how to choose one.

use unicode_width::UnicodeWidthStr as _;

use super::naming::home_with_numbers;
use super::term::fitted;
use super::user;
use crate::api::session::SessionJson;
use crate::text::bytes::to_line;

/// The lines. With a `width`, what is too long for a line of so many cells is cut in its middle.
pub(super) fn lines(sessions: &[&SessionJson<'_>], wanted: &[u8], width: Option<usize>) -> Vec<String> {
    let are_foreign = sessions.iter().all(|session| session.foreign == Some(true));
    let has_another = |session: &SessionJson<'_>, of_user: bool| {
        let is_beside = |other: &&&SessionJson<'_>| {
            other.home == session.home
                && other.home_mnt_ns == session.home_mnt_ns
                && (other.primary.uid == session.primary.uid) == of_user
        };
        sessions.iter().filter(is_beside).count() > usize::from(of_user)
    };
    let need_user = are_foreign || sessions.iter().any(|session| has_another(session, false));
    let (count, verb) = match sessions.len() {
        1 => ("1 session".to_owned(), "is"),
        count => (format!("{count} sessions"), "are"),
    };
    let problem = if are_foreign { ", and not of the owner of the home" } else { "" };
    let by = if need_user { "its home and --user" } else { "its home" };
    let (before, after) =
        (format!("observer: {count} {verb} called "), format!("{problem}; name one by {by}:"));
    let name = to_line(wanted);
    let name = fitted(&name, before.width() + after.width(), width);
    let mut lines = vec![format!("{before}{name}{after}")];
    let mut is_cut = false;
    for session in sessions {
        let note = if session.foreign == Some(true) { "  (foreign)" } else { "" };
        let user =
            if need_user { format!("  --user {}", user::shown(session.primary.uid)) } else { String::new() };
        let home = home_with_numbers(session, has_another(session, true));
        let shown = fitted(&home, INDENT.len() + user.width() + note.len(), width);
        is_cut |= shown != home;
        lines.push(format!("{INDENT}{shown}{user}{note}"));
    }
    if is_cut {
        lines.push("observer: `observer list --porcelain --long` prints homes that are cut here".into());
    }
    lines
}

/// What stands before a session.
const INDENT: &str = "  ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::process::ProcessJson;
    use crate::text::bytes::Text;

    fn session(home: &str) -> SessionJson<'static> {
        SessionJson {
            name: Text::from(b"alpha".to_vec()),
            home: Text::from(home.as_bytes().to_vec()),
            foreign: Some(true),
            primary: ProcessJson { uid: 4_000_000_001, ..ProcessJson::default() },
            ..SessionJson::default()
        }
    }

    #[test]
    fn what_is_too_long_for_the_terminal_is_cut_in_its_middle() {
        let (long, name) = (format!("/srv/{}alpha", "deep/".repeat(40)), "n".repeat(200));
        let (one, other) = (session(&long), session("/x/alpha"));
        let shown = lines(&[&one, &other], name.as_bytes(), Some(100));
        assert_eq!(
            shown[1..],
            [
                "  /srv/deep/deep/deep/deep/deep/dee…eep/deep/deep/deep/deep/deep/alpha  --user 4000000001  (foreign)",
                "  /x/alpha  --user 4000000001  (foreign)",
                "observer: `observer list --porcelain --long` prints homes that are cut here",
            ]
        );
        assert!(shown[0].contains("called nnn") && shown[0].contains('…'), "{}", shown[0]);
        assert!(shown.iter().skip(1).all(|line| line.width() <= 100), "{shown:#?}");
    }

    #[test]
    fn nothing_is_cut_where_it_fits_or_where_there_is_no_terminal() {
        let long = format!("/srv/{}alpha", "deep/".repeat(40));
        let (one, other) = (session(&long), session("/x/alpha"));
        for width in [None, Some(300)] {
            let shown = lines(&[&one, &other], b"alpha", width);
            assert_eq!(
                shown,
                [
                    "observer: 2 sessions are called alpha, and not of the owner of the home; name one by its home and \
                     --user:"
                        .to_owned(),
                    format!("  {long}  --user 4000000001  (foreign)"),
                    "  /x/alpha  --user 4000000001  (foreign)".to_owned(),
                ]
            );
        }
    }
}
