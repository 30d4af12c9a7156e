//! The state of `observer top`. An event changes it, and may have an effect that the driver carries out. Nothing here reads a
//! clock, a terminal or a socket.

use std::collections::{HashMap, HashSet};

use super::areas::{Areas, TopPane};
use super::event::{
    Details, DetailsWanted, Effect, LastDeath, RowId, Scope, SeenSession, SessionsSeen, TopEvent,
};
use super::foot::Foot;
use super::jump::{Jump, OwnMux};
use super::keys::TopKey;
use super::pane::{PaneLine, details_lines, help_lines};
use super::rows::{TopColumn, TopRow, column_of, columns};

/// Characters of a filter.
const FILTER_CHARS_MAX: usize = 64;
/// How many ends are remembered of homes that have no row.
const DEATHS_MAX: usize = 4_096;
/// How old details may be before they are asked for again, ns.
const DETAILS_AGE_NS: i128 = 4_000_000_000;

/// What never changes while the program runs.
#[derive(Clone, Debug)]
pub(super) struct TopSetting {
    pub(super) scope: Scope,
    /// Whether colours are used.
    pub(super) colour: bool,
    /// The multiplexer that this program runs in.
    pub(super) own: OwnMux,
}

/// The state.
#[derive(Debug)]
pub(super) struct TopModel {
    pub(super) setting: TopSetting,
    /// All rows, in the order of the screen.
    pub(super) rows: Vec<TopRow>,
    /// Indices of the rows that the filter leaves.
    pub(super) shown: Vec<usize>,
    pub(super) selected: Option<RowId>,
    /// Where the chosen row is, or was: a place in `shown`.
    at: usize,
    /// The first row on the screen, as a place in `shown`.
    pub(super) offset: usize,
    pub(super) column: TopColumn,
    pub(super) reversed: bool,
    pub(super) ended: bool,
    pub(super) filter: String,
    pub(super) is_typing: bool,
    pub(super) pane: TopPane,
    pub(super) details: Option<Details>,
    /// Lines of the pane that were scrolled away.
    pub(super) scroll: usize,
    /// Since when nobody answers, ns since 1970, and why.
    pub(super) away: Option<(i128, String)>,
    /// When the sessions were read last, ns since 1970.
    pub(super) read_at_ns: Option<i128>,
    pub(super) is_certain: bool,
    pub(super) note: Option<String>,
    pub(super) now_ns: i128,
    /// Ids of hosts whose daemon is not connected.
    pub(super) hosts_away: HashSet<String>,
    size: (u16, u16),
    /// Whether rows changed since they were put in order.
    is_unsettled: bool,
    /// Ends of sessions that have no row.
    deaths: HashMap<RowId, LastDeath>,
    /// When details were asked for last, ns since 1970.
    asked_at_ns: i128,
}

impl TopModel {
    /// No sessions yet, on a screen of this size.
    pub(super) fn new(setting: TopSetting, size: (u16, u16), now_ns: i128) -> Self {
        Self {
            setting,
            rows: Vec::new(),
            shown: Vec::new(),
            selected: None,
            at: 0,
            offset: 0,
            column: TopColumn::Name,
            reversed: false,
            ended: false,
            filter: String::new(),
            is_typing: false,
            pane: TopPane::Closed,
            details: None,
            scroll: 0,
            away: None,
            read_at_ns: None,
            is_certain: true,
            note: None,
            now_ns,
            hosts_away: HashSet::new(),
            size,
            is_unsettled: false,
            deaths: HashMap::new(),
            asked_at_ns: 0,
        }
    }

    /// Applies what happened at `now_ns` (ns since 1970).
    pub(super) fn update(&mut self, event: TopEvent, now_ns: i128) -> Option<Effect> {
        self.now_ns = now_ns;
        match event {
            TopEvent::Tick => {
                self.settle();
                return self.refreshed_details();
            }
            TopEvent::Key(key) => return self.key(key),
            TopEvent::Resized(width, height) => self.fit(width, height),
            TopEvent::Sessions(seen) => self.read(seen),
            // Thousands may come before the screen is drawn again, so rows are put in order then.
            TopEvent::Changed(seen, at_ns) => {
                self.changed(*seen, at_ns);
                self.is_unsettled = true;
                return None;
            }
            TopEvent::Deaths(deaths) => self.died(deaths),
            TopEvent::Presence(host_id, true) => drop(self.hosts_away.remove(&host_id)),
            TopEvent::Presence(host_id, false) => drop(self.hosts_away.insert(host_id)),
            TopEvent::Details(details) if Some(&details.id) == self.selected.as_ref() => {
                self.details = Some(*details);
            }
            TopEvent::Details(_) => {}
            TopEvent::Away(why) => {
                let since = self.away.take().map_or(now_ns, |(since, _)| since);
                self.away = Some((since, why));
            }
            TopEvent::Note(note) => self.note = Some(note),
        }
        self.arrange();
        None
    }

    /// The screen has this size.
    pub(super) fn fit(&mut self, width: u16, height: u16) {
        if self.size != (width, height) {
            self.size = (width, height);
            self.arrange();
        }
    }

    /// The parts of the screen.
    pub(super) fn areas(&self) -> Areas {
        let (width, height) = self.size;
        Areas::new(width, height, self.pane, self.foot().lines(width))
    }

    /// The last lines.
    pub(super) fn foot(&self) -> Foot {
        Foot::new(self.note.as_deref(), &self.filter, self.is_typing)
    }

    /// The lines of the pane.
    pub(super) fn pane_lines(&self) -> Vec<PaneLine> {
        let width = usize::from(self.size.0);
        match (self.pane, self.chosen()) {
            (TopPane::Help, _) => help_lines(self.setting.scope, width),
            (TopPane::Details, Some(row)) => {
                details_lines(row, self.details.as_ref(), self.now_ns, self.is_host_away(row), width)
            }
            (TopPane::Details, None) | (TopPane::Closed, _) => Vec::new(),
        }
    }

    /// The chosen row.
    pub(super) fn chosen(&self) -> Option<&TopRow> {
        let selected = self.selected.as_ref()?;
        self.shown.iter().filter_map(|&at| self.rows.get(at)).find(|row| row.is(selected))
    }

    /// Whether nobody can say what the session of `row` does.
    pub(super) fn is_host_away(&self, row: &TopRow) -> bool {
        self.hosts_away.contains(&row.seen.host_id)
    }

    fn read(&mut self, seen: SessionsSeen) {
        let mut before: HashMap<RowId, TopRow> = self.rows.drain(..).map(|row| (row.id(), row)).collect();
        let at_ns = seen.at_boottime_ns;
        for session in seen.sessions {
            let id = session.id();
            let mut row = TopRow::listed(session, at_ns, before.remove(&id));
            row.death = LastDeath::later(self.deaths.remove(&id), row.death);
            self.rows.push(row);
        }
        for (id, row) in before {
            if row.changed_at_ns > at_ns {
                self.rows.push(row);
            } else if let Some(death) = row.death {
                self.remember(id, death);
            }
        }
        self.is_certain = seen.is_certain;
        self.read_at_ns = Some(self.now_ns);
        self.away = None;
    }

    fn changed(&mut self, seen: SeenSession, at_ns: u64) {
        let id = seen.id();
        let at = self.rows.iter().position(|row| row.is(&id));
        if seen.has_ended() && !self.ended {
            let known = at.map(|at| self.rows.swap_remove(at)).and_then(|row| row.death);
            if let Some(death) = LastDeath::of(&seen.session).or(known) {
                self.remember(id, death);
            }
            return;
        }
        match at.and_then(|at| self.rows.get_mut(at)) {
            Some(row) => row.changed(seen, at_ns),
            None => {
                let death = self.deaths.remove(&id);
                let mut row = TopRow::new(death);
                row.changed(seen, at_ns);
                self.rows.push(row);
            }
        }
    }

    fn died(&mut self, deaths: Vec<(RowId, LastDeath)>) {
        let mut deaths: HashMap<_, _> = deaths.into_iter().collect();
        for row in &mut self.rows {
            let before = deaths.remove(&row.id());
            row.death = LastDeath::later(before, row.death.take());
        }
        deaths.into_iter().for_each(|(id, death)| self.remember(id, death));
    }

    fn remember(&mut self, id: RowId, death: LastDeath) {
        if self.deaths.len() < DEATHS_MAX || self.deaths.contains_key(&id) {
            let death = LastDeath::later(self.deaths.remove(&id), Some(death));
            self.deaths.extend(death.map(|death| (id, death)));
        }
    }

    /// Puts rows in order if they changed since; before the state is drawn.
    pub(super) fn settle(&mut self) {
        if self.is_unsettled {
            self.arrange();
        }
    }

    /// Puts rows in order, applies the filter, and keeps the chosen row on the screen.
    fn arrange(&mut self) {
        self.is_unsettled = false;
        let (column, now_ns) = (self.column, self.now_ns);
        self.rows.sort_by(|a, b| a.compare(b, column, now_ns));
        if self.reversed {
            self.rows.reverse();
        }
        let wanted = self.filter.to_lowercase();
        let is_wanted = |row: &TopRow| wanted.is_empty() || row.searched().contains(&wanted);
        self.shown =
            self.rows.iter().enumerate().filter(|(_, row)| is_wanted(row)).map(|(at, _)| at).collect();
        match self.place() {
            Some(place) => self.at = place,
            // What stood there is gone: the row that took its place is chosen.
            None => self.choose(self.at),
        }
        self.scroll_to_chosen();
        if self.pane != TopPane::Closed {
            let lines = self.pane_lines().len().saturating_sub(self.areas().pane_rows());
            self.scroll = self.scroll.min(lines);
        }
    }

    /// The place of the chosen row in `shown`.
    fn place(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.shown.iter().position(|&at| self.rows.get(at).is_some_and(|row| row.is(selected)))
    }

    /// Chooses the row at this place, or the last one.
    fn choose(&mut self, place: usize) {
        let place = place.min(self.shown.len().saturating_sub(1));
        self.at = place;
        let row = self.shown.get(place).and_then(|&at| self.rows.get(at));
        let id = row.map(TopRow::id);
        if id != self.selected {
            self.selected = id;
            self.details = None;
            self.scroll = 0;
            self.asked_at_ns = 0;
        }
    }

    fn scroll_to_chosen(&mut self) {
        let (rows, place) = (self.areas().rows().max(1), self.at);
        let last = self.shown.len().saturating_sub(rows);
        self.offset = self.offset.clamp((place + 1).saturating_sub(rows), place).min(last);
    }

    /// Asks for the details of the chosen row, where they are shown and are not known, or not of now.
    fn refreshed_details(&mut self) -> Option<Effect> {
        if self.pane != TopPane::Details || self.now_ns - self.asked_at_ns < DETAILS_AGE_NS {
            return None;
        }
        let row = self.chosen()?;
        let pid = Some(row.seen.session.primary.pid).filter(|_| !row.seen.has_ended());
        let wanted = DetailsWanted { id: row.id(), pid };
        self.asked_at_ns = self.now_ns;
        Some(Effect::Ask(wanted))
    }

    fn key(&mut self, key: TopKey) -> Option<Effect> {
        self.note = None;
        self.settle();
        match key {
            TopKey::Interrupt => return Some(Effect::Quit),
            TopKey::Suspend => return Some(Effect::Suspend),
            TopKey::Redraw => return Some(Effect::Redraw),
            _ if self.is_typing => self.typed(key),
            _ => {
                if let Some(effect) = self.command(key) {
                    return Some(effect);
                }
            }
        }
        self.arrange();
        self.refreshed_details()
    }

    /// A key while the filter is typed.
    fn typed(&mut self, key: TopKey) {
        match key {
            TopKey::Enter => self.is_typing = false,
            TopKey::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            TopKey::Backspace => drop(self.filter.pop()),
            TopKey::Clear => self.filter.clear(),
            TopKey::Char(c) => {
                if self.filter.chars().count() < FILTER_CHARS_MAX {
                    self.filter.push(c);
                }
            }
            _ => self.moved(key),
        }
    }

    fn command(&mut self, key: TopKey) -> Option<Effect> {
        match key {
            TopKey::Char('q') => return Some(Effect::Quit),
            // It never quits: it is also the first byte of an arrow key, whose others may come later.
            TopKey::Esc if self.pane == TopPane::Closed => self.filter.clear(),
            TopKey::Esc => self.open(TopPane::Closed),
            TopKey::Enter if self.pane == TopPane::Closed && self.selected.is_some() => {
                self.open(TopPane::Details)
            }
            TopKey::Enter => self.open(TopPane::Closed),
            TopKey::Char('?') if self.pane == TopPane::Help => self.open(TopPane::Closed),
            TopKey::Char('?') => self.open(TopPane::Help),
            TopKey::Char('/') => self.is_typing = true,
            TopKey::Char('[') => self.scroll = self.scroll.saturating_sub(1),
            TopKey::Char(']') => self.scroll = self.scroll.saturating_add(1),
            TopKey::Char('g') => return self.jump(),
            TopKey::Char('e') => {
                self.ended = !self.ended;
                self.note = Some(self.what_ended_is());
                if !self.ended {
                    self.rows.retain(|row| !row.seen.has_ended());
                }
                self.arrange();
                return Some(Effect::List { ended: self.ended });
            }
            TopKey::Left | TopKey::Right => self.sort_beside(key == TopKey::Right),
            TopKey::Char('r') => self.reversed = !self.reversed,
            TopKey::Char(c) if column_of(c, self.setting.scope).is_some() => {
                self.column = column_of(c, self.setting.scope).unwrap_or(self.column);
                self.reversed = false;
            }
            _ => self.moved(key),
        }
        None
    }

    fn what_ended_is(&self) -> String {
        let words =
            if self.ended { "sessions that have ended are shown" } else { "ended sessions are hidden" };
        words.into()
    }

    fn open(&mut self, pane: TopPane) {
        self.pane = pane;
        self.scroll = 0;
        self.asked_at_ns = 0;
    }

    /// A key that chooses another row, or scrolls the help.
    fn moved(&mut self, key: TopKey) {
        let page = self.areas().rows().max(1);
        let place = self.at;
        if self.pane == TopPane::Help {
            match key {
                TopKey::Down | TopKey::Char('j') => self.scroll = self.scroll.saturating_add(1),
                TopKey::Up | TopKey::Char('k') => self.scroll = self.scroll.saturating_sub(1),
                _ => {}
            }
            return;
        }
        match key {
            TopKey::Down | TopKey::Char('j') => self.choose(place.saturating_add(1)),
            TopKey::Up | TopKey::Char('k') => self.choose(place.saturating_sub(1)),
            TopKey::PageDown => self.choose(place.saturating_add(page)),
            TopKey::PageUp => self.choose(place.saturating_sub(page)),
            TopKey::First => self.choose(0),
            TopKey::Last => self.choose(usize::MAX),
            _ => {}
        }
    }

    fn sort_beside(&mut self, is_right: bool) {
        let columns = columns(self.setting.scope);
        let at = columns.iter().position(|&column| column == self.column).unwrap_or(0);
        let step = if is_right { 1 } else { columns.len().saturating_sub(1) };
        let next = at.saturating_add(step).checked_rem(columns.len()).unwrap_or(0);
        self.column = columns.get(next).copied().unwrap_or(self.column);
        self.reversed = false;
    }

    fn jump(&mut self) -> Option<Effect> {
        let row = self.chosen()?;
        match Jump::to(row, self.setting.scope, &self.setting.own) {
            Jump::Switch { socket, pane } => Some(Effect::Jump { socket, pane }),
            Jump::Say(note) => {
                self.note = Some(note);
                self.arrange();
                None
            }
        }
    }
}
