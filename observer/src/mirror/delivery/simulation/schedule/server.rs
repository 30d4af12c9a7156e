//! What the server does with the requests that arrive, and how connections to it end.

use super::super::fault::CutPoint;
use super::{Event, Schedule};
use crate::mirror::delivery::{Comparison, DeliveryAnswer, DeliveryRequest, ServerPeer};
use crate::mirror::error::{DatabaseError, ErrorClass};

/// `statement_timeout` of the daemon's connections.
const STATEMENT_MAX_MS: u64 = 20_000;

impl Schedule {
    pub(super) fn connect(&mut self, number: usize, id: u64) {
        let answer = if self.is_server_down {
            Err(DatabaseError::broken("connection refused"))
        } else if self.is_login_refused {
            Err(DatabaseError::permanent("the password is wrong", "correct it"))
        } else {
            let pid = self.database.connect(number, self.daemons[number].process, self.now_ms);
            self.daemons[number].connection = Some(pid);
            Ok(DeliveryAnswer::Connected(ServerPeer { host: "model".into(), backend_pid: pid }))
        };
        self.after(1, Event::Answer(number, id, answer));
    }

    /// A request arrives at the server, unless its connection is gone.
    pub(super) fn arrive(&mut self, number: usize, id: u64, pid: i32, request: DeliveryRequest) {
        if !self.database.backend(pid).is_alive {
            return self.after(1, Event::Lost(number, pid));
        }
        if self.database.backend(pid).is_cut_off {
            return;
        }
        if matches!(request, DeliveryRequest::Write { .. })
            && let Some((point, is_noticed)) = self.cut.take()
        {
            return self.cut_at_batch(number, id, pid, request, point, is_noticed);
        }
        let takes_ms = self.statement_ms;
        if takes_ms <= STATEMENT_MAX_MS {
            return self.after(takes_ms, Event::Perform(number, id, pid, request));
        }
        // The server cancels the statement.
        let error = DatabaseError::new(ErrorClass::Transient, "statement timeout");
        self.after(STATEMENT_MAX_MS, Event::Answer(number, id, Err(error)));
    }

    fn cut_at_batch(
        &mut self,
        number: usize,
        id: u64,
        pid: i32,
        request: DeliveryRequest,
        point: CutPoint,
        is_noticed: bool,
    ) {
        match point {
            CutPoint::Before => self.cut_connection(number, pid, is_noticed),
            CutPoint::During => {
                // The server finishes the statement, and then finds out.
                let _ = self.database.perform(pid, self.now_ms, &request);
                self.cut_connection(number, pid, is_noticed);
            }
            CutPoint::After => {
                self.perform(number, id, pid, &request);
                self.cut_connection(number, pid, is_noticed);
                self.daemons[number].asked.as_mut().unwrap().id = 0;
            }
        }
    }

    /// The connection is gone. Who does not notice has to find out: the client by its deadlines, the server by its own.
    pub(super) fn cut_connection(&mut self, number: usize, pid: i32, is_noticed: bool) {
        if is_noticed {
            self.database.end_backend(pid);
            self.after(1, Event::Lost(number, pid));
        } else {
            self.database.backend(pid).is_cut_off = true;
        }
    }

    pub(super) fn perform(&mut self, number: usize, id: u64, pid: i32, request: &DeliveryRequest) {
        if !self.database.backend(pid).is_alive {
            return self.after(1, Event::Lost(number, pid));
        }
        let answer = match request {
            DeliveryRequest::Compare { stream_id, seq, .. } => {
                let change = self.daemons[number].journal.change(*seq).filter(|change| change.home.is_some());
                let found = change.map(|change| self.database.compare(*stream_id, *seq, change.number));
                Ok(DeliveryAnswer::Compared(found.unwrap_or(Comparison::Same)))
            }
            request => self.database.perform(pid, self.now_ms, request),
        };
        if self.database.backend(pid).is_cut_off {
            return;
        }
        if matches!(request, DeliveryRequest::Write { .. }) {
            match &answer {
                Ok(_) => self.daemons[number].written(),
                Err(error) => self.daemons[number].write_failed(self.now_ms, error),
            }
        }
        let latency_ms = self.random.between(0, 2);
        self.after(latency_ms, Event::Answer(number, id, answer));
    }
}
