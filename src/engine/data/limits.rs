//! Named limits on the number of tasks that run at once.
//!
//! A task takes all it needs at once, or waits. Waiting tasks are served in the order of [`turns`], and none overtakes
//! another on a limit that the other waits for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;

use crate::engine::base::lock::Lock;
use crate::engine::base::user_code::{drop_user_value, wake};
use crate::engine::data::turns::{self, Place, Turns};
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
    /// For each limit, whose turn it is among those that wait for it.
    turns: Vec<Turns>,
    count: u64,
}

/// A request for limits.
pub(crate) enum Request {
    New {
        needs: Needs,
        task: Option<Task>,
    },
    Waiting(Place),
    /// Served, under this number.
    Granted(u64),
}

/// The tasks that wait for the same set of limits, whatever amounts. If the first of a line can't be served no other one
/// can, so serving looks at one task per line, however long the lines are.
struct Line {
    limits: Vec<usize>,
    waiting: BTreeMap<Place, Waiting>,
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

/// The limits that are needed, by index, and the amount of each. Shared by the attempts of a task.
pub(crate) type Needs = Arc<[(usize, usize)]>;

impl Limits {
    pub(crate) fn new(names: Vec<(String, usize)>) -> Self {
        let free = names.iter().map(|(_, n)| *n).collect();
        let lent = vec![i32::MAX; names.len()];
        let turns = vec![Turns::default(); names.len()];
        let (lines, holders) = (Vec::new(), BTreeMap::new());
        let book = Book { free, lines, holders, lent, turns, count: 0 };
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
                holders: holders.filter_map(Holder::to_task).collect(),
                ahead: lines.map(|line| line.waiting.range(..*place).count()).sum(),
            }
        });
        let mut lacking: Vec<_> =
            needs.filter(|lack| lack.of - lack.used < lack.needed || lack.ahead > 0).collect();
        lacking.sort_by_key(|lack| lack.of - lack.used >= lack.needed);
        lacking
    }

    /// For each limit that tasks wait for: these tasks, and those that hold it.
    pub(crate) fn waits(&self) -> Vec<(Vec<Task>, Vec<Task>)> {
        let mut waits: Vec<_> = self.names.iter().map(|_| (Vec::new(), Vec::new())).collect();
        let book = &*self.state.lock();
        for waiting in book.lines.iter().flat_map(|line| line.waiting.values()) {
            let needs = &waiting.holder.needs;
            let is_lacking = |(at, n): &&(usize, usize)| book.free[*at] < *n;
            // With enough of all, it waits for a request that is served first.
            let any = !needs.iter().any(|need| is_lacking(&need));
            for (at, _) in needs.iter().filter(|need| any || is_lacking(need)) {
                waits[*at].0.extend(waiting.holder.to_task());
            }
        }
        for holder in book.holders.values() {
            for (at, _) in &*holder.needs {
                if !waits[*at].0.is_empty() {
                    waits[*at].1.extend(holder.to_task());
                }
            }
        }
        waits
    }

    /// Takes what a new request needs, if it's free and no task waits for anything. Else the request is returned.
    pub(crate) fn take(
        &self,
        needs: Needs,
        task: Option<Task>,
        priority: i32,
    ) -> Result<u64, Request> {
        let book = &mut *self.state.lock();
        if !book.lines.is_empty() || !book.are_free(&needs, &[]) {
            return Err(Request::New { needs, task });
        }
        book.count += 1;
        let number = book.count;
        book.hold(number, Holder { needs, task }, priority);
        Ok(number)
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
            let entry = match request {
                // The priority may have been raised meanwhile.
                Request::Waiting(place) => match book.leave(place) {
                    Some(Waiting { holder, waker }) => {
                        before = Some(waker);
                        Ok((place.with_priority(priority), holder))
                    }
                    // A request that isn't in a line any more was served.
                    None => Err(place.number),
                },
                Request::New { needs, task } => {
                    book.count += 1;
                    let depth = task.as_ref().map_or(0, |task| task.count.depth());
                    let place = Place::new(priority, depth, book.count);
                    Ok((place, Holder { needs, task }))
                }
                Request::Granted(number) => Err(number),
            };
            match entry {
                Err(number) => Request::Granted(number),
                Ok((place, holder)) => {
                    book.enter(place, Waiting { holder, waker: new });
                    book.serve(&mut wakers);
                    if book.holders.contains_key(&place.number) {
                        Request::Granted(place.number)
                    } else {
                        book.lend(place, &mut holders);
                        Request::Waiting(place)
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
    pub(crate) fn withdraw(&self, place: Place) {
        let removed = self.state.lock().leave(place);
        // It may also have kept others behind it from being served.
        self.release(place.number);
        drop_user_value(removed);
    }

    /// Gives back what was taken under this number, and serves waiting requests.
    pub(crate) fn release(&self, number: u64) {
        let mut wakers = Vec::new();
        let holder = {
            let book = &mut *self.state.lock();
            let holder = book.holders.remove(&number);
            for (at, n) in holder.iter().flat_map(|holder| &*holder.needs) {
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
    fn to_task(&self) -> Option<Task> {
        self.task.as_ref().map(|task| task.as_ref().to_task())
    }

    /// The amount of a limit that it takes.
    fn amount(&self, limit: usize) -> usize {
        self.needs.iter().find(|(at, _)| *at == limit).map_or(0, |(_, n)| *n)
    }
}

impl Book {
    fn enter(&mut self, place: Place, waiting: Waiting) {
        let limits = waiting.holder.needs.iter().map(|(limit, _)| *limit);
        let is_line = |line: &Line| line.limits.iter().copied().eq(limits.clone());
        let at = self.lines.iter().position(is_line).unwrap_or_else(|| {
            self.lines.push(Line { limits: limits.clone().collect(), waiting: BTreeMap::new() });
            self.lines.len() - 1
        });
        self.lines[at].waiting.insert(place, waiting);
    }

    /// Adds the tasks that hold what a waiting request lacks, and may have a lower priority, to `holders`.
    fn lend(&mut self, place: Place, holders: &mut Vec<Task>) {
        let waiting = self.lines.iter().find_map(|line| line.waiting.get(&place));
        let priority = place.priority();
        for (at, n) in waiting.iter().flat_map(|waiting| &*waiting.holder.needs) {
            // Nearly always nothing to do: whoever is served has the highest priority of those that wait.
            if self.free[*at] < *n && self.lent[*at] < priority {
                self.lent[*at] = priority;
                let of_limit = self.holders.values().filter(|holder| holder.amount(*at) > 0);
                holders.extend(of_limit.filter_map(Holder::to_task));
            }
        }
    }

    /// Removes a waiting request; `None` if it has been served.
    fn leave(&mut self, place: Place) -> Option<Waiting> {
        let mut lines = self.lines.iter_mut().enumerate();
        let (at, left) = lines.find_map(|(at, line)| Some((at, line.waiting.remove(&place)?)))?;
        if self.lines[at].waiting.is_empty() {
            self.lines.swap_remove(at);
        }
        Some(left)
    }

    /// Whether there is enough of all that is needed, and none of it is reserved.
    fn are_free(&self, needs: &Needs, reserved: &[bool]) -> bool {
        let is_reserved = |at: usize| reserved.get(at).is_some_and(|reserved| *reserved);
        needs.iter().all(|(at, n)| !is_reserved(*at) && self.free[*at] >= *n)
    }

    /// Takes what `holder` needs, which is free.
    fn hold(&mut self, number: u64, holder: Holder, priority: i32) {
        for (at, n) in &*holder.needs {
            self.free[*at] -= n;
            self.lent[*at] = self.lent[*at].min(priority);
        }
        self.holders.insert(number, holder);
    }

    /// Serves every request that can be served.
    fn serve(&mut self, wakers: &mut Vec<Waker>) {
        while self.serve_in_order(wakers) {}
        self.lines.retain(|line| !line.waiting.is_empty());
    }

    /// Serves requests until the order changes, as the turn of the oldest begins or ends. False if no more can be served.
    fn serve_in_order(&mut self, wakers: &mut Vec<Waker>) -> bool {
        let mut reserved = vec![false; self.free.len()];
        let mut next = self.candidates();
        while let Some((_, turn, place, at)) = next.pop_first() {
            let Some(waiting) = self.lines[at].waiting.get(&place) else { continue };
            let needs = &waiting.holder.needs;
            if !self.are_free(needs, &reserved) {
                needs.iter().for_each(|(at, _)| reserved[*at] = true);
                continue;
            }
            let Some(Waiting { holder, waker }) = self.lines[at].waiting.remove(&place) else {
                continue;
            };
            let mut has_changed = false;
            for (limit, _) in &*holder.needs {
                // If it was not for its turn, this isn't the turn of any: that one would have the limit, or reserve it.
                let turns = &mut self.turns[*limit];
                let was_for_oldest = turns.is_for_oldest();
                turns.count(was_for_oldest);
                has_changed |= was_for_oldest || turns.is_for_oldest();
            }
            debug_assert!(turn == NO_TURN || has_changed);
            self.hold(place.number, holder, place.priority());
            wakers.push(waker);
            if has_changed {
                return true;
            }
            next.extend(self.lines[at].candidate(at));
        }
        false
    }

    /// The requests to be served next: the first of each line, and before those of its priority the oldest that waits for a
    /// limit, if it's its turn.
    fn candidates(&self) -> BTreeSet<Candidate> {
        let lines = self.lines.iter().enumerate();
        let mut all: BTreeSet<_> =
            lines.clone().filter_map(|(at, line)| line.candidate(at)).collect();
        let due = (0..self.turns.len()).filter(|limit| self.turns[*limit].is_for_oldest());
        all.extend(due.filter_map(|limit| {
            let lines = lines.clone().filter(|(_, line)| line.limits.contains(&limit));
            let oldest = lines.filter_map(|(at, line)| Some((turns::oldest(&line.waiting)?, at)));
            let (place, at) = oldest.min_by_key(|(place, _)| place.age())?;
            Some((Reverse(place.priority()), place.number, place, at))
        }));
        all
    }
}

/// A request that may be served next, of the line with this index. The least is the first: by priority, and then by its
/// number if it's its turn.
type Candidate = (Reverse<i32>, u64, Place, usize);

/// In place of the number of one whose turn it is.
const NO_TURN: u64 = u64::MAX;

impl Line {
    fn candidate(&self, at: usize) -> Option<Candidate> {
        let (place, _) = self.waiting.first_key_value()?;
        Some((Reverse(place.priority()), NO_TURN, *place, at))
    }
}
