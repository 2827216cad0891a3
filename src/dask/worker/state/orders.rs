//! What the scheduler's orders do to the state.

use std::collections::HashSet;

use super::ready::Rank;
use super::{Action, Ended, Entry, Failure, Held, Phase, Report, State, Task};
use crate::dask::wire::WireKey;
use crate::dask::wire::call::WhoHas;
use crate::dask::wire::worker::order::{Compute, Order, Rust};
use crate::dask::wire::worker::report::{Span, Stolen};

const NOT_RUST: &str = "this is a Rust worker, which runs no Python functions: start workers of Python, too, and \
    have tasks of Python's say where they may run (`workers=` or `resources=`)";

impl State {
    /// Does what the scheduler says.
    pub(crate) fn order(&mut self, order: Order) {
        match order {
            Order::Compute(order) => self.compute(*order),
            Order::Free { keys, .. } => self.free(&keys),
            Order::RemoveReplicas { keys, .. } => keys.iter().for_each(|key| self.thin_out(key)),
            Order::AcquireReplicas { who_has, sizes, .. } => self.acquire(&who_has, &sizes),
            Order::Steal { key, stimulus } => self.steal(key, stimulus),
            Order::WhoHas { who_has, .. } => self.who_has(&who_has),
            Order::Cancel { key } => self.cancel(&key),
            Order::Gone { address } => {
                let flight = self.fetches.gone(&address);
                self.actions.extend(flight.map(Action::StopFetch));
            }
            Order::Status { status, stimulus } => self.set_status(status, stimulus),
            Order::Close { reason } => self.actions.push(Action::Leave(reason)),
            Order::Other(_) => {}
        }
    }

    fn compute(&mut self, mut order: Compute) {
        let key = order.key.clone();
        let (run, stimulus) = (order.run, std::mem::take(&mut order.stimulus));
        let entry = self.entries.entry(key.clone()).or_default();
        if let Some(task) = &mut entry.task {
            (task.run, task.stimulus) = (run, stimulus);
            for (input, holders) in &order.who_has {
                self.fetches.found(input, holders);
            }
            return;
        }
        let task = Ended { key: key.clone(), run, stimulus };
        if let Some(Held { made, took }) = entry.held {
            return self.report(Report::Finished { task, made, took });
        }
        let work = match work_of(&mut order) {
            Ok(work) => work,
            Err(failure) => {
                self.tidy(&key);
                let took = Span { start: 0.0, stop: 0.0 };
                return self.report(Report::Erred { task, failure, took });
            }
        };
        self.next += 1;
        let rank = Rank { priority: order.priority, order: self.next };
        let ghost = usize::from(entry.ghost.is_some());
        let missing = ghost + self.need(&key, rank.order, &order.who_has, &order.sizes);
        // It may have been wanted from elsewhere: now it's made here.
        if self.fetches.is_wanted(&key) {
            let flight = self.fetches.unwant(&key, true);
            self.actions.extend(flight.map(Action::StopFetch));
        }
        let inputs = order.who_has.into_iter().map(|(input, _)| input).collect();
        let Ended { run, stimulus, .. } = task;
        let phase = Phase::Waiting(missing, work);
        let task = Task { run, stimulus, rank, needs: order.resources, inputs, phase };
        self.counts.waiting += 1;
        self.entries.entry(key.clone()).or_default().task = Some(Box::new(task));
        if missing == 0 {
            self.make_ready(&key);
        }
    }

    /// Notes that a task takes these, and wants what isn't here. Gives how many aren't.
    fn need(
        &mut self,
        key: &WireKey,
        order: u64,
        who_has: &WhoHas,
        sizes: &[(WireKey, u64)],
    ) -> usize {
        let mut missing = 0;
        for (at, (input, holders)) in who_has.iter().enumerate() {
            let entry = self.entries.entry(input.clone()).or_default();
            entry.users += 1;
            if entry.held.is_some() {
                continue;
            }
            missing += 1;
            entry.waiters.push((key.clone(), order));
            // What is being made here comes without asking.
            if entry.task.is_none() {
                self.fetches.want(input, holders, size_at(sizes, at, input), false);
            }
        }
        missing
    }

    /// Drops a copy, unless a task here takes it.
    fn thin_out(&mut self, key: &WireKey) {
        match self.entries.get(key) {
            Some(Entry { held: Some(_), users: 0, .. }) => {
                self.drop_result(key);
                self.report(Report::Released(key.clone()));
                self.tidy(key);
            }
            Some(Entry { held: Some(_), .. }) => self.report(Report::Has(vec![key.clone()])),
            _ => {}
        }
    }

    fn acquire(&mut self, who_has: &WhoHas, sizes: &[(WireKey, u64)]) {
        let mut here = Vec::new();
        for (at, (key, holders)) in who_has.iter().enumerate() {
            match self.entries.get(key) {
                Some(entry) if entry.held.is_some() => here.push(key.clone()),
                Some(entry) if entry.task.is_some() => {}
                _ => self.fetches.want(key, holders, size_at(sizes, at, key), true),
            }
        }
        if !here.is_empty() {
            self.report(Report::Has(here));
        }
    }

    fn steal(&mut self, key: WireKey, stimulus: String) {
        let state = self.give_up(&key, true).unwrap_or(Stolen::Unknown);
        if matches!(state, Stolen::Ready | Stolen::Waiting) {
            self.rewant(&key, None);
            self.tidy(&key);
        }
        self.report(Report::Stolen { key, state, stimulus });
    }

    fn cancel(&mut self, key: &WireKey) {
        if let Some(Stolen::Ready | Stolen::Waiting) = self.give_up(key, true) {
            self.rewant(key, None);
            self.tidy(key);
        }
    }

    fn who_has(&mut self, who_has: &WhoHas) {
        for (key, holders) in who_has {
            if !self.fetches.is_wanted(key) {
                continue;
            }
            // The scheduler would never make it again if it thought that it's here.
            if holders.iter().any(|holder| self.fetches.is_us(holder)) {
                self.report(Report::Released(key.clone()));
            }
            self.fetches.found(key, holders);
        }
    }

    pub(super) fn set_status(&mut self, status: String, stimulus: String) {
        self.status.clone_from(&status);
        self.report(Report::Status { status, stimulus });
    }
}

/// What is to be run, if it can be.
fn work_of(order: &mut Compute) -> Result<Rust, Failure> {
    let wrong = |what: &str| {
        let text = format!("its annotation `rust` can't be used: {what}");
        Err(Failure { class: "TypeError", text })
    };
    if let Some(what) = &order.misread {
        return wrong(what);
    }
    let (Some(work), false) = (order.rust.take(), order.actor) else {
        return Err(Failure { class: "RuntimeError", text: NOT_RUST.to_owned() });
    };
    let known: HashSet<_> = order.who_has.iter().map(|(input, _)| input).collect();
    match work.inputs.iter().find(|input| !known.contains(input)) {
        Some(input) => {
            wrong(&format!("`{input}` is among its `deps`, but the task doesn't depend on it"))
        }
        None => Ok(work),
    }
}

/// How large it is. Sizes mostly come in the same order; if not, it doesn't matter much.
fn size_at(sizes: &[(WireKey, u64)], at: usize, key: &WireKey) -> u64 {
    sizes.get(at).filter(|(of, _)| of == key).map_or(0, |(_, size)| *size)
}
