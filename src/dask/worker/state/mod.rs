//! What a worker knows and decides, without a socket, a thread or a clock: orders and news go in, [`Action`]s
//! come out.
//!
//! A key has an [`Entry`] while there is something to know of it: a task that was ordered and hasn't ended, a
//! result that is here, tasks here that take it. What is to be got from other workers, [`Fetches`] knows.
//!
//! A task that was freed while it ran occupies its slot until it's really gone, and nothing more is ever said of
//! it. If the same key is ordered again in the meantime, it starts only then, so that nothing runs twice at once.

mod action;
mod fetches;
mod orders;
mod ready;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

pub(crate) use action::{Action, Counts, Ended, Failure, Report, Start};
use fetches::Fetches;
pub(crate) use fetches::{Fetch, Landing};
use ready::{Needs, Rank, Ready};

use crate::dask::wire::WireKey;
use crate::dask::wire::rust::is_partial;
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::worker::order::Rust;
use crate::dask::wire::worker::report::{Span, Stolen};

type Table<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;

/// All that a worker knows.
pub(crate) struct State {
    threads: usize,
    entries: Table<WireKey, Entry>,
    ready: Ready,
    /// What occupies a thread, by attempt.
    running: Table<u64, Running>,
    fetches: Fetches,
    /// As the scheduler knows it: `running`, `paused`, `closing_gracefully`.
    status: String,
    /// Whether too much memory is in use to begin anything, the scheduler may know it or not.
    is_full: bool,
    counts: Counts,
    next: u64,
    actions: Vec<Action>,
}

#[derive(Default)]
struct Entry {
    task: Option<Box<Task>>,
    held: Option<Held>,
    /// How many tasks here take it that haven't ended.
    users: usize,
    /// Those that wait for it, and their order. A task that has been given up is still among them.
    waiters: Vec<(WireKey, u64)>,
    /// An attempt that nobody wants any more and that still runs.
    ghost: Option<u64>,
}

impl Entry {
    fn is_nothing(&self) -> bool {
        self.task.is_none() && self.held.is_none() && self.users == 0 && self.ghost.is_none()
    }
}

#[derive(Clone, Copy)]
struct Held {
    made: Made,
    took: Span,
}

/// What is known of a result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Made {
    pub(crate) nbytes: u64,
    /// Of a batch of calls only some were made.
    pub(crate) is_partial: bool,
}

impl Made {
    /// Of this value.
    pub(crate) fn of(value: &Serialized) -> Self {
        Self { nbytes: value.nbytes(), is_partial: is_partial(value) }
    }

    /// One that is all it should be.
    #[cfg(test)]
    pub(crate) fn whole(nbytes: u64) -> Self {
        Self { nbytes, is_partial: false }
    }
}

struct Task {
    run: i64,
    stimulus: String,
    rank: Rank,
    needs: Needs,
    /// Each once.
    inputs: Vec<WireKey>,
    phase: Phase,
}

enum Phase {
    /// For so many inputs, or for a ghost.
    Waiting(usize, Rust),
    Ready(Rust),
    Executing(u64),
}

struct Running {
    key: WireKey,
    needs: Needs,
    since: Instant,
    /// Whether the task has neither been freed nor has ended.
    is_wanted: bool,
}

impl State {
    /// Of a worker that listens there, and may have so many bytes under way from others.
    pub(crate) fn new(
        address: &str,
        threads: usize,
        resources: impl IntoIterator<Item = (String, f64)>,
        most_bytes: u64,
    ) -> Self {
        Self {
            threads,
            entries: Table::default(),
            ready: Ready::new(resources),
            running: Table::default(),
            fetches: Fetches::new(Arc::from(address), most_bytes),
            status: "running".to_owned(),
            is_full: false,
            counts: Counts::default(),
            next: 0,
            actions: Vec::new(),
        }
    }

    /// What has become necessary.
    pub(crate) fn actions(&mut self, now: Instant) -> Vec<Action> {
        self.start_tasks(now);
        let actions = &mut self.actions;
        if self.status == "running" && !self.is_full {
            self.fetches.dispatch(|fetch| actions.push(Action::Fetch(fetch)));
        }
        let questions = self.fetches.questions(now);
        if !questions.is_empty() {
            self.actions.push(Action::Report(Report::WhoHas(questions)));
        }
        std::mem::take(&mut self.actions)
    }

    /// When [`wake`](Self::wake) has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.fetches.due()
    }

    /// Time has passed.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.fetches.wake(now);
    }

    pub(crate) fn counts(&self) -> Counts {
        let (wanted, flight) = self.fetches.counts();
        let (flights, flying_bytes) = self.fetches.under_way();
        Counts {
            ready: self.ready.len(),
            executing: self.running.len(),
            fetch: wanted - flight,
            flight,
            flights,
            flying_bytes,
            ..self.counts
        }
    }

    /// The tasks that run, and since when.
    pub(crate) fn executing(&self) -> impl Iterator<Item = (&WireKey, Instant)> {
        let wanted = self.running.values().filter(|running| running.is_wanted);
        wanted.map(|running| (&running.key, running.since))
    }

    pub(crate) fn status(&self) -> &str {
        &self.status
    }

    /// The keys of all results that are here.
    pub(crate) fn held(&self) -> impl Iterator<Item = &WireKey> {
        self.entries.iter().filter(|(_, entry)| entry.held.is_some()).map(|(key, _)| key)
    }

    fn make_ready(&mut self, key: &WireKey) {
        let Some(task) = self.entries.get_mut(key).and_then(|entry| entry.task.as_mut()) else {
            return;
        };
        let Phase::Waiting(_, work) = &mut task.phase else { return };
        task.phase = Phase::Ready(std::mem::take(work));
        self.counts.waiting -= 1;
        self.ready.insert(task.rank.clone(), &task.needs, key.clone());
    }

    fn start_tasks(&mut self, now: Instant) {
        while self.running.len() < self.threads && self.status == "running" && !self.is_full {
            let Some(key) = self.ready.take() else { return };
            let Some(task) = self.entries.get_mut(&key).and_then(|entry| entry.task.as_mut())
            else {
                unreachable!("what is ready has been ordered");
            };
            self.next += 1;
            let attempt = self.next;
            let Phase::Ready(work) = std::mem::replace(&mut task.phase, Phase::Executing(attempt))
            else {
                unreachable!("what is in the queue is ready");
            };
            let needs = std::mem::take(&mut task.needs);
            let running = Running { key: key.clone(), needs, since: now, is_wanted: true };
            self.running.insert(attempt, running);
            self.actions.push(Action::Start(Start { attempt, key, work }));
        }
    }

    /// A task has ended, though it may still occupy its thread. Whether its result is wanted; if so, store it
    /// before doing anything else.
    #[must_use]
    pub(crate) fn ended(
        &mut self,
        attempt: u64,
        outcome: Result<Made, Failure>,
        took: Span,
    ) -> bool {
        let Some(running) = self.running.get_mut(&attempt).filter(|running| running.is_wanted)
        else {
            return false;
        };
        running.is_wanted = false;
        let key = running.key.clone();
        let Some(entry) = self.entries.get_mut(&key) else {
            unreachable!("what runs has been ordered");
        };
        let Some(task) = entry.task.take() else {
            unreachable!("what runs has been ordered");
        };
        entry.ghost = Some(attempt);
        let Task { run, stimulus, inputs, .. } = *task;
        let task = Ended { key: key.clone(), run, stimulus };
        let is_wanted = outcome.is_ok();
        match outcome {
            Ok(made) => {
                self.hold(&key, made, took);
                self.report(Report::Finished { task, made, took });
            }
            Err(failure) => {
                self.rewant(&key, None);
                self.report(Report::Erred { task, failure, took });
            }
        }
        self.leave_inputs(&inputs);
        is_wanted
    }

    /// An attempt doesn't occupy its thread any more.
    pub(crate) fn gone(&mut self, attempt: u64) {
        if self.running.get(&attempt).is_some_and(|running| running.is_wanted) {
            let text = "it was dropped before its end".to_owned();
            let failure = Failure { class: "RuntimeError", text };
            let _ = self.ended(attempt, Err(failure), Span { start: 0.0, stop: 0.0 });
        }
        let Some(Running { key, needs, .. }) = self.running.remove(&attempt) else {
            return;
        };
        self.ready.give_back(&needs);
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if entry.ghost == Some(attempt) {
            entry.ghost = None;
            if entry.task.is_some() {
                self.arrive_for(&key);
            }
            self.tidy(&key);
        }
    }

    /// An attempt couldn't begin, since some inputs have turned out to be lost. They're to be got again.
    pub(crate) fn lost_inputs(&mut self, attempt: u64, work: Rust, inputs: &[WireKey]) {
        let sizes: Vec<_> = inputs.iter().map(|input| self.lose(input)).collect();
        let size_of = |input: &WireKey| {
            let at = inputs.iter().position(|lost| lost == input);
            at.map_or(0, |at| sizes[at])
        };
        let running = self.running.get_mut(&attempt).filter(|running| running.is_wanted);
        let Some(running) = running else { return self.gone(attempt) };
        running.is_wanted = false;
        let (key, needs) = (running.key.clone(), running.needs.clone());
        let task = self.entries.get_mut(&key).and_then(|entry| entry.task.as_mut());
        let Some(task) = task else { unreachable!("what runs has been ordered") };
        task.needs = needs;
        let (inputs, order) = (task.inputs.clone(), task.rank.order);
        let mut missing = 0;
        for input in inputs {
            let entry = self.entries.entry(input.clone()).or_default();
            if entry.held.is_none() {
                missing += 1;
                entry.waiters.push((key.clone(), order));
                if entry.task.is_none() {
                    self.fetches.want(&input, &[], size_of(&input), false);
                }
            }
        }
        self.counts.waiting += 1;
        if let Some(task) = self.entries.get_mut(&key).and_then(|entry| entry.task.as_mut()) {
            task.phase = Phase::Waiting(missing, work);
        }
        self.gone(attempt);
        if missing == 0 {
            self.make_ready(&key);
        }
    }

    /// A result that was here isn't any more.
    pub(crate) fn lost(&mut self, key: &WireKey) {
        self.lose(key);
    }

    /// Gives its size, if it was here.
    fn lose(&mut self, key: &WireKey) -> u64 {
        let size = self.drop_result(key);
        if size.is_some() {
            self.report(Report::Released(key.clone()));
            self.rewant(key, size);
            self.tidy(key);
        }
        size.unwrap_or(0)
    }

    /// A result is here now.
    fn hold(&mut self, key: &WireKey, made: Made, took: Span) {
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.held.replace(Held { made, took }).is_none() {
            self.counts.memory += 1;
        }
        for (waiter, order) in std::mem::take(&mut entry.waiters) {
            let task = self.entries.get(&waiter).and_then(|entry| entry.task.as_ref());
            if task.is_some_and(|task| task.rank.order == order) {
                self.arrive_for(&waiter);
            }
        }
    }

    /// One of the things that a task waits for has come.
    fn arrive_for(&mut self, key: &WireKey) {
        let task = self.entries.get_mut(key).and_then(|entry| entry.task.as_mut());
        if let Some(Phase::Waiting(missing, _)) = task.map(|task| &mut task.phase) {
            *missing -= 1;
            if *missing == 0 {
                self.make_ready(key);
            }
        }
    }

    /// Drops a result. Gives its size, if there was one.
    fn drop_result(&mut self, key: &WireKey) -> Option<u64> {
        let held = self.entries.get_mut(key)?.held.take()?;
        self.counts.memory -= 1;
        self.actions.push(Action::Forget(key.clone()));
        Some(held.made.nbytes)
    }

    /// Something has become of a key that tasks here still take and that isn't here: it's wanted from elsewhere.
    /// The scheduler mostly frees those tasks, too.
    fn rewant(&mut self, key: &WireKey, size: Option<u64>) {
        let Some(entry) = self.entries.get(key) else { return };
        if entry.users == 0 || entry.held.is_some() || entry.task.is_some() {
            return;
        }
        let is_waiting = |(waiter, order): &(WireKey, u64)| {
            let task = self.entries.get(waiter).and_then(|entry| entry.task.as_ref());
            task.is_some_and(|task| task.rank.order == *order)
        };
        let mut is_needed = entry.waiters.iter().any(is_waiting);
        // Each task has an order of its own.
        let waiting: std::collections::HashSet<u64> =
            entry.waiters.iter().map(|(_, order)| *order).collect();
        // Those that had it are found by looking at all, since it hardly ever happens.
        let had: Vec<_> = self
            .entries
            .iter()
            .filter_map(|(user, entry)| Some((user, entry.task.as_ref()?)))
            .filter(|(_, task)| {
                !matches!(task.phase, Phase::Executing(_))
                    && !waiting.contains(&task.rank.order)
                    && task.inputs.contains(key)
            })
            .map(|(user, task)| (user.clone(), task.rank.order))
            .collect();
        for (user, order) in had {
            is_needed = true;
            let task = self.entries.get_mut(&user).and_then(|entry| entry.task.as_mut());
            match task.map(|task| (&mut task.phase, &task.rank, &task.needs)) {
                Some((Phase::Waiting(missing, _), ..)) => *missing += 1,
                Some((phase @ Phase::Ready(_), rank, needs)) => {
                    self.ready.remove(rank, needs);
                    if let Phase::Ready(work) = phase {
                        *phase = Phase::Waiting(1, std::mem::take(work));
                    }
                    self.counts.waiting += 1;
                }
                _ => {}
            }
            self.entries.entry(key.clone()).or_default().waiters.push((user, order));
        }
        if is_needed {
            self.fetches.want(key, &[], size.unwrap_or(0), false);
        }
    }

    /// A task doesn't take these any more.
    fn leave_inputs(&mut self, inputs: &[WireKey]) {
        for input in inputs {
            let Some(entry) = self.entries.get_mut(input) else { continue };
            entry.users -= 1;
            if entry.users == 0 {
                entry.waiters.clear();
                let flight = self.fetches.unwant(input, false);
                self.actions.extend(flight.map(Action::StopFetch));
                self.tidy(input);
            }
        }
    }

    /// Forgets a key of which there's nothing to know.
    fn tidy(&mut self, key: &WireKey) {
        if self.entries.get(key).is_some_and(Entry::is_nothing) {
            self.entries.remove(key);
        }
    }

    /// Gives up a task, or only one that hasn't begun. Says what it was.
    fn give_up(&mut self, key: &WireKey, only_idle: bool) -> Option<Stolen> {
        let entry = self.entries.get_mut(key)?;
        let Some(task) = &entry.task else {
            return entry.held.map(|_| Stolen::Memory);
        };
        let state = match task.phase {
            Phase::Waiting(..) => {
                self.counts.waiting -= 1;
                Stolen::Waiting
            }
            Phase::Ready(_) => {
                self.ready.remove(&task.rank, &task.needs);
                Stolen::Ready
            }
            Phase::Executing(_) if only_idle => return Some(Stolen::Executing),
            Phase::Executing(attempt) => {
                entry.ghost = Some(attempt);
                if let Some(running) = self.running.get_mut(&attempt) {
                    running.is_wanted = false;
                }
                self.actions.push(Action::Abort(attempt));
                Stolen::Executing
            }
        };
        let inputs = entry.task.take().map(|task| task.inputs).unwrap_or_default();
        self.leave_inputs(&inputs);
        Some(state)
    }

    /// Forgets results and tasks.
    fn free(&mut self, keys: &[WireKey]) {
        // The tasks first: what they take may be among the results.
        for key in keys {
            self.give_up(key, false);
        }
        for key in keys {
            let size = self.drop_result(key);
            let flight = match self.entries.get(key) {
                Some(entry) if entry.users > 0 => None,
                _ => self.fetches.unwant(key, true),
            };
            self.actions.extend(flight.map(Action::StopFetch));
            self.rewant(key, size);
            self.tidy(key);
        }
    }

    /// Too much memory is in use to begin anything, or not any more.
    pub(crate) fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    /// Tells the scheduler that this worker is paused, or goes on. One that is about to leave does neither.
    pub(crate) fn pause(&mut self, is_paused: bool) {
        let (from, to) = if is_paused { ("running", "paused") } else { ("paused", "running") };
        if self.status == from {
            self.set_status(to.to_owned(), "memory".to_owned());
        }
    }

    /// A result has come from another worker. Whether it's wanted; if so, store it before doing anything else.
    #[must_use]
    pub(crate) fn arrived(&mut self, flight: u64, key: &WireKey, made: Made, at: f64) -> bool {
        let is_wanted = self.fetches.arrived(flight, key);
        if is_wanted {
            self.hold(key, made, Span { start: at, stop: at });
            match self.actions.last_mut() {
                Some(Action::Report(Report::Has(keys))) => keys.push(key.clone()),
                _ => self.report(Report::Has(vec![key.clone()])),
            }
        }
        is_wanted
    }

    /// Nothing more comes from there.
    pub(crate) fn landed(&mut self, flight: u64, landing: Landing, now: Instant) {
        self.fetches.landed(flight, landing, now);
    }

    /// Somebody puts a result here, which takes the place of whatever is known of the key. If it was to be made here,
    /// it's as good as made, and the scheduler, who waits for it, is told so.
    pub(crate) fn placed(&mut self, key: &WireKey, made: Made, at: f64) {
        let task = self.entries.get(key).and_then(|entry| entry.task.as_ref());
        let task = task.map(|task| Ended {
            key: key.clone(),
            run: task.run,
            stimulus: task.stimulus.clone(),
        });
        self.give_up(key, false);
        let flight = self.fetches.unwant(key, true);
        self.actions.extend(flight.map(Action::StopFetch));
        let took = Span { start: at, stop: at };
        self.hold(key, made, took);
        if let Some(task) = task {
            self.report(Report::Finished { task, made, took });
        }
    }

    /// Somebody who doesn't order tasks wants results to go. One that was ordered here meanwhile is still to be
    /// made: the scheduler waits for it.
    pub(crate) fn drop_results(&mut self, keys: &[WireKey]) {
        for key in keys {
            let size = self.drop_result(key);
            if size.is_some() {
                self.rewant(key, size);
                self.tidy(key);
            }
        }
    }

    fn report(&mut self, report: Report) {
        self.actions.push(Action::Report(report));
    }
}
