//! Which tasks wait for which, for diagnostics: read from the lists of waiters of all tasks that can be reached.
//!
//! Unlike the search for cycles when a task is suspended, this knows no bound and takes every entry for a wait: also that of
//! a handle which isn't awaited any more but kept, and the members of streams, of which any may do.
//!
//! A task may also wait for what other tasks have. For the search for cycles, each of these is a node of its own, a *hub*
//! between those that wait for it and those that have it. So there are as many links as tasks, however many wait for however
//! many:
//!
//! | hub | waits for it | has it |
//! |---|---|---|
//! | a limit | a task that lacks it | a task that holds some of it |
//! | the threads for blocking work, if there are no more | a task whose blocking work has no thread | a task whose blocking work has one |
//! | idleness, or the end, of a client | a task of the client that waits for that | any other that is queued or has started |

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use crate::engine::core::Core;
use crate::engine::graph::inspect;
use crate::engine::graph::way_back::way_back;
use crate::engine::life::waiting::{address, waiters};
use crate::engine::task::header::{Task, TaskRef};
use crate::task::thread_wait;

/// The unfinished tasks that can be reached from a client, and which of them wait for which.
pub(crate) struct Waits {
    tasks: Vec<Task>,
    /// By the index of a task, the indices of those that it waits for.
    waited_for: Vec<Vec<usize>>,
    /// By the index of a task or hub, the indices of those that wait for it. Hubs have the indices after those of tasks.
    links: Vec<Vec<usize>>,
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
        let links = with_hubs(&tasks, waiters, &places);
        Self { tasks, waited_for, links, places }
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
        let Some(way) = way_back(start, |place| self.links[place].iter().copied()) else {
            return Vec::new();
        };
        // Its end is the start. Hubs are left out.
        let cycle = [start].into_iter().chain(way.into_iter().filter(|place| *place != start));
        let tasks = cycle.filter_map(|at| self.tasks.get(at));
        tasks.map(|task| task.as_ref().to_task()).collect()
    }

    /// Returns a task of each cycle, of no more than `most` cycles that have no task in common.
    pub(crate) fn in_cycles(&self, most: usize) -> Vec<Task> {
        let mut found = Vec::new();
        // Depth-first; a task that is met again while it's on the path is in a cycle.
        let mut state = vec![Visit::New; self.links.len()];
        for start in 0..self.tasks.len() {
            let mut path = Vec::new();
            if state[start] == Visit::New {
                state[start] = Visit::OnPath;
                path.push((start, 0));
            }
            while let Some((place, next)) = path.last_mut() {
                let Some(waiter) = self.links[*place].get(*next).copied() else {
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
                        // No hub is linked to a hub.
                        let mut cycle = path.iter().skip_while(|(place, _)| *place != waiter);
                        let task = cycle.find_map(|(place, _)| self.tasks.get(*place));
                        found.extend(task.map(|task| task.as_ref().to_task()));
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

/// Adds the hubs to the links between tasks.
fn with_hubs(
    tasks: &[Task],
    mut links: Vec<Vec<usize>>,
    places: &HashMap<usize, usize>,
) -> Vec<Vec<usize>> {
    let mut engines = HashSet::new();
    for task in tasks {
        if !engines.insert(task.core().id) {
            continue;
        }
        let place = |task: &Task| places.get(&address(task.as_ref())).copied();
        for (waiting, holders) in task.core().limits.waits(&task.core().clock()) {
            let (waiting, holders) = (waiting.iter(), holders.iter());
            add_hub(&mut links, waiting.filter_map(place), holders.filter_map(place));
        }
        let of_engine = || {
            let all = tasks.iter().enumerate();
            all.filter(|(_, other)| other.core().id == task.core().id)
        };
        let blocking = |is_waiting: bool| {
            let extras = |(at, task): (usize, &'_ Task)| {
                let extras = task.extras()?;
                let blocks = extras.blocked.load(Ordering::Relaxed) > 0;
                (blocks && thread_wait::is_waiting(&extras.blocking) == is_waiting).then_some(at)
            };
            of_engine().filter_map(extras).collect::<Vec<_>>()
        };
        if task.core().threads.blocking.is_full() {
            add_hub(&mut links, blocking(true).into_iter(), blocking(false).into_iter());
        }
        let is_exempt = |task: &Task| {
            task.extras().is_some_and(|extras| extras.exempt.load(Ordering::Relaxed) > 0)
        };
        let of_idle = |exempt: bool| {
            let wanted = move |(_, task): &(usize, &Task)| {
                is_exempt(task) == exempt && !task.count.is_waiting()
            };
            of_engine().filter(wanted).map(|(at, _)| at)
        };
        add_hub(&mut links, of_idle(true), of_idle(false));
    }
    links
}

/// Adds what `waiting` wait for and `have` have, if any wait.
fn add_hub(
    links: &mut Vec<Vec<usize>>,
    waiting: impl Iterator<Item = usize>,
    have: impl Iterator<Item = usize>,
) {
    let (hub, waiting) = (links.len(), waiting.collect::<Vec<_>>());
    if !waiting.is_empty() {
        links.push(waiting);
        have.for_each(|place| links[place].push(hub));
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
