//! Named limits: how many tasks of a kind run at once.
//!
//! A task takes all it needs at once or waits; who waits is served by priority and then by arrival,
//! and nobody overtakes on a limit that an earlier one waits for.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Poller, Poll, Waker};

use super::core::CoreRef;
use super::lock::Lock;

pub(crate) struct Limits {
    /// In order of declaration.
    names: Vec<(String, usize)>,
    state: Lock<Book>,
}

struct Book {
    free: Vec<usize>,
    waiting: BTreeMap<(Reverse<i32>, u64), Waiting>,
    count: u64,
}

struct Waiting {
    needs: Needs,
    waker: Waker,
}

/// Which limits, by their place, and how much of each.
pub(crate) type Needs = Vec<(usize, usize)>;

impl Limits {
    pub(crate) fn new(names: Vec<(String, usize)>) -> Self {
        let free = names.iter().map(|(_, n)| *n).collect();
        let book = Book { free, waiting: BTreeMap::new(), count: 0 };
        Self { names, state: Lock::new(book) }
    }

    pub(crate) fn names(&self) -> &[(String, usize)] {
        &self.names
    }

    /// What to take for these limits, or why that can never be had.
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

    /// For each limit its name, how much there is, how much of it is taken, and how many wait for some.
    pub(crate) fn usage(&self) -> Vec<(String, usize, usize, usize)> {
        let book = &*self.state.lock();
        let usage = |(at, (name, of)): (usize, &(String, usize))| {
            let wants = |waiting: &&Waiting| waiting.needs.iter().any(|(other, _)| *other == at);
            (name.clone(), *of, of - book.free[at], book.waiting.values().filter(wants).count())
        };
        self.names.iter().enumerate().map(usage).collect()
    }

    /// Gives back, and gives out again.
    fn release(&self, needs: &Needs) {
        let mut wakers = Vec::new();
        {
            let book = &mut *self.state.lock();
            for (at, n) in needs {
                book.free[*at] += n;
            }
            book.serve(&mut wakers);
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Book {
    /// Gives out what can be given.
    fn serve(&mut self, wakers: &mut Vec<Waker>) {
        let mut reserved = vec![false; self.free.len()];
        let mut served = Vec::new();
        for (place, waiting) in &self.waiting {
            let fits = waiting.needs.iter().all(|(at, n)| !reserved[*at] && self.free[*at] >= *n);
            for (at, n) in &waiting.needs {
                if fits {
                    self.free[*at] -= n;
                } else {
                    reserved[*at] = true;
                }
            }
            if fits {
                served.push(*place);
            }
        }
        for place in served {
            wakers.extend(self.waiting.remove(&place).map(|waiting| waiting.waker));
        }
    }
}

/// Takes what is needed, in turn.
pub(crate) struct Acquire {
    core: CoreRef,
    needs: Option<Needs>,
    place: Option<(Reverse<i32>, u64)>,
    priority: Box<dyn Fn() -> i32 + Send>,
}

/// What a task has taken; given back when dropped.
pub(crate) struct Permit {
    core: CoreRef,
    needs: Needs,
}

impl Acquire {
    pub(crate) fn new(
        core: CoreRef,
        needs: Needs,
        priority: impl Fn() -> i32 + Send + 'static,
    ) -> Self {
        Self { core, needs: Some(needs), place: None, priority: Box::new(priority) }
    }
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<Permit> {
        let this = &mut *self;
        let priority = (this.priority)();
        let waker = poller.waker().clone();
        let mut wakers = Vec::new();
        {
            let book = &mut *this.core.limits.state.lock();
            let waiting = match this.place.take() {
                // Served, since it's not waiting any more.
                Some(place) => {
                    let waiting = book.waiting.remove(&place);
                    waiting.map(|waiting| (Waiting { waker, ..waiting }, place.1))
                }
                None => {
                    let needs = this.needs.clone().unwrap_or_default();
                    book.count += 1;
                    Some((Waiting { needs, waker }, book.count))
                }
            };
            if let Some((waiting, number)) = waiting {
                // The priority may have been raised meanwhile.
                let place = (Reverse(priority), number);
                book.waiting.insert(place, waiting);
                book.serve(&mut wakers);
                if book.waiting.contains_key(&place) {
                    this.place = Some(place);
                }
            }
        }
        wakers.into_iter().filter(|waker| !waker.will_wake(poller.waker())).for_each(Waker::wake);
        if this.place.is_some() {
            return Poll::Pending;
        }
        let needs = this.needs.take().unwrap_or_default();
        Poll::Ready(Permit { core: this.core.clone(), needs })
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        let removed = self.core.limits.state.lock().waiting.remove(&place);
        let nothing = Vec::new();
        // Served and not noticed, or waiting in front of others.
        let to_release =
            if removed.is_some() { &nothing } else { self.needs.as_ref().unwrap_or(&nothing) };
        self.core.limits.release(to_release);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.core.limits.release(&self.needs);
    }
}
