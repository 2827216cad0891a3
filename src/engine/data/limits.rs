//! Named limits on the number of tasks that run at once, and rates at which tasks start.
//!
//! A task takes all it needs at once, or waits, and holds nothing meanwhile; see
//! [`limit_queues`](crate::engine::data::limit_queues) for the order. What it takes of a limit is given back when its attempt
//! ends; what it takes of a rate comes back with time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::engine::base::lock::Lock;
use crate::engine::base::user_code::{drop_user_value, wake};
use crate::engine::data::clock::Clock;
use crate::engine::data::limit_pass::Pass;
use crate::engine::data::limit_queues::{Book, Holder, Lease, Needs, Waiting};
use crate::engine::data::limit_table::{Amount, Declaration, Kind, LineId};
use crate::engine::data::turns::Place;
use crate::engine::task::header::{Task, TaskRef};
use crate::task::rate::Rate;

pub(crate) struct Limits(Arc<Lock<Book>>);

/// A request for limits.
pub(crate) enum Request {
    New {
        needs: Needs,
        task: Option<Task>,
    },
    Waiting(Place, LineId),
    /// Served, under this number.
    Granted(u64),
}

/// A limit or rate that a task waits for.
pub(crate) struct Lacking {
    pub(crate) name: String,
    /// The amount that the task needs.
    pub(crate) needed: usize,
    /// The number of tasks ahead of it that need it, too.
    pub(crate) ahead: usize,
    pub(crate) what: LackingWhat,
}

pub(crate) enum LackingWhat {
    Limit {
        of: usize,
        used: usize,
        holders: Vec<Task>,
    },
    Rate {
        rate: Rate,
        /// The time until as much as the task needs can start, if none that is ahead of it does.
        next: Option<Duration>,
    },
}

/// What is shown of a limit or rate.
pub(crate) struct Usage {
    pub(crate) name: String,
    /// The pattern that it was made by.
    pub(crate) pattern: Option<String>,
    pub(crate) waiting: usize,
    pub(crate) what: UsageWhat,
}

pub(crate) enum UsageWhat {
    Limit {
        of: usize,
        used: usize,
    },
    Rate {
        rate: Rate,
        /// The number that can start now.
        available: usize,
        /// The time until one can start.
        next: Option<Duration>,
    },
}

impl Limits {
    pub(crate) fn new(declared: Vec<Declaration>) -> Self {
        let mut book = Book::default();
        declared.into_iter().for_each(|new| drop(book.table.declare(new, 0)));
        Self(Arc::new(Lock::new(book)))
    }

    /// Declares a limit or rate, or all of a pattern, or changes what was declared, and serves waiting requests.
    pub(crate) fn declare(&self, new: Declaration, clock: &Clock<'_>) {
        let now = clock.now();
        self.change(clock, |book, pass| {
            let changed = book.table.declare(new, now);
            book.declared(changed, pass);
        });
    }

    pub(crate) fn declarations(&self) -> Vec<Declaration> {
        self.0.lock().table.declarations()
    }

    /// Makes a limit of its own, which stays as long as the lease or a task needs it.
    pub(crate) fn insert_leased(&self, name: String, n: usize) -> Lease {
        let slot = self.0.lock().table.insert_leased(name, n);
        Lease { book: self.0.clone(), slots: vec![slot] }
    }

    /// Changes the limit of a lease, and serves waiting requests.
    pub(crate) fn set_leased(&self, lease: &Lease, n: usize, clock: &Clock<'_>) {
        let now = clock.now();
        self.change(clock, |book, pass| {
            for id in lease.slots.iter().copied() {
                book.table.set(id, Amount::Limit(n), now);
            }
            book.declared(lease.slots.iter().copied().collect(), pass);
        });
    }

    /// Looks limits and rates up by name, and adds amounts up. An error says why the request can never be served.
    pub(crate) fn needs(
        &self,
        wanted: &[(String, usize)],
        clock: &Clock<'_>,
    ) -> Result<Needs, String> {
        let (amounts, slots) = self.0.lock().table.lease(wanted, || clock.now())?;
        let lease = (!slots.is_empty()).then(|| Arc::new(Lease { book: self.0.clone(), slots }));
        Ok(Needs { amounts: amounts.into(), _lease: lease })
    }

    /// What is shown of the limits and rates: first of the declared names, in order, then of those that patterns have made
    /// and that are in use, by name.
    pub(crate) fn usage(&self, clock: &Clock<'_>) -> Vec<Usage> {
        let now = clock.now();
        let table = &mut self.0.lock().table;
        table.free_unused(now);
        let usage = |id| {
            let slot = table.slot(id);
            let what = match &slot.kind {
                Kind::Limit { total, used, .. } => UsageWhat::Limit { of: *total, used: *used },
                Kind::Rate(bucket) => UsageWhat::Rate {
                    rate: bucket.rate(),
                    available: bucket.available(now),
                    next: left(bucket.due(1), now),
                },
            };
            let pattern = table.pattern_of(slot).map(str::to_owned);
            Usage { name: slot.name.clone(), pattern, waiting: slot.waiting, what }
        };
        table.shown(now).into_iter().map(usage).collect()
    }

    /// The limits and rates that this task waits for, first those of which it lacks some.
    pub(crate) fn lacking(&self, task: TaskRef<'_>, clock: &Clock<'_>) -> Vec<Lacking> {
        let now = clock.now();
        let book = &*self.0.lock();
        let is_task = |holder: &Holder| holder.task.as_ref().is_some_and(|t| t.as_ref().is(task));
        let Some((place, waiting)) = book.all().find(|(_, waiting)| is_task(&waiting.holder))
        else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for (id, needed) in &*waiting.holder.needs.amounts {
            let slot = book.table.slot(*id);
            let (lacks, ahead) = (!slot.has(*needed, now), book.ahead(*place, *id));
            if !lacks && ahead == 0 {
                continue;
            }
            let what = match &slot.kind {
                Kind::Limit { total, used, .. } => {
                    let holders = book.holders.values().filter(|it| it.amount(*id) > 0);
                    let holders = holders.filter_map(Holder::to_task).collect();
                    LackingWhat::Limit { of: *total, used: *used, holders }
                }
                Kind::Rate(bucket) => {
                    LackingWhat::Rate { rate: bucket.rate(), next: left(bucket.due(*needed), now) }
                }
            };
            all.push((lacks, Lacking { name: slot.name.clone(), needed: *needed, ahead, what }));
        }
        all.sort_by_key(|(lacks, _)| !lacks);
        all.into_iter().map(|(_, lacking)| lacking).collect()
    }

    /// For each limit that tasks wait for: these tasks, and those that hold it.
    pub(crate) fn waits(&self, clock: &Clock<'_>) -> Vec<(Vec<Task>, Vec<Task>)> {
        let now = clock.now();
        let book = &*self.0.lock();
        let mut waits = BTreeMap::<_, (Vec<_>, Vec<_>)>::new();
        for (_, waiting) in book.all() {
            let needs = &waiting.holder.needs.amounts;
            let lacks = |(id, n): &&(_, usize)| !book.table.slot(*id).has(*n, now);
            // With enough of all, it waits for a request that is served first. A rate comes by itself.
            let any = !needs.iter().any(|need| lacks(&need));
            for (id, _) in needs.iter().filter(|need| any || lacks(need)) {
                if !book.table.slot(*id).is_rate() {
                    waits.entry(*id).or_default().0.extend(waiting.holder.to_task());
                }
            }
        }
        for holder in book.holders.values() {
            for (id, _) in &*holder.needs.amounts {
                if let Some((_, holders)) = waits.get_mut(id) {
                    holders.extend(holder.to_task());
                }
            }
        }
        waits.into_values().collect()
    }

    /// Takes what a new request needs, if it's free and no task waits for any of it. Else the request is returned.
    pub(crate) fn take(
        &self,
        needs: Needs,
        task: Option<Task>,
        priority: i32,
        clock: &Clock<'_>,
    ) -> Result<u64, Request> {
        let mut pass = Pass::new(clock);
        let book = &mut *self.0.lock();
        if !book.is_free(&needs, &mut pass) {
            return Err(Request::New { needs, task });
        }
        let number = book.next_number();
        book.hold(number, Holder { needs, task }, priority, &mut pass);
        Ok(number)
    }

    /// Enters a request, or looks again at a waiting one under its present priority, and serves what can be served. If it
    /// waits, returns also the tasks to lend its priority to: those that hold what it lacks.
    ///
    /// # Panics
    ///
    /// If the request is the next one of a rate, and the system refuses the thread of the timers.
    pub(crate) fn request(
        &self,
        request: Request,
        priority: i32,
        waker: &Waker,
        clock: &Clock<'_>,
    ) -> (Request, Vec<Task>) {
        let (mut holders, mut unused, mut is_refused) = (Vec::new(), None, false);
        let new = waker.clone();
        let request = self.change(clock, |book, pass| {
            let (place, line) = match request {
                Request::New { needs, task } => {
                    let depth = task.as_ref().map_or(0, |task| task.count.depth());
                    let place = Place::new(priority, depth, book.next_number());
                    let waiting = Waiting { holder: Holder { needs, task }, waker: new };
                    (place, book.enter(place, waiting, pass))
                }
                Request::Waiting(place, line) => match book.waiting(place, line) {
                    // The priority may have been raised meanwhile.
                    Some(_) if place.priority() != priority => {
                        let Some(mut waiting) = book.leave(place, line, pass) else {
                            unreachable!("it waits");
                        };
                        unused = Some(std::mem::replace(&mut waiting.waker, new));
                        let place = place.with_priority(priority);
                        (place, book.enter(place, waiting, pass))
                    }
                    Some(waiting) => {
                        unused = Some(std::mem::replace(&mut waiting.waker, new));
                        book.woken(line, pass);
                        (place, line)
                    }
                    // A request that doesn't wait any more was served.
                    None => {
                        unused = Some(new);
                        return Request::Granted(place.number);
                    }
                },
                Request::Granted(number) => {
                    unused = Some(new);
                    return Request::Granted(number);
                }
            };
            book.serve(pass);
            let served = std::mem::take(&mut pass.served);
            let (own, others): (Vec<_>, _) =
                served.into_iter().partition(|other| other.will_wake(waker));
            pass.unused.extend(own);
            pass.served = others;
            let refused = pass.refused.iter().position(|(number, _)| *number == place.number);
            if let Some(at) = refused {
                is_refused = true;
                pass.unused.push(pass.refused.swap_remove(at).1);
                return Request::Waiting(place, line);
            }
            if book.holders.contains_key(&place.number) {
                return Request::Granted(place.number);
            }
            lend(book, place, line, &mut holders);
            Request::Waiting(place, line)
        });
        drop_user_value(unused);
        if let (true, Request::Waiting(place, line)) = (is_refused, &request) {
            self.withdraw(*place, *line, clock);
            panic!("the system refused the thread of the timers");
        }
        (request, holders)
    }

    /// Withdraws a request that waits, and gives back what it was served and hasn't noticed.
    pub(crate) fn withdraw(&self, place: Place, line: LineId, clock: &Clock<'_>) {
        let removed = self.change(clock, |book, pass| {
            let left = book.leave(place, line, pass);
            // It may also have kept others behind it from being served.
            (left, book.release(place.number, false, pass))
        });
        if let (Some(Waiting { waker, holder }), _) = removed {
            drop(holder);
            drop_user_value(waker);
        }
    }

    /// Gives back what was taken under this number, but for rates, and serves waiting requests.
    pub(crate) fn release(&self, number: u64, clock: &Clock<'_>) {
        let holder = self.change(clock, |book, pass| book.release(number, true, pass));
        drop(holder);
    }

    /// Changes the book, serves what can be served then, and runs the wakers without the lock: they're user code.
    fn change<R>(
        &self,
        clock: &Clock<'_>,
        change: impl FnOnce(&mut Book, &mut Pass<'_>) -> R,
    ) -> R {
        let mut pass = Pass::new(clock);
        let result = {
            let book = &mut *self.0.lock();
            let result = change(book, &mut pass);
            book.serve(&mut pass);
            result
        };
        let Pass { served, unused, refused, .. } = pass;
        unused.into_iter().for_each(drop_user_value);
        served.into_iter().for_each(wake);
        // These ask for the timer themselves, and fail if the system refuses it again.
        refused.into_iter().for_each(|(_, waker)| wake(waker));
        result
    }
}

#[cfg(test)]
impl Limits {
    /// The number of limits and rates in memory.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().table.len()
    }
}

/// The time left until then.
fn left(due: Option<u64>, now: u64) -> Option<Duration> {
    due.map(|due| Duration::from_nanos(due.saturating_sub(now)))
}

/// Adds the tasks that hold what a waiting request lacks, and may have a lower priority, to `holders`.
fn lend(book: &mut Book, place: Place, line: LineId, holders: &mut Vec<Task>) {
    let priority = place.priority();
    let needs = book.waiting(place, line).map(|waiting| waiting.holder.needs.amounts.clone());
    for (id, n) in needs.iter().flat_map(|needs| &**needs) {
        let slot = book.table.slot_mut(*id);
        let has = slot.has(*n, 0);
        // Nearly always nothing to do: whoever is served has the highest priority of those that wait.
        if let Kind::Limit { lent, .. } = &mut slot.kind {
            if !has && *lent < priority {
                *lent = priority;
                let of_limit = book.holders.values().filter(|holder| holder.amount(*id) > 0);
                holders.extend(of_limit.filter_map(Holder::to_task));
            }
        }
    }
}

#[cfg(test)]
mod tests;
