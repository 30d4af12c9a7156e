//! Which session a command is about: by name, home or key.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Args;

use super::doubt::{say_too_many, say_undecided, say_undecided_user};
use super::exit::Exit;
use super::naming::{
    choose, choose_anywhere, home_with_numbers, is_called, is_named, is_one_life, name_without_number,
    split_namespace,
};
use super::{home, several, term, user};
use crate::api::answer::{ListAnswer, NamesakeJson};
use crate::api::doubt::UndecidedJson;
use crate::api::key::LifeKey;
use crate::api::session::SessionJson;
use crate::text::bytes::to_line;

/// The superuser, whose sessions are nobody's guess.
const ROOT: u32 = 0;

/// Names one session.
#[derive(Args)]
pub struct Which {
    /// A session's name, or its home: an absolute path, `.` or a path that begins with `./` or `../`. Of a home in another
    /// mount namespace, with the namespace's number: NAME@NUMBER. A key (`observer pid --key`) is one life of a process: where
    /// that has ended, there is no such session, whoever runs in its home since
    #[arg(value_name = "NAME|HOME|KEY")]
    pub(super) session: OsString,
    /// The session of this user, by name or number, whoever owns the home
    #[arg(long, value_name = "USER", value_parser = user::parse)]
    pub(super) user: Option<u32>,
    /// The session of this home, where several have the name
    #[arg(long, value_name = "HOME")]
    pub(super) home: Option<OsString>,
    /// Only if the session's primary is this life of a process still (`observer pid --key`): there is no such session
    /// otherwise
    #[arg(long = "if", value_name = "KEY", value_parser = key)]
    pub(super) only_if: Option<String>,
}

/// The session that is meant, or why there is none; that was said on standard error.
pub(super) enum Found<'s, 'a> {
    One(&'s SessionJson<'a>),
    /// Certainly none.
    None,
    /// Several, or another user's.
    Several,
    /// Events were lost, or what decides is not known: the owner of a home, or the arguments of a process.
    Unknown,
}

impl Found<'_, '_> {
    /// How a command ends that can do no more than name it.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::One(_) => Exit::Found,
            Self::None => Exit::None,
            Self::Several => Exit::Ambiguous,
            Self::Unknown => Exit::Unknown,
        }
    }
}

/// The key of one life of a process.
fn key(text: &str) -> Result<String, String> {
    let wrong =
        || "expected a key, such as 7f3e90ab-4242-1a2b3c4d5e: `observer pid --key NAME` prints it".to_owned();
    LifeKey::parse(text.as_bytes()).map(|_| text.to_owned()).ok_or_else(wrong)
}

impl Which {
    /// Chooses among the sessions of an answer, and says on standard error why there is none, if so.
    pub(super) fn find<'s, 'a>(&self, answer: &'s ListAnswer<'a>) -> anyhow::Result<Found<'s, 'a>> {
        self.find_life(answer, self.only_if.as_deref())
    }

    /// The same in a later answer: only while the session's primary is the life with this key.
    pub(super) fn find_again<'s, 'a>(
        &self,
        answer: &'s ListAnswer<'a>,
        key: &str,
    ) -> anyhow::Result<Found<'s, 'a>> {
        self.find_life(answer, Some(key))
    }

    fn find_life<'s, 'a>(
        &self,
        answer: &'s ListAnswer<'a>,
        key: Option<&str>,
    ) -> anyhow::Result<Found<'s, 'a>> {
        let is_same_life = |session: &SessionJson<'_>| key.is_none_or(|key| key == session.primary.key);
        let wanted = home::absolute(self.session.as_bytes())?;
        if !answer.head.certain {
            anstream::eprintln!(
                "observer: can't know: events were lost and the kernel is read again; ask again in a second (`observer status` says more)"
            );
            return Ok(Found::Unknown);
        }
        let home = self.home.as_ref().map(|home| home::absolute(home.as_bytes())).transpose()?;
        let named = of_words(&answer.sessions, &wanted, home.as_deref());
        let shown = to_line(&wanted).into_owned();
        let in_home = home.as_ref().map_or(String::new(), |home| format!(" in {}", to_line(home)));
        // A home says more than a name.
        let wanted = home.filter(|_| !is_one_life(&wanted)).unwrap_or(wanted);
        let chosen = answer_to(&named, &wanted, self.user);
        // Whose life is given is meant, whatever else has that name.
        if let NameAnswer::One(session) = chosen
            && key == Some(session.primary.key.as_str())
        {
            return Ok(Found::One(session));
        }
        if let Some(doubt) = self.doubt(answer, &wanted, &chosen, key) {
            return Ok(doubt);
        }
        Ok(match chosen {
            NameAnswer::One(session) if is_same_life(session) => Found::One(session),
            NameAnswer::One(session) => {
                let name = to_line(session.name.as_bytes());
                anstream::eprintln!("observer: {name} is another process now: {}", session.primary.key);
                Found::None
            }
            NameAnswer::None if self.say_doubt(answer, &wanted) => Found::Unknown,
            NameAnswer::None => {
                let of_user = self.user.map_or(String::new(), |uid| format!(" of user {}", user::shown(uid)));
                let gone = if is_one_life(&wanted) { " any more" } else { "" };
                anstream::eprintln!(
                    "observer: no session {shown}{in_home}{of_user}{gone}: `observer list --long` shows those there are"
                );
                Found::None
            }
            NameAnswer::Several(sessions) => {
                several::lines(&sessions, &wanted, term::error_width()).iter().for_each(|line| {
                    anstream::eprintln!("{line}");
                });
                Found::Several
            }
        })
    }

    /// Why what was chosen may not be what is meant, if so; that was said on standard error.
    fn doubt<'s, 'a>(
        &self,
        answer: &'s ListAnswer<'a>,
        wanted: &[u8],
        chosen: &NameAnswer<'s, 'a>,
        key: Option<&str>,
    ) -> Option<Found<'s, 'a>> {
        if let Some(undecided) = self.undecided(answer, wanted, chosen) {
            say_undecided(undecided);
            if let NameAnswer::One(session) = chosen {
                anstream::eprintln!(
                    "observer: the session of that name is in another home; name it by that: {}",
                    home_with_numbers(session, false)
                );
            }
            return Some(Found::Unknown);
        }
        let NameAnswer::One(session) = chosen else { return None };
        if self.user.is_some() || key.is_some() {
            return None;
        }
        if !is_one_life(wanted) && is_owner_missing(session) {
            let is_awaited = answer.awaiting_owners.contains(&session.primary.key);
            if is_awaited {
                say_awaiting_owner(session)
            } else {
                say_unknown_owner(session)
            }
            return Some(Found::Unknown);
        }
        let namesake = namesake(&answer.namesakes, session, wanted)?;
        say_namesake(session, namesake);
        Some(Found::Several)
    }

    /// Says on standard error that what was not found may be a session that one user too many has, or one of which not even
    /// the name is known, if so. Returns whether it may.
    fn say_doubt(&self, answer: &ListAnswer<'_>, wanted: &[u8]) -> bool {
        let is_meant = |uid: u32| self.user.is_none_or(|user| user == uid);
        let named = answer.over_limit.iter().find(|it| self.may_mean(wanted, it)).map(|it| it.uid);
        let mut others = answer.too_many_sessions.iter().copied();
        if let Some(uid) = named.or_else(|| others.find(|&uid| is_meant(uid))) {
            say_too_many(uid);
            return true;
        }
        let undecided = answer.undecided_users.iter().find(|it| is_meant(it.uid));
        undecided.inspect(|it| say_undecided_user(it)).is_some()
    }

    /// Whether `wanted` may mean the session that a process would be, in whichever mount namespace.
    fn may_mean(&self, wanted: &[u8], it: &UndecidedJson<'_>) -> bool {
        let is_called = |wanted: &[u8]| is_called(wanted, it.name.as_bytes(), it.home.as_bytes());
        self.user.is_none_or(|uid| uid == it.uid)
            && (it.key.as_bytes() == wanted
                || is_called(wanted)
                || split_namespace(wanted).is_some_and(|(plain, _)| is_called(plain)))
    }

    /// A home that could be meant instead of what was chosen, of which it is not known whether it has a session. Where it has
    /// one, and may have another, the name is that one's.
    fn undecided<'s, 'a>(
        &self,
        answer: &'s ListAnswer<'a>,
        wanted: &[u8],
        chosen: &NameAnswer<'_, '_>,
    ) -> Option<&'s UndecidedJson<'a>> {
        // Several are no answer anyway, and a life or a home that was found is the one that is meant.
        let is_found =
            matches!(chosen, NameAnswer::One(_)) && (is_one_life(wanted) || wanted.starts_with(b"/"));
        if is_found || matches!(chosen, NameAnswer::Several(_)) {
            return None;
        }
        let is_chosen = |it: &UndecidedJson<'_>| {
            let is_home_of =
                |session: &SessionJson<'_>| session.home == it.home && session.primary.uid == it.uid;
            matches!(chosen, NameAnswer::One(session) if is_home_of(session))
        };
        answer.undecided.iter().find(|it| self.may_mean(wanted, it) && !is_chosen(it))
    }
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NameAnswer<'s, 'a> {
    One(&'s SessionJson<'a>),
    /// Nothing is called so.
    None,
    /// The name alone does not say which of these, or whether it is this one.
    Several(Vec<&'s SessionJson<'a>>),
}

/// The sessions that `wanted` names, of `home` where one is given.
pub(super) fn of_words<'s, 'a>(
    sessions: &'s [SessionJson<'a>],
    wanted: &[u8],
    home: Option<&[u8]>,
) -> Vec<&'s SessionJson<'a>> {
    let Some(home) = home else { return choose(sessions, wanted) };
    // A name alone is of the host's own mount namespace, which the home may not be.
    let named = choose_anywhere(sessions, wanted);
    let is_named = |it: &&SessionJson<'_>| named.iter().any(|named| std::ptr::eq(*named, *it));
    choose(sessions, home).into_iter().filter(is_named).collect()
}

/// What `wanted` stands for among the sessions that it names. Without a user, the sessions of others than the owners
/// of their homes are not answered: somebody may stand in a home who has nothing to do with it.
pub(super) fn answer_to<'s, 'a>(
    named: &[&'s SessionJson<'a>],
    wanted: &[u8],
    user: Option<u32>,
) -> NameAnswer<'s, 'a> {
    let is_meant = |session: &SessionJson<'_>| match user {
        Some(uid) => session.primary.uid == uid,
        None => is_one_life(wanted) || !is_foreign(session),
    };
    let meant: Vec<_> = named.iter().copied().filter(|session| is_meant(session)).collect();
    match meant[..] {
        [session] if is_named(session, wanted) => NameAnswer::One(session),
        [] if named.is_empty() || user.is_some() => NameAnswer::None,
        [] => NameAnswer::Several(named.to_vec()),
        _ => NameAnswer::Several(meant),
    }
}

/// Whether it cannot be said if the session's user is the one whose home it is. root counts as the owner of each. In another
/// mount namespace it is never known, and such a session is named with its namespace.
fn is_owner_missing(session: &SessionJson<'_>) -> bool {
    session.foreign.is_none() && session.home_mnt_ns.is_none() && session.primary.uid != ROOT
}

/// Whether the session's user is known to be another one than the one whose home it is.
fn is_foreign(session: &SessionJson<'_>) -> bool {
    session.foreign == Some(true)
}

/// A session of another user that ended in another home and had the name by which alone `session` was asked for. That
/// one may be meant: anybody can have a home of that name.
fn namesake<'s, 'a>(
    namesakes: &'s [NamesakeJson<'a>],
    session: &SessionJson<'_>,
    wanted: &[u8],
) -> Option<&'s NamesakeJson<'a>> {
    let name = name_without_number(session);
    let is_by_name = !wanted.starts_with(b"/") && !is_one_life(wanted) && session.primary.uid != ROOT;
    let is_other = |it: &&NamesakeJson<'_>| {
        it.name.as_bytes() == name && it.uid != session.primary.uid && it.home != session.home
    };
    namesakes.iter().find(is_other).filter(|_| is_by_name)
}

/// Says on standard error that `session` may not be the one that is meant, and how to name it.
fn say_namesake(session: &SessionJson<'_>, namesake: &NamesakeJson<'_>) {
    let name = to_line(namesake.name.as_bytes());
    anstream::eprintln!(
        "observer: {name} is a session of {} and was one of {} until {}, in another home; name one by its home:",
        user::shown(session.primary.uid),
        user::shown(namesake.uid),
        namesake.ended_at
    );
    let mnt_ns = namesake.home_mnt_ns.map(|number| format!("@{number}")).unwrap_or_default();
    anstream::eprintln!(
        "  {}\n  {}{mnt_ns}  (ended)",
        home_with_numbers(session, false),
        to_line(namesake.home.as_bytes())
    );
}

/// Says on standard error that nobody knows yet whether the session is of its home's owner, and what to do.
fn say_awaiting_owner(session: &SessionJson<'_>) {
    let home = to_line(session.home.as_bytes());
    anstream::eprintln!(
        "observer: can't know: pid {} of {} is in {home}, whose owner is being read: ask again in a second, name it by --user, \
         and see what `stat {home}` says",
        session.primary.pid,
        user::shown(session.primary.uid)
    );
}

/// Says on standard error that the session may be another user's than the home's, and what to do.
fn say_unknown_owner(session: &SessionJson<'_>) {
    let (home, uid) = (to_line(session.home.as_bytes()), session.primary.uid);
    anstream::eprintln!(
        "observer: can't know: pid {} of {} is in {home}, and the daemon may not see whose directory that is: if it is the one \
         that you mean, name it by --user {}, or name its user in the rule",
        session.primary.pid,
        user::shown(uid),
        user::shown(uid)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::answer::Head;
    use crate::api::doubt::{DoubtReason, UndecidedUserJson};
    use crate::api::process::ProcessJson;
    use crate::text::bytes::Text;

    fn session(name: &'static [u8], home: &[u8]) -> SessionJson<'static> {
        SessionJson { name: Text::from(name), home: Text::from(home.to_vec()), ..SessionJson::default() }
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
            NameAnswer::One(&sessions[0]),
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
        assert_eq!(answer_to(&[&own, &strange], b"a", None), NameAnswer::One(&own));
        assert_eq!(answer_to(&all, b"a", None), NameAnswer::Several(vec![&own, &unknown]));
        assert_eq!(answer_to(&all, b"a", Some(8)), NameAnswer::One(&strange));
        assert_eq!(answer_to(&all, b"a", Some(10)), NameAnswer::None);
        assert_eq!(answer_to(&[&strange], b"a", None), NameAnswer::Several(vec![&strange]));
        assert_eq!(answer_to(&[&unknown], b"a", None), NameAnswer::One(&unknown));
        assert_eq!(answer_to(&[], b"a", None), NameAnswer::None);
        let root = of(0, Some(false));
        assert_eq!(answer_to(&[&own, &root], b"a", None), NameAnswer::Several(vec![&own, &root]));
        let inside = SessionJson { home_mnt_ns: Some(7), ..unknown.clone() };
        assert_eq!(answer_to(&[&inside], b"a@7", None), NameAnswer::One(&inside), "named by its namespace");
        assert_eq!(answer_to(&[&inside], b"a", None), NameAnswer::Several(vec![&inside]));
    }

    #[test]
    fn nothing_is_certainly_none_of_a_user_who_may_have_a_session_without_a_name() {
        let head = Head { certain: true, ..Head::default() };
        let user =
            UndecidedUserJson { uid: 8, reason: DoubtReason::PathTooLong, ..UndecidedUserJson::default() };
        let answer = ListAnswer {
            head,
            sessions: vec![session(b"b", b"/x/b")],
            undecided_users: vec![user],
            ..ListAnswer::default()
        };
        let exit = |wanted: &str, user| {
            let which = Which { session: wanted.into(), user, home: None, only_if: None };
            which.find(&answer).unwrap().exit()
        };
        let exits = [None, Some(8), Some(9)].map(|user| exit("a", user));
        assert_eq!(exits, [Exit::Unknown, Exit::Unknown, Exit::None]);
        assert_eq!(exit("b", None), Exit::Found, "what is found is found");
    }

    #[test]
    fn nothing_is_certainly_none_of_a_user_with_too_many_sessions() {
        let head = Head { certain: true, ..Head::default() };
        let mut answer = ListAnswer { head, too_many_sessions: vec![8], ..ListAnswer::default() };
        let exit = |answer: &ListAnswer<'_>, wanted: &str, user| {
            let which = Which { session: wanted.into(), user, home: None, only_if: None };
            which.find(answer).unwrap().exit()
        };
        let exits = [None, Some(8), Some(9)].map(|user| exit(&answer, "a", user));
        assert_eq!(exits, [Exit::Unknown, Exit::Unknown, Exit::None]);
        // It is known which homes have none.
        answer.too_many_sessions.clear();
        answer.over_limit.push(UndecidedJson {
            name: Text::from(b"a".to_vec()),
            home: Text::from(b"/x/a".to_vec()),
            uid: 8,
            ..UndecidedJson::default()
        });
        for (wanted, user, expected) in [
            ("a", None, Exit::Unknown),
            ("a#2", None, Exit::Unknown),
            ("a@7", None, Exit::Unknown),
            ("/x/a", None, Exit::Unknown),
            ("a", Some(8), Exit::Unknown),
            ("a", Some(9), Exit::None),
            ("b", None, Exit::None),
            ("/x/b", Some(8), Exit::None),
        ] {
            assert_eq!(exit(&answer, wanted, user), expected, "{wanted} of {user:?}");
        }
    }

    #[test]
    fn whose_a_session_is_cannot_be_said_while_the_owner_of_its_home_is_read() {
        let strange = SessionJson {
            primary: ProcessJson { uid: 8, key: "7f3e90ab-42-1a2b3c4d5e".into(), ..ProcessJson::default() },
            ..session(b"a", b"/x/a")
        };
        let key = strange.primary.key.clone();
        let head = Head { certain: true, ..Head::default() };
        let answer = |awaiting_owners| ListAnswer {
            head: head.clone(),
            sessions: vec![strange.clone()],
            awaiting_owners,
            ..ListAnswer::default()
        };
        let found = |answer: &ListAnswer<'_>, wanted: &str, user| {
            let which = Which { session: wanted.into(), user, home: None, only_if: None };
            matches!(which.find(answer).unwrap(), Found::One(_))
        };
        let by = [("a", None), ("/x/a", None), ("a", Some(8)), (key.as_str(), None)];
        // Whether the answer is awaited, or there was none.
        for mut unknown in [answer(vec![key.clone()]), answer(vec![])] {
            assert_eq!(by.map(|(wanted, user)| found(&unknown, wanted, user)), [false, false, true, true]);
            unknown.sessions[0].foreign = Some(false);
            assert_eq!(by.map(|(wanted, user)| found(&unknown, wanted, user)), [true; 4]);
            let in_container = SessionJson { foreign: None, home_mnt_ns: Some(7), ..strange.clone() };
            unknown.sessions = vec![in_container];
            assert!(found(&unknown, "a@7", None), "named by its namespace");
        }
    }

    #[test]
    fn a_home_chooses_among_sessions_of_one_name() {
        let inside = SessionJson { home_mnt_ns: Some(7), ..session(b"a", b"/x/a") };
        let sessions = [session(b"a", b"/x/a"), session(b"a", b"/y/a"), inside];
        let pick = |home: &[u8], name: &[u8]| of_words(&sessions, name, Some(home));
        assert_eq!(pick(b"/y/a", b"a"), [&sessions[1]]);
        assert_eq!(pick(b"/x/a", b"a"), [&sessions[0]], "the host's own, unless a namespace is named");
        assert_eq!(pick(b"/x/a@7", b"a"), [&sessions[2]]);
        assert_eq!(pick(b"/x/a@7", b"a@7"), [&sessions[2]]);
        assert!(pick(b"/y/a", b"b").is_empty() && pick(b"/z", b"a").is_empty());
        let one = [SessionJson {
            primary: ProcessJson { key: "7f3e90ab-42-1a2b3c4d5e".into(), ..ProcessJson::default() },
            ..session(b"a", b"/x/a")
        }];
        assert_eq!(of_words(&one, b"7f3e90ab-42-1a2b3c4d5e", Some(b"/x/a")).len(), 1, "a key and its home");
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
    fn a_name_that_another_users_session_had_elsewhere_is_no_answer() {
        let of = |uid, home: &[u8]| SessionJson {
            foreign: Some(false),
            primary: ProcessJson { uid, ..ProcessJson::default() },
            ..session(b"a", home)
        };
        let namesake = |uid, home: &[u8]| NamesakeJson {
            name: Text::from(b"a".to_vec()),
            home: Text::from(home.to_vec()),
            uid,
            ..NamesakeJson::default()
        };
        let victims = [namesake(7, b"/v/a")];
        let is_doubtful = |session, wanted: &[u8]| super::namesake(&victims, &session, wanted).is_some();
        assert!(is_doubtful(of(8, b"/x/a"), b"a"));
        assert!(!is_doubtful(of(8, b"/x/a"), b"/x/a"), "a home says which");
        assert!(!is_doubtful(of(8, b"/v/a"), b"a"), "it is a session of another user in the same home");
        assert!(!is_doubtful(of(7, b"/x/a"), b"a"), "a user moved");
        assert!(!is_doubtful(of(0, b"/x/a"), b"a"), "root takes nothing");
    }

    #[test]
    fn a_home_whose_owner_is_not_known_may_be_the_one_that_is_meant() {
        let of = |name: &[u8], home: &[u8]| UndecidedJson {
            name: Text::from(name.to_vec()),
            home: Text::from(home.to_vec()),
            uid: 7,
            key: "7f3e90ab-4242-1a2b3c4d5e".to_owned(),
            ..UndecidedJson::default()
        };
        let answer = ListAnswer { undecided: vec![of(b"a", b"/v/a")], ..ListAnswer::default() };
        let other = session(b"a", b"/x/a");
        let is_doubtful = |wanted: &str, user, chosen: NameAnswer<'_, '_>| {
            let which = Which { session: wanted.into(), user, home: None, only_if: None };
            which.undecided(&answer, wanted.as_bytes(), &chosen).is_some()
        };
        for wanted in ["a", "a#2", "/v/a", "/v/a/", "7f3e90ab-4242-1a2b3c4d5e"] {
            assert!(is_doubtful(wanted, None, NameAnswer::None), "{wanted}");
        }
        for wanted in ["b", "/v", "/x/a", "7f3e90ab-4243-1a2b3c4d5e"] {
            assert!(!is_doubtful(wanted, None, NameAnswer::None), "{wanted}");
        }
        assert!(is_doubtful("a", None, NameAnswer::One(&other)), "another home of that name");
        let primary = ProcessJson { uid: 7, ..ProcessJson::default() };
        let own = SessionJson { primary, ..session(b"a", b"/v/a") };
        assert!(!is_doubtful("a", None, NameAnswer::One(&own)), "it may have one more, which is a#2");
        assert!(!is_doubtful("/x/a", None, NameAnswer::One(&other)));
        assert!(is_doubtful("a", Some(7), NameAnswer::None) && !is_doubtful("a", Some(8), NameAnswer::None));
    }
}
