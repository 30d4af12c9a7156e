//! Which sessions that are over a command is about: by name, home or key.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt as _;

use super::naming::{is_called, is_one_life, split_number};
use super::{home, user};
use crate::api::leftovers::{FormerSessionJson, LeftoverJson};
use crate::text::bytes::to_line;
use crate::text::time::age_s;

/// What names sessions that are over.
pub(super) struct FormerWanted {
    wanted: Vec<u8>,
    user: Option<u32>,
    /// Only the life with this key.
    key: Option<String>,
    /// Only sessions of this home.
    home: Option<Vec<u8>>,
}

impl FormerWanted {
    /// Those that `typed` names; of this user, and with this key of the former primary, where these are given.
    pub fn new(typed: &std::ffi::OsStr, user: Option<u32>, key: Option<&str>) -> std::io::Result<Self> {
        let wanted = home::absolute(typed.as_bytes())?.into_owned();
        Ok(Self { wanted, user, key: key.map(Into::into), home: None })
    }

    /// Those of them that were in the home `typed`, if one is given.
    pub fn in_home(mut self, typed: Option<&std::ffi::OsStr>) -> std::io::Result<Self> {
        self.home = typed.map(|home| home::absolute(home.as_bytes())).transpose()?.map(Cow::into_owned);
        Ok(self)
    }

    /// What was typed, for people.
    pub fn shown(&self) -> String {
        let of_user = self.user.map_or(String::new(), |uid| format!(" of user {}", user::shown(uid)));
        format!("{}{of_user}", to_line(&self.wanted))
    }

    /// Whether the session is meant.
    pub fn is_meant(&self, session: &FormerSessionJson<'_>) -> bool {
        is_named(&self.wanted, session)
            && self.home.as_ref().is_none_or(|home| is_named(home, session))
            && self.user.is_none_or(|uid| uid == session.uid)
            && self.key.as_ref().is_none_or(|key| *key == session.key)
    }

    /// The homes of the sessions that are meant, if these are several, or of several users, each as a line: a name alone does
    /// not say which of them.
    pub fn several(&self, leftovers: &[LeftoverJson<'_>]) -> Option<Vec<String>> {
        let meant = leftovers.iter().map(|it| &it.session).filter(|session| self.is_meant(session));
        let mut places: Vec<&FormerSessionJson<'_>> = Vec::new();
        for session in meant {
            if !places.iter().any(|place| is_same_place(place, session)) {
                places.push(session);
            }
        }
        let line = |session: &&FormerSessionJson<'_>| {
            let mnt_ns = session.home_mnt_ns.map(|number| format!("@{number}")).unwrap_or_default();
            let home = to_line(session.home.as_bytes());
            format!("{home}{mnt_ns}  {}  {}", user::shown(session.uid), session.key)
        };
        (places.len() > 1).then(|| places.iter().map(line).collect())
    }
}

/// Whether `wanted` names the session: by name, home or key.
fn is_named(wanted: &[u8], session: &FormerSessionJson<'_>) -> bool {
    let is_it = |wanted: &[u8]| is_called(wanted, session.name.as_bytes(), session.home.as_bytes());
    if is_one_life(wanted) {
        return session.key.as_bytes() == wanted;
    }
    let in_namespace = split_number(wanted, b'@').filter(|&(_, number)| session.home_mnt_ns == Some(number));
    is_it(wanted) || in_namespace.is_some_and(|(rest, _)| is_it(rest))
}

/// Whether both were in the same directory, and of the same user.
fn is_same_place(one: &FormerSessionJson<'_>, other: &FormerSessionJson<'_>) -> bool {
    (one.home_mnt_ns, &one.home, one.uid) == (other.home_mnt_ns, &other.home, other.uid)
}

/// How long ago something was, at `now` (ns since 1970).
pub(super) fn age(at: &str, now: i128) -> String {
    crate::text::time::span(age_s(at, now))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::text::bytes::Text;

    fn session(name: &'static str, home: &'static str, uid: u32) -> FormerSessionJson<'static> {
        let (name, home) = (Text::from(name.as_bytes()), Text::from(home.as_bytes()));
        FormerSessionJson { name, home, uid, key: "7f3e90ab-4242-1a2b3c4d5e".into(), ..Default::default() }
    }

    fn means(typed: &str, user: Option<u32>, session: &FormerSessionJson<'_>) -> bool {
        FormerWanted::new(OsStr::new(typed), user, None).unwrap().is_meant(session)
    }

    #[test]
    fn a_name_a_home_or_a_key_names_a_session_that_is_over() {
        let of_host = session("a", "/srv/a", 7);
        for typed in ["a", "/srv/a", "/srv/a/", "7f3e90ab-4242-1a2b3c4d5e"] {
            assert!(means(typed, None, &of_host) && means(typed, Some(7), &of_host), "{typed}");
            assert!(!means(typed, Some(8), &of_host), "{typed}");
        }
        for typed in ["b", "/srv/b", "a@5", "7f3e90ab-4243-1a2b3c4d5e"] {
            assert!(!means(typed, None, &of_host), "{typed}");
        }
        let inside = FormerSessionJson { home_mnt_ns: Some(5), ..session("a", "/srv/a", 7) };
        assert!(means("a@5", None, &inside) && !means("a@6", None, &inside));
        let of_home = |home: &str| {
            FormerWanted::new(OsStr::new("a"), None, None).unwrap().in_home(Some(OsStr::new(home)))
        };
        assert!(
            of_home("/srv/a").unwrap().is_meant(&of_host) && !of_home("/x/a").unwrap().is_meant(&of_host)
        );
        let other = FormerWanted::new(OsStr::new("a"), None, Some("7f3e90ab-1-1a2b3c4d5e")).unwrap();
        assert!(!other.is_meant(&of_host));
    }

    #[test]
    fn lives_of_one_home_are_meant_together_and_several_homes_are_listed() {
        let leftover = |session| LeftoverJson { session, ..Default::default() };
        let wanted = FormerWanted::new(OsStr::new("a"), None, None).unwrap();
        let later = FormerSessionJson { key: "7f3e90ab-5-1a2b3c4d5e".into(), ..session("a", "/srv/a", 7) };
        let one = [leftover(session("a", "/srv/a", 7)), leftover(later), leftover(session("b", "/srv/b", 7))];
        assert_eq!(wanted.several(&one), None);
        let two = [leftover(session("a", "/srv/a", 7)), leftover(session("a", "/x/a", 7))];
        assert_eq!(wanted.several(&two).map(|lines| lines.len()), Some(2));
        let users = [leftover(session("a", "/srv/a", 7)), leftover(session("a", "/srv/a", 8))];
        assert_eq!(wanted.several(&users).map(|lines| lines.len()), Some(2));
    }
}
