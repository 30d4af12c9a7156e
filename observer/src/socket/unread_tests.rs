//! Clients that do not read, and one budget for all of them.

use super::*;

const MIB: usize = 1 << 20;

/// An answer of so many bytes.
struct Large(usize);

impl Pieces for Large {
    fn piece(&self, number: usize) -> Option<Vec<u8>> {
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
