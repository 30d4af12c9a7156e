//! Where a session's pane is, and how to get there from where `observer top` runs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use super::event::Scope;
use super::rows::{TopRow, shown};
use crate::text::bytes::{Text, to_line};
use crate::text::table::cut_middle;

/// Cells of a name in a note.
const NAME_CELLS: usize = 24;

/// The multiplexer that this program runs in, and its user.
#[derive(Clone, Debug)]
pub(super) struct OwnMux {
    /// Path of the socket of the tmux server.
    pub(super) tmux_socket: Option<Vec<u8>>,
    /// Effective user id.
    pub(super) uid: u32,
    /// Owner of the socket at a path, which is that of the server; `None`: there is no socket, or nobody may look.
    pub(super) socket_owner: fn(&[u8]) -> Option<u32>,
}

impl OwnMux {
    /// From the value of the environment variable `TMUX`: socket, pid of the server, number of the session.
    pub(super) fn new(tmux: Option<&[u8]>, uid: u32) -> Self {
        let socket = tmux.and_then(|value| value.rsplitn(3, |&byte| byte == b',').nth(2));
        Self {
            tmux_socket: socket.filter(|socket| !socket.is_empty()).map(<[u8]>::to_vec),
            uid,
            socket_owner: owner_of_socket,
        }
    }
}

/// The owner of a socket; a link is none.
fn owner_of_socket(path: &[u8]) -> Option<u32> {
    // What is not absolute is not a path of this program.
    let path = Some(path).filter(|path| path.starts_with(b"/"))?;
    let found = std::fs::symlink_metadata(OsStr::from_bytes(path)).ok()?;
    found.file_type().is_socket().then(|| found.uid())
}

/// What `g` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Jump {
    /// The tmux client of this terminal can show the pane.
    Switch { socket: Vec<u8>, pane: String },
    /// A person can get there, or nobody can: the sentence says how, or why.
    Say(String),
}

impl Jump {
    /// The way to the pane of the session of `row`.
    pub(super) fn to(row: &TopRow, scope: Scope, own: &OwnMux) -> Self {
        let primary = &row.seen.session.primary;
        let name = name(row);
        if row.seen.has_ended() {
            return Self::Say(format!("{name} has ended; `observer history` says how"));
        }
        if let (None, Some(socket)) = (&primary.pane, &primary.mux_socket) {
            let Some(socket) = quoted(socket) else { return Self::Say(cannot_be_typed(&name)) };
            let (host, user) = (on_host(row, scope), as_user(primary.uid, scope, own));
            let pid = primary.pid;
            return Self::Say(format!(
                "{host}type: {user}screen -x {socket} -p =  (and choose the window of pid {pid})"
            ));
        }
        let (Some(pane), Some(socket)) = (&primary.pane, &primary.mux_socket) else {
            return Self::Say(match &primary.tty {
                _ if primary.pane_stale => format!("{name}: its pane is gone; look for pid {}", primary.pid),
                Some(tty) => {
                    format!("{name} is in no pane of tmux or screen; its terminal is {}", shown(tty))
                }
                None => format!("{name} has no terminal"),
            });
        };
        if primary.mux.as_deref() == Some("tmux") {
            return to_tmux(row, scope, own, pane, socket);
        }
        let command = [quoted(socket), quoted(pane)];
        Self::Say(match command {
            [Some(socket), Some(pane)] => {
                format!(
                    "{}type: {}screen -x {socket} -p {pane}",
                    on_host(row, scope),
                    as_user(primary.uid, scope, own)
                )
            }
            _ => cannot_be_typed(&name),
        })
    }
}

fn to_tmux(row: &TopRow, scope: Scope, own: &OwnMux, pane: &Text<'_>, socket: &Text<'_>) -> Jump {
    let name = name(row);
    // Both are from the environment of a process, which may say anything.
    let Some(pane) = std::str::from_utf8(pane.as_bytes()).ok().filter(|pane| is_pane_id(pane)) else {
        return Jump::Say(format!("{name} names a pane that is none of tmux: {}", shown(pane)));
    };
    let is_own = own.tmux_socket.as_deref() == Some(socket.as_bytes());
    // The session may run as another user in a pane of this one, by sudo; and only the server's owner is spoken to.
    if scope == Scope::Local && is_own && (own.socket_owner)(socket.as_bytes()) == Some(own.uid) {
        return Jump::Switch { socket: socket.as_bytes().to_vec(), pane: pane.into() };
    }
    let owner = match scope {
        Scope::Local => (own.socket_owner)(socket.as_bytes()),
        Scope::Fleet => None,
    };
    let Some(socket) = quoted(socket) else { return Jump::Say(cannot_be_typed(&name)) };
    let (host, user) =
        (on_host(row, scope), as_user(owner.unwrap_or(row.seen.session.primary.uid), scope, own));
    let choose = format!(r"select-window -t {pane} \; select-pane -t {pane}");
    Jump::Say(format!(r"{host}type: {user}tmux -S {socket} {choose} \; attach -t {pane}"))
}

/// `%` and a number.
fn is_pane_id(pane: &str) -> bool {
    pane.strip_prefix('%').is_some_and(|number| {
        !number.is_empty() && number.len() <= 10 && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The name, so short that a note has room for more.
fn name(row: &TopRow) -> String {
    cut_middle(&shown(&row.seen.session.name), NAME_CELLS).into_owned()
}

fn on_host(row: &TopRow, scope: Scope) -> String {
    match scope {
        Scope::Local => String::new(),
        Scope::Fleet => format!("on {}, ", row.host()),
    }
}

/// What precedes a command that another user has to run. Who runs this program says nothing on another host.
fn as_user(uid: u32, scope: Scope, own: &OwnMux) -> String {
    match scope {
        Scope::Local if uid != own.uid => format!("sudo -u '#{uid}' "),
        Scope::Local | Scope::Fleet => String::new(),
    }
}

fn cannot_be_typed(name: &str) -> String {
    format!(
        "{name}: the name of its multiplexer's socket has characters that cannot be typed; see `observer list --json`"
    )
}

/// `text` as a word of a shell; `None`: it has characters that would be shown as others.
fn quoted(text: &Text<'_>) -> Option<String> {
    let line = to_line(text.as_bytes());
    if line.as_bytes() != text.as_bytes() || line.is_empty() {
        return None;
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    match line.chars().all(is_plain) {
        true => Some(line.into_owned()),
        false => Some(format!("'{}'", line.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::SeenSession;
    use super::*;
    use crate::api::process::ProcessJson;
    use crate::api::session::SessionJson;
    use crate::api::words::SessionState;

    fn text(text: &str) -> Option<Text<'static>> {
        Some(Text::from(text.as_bytes().to_vec()))
    }

    fn row(mux: &'static str, pane: &str, socket: &str, uid: u32) -> TopRow {
        let primary = ProcessJson {
            pid: 7,
            uid,
            pane: text(pane),
            mux_socket: text(socket),
            mux: Some(mux.into()),
            ..ProcessJson::default()
        };
        let session = SessionJson {
            name: Text::from(&b"al\x1bpha"[..]),
            state: SessionState::Live,
            primary,
            ..SessionJson::default()
        };
        let mut row = TopRow::new(None);
        row.seen = SeenSession { session, host: "web1".into(), ..SeenSession::default() };
        row
    }

    fn own(tmux: &[u8], socket_owner: fn(&[u8]) -> Option<u32>) -> OwnMux {
        OwnMux { socket_owner, ..OwnMux::new(Some(tmux), 0) }
    }

    #[test]
    fn the_owner_of_a_socket_is_known_and_other_files_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let _listener = std::os::unix::net::UnixListener::bind(path("s")).unwrap();
        std::os::unix::fs::symlink(path("s"), path("link")).unwrap();
        let owner = |name: &str| owner_of_socket(path(name).as_os_str().as_bytes());
        assert_eq!(owner("s"), Some(nix::unistd::geteuid().as_raw()));
        assert_eq!([owner("link"), owner("."), owner("none")], [None; 3]);
    }

    fn said(row: &TopRow, scope: Scope, own: &OwnMux) -> String {
        match Jump::to(row, scope, own) {
            Jump::Say(text) => text,
            Jump::Switch { .. } => "it jumps".into(),
        }
    }

    #[test]
    fn the_own_tmux_server_of_the_same_user_is_switched_and_others_are_named() {
        let own = own(b"/tmp/tmux-0/a,b,123,0", |_| Some(0));
        assert_eq!(own.tmux_socket.as_deref(), Some(&b"/tmp/tmux-0/a,b"[..]));
        let here = row("tmux", "%5", "/tmp/tmux-0/a,b", 0);
        let switch = Jump::Switch { socket: b"/tmp/tmux-0/a,b".to_vec(), pane: "%5".into() };
        assert_eq!(Jump::to(&here, Scope::Local, &own), switch);
        let tail = r"select-window -t %5 \; select-pane -t %5 \; attach -t %5";
        let elsewhere = row("tmux", "%5", "/tmp/tmux-7/it's", 7);
        let expected = format!(r"type: tmux -S '/tmp/tmux-7/it'\''s' {tail}");
        assert_eq!(said(&elsewhere, Scope::Local, &own), expected, "the server is of the own user");
        // A session of another user in a pane of the own server, such as by sudo.
        assert_eq!(Jump::to(&row("tmux", "%5", "/tmp/tmux-0/a,b", 7), Scope::Local, &own), switch);
        let other = OwnMux { socket_owner: |_| Some(9), ..own.clone() };
        let forged = said(&here, Scope::Local, &other);
        assert!(forged.starts_with("type: sudo -u '#9' tmux -S '/tmp/tmux-0/a,b'"), "{forged}");
        let gone = OwnMux { socket_owner: |_| None, ..own.clone() };
        assert!(said(&here, Scope::Local, &gone).starts_with("type: tmux -S "), "the session's user");
        let fleet = said(&here, Scope::Fleet, &own);
        assert_eq!(fleet, format!("on web1, type: tmux -S '/tmp/tmux-0/a,b' {tail}"));
        let screen = row("screen", "2", "812.work", 0);
        assert_eq!(said(&screen, Scope::Local, &own), "type: screen -x 812.work -p 2");
        let mut several = screen;
        several.seen.session.primary.pane = None;
        let expected = "type: screen -x 812.work -p =  (and choose the window of pid 7)";
        assert_eq!(said(&several, Scope::Local, &own), expected);
    }

    #[test]
    fn what_a_process_claims_is_never_run_or_shown_raw() {
        let own = OwnMux::new(Some(b"/tmp/s,1,0"), 0);
        for pane in ["", "%", "5", "%5; kill-server", "%5\n", "-t", "%99999999999"] {
            let text = said(&row("tmux", pane, "/tmp/s", 0), Scope::Local, &own);
            assert!(text.contains("none of tmux") && !text.contains('\n'), "{pane:?}: {text}");
        }
        for socket in ["/tmp/\x1b[2J", "", "/tmp/a\nb", "/tmp/\u{202e}"] {
            let text = said(&row("tmux", "%5", socket, 0), Scope::Local, &own);
            assert!(text.contains("cannot be typed"), "{socket:?}: {text}");
            assert!(text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text:?}");
        }
        assert!(
            OwnMux::new(Some(b"x"), 0).tmux_socket.is_none() && OwnMux::new(None, 0).tmux_socket.is_none()
        );
    }
}
