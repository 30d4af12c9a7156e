//! Lives of this machine's sessions, from its journal.

use std::path::Path;

use super::lives::{Lives, PastEntry, RowKey};
use super::scale::Window;
use crate::api::entry::Subject;
use crate::cli::places::PlaceFlags;
use crate::journal::{EntryFilter, JournalReader};
use crate::socket::hub::{FrameScope, WatchFilter};
use crate::text::bytes::to_line;

/// Entries read at a time, and their bytes.
const READ_MAX: usize = 1_024;
const READ_BYTES_MAX: usize = 4 << 20;

/// Lives of the sessions that `filter` wants, from the journal that `places` names, or that of the daemon on `socket`.
pub(super) fn read(
    places: &PlaceFlags,
    socket: &Path,
    filter: &WatchFilter,
    window: Window,
) -> anyhow::Result<Lives> {
    let found = places.journal(socket)?;
    if let Some(why) = &found.why {
        let path = to_line(found.path.as_os_str().as_encoded_bytes());
        anstream::eprintln!("observer: this is the journal {path}, {why}");
    }
    let journal = JournalReader::open(&found.path)?;
    let mut lives = lives_of(&journal, filter, window)?;
    if !found.is_written_by(socket) {
        // No daemon recorded what happened since.
        let (_, newest_ns) = journal.live()?;
        lives.gap(String::new(), newest_ns.unwrap_or(window.since_ns), window.until_ns);
    }
    Ok(lives)
}

fn lives_of(journal: &JournalReader, filter: &WatchFilter, window: Window) -> anyhow::Result<Lives> {
    let wanted =
        |subject: &Subject| filter.wants(FrameScope::Session { name: &subject.name, home: &subject.home });
    let mut lives = Lives::new(window);
    // The journal has nothing from before its oldest entry: there was none, or it was removed.
    let oldest = journal.read_after(0, &EntryFilter::default(), 1, READ_BYTES_MAX)?;
    if let Some(oldest) = oldest.first().filter(|oldest| oldest.entry.at_unix_ns > window.since_ns) {
        lives.gap(String::new(), window.since_ns, oldest.entry.at_unix_ns);
    }
    // Entries after the window show which sessions lived in it.
    let since = EntryFilter { since_ns: Some(window.since_ns), ..EntryFilter::default() };
    let mut after = 0;
    loop {
        let batch = journal.read_after(after, &since, READ_MAX, READ_BYTES_MAX)?;
        let Some(last) = batch.last() else { break };
        after = last.seq;
        for entry in batch.iter().map(|numbered| &numbered.entry) {
            let subject = entry.subject.as_ref();
            if subject.is_some_and(|subject| !wanted(subject)) {
                continue;
            }
            lives.take(PastEntry {
                key: subject.map(key),
                host_id: String::new(),
                name: subject.map(|subject| subject.name.clone()).unwrap_or_default(),
                at_ns: entry.at_unix_ns,
                kind: entry.kind.clone(),
                pid: subject.map(|subject| subject.process.tgid.0),
                detail: &entry.detail,
            });
        }
    }
    let (live, _) = journal.live()?;
    for entry in live {
        if let Some(subject) = entry.subject.as_ref().filter(|subject| wanted(subject)) {
            lives.lives(key(subject), subject.name.clone(), &entry.detail);
        }
    }
    Ok(lives)
}

fn key(subject: &Subject) -> RowKey {
    RowKey {
        host: String::new(),
        host_id: String::new(),
        home: subject.home.clone(),
        mnt_ns: subject.home_mnt_ns,
        uid: subject.uid.unwrap_or_default(),
        instance: subject.instance,
    }
}

#[cfg(test)]
mod tests {
    use super::super::lives::tests::{BASE, HOUR, rfc3339, window};
    use super::super::lives::{Bar, EndMark, Span};
    use super::*;
    use crate::api::entry::Entry;
    use crate::cli::paths::JOURNAL_NAME;
    use crate::journal::{Journal, JournalOptions, MAX_AGE_DEFAULT, MAX_BYTES_MIN};
    use observer_core::ProcessKey;

    fn entry(hour: i64, kind: &str, home: &str, detail: &str) -> Entry {
        Entry {
            at_unix_ns: BASE + hour * HOUR,
            boottime_ns: 1,
            boot_id: "boot".into(),
            kind: kind.into(),
            subject: Some(Subject {
                home: home.into(),
                home_mnt_ns: None,
                uid: Some(1000),
                instance: 1,
                name: home.rsplit('/').next().unwrap_or_default().into(),
                process: ProcessKey::new(7, 1),
            }),
            detail: format!("{{\"kind\":\"{kind}\"{detail}}}"),
        }
    }

    fn journal_of<const N: usize>(entries: [Entry; N]) -> (tempfile::TempDir, JournalReader) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(JOURNAL_NAME);
        let journal = Journal::open(JournalOptions {
            path: path.clone(),
            max_bytes: MAX_BYTES_MIN,
            max_age: MAX_AGE_DEFAULT,
            boot_id: "boot".into(),
            delivers: false,
        })
        .unwrap();
        journal.resume();
        journal.complete(BASE);
        for entry in entries {
            journal.push(entry).seq().unwrap();
        }
        drop(journal);
        (dir, JournalReader::open(&path).unwrap())
    }

    #[test]
    fn a_session_that_lived_through_a_window_in_the_past_is_in_it() {
        let started = format!(r#","started_at":"{}""#, rfc3339(BASE - 9 * HOUR));
        let (_dir, reader) = journal_of([
            entry(-9, "session_started", "/srv/a", &started),
            entry(5, "session_ended", "/srv/a", &format!(r#","state":"ended"{started}"#)),
        ]);
        let past = |from: i64, to: i64| Window { since_ns: BASE + from * HOUR, until_ns: BASE + to * HOUR };
        let lives = lives_of(&reader, &WatchFilter::default(), past(-4, -1)).unwrap();
        let bars: Vec<_> = lives.rows.values().flat_map(|row| &row.bars).collect();
        assert_eq!(bars, [&Bar { from_ns: BASE - 4 * HOUR, to_ns: Some(BASE - HOUR) }]);
        let none = lives_of(&reader, &WatchFilter::default(), past(-12, -10)).unwrap();
        assert!(none.rows.is_empty(), "{none:#?}");
        assert!(lives.gaps.is_empty(), "{lives:#?}");
        assert_eq!(none.gaps[""], [Span { from_ns: BASE - 12 * HOUR, to_ns: BASE - 10 * HOUR }]);
        let partly = lives_of(&reader, &WatchFilter::default(), past(-12, -1)).unwrap();
        assert_eq!(partly.gaps[""], [Span { from_ns: BASE - 12 * HOUR, to_ns: BASE - 9 * HOUR }]);
    }

    #[test]
    fn lives_are_read_from_the_journal_also_those_without_an_entry_in_the_window() {
        let old = format!(r#","state":"live","started_at":"{}""#, rfc3339(BASE - 9 * HOUR));
        let killed = r#","state":"ended","end_reason":"died","death":{"kind":"signaled","signal":9,"signal_name":"SIGKILL"}"#;
        let (_dir, reader) = journal_of([
            entry(-9, "session_started", "/srv/old", &old),
            entry(-8, "session_started", "/srv/other", &old),
            entry(2, "session_started", "/srv/a", r#","state":"live""#),
            entry(4, "session_ended", "/srv/a", killed),
        ]);
        let filter = WatchFilter::new(false, Some("/srv/{a,old}")).unwrap();
        let lives = lives_of(&reader, &filter, window()).unwrap();
        let rows: Vec<_> = lives.rows.values().collect();
        assert_eq!(rows.len(), 2, "{rows:#?}");
        assert_eq!(rows[0].bars, [Bar { from_ns: BASE + 2 * HOUR, to_ns: Some(BASE + 4 * HOUR) }]);
        assert_eq!(rows[0].marks[0].end, EndMark::Signal);
        assert_eq!(rows[1].bars, [Bar { from_ns: BASE, to_ns: None }]);
        assert_eq!(reader.live().unwrap().1, Some(BASE + 4 * HOUR));
    }
}
