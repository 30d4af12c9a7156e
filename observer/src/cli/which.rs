//! Which session a command is about: by name, home or key.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use observer_core::session::Home;

use super::{home, user};
use crate::api::answer::ListAnswer;
use crate::api::key::LifeKey;
use crate::api::session::SessionJson;
use crate::text::bytes::to_line;

/// Names one session.
#[derive(Args)]
pub struct Which {
    /// A session's name, or its home: an absolute path, `.` or a path that begins with `./` or `../`. Of a home in another
    /// mount namespace, with the namespace's number: NAME@NUMBER. A key (`key` in --json) is one life of a process: where
    /// that has ended, there is no such session, whoever runs in its home since
    #[arg(value_name = "NAME|HOME|KEY")]
    session: OsString,
    /// The session of this user, by name or number, whoever owns the home
    #[arg(long, value_name = "USER", value_parser = user::parse)]
    user: Option<u32>,
    /// Only if the session's primary is this life of a process still (`key` in --json): there is no such session otherwise
    #[arg(long = "if", value_name = "KEY", value_parser = key)]
    only_if: Option<String>,
}

/// The session that is meant, or why there is none; that was said on standard error.
pub(super) enum Found<'s, 'a> {
    One(&'s SessionJson<'a>),
    /// Certainly none.
    None,
    /// Several, or another user's.
    Several,
    /// Events were lost.
    Unknown,
}

/// The key of one life of a process.
fn key(text: &str) -> Result<String, String> {
    let wrong =
        || "expected a key, such as 7f3e90ab-4242-1a2b3c4d5e: `key` of `observer list --json`".to_owned();
    LifeKey::parse(text.as_bytes()).map(|_| text.to_owned()).ok_or_else(wrong)
}

impl Which {
    /// Chooses among the sessions of an answer, and says on standard error why there is none, if so.
    pub(super) fn find<'s, 'a>(&self, answer: &'s ListAnswer<'a>) -> anyhow::Result<Found<'s, 'a>> {
        let wanted = home::absolute(self.session.as_bytes())?;
        if !answer.head.certain {
            anstream::eprintln!(
                "observer: can't know: events were lost and the kernel is read again; ask again in a second"
            );
            return Ok(Found::Unknown);
        }
        Ok(match answer_to(&choose(&answer.sessions, &wanted), &wanted, self.user) {
            Chosen::One(session) if self.is_same_life(session) => Found::One(session),
            Chosen::One(session) => {
                let name = to_line(session.name.as_bytes());
                anstream::eprintln!("observer: {name} is another process now: {}", session.primary.key);
                Found::None
            }
            Chosen::None => {
                let of_user = self.user.map_or(String::new(), |uid| format!(" of user {}", user::shown(uid)));
                let gone = if is_one_life(&wanted) { " any more" } else { "" };
                anstream::eprintln!(
                    "observer: no session {}{of_user}{gone}: `observer list --long` shows those there are",
                    to_line(&wanted)
                );
                Found::None
            }
            Chosen::Several(sessions) => {
                say_several(&sessions, &wanted);
                Found::Several
            }
        })
    }

    /// Whether the primary of `session` is the life that is asked for, if one is.
    fn is_same_life(&self, session: &SessionJson<'_>) -> bool {
        self.only_if.as_ref().is_none_or(|key| *key == session.primary.key)
    }
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
enum Chosen<'s, 'a> {
    One(&'s SessionJson<'a>),
    /// Nothing is called so.
    None,
    /// The name alone does not say which of these, or whether it is this one.
    Several(Vec<&'s SessionJson<'a>>),
}

/// What `wanted` stands for among the sessions that it names. Without a user, the sessions of others than the owners
/// of their homes are not answered: somebody may stand in a home who has nothing to do with it.
fn answer_to<'s, 'a>(named: &[&'s SessionJson<'a>], wanted: &[u8], user: Option<u32>) -> Chosen<'s, 'a> {
    let is_meant = |session: &SessionJson<'_>| match user {
        Some(uid) => session.primary.uid == uid,
        None => is_one_life(wanted) || !is_foreign(session),
    };
    let meant: Vec<_> = named.iter().copied().filter(|session| is_meant(session)).collect();
    match meant[..] {
        [session] if is_named(session, wanted) => Chosen::One(session),
        [] if named.is_empty() || user.is_some() => Chosen::None,
        [] => Chosen::Several(named.to_vec()),
        _ => Chosen::Several(meant),
    }
}

/// Whether `wanted` is the key of one life of a process.
fn is_one_life(wanted: &[u8]) -> bool {
    LifeKey::parse(wanted).is_some()
}

/// Whether the session's user is known to be another one than the one whose home it is. The daemon cannot read each home:
/// others cannot enter what is closed to it, and a daemon of an earlier version does not tell.
fn is_foreign(session: &SessionJson<'_>) -> bool {
    session.foreign == Some(true)
}

/// Says on standard error which sessions are called `wanted`, and how to choose one.
fn say_several(sessions: &[&SessionJson<'_>], wanted: &[u8]) {
    let are_foreign = sessions.iter().all(|session| is_foreign(session));
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
    anstream::eprintln!("observer: {count} {verb} called {}{problem}; name one by {by}:", to_line(wanted));
    for session in sessions {
        let note = match session.foreign {
            Some(true) => "  (foreign)",
            Some(false) | None => "",
        };
        let home = home_with_numbers(session, has_another(session, true));
        let user =
            if need_user { format!("  --user {}", user::shown(session.primary.uid)) } else { String::new() };
        anstream::eprintln!("  {home}{user}{note}");
    }
}

/// The home as `pid` takes it: with the number of the session if there are several, and the number of its mount namespace if
/// that is not the host's own.
fn home_with_numbers(session: &SessionJson<'_>, is_one_of_several: bool) -> String {
    let home = to_line(session.home.as_bytes());
    let instance = if is_one_of_several { format!("#{}", session.instance) } else { String::new() };
    let mnt_ns = session.home_mnt_ns.map(|number| format!("@{number}")).unwrap_or_default();
    format!("{home}{instance}{mnt_ns}")
}

/// Whether `wanted` names the session by itself: a session of another mount namespace is named with that namespace.
fn is_named(session: &SessionJson<'_>, wanted: &[u8]) -> bool {
    session.home_mnt_ns.is_none()
        || session.primary.key.as_bytes() == wanted
        || split_namespace(wanted).is_some_and(|(_, number)| session.home_mnt_ns == Some(number))
}

/// Sessions that `wanted` names, or whose primary is the life with this key: of several, those of the host's own mount namespace, unless it names another.
pub(super) fn choose<'s, 'a>(sessions: &'s [SessionJson<'a>], wanted: &[u8]) -> Vec<&'s SessionJson<'a>> {
    // No name is taken for a key: whoever is called so is not that process.
    if is_one_life(wanted) {
        return sessions.iter().filter(|session| session.primary.key.as_bytes() == wanted).collect();
    }
    let found = find(sessions, wanted);
    if found.is_empty()
        && let Some((rest, number)) = split_namespace(wanted)
    {
        return find(sessions, rest).into_iter().filter(|it| it.home_mnt_ns == Some(number)).collect();
    }
    let on_host: Vec<_> = found.iter().copied().filter(|session| session.home_mnt_ns.is_none()).collect();
    if on_host.is_empty() { found } else { on_host }
}

/// Takes `NAME@NUMBER` apart.
fn split_namespace(wanted: &[u8]) -> Option<(&[u8], u32)> {
    split_number(wanted, b'@')
}

/// Takes apart what a number follows behind `mark`.
fn split_number(wanted: &[u8], mark: u8) -> Option<(&[u8], u32)> {
    let at = wanted.iter().rposition(|&byte| byte == mark)?;
    let (rest, number) = wanted.split_at_checked(at)?;
    Some((rest, std::str::from_utf8(number.get(1..)?).ok()?.parse().ok()?))
}

/// The name that the session has in common with the others of its user in the home: `alpha` of `alpha#2`.
fn name_without_number<'s>(session: &'s SessionJson<'_>) -> &'s [u8] {
    let name = session.name.as_bytes();
    match split_number(name, b'#') {
        Some((rest, number)) if number == session.instance && number > Home::FIRST => rest,
        _ => name,
    }
}

/// Sessions that `wanted` names, with their number (`NAME#NUMBER`) or without.
fn find<'s, 'a>(sessions: &'s [SessionJson<'a>], wanted: &[u8]) -> Vec<&'s SessionJson<'a>> {
    let found = find_unnumbered(sessions, wanted);
    match split_number(wanted, b'#') {
        Some((rest, number)) if found.is_empty() => {
            find_unnumbered(sessions, rest).into_iter().filter(|it| it.instance == number).collect()
        }
        _ => found,
    }
}

/// Sessions with the name `wanted`, whatever their numbers. An absolute path names a home, also by a symlink that leads to it.
fn find_unnumbered<'s, 'a>(sessions: &'s [SessionJson<'a>], wanted: &[u8]) -> Vec<&'s SessionJson<'a>> {
    if !wanted.starts_with(b"/") {
        let is_called = |session: &&SessionJson<'_>| {
            session.name.as_bytes() == wanted || name_without_number(session) == wanted
        };
        return sessions.iter().filter(is_called).collect();
    }
    let at = |path: &[u8]| -> Vec<_> {
        sessions.iter().filter(|session| session.home.as_bytes() == path).collect()
    };
    let plain = home::plain(wanted);
    let found = at(plain);
    if !found.is_empty() {
        return found;
    }
    home::resolved(plain).map_or(found, |path| at(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::process::ProcessJson;
    use crate::text::bytes::Text;

    fn session(name: &'static [u8], home: &[u8]) -> SessionJson<'static> {
        SessionJson { name: Text::from(name), home: Text::from(home.to_vec()), ..SessionJson::default() }
    }

    #[test]
    fn names_may_be_shared_and_homes_are_exact() {
        let sessions = [session(b"a", b"/x/a"), session(b"a", b"/y/a"), session(b"\xff", b"/z/\xff")];
        let homes =
            |wanted: &[u8]| find(&sessions, wanted).iter().map(|it| it.home.as_bytes()).collect::<Vec<_>>();
        assert_eq!(homes(b"a"), [b"/x/a", b"/y/a"]);
        assert_eq!(homes(b"/y/a"), [b"/y/a"]);
        assert_eq!(homes(b"/y/a//"), [b"/y/a"]);
        assert_eq!(homes(b"\xff"), [b"/z/\xff"]);
        assert!(homes(b"b").is_empty() && homes(b"/x").is_empty() && homes(b"x/a").is_empty());
    }

    #[test]
    fn a_home_in_another_mount_namespace_is_named_with_its_number() {
        let inside = |number| SessionJson { home_mnt_ns: Some(number), ..session(b"a", b"/x/a") };
        let sessions = [session(b"a", b"/x/a"), inside(7), inside(8)];
        let [host, seven, eight] = &sessions;
        assert_eq!(choose(&sessions, b"a"), [host], "the host's own");
        assert_eq!(choose(&sessions, b"/x/a"), [host]);
        assert_eq!(choose(&sessions, b"a@7"), [seven]);
        assert_eq!(choose(&sessions, b"/x/a@8"), [eight]);
        assert!(choose(&sessions, b"a@9").is_empty());
        assert!(is_named(host, b"a") && is_named(seven, b"a@7") && !is_named(seven, b"a"));
        assert_eq!(home_with_numbers(seven, false), "/x/a@7");
        assert_eq!(home_with_numbers(seven, true), "/x/a#0@7");
        assert_eq!(choose(&[inside(7)], b"a").len(), 1, "found, and not named by this alone");
    }

    #[test]
    fn a_key_names_one_life_of_a_process_and_no_session_that_is_called_so() {
        const KEY: &str = "7f3e90ab-4242-1a2b3c4d5e";
        let of = |key: &str, session| SessionJson {
            home_mnt_ns: Some(7),
            foreign: Some(true),
            primary: ProcessJson { key: key.to_owned(), ..ProcessJson::default() },
            ..session
        };
        let sessions =
            [of(KEY, session(b"a", b"/x/a")), of("7f3e90ab-7-1a2b3c4d5e", session(KEY.as_bytes(), b"/x/k"))];
        let chosen = choose(&sessions, KEY.as_bytes());
        assert_eq!(chosen, [&sessions[0]]);
        assert_eq!(
            answer_to(&chosen, KEY.as_bytes(), None),
            Chosen::One(&sessions[0]),
            "wherever and whose it is"
        );
        assert!(choose(&sessions[1..], KEY.as_bytes()).is_empty(), "it ended");
    }

    #[test]
    fn what_a_stranger_runs_in_a_home_is_answered_for_its_user_only() {
        let of = |uid, foreign| SessionJson {
            foreign,
            instance: 1,
            primary: ProcessJson { uid, ..ProcessJson::default() },
            ..session(b"a", b"/x/a")
        };
        let (own, strange, unknown) = (of(7, Some(false)), of(8, Some(true)), of(9, None));
        let all = [&own, &strange, &unknown];
        assert_eq!(answer_to(&[&own, &strange], b"a", None), Chosen::One(&own));
        assert_eq!(answer_to(&all, b"a", None), Chosen::Several(vec![&own, &unknown]));
        assert_eq!(answer_to(&all, b"a", Some(8)), Chosen::One(&strange));
        assert_eq!(answer_to(&all, b"a", Some(10)), Chosen::None);
        assert_eq!(answer_to(&[&strange], b"a", None), Chosen::Several(vec![&strange]));
        assert_eq!(answer_to(&[&unknown], b"a", None), Chosen::One(&unknown));
        assert_eq!(answer_to(&[], b"a", None), Chosen::None);
        let root = of(0, Some(false));
        assert_eq!(answer_to(&[&own, &root], b"a", None), Chosen::Several(vec![&own, &root]));
        let inside = SessionJson { home_mnt_ns: Some(7), ..unknown.clone() };
        assert_eq!(answer_to(&[&inside], b"a@7", None), Chosen::One(&inside), "named by its namespace");
        assert_eq!(answer_to(&[&inside], b"a", None), Chosen::Several(vec![&inside]));
    }

    #[test]
    fn several_sessions_of_a_home_are_told_apart_by_their_numbers() {
        let numbered =
            |name, instance| SessionJson { instance, foreign: Some(false), ..session(name, b"/x/a") };
        let sessions = [numbered(b"a", 1), numbered(b"a#2", 2)];
        let [first, second] = &sessions;
        assert_eq!(choose(&sessions, b"a"), [first, second]);
        assert_eq!(choose(&sessions, b"/x/a"), [first, second]);
        assert_eq!(choose(&sessions, b"a#2"), [second]);
        assert_eq!(choose(&sessions, b"a#1"), [first]);
        assert_eq!(choose(&sessions, b"/x/a#2"), [second]);
        assert!(choose(&sessions, b"a#3").is_empty());
        let inside = SessionJson { home_mnt_ns: Some(7), ..numbered(b"a#2", 2) };
        assert_eq!(choose(std::slice::from_ref(&inside), b"a#2@7"), [&inside]);
        // A directory may be called so.
        let literal = [numbered(b"a#2", 1)];
        assert_eq!(choose(&literal, b"a#2").len(), 1);
        assert!(choose(&literal, b"a").is_empty());
    }

    #[test]
    fn a_name_that_looks_like_one_with_a_namespace_is_found() {
        let sessions = [session(b"a@7", b"/x/a@7")];
        assert_eq!(choose(&sessions, b"a@7").len(), 1);
        assert_eq!(choose(&sessions, b"/x/a@7").len(), 1);
    }

    #[test]
    fn a_symlink_leads_to_its_home() {
        let dir = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(base.join("home")).unwrap();
        std::os::unix::fs::symlink(base.join("home"), base.join("link")).unwrap();
        let sessions = [session(b"home", base.join("home").as_os_str().as_bytes())];
        assert_eq!(find(&sessions, base.join("link").as_os_str().as_bytes()).len(), 1);
    }
}
