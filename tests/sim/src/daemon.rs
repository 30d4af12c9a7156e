//! A model of the daemon: the real core and the real decoder, driven as the event loop does.

use observer_core::limits::PASS_RETRY_NS;
use observer_core::{BootTime, Core, Input, ProcessKey, Settings, decode};

use crate::linux::{HOST_MNT_NS, Linux};
use crate::reports::{PassRequest, Reports};
use crate::rules::rules;

/// A pass that reads the processes one after the other.
#[derive(Debug)]
struct Reading {
    began: BootTime,
    drops_total: u64,
    hints: u64,
    /// Processes from here on are still to be read.
    next: u32,
    rows: Vec<Vec<u8>>,
}

/// The daemon.
#[derive(Debug)]
pub struct ModelDaemon {
    /// The map.
    pub core: Core,
    /// What it reported.
    pub reports: Reports,
    reading: Option<Reading>,
    drops_seen: u64,
    delivered_hints: u64,
    /// A process that the last pass left out. It shows it the next time.
    left_out: Option<u32>,
}

impl ModelDaemon {
    /// A daemon that has read nothing. `awaits_known`: it is to be given the sessions that there were.
    pub fn new(awaits_known: bool) -> Self {
        let core = Core::new(Settings {
            rules: rules(),
            host_mnt_ns: HOST_MNT_NS,
            awaits_oom_marks: true,
            awaits_known,
            ..Settings::default()
        });
        Self {
            core,
            reports: Reports::default(),
            reading: None,
            drops_seen: 0,
            delivered_hints: 0,
            left_out: None,
        }
    }

    fn handle(&mut self, input: Input<'_>) {
        let at = input.at();
        self.core.handle(input, &mut self.reports);
        if std::mem::take(&mut self.reports.wants_pages) {
            self.core.handle(Input::ResidentPages { at, began: at }, &mut self.reports);
        }
        for home in std::mem::take(&mut self.reports.owners) {
            let owner = Some(home.uid);
            self.core.handle(Input::HomeOwner { at, home: &home, owner }, &mut self.reports);
        }
    }

    /// Takes up to `most` records out of the ring, and hints that were raised without one.
    pub fn drain(&mut self, linux: &mut Linux, most: usize) {
        for _ in 0..most {
            let Some(bytes) = linux.ring.take() else { break };
            match decode(&bytes) {
                Ok(input) => {
                    if let Input::Hint { bits, .. } = input {
                        self.delivered_hints |= bits;
                    }
                    self.handle(input);
                }
                Err(error) => self.reports.faults.push(format!("a record does not decode: {error:?}")),
            }
        }
        let undelivered = linux.ring.hints() & !self.delivered_hints;
        if undelivered != 0 {
            self.delivered_hints |= undelivered;
            self.handle(Input::Hint { at: BootTime(linux.tick()), bits: undelivered });
        }
        let total = linux.ring.drops_total();
        if total > self.drops_seen {
            self.drops_seen = total;
            self.handle(Input::Dropped { at: BootTime(linux.tick()), total });
        }
    }

    /// One turn of the event loop.
    pub fn turn(&mut self, linux: &mut Linux) {
        if self.reading.is_some() {
            return;
        }
        let before = BootTime(linux.tick());
        self.drain(linux, usize::MAX);
        self.core.close_deaths(before, &mut self.reports);
        let now = BootTime(linux.tick());
        if self.pass_due().is_some_and(|due| due <= now) {
            self.begin_pass(linux);
        }
        if self.reading.is_none() && self.core.poll_timeout().is_some_and(|due| due <= now) {
            linux.ring.read_skipped();
            self.drain(linux, 0);
            self.handle(Input::Tick { at: now });
        }
    }

    /// When the requested pass is due.
    pub fn pass_due(&self) -> Option<BootTime> {
        self.reports.pass.map(|pass| pass.not_before)
    }

    /// Whether a pass reads processes.
    pub fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// Begins a pass, which [`Self::read`] goes on with.
    pub fn begin_pass(&mut self, linux: &mut Linux) {
        if self.reading.is_some() {
            return;
        }
        self.drain(linux, usize::MAX);
        let hints = self.reports.pass.take().map_or(0, |pass| pass.hints);
        self.delivered_hints &= !hints;
        linux.ring.clear_hints(hints);
        let drops_total = linux.ring.drops_total();
        let began = BootTime(linux.tick());
        self.reading = Some(Reading { began, drops_total, hints, next: 0, rows: Vec::new() });
    }

    /// Reads some processes, and ends the pass with the last one. `leaves_out`: one of them is not shown, as it happens to those
    /// whose threads change places while the iterator looks; the next pass shows it.
    pub fn read(&mut self, linux: &mut Linux, processes: usize, leaves_out: bool) {
        let Some(mut reading) = self.reading.take() else { return };
        for number in 0..processes {
            let Some(tgid) = linux.groups.range(reading.next..).next().map(|(&tgid, _)| tgid) else {
                return self.end_pass(linux, reading, true);
            };
            reading.next = tgid + 1;
            if leaves_out && number == 0 && self.left_out.is_none() {
                self.left_out = Some(tgid);
                continue;
            }
            self.left_out.take_if(|left_out| *left_out == tgid);
            reading.rows.extend(linux.row(tgid));
        }
        self.reading = Some(reading);
    }

    /// Ends a pass that is in progress, with every process.
    pub fn finish_pass(&mut self, linux: &mut Linux) {
        self.read(linux, usize::MAX, false);
    }

    /// A pass in progress fails part-way.
    pub fn fail_pass(&mut self, linux: &mut Linux) {
        if let Some(reading) = self.reading.take() {
            self.end_pass(linux, reading, false);
        }
    }

    fn end_pass(&mut self, linux: &mut Linux, reading: Reading, complete: bool) {
        let Reading { began, drops_total, hints, rows, .. } = reading;
        let ended = BootTime(linux.tick());
        self.handle(Input::PassBegin { at: began, drops_total });
        self.drain(linux, usize::MAX);
        for row in &rows {
            match decode(row) {
                Ok(input) => self.handle(input),
                Err(error) => self.reports.faults.push(format!("a row does not decode: {error:?}")),
            }
        }
        self.handle(Input::PassEnd { at: ended, complete });
        if !complete {
            let not_before = ended.after(PASS_RETRY_NS);
            self.reports.pass.get_or_insert(PassRequest { not_before, hints }).hints |= hints;
        }
    }

    /// Reads some processes outside of a pass, as for a question. `chosen` says which.
    pub fn read_alone(&mut self, linux: &mut Linux, chosen: impl Fn(u32) -> bool) {
        if self.reading.is_some() {
            return;
        }
        let tgids: Vec<u32> = linux.groups.keys().copied().filter(|&tgid| chosen(tgid)).collect();
        let rows: Vec<Vec<u8>> = tgids.into_iter().filter_map(|tgid| linux.row(tgid)).collect();
        self.drain(linux, usize::MAX);
        for row in &rows {
            if let Ok(Input::PassRow(row)) = decode(row) {
                self.handle(Input::LoneRow(row));
            }
        }
    }

    /// Whether the map has this process, and does not know that it has ended.
    pub fn holds(&self, key: ProcessKey) -> bool {
        self.core.process_by_key(key).is_some() && !self.core.has_open_death(key)
    }
}
