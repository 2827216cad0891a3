//! Which tasks wait for which, for diagnostics: read from the lists of waiters of all tasks that can be reached.
//!
//! Unlike the search for cycles when a task is suspended, this knows no bound and takes every entry for a wait: also that of
//! a handle which isn't awaited any more but kept, and the members of streams, of which any may do.

use std::collections::{HashMap, HashSet};

use crate::engine::core::Core;
use crate::engine::graph::inspect;
use crate::engine::life::waiting::{address, waiters};
use crate::engine::task::header::{Task, TaskRef};

/// The unfinished tasks that can be reached from a client, and which of them wait for which.
pub(crate) struct Waits {
    tasks: Vec<Task>,
    /// By the index of a task, the indices of those that wait for it.
    waiters: Vec<Vec<usize>>,
    /// The same, of those that it waits for.
    waited_for: Vec<Vec<usize>>,
    /// The index of the task at an address.
    places: HashMap<usize, usize>,
}

impl Waits {
    pub(crate) fn of(core: &Core) -> Self {
        let mut tasks = inspect::reachable(core, None);
        tasks.retain(|task| !task.waiters.is_closed());
        let places: HashMap<_, _> =
            tasks.iter().enumerate().map(|(at, task)| (address(task.as_ref()), at)).collect();
        let waiters = tasks.iter().map(|task| {
            let waiters = waiters(task.as_ref());
            waiters.iter().filter_map(|it| places.get(&it.address()).copied()).collect()
        });
        let waiters: Vec<Vec<usize>> = waiters.collect();
        let mut waited_for = vec![Vec::new(); tasks.len()];
        for (task, waiters) in waiters.iter().enumerate() {
            for waiter in waiters {
                // An await of a task may have several entries in its list.
                if waited_for[*waiter].last() != Some(&task) {
                    waited_for[*waiter].push(task);
                }
            }
        }
        Self { tasks, waiters, waited_for, places }
    }

    /// Returns the tasks that a task waits for.
    pub(crate) fn waited_for(&self, task: TaskRef<'_>) -> Vec<Task> {
        let Some(place) = self.places.get(&address(task)) else { return Vec::new() };
        self.waited_for[*place].iter().map(|at| self.tasks[*at].as_ref().to_task()).collect()
    }

    /// Whether a task waits for one of these tasks.
    pub(crate) fn is_waiting(&self, task: TaskRef<'_>) -> bool {
        self.places.get(&address(task)).is_some_and(|place| !self.waited_for[*place].is_empty())
    }

    /// Returns the shortest cycle through a task, each of its tasks waiting for the next, the task itself first; empty if
    /// there is none.
    pub(crate) fn cycle_of(&self, task: TaskRef<'_>) -> Vec<Task> {
        let Some(start) = self.places.get(&address(task)).copied() else { return Vec::new() };
        let last: HashSet<_> = self.waited_for[start].iter().copied().collect();
        // The task that each was reached from, which it waits for.
        let mut from = HashMap::new();
        let (mut queue, mut at) = (vec![start], 0);
        while let Some(place) = queue.get(at).copied() {
            at += 1;
            if last.contains(&place) {
                let mut cycle = vec![start];
                let mut place = place;
                while place != start {
                    cycle.push(place);
                    place = from[&place];
                }
                return cycle.into_iter().map(|at| self.tasks[at].as_ref().to_task()).collect();
            }
            for waiter in &self.waiters[place] {
                if *waiter != start && !from.contains_key(waiter) {
                    from.insert(*waiter, place);
                    queue.push(*waiter);
                }
            }
        }
        Vec::new()
    }

    /// Returns a task of each cycle, of no more than `most` cycles that have no task in common.
    pub(crate) fn in_cycles(&self, most: usize) -> Vec<Task> {
        let mut found = Vec::new();
        // Depth-first; a task that is met again while it's on the path is in a cycle.
        let mut state = vec![Visit::New; self.tasks.len()];
        for start in 0..self.tasks.len() {
            let mut path = Vec::new();
            if state[start] == Visit::New {
                state[start] = Visit::OnPath;
                path.push((start, 0));
            }
            while let Some((place, next)) = path.last_mut() {
                let Some(waiter) = self.waiters[*place].get(*next).copied() else {
                    state[*place] = Visit::Left;
                    path.pop();
                    continue;
                };
                *next += 1;
                match state[waiter] {
                    Visit::New => {
                        state[waiter] = Visit::OnPath;
                        path.push((waiter, 0));
                    }
                    Visit::OnPath => {
                        if found.len() == most {
                            return found;
                        }
                        found.push(self.tasks[waiter].as_ref().to_task());
                        // The rest of the path is in this cycle or waits for it.
                        path.drain(..).for_each(|(place, _)| state[place] = Visit::Left);
                    }
                    Visit::Left => {}
                }
            }
        }
        found
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    OnPath,
    Left,
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::engine::task::waiters::STEPS;
    use crate::engine::task::walk::STRIDE;
    use crate::{Client, Handle, as_completed, gather};

    /// Tasks that wait for one in the ways that exist, `n` in each.
    fn star(n: usize) -> (Client, Handle<u64>, Vec<Handle<u64>>) {
        let client = Client::builder().seed(1).build();
        let hub = client.spawn(pending::<u64>());
        let mut all = Vec::new();
        for _ in 0..n {
            let (a, b, c, d) = (hub.clone(), hub.clone(), hub.clone(), hub.clone());
            all.push(client.submit(async |x: u64| x, &hub));
            all.push(client.spawn(async move { a.await.unwrap() }));
            all.push(client.spawn(async move { *b.get_ref().await.unwrap() }));
            all.push(client.spawn(async move { gather([c]).await.unwrap()[0] }));
            all.push(
                client.spawn(async move { as_completed([d]).next_batch().await.len() as u64 }),
            );
        }
        // After all others.
        client.task().priority(-1).submit(async || (), ()).result().unwrap();
        (client, hub, all)
    }

    /// The number of entries that `look` visits, if it never visits many under one lock.
    fn steps(look: impl FnOnce()) -> usize {
        STEPS.set([0; 3]);
        look();
        let [all, _, most] = STEPS.get();
        assert!(most <= STRIDE + 1, "{most} entries under one lock");
        all
    }

    #[test]
    fn each_waiter_of_a_task_is_visited_some_times_only() {
        for n in [10, 300] {
            let (client, hub, all) = star(n);
            let looks: [(_, Box<dyn FnOnce()>); 3] = [
                ("explain", Box::new(|| drop(client.explain(&all[1])))),
                ("explain the hub", Box::new(|| drop(client.explain(&hub)))),
                ("graph", Box::new(|| assert_eq!(client.graph().edges.len(), all.len()))),
            ];
            for (name, look) in looks {
                let steps = steps(look);
                assert!(steps <= 12 * all.len(), "{name}: {steps} steps for {}", all.len());
            }
        }
    }

    #[test]
    fn all_waiters_of_a_task_are_found_in_order() {
        for n in [STRIDE / 5, STRIDE / 5 + 1, 5 * STRIDE] {
            let (_client, hub, all) = star(n);
            let addresses = || -> Vec<_> {
                waiters(hub.typed().task()).iter().map(|it| it.address()).collect()
            };
            let before = addresses();
            let tasks: HashSet<_> = all.iter().map(|it| address(it.typed().task())).collect();
            assert_eq!((before.len(), before.iter().copied().collect()), (all.len(), tasks));
            // The entries of the walk are gone, and nothing else has moved.
            assert_eq!(addresses(), before);
            drop(all);
            assert!(hub.typed().task().waiters.is_empty());
        }
    }
}
