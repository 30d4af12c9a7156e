//! The questions of `observer top` that wait for an answer: of each kind the newest, and no sooner than its pace allows.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::event::{DetailsWanted, Question};

/// Who takes long to answer is asked less often: this many times as long as the answer took is waited, below the time after
/// which a daemon closes an idle connection.
const ASK_SHARE: u32 = 4;
pub(super) const ASK_PAUSE_MAX: Duration = Duration::from_secs(20);

/// How long is waited after an answer that took `took`.
pub(super) fn pause(took: Duration) -> Duration {
    took.saturating_mul(ASK_SHARE).min(ASK_PAUSE_MAX)
}

/// What waits; a newer question takes the place of the former one of its kind.
#[derive(Debug, Default)]
struct Waiting {
    details: Option<DetailsWanted>,
    /// Whether sessions that have ended are asked for.
    list: Option<bool>,
}

/// When which question may be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Details, no sooner than then.
    pub(super) details_from: Instant,
    /// Sessions that a key asks for, no sooner than then.
    pub(super) list_from: Instant,
    /// Sessions, also where no key asks for them; `None`: never.
    pub(super) list_due: Option<Instant>,
}

/// What is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NextQuestion {
    Details(DetailsWanted),
    /// Sessions; whether with those that have ended, where that was said since the last time.
    List(Option<bool>),
}

/// Questions, from the one thread that has them to the one that answers them.
#[derive(Debug, Default)]
pub(super) struct Asked {
    waiting: Mutex<Waiting>,
    came: Condvar,
}

impl Waiting {
    fn add(&mut self, question: Question) {
        match question {
            Question::Details(wanted) => self.details = Some(wanted),
            Question::List { ended } => self.list = Some(ended),
        }
    }

    /// The question that may be asked at `now`; else when there may be one, if none comes in between.
    fn next(&mut self, now: Instant, pace: Pace) -> Result<NextQuestion, Option<Instant>> {
        let list_at = self.list.map(|_| pace.list_from).into_iter().chain(pace.list_due).min();
        if list_at.is_some_and(|at| at <= now) {
            return Ok(NextQuestion::List(self.list.take()));
        }
        match self.details.take_if(|_| pace.details_from <= now) {
            Some(wanted) => Ok(NextQuestion::Details(wanted)),
            None => {
                let details_at = self.details.as_ref().map(|_| pace.details_from);
                Err(details_at.into_iter().chain(list_at).min())
            }
        }
    }
}

impl Asked {
    /// Has the question answered, in place of a former one of its kind that waits.
    pub(super) fn ask(&self, question: Question) {
        self.lock().add(question);
        self.came.notify_one();
    }

    /// Waits for the next question that may be asked.
    pub(super) fn next(&self, pace: Pace) -> NextQuestion {
        let mut waiting = self.lock();
        loop {
            let now = Instant::now();
            waiting = match waiting.next(now, pace) {
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
    fn of_each_kind_the_newest_question_is_asked_when_its_pace_allows() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let pace = Pace { details_from: at(3), list_from: at(5), list_due: Some(at(8)) };
        let mut waiting = Waiting::default();
        assert_eq!(waiting.next(now, pace), Err(Some(at(8))));
        for pid in 1..100 {
            waiting.add(Question::Details(wanted(pid)));
            waiting.add(Question::List { ended: pid % 2 == 0 });
        }
        assert_eq!(waiting.next(at(2), pace), Err(Some(at(3))));
        assert_eq!(waiting.next(at(3), pace), Ok(NextQuestion::Details(wanted(99))));
        assert_eq!(waiting.next(at(4), pace), Err(Some(at(5))), "those before are not asked");
        assert_eq!(waiting.next(at(5), pace), Ok(NextQuestion::List(Some(false))));
        assert_eq!(waiting.next(at(6), pace), Err(Some(at(8))));
        assert_eq!(waiting.next(at(8), pace), Ok(NextQuestion::List(None)));
        let never = Pace { list_due: None, ..pace };
        assert_eq!(waiting.next(at(9), never), Err(None));
    }

    #[test]
    fn a_question_wakes_who_waits_for_one() {
        let (asked, now) = (Asked::default(), Instant::now());
        let pace = Pace { details_from: now, list_from: now, list_due: None };
        std::thread::scope(|scope| {
            let answered = scope.spawn(|| asked.next(pace));
            asked.ask(Question::Details(wanted(7)));
            assert_eq!(answered.join().unwrap(), NextQuestion::Details(wanted(7)));
        });
        assert_eq!(
            (pause(Duration::from_secs(1)), pause(Duration::MAX)),
            (Duration::from_secs(4), ASK_PAUSE_MAX)
        );
    }
}
