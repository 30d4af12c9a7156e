//! Sessions that ended in this boot before the daemon was started, or while none ran, as the journal has them: answers show
//! them like those whose ends this daemon saw.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use observer_core::session::Home;
use observer_core::{BootTime, Core, ProcessKey};
use serde::Deserialize;

use super::recorded::{RecordedSession, home_of};
use crate::api::audience::Audience;
use crate::api::entry::{Entry, Subject};
use crate::api::left::LeftJson;
use crate::api::session::SessionJson;
use crate::api::words::EntryKind;
use crate::journal::{Resumed, shared_by_users};

/// The end of a session, as an entry has it.
#[derive(Clone)]
pub struct RecordedEnd {
    /// The home of the session.
    pub home: Home,
    entry: Entry,
    subject: Subject,
    /// What it left, where another entry says so.
    left: Option<LeftJson>,
}

/// What an entry says of what a session left.
#[derive(Default, Deserialize)]
#[serde(default)]
struct LeftField {
    left: LeftJson,
}

impl RecordedEnd {
    /// `None`: the entry is no end of a session in the boot `boot_id`.
    fn new(entry: Entry, boot_id: &str) -> Option<Self> {
        let subject = entry.subject.clone().filter(|_| entry.kind == EntryKind::SessionEnded)?;
        let uid = match subject.uid {
            Some(uid) => uid,
            None => RecordedSession::new(&entry)?.home.uid,
        };
        let is_of_this_boot = entry.boot_id == boot_id;
        is_of_this_boot.then(|| Self { home: home_of(&subject, uid), entry, subject, left: None })
    }

    /// The name of the session.
    pub fn name(&self) -> &[u8] {
        &self.subject.name
    }

    /// When it ended.
    pub fn at(&self) -> BootTime {
        BootTime(self.entry.boottime_ns)
    }

    /// The session, as it was then, for this reader. `None`: never, since the entry has a session.
    pub fn json(&self, audience: Audience) -> Option<SessionJson<'_>> {
        let mut json = RecordedSession::new(&self.entry)?.json;
        // Who executed the program is not in the entry.
        if audience != Audience::Root {
            json.primary.hide_arguments();
        }
        if let Some(death) = json.session_death.as_mut().filter(|death| death.left.is_none()) {
            death.left.clone_from(&self.left);
        }
        Some(json)
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let Subject { home, name, .. } = &self.subject;
        size_of::<Self>() + self.entry.detail.len() + self.entry.boot_id.len() + 3 * (home.len() + name.len())
    }
}

/// The last end of each session that is known from the journal alone.
#[derive(Default)]
pub struct RecordedEnds(BTreeMap<Home, Arc<RecordedEnd>>);

impl RecordedEnds {
    /// Takes the ends that a file knows and those that were `found` because the kernel has no such session any more. Where there
    /// are too many with those that were known before, the oldest of the user who has most are left out.
    pub fn add(&mut self, resumed: Resumed, found: &[Entry], boot_id: &str) {
        let mut left: HashMap<ProcessKey, LeftJson> = resumed.left.iter().filter_map(left_of).collect();
        let mut former = Vec::new();
        for end in std::mem::take(&mut self.0).into_values().map(Arc::unwrap_or_clone) {
            left.extend(end.left.map(|left| (end.subject.process, left)));
            former.push(end.entry);
        }
        let found = found.iter().filter(|entry| entry.kind == EntryKind::SessionEnded).cloned();
        let mut all: Vec<Entry> = found.chain(resumed.ended).chain(former).collect();
        all.sort_by_key(|entry| std::cmp::Reverse(entry.boottime_ns));
        let kept = shared_by_users(all).into_iter();
        for mut end in kept.filter_map(|entry| RecordedEnd::new(entry, boot_id)) {
            end.left = left.remove(&end.subject.process);
            self.0.entry(end.home.clone()).or_insert_with(|| Arc::new(end));
        }
    }

    /// A session started in `home`: what was recorded before is not the last any more.
    pub fn started(&mut self, home: &Home) {
        self.0.remove(home);
    }

    /// Forgets those of homes of which the map has a later session, which may be forgotten later.
    pub fn retain_beside(&mut self, core: &Core) {
        self.0.retain(|home, _| core.session(home).is_none());
    }

    /// Those of homes of which the map has no later session.
    pub fn beside<'a>(&'a self, core: &'a Core) -> impl Iterator<Item = &'a Arc<RecordedEnd>> {
        self.0.values().filter(|end| core.session(&end.home).is_none())
    }
}

/// The primary that an entry is about, and what its session left.
fn left_of(entry: &Entry) -> Option<(ProcessKey, LeftJson)> {
    let subject = entry.subject.as_ref().filter(|_| entry.kind == EntryKind::SessionLeft)?;
    let LeftField { left } = serde_json::from_str(&entry.detail).ok()?;
    Some((subject.process, left))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use observer_core::Settings;
    use observer_core::limits::ENDED_SESSIONS_MAX;

    use super::*;

    fn entry(kind: EntryKind, name: &str, uid: u32, at: u64, detail: &str) -> Entry {
        let subject = Subject {
            home: format!("/srv/{name}").into_bytes(),
            home_mnt_ns: None,
            uid: Some(uid),
            instance: 1,
            name: name.into(),
            process: ProcessKey::new(7, at),
        };
        Entry {
            at_unix_ns: 0,
            boottime_ns: at,
            boot_id: "boot".into(),
            kind,
            subject: Some(subject),
            detail: detail.into(),
        }
    }

    fn end(name: &str, uid: u32, at: u64) -> Entry {
        entry(EntryKind::SessionEnded, name, uid, at, r#"{"death":{"kind":"exited"}}"#)
    }

    fn home(name: &str, uid: u32) -> Home {
        Home { mnt_ns: None, path: Arc::from(format!("/srv/{name}").as_bytes()), uid, instance: 1 }
    }

    fn shown(ends: &RecordedEnds) -> Vec<(String, u64, Option<u32>)> {
        let core = Core::new(Settings::default());
        let show = |end: &Arc<RecordedEnd>| {
            let left = end.json(Audience::Root).unwrap().session_death.unwrap().left;
            (String::from_utf8(end.name().to_vec()).unwrap(), end.at().0, left.map(|left| left.processes))
        };
        ends.beside(&core).map(show).collect()
    }

    #[test]
    fn the_last_end_of_each_home_is_kept_with_what_it_left_until_a_session_starts_there() {
        let mut ends = RecordedEnds::default();
        let of_another_boot = Entry { boot_id: "other".into(), ..end("a", 8, 9) };
        let left = entry(EntryKind::SessionLeft, "b", 8, 3, r#"{"left":{"processes":2}}"#);
        let resumed =
            Resumed { ended: vec![end("b", 8, 3), end("a", 8, 2)], left: vec![left], ..Resumed::default() };
        ends.add(resumed, &[end("a", 8, 5), of_another_boot], "boot");
        let all = [("a".to_owned(), 5, None), ("b".to_owned(), 3, Some(2))];
        assert_eq!(shown(&ends), all);
        // Another file takes nothing from what is known.
        let other = Resumed { ended: vec![end("c", 8, 1)], ..Resumed::default() };
        ends.add(other, &[], "boot");
        assert_eq!(shown(&ends), [&all[..], &[("c".to_owned(), 1, None)]].concat());
        ends.started(&home("a", 9));
        assert_eq!(shown(&ends).len(), 3, "another user's session");
        ends.started(&home("a", 8));
        assert_eq!(shown(&ends).len(), 2);
    }

    #[test]
    fn arguments_of_what_ended_before_are_for_root_alone() {
        let detail = r#"{"argv":["agent","hunter2"],"uid":8}"#;
        let end = RecordedEnd::new(entry(EntryKind::SessionEnded, "a", 8, 2, detail), "boot").unwrap();
        let seen = |audience| {
            let process = end.json(audience).unwrap().primary;
            (process.argv.unwrap().len(), process.argv_truncated)
        };
        assert_eq!(seen(Audience::Root), (2, false));
        assert_eq!([Audience::User(8), Audience::Anyone].map(seen), [(1, true), (1, true)]);
    }

    #[test]
    fn nobody_pushes_out_the_ends_of_another() {
        let mut ends = RecordedEnds::default();
        let many = (0..2 * ENDED_SESSIONS_MAX as u64).map(|at| end(&at.to_string(), 9, at + 10)).collect();
        ends.add(Resumed { ended: many, ..Resumed::default() }, &[end("a", 8, 5)], "boot");
        assert_eq!(ends.0.len(), ENDED_SESSIONS_MAX);
        assert!(ends.0.contains_key(&home("a", 8)));
    }
}
