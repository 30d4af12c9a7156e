//! Whether journal and database tell of one past: a journal that was put back from a copy may not.

use std::sync::Arc;

use tokio_postgres::types::ToSql;

use super::super::ask::query_opt;
use super::super::rows::item;
use super::super::source::{Event, Extent};
use super::super::sql;
use super::super::sqlstate::Trouble;
use super::super::write::Position;
use super::{BATCH_BYTES_MAX, Delivery, Open, REFRESH_EVERY, RETRY_WAIT, is_passing};

impl Delivery {
    /// Whether the database's newest event is the journal's entry of that number; `None`: one of them cannot be read now. A journal
    /// that was put back from a copy lacks that entry, or has grown beyond it and gave its number to something else.
    pub(super) async fn shares_past(
        &mut self,
        open: &mut Open,
        extent: &Extent,
    ) -> Result<Option<bool>, Trouble> {
        let Position { stream_id, seq } = &open.position;
        if seq.cast_unsigned() > extent.last_seq {
            return Ok(Some(false));
        }
        if *open.compared == *extent.stream_id || *seq == 0 {
            return Ok(Some(true));
        }
        let Some(mut newest) = self.read(extent, seq.cast_unsigned() - 1, 1) else { return Ok(None) };
        let newest = newest.pop();
        // None: the journal's bounds dropped it, or its end was lost, and a gap tells so.
        let entry = |newest: &Event| newest.seq == seq.cast_unsigned() && newest.kind != "gap";
        if let Some(newest) = newest.filter(entry) {
            let item = item(newest, 0, self.shape, self.users.names());
            let host_no = open.writer.tenure().host_no;
            let params: [&(dyn ToSql + Sync); 8] = [
                &host_no,
                stream_id,
                seq,
                &item.at,
                &item.kind,
                &item.boot_id,
                &item.pid,
                &item.start_boottime_ns,
            ];
            let row = match query_opt(&open.connected.client, sql::SAME_EVENT, &params).await {
                Err(trouble) if is_passing(&trouble) => return Ok(None),
                row => row?,
            };
            if let Some(row) = row
                && !row.try_get::<_, bool>(0)?
            {
                return Ok(Some(false));
            }
        }
        open.compared = Arc::clone(&extent.stream_id);
        Ok(Some(true))
    }

    /// The journal's next entries; none where its file was set aside meanwhile. `None`: it cannot be read, which status and
    /// log say: that is no reason to be without the state.
    pub(super) fn read(&mut self, extent: &Extent, after: u64, entries_max: usize) -> Option<Vec<Event>> {
        let bytes_max = BATCH_BYTES_MAX >> self.shrunk;
        match self.feed.history.read_after(&extent.stream_id, after, entries_max, bytes_max) {
            Ok(mut events) => {
                // A commit can be read a moment before it is told; sent before that, the database would be ahead of the journal.
                events.retain(|event| event.seq <= extent.last_seq);
                if std::mem::take(&mut self.unreadable) {
                    self.status.update(|status| {
                        status.failures = 0;
                        status.last_error = None;
                    });
                }
                Some(events)
            }
            Err(error) => {
                let message = format!("{error:#}");
                if !std::mem::replace(&mut self.unreadable, true) {
                    eprintln!("observer: warning: history is not mirrored: {message}; it is tried again");
                }
                self.status.update(|status| {
                    status.failures += 1;
                    status.last_error = Some(message);
                });
                None
            }
        }
    }

    /// The database has entries that the journal lacks: no number may be given twice. Until there is another journal, the
    /// state is taken from the map.
    pub(super) async fn begin_anew(&mut self, open: &mut Open) -> Result<(), Trouble> {
        let stream = open.position.stream_id.clone();
        eprintln!(
            "observer: warning: the database has entries that the journal lacks: was an older copy put back? A new journal is begun"
        );
        self.feed.history.begin_anew(&stream);
        while *self.feed.history.extent().stream_id == *stream && !self.stopping() {
            self.pause(open, RETRY_WAIT).await?;
            if open.reconciled_at.elapsed() >= REFRESH_EVERY {
                self.refresh(open).await?;
            }
        }
        Ok(())
    }
}
