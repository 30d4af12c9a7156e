//! Which sessions that are over a command is about: by name, home or key.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::naming::is_one_life;
use super::which::{NameAnswer, answer_to, of_words};
use super::{home, user};
use crate::api::leftovers::{FormerSessionJson, LeftoverJson};
use crate::api::process::ProcessJson;
use crate::api::session::SessionJson;
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

/// What a name stands for among sessions that are over.
pub(super) enum FormerFound {
    /// One, or its lives that followed each other.
    One(FormerMeant),
    /// Nothing is called so.
    None,
    /// The name alone does not say which of these, or whether it is this one: each as a line.
    Several(Vec<String>),
}

/// The sessions that are meant: those of one place, or one life.
#[derive(Debug)]
pub(super) struct FormerMeant {
    /// One of them.
    pub session: FormerSessionJson<'static>,
    /// Whether only this life of it is meant.
    is_one_life: bool,
}

impl FormerMeant {
    /// Whether this is one of them.
    pub fn has(&self, session: &FormerSessionJson<'_>) -> bool {
        if self.is_one_life { self.session.key == session.key } else { is_same_place(&self.session, session) }
    }
}

impl FormerWanted {
    /// Those that `typed` names; of this user, and with this key of the former primary, where these are given.
    pub fn new(typed: &OsStr, user: Option<u32>, key: Option<&str>) -> std::io::Result<Self> {
        let wanted = home::absolute(typed.as_bytes())?.into_owned();
        Ok(Self { wanted, user, key: key.map(Into::into), home: None })
    }

    /// Those of them that were in the home `typed`, if one is given.
    pub fn in_home(mut self, typed: Option<&OsStr>) -> std::io::Result<Self> {
        self.home = typed.map(|home| home::absolute(home.as_bytes())).transpose()?.map(Cow::into_owned);
        Ok(self)
    }

    /// What was typed, for people.
    pub fn shown(&self) -> String {
        let of_user = self.user.map_or(String::new(), |uid| format!(" of user {}", user::shown(uid)));
        format!("{}{of_user}", to_line(&self.wanted))
    }

    /// The leftovers whose sessions have the name, wherever these were and whose they are.
    pub fn named<'l, 'a>(&self, leftovers: &'l [LeftoverJson<'a>]) -> Vec<&'l LeftoverJson<'a>> {
        let lives = lives(leftovers);
        let mut keys: Vec<&str> = of_words(&lives, &self.wanted, self.home.as_deref())
            .iter()
            .map(|life| &*life.primary.key)
            .collect();
        keys.retain(|key| self.key.as_deref().is_none_or(|only| only == *key));
        let of_user = |it: &&LeftoverJson<'_>| self.user.is_none_or(|uid| uid == it.session.uid);
        leftovers.iter().filter(|it| keys.contains(&&*it.session.key)).filter(of_user).collect()
    }

    /// What is meant, by the rules for sessions that live: a name is of the host's own mount namespace unless it says
    /// otherwise, and of no session of another user than the home's owner unless that user is named.
    pub fn find(&self, leftovers: &[LeftoverJson<'static>]) -> FormerFound {
        let named = self.named(leftovers);
        let mut places: Vec<&FormerSessionJson<'static>> = Vec::new();
        for leftover in named {
            if !places.iter().any(|place| is_same_place(place, &leftover.session)) {
                places.push(&leftover.session);
            }
        }
        let sessions: Vec<SessionJson<'static>> = places.iter().map(|place| as_session(place)).collect();
        let home = self.home.as_deref().filter(|_| !is_one_life(&self.wanted));
        let wanted = home.unwrap_or(&self.wanted);
        let place = |session: &SessionJson<'_>| {
            places.iter().find(|place| place.key == session.primary.key).map(|&place| place.clone())
        };
        match answer_to(&sessions.iter().collect::<Vec<_>>(), wanted, self.user) {
            NameAnswer::None => FormerFound::None,
            NameAnswer::Several(_) => FormerFound::Several(places.iter().map(|place| line(place)).collect()),
            NameAnswer::One(session) => place(session).map_or(FormerFound::None, |session| {
                FormerFound::One(FormerMeant {
                    session,
                    is_one_life: self.key.is_some() || is_one_life(&self.wanted),
                })
            }),
        }
    }
}

/// Each life of a session that left something, as a session.
fn lives<'a>(leftovers: &[LeftoverJson<'a>]) -> Vec<SessionJson<'a>> {
    let mut lives: Vec<SessionJson<'a>> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for LeftoverJson { session, .. } in leftovers {
        if seen.insert(&session.key) {
            lives.push(as_session(session));
        }
    }
    lives
}

/// What tells the session from others.
fn as_session<'a>(session: &FormerSessionJson<'a>) -> SessionJson<'a> {
    SessionJson {
        name: session.name.clone(),
        home: session.home.clone(),
        home_mnt_ns: session.home_mnt_ns,
        instance: session.instance,
        foreign: session.foreign,
        primary: ProcessJson { uid: session.uid, key: session.key.clone(), ..ProcessJson::default() },
        ..SessionJson::default()
    }
}

/// Whether both were the same session of the same user in the same directory.
fn is_same_place(one: &FormerSessionJson<'_>, other: &FormerSessionJson<'_>) -> bool {
    let place = |it: &FormerSessionJson<'_>| (it.home_mnt_ns, it.uid, it.instance);
    place(one) == place(other) && one.home == other.home
}

/// How to name the session by itself.
fn line(session: &FormerSessionJson<'_>) -> String {
    let mnt_ns = session.home_mnt_ns.map(|number| format!("@{number}")).unwrap_or_default();
    let note = if session.foreign == Some(true) { "  (foreign)" } else { "" };
    let home = to_line(session.home.as_bytes());
    format!("{home}#{}{mnt_ns}  --user {}  {}{note}", session.instance, user::shown(session.uid), session.key)
}

/// How long ago something was, at `now` (ns since 1970).
pub(super) fn age(at: &str, now: i128) -> String {
    crate::text::time::span(age_s(at, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::bytes::Text;

    fn session(name: &'static str, home: &'static str, uid: u32, key: &str) -> FormerSessionJson<'static> {
        let (name, home) = (Text::from(name.as_bytes()), Text::from(home.as_bytes()));
        FormerSessionJson { name, home, uid, instance: 1, key: key.into(), ..Default::default() }
    }

    const KEYS: [&str; 3] =
        ["7f3e90ab-4242-1a2b3c4d5e", "7f3e90ab-4243-1a2b3c4d5e", "7f3e90ab-4244-1a2b3c4d5e"];

    fn left(sessions: Vec<FormerSessionJson<'static>>) -> Vec<LeftoverJson<'static>> {
        sessions.into_iter().map(|session| LeftoverJson { session, ..Default::default() }).collect()
    }

    /// The key of what is meant; `none`, or the number of those that could be.
    fn found(typed: &str, user: Option<u32>, leftovers: &[LeftoverJson<'static>]) -> String {
        match FormerWanted::new(OsStr::new(typed), user, None).unwrap().find(leftovers) {
            FormerFound::One(meant) => meant.session.key,
            FormerFound::None => "none".into(),
            FormerFound::Several(lines) => lines.len().to_string(),
        }
    }

    #[test]
    fn a_name_a_home_or_a_key_names_a_session_that_is_over() {
        let leftovers = left(vec![session("a", "/srv/a", 7, KEYS[0])]);
        for typed in ["a", "/srv/a", "/srv/a/", "a#1", KEYS[0]] {
            assert_eq!(found(typed, None, &leftovers), KEYS[0], "{typed}");
            assert_eq!(found(typed, Some(7), &leftovers), KEYS[0], "{typed}");
            assert_eq!(found(typed, Some(8), &leftovers), "none", "{typed}");
        }
        for typed in ["b", "/srv/b", "a@5", "a#2", KEYS[1]] {
            assert_eq!(found(typed, None, &leftovers), "none", "{typed}");
        }
    }

    #[test]
    fn lives_of_one_place_are_meant_together_and_several_places_are_listed() {
        let lives = left(vec![
            session("a", "/srv/a", 7, KEYS[0]),
            session("a", "/srv/a", 7, KEYS[1]),
            session("b", "/srv/b", 7, KEYS[2]),
        ]);
        let FormerFound::One(meant) = FormerWanted::new(OsStr::new("a"), None, None).unwrap().find(&lives)
        else {
            panic!("one place")
        };
        let of = |key: &str| lives.iter().find(|it| it.session.key == key).map(|it| meant.has(&it.session));
        assert_eq!(KEYS.map(of), [Some(true), Some(true), Some(false)]);
        for other in [session("a", "/x/a", 7, KEYS[1]), session("a", "/srv/a", 8, KEYS[1])] {
            assert_eq!(found("a", None, &left(vec![session("a", "/srv/a", 7, KEYS[0]), other])), "2");
        }
    }

    #[test]
    fn numbers_tell_sessions_of_one_home_apart() {
        let second = FormerSessionJson { instance: 2, ..session("a#2", "/srv/a", 7, KEYS[1]) };
        let leftovers = left(vec![session("a", "/srv/a", 7, KEYS[0]), second]);
        assert_eq!(found("a#2", None, &leftovers), KEYS[1]);
        assert_eq!(found("/srv/a#1", None, &leftovers), KEYS[0]);
        assert_eq!(
            (found("a", None, &leftovers), found("/srv/a", None, &leftovers)),
            ("2".into(), "2".into())
        );
    }

    #[test]
    fn what_a_stranger_left_or_a_sandbox_is_meant_only_where_it_is_named() {
        let foreign = FormerSessionJson { foreign: Some(true), ..session("a", "/srv/a", 8, KEYS[0]) };
        let leftovers = left(vec![foreign]);
        assert_eq!(
            (found("a", None, &leftovers), found("a", Some(8), &leftovers)),
            ("1".into(), KEYS[0].into())
        );
        assert_eq!(found(KEYS[0], None, &leftovers), KEYS[0]);
        let inside = FormerSessionJson { home_mnt_ns: Some(5), ..session("a", "/srv/a", 7, KEYS[1]) };
        let inside_alone = left(vec![inside.clone()]);
        assert_eq!(
            (found("a", None, &inside_alone), found("a@5", None, &inside_alone)),
            ("1".into(), KEYS[1].into())
        );
        let both = left(vec![inside, session("a", "/srv/a", 7, KEYS[2])]);
        assert_eq!(
            (found("a", None, &both), found("/srv/a@5", None, &both)),
            (KEYS[2].into(), KEYS[1].into())
        );
    }
}
