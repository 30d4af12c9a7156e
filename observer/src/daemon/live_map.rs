//! The map for the mirror.

use tokio::sync::oneshot;
use uuid::Uuid;

use super::answers::{self, SessionSources};
use super::ends::RecordedEnds;
use super::event_loop::EventLoop;
use crate::clock;
use crate::journal::{Journal, Numbering};
use crate::mirror::feed::LiveMap;

impl EventLoop {
    /// Sends the map to the mirror, with everything that happened before the request.
    pub(super) fn send_map(&mut self, reply: oneshot::Sender<LiveMap>) {
        self.drain_to(self.kernel.producer_position());
        self.tick(clock::boottime());
        self.perform();
        self.sink.report_all_waiting();
        let Numbering { stream_id, last_seq: after_seq, .. } =
            self.sink.journal.as_ref().map(Journal::numbering).unwrap_or_default();
        let stream_id = Uuid::parse_str(&stream_id).ok();
        // What ended before this daemon was started, an earlier one delivered, or the journal has it.
        let sources = SessionSources { core: &self.core, ends: &RecordedEnds::default() };
        // The state has the arguments that history has.
        let time = self.answer_time(true).read_by(self.sink.entries_for);
        let list = answers::list(sources, time, true);
        // Strings, numbers and structs only: serializing them into memory cannot fail.
        let json = |session| serde_json::to_string(session).unwrap_or_default();
        let sessions = list.sessions.iter().map(json).collect();
        // The mirror may have given up.
        let _ = reply.send(LiveMap { stream_id, after_seq, certain: self.sink.certain, sessions });
    }
}
