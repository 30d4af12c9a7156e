//! Puts the primaries of known sessions in their places before anybody is elected, so that elections find them as
//! present primaries.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::input::KnownSession;
use crate::limits::LAUNCHERS_MAX;
use crate::model::ids::ProcessKey;
use crate::model::session::{Home, State};
use crate::processes::entry::Candidacy;
use crate::sessions::Sessions;
use crate::sessions::admission::{follows_cwd, is_ignored, is_wrapper};
use crate::sessions::by_age::age;
use crate::sessions::context::SessionContext;
use crate::sessions::look::oldest_first;
use crate::sessions::resume::{fits, is_inside};
use crate::sessions::roots::{LineagePosition, instance_above, is_candidate, position};

/// Where the primary of a known session is.
enum Place {
    /// In its home, to which this rule admits it.
    Home(usize),
    /// Elsewhere, where no rule admits it; this rule admitted it to its home.
    Outside(usize),
    /// In another home, to which a rule admits it; this rule admitted it to the one that it left.
    OtherHome(usize),
}

impl Sessions {
    /// Makes each known primary that lives, and that a rule still admits to its home, the primary there.
    pub(super) fn put_in_places(&mut self, ctx: &mut SessionContext<'_>, known: &[&KnownSession<'_>]) {
        let mut outside = Vec::new();
        for known in known {
            match self.place(ctx, known) {
                Some(Place::Home(rule)) => self.put_home(ctx, known, rule),
                Some(place) => outside.push((known, place)),
                None => {}
            }
        }
        for (known, place) in outside {
            let rule = match place {
                Place::Home(rule) | Place::Outside(rule) => rule,
                // It moved.
                Place::OtherHome(_) if self.may_be_session(ctx, known.primary) => continue,
                Place::OtherHome(rule) => {
                    self.pass_over(ctx, known.primary);
                    rule
                }
            };
            if self.is_free(known) {
                let home = self.homes.intern(known.home.clone());
                self.adopt(ctx, &home, rule, known);
            }
        }
        self.put_in_instances(ctx, known);
    }

    fn place(&self, ctx: &SessionContext<'_>, known: &KnownSession<'_>) -> Option<Place> {
        let entry = ctx.table.get(known.primary)?;
        let process = &entry.process;
        if is_ignored(ctx.ignored, process) {
            return None;
        }
        let mut rules = ctx.rules.iter().enumerate();
        let (index, rule) = rules.find(|(_, rule)| fits(rule, process, known))?;
        // A primary that had left was about to move: only being there brings it back.
        let keeps_home = follows_cwd(rule) && known.state != State::Left;
        if keeps_home || is_inside(ctx, rule, known, &process.cwd) {
            return Some(Place::Home(index));
        }
        let is_admitted = entry.candidacy.is_some();
        Some(if is_admitted { Place::OtherHome(index) } else { Place::Outside(index) })
    }

    /// Returns whether neither the home nor the primary of a known session has another one.
    fn is_free(&self, known: &KnownSession<'_>) -> bool {
        self.homes.slot(known.home).is_none() && self.homes.home_of_primary(known.primary).is_none()
    }

    /// Makes a known primary that is in its home the primary and a candidate there.
    fn put_home(&mut self, ctx: &mut SessionContext<'_>, known: &KnownSession<'_>, rule: usize) {
        let key = known.primary;
        if !self.is_free(known) {
            return;
        }
        let home = self.homes.intern(known.home.clone());
        self.settling.remove(key);
        self.stop_claiming(ctx, key);
        self.remove_candidate(ctx, key);
        let since = ctx.at;
        let Some((entry, settings)) = ctx.table.get_mut(key).zip(ctx.rules.get(rule)) else { return };
        entry.left_out = false;
        entry.candidacy = Some(Candidacy {
            home: Arc::clone(&home),
            rule,
            is_wrapper: is_wrapper(settings, &entry.process),
            dir: entry.process.cwd.id,
            since,
        });
        self.homes.by_home.entry(Arc::clone(&home)).or_default().candidates.insert(age(key));
        self.adopt(ctx, &home, rule, known);
    }

    fn remove_candidate(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey) {
        let Some(candidacy) = ctx.table.get_mut(key).and_then(|entry| entry.candidacy.take()) else { return };
        if let Some(state) = self.homes.by_home.get_mut(&candidacy.home) {
            state.candidates.remove(&age(key));
        }
        self.homes.forget_empty(&candidacy.home);
    }

    /// Returns whether a process may be a session in the home of which it is a candidate.
    fn may_be_session(&self, ctx: &SessionContext<'_>, key: ProcessKey) -> bool {
        let Some(entry) = ctx.table.get(key) else { return false };
        let Some(candidacy) = &entry.candidacy else { return false };
        let home = &candidacy.home;
        let primary = self.homes.slot(home).map(|slot| slot.session.primary);
        match position(ctx.table, &self.homes, entry, home, primary) {
            LineagePosition::Root => true,
            LineagePosition::Below(above) => {
                primary != Some(above) && ctx.table.get(above).is_none_or(|above| !is_candidate(above, home))
            }
            LineagePosition::Helper(_) => false,
        }
    }

    /// A process can be no session where it is, so it keeps the one that it left.
    fn pass_over(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey) {
        self.remove_candidate(ctx, key);
        if let Some(entry) = ctx.table.get_mut(key) {
            entry.passed_over = true;
        }
    }

    /// Every candidate was found in the first instance of its home. Moves what is above and below each known primary to the
    /// instance of that primary.
    fn put_in_instances(&mut self, ctx: &mut SessionContext<'_>, known: &[&KnownSession<'_>]) {
        let mut placed = BTreeSet::new();
        for known in known {
            let home = self.homes.home_of_primary(known.primary).filter(|home| ***home == *known.home);
            let Some(home) = home.map(Arc::clone) else { continue };
            // What started one that left may belong to another session since then.
            if !ctx.table.get(known.primary).is_some_and(|entry| is_candidate(entry, &home)) {
                continue;
            }
            let first = self.homes.intern(Home { instance: Home::FIRST, ..known.home.clone() });
            let above = self.chain_above(ctx, known.primary, &first);
            placed.extend(above.iter().copied());
            if home != first {
                self.move_members(ctx, &first, &home, above);
                self.homes.forget_empty(&first);
            }
        }
        for key in oldest_first(ctx.table) {
            if placed.contains(&key) || self.homes.home_of_primary(key).is_some() {
                continue;
            }
            let Some(entry) = ctx.table.get(key) else { continue };
            let Some(candidacy) = &entry.candidacy else { continue };
            let to = instance_above(ctx.table, &self.homes, entry, &candidacy.home);
            let Some(to) = to.filter(|to| **to != candidacy.home).map(Arc::clone) else { continue };
            let from = Arc::clone(&candidacy.home);
            self.move_members(ctx, &from, &to, alloc::vec![key]);
            self.homes.forget_empty(&from);
        }
    }

    /// Returns the candidates of `home` above `key`, up to its root. Where a primary is among them, they are taken for
    /// that one's.
    fn chain_above(&self, ctx: &SessionContext<'_>, key: ProcessKey, home: &Home) -> Vec<ProcessKey> {
        let next = |&key: &ProcessKey| match position(ctx.table, &self.homes, ctx.table.get(key)?, home, None)
        {
            LineagePosition::Below(above) | LineagePosition::Helper(above) => Some(above),
            LineagePosition::Root => None,
        };
        let above = core::iter::successors(Some(key), next).skip(1).take(LAUNCHERS_MAX);
        let mut above: Vec<ProcessKey> = above.collect();
        if above.iter().any(|&above| self.homes.home_of_primary(above).is_some()) {
            above.clear();
        }
        above.retain(|&above| ctx.table.get(above).is_some_and(|above| is_candidate(above, home)));
        above
    }
}
