//! `observer explain`

use std::ffi::OsString;
use std::path::Path;

use clap::Args;
use observer_core::limits::{CANDIDATES_A_HOME_MAX, SESSIONS_A_USER_MAX};

use super::exit::Exit;
use super::flags::BtfFlag;
use super::once::StandaloneMap;
use super::places::PlaceFlags;
use super::which::{Found, Which};
use super::{term, user};
use crate::api::answer::ListAnswer;
use crate::api::explain::{ExplainAnswer, InheritedJson};
use crate::api::explain_words::{ElectedBy, SessionPosition, UnmetCondition};
use crate::api::process::ProcessJson;
use crate::api::session::SessionJson;
use crate::daemon::answers;
use crate::socket::client::{Client, ClientError, decode};
use crate::socket::frame::ClientRequest;
use crate::text::bytes::{Text, to_line};
use crate::text::time::time_of_day;
use crate::text::wrap::hanging;

/// Columns of the text.
const WIDTH: usize = 100;

/// Without a daemon: one snapshot of the kernel (needs root).
#[derive(Args)]
pub struct ExplainArgs {
    /// A pid, or a session as `pid` takes it: a name, a home or a key
    #[arg(value_name = "PID|NAME|HOME|KEY")]
    subject: OsString,
    /// The session of this user, by name or number, whoever owns the home. A pid needs none
    #[arg(long, value_name = "USER", value_parser = user::parse)]
    user: Option<u32>,
    /// JSON: an object (docs/json.md)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    places: PlaceFlags,
    #[command(flatten)]
    btf: BtfFlag,
}

impl ExplainArgs {
    /// 0 explained, 1 certainly no such process or session, 3 several or another user's, 4 not certain.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        match Client::connect(socket) {
            Ok(mut client) => {
                self.places.say_unused(socket);
                let subject = match self.pid() {
                    Some(subject) => subject,
                    None => {
                        let line = client.ask(&ClientRequest::List { ended: false })?;
                        match self.primary(&decode(&line)?)? {
                            Ok(subject) => subject,
                            Err(exit) => return Ok(exit),
                        }
                    }
                };
                let line = client.ask(&ClientRequest::Explain { pid: subject.pid })?;
                self.show(&subject, &decode(&line)?)
            }
            Err(ClientError::NoDaemon(_)) => {
                let places = self.places.without_daemon(socket)?;
                let sentence = places.sentence.clone();
                let map = StandaloneMap::take_at(places, self.btf.btf.as_deref())?;
                anstream::eprintln!("observer: {sentence}");
                let time = map.answer_time();
                let subject = match self.pid() {
                    Some(subject) => subject,
                    None => match self.primary(&map.list(false))? {
                        Ok(subject) => subject,
                        Err(exit) => return Ok(exit),
                    },
                };
                let explanation = map.core.explain(observer_core::Tgid(subject.pid));
                self.show(&subject, &answers::explain(&map.core, time, explanation.as_ref()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The pid that was given, if it was one.
    fn pid(&self) -> Option<Subject> {
        Some(Subject { pid: self.subject.to_str()?.parse().ok()?, key: None })
    }

    /// The primary of the session that was given, or how the command ends without it; that was said on standard error.
    fn primary(&self, answer: &ListAnswer<'_>) -> anyhow::Result<Result<Subject, Exit>> {
        primary(self.subject.clone(), self.user, answer)
    }

    fn show(&self, subject: &Subject, answer: &ExplainAnswer<'_>) -> anyhow::Result<Exit> {
        let pid = subject.pid;
        if !subject.is_meant(answer) {
            anstream::eprintln!(
                "observer: can't know: pid {pid}, which was the session, ended while it was asked about: ask again"
            );
            return Ok(Exit::Unknown);
        }
        if self.json {
            term::print_json(answer)?;
        } else if let Some(process) = &answer.process {
            term::print_lines(text(process, answer))?;
        } else {
            anstream::eprintln!("observer: no process {pid}: `observer ps` shows those there are");
        }
        if !answer.head.certain {
            anstream::eprintln!(
                "observer: not certain: events were lost and the kernel is read again; ask again in a second (`observer status` says more)"
            );
            return Ok(Exit::Unknown);
        }
        Ok(if answer.process.is_some() { Exit::Found } else { Exit::None })
    }
}

/// The process that is explained.
#[derive(Debug, PartialEq, Eq)]
struct Subject {
    pid: u32,
    /// The life of it that is meant, where a session was given.
    key: Option<String>,
}

impl Subject {
    /// Whether an answer is about the life that is meant.
    fn is_meant(&self, answer: &ExplainAnswer<'_>) -> bool {
        self.key.is_none() || self.key.as_ref() == answer.process.as_ref().map(|process| &process.key)
    }
}

/// The primary of the session that `subject` names, of this user if one is given, or how the command ends without it; that was
/// said on standard error.
fn primary(
    subject: OsString,
    user: Option<u32>,
    answer: &ListAnswer<'_>,
) -> anyhow::Result<Result<Subject, Exit>> {
    let which = Which { session: subject, user, home: None, only_if: None };
    let found = which.find(answer)?;
    if let Found::One(session) = found {
        return Ok(Ok(Subject { pid: session.primary.pid, key: Some(session.primary.key.clone()) }));
    }
    if let Found::None = found {
        anstream::eprintln!(
            "observer: to learn why a process is no session, give its pid (`observer ps` shows those there are)"
        );
    }
    Ok(Err(found.exit()))
}

/// The explanation in sentences.
fn text(process: &ProcessJson<'_>, answer: &ExplainAnswer<'_>) -> Vec<String> {
    let mut lines = hanging("", 0, &verdict(process, answer), WIDTH);
    if let Some(reason) = answer.elected_by.and_then(reason) {
        lines.extend(hanging("", 0, &format!("it was elected because {reason}{}", term_of(answer)), WIDTH));
    }
    if let Some(number) = answer.ignored_by {
        lines.push(format!(
            "[[ignore]] {} matches it (observer's own commands and its service come last)",
            number + 1
        ));
    }
    if let Some(inherited) = &answer.inherited {
        lines.extend(hanging("", 0, &birth(process, inherited), WIDTH));
        lines.extend(inheritance(process, inherited));
    }
    lines.extend(place(process));
    for (number, unmet) in answer.rules.iter().enumerate() {
        let label = format!("rule {}: ", number + 1);
        let admitted = answer.admitted_by == Some(number);
        let sentence = match unmet {
            None if admitted => "admits it".to_owned(),
            None => "would admit it".to_owned(),
            Some(unmet) if admitted => format!("admitted it; by now {}", lacks(process, *unmet)),
            Some(unmet) => format!("does not admit it: {}", lacks(process, *unmet)),
        };
        lines.extend(hanging(&label, label.len(), &sentence, WIDTH));
    }
    lines
}

/// In which session the process was born, as a sentence.
fn birth(process: &ProcessJson<'_>, inherited: &InheritedJson<'_>) -> String {
    let Some(session) = &inherited.session else { return "it was born in no session that is known".into() };
    let (name, primary, from) = (shown(&session.name), session.pid, session.from_pid);
    let born = format!("it was born in the session {name}");
    match session.ended_at.as_deref().map(time_of_day) {
        None if from == primary => format!("{born}, below its primary {primary}"),
        None => format!("{born}, below {from}, under which its primary {primary} runs"),
        Some(at) if from == process.pid => {
            format!("{born}, whose primary {primary} ended at {at}, and it went on")
        }
        Some(at) => {
            format!("{born}, whose primary {primary} ended at {at}, and {from} went on, which is above it")
        }
    }
}

/// From whom the process has its root, its wrapper and its terminal, as a sentence; `None`: it has none of these.
fn inheritance(process: &ProcessJson<'_>, inherited: &InheritedJson<'_>) -> Option<String> {
    let root = inherited.root_pid.map(|root| match root == process.pid {
        true => "it is a root of its home".into(),
        false => format!("its root is {root}"),
    });
    let wrapper = inherited.wrapper_pid.map(|wrapper| format!("its wrapper is {wrapper}"));
    let tty = process.tty.as_ref().map(|tty| match inherited.tty_from_pid {
        Some(from) => format!("its terminal {} comes from {from}", shown(tty)),
        None => format!("its terminal {} is its own", shown(tty)),
    });
    let clauses: Vec<String> = [root, wrapper, tty].into_iter().flatten().collect();
    (!clauses.is_empty()).then(|| clauses.join(", "))
}

/// The systemd unit and the container of the process, as a sentence; `None`: it is in none that is known.
fn place(process: &ProcessJson<'_>) -> Option<String> {
    let unit = process.unit.as_ref().map(|unit| format!("its unit is {}", shown(unit)));
    let container = process.container.as_ref().map(|it| format!("its container is {}", shown(it)));
    let clauses: Vec<String> = [unit, container].into_iter().flatten().collect();
    (!clauses.is_empty()).then(|| clauses.join(", "))
}

fn shown(text: &Text<'_>) -> String {
    to_line(text.as_bytes()).into_owned()
}

fn or_unknown(value: Option<&Text<'_>>) -> String {
    value.map_or("not known".into(), shown)
}

/// What the process is to the sessions.
fn verdict(process: &ProcessJson<'_>, answer: &ExplainAnswer<'_>) -> String {
    let it = format!("{} ({})", process.pid, shown(process.shown_program()));
    let home = or_unknown(answer.home.as_ref());
    let by = answer.by_pid.map_or("another process".into(), |pid| pid.to_string());
    let session = answer.session.as_ref().filter(|session| session.primary.death.is_none());
    let name = session.map_or_else(|| home.clone(), |session| shown(&session.name));
    let until = answer.until.as_deref().map(time_of_day).unwrap_or_default();
    match answer.position {
        SessionPosition::Primary => {
            let state = session.map_or("live", |session| session.state.as_str());
            format!("{it} is the session {name}: home {home}, state {state}")
        }
        SessionPosition::StandsAside => {
            format!("{it} stands aside for {by}, which is the session {name}: it is a wrapper or a launcher")
        }
        SessionPosition::Other => match session {
            Some(session) => {
                let (primary, until) = (session.primary.pid, until_when(session, answer.substituted));
                format!(
                    "{it} could be the session of {home}, but {primary} is, and stays it {until} (`observer explain {primary}` says why)"
                )
            }
            None => format!("{it} could be the session of {home}, but its directory was deleted"),
        },
        SessionPosition::Young => match answer.by_pid.filter(|&pid| pid != process.pid) {
            None => {
                format!("{it} may be the session of {home} from {until} on: it has not run for long enough")
            }
            Some(program) => format!(
                "{it} stands aside for {program}, which may be the session of {home} from {until} on: it has not run for long enough"
            ),
        },
        SessionPosition::WrapperAlone => format!("{it} is a wrapper, and no rule admits what it runs"),
        SessionPosition::Helper => {
            format!(
                "{it} is a helper of the session {name}: {by} started it, and it has no terminal of its own"
            )
        }
        SessionPosition::Below => {
            format!("{it} was started by {by}, which could be the session of {home} itself")
        }
        SessionPosition::Settling => {
            format!("{it} may be the session of {home} from {until} on, if it stays in that directory")
        }
        SessionPosition::LeftOut => format!(
            "{it} is left out, though a rule admits it to {home}: so many processes may be the session of that home ({CANDIDATES_A_HOME_MAX}) that no other one is considered until half of them have ended"
        ),
        SessionPosition::TooManySessions => format!(
            "{it} would be the session of {home}, but its user has {SESSIONS_A_USER_MAX}, which is the bound: it is one when others have ended"
        ),
        SessionPosition::AwaitsOwner => format!("{it} is no session yet: the owner of its directory is read"),
        SessionPosition::NotAdmitted => format!("{it} is no session: no rule admits it"),
        SessionPosition::Unknown => format!("{it}: this daemon answers what this program does not know"),
    }
}

/// Until when the primary of a session stays it. `is_substitute` is the daemon's word; former versions had none.
fn until_when(session: &SessionJson<'_>, is_substitute: Option<bool>) -> String {
    match &session.stands_in_for {
        Some(program) => {
            format!("until {}, for which it stands in, is started again, or its session ends", shown(program))
        }
        None if is_substitute == Some(true) => {
            "until the program for which it stands in is started again, or its session ends".into()
        }
        None => "until it ends, leaves the home or stands aside for a program that it runs".into(),
    }
}

/// How long a primary stays it, as the end of a sentence.
fn term_of(answer: &ExplainAnswer<'_>) -> String {
    let session = answer.session.as_ref();
    session.map_or_else(String::new, |session| {
        format!("; it stays the primary {}", until_when(session, answer.substituted))
    })
}

/// What decided the election of a primary, as the end of a sentence; `None`: this program does not know it.
fn reason(elected_by: ElectedBy) -> Option<&'static str> {
    Some(match elected_by {
        ElectedBy::WasPrimary => "it was the session already when observer began to look",
        ElectedBy::NewDirectory => {
            "another directory is at the path of the home, and of those in it that could be the session it is the oldest"
        }
        ElectedBy::Returned => "it runs the program that the session is of, for which another one stood in",
        ElectedBy::SameChain => {
            "it is in one chain of launchers or wrappers with the process that was the session before: each stands aside for what it runs"
        }
        ElectedBy::OnlyCandidate => "nothing else could be the session at that moment",
        ElectedBy::Launcher => {
            "it is, or was started by, the launcher of the process that was the session before"
        }
        ElectedBy::Program => "it runs the program that the session is of, and the next best does not",
        ElectedBy::Terminal => "it has a terminal, and the next best has none",
        ElectedBy::SessionLeader => "it leads its POSIX session, and the next best does not",
        ElectedBy::Oldest => "it is the oldest of those that could equally be the session",
        ElectedBy::Unknown => return None,
    })
}

/// What the process lacks of a rule, as the end of a sentence.
fn lacks(process: &ProcessJson<'_>, unmet: UnmetCondition) -> String {
    match unmet {
        UnmetCondition::MntNs => {
            let number = process.mnt_ns.map_or("not known".into(), |number| number.to_string());
            format!("its mount namespace is {number}, not the host's own (mnt_ns)")
        }
        UnmetCondition::CwdUnusable => "its directory is unknown, deleted or unreachable".into(),
        UnmetCondition::Cwd => {
            format!("its directory {} is in no home of the rule (cwd)", or_unknown(process.cwd.as_ref()))
        }
        UnmetCondition::Tty => match &process.tty {
            Some(tty) => format!("its terminal is {} (tty)", shown(tty)),
            None => "it has no terminal (tty)".into(),
        },
        UnmetCondition::MuxSocket => match &process.mux_socket {
            Some(socket) => format!("its multiplexer is {} (mux_socket)", shown(socket)),
            None => "it is in no pane of tmux or screen (mux_socket)".into(),
        },
        UnmetCondition::Group => format!("its user {} is no member of the group (group)", process.uid),
        UnmetCondition::User => format!("its user is {} (user)", process.uid),
        UnmetCondition::Cgroup => format!("its cgroup is {} (cgroup)", or_unknown(process.cgroup.as_ref())),
        UnmetCondition::Unit => match &process.unit {
            Some(unit) => format!("its unit is {} (unit)", shown(unit)),
            None => "it is in no systemd unit that is known (unit)".into(),
        },
        UnmetCondition::Container => match &process.container {
            Some(container) => format!("its container is {} (container)", shown(container)),
            None => "it is in no container that is known (container)".into(),
        },
        UnmetCondition::NotComm => {
            format!("its comm {} is one that the rule refuses (not_comm)", shown(&process.comm))
        }
        UnmetCondition::NotProgram => format!(
            "its program {} is one that the rule refuses (not_program)",
            or_unknown(process.program.as_ref())
        ),
        UnmetCondition::Comm => format!("its comm is {} (comm)", shown(&process.comm)),
        UnmetCondition::Program => {
            format!("its program is {} (program)", or_unknown(process.program.as_ref()))
        }
        UnmetCondition::Exe => format!("its executable is {} (exe)", or_unknown(process.exe.as_ref())),
        UnmetCondition::Argv => match &process.argv {
            Some(_) => "none of its arguments matches (argv)".into(),
            None => "its arguments are not known (argv)".into(),
        },
        UnmetCondition::Owner => "the home belongs to another user (owner)".into(),
        UnmetCondition::OwnerUnknown => "the owner of the home is not known (owner)".into(),
        UnmetCondition::Unknown => "it lacks something that this program does not know".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::answer::Head;
    use crate::api::doubt::{UndecidedJson, UndecidedUserJson};
    use crate::api::explain::BirthSessionJson;

    fn process() -> ProcessJson<'static> {
        ProcessJson {
            pid: 42,
            comm: Text::from(b"node".as_slice()),
            program: Some(Text::from(b"ge\x1bmini".as_slice())),
            cwd: Some(Text::from(b"/tmp".as_slice())),
            ..ProcessJson::default()
        }
    }

    #[test]
    fn an_explanation_is_in_sentences_with_the_values_that_decided() {
        let answer = ExplainAnswer {
            position: SessionPosition::NotAdmitted,
            rules: vec![Some(UnmetCondition::Cwd), Some(UnmetCondition::Tty), None],
            ignored_by: Some(0),
            ..ExplainAnswer::default()
        };
        let expected = [
            "42 (ge\\x1bmini) is no session: no rule admits it",
            "[[ignore]] 1 matches it (observer's own commands and its service come last)",
            "rule 1: does not admit it: its directory /tmp is in no home of the rule (cwd)",
            "rule 2: does not admit it: it has no terminal (tty)",
            "rule 3: would admit it",
        ];
        assert_eq!(text(&process(), &answer), expected);
    }

    #[test]
    fn the_unit_and_the_container_are_told_and_what_lacks_them() {
        let answer = ExplainAnswer {
            position: SessionPosition::NotAdmitted,
            rules: vec![Some(UnmetCondition::Unit), Some(UnmetCondition::Container)],
            ..ExplainAnswer::default()
        };
        let of = |name: &'static [u8]| Some(Text::from(name));
        let inside = ProcessJson { unit: of(b"docker.service"), container: of(b"web-1"), ..process() };
        assert_eq!(
            text(&inside, &answer).get(1..),
            Some(
                &[
                    "its unit is docker.service, its container is web-1",
                    "rule 1: does not admit it: its unit is docker.service (unit)",
                    "rule 2: does not admit it: its container is web-1 (container)",
                ]
                .map(String::from)[..]
            )
        );
        assert_eq!(
            text(&process(), &answer).get(1..),
            Some(
                &[
                    "rule 1: does not admit it: it is in no systemd unit that is known (unit)",
                    "rule 2: does not admit it: it is in no container that is known (container)",
                ]
                .map(String::from)[..]
            )
        );
    }

    #[test]
    fn a_name_is_certainly_none_only_where_everything_is_known() {
        let session = SessionJson {
            name: Text::from(b"a".as_slice()),
            home: Text::from(b"/x/a".as_slice()),
            foreign: Some(false),
            primary: ProcessJson { key: "7f3e90ab-42-1a2b3c4d5e".into(), ..process() },
            ..SessionJson::default()
        };
        let head = Head { certain: true, ..Head::default() };
        let known = ListAnswer { head: head.clone(), sessions: vec![session], ..ListAnswer::default() };
        let exit = |answer: &ListAnswer<'_>, wanted: &str, user| match primary(wanted.into(), user, answer) {
            Ok(Ok(subject)) => {
                let key = Some("7f3e90ab-42-1a2b3c4d5e".into());
                assert_eq!(subject, Subject { pid: 42, key });
                Exit::Found
            }
            Ok(Err(exit)) => exit,
            Err(error) => panic!("{error:#}"),
        };
        let of = |answer: &ListAnswer<'_>| ["a", "b"].map(|wanted| exit(answer, wanted, None));
        assert_eq!(of(&known), [Exit::Found, Exit::None]);
        let lost = ListAnswer { head: Head { certain: false, ..head }, ..known.clone() };
        assert_eq!(of(&lost), [Exit::Unknown, Exit::Unknown]);
        let b = UndecidedJson {
            name: Text::from(b"b".as_slice()),
            home: Text::from(b"/y/b".as_slice()),
            uid: 8,
            ..UndecidedJson::default()
        };
        let in_doubt = [
            ListAnswer { undecided: vec![b.clone()], ..known.clone() },
            ListAnswer { over_limit: vec![b], ..known.clone() },
            ListAnswer { too_many_sessions: vec![8], ..known.clone() },
            ListAnswer {
                undecided_users: vec![UndecidedUserJson { uid: 8, ..UndecidedUserJson::default() }],
                ..known.clone()
            },
        ];
        for answer in in_doubt {
            assert_eq!(of(&answer), [Exit::Found, Exit::Unknown], "{answer:?}");
            assert_eq!(exit(&answer, "b", Some(9)), Exit::None, "another user is meant: {answer:?}");
        }
        let mut foreign = known;
        foreign.sessions.iter_mut().for_each(|session| session.foreign = Some(true));
        assert_eq!(of(&foreign), [Exit::Ambiguous, Exit::None]);
        assert_eq!(exit(&foreign, "a", Some(0)), Exit::Found, "its user is named");
    }

    #[test]
    fn an_answer_about_another_life_is_none_about_the_session() {
        let of = |key: &str| ExplainAnswer {
            process: Some(ProcessJson { key: key.into(), ..process() }),
            ..ExplainAnswer::default()
        };
        let named = Subject { pid: 42, key: Some("one".into()) };
        let is_meant = [&of("one"), &of("two"), &ExplainAnswer::default()].map(|it| named.is_meant(it));
        assert_eq!(is_meant, [true, false, false]);
        let given = Subject { pid: 42, key: None };
        assert!(given.is_meant(&of("two")) && given.is_meant(&ExplainAnswer::default()));
    }

    #[test]
    fn a_primary_is_told_by_what_it_was_elected_and_for_how_long() {
        let told = |elected_by: &str, stands_in_for: Option<&'static str>| {
            let answer = ExplainAnswer {
                position: SessionPosition::Primary,
                elected_by: Some(elected_by.into()),
                session: Some(SessionJson {
                    stands_in_for: stands_in_for.map(|program| Text::from(program.as_bytes())),
                    ..SessionJson::default()
                }),
                ..ExplainAnswer::default()
            };
            text(&process(), &answer).split_off(1).join(" ")
        };
        assert_eq!(
            told("terminal", None),
            "it was elected because it has a terminal, and the next best has none; it stays the primary until it ends, leaves the home or stands aside for a program that it runs"
        );
        assert_eq!(
            told("only_candidate", Some("co\x1bdex")),
            "it was elected because nothing else could be the session at that moment; it stays the primary until co\\x1bdex, for \
             which it stands in, is started again, or its session ends"
        );
        let words = "was_primary new_directory returned same_chain only_candidate launcher program terminal \
                     session_leader oldest";
        let sentences: std::collections::BTreeSet<_> =
            words.split(' ').map(|word| told(word, None)).collect();
        assert_eq!(sentences.len(), 10, "{sentences:?}");
        assert_eq!(told("of another version", None), "");
    }

    #[test]
    fn another_primary_is_told_with_until_when_it_stays_that() {
        let told = |substituted, stands_in_for: Option<&'static str>| {
            let answer = ExplainAnswer {
                position: SessionPosition::Other,
                substituted,
                home: Some(Text::from(b"/x/a".as_slice())),
                session: Some(SessionJson {
                    stands_in_for: stands_in_for.map(|program| Text::from(program.as_bytes())),
                    primary: ProcessJson { pid: 7, ..ProcessJson::default() },
                    ..SessionJson::default()
                }),
                ..ExplainAnswer::default()
            };
            text(&process(), &answer).join(" ")
        };
        let sentence = |until: &str| {
            format!(
                "42 (ge\\x1bmini) could be the session of /x/a, but 7 is, and stays it until {until} (`observer explain 7` says \
                 why)"
            )
        };
        assert_eq!(
            told(Some(false), None),
            sentence("it ends, leaves the home or stands aside for a program that it runs")
        );
        assert_eq!(
            told(Some(true), Some("codex")),
            sentence("codex, for which it stands in, is started again, or its session ends")
        );
        assert_eq!(
            told(Some(true), None),
            sentence("the program for which it stands in is started again, or its session ends")
        );
    }

    #[test]
    fn what_a_process_inherited_is_told_with_those_from_which_it_has_it() {
        let of = |session: Option<(u32, Option<&str>)>, root, wrapper, tty| InheritedJson {
            session: session.map(|(from_pid, ended_at)| BirthSessionJson {
                name: Text::from(b"alp\x1bha".as_slice()),
                pid: 40,
                from_pid,
                ended_at: ended_at.map(str::to_owned),
                ..BirthSessionJson::default()
            }),
            root_pid: root,
            wrapper_pid: wrapper,
            tty_from_pid: tty,
        };
        let on_tty = ProcessJson { tty: Some(Text::from(b"pts/3".as_slice())), ..process() };
        let told = |process: &ProcessJson<'_>, it| (birth(process, &it), inheritance(process, &it));
        let born = |rest: &str| format!("it was born in the session alp\\x1bha, {rest}");
        assert_eq!(
            told(&process(), of(None, None, None, None)),
            ("it was born in no session that is known".into(), None)
        );
        assert_eq!(
            told(&on_tty, of(Some((40, None)), Some(39), Some(39), Some(12))),
            (
                born("below its primary 40"),
                Some("its root is 39, its wrapper is 39, its terminal pts/3 comes from 12".into())
            )
        );
        assert_eq!(
            told(&on_tty, of(Some((39, None)), Some(42), None, None)),
            (
                born("below 39, under which its primary 40 runs"),
                Some("it is a root of its home, its terminal pts/3 is its own".into())
            )
        );
        let at = "2026-11-21T08:03:50.000Z";
        let end = born(&format!("whose primary 40 ended at {}", time_of_day(at)));
        let of_former = |from| birth(&process(), &of(Some((from, Some(at))), None, None, None));
        assert_eq!(of_former(42), format!("{end}, and it went on"));
        assert_eq!(of_former(41), format!("{end}, and 41 went on, which is above it"));
    }

    #[test]
    fn every_position_has_a_sentence_that_fits() {
        let home = Text::from(vec![b'x'; 400]);
        let positions =
            "primary stands_aside other young wrapper_alone helper below left_out too_many_sessions";
        for position in positions.split(' ') {
            let answer = ExplainAnswer {
                position: position.into(),
                home: Some(home.clone()),
                by_pid: Some(7),
                ..ExplainAnswer::default()
            };
            let lines = text(&process(), &answer);
            assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:?}");
            assert!(lines.first().is_some_and(|line| line.starts_with("42 (")), "{lines:?}");
        }
    }
}
