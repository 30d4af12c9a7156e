//! What names, homes and keys in a command's arguments stand for.

use observer_core::session::Home;

use super::home;
use crate::api::key::LifeKey;
use crate::api::session::SessionJson;
use crate::text::bytes::to_line;

/// Whether `wanted` is the key of one life of a process.
pub(super) fn is_one_life(wanted: &[u8]) -> bool {
    LifeKey::parse(wanted).is_some()
}

/// Whether a session with this name and home would be meant by `wanted`, with the number of an instance or without.
pub(super) fn is_called(wanted: &[u8], name: &[u8], home: &[u8]) -> bool {
    let is = |wanted: &[u8]| match wanted.first() {
        Some(b'/') => home == home::plain(wanted) || home::resolved(wanted).is_some_and(|path| path == home),
        _ => name == wanted,
    };
    is(wanted) || split_number(wanted, b'#').is_some_and(|(rest, _)| is(rest))
}

/// The home as `pid` takes it: with the number of the session if there are several, and the number of its mount namespace if
/// that is not the host's own.
pub(super) fn home_with_numbers(session: &SessionJson<'_>, is_one_of_several: bool) -> String {
    let home = to_line(session.home.as_bytes());
    let instance = if is_one_of_several { format!("#{}", session.instance) } else { String::new() };
    let mnt_ns = session.home_mnt_ns.map(|number| format!("@{number}")).unwrap_or_default();
    format!("{home}{instance}{mnt_ns}")
}

/// Whether `wanted` names the session by itself: a session of another mount namespace is named with that namespace.
pub(super) fn is_named(session: &SessionJson<'_>, wanted: &[u8]) -> bool {
    session.home_mnt_ns.is_none()
        || session.primary.key.as_bytes() == wanted
        || split_namespace(wanted).is_some_and(|(_, number)| session.home_mnt_ns == Some(number))
}

/// Sessions that `wanted` names, or whose primary is the life with this key: of several, those of the host's own mount
/// namespace, unless it names another.
pub(super) fn choose<'s, 'a>(sessions: &'s [SessionJson<'a>], wanted: &[u8]) -> Vec<&'s SessionJson<'a>> {
    let found = choose_anywhere(sessions, wanted);
    if is_one_life(wanted) {
        return found;
    }
    let on_host: Vec<_> = found.iter().copied().filter(|session| session.home_mnt_ns.is_none()).collect();
    if on_host.is_empty() { found } else { on_host }
}

/// The same, in all mount namespaces unless it names one.
pub(super) fn choose_anywhere<'s, 'a>(
    sessions: &'s [SessionJson<'a>],
    wanted: &[u8],
) -> Vec<&'s SessionJson<'a>> {
    // No name is taken for a key: whoever is called so is not that process.
    if is_one_life(wanted) {
        return sessions.iter().filter(|session| session.primary.key.as_bytes() == wanted).collect();
    }
    let found = find(sessions, wanted);
    match split_namespace(wanted) {
        Some((rest, number)) if found.is_empty() => {
            find(sessions, rest).into_iter().filter(|it| it.home_mnt_ns == Some(number)).collect()
        }
        _ => found,
    }
}

/// Takes `NAME@NUMBER` apart.
pub(super) fn split_namespace(wanted: &[u8]) -> Option<(&[u8], u32)> {
    split_number(wanted, b'@')
}

/// Takes apart what a number follows behind `mark`.
fn split_number(wanted: &[u8], mark: u8) -> Option<(&[u8], u32)> {
    let at = wanted.iter().rposition(|&byte| byte == mark)?;
    let (rest, number) = wanted.split_at_checked(at)?;
    Some((rest, std::str::from_utf8(number.get(1..)?).ok()?.parse().ok()?))
}

/// The name that the session has in common with the others of its user in the home: `alpha` of `alpha#2`.
pub(super) fn name_without_number<'s>(session: &'s SessionJson<'_>) -> &'s [u8] {
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
    fn a_symlink_leads_to_its_home() {
        let dir = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(base.join("home")).unwrap();
        std::os::unix::fs::symlink(base.join("home"), base.join("link")).unwrap();
        let sessions = [session(b"home", base.join("home").as_os_str().as_encoded_bytes())];
        assert_eq!(find(&sessions, base.join("link").as_os_str().as_encoded_bytes()).len(), 1);
    }
}
