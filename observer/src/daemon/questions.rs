//! Questions of clients: what has to be read before the answer, and the answer.

use std::sync::Arc;

use observer_core::BootTime;
use tokio::sync::oneshot;

use super::answers::{self, SessionSources};
use super::event_loop::EventLoop;
use super::pieces;
use crate::clock;
use crate::socket::frame::line;
use crate::socket::hub::WatchFilter;
use crate::socket::server::{Answer, PendingQuestion, QUESTIONS_MAX, Question};
use crate::socket::unread::{AnswerLine, HeldPieces, Unread};

/// Passes that a question waits for while a gap is open.
const HEALING_PASSES_MAX: usize = 3;

/// What is read before an answer, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reading {
    Nothing,
    /// The processes that the answer to `list` shows.
    Listed,
    Everything,
}

impl EventLoop {
    /// Answers questions that were asked at once, as soon as the deaths before them are complete: before that, the dead are
    /// in the map.
    pub(super) fn ask(&mut self, mut batch: Vec<PendingQuestion>) {
        let is_of_metrics = |asked: &mut PendingQuestion| matches!(asked.question, Question::Metrics);
        let of_metrics: Vec<_> = batch.extract_if(.., is_of_metrics).collect();
        for asked in of_metrics {
            self.answer_metrics(asked.reply);
        }
        if batch.is_empty() {
            return;
        }
        self.drain_to(self.kernel.producer_position());
        match self.core.deaths_complete_at() {
            Some(until) if self.postponed.len() + batch.len() <= QUESTIONS_MAX => {
                self.postponed.extend(batch.into_iter().map(|question| (until, question)));
            }
            _ => self.answer(batch),
        }
    }

    /// Answers the questions that need not wait for deaths any more.
    pub(super) fn answer_postponed(&mut self) {
        if self.postponed.is_empty() {
            return;
        }
        let (now, are_complete) = (clock::boottime(), self.core.deaths_complete_at().is_none());
        let is_due = |&mut (until, _): &mut (BootTime, PendingQuestion)| are_complete || until <= now;
        let due: Vec<_> = self.postponed.extract_if(.., is_due).map(|(_, question)| question).collect();
        if !due.is_empty() {
            self.answer(due);
        }
    }

    /// Answers questions that were asked at once. Each answer contains everything that happened before its question.
    pub(super) fn answer(&mut self, batch: Vec<PendingQuestion>) {
        let before = clock::boottime();
        let mut sure = self.drain_to(self.kernel.producer_position());
        self.behind.works(clock::boottime());
        if sure {
            self.core.close_deaths(before, &mut self.sink);
        }
        if batch.iter().any(|asked| !matches!(asked.question, Question::Reload)) {
            // A program that the kernel skipped is a loss like any other: it is healed before the answer, and is no drift.
            self.kernel.drops_by_kind();
            self.report_drops();
        }
        sure &= match batch.iter().map(|asked| self.reading(&asked.question)).max() {
            Some(Reading::Everything) => self.pass(),
            Some(Reading::Listed) => self.read_listed(),
            Some(Reading::Nothing) | None => true,
        };
        for _ in 0..HEALING_PASSES_MAX {
            if self.core.in_gap() {
                sure &= self.pass();
            }
        }
        let now = clock::boottime();
        self.tick(now);
        self.perform();
        let mut lines = AnswerLines::default();
        for PendingQuestion { question, client, reply } in batch {
            let answer = match question {
                Question::List { ended } => given(&client, lines.list(self, sure, ended)),
                Question::Processes => given(&client, lines.processes(self, sure)),
                Question::Leftovers => given(&client, lines.leftovers(self, sure)),
                Question::Status => given(&client, lines.status(self, sure)),
                Question::Audit => given(&client, lines.audit(self)),
                Question::Explain(tgid) => {
                    let time = self.answer_time(sure).read_by(client.audience());
                    let line = answers::explain_line(&self.core, time, tgid);
                    given(&client, self.sink.hub.budget().hold(AnswerLine::from(line)))
                }
                Question::Watch(filter) => self.subscribe(filter, &client, sure),
                Question::Reload => {
                    self.ask_reload(reply);
                    continue;
                }
                Question::Metrics => {
                    self.answer_metrics(reply);
                    continue;
                }
            };
            // The client may have left.
            let _ = reply.send(answer);
        }
        drop(lines);
        self.sink.hub.keep_budget();
    }

    /// Answers with the counters as they are, for the thread that serves metrics. Any local user may have it ask, so the answer
    /// waits for nothing and runs no pass; it is a line, which the thread takes at once, and counts as nobody's unread bytes.
    fn answer_metrics(&mut self, reply: oneshot::Sender<Answer>) {
        self.behind.works(clock::boottime());
        // What the kernel lost by now opens a gap, in which the map is not certain.
        self.kernel.drops_by_kind();
        self.report_drops();
        let sure = !self.core.in_gap();
        let status = line(&self.status(sure));
        // The thread may have ended.
        let _ = reply.send(Answer::Line(status.into()));
    }

    fn session_sources(&self) -> SessionSources<'_> {
        SessionSources { core: &self.core, ends: &self.sink.previous.ends }
    }

    fn reading(&self, question: &Question) -> Reading {
        let is_pass_pending = || {
            // The pass for a hint that was just drained may be pending.
            self.sink.pass.is_some() || self.kernel.blind_spots().iter().any(|spot| spot.is_read_again)
        };
        match question {
            // These answers show what no event reports of each process: its terminal's foreground group, and its memory.
            Question::Processes | Question::Explain(_) | Question::Leftovers => Reading::Everything,
            Question::List { .. } | Question::Watch(_) if is_pass_pending() => Reading::Everything,
            Question::List { .. } => Reading::Listed,
            Question::Watch(_)
            | Question::Status
            | Question::Audit
            | Question::Reload
            | Question::Metrics => Reading::Nothing,
        }
    }

    fn subscribe(&mut self, filter: WatchFilter, client: &Arc<Unread>, sure: bool) -> Answer {
        let snapshot = pieces::snapshot(&self.core, self.answer_time(sure), &filter);
        self.sink.hub.subscribe(filter, client, snapshot);
        // The next snapshot is made after what this one takes is given back.
        self.sink.hub.keep_budget();
        Answer::Unread
    }
}

fn given(client: &Unread, pieces: Arc<HeldPieces>) -> Answer {
    client.give(pieces);
    Answer::Unread
}

/// Answers of one batch. Clients that ask the same share the answer.
#[derive(Default)]
struct AnswerLines {
    list: Option<Arc<HeldPieces>>,
    list_ended: Option<Arc<HeldPieces>>,
    processes: Option<Arc<HeldPieces>>,
    leftovers: Option<Arc<HeldPieces>>,
    status: Option<Arc<HeldPieces>>,
    audit: Option<Arc<HeldPieces>>,
}

impl AnswerLines {
    fn list(&mut self, daemon: &EventLoop, sure: bool, ended: bool) -> Arc<HeldPieces> {
        let answer = if ended { &mut self.list_ended } else { &mut self.list };
        let make = || pieces::list(daemon.session_sources(), daemon.answer_time(sure), ended);
        Arc::clone(answer.get_or_insert_with(|| daemon.sink.hub.budget().hold(make())))
    }

    fn processes(&mut self, daemon: &EventLoop, sure: bool) -> Arc<HeldPieces> {
        let make = || pieces::processes(&daemon.core, daemon.answer_time(sure));
        Arc::clone(self.processes.get_or_insert_with(|| daemon.sink.hub.budget().hold(make())))
    }

    fn leftovers(&mut self, daemon: &EventLoop, sure: bool) -> Arc<HeldPieces> {
        let unknown_until = daemon.births.unknown_until();
        let make = || pieces::leftovers(&daemon.core, daemon.answer_time(sure), unknown_until);
        Arc::clone(self.leftovers.get_or_insert_with(|| daemon.sink.hub.budget().hold(make())))
    }

    fn status(&mut self, daemon: &mut EventLoop, sure: bool) -> Arc<HeldPieces> {
        let make = || {
            let status = line(&daemon.status(sure));
            daemon.sink.hub.budget().hold(AnswerLine::from(status))
        };
        Arc::clone(self.status.get_or_insert_with(make))
    }

    fn audit(&mut self, daemon: &mut EventLoop) -> Arc<HeldPieces> {
        let make = || {
            let audit = line(&daemon.audit());
            daemon.sink.hub.budget().hold(AnswerLine::from(audit))
        };
        Arc::clone(self.audit.get_or_insert_with(make))
    }
}
