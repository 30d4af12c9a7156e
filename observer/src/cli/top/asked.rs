//! The questions of `observer top` that wait for an answer: of each kind the newest, and no sooner than its
//! time allows.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::event::{DetailsWanted, TopQuestion};

/// A source that takes long to answer is asked less often: the next question comes this many times as long after an answer as
/// that took, but before a daemon closes an idle connection.
const ASK_SHARE: u32 = 4;
pub(super) const ASK_PAUSE_MAX: Duration = Duration::from_secs(20);

/// How long is waited after an answer that took `took`.
pub(super) fn pause(took: Duration) -> Duration {
    took.saturating_mul(ASK_SHARE).min(ASK_PAUSE_MAX)
}

/// Questions that wait. A newer one replaces the former one of its kind.
#[derive(Debug, Default)]
struct Waiting {
    details: Option<DetailsWanted>,
    /// A key asked for sessions.
    is_list_asked: bool,
    /// Whether sessions that have ended are asked for as well.
    ended: bool,
}

/// When each kind of question may be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct QuestionTimes {
    /// Details, no sooner than then.
    pub(super) details_from: Instant,
    /// Sessions that a key asks for, no sooner than then.
    pub(super) list_from: Instant,
    /// Sessions, also where no key asks for them; `None`: never.
    pub(super) list_due: Option<Instant>,
}

/// The question that is asked next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NextQuestion {
    Details(DetailsWanted),
    /// Sessions, with those that have ended or without.
    List {
        ended: bool,
    },
}

/// Passes questions from the thread that has them to the one that answers them.
#[derive(Debug, Default)]
pub(super) struct Asked {
    waiting: Mutex<Waiting>,
    came: Condvar,
}

impl Waiting {
    fn add(&mut self, question: TopQuestion) {
        match question {
            TopQuestion::Details(wanted) => self.details = Some(wanted),
            TopQuestion::List { ended } => (self.is_list_asked, self.ended) = (true, ended),
        }
    }

    /// The question that may be asked at `now`; else when there may be one, if none comes in between.
    fn next(&mut self, now: Instant, times: QuestionTimes) -> Result<NextQuestion, Option<Instant>> {
        let asked_at = self.is_list_asked.then_some(times.list_from);
        let list_at = asked_at.into_iter().chain(times.list_due).min();
        if list_at.is_some_and(|at| at <= now) {
            self.is_list_asked = false;
            return Ok(NextQuestion::List { ended: self.ended });
        }
        match self.details.take_if(|_| times.details_from <= now) {
            Some(wanted) => Ok(NextQuestion::Details(wanted)),
            None => {
                let details_at = self.details.as_ref().map(|_| times.details_from);
                Err(details_at.into_iter().chain(list_at).min())
            }
        }
    }
}

impl Asked {
    /// Has the question answered, in place of a former one of its kind that waits.
    pub(super) fn ask(&self, question: TopQuestion) {
        self.lock().add(question);
        self.came.notify_one();
    }

    /// Waits for the next question that may be asked.
    pub(super) fn next(&self, times: QuestionTimes) -> NextQuestion {
        let mut waiting = self.lock();
        loop {
            let now = Instant::now();
            waiting = match waiting.next(now, times) {
                Ok(question) => return question,
                Err(Some(at)) => {
                    let timeout = at.saturating_duration_since(now);
                    let woken = self.came.wait_timeout(waiting, timeout);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                Err(None) => self.came.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::event::RowId;

    fn wanted(pid: u32) -> DetailsWanted {
        DetailsWanted { id: RowId::default(), pid: Some(pid) }
    }

    #[test]
    fn of_each_kind_the_newest_question_is_asked_when_its_time_allows() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let times = QuestionTimes { details_from: at(3), list_from: at(5), list_due: Some(at(8)) };
        let mut waiting = Waiting::default();
        assert_eq!(waiting.next(now, times), Err(Some(at(8))));
        for pid in 1..100 {
            waiting.add(TopQuestion::Details(wanted(pid)));
            waiting.add(TopQuestion::List { ended: pid % 2 == 1 });
        }
        assert_eq!(waiting.next(at(2), times), Err(Some(at(3))));
        assert_eq!(waiting.next(at(3), times), Ok(NextQuestion::Details(wanted(99))));
        assert_eq!(waiting.next(at(4), times), Err(Some(at(5))), "those before are not asked");
        assert_eq!(waiting.next(at(5), times), Ok(NextQuestion::List { ended: true }));
        assert_eq!(waiting.next(at(6), times), Err(Some(at(8))));
        let list = NextQuestion::List { ended: true };
        assert_eq!(waiting.next(at(8), times), Ok(list), "the same as the last time");
        let never = QuestionTimes { list_due: None, ..times };
        assert_eq!(waiting.next(at(9), never), Err(None));
    }

    #[test]
    fn a_question_wakes_who_waits_for_one() {
        let (asked, now) = (Asked::default(), Instant::now());
        let times = QuestionTimes { details_from: now, list_from: now, list_due: None };
        std::thread::scope(|scope| {
            let answered = scope.spawn(|| asked.next(times));
            asked.ask(TopQuestion::Details(wanted(7)));
            assert_eq!(answered.join().unwrap(), NextQuestion::Details(wanted(7)));
        });
        assert_eq!(
            (pause(Duration::from_secs(1)), pause(Duration::MAX)),
            (Duration::from_secs(4), ASK_PAUSE_MAX)
        );
    }
}
