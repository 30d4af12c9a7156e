//! The ancestors that may decide where the candidates of a home belong, each with the nearest of every kind that is it or above
//! it, whatever its terminal and with each terminal. So who decides is found by a few looks, however many are between.

use alloc::vec::Vec;

use crate::limits::LINEAGE_STEPS_MAX;
use crate::model::process::Tty;
use crate::sessions::roots::Between;
use crate::sessions::terminal_maps::{TerminalMap, TerminalMaps};

/// What an ancestor is to those below it. One may be several of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LandmarkKind {
    /// It may be above candidates of the home.
    Here,
    /// The same, and it is a wrapper, which takes what it started on any terminal.
    WrapperHere,
    /// It is the primary of a session of another home.
    Elsewhere,
    /// It is not known yet whether it is a session.
    Settling,
}

impl LandmarkKind {
    pub const COUNT: usize = 4;
}

/// The nearest landmarks of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct NearestOfKind {
    any: Option<usize>,
    by_tty: TerminalMap,
}

/// From where on ancestors are cut off, because a process that no rule admits, and that has a terminal, is between.
#[derive(Clone, Copy, Debug, Default)]
struct CutOff {
    /// The first such terminal, and the nearest landmark above it: from there on, only those with this terminal are not cut off.
    first: Option<(Tty, usize)>,
    /// From this landmark on, all are: there are several terminals between.
    all: Option<usize>,
}

/// An ancestor.
#[derive(Debug)]
pub(super) struct Landmark {
    /// Its number for the caller.
    pub number: usize,
    pub tty: Option<Tty>,
    /// No rule admits it, and it has no session.
    pub is_plain: bool,
    pub is_wrapper: bool,
    /// Whether it is of each of [`LandmarkKind`].
    pub kinds: [bool; LandmarkKind::COUNT],
    /// It is the primary of the home's session.
    pub is_own_primary: bool,
    /// A candidate of the home that had started it ended lately.
    pub is_left_behind: bool,
}

#[derive(Debug)]
struct Placed {
    landmark: Landmark,
    /// Steps to it from the uppermost one.
    depth: usize,
    /// The next one above.
    above: Option<usize>,
    /// As many steps above it were looked at as any walk goes.
    is_complete: bool,
    /// Itself, or above it.
    nearest: [NearestOfKind; LandmarkKind::COUNT],
    own_primary: Option<usize>,
    left_behind: Option<usize>,
    /// What is cut off for those below it, by itself and what is above it.
    cut_off: CutOff,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Landmarks {
    all: Vec<Placed>,
    maps: TerminalMaps,
}

/// The landmarks above a process, as the process sees them.
#[derive(Clone, Copy, Debug)]
pub(super) struct LandmarkView {
    /// The nearest.
    first: usize,
    /// Steps to the process from the uppermost one.
    depth: usize,
    /// Its own terminal.
    tty: Option<Tty>,
    cut_off: CutOff,
}

impl Landmarks {
    /// Adds a landmark. `to_next`: what is between it and the next one above, the number of steps to that, and which it is.
    pub fn add(
        &mut self,
        landmark: Landmark,
        (mut between, steps, above): (Between, usize, Option<usize>),
        is_complete: bool,
    ) -> usize {
        let at = self.all.len();
        let next = above.and_then(|above| self.all.get(above));
        let mut nearest = next.map(|next| next.nearest).unwrap_or_default();
        for (nearest, _) in nearest.iter_mut().zip(landmark.kinds).filter(|&(_, is_it)| is_it) {
            nearest.any = Some(at);
            if let Some(tty) = landmark.tty {
                nearest.by_tty = self.maps.with(nearest.by_tty, tty, at);
            }
        }
        let own_primary = if landmark.is_own_primary { Some(at) } else { next.and_then(|it| it.own_primary) };
        let left_behind = if landmark.is_left_behind { Some(at) } else { next.and_then(|it| it.left_behind) };
        let depth = next.map_or(0, |next| next.depth + steps);
        if landmark.is_plain {
            between.add(landmark.tty);
        }
        let cut_off = self.cut_off(between, above);
        self.all.push(Placed {
            landmark,
            depth,
            above,
            is_complete,
            nearest,
            own_primary,
            left_behind,
            cut_off,
        });
        at
    }

    /// Returns whether as many steps above `at` were looked at as any walk goes.
    pub fn is_complete(&self, at: usize) -> bool {
        self.all.get(at).is_some_and(|placed| placed.is_complete)
    }

    /// Returns what a process with this terminal sees. `to_first`: as in [`Self::add`].
    pub fn view(
        &self,
        tty: Option<Tty>,
        (between, steps, first): (Between, usize, usize),
    ) -> Option<LandmarkView> {
        let depth = self.all.get(first)?.depth + steps;
        Some(LandmarkView { first, depth, tty, cut_off: self.cut_off(between, Some(first)) })
    }

    /// Returns the nearest landmark that takes the process for its own in the home: it has the same terminal, or is a wrapper.
    pub fn taker(&self, view: &LandmarkView) -> Option<usize> {
        let same = self.nearest(view, LandmarkKind::Here, view.tty, view.first);
        let wrapper = self.nearest(view, LandmarkKind::WrapperHere, None, view.first);
        self.nearer(same, wrapper)
    }

    /// Returns the nearest landmark that decides where the process belongs: one that takes it, also the primary of the home's
    /// session if `has_primary`, wherever that is; or a primary of another home that has the same terminal.
    pub fn decider(&self, view: &LandmarkView, has_primary: bool) -> Option<usize> {
        let elsewhere = self.nearest(view, LandmarkKind::Elsewhere, view.tty, view.first);
        let primary = self.all.get(view.first).and_then(|first| first.own_primary);
        let takes = |&at: &usize| {
            let primary = self.all.get(at).map(|placed| &placed.landmark);
            let is_same = |primary: &Landmark| view.tty.is_none() || primary.tty == view.tty;
            primary.is_some_and(|it| it.is_wrapper || is_same(it)) && self.is_seen(view, at)
        };
        let primary = primary.filter(|_| has_primary).filter(takes);
        self.nearer(self.nearer(self.taker(view), primary), elsewhere)
    }

    /// Returns the landmarks that settle and have the terminal of the process, the nearest first, up to `last`.
    pub fn settling<'a>(
        &'a self,
        view: &'a LandmarkView,
        last: Option<usize>,
    ) -> impl Iterator<Item = usize> + 'a {
        let next = move |from: usize| {
            let found = self.nearest(view, LandmarkKind::Settling, view.tty, from)?;
            last.is_none_or(|last| self.depth(found) >= self.depth(last)).then_some(found)
        };
        core::iter::successors(next(view.first), move |&at| next(self.all.get(at)?.above?))
    }

    /// Returns the landmarks that were left behind, the nearest first.
    pub fn left_behind<'a>(&'a self, view: &'a LandmarkView) -> impl Iterator<Item = usize> + 'a {
        let next = |from: usize| self.all.get(from)?.left_behind.filter(|&at| self.is_reached(view, at));
        core::iter::successors(next(view.first), move |&at| next(self.all.get(at)?.above?))
    }

    /// Returns the number that a landmark has for the caller.
    pub fn number(&self, at: usize) -> Option<usize> {
        Some(self.all.get(at)?.landmark.number)
    }

    /// Returns the nearest landmark of this kind that is `from` or above it, is not cut off for the process, and has this
    /// terminal; `None`: any.
    fn nearest(
        &self,
        view: &LandmarkView,
        kind: LandmarkKind,
        tty: Option<Tty>,
        from: usize,
    ) -> Option<usize> {
        let of_kind = |at: usize| self.all.get(at)?.nearest.get(kind as usize);
        let with = |at: usize, tty: Tty| self.maps.get(of_kind(at)?.by_tty, tty);
        let found = match tty {
            Some(tty) => with(from, tty)?,
            None => of_kind(from)?.any?,
        };
        if self.is_seen(view, found) {
            return Some(found);
        }
        // With one terminal, all above are cut off if the nearest is. With any, the nearest ones are not cut off.
        let (first, from_there) = view.cut_off.first.filter(|_| tty.is_none())?;
        let from = if self.depth(from) < self.depth(from_there) { from } else { from_there };
        with(from, first).filter(|&found| self.is_seen(view, found))
    }

    /// Returns whether a landmark is near enough to the process, and not cut off.
    fn is_seen(&self, view: &LandmarkView, at: usize) -> bool {
        let CutOff { first, all } = view.cut_off;
        let is_at_or_above = |other: usize| self.depth(at) <= self.depth(other);
        let tty = self.all.get(at).and_then(|placed| placed.landmark.tty);
        self.is_reached(view, at)
            && !all.is_some_and(is_at_or_above)
            && !first.is_some_and(|(first, from)| is_at_or_above(from) && tty != Some(first))
    }

    fn is_reached(&self, view: &LandmarkView, at: usize) -> bool {
        view.depth - self.depth(at).min(view.depth) <= LINEAGE_STEPS_MAX
    }

    fn nearer(&self, one: Option<usize>, other: Option<usize>) -> Option<usize> {
        one.into_iter().chain(other).max_by_key(|&at| self.depth(at))
    }

    fn depth(&self, at: usize) -> usize {
        self.all.get(at).map_or(0, |placed| placed.depth)
    }

    /// Returns what is cut off where these terminals are `between` and the next landmark is `above`.
    fn cut_off(&self, between: Between, above: Option<usize>) -> CutOff {
        let Some((next, above)) = above.and_then(|above| Some((self.all.get(above)?, above))) else {
            return CutOff::default();
        };
        let Some(tty) = between.first() else { return next.cut_off };
        let all = match next.cut_off.first {
            _ if between.is_mixed() => Some(above),
            Some((other, from)) if other != tty => Some(from),
            _ => next.cut_off.all,
        };
        CutOff { first: Some((tty, above)), all }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A pseudo-random sequence (xorshift).
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }

        fn tty(&mut self) -> Option<Tty> {
            let dev = u32::try_from(self.below(4)).unwrap();
            (dev > 0).then(|| Tty { dev, ..Tty::default() })
        }

        /// What is between a process and the next one above.
        fn between(&mut self) -> Between {
            let mut between = Between::default();
            for _ in 0..self.below(8).saturating_sub(5) {
                between.add(self.tty());
            }
            between
        }
    }

    /// Landmarks, each with what is between it and the next one above.
    struct Tree {
        landmarks: Landmarks,
        links: Vec<(Between, usize, Option<usize>)>,
    }

    impl Tree {
        fn random(random: &mut Random) -> Self {
            let mut tree = Self { landmarks: Landmarks::default(), links: Vec::new() };
            for number in 0..40 {
                // Mostly a long chain, with branches.
                let above = match random.below(8) {
                    _ if number == 0 => None,
                    0 => usize::try_from(random.below(number)).ok(),
                    _ => usize::try_from(number - 1).ok(),
                };
                let steps = 1 + usize::try_from(random.below(20)).unwrap();
                let link = (random.between(), steps, above);
                let is_here = random.below(3) == 0;
                let is_wrapper = random.below(4) == 0;
                let kinds = [is_here, is_here && is_wrapper, random.below(6) == 0, random.below(2) == 0];
                let landmark = Landmark {
                    number: usize::try_from(number).unwrap(),
                    tty: random.tty(),
                    is_plain: !is_here && random.below(4) == 0,
                    is_wrapper,
                    kinds,
                    is_own_primary: number == 7,
                    is_left_behind: random.below(5) == 0,
                };
                tree.links.push(link);
                assert_eq!(tree.landmarks.add(landmark, link, true) as u64, number);
            }
            tree
        }

        /// Each landmark above a process, the nearest first, and whether it is cut off.
        fn walk(&self, link: (Between, usize, Option<usize>)) -> Vec<(usize, bool)> {
            let (mut link, mut between, mut steps, mut found) = (link, Between::default(), 0, Vec::new());
            loop {
                between.add_all(link.0);
                steps += link.1;
                let Some(at) = link.2.filter(|_| steps <= LINEAGE_STEPS_MAX) else { return found };
                let landmark = &self.landmarks.all[at].landmark;
                found.push((at, between.has_other_than(landmark.tty)));
                if landmark.is_plain {
                    between.add(landmark.tty);
                }
                link = self.links[at];
            }
        }
    }

    #[test]
    fn each_process_finds_what_a_walk_past_all_landmarks_finds() {
        let mut found = [0; 4];
        for seed in 1..2_000_u64 {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let tree = Tree::random(&mut random);
            let landmarks = &tree.landmarks;
            for _ in 0..8 {
                let (tty, first) = (random.tty(), usize::try_from(random.below(40)).unwrap());
                let (between, steps) = (random.between(), 1 + usize::try_from(random.below(20)).unwrap());
                let view = landmarks.view(tty, (between, steps, first)).unwrap();
                let walked = tree.walk((between, steps, Some(first)));
                let of = |at: usize| &landmarks.all[at].landmark;
                let is_same = |at: usize| tty.is_none() || of(at).tty == tty;
                let is = |at: usize, kind: LandmarkKind| of(at).kinds[kind as usize];
                let seen = || walked.iter().filter(|&&(_, is_cut)| !is_cut).map(|&(at, _)| at);
                let takes = |at: usize| of(at).is_wrapper || is_same(at);
                let taker = seen().find(|&at| is(at, LandmarkKind::Here) && takes(at));
                assert_eq!(landmarks.taker(&view), taker, "{seed}");
                for has_primary in [false, true] {
                    let is_of_home =
                        |at| is(at, LandmarkKind::Here) || (has_primary && of(at).is_own_primary);
                    let decider = seen().find(|&at| {
                        (is_of_home(at) && takes(at)) || (is(at, LandmarkKind::Elsewhere) && is_same(at))
                    });
                    assert_eq!(landmarks.decider(&view, has_primary), decider, "{seed}");
                    found[0] += usize::from(decider.is_some() && decider != taker);
                }
                let up_to_taker = seen().take_while(|&at| taker.is_none_or(|taker| at >= taker));
                let settling: Vec<usize> =
                    up_to_taker.filter(|&at| is(at, LandmarkKind::Settling) && is_same(at)).collect();
                assert_eq!(landmarks.settling(&view, taker).collect::<Vec<_>>(), settling, "{seed}");
                let left: Vec<usize> =
                    walked.iter().map(|&(at, _)| at).filter(|&at| of(at).is_left_behind).collect();
                assert_eq!(landmarks.left_behind(&view).collect::<Vec<_>>(), left, "{seed}");
                found[1] += usize::from(taker.is_some());
                found[2] += usize::from(settling.len() > 1);
                found[3] += usize::from(walked.iter().any(|&(_, is_cut)| is_cut));
            }
        }
        assert!(found.iter().all(|&count| count > 500), "{found:?} of each kind of answer");
    }
}
