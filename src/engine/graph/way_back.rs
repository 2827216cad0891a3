//! The shortest way from a place back to itself, over places of which each waits for the one before.

use std::collections::HashMap;

/// Returns the places on the shortest way on which a place waits for itself, in the order in which each waits for the next:
/// from the one that `start` waits for to `start`. `waiters` returns those that wait for a place.
pub(crate) fn way_back<I: IntoIterator<Item = usize>>(
    start: usize,
    waiters: impl Fn(usize) -> I,
) -> Option<Vec<usize>> {
    // The place that each was reached from, which it waits for.
    let mut from = HashMap::new();
    let (mut queue, mut at) = (vec![start], 0);
    while let Some(place) = queue.get(at).copied() {
        at += 1;
        for waiter in waiters(place) {
            if waiter == start {
                let mut way = vec![place];
                let mut place = place;
                while place != start {
                    place = from[&place];
                    way.push(place);
                }
                return Some(way);
            }
            from.entry(waiter).or_insert_with(|| {
                queue.push(waiter);
                place
            });
        }
    }
    None
}
