//! `observer pid`

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::Args;

use super::exit::Exit;
use super::{home, term};
use crate::api::answer::ListAnswer;
use crate::api::session::{OtherJson, SessionJson};
use crate::socket::client::{Client, decode};
use crate::socket::frame::ClientRequest;
use crate::text::bytes::to_line;

/// Needs the daemon: exits 4 without one.
#[derive(Args)]
pub struct PidArgs {
    /// A session's name, or its home: an absolute path, `.` or a path that begins with `./` or `../`. Of a home in another
    /// mount namespace, with the namespace's number: NAME@NUMBER
    #[arg(value_name = "NAME|HOME")]
    session: OsString,
}

impl PidArgs {
    /// 0 found, 1 certainly none, 3 several, 4 can't know.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        let wanted = home::absolute(self.session.as_bytes())?;
        let line = Client::connect(socket)?.ask(&ClientRequest::List { ended: false })?;
        let answer: ListAnswer<'_> = decode(&line)?;
        if !answer.head.certain {
            anstream::eprintln!(
                "observer: can't know: events were lost and the kernel is read again; ask again in a second"
            );
            return Ok(Exit::Unknown);
        }
        match &choose(&answer.sessions, &wanted)[..] {
            [] => {
                anstream::eprintln!(
                    "observer: no session {}: `observer list` shows those there are",
                    to_line(&wanted)
                );
                Ok(Exit::None)
            }
            [session] if is_named(session, &wanted) => {
                term::print_lines([session.primary.pid.to_string()])?;
                if session.roots > 1 {
                    warn_of_others(session);
                }
                Ok(Exit::Found)
            }
            several => {
                let (count, verb) = match several.len() {
                    1 => ("1 session".to_owned(), "is"),
                    count => (format!("{count} sessions"), "are"),
                };
                anstream::eprintln!(
                    "observer: {count} {verb} called {}; name one by its home:",
                    to_line(&wanted)
                );
                for session in several {
                    anstream::eprintln!("  {}", home_with_namespace(session));
                }
                Ok(Exit::Ambiguous)
            }
        }
    }
}

/// Says on standard error which other processes could be meant.
fn warn_of_others(session: &SessionJson<'_>) {
    anstream::eprintln!(
        "observer: {} processes stand in {}: this one is its session; the others:",
        session.roots,
        to_line(session.home.as_bytes())
    );
    for OtherJson { pid, program, tty, .. } in &session.others {
        let tty = tty.as_ref().map_or("no terminal".into(), |tty| to_line(tty.as_bytes()));
        anstream::eprintln!("  {pid}  {}  {tty}", to_line(program.as_bytes()));
    }
}

/// The home as `pid` takes it: with the number of its mount namespace if that is not the host's own.
fn home_with_namespace(session: &SessionJson<'_>) -> String {
    let home = to_line(session.home.as_bytes());
    session.home_mnt_ns.map_or_else(|| home.to_string(), |number| format!("{home}@{number}"))
}

/// Whether `wanted` names the session by itself: a session of another mount namespace is named with that namespace.
fn is_named(session: &SessionJson<'_>, wanted: &[u8]) -> bool {
    session.home_mnt_ns.is_none()
        || split_namespace(wanted).is_some_and(|(_, number)| session.home_mnt_ns == Some(number))
}

/// Sessions that `wanted` names: of several, those of the host's own mount namespace, unless it names another.
pub(super) fn choose<'s, 'a>(sessions: &'s [SessionJson<'a>], wanted: &[u8]) -> Vec<&'s SessionJson<'a>> {
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
    let at = wanted.iter().rposition(|&byte| byte == b'@')?;
    let (rest, number) = wanted.split_at_checked(at)?;
    Some((rest, std::str::from_utf8(number.get(1..)?).ok()?.parse().ok()?))
}

/// Sessions with the name `wanted`. An absolute path names a home, also by a symlink that leads to it.
fn find<'s, 'a>(sessions: &'s [SessionJson<'a>], wanted: &[u8]) -> Vec<&'s SessionJson<'a>> {
    if !wanted.starts_with(b"/") {
        return sessions.iter().filter(|session| session.name.as_bytes() == wanted).collect();
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
        assert_eq!(home_with_namespace(seven), "/x/a@7");
        assert_eq!(choose(&[inside(7)], b"a").len(), 1, "found, and not named by this alone");
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
