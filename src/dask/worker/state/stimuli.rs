//! The scheduler's messages as inputs of the state machine.

use std::collections::HashSet;

use super::instruction::{Instruction, SchedulerMessage, TaskFailure, TaskRun};
use super::machine::WorkerState;
use super::task::{ComputeTask, InMemory, Phase, Rank, TaskState};
use crate::dask::wire::WireKey;
use crate::dask::wire::call::WhoHas;
use crate::dask::wire::worker::order::{Compute, Order, Rust};
use crate::dask::wire::worker::report::{StartStop, Stolen};

const NOT_RUST: &str = "a Rust worker can't run a Python function: start Python workers as well, and restrict \
    Python tasks to them with `workers=` or `resources=`";

impl WorkerState {
    /// Handles a message of the scheduler.
    pub(crate) fn handle_order(&mut self, order: Order) {
        match order {
            Order::Compute(order) => self.compute_task(*order),
            Order::Free { keys, .. } => self.free_keys(&keys),
            Order::RemoveReplicas { keys, .. } => {
                keys.iter().for_each(|key| self.remove_replica(key));
            }
            Order::AcquireReplicas { who_has, sizes, .. } => {
                self.acquire_replicas(&who_has, &sizes);
            }
            Order::Steal { key, stimulus } => self.steal(key, stimulus),
            Order::WhoHas { who_has, .. } => self.refresh_who_has(&who_has),
            Order::Cancel { key } => self.cancel_compute(&key),
            Order::Gone { address } => {
                let request = self.gather.remove_worker(&address);
                self.instructions.extend(request.map(Instruction::CancelGather));
            }
            Order::Status { status, stimulus } => self.set_status(status, stimulus),
            Order::Close { reason } => self.instructions.push(Instruction::Close(reason)),
            Order::Other(_) => {}
        }
    }

    fn compute_task(&mut self, mut order: Compute) {
        let key = order.key.clone();
        let (run, stimulus) = (order.run, std::mem::take(&mut order.stimulus));
        let state = self.tasks.entry(key.clone()).or_default();
        // The same order again: only the run that is reported changes.
        if let Some(task) = &mut state.task {
            (task.run, task.stimulus) = (run, stimulus);
            for (input, holders) in &order.who_has {
                self.gather.update_who_has(input, holders);
            }
            return;
        }
        let task = TaskRun { key: key.clone(), run, stimulus };
        if let Some(InMemory { meta, took }) = state.result {
            return self.send(SchedulerMessage::TaskFinished { task, meta, took });
        }
        let work = match take_work(&mut order) {
            Ok(work) => work,
            Err(failure) => {
                self.purge(&key);
                let took = StartStop { start: 0.0, stop: 0.0 };
                return self.send(SchedulerMessage::TaskErred { task, failure, took });
            }
        };
        self.last_number += 1;
        let rank = Rank { priority: order.priority, sequence: self.last_number };
        let cancelled = usize::from(state.cancelled.is_some());
        let missing =
            cancelled + self.add_dependent(&key, rank.sequence, &order.who_has, &order.sizes);
        // The result may have been fetched from another worker: from now on it's computed here.
        if self.gather.is_wanted(&key) {
            self.cancel_fetch(&key, true);
        }
        let inputs = order.who_has.into_iter().map(|(input, _)| input).collect();
        let TaskRun { run, stimulus, .. } = task;
        let phase = Phase::Waiting(missing, work);
        let resources = order.resources;
        let task = ComputeTask { run, stimulus, rank, resources, inputs, phase };
        self.counts.waiting += 1;
        self.tasks.entry(key.clone()).or_default().task = Some(Box::new(task));
        if missing == 0 {
            self.make_ready(&key);
        }
    }

    /// Registers a task as a dependent of its inputs, and fetches those that aren't stored. Returns their number.
    fn add_dependent(
        &mut self,
        key: &WireKey,
        sequence: u64,
        who_has: &WhoHas,
        sizes: &[(WireKey, u64)],
    ) -> usize {
        let mut missing = 0;
        for (at, (input, holders)) in who_has.iter().enumerate() {
            let state = self.tasks.entry(input.clone()).or_default();
            state.dependents += 1;
            if state.result.is_some() {
                continue;
            }
            missing += 1;
            state.waiters.push((key.clone(), sequence));
            // An input that is computed on this worker needs no request.
            if state.task.is_none() {
                self.gather.want(input, holders, size_at(sizes, at, input), false);
            }
        }
        missing
    }

    /// Cancels tasks and drops results.
    fn free_keys(&mut self, keys: &[WireKey]) {
        // Tasks first: their inputs may be among the results, and would be fetched again for them.
        for key in keys {
            self.cancel_task(key, false);
        }
        for key in keys {
            let size = self.drop_result(key);
            // A dependent that isn't among the freed keys still needs the result.
            if self.tasks.get(key).is_none_or(|state| state.dependents == 0) {
                self.cancel_fetch(key, true);
            }
            self.refetch(key, size);
            self.purge(key);
        }
    }

    /// Drops a replica, unless a task here takes it.
    fn remove_replica(&mut self, key: &WireKey) {
        match self.tasks.get(key) {
            Some(TaskState { result: Some(_), dependents: 0, .. }) => {
                self.drop_result(key);
                self.send(SchedulerMessage::ReleaseWorkerData(key.clone()));
                self.purge(key);
            }
            // The scheduler has removed the replica from its books already.
            Some(TaskState { result: Some(_), .. }) => {
                self.send(SchedulerMessage::AddKeys(vec![key.clone()]));
            }
            _ => {}
        }
    }

    fn acquire_replicas(&mut self, who_has: &WhoHas, sizes: &[(WireKey, u64)]) {
        let mut stored = Vec::new();
        for (at, (key, holders)) in who_has.iter().enumerate() {
            match self.tasks.get(key) {
                Some(state) if state.result.is_some() => stored.push(key.clone()),
                Some(state) if state.task.is_some() => {}
                _ => self.gather.want(key, holders, size_at(sizes, at, key), true),
            }
        }
        if !stored.is_empty() {
            self.send(SchedulerMessage::AddKeys(stored));
        }
    }

    /// Gives a task back to the scheduler for another worker, unless it has started.
    fn steal(&mut self, key: WireKey, stimulus: String) {
        let state = self.cancel_unstarted(&key).unwrap_or(Stolen::Unknown);
        self.send(SchedulerMessage::StealResponse { key, state, stimulus });
    }

    fn cancel_compute(&mut self, key: &WireKey) {
        self.cancel_unstarted(key);
    }

    fn cancel_unstarted(&mut self, key: &WireKey) -> Option<Stolen> {
        let was = self.cancel_task(key, true);
        if let Some(Stolen::Ready | Stolen::Waiting) = was {
            self.refetch(key, None);
            self.purge(key);
        }
        was
    }

    fn refresh_who_has(&mut self, who_has: &WhoHas) {
        for (key, holders) in who_has {
            if !self.gather.is_wanted(key) {
                continue;
            }
            // The scheduler believes that this worker has the result. As long as it does, it never has the result
            // computed again.
            if holders.iter().any(|holder| self.gather.is_own_address(holder)) {
                self.send(SchedulerMessage::ReleaseWorkerData(key.clone()));
            }
            self.gather.update_who_has(key, holders);
        }
    }
}

/// Takes the call out of an order, if this worker can run it.
fn take_work(order: &mut Compute) -> Result<Rust, TaskFailure> {
    let invalid = |what: &str| {
        let text = format!("invalid annotation `rust`: {what}");
        Err(TaskFailure { class: "TypeError", text })
    };
    if let Some(what) = &order.misread {
        return invalid(what);
    }
    let (Some(work), false) = (order.rust.take(), order.actor) else {
        return Err(TaskFailure { class: "RuntimeError", text: NOT_RUST.to_owned() });
    };
    let known: HashSet<_> = order.who_has.iter().map(|(input, _)| input).collect();
    match work.inputs.iter().find(|input| !known.contains(input)) {
        Some(input) => {
            invalid(&format!("`{input}` is among its `deps`, but the task doesn't depend on it"))
        }
        None => Ok(work),
    }
}

/// Returns the size of the key at this position. The sizes mostly come in the order of the keys; where they don't, 0
/// will do, since sizes only bound the size of requests.
fn size_at(sizes: &[(WireKey, u64)], at: usize, key: &WireKey) -> u64 {
    sizes.get(at).filter(|(of, _)| of == key).map_or(0, |(_, size)| *size)
}
