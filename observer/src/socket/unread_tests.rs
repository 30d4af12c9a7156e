//! Clients that do not read, and one budget for all of them.

use super::*;

const MIB: usize = 1 << 20;

/// An answer of so many bytes.
struct Large(usize);

impl Pieces for Large {
    fn piece(&self, number: usize, _: Audience) -> Option<Vec<u8>> {
        (number < self.0 / MIB).then(|| vec![b' '; MIB])
    }

    fn bytes(&self) -> usize {
        self.0
    }
}

fn asks(budget: &UnreadBudget, uid: u32, bytes: usize) -> Arc<Unread> {
    let client = budget.client(uid);
    client.give(budget.hold(Large(bytes)));
    budget.keep();
    client
}

fn end(client: &Unread) -> Option<UnreadEnd> {
    match client.next(|_| {}) {
        NextUnread::End(end) => Some(end),
        NextUnread::Body | NextUnread::Nothing => None,
    }
}

#[test]
fn answers_that_nobody_reads_are_within_one_budget() {
    let budget = UnreadBudget::default();
    // Eight clients of one user read nothing.
    let silent: Vec<_> = (0..8).map(|_| asks(&budget, 7, 40 * MIB)).collect();
    assert!(budget.total.load(Ordering::Relaxed) <= UNREAD_BYTES_MAX);
    let lost = silent.iter().filter(|client| end(client) == Some(UnreadEnd::CutOff)).count();
    assert_eq!(lost, 5, "128 MiB have room for three");
    // Another user has less than they have.
    let other = asks(&budget, 8, 40 * MIB);
    assert_eq!(end(&other), None);
    let pieces = 1 + std::iter::from_fn(|| other.try_next()).count();
    assert_eq!((pieces, other.next(|_| {})), (40, NextUnread::Nothing));
    drop((silent, other));
    assert_eq!(budget.total.load(Ordering::Relaxed), 0);
}

#[test]
fn an_answer_that_is_larger_than_the_budget_is_given_to_the_only_client() {
    let budget = UnreadBudget::default();
    let client = asks(&budget, 7, 2 * UNREAD_BYTES_MAX);
    assert_eq!(end(&client), None);
    // As soon as another one has anything unread, it is too much.
    let other = asks(&budget, 8, MIB);
    assert_eq!((end(&client), end(&other)), (Some(UnreadEnd::CutOff), None));
}

#[test]
fn frames_that_clients_share_count_once_and_who_has_the_most_lags() {
    let budget = UnreadBudget::default();
    let watches = |uid| {
        let client = budget.client(uid);
        client.give_snapshot(budget.hold(vec![b"snapshot".to_vec()]));
        assert_eq!(client.try_next().unwrap(), b"snapshot");
        assert_eq!(client.try_next(), None);
        client
    };
    let clients: Vec<_> = (0..8).map(|_| watches(7)).collect();
    let push = |to: &[Arc<Unread>]| {
        let frame = budget.frame(vec![b' '; MIB - FRAME_BYTES]);
        to.iter().map(|client| client.push(&frame)).filter(|&pushed| pushed == FramePushed::Waits).count()
    };
    for _ in 0..60 {
        assert_eq!(push(&clients), 8);
    }
    budget.keep();
    assert!(clients.iter().all(|client| client.is_following()), "60 MiB wait");
    // Frames of their own for each.
    let (first, rest) = clients.split_at(1);
    for client in rest {
        while client.try_next().is_some() {}
    }
    for client in rest {
        for _ in 0..50 {
            push(std::slice::from_ref(client));
            budget.keep();
        }
    }
    assert!(budget.total.load(Ordering::Relaxed) <= UNREAD_BYTES_MAX);
    assert_eq!(end(&first[0]), Some(UnreadEnd::Lagged), "it had the most");
    let following = rest.iter().filter(|client| client.is_following()).count();
    assert!((1..7).contains(&following), "{following}");
    assert_eq!(push(std::slice::from_ref(&first[0])), 0);
    // With a new snapshot it goes on.
    first[0].give_snapshot(budget.hold(Vec::new()));
    assert_eq!(push(std::slice::from_ref(&first[0])), 1);
    assert_eq!(first[0].try_next().unwrap().len(), MIB - FRAME_BYTES);
}

/// Clients of `uid` that watch, and share frames of so many MiB.
fn watch_together(budget: &UnreadBudget, uid: u32, count: usize, mib: usize) -> Vec<Arc<Unread>> {
    let clients: Vec<_> = (0..count).map(|_| budget.client(uid)).collect();
    for client in &clients {
        client.give_snapshot(budget.hold(Vec::new()));
        assert_eq!(client.try_next(), None);
    }
    for _ in 0..mib {
        let frame = budget.frame(vec![b' '; MIB - FRAME_BYTES]);
        assert!(clients.iter().all(|client| client.push(&frame) == FramePushed::Waits));
    }
    clients
}

#[test]
fn who_shares_what_is_unread_is_not_cut_off_for_what_others_have() {
    let budget = UnreadBudget::default();
    let sharing = watch_together(&budget, 7, 8, 60);
    let own = asks(&budget, 8, 70 * MIB);
    assert_eq!(end(&own), Some(UnreadEnd::CutOff), "60 MiB are fewer");
    assert!(sharing.iter().all(|client| client.is_following()));
    // Of one user, too.
    let own = asks(&budget, 7, 69 * MIB);
    assert_eq!(end(&own), Some(UnreadEnd::CutOff));
    assert!(sharing.iter().all(|client| client.is_following()));
    // Once they have more, they are, until it is enough.
    let other = watch_together(&budget, 8, 1, 40);
    let own = asks(&budget, 9, 50 * MIB);
    assert_eq!(sharing.iter().filter(|client| client.is_following()).count(), 0);
    assert!(end(&own).is_none() && other[0].is_following());
}

#[test]
fn an_answer_that_is_larger_than_the_budget_is_kept_by_all_who_share_it() {
    let budget = UnreadBudget::default();
    let clients = [7, 8, 8].map(|uid| budget.client(uid));
    let pieces = budget.hold(Large(UNREAD_BYTES_MAX + MIB));
    clients.iter().for_each(|client| client.give(Arc::clone(&pieces)));
    drop(pieces);
    assert_eq!(budget.keep(), 0);
    assert!(clients.iter().all(|client| end(client).is_none()));
}

#[test]
fn a_line_counts_until_it_is_read() {
    let budget = UnreadBudget::default();
    let line: Vec<u8> = (0..=250).cycle().take(3 * MIB + 7).collect();
    let clients = [7, 8].map(|uid| budget.client(uid));
    let held = budget.hold(AnswerLine::from(line.clone()));
    clients.iter().for_each(|client| client.give(Arc::clone(&held)));
    drop(held);
    let is_counted = || budget.total.load(Ordering::Relaxed) == 3 * MIB + 7;
    for client in &clients {
        let mut read = Vec::new();
        while read.len() < line.len() {
            assert!(is_counted());
            let piece = client.try_next().unwrap();
            assert!(piece.len() <= 64 << 10, "as much as is written at once, and no more");
            read.extend(piece);
        }
        assert!(read == line && client.try_next().is_none());
    }
    assert_eq!(budget.total.load(Ordering::Relaxed), 0);
}

#[test]
fn a_client_that_left_has_nothing_unread_and_no_connection() {
    let budget = UnreadBudget::default();
    let (one, other) = (asks(&budget, 7, MIB), asks(&budget, 7, MIB));
    assert_eq!((budget.connected(7), budget.connected(8)), (2, 0));
    one.close();
    assert_eq!((budget.connected(7), budget.total.load(Ordering::Relaxed)), (1, MIB));
    drop(other);
    assert_eq!(budget.connected(7), 0);
}
