//! From an open connection to the host's writer: the presence lock, the partitions, and the state from the live map.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::phases::{MapStamp, Opening, OpeningStep, Phase, Present};
use super::takeover::check_ghost;
use super::{
    DatabaseError, Delivery, DeliveryAnswer, DeliveryRequest, LiveMap, LockAttempt, LogSubject, OpenRequest,
    ReplicationCursor, ServerPeer, WriterIdentity, shown, unexpected,
};

/// How long the end of a ghost of this daemon is waited for.
const GHOST_WAIT: Duration = Duration::from_secs(10);
/// Between two attempts to take the lock.
const GHOST_POLL: Duration = Duration::from_millis(100);

impl Delivery {
    pub(super) fn begin_opening(&mut self, now: Instant, instance_id: Uuid, peer: ServerPeer) -> Phase {
        self.former.add(peer.backend_pid);
        self.request(DeliveryRequest::TryLock, OpenRequest::limited_by_driver());
        Phase::Opening(Box::new(Opening { peer, instance_id, began_at: now, step: OpeningStep::TryingLock }))
    }

    pub(super) fn advance_opening(&mut self, now: Instant, mut opening: Box<Opening>) -> Phase {
        if opening.wake_at().is_some_and(|at| now >= at) {
            self.request(DeliveryRequest::TryLock, OpenRequest::limited_by_driver());
            opening.step = OpeningStep::TryingLock;
        }
        Phase::Opening(opening)
    }

    pub(super) fn opening_answered(
        &mut self,
        now: Instant,
        mut opening: Box<Opening>,
        answer: Result<DeliveryAnswer, DatabaseError>,
    ) -> Result<Phase, DatabaseError> {
        opening.step = match (opening.step, answer) {
            (OpeningStep::TryingLock, Ok(DeliveryAnswer::Lock(attempt))) => {
                self.lock_tried(now, &opening, attempt)?
            }
            (OpeningStep::EndingGhost, Ok(DeliveryAnswer::Done)) => {
                OpeningStep::WaitingForLock(now + GHOST_POLL)
            }
            (OpeningStep::Maintaining(host_no), Ok(DeliveryAnswer::Done)) => {
                self.read_first_map(now, host_no)
            }
            // Somebody holds a lock: the partitions are looked after at the next opportunity.
            (OpeningStep::Maintaining(host_no), Err(error)) if error.can_be_retried() => {
                self.read_first_map(now, host_no)
            }
            (OpeningStep::ReadingMap(host_no), Ok(DeliveryAnswer::LiveMap(map))) => {
                let writer = WriterIdentity::New { host_no, instance_id: opening.instance_id };
                OpeningStep::Reconciling(self.reconcile(writer, map))
            }
            (OpeningStep::Reconciling(stamp), Ok(DeliveryAnswer::Reconciled(done))) => {
                self.former.generation = Some(done.token.generation);
                let line = format!("the mirror writes to {}", shown(&opening.peer.host));
                self.log(LogSubject::Connected, line);
                self.status.host = Some(opening.peer.host);
                self.status.generation = Some(done.token.generation);
                self.status.connections += 1;
                self.succeeded();
                let cursor = ReplicationCursor { stream_id: stamp.stream_id, seq: done.cursor };
                self.count_refusals(now, done.refused);
                let present = Present::new(done.token, cursor, stamp, self.heartbeat, self.extent, now);
                return Ok(Phase::Present(Box::new(present)));
            }
            (_, Err(error)) => return Err(error),
            (_, Ok(answer)) => return Err(unexpected(&answer)),
        };
        Ok(Phase::Opening(opening))
    }

    /// Makes the state in the database the map; the identity of the map.
    pub(super) fn reconcile(&mut self, writer: WriterIdentity, map: LiveMap) -> MapStamp {
        let stamp = MapStamp { stream_id: map.stream_id, after_seq: map.after_seq };
        let last_seq = self.last_seq_of(stamp.stream_id);
        let request = DeliveryRequest::Reconcile { writer, map, last_seq };
        self.request(request, OpenRequest::limited_by_driver());
        stamp
    }

    fn lock_tried(
        &mut self,
        now: Instant,
        opening: &Opening,
        attempt: LockAttempt,
    ) -> Result<OpeningStep, DatabaseError> {
        match attempt {
            LockAttempt::Taken(host_no) => {
                self.request(DeliveryRequest::Maintain, OpenRequest::statement(now));
                Ok(OpeningStep::Maintaining(host_no))
            }
            LockAttempt::Released => Ok(OpeningStep::WaitingForLock(now + GHOST_POLL)),
            LockAttempt::Held { row, holder } => {
                check_ghost(&row, &holder, opening.instance_id, &self.former)?;
                if now >= opening.began_at + GHOST_WAIT {
                    return Err(DatabaseError::broken(format!(
                        "this daemon's former connection, server process {}, does not end; end it there \
                         (pg_terminate_backend)",
                        holder.backend_pid
                    )));
                }
                self.request(DeliveryRequest::EndBackend(holder.backend_pid), OpenRequest::statement(now));
                Ok(OpeningStep::EndingGhost)
            }
        }
    }

    fn read_first_map(&mut self, now: Instant, host_no: i32) -> OpeningStep {
        self.request(DeliveryRequest::ReadMap, OpenRequest::map(now));
        OpeningStep::ReadingMap(host_no)
    }
}
