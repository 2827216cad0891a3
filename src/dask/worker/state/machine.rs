//! The state of a worker and its transitions.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::gather::{Gather, GatherDepOutcome};
use super::instruction::{
    Execute, Instruction, SchedulerMessage, TaskCounts, TaskFailure, TaskRun,
};
use super::ready::Ready;
use super::task::{Attempt, ComputeTask, InMemory, Phase, ResultMeta, Table, TaskState};
use crate::dask::wire::WireKey;
use crate::dask::wire::worker::order::Rust;
use crate::dask::wire::worker::report::{StartStop, Stolen};

/// The state machine of a worker; see the [module](super) for the states of a key.
pub(crate) struct WorkerState {
    pub(super) threads: usize,
    pub(super) tasks: Table<WireKey, TaskState>,
    pub(super) ready: Ready,
    /// The attempts that occupy a thread, wanted or `cancelled`.
    pub(super) attempts: Table<u64, Attempt>,
    pub(super) gather: Gather,
    /// As the scheduler knows it: `running`, `paused`, `closing_gracefully`.
    pub(super) status: String,
    /// Whether too much memory is in use to start anything. The scheduler learns of it later, if it lasts.
    pub(super) is_memory_full: bool,
    pub(super) counts: TaskCounts,
    /// The source of attempt and sequence numbers.
    pub(super) last_number: u64,
    pub(super) instructions: Vec<Instruction>,
}

impl WorkerState {
    /// Returns the state of a worker that listens at `address` and requests at most `max_incoming_bytes` from other
    /// workers at a time.
    pub(crate) fn new(
        address: &str,
        threads: usize,
        resources: impl IntoIterator<Item = (String, f64)>,
        max_incoming_bytes: u64,
    ) -> Self {
        Self {
            threads,
            tasks: Table::default(),
            ready: Ready::new(resources),
            attempts: Table::default(),
            gather: Gather::new(Arc::from(address), max_incoming_bytes),
            status: "running".to_owned(),
            is_memory_full: false,
            counts: TaskCounts::default(),
            last_number: 0,
            instructions: Vec::new(),
        }
    }

    /// Starts the tasks and requests that have become possible, and returns all instructions since the last call.
    pub(crate) fn instructions(&mut self, now: Instant) -> Vec<Instruction> {
        self.ensure_computing(now);
        let instructions = &mut self.instructions;
        // Results that arrive need memory as well, so nothing is requested while it is full.
        if self.status == "running" && !self.is_memory_full {
            let issue = |gather| instructions.push(Instruction::GatherDep(gather));
            self.gather.ensure_communicating(issue);
        }
        let missing = self.gather.take_refresh_who_has(now);
        if !missing.is_empty() {
            self.send(SchedulerMessage::RequestRefreshWhoHas(missing));
        }
        std::mem::take(&mut self.instructions)
    }

    /// Returns when [`advance`](Self::advance) has to be called next.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.gather.next_timeout()
    }

    /// Handles the timeouts up to `now`.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.gather.advance(now);
    }

    /// Returns the number of keys in each state.
    pub(crate) fn counts(&self) -> TaskCounts {
        let (wanted, flight) = self.gather.counts();
        let (requests, incoming_bytes) = self.gather.incoming();
        TaskCounts {
            ready: self.ready.len(),
            executing: self.attempts.len(),
            fetch: wanted - flight,
            flight,
            requests,
            incoming_bytes,
            ..self.counts
        }
    }

    /// Returns the keys in state `executing`, and since when.
    pub(crate) fn executing(&self) -> impl Iterator<Item = (&WireKey, Instant)> {
        let wanted = self.attempts.values().filter(|attempt| attempt.is_wanted);
        wanted.map(|attempt| (&attempt.key, attempt.since))
    }

    pub(crate) fn status(&self) -> &str {
        &self.status
    }

    /// Returns the keys in state `memory`.
    pub(crate) fn in_memory(&self) -> impl Iterator<Item = &WireKey> {
        self.tasks.iter().filter(|(_, state)| state.result.is_some()).map(|(key, _)| key)
    }

    pub(super) fn task(&self, key: &WireKey) -> Option<&ComputeTask> {
        self.tasks.get(key)?.task.as_deref()
    }

    fn task_mut(&mut self, key: &WireKey) -> Option<&mut ComputeTask> {
        self.tasks.get_mut(key)?.task.as_deref_mut()
    }

    /// `waiting` to `ready`.
    pub(super) fn make_ready(&mut self, key: &WireKey) {
        // Not `task_mut`, which would borrow the queue, too.
        let Some(task) = self.tasks.get_mut(key).and_then(|state| state.task.as_mut()) else {
            return;
        };
        let Phase::Waiting(_, work) = &mut task.phase else { return };
        task.phase = Phase::Ready(std::mem::take(work));
        self.counts.waiting -= 1;
        self.ready.insert(task.rank.clone(), &task.resources, key.clone());
    }

    /// `ready` to `executing`, for as many tasks as there are free threads.
    fn ensure_computing(&mut self, now: Instant) {
        while self.attempts.len() < self.threads && self.status == "running" && !self.is_memory_full
        {
            let Some(key) = self.ready.pop() else { return };
            self.last_number += 1;
            let attempt = self.last_number;
            let Some(task) = self.task_mut(&key) else {
                unreachable!("a key in the queue has a task");
            };
            let Phase::Ready(work) = std::mem::replace(&mut task.phase, Phase::Executing(attempt))
            else {
                unreachable!("a key in the queue is `ready`");
            };
            // The attempt has the resources now: it occupies them even if the task is cancelled.
            let resources = std::mem::take(&mut task.resources);
            let running = Attempt { key: key.clone(), resources, since: now, is_wanted: true };
            self.attempts.insert(attempt, running);
            self.instructions.push(Instruction::Execute(Execute { attempt, key, work }));
        }
    }

    /// Records the outcome of an attempt, which may still occupy its thread. Returns whether the result is wanted;
    /// if so, the caller must store it before it does anything else.
    #[must_use]
    pub(crate) fn attempt_finished(
        &mut self,
        attempt: u64,
        outcome: Result<ResultMeta, TaskFailure>,
        took: StartStop,
    ) -> bool {
        let Some(running) = self.attempts.get_mut(&attempt).filter(|attempt| attempt.is_wanted)
        else {
            return false;
        };
        running.is_wanted = false;
        let key = running.key.clone();
        let Some(state) = self.tasks.get_mut(&key) else {
            unreachable!("a wanted attempt has a task");
        };
        let Some(task) = state.task.take() else {
            unreachable!("a wanted attempt has a task");
        };
        // Until the attempt has exited, its thread is not free, and the key must not start again.
        state.cancelled = Some(attempt);
        let ComputeTask { run, stimulus, inputs, .. } = *task;
        let task = TaskRun { key: key.clone(), run, stimulus };
        let is_wanted = outcome.is_ok();
        match outcome {
            Ok(meta) => {
                self.put_in_memory(&key, meta, took);
                self.send(SchedulerMessage::TaskFinished { task, meta, took });
            }
            Err(failure) => {
                // Dependents that the scheduler has not freed yet may get the result from another worker.
                self.refetch(&key, None);
                self.send(SchedulerMessage::TaskErred { task, failure, took });
            }
        }
        self.release_inputs(&inputs);
        is_wanted
    }

    /// Records that an attempt doesn't occupy its thread any more.
    pub(crate) fn attempt_exited(&mut self, attempt: u64) {
        // The engine dropped the task, for example because the worker shuts down.
        if self.attempts.get(&attempt).is_some_and(|attempt| attempt.is_wanted) {
            let text = "the task was dropped before it finished".to_owned();
            let failure = TaskFailure { class: "RuntimeError", text };
            let took = StartStop { start: 0.0, stop: 0.0 };
            let _ = self.attempt_finished(attempt, Err(failure), took);
        }
        let Some(Attempt { key, resources, .. }) = self.attempts.remove(&attempt) else {
            return;
        };
        // Only now, since a cancelled attempt uses its resources until it exits.
        self.ready.release(&resources);
        let Some(state) = self.tasks.get_mut(&key) else { return };
        if state.cancelled == Some(attempt) {
            state.cancelled = None;
            // The key was ordered again, and waited for this attempt as for an input.
            if state.task.is_some() {
                self.dependency_arrived(&key);
            }
            self.purge(&key);
        }
    }

    /// `executing` to `waiting`: the attempt couldn't start, since these inputs can't be read. They're fetched again.
    pub(crate) fn inputs_lost(&mut self, attempt: u64, work: Rust, lost: &[WireKey]) {
        let sizes: Vec<_> = lost.iter().map(|input| self.release_lost(input)).collect();
        let size_of = |input: &WireKey| {
            let at = lost.iter().position(|lost| lost == input);
            at.map_or(0, |at| sizes[at])
        };
        let running = self.attempts.get_mut(&attempt).filter(|attempt| attempt.is_wanted);
        let Some(running) = running else { return self.attempt_exited(attempt) };
        running.is_wanted = false;
        // The task continues without this attempt, whose exit below must not be reported as a failure.
        let (key, resources) = (running.key.clone(), running.resources.clone());
        let Some(task) = self.task_mut(&key) else { unreachable!("a wanted attempt has a task") };
        task.resources = resources;
        let (inputs, sequence) = (task.inputs.clone(), task.rank.sequence);
        let mut missing = 0;
        for input in inputs {
            let state = self.tasks.entry(input.clone()).or_default();
            if state.result.is_none() {
                missing += 1;
                state.waiters.push((key.clone(), sequence));
                if state.task.is_none() {
                    self.gather.want(&input, &[], size_of(&input), false);
                }
            }
        }
        self.counts.waiting += 1;
        if let Some(task) = self.task_mut(&key) {
            task.phase = Phase::Waiting(missing, work);
        }
        self.attempt_exited(attempt);
        // Another input may have come back in the meantime.
        if missing == 0 {
            self.make_ready(&key);
        }
    }

    /// Records that a stored result can't be read any more.
    pub(crate) fn result_lost(&mut self, key: &WireKey) {
        self.release_lost(key);
    }

    /// Drops a result that can't be read and reports that. Returns its size, 0 if it wasn't stored.
    fn release_lost(&mut self, key: &WireKey) -> u64 {
        let size = self.drop_result(key);
        if size.is_some() {
            self.send(SchedulerMessage::ReleaseWorkerData(key.clone()));
            self.refetch(key, size);
            self.purge(key);
        }
        size.unwrap_or(0)
    }

    /// Any state to `memory`. Notifies the waiters.
    fn put_in_memory(&mut self, key: &WireKey, meta: ResultMeta, took: StartStop) {
        let state = self.tasks.entry(key.clone()).or_default();
        if state.result.replace(InMemory { meta, took }).is_none() {
            self.counts.memory += 1;
        }
        for (waiter, sequence) in std::mem::take(&mut state.waiters) {
            // The waiter may have been cancelled, or ordered again, since it was added.
            if self.task(&waiter).is_some_and(|task| task.rank.sequence == sequence) {
                self.dependency_arrived(&waiter);
            }
        }
    }

    /// Counts down what a `waiting` task waits for.
    fn dependency_arrived(&mut self, key: &WireKey) {
        if let Some(Phase::Waiting(missing, _)) = self.task_mut(key).map(|task| &mut task.phase) {
            *missing -= 1;
            if *missing == 0 {
                self.make_ready(key);
            }
        }
    }

    /// Drops a result. Returns its size if it was stored.
    pub(super) fn drop_result(&mut self, key: &WireKey) -> Option<u64> {
        let result = self.tasks.get_mut(key)?.result.take()?;
        // The store is not part of this state machine, so that it can be tested without values.
        self.counts.memory -= 1;
        self.instructions.push(Instruction::DropResult(key.clone()));
        Some(result.meta.nbytes)
    }

    /// Fetches a key from another worker if tasks here still take it and it's neither stored nor computed here. The
    /// scheduler mostly frees those tasks as well, soon after.
    pub(super) fn refetch(&mut self, key: &WireKey, size: Option<u64>) {
        let Some(state) = self.tasks.get(key) else { return };
        if state.dependents == 0 || state.result.is_some() || state.task.is_some() {
            return;
        }
        let is_waiting = |(waiter, sequence): &(WireKey, u64)| {
            self.task(waiter).is_some_and(|task| task.rank.sequence == *sequence)
        };
        let mut is_needed = state.waiters.iter().any(is_waiting);
        // Sequence numbers are unique, and cheaper to compare than keys.
        let waiting: HashSet<u64> = state.waiters.iter().map(|(_, sequence)| *sequence).collect();
        // The dependents that already had the result. No index leads to them: this is rare enough for a scan.
        let had: Vec<_> = self
            .tasks
            .iter()
            .filter_map(|(dependent, state)| Some((dependent, state.task.as_ref()?)))
            .filter(|(_, task)| {
                !matches!(task.phase, Phase::Executing(_))
                    && !waiting.contains(&task.rank.sequence)
                    && task.inputs.contains(key)
            })
            .map(|(dependent, task)| (dependent.clone(), task.rank.sequence))
            .collect();
        for (dependent, sequence) in had {
            is_needed = true;
            let task = self.tasks.get_mut(&dependent).and_then(|state| state.task.as_mut());
            match task.map(|task| (&mut task.phase, &task.rank, &task.resources)) {
                Some((Phase::Waiting(missing, _), ..)) => *missing += 1,
                Some((phase @ Phase::Ready(_), rank, resources)) => {
                    self.ready.remove(rank, resources);
                    if let Phase::Ready(work) = phase {
                        *phase = Phase::Waiting(1, std::mem::take(work));
                    }
                    self.counts.waiting += 1;
                }
                _ => {}
            }
            self.tasks.entry(key.clone()).or_default().waiters.push((dependent, sequence));
        }
        if is_needed {
            self.gather.want(key, &[], size.unwrap_or(0), false);
        }
    }

    /// Ends a task's use of its inputs. Those that no task takes any more aren't fetched on.
    fn release_inputs(&mut self, inputs: &[WireKey]) {
        for input in inputs {
            let Some(state) = self.tasks.get_mut(input) else { continue };
            state.dependents -= 1;
            if state.dependents == 0 {
                state.waiters.clear();
                self.cancel_fetch(input, false);
                self.purge(input);
            }
        }
    }

    /// Stops fetching a key, see [`Gather::unwant`].
    pub(super) fn cancel_fetch(&mut self, key: &WireKey, even_replica: bool) {
        let request = self.gather.unwant(key, even_replica);
        self.instructions.extend(request.map(Instruction::CancelGather));
    }

    /// Forgets a key that isn't in any state.
    pub(super) fn purge(&mut self, key: &WireKey) {
        if self.tasks.get(key).is_some_and(TaskState::is_unused) {
            self.tasks.remove(key);
        }
    }

    /// Cancels a task; with `only_unstarted`, one that isn't `executing`. Returns the state that the key was in.
    pub(super) fn cancel_task(&mut self, key: &WireKey, only_unstarted: bool) -> Option<Stolen> {
        let state = self.tasks.get_mut(key)?;
        let Some(task) = &state.task else {
            return state.result.map(|_| Stolen::Memory);
        };
        let was = match task.phase {
            Phase::Waiting(..) => {
                self.counts.waiting -= 1;
                Stolen::Waiting
            }
            Phase::Ready(_) => {
                self.ready.remove(&task.rank, &task.resources);
                Stolen::Ready
            }
            Phase::Executing(_) if only_unstarted => return Some(Stolen::Executing),
            Phase::Executing(attempt) => {
                // The engine drops the task at its next await; a blocking function runs until it returns.
                state.cancelled = Some(attempt);
                if let Some(running) = self.attempts.get_mut(&attempt) {
                    running.is_wanted = false;
                }
                self.instructions.push(Instruction::CancelExecute(attempt));
                Stolen::Executing
            }
        };
        let inputs = state.task.take().map(|task| task.inputs).unwrap_or_default();
        self.release_inputs(&inputs);
        Some(was)
    }

    /// Sets whether too much memory is in use to start anything.
    pub(crate) fn set_memory_full(&mut self, is_full: bool) {
        self.is_memory_full = is_full;
    }

    /// Reports to the scheduler that this worker is paused, or running again. A worker that is closing reports
    /// neither: that would make the scheduler send it tasks.
    pub(crate) fn set_paused(&mut self, is_paused: bool) {
        let (from, to) = if is_paused { ("running", "paused") } else { ("paused", "running") };
        if self.status == from {
            self.set_status(to.to_owned(), "memory".to_owned());
        }
    }

    pub(super) fn set_status(&mut self, status: String, stimulus: String) {
        self.status.clone_from(&status);
        self.send(SchedulerMessage::StatusChange { status, stimulus });
    }

    /// Records that a request has delivered a result. Returns whether the result is wanted; if so, the caller must
    /// store it before it does anything else.
    #[must_use]
    pub(crate) fn data_received(
        &mut self,
        request: u64,
        key: &WireKey,
        meta: ResultMeta,
        at: f64,
    ) -> bool {
        let is_wanted = self.gather.received(request, key);
        if is_wanted {
            self.put_in_memory(key, meta, StartStop { start: at, stop: at });
            // Keys of one request are reported in one message.
            match self.instructions.last_mut() {
                Some(Instruction::SendMessage(SchedulerMessage::AddKeys(keys))) => {
                    keys.push(key.clone());
                }
                _ => self.send(SchedulerMessage::AddKeys(vec![key.clone()])),
            }
        }
        is_wanted
    }

    /// Ends a request.
    pub(crate) fn gather_finished(
        &mut self,
        request: u64,
        outcome: GatherDepOutcome,
        now: Instant,
    ) {
        self.gather.finished(request, outcome, now);
    }

    /// Stores a result that a client or another worker has sent, in place of anything that is known of the key. A
    /// task that would compute it is reported as finished: the scheduler waits for it.
    pub(crate) fn update_data(&mut self, key: &WireKey, meta: ResultMeta, at: f64) {
        // Copied before the task is cancelled, which drops it.
        let task = self.task(key).map(|task| TaskRun {
            key: key.clone(),
            run: task.run,
            stimulus: task.stimulus.clone(),
        });
        self.cancel_task(key, false);
        self.cancel_fetch(key, true);
        let took = StartStop { start: at, stop: at };
        self.put_in_memory(key, meta, took);
        if let Some(task) = task {
            self.send(SchedulerMessage::TaskFinished { task, meta, took });
        }
    }

    /// Drops results at the request of a client or another worker. A task of the same key that the scheduler has
    /// ordered since is still computed: the scheduler waits for it.
    pub(crate) fn drop_results(&mut self, keys: &[WireKey]) {
        for key in keys {
            let size = self.drop_result(key);
            if size.is_some() {
                self.refetch(key, size);
                self.purge(key);
            }
        }
    }

    pub(super) fn send(&mut self, message: SchedulerMessage) {
        self.instructions.push(Instruction::SendMessage(message));
    }
}
