//! Named limits on the number of tasks that run at once.
//!
//! A task takes all it needs at once, or waits. Waiting tasks are served by priority and then by arrival, and none
//! overtakes another on a limit that the other waits for.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::task::Waker;

use crate::engine::base::lock::Lock;
use crate::engine::base::user_code::{drop_user_value, wake};
use crate::engine::task::header::{Task, TaskRef};

pub(crate) struct Limits {
    /// In order of declaration.
    names: Vec<(String, usize)>,
    state: Lock<Book>,
}

struct Book {
    free: Vec<usize>,
    /// The lines of waiting tasks, none of them empty.
    lines: Vec<Line>,
    /// The tasks that hold something, by the number of their request.
    holders: BTreeMap<u64, Holder>,
    /// For each limit, a priority that none of its holders is below, as far as is known here.
    lent: Vec<i32>,
    count: u64,
}

/// The order of service: by priority, then by the number of the request.
pub(crate) type Position = (Reverse<i32>, u64);

/// A request for limits.
pub(crate) enum Request {
    New {
        needs: Needs,
        task: Option<Task>,
    },
    Waiting(Position),
    /// Served, under this number.
    Granted(u64),
}

/// The tasks that wait for the same set of limits, whatever amounts. If the first of a line can't be served no other one
/// can, so serving looks at one task per line, however long the lines are.
struct Line {
    limits: Vec<usize>,
    waiting: BTreeMap<Position, Waiting>,
}

struct Waiting {
    holder: Holder,
    waker: Waker,
}

/// A task and what it takes; without a task for blocking work whose task was dropped.
struct Holder {
    needs: Needs,
    task: Option<Task>,
}

/// A limit that a task waits for.
pub(crate) struct Lacking {
    pub(crate) name: String,
    pub(crate) of: usize,
    pub(crate) used: usize,
    /// The amount that the task needs.
    pub(crate) needed: usize,
    pub(crate) holders: Vec<Task>,
    /// The number of tasks ahead of it that need the limit too.
    pub(crate) ahead: usize,
}

/// The limits that are needed, by index, and the amount of each.
pub(crate) type Needs = Vec<(usize, usize)>;

impl Limits {
    pub(crate) fn new(names: Vec<(String, usize)>) -> Self {
        let free = names.iter().map(|(_, n)| *n).collect();
        let lent = vec![i32::MAX; names.len()];
        let book = Book { free, lines: Vec::new(), holders: BTreeMap::new(), lent, count: 0 };
        Self { names, state: Lock::new(book) }
    }

    pub(crate) fn names(&self) -> &[(String, usize)] {
        &self.names
    }

    /// Looks the limits up by name, and adds amounts up. An error says why the request can never be served.
    pub(crate) fn needs(&self, wanted: &[(String, usize)]) -> Result<Needs, String> {
        let mut needs = BTreeMap::new();
        for (name, n) in wanted {
            let Some(at) = self.names.iter().position(|(other, _)| other == name) else {
                let known: Vec<_> =
                    self.names.iter().map(|(name, _)| format!("`{name}`")).collect();
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                return Err(format!(
                    "the limit `{name}` was not declared (declared: {known}): \
                     declare it with `Client::builder().limit(\"{name}\", n)`"
                ));
            };
            let needed: &mut usize = needs.entry(at).or_default();
            *needed = needed.saturating_add(*n);
            let most = self.names[at].1;
            if *needed > most {
                return Err(format!("it asks for {needed} of the limit `{name}`, which is {most}"));
            }
        }
        Ok(needs.into_iter().filter(|(_, n)| *n > 0).collect())
    }

    /// For each limit: name, total amount, amount taken, number of tasks that wait for it.
    pub(crate) fn usage(&self) -> Vec<(String, usize, usize, usize)> {
        let book = &*self.state.lock();
        let usage = |(at, (name, of)): (usize, &(String, usize))| {
            let lines = book.lines.iter().filter(|line| line.limits.contains(&at));
            let waiting = lines.map(|line| line.waiting.len()).sum();
            (name.clone(), *of, of - book.free[at], waiting)
        };
        self.names.iter().enumerate().map(usage).collect()
    }

    /// The limits that this task waits for, first those of which too little is free.
    pub(crate) fn lacking(&self, task: TaskRef<'_>) -> Vec<Lacking> {
        let book = &*self.state.lock();
        let is_task = |holder: &Holder| holder.task.as_ref().is_some_and(|t| t.as_ref().is(task));
        let mut all = book.lines.iter().flat_map(|line| &line.waiting);
        let Some((place, waiting)) = all.find(|(_, waiting)| is_task(&waiting.holder)) else {
            return Vec::new();
        };
        let needs = waiting.holder.needs.iter().map(|(limit, needed)| {
            let (name, of) = &self.names[*limit];
            let holders = book.holders.values().filter(|holder| holder.amount(*limit) > 0);
            let lines = book.lines.iter().filter(|line| line.limits.contains(limit));
            Lacking {
                name: name.clone(),
                of: *of,
                used: of - book.free[*limit],
                needed: *needed,
                holders: holders
                    .filter_map(|holder| Some(holder.task.as_ref()?.as_ref().to_task()))
                    .collect(),
                ahead: lines.map(|line| line.waiting.range(..*place).count()).sum(),
            }
        });
        let mut lacking: Vec<_> =
            needs.filter(|lack| lack.of - lack.used < lack.needed || lack.ahead > 0).collect();
        lacking.sort_by_key(|lack| lack.of - lack.used >= lack.needed);
        lacking
    }

    /// Enters a request, or a waiting one again under its present priority, and serves what can be served. If it waits,
    /// returns also the tasks to lend its priority to: those that hold what it lacks.
    pub(crate) fn request(
        &self,
        request: Request,
        priority: i32,
        waker: &Waker,
    ) -> (Request, Vec<Task>) {
        let mut holders = Vec::new();
        let new = waker.clone();
        let mut wakers = Vec::new();
        let mut before = None;
        let request = {
            let book = &mut *self.state.lock();
            let (holder, number) = match request {
                Request::Waiting(position) => {
                    let holder = book.leave(position).map(|Waiting { holder, waker }| {
                        before = Some(waker);
                        holder
                    });
                    (holder, position.1)
                }
                Request::New { needs, task } => {
                    book.count += 1;
                    (Some(Holder { needs, task }), book.count)
                }
                Request::Granted(number) => (None, number),
            };
            // A request that isn't in a line any more was served.
            match holder {
                None => Request::Granted(number),
                Some(holder) => {
                    // The priority may have been raised meanwhile.
                    let position = (Reverse(priority), number);
                    let needs = holder.needs.clone();
                    book.enter(position, Waiting { holder, waker: new });
                    book.serve(&mut wakers);
                    if book.holders.contains_key(&number) {
                        Request::Granted(number)
                    } else {
                        book.lend(&needs, priority, &mut holders);
                        Request::Waiting(position)
                    }
                }
            }
        };
        // Wakers are user code: dropped and woken without the lock.
        drop_user_value(before);
        for other in wakers {
            if other.will_wake(waker) { drop_user_value(other) } else { wake(other) }
        }
        (request, holders)
    }

    /// Withdraws a request that waits, and gives back what it was served and hasn't noticed.
    pub(crate) fn withdraw(&self, position: Position) {
        let removed = self.state.lock().leave(position);
        // It may also have kept others behind it from being served.
        self.release(position.1);
        drop_user_value(removed);
    }

    /// Gives back what was taken under this number, and serves waiting requests.
    pub(crate) fn release(&self, number: u64) {
        let mut wakers = Vec::new();
        let holder = {
            let book = &mut *self.state.lock();
            let holder = book.holders.remove(&number);
            for (at, n) in holder.iter().flat_map(|holder| &holder.needs) {
                book.free[*at] += n;
            }
            book.serve(&mut wakers);
            holder
        };
        drop(holder);
        wakers.into_iter().for_each(wake);
    }
}

impl Holder {
    /// The amount of a limit that it takes.
    fn amount(&self, limit: usize) -> usize {
        self.needs.iter().find(|(at, _)| *at == limit).map_or(0, |(_, n)| *n)
    }
}

impl Book {
    fn enter(&mut self, place: Position, waiting: Waiting) {
        let limits = waiting.holder.needs.iter().map(|(limit, _)| *limit);
        let is_line = |line: &Line| line.limits.iter().copied().eq(limits.clone());
        let at = self.lines.iter().position(is_line).unwrap_or_else(|| {
            self.lines.push(Line { limits: limits.clone().collect(), waiting: BTreeMap::new() });
            self.lines.len() - 1
        });
        self.lines[at].waiting.insert(place, waiting);
    }

    /// Adds the tasks that hold what is lacking and may have a lower priority to `holders`.
    fn lend(&mut self, needs: &Needs, priority: i32, holders: &mut Vec<Task>) {
        for (at, n) in needs {
            // Nearly always nothing to do: whoever is served has the highest priority of those that wait.
            if self.free[*at] < *n && self.lent[*at] < priority {
                self.lent[*at] = priority;
                let of_limit = self.holders.values().filter(|holder| holder.amount(*at) > 0);
                let tasks = of_limit.filter_map(|holder| holder.task.as_ref());
                holders.extend(tasks.map(|task| task.as_ref().to_task()));
            }
        }
    }

    /// Removes a waiting request; `None` if it has been served.
    fn leave(&mut self, place: Position) -> Option<Waiting> {
        let mut lines = self.lines.iter_mut().enumerate();
        let (at, left) = lines.find_map(|(at, line)| Some((at, line.waiting.remove(&place)?)))?;
        if self.lines[at].waiting.is_empty() {
            self.lines.swap_remove(at);
        }
        Some(left)
    }

    /// Serves every request that can be served.
    fn serve(&mut self, wakers: &mut Vec<Waker>) {
        let mut reserved = vec![false; self.free.len()];
        let first = |line: &Line| line.waiting.first_key_value().map(|(place, _)| *place);
        let lines = self.lines.iter().enumerate();
        let mut next: BTreeMap<_, _> =
            lines.filter_map(|(at, line)| Some((first(line)?, at))).collect();
        while let Some((place, at)) = next.pop_first() {
            let line = &mut self.lines[at];
            let Some(first_of_line) = line.waiting.first_entry() else { continue };
            let needs = &first_of_line.get().holder.needs;
            if needs.iter().any(|(at, n)| reserved[*at] || self.free[*at] < *n) {
                needs.iter().for_each(|(at, _)| reserved[*at] = true);
                continue;
            }
            for (at, n) in needs {
                self.free[*at] -= n;
                self.lent[*at] = self.lent[*at].min(place.0.0);
            }
            let Waiting { holder, waker } = first_of_line.remove();
            self.holders.insert(place.1, holder);
            wakers.push(waker);
            next.extend(first(line).map(|place| (place, at)));
        }
        self.lines.retain(|line| !line.waiting.is_empty());
    }
}
