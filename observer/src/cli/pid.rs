//! `observer pid`

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::Args;

use super::exit::Exit;
use super::{home, term};
use crate::api::answer::ListAnswer;
use crate::api::session::SessionJson;
use crate::socket::client::{Client, decode};
use crate::socket::frame::ClientRequest;
use crate::text::bytes::to_line;

/// Needs the daemon: exits 4 without one.
#[derive(Args)]
pub struct PidArgs {
    /// A session's name, or the absolute path of its home
    #[arg(value_name = "NAME|HOME")]
    session: OsString,
}

impl PidArgs {
    /// 0 found, 1 certainly none, 3 several, 4 can't know.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        let line = Client::connect(socket)?.ask(&ClientRequest::List { ended: false })?;
        let answer: ListAnswer<'_> = decode(&line)?;
        let wanted = self.session.as_bytes();
        if !answer.head.certain {
            eprintln!(
                "observer: can't know: events were lost and the kernel is read again; ask again in a second"
            );
            return Ok(Exit::Unknown);
        }
        match &find(&answer.sessions, wanted)[..] {
            [] => {
                eprintln!("observer: no session {}: `observer list` shows those there are", to_line(wanted));
                Ok(Exit::None)
            }
            [session] => {
                term::print_lines([session.primary.pid.to_string()])?;
                Ok(Exit::Found)
            }
            several => {
                eprintln!(
                    "observer: {} sessions are called {}; name one by its home:",
                    several.len(),
                    to_line(wanted)
                );
                for session in several {
                    eprintln!("  {}", to_line(session.home.as_bytes()));
                }
                Ok(Exit::Ambiguous)
            }
        }
    }
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
    fn a_symlink_leads_to_its_home() {
        let dir = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(base.join("home")).unwrap();
        std::os::unix::fs::symlink(base.join("home"), base.join("link")).unwrap();
        let sessions = [session(b"home", base.join("home").as_os_str().as_bytes())];
        assert_eq!(find(&sessions, base.join("link").as_os_str().as_bytes()).len(), 1);
    }
}
