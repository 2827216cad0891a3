//! The execution of the state machine's [`Instruction`]s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::{GatherCommand, Inner, WorkerCore};
use super::execute;
use crate::dask::wire::pack::Batch;
use crate::dask::wire::worker::order::Order;
use crate::dask::wire::worker::report::{self, Run};
use crate::dask::worker::state::{Execute, Instruction, ResultMeta, SchedulerMessage, TaskRun};

/// The stimulus of messages that no message of the scheduler has caused.
const STIMULUS: &str = "worker";
/// When answers to heartbeats are overdue for this time, this process was suspended or cut off.
const SUSPENDED: Duration = Duration::from_secs(5);

impl WorkerCore {
    /// Applies an event to the state machine, and carries out the instructions that follow from it.
    pub(crate) fn update<T>(self: &Arc<Self>, event: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let result = event(&mut inner);
        let memory = inner.store.sizes().memory;
        let is_full = inner.is_pressed || memory > self.limits.pause;
        inner.state.set_memory_full(is_full);
        for instruction in inner.state.instructions(Instant::now()) {
            self.carry_out(&mut inner, instruction);
        }
        let timeout = inner.state.next_timeout();
        let is_earlier =
            timeout.is_some() && (inner.next_timeout.is_none() || timeout < inner.next_timeout);
        inner.next_timeout = timeout;
        let has_messages = !inner.batched_send.is_empty();
        let values = std::mem::take(&mut inner.dropped_values);
        let handles = std::mem::take(&mut inner.dropped_handles);
        drop(inner);
        if has_messages {
            self.has_messages.notify(1);
        }
        if is_earlier {
            self.timeout_changed.notify(1);
        }
        if memory > self.limits.spill {
            self.memory_exceeded.notify(1);
        }
        values.into_iter().for_each(|value| self.disposal.push(value));
        // Last, since a task that is dropped calls this function again.
        drop(handles);
        result
    }

    /// Handles messages of the scheduler.
    pub(super) fn handle_orders(self: &Arc<Self>, orders: Vec<Order>) {
        self.update(|inner| {
            orders.into_iter().for_each(|order| inner.state.handle_order(order));
        });
    }

    fn carry_out(self: &Arc<Self>, inner: &mut Inner, instruction: Instruction) {
        match instruction {
            Instruction::Execute(task) => self.execute(inner, task),
            Instruction::CancelExecute(attempt) => inner.drop_handle(attempt),
            Instruction::DropResult(key) => {
                let value = inner.store.remove(&key);
                inner.discard(value);
            }
            // The receiver is dropped only when the worker ends.
            Instruction::GatherDep(gather) => {
                drop(self.gather_commands.try_send(GatherCommand::Start(gather)));
            }
            Instruction::CancelGather(request) => {
                drop(self.gather_commands.try_send(GatherCommand::Cancel(request)));
            }
            Instruction::SendMessage(message) => pack(&mut inner.batched_send, message),
            Instruction::Close(reason) => {
                let address = &self.identity.address;
                log::info!("{address}: closing at the scheduler's request: {reason}");
                // The scheduler sends the same message to a worker that it has removed for lack of heartbeats. That
                // one ends with an error, so that a supervisor starts it again.
                let is_removed = self.silence() > SUSPENDED && inner.state.status() == "running";
                self.close(if is_removed { Err(self.forgotten()) } else { Ok(()) });
            }
        }
    }

    fn execute(self: &Arc<Self>, inner: &mut Inner, task: Execute) {
        // The worker is shutting down.
        let Some(engine) = &inner.engine else { return };
        let inputs = task.work.inputs.iter().map(|key| match inner.store.get(key) {
            Some(value) => value,
            None => unreachable!("the inputs of a task that starts are in the store"),
        });
        let inputs = inputs.collect();
        let attempt = task.attempt;
        let handle = engine.spawn(execute::run(self.clone(), task, inputs));
        inner.handles.insert(attempt, handle);
    }
}

fn pack(batch: &mut Batch, message: SchedulerMessage) {
    fn run(task: &TaskRun) -> Run<'_> {
        Run { key: &task.key, run: task.run, stimulus: &task.stimulus }
    }
    match message {
        SchedulerMessage::TaskFinished { task, meta, took } => {
            let ResultMeta { nbytes, is_partial } = meta;
            report::finished(batch, &run(&task), nbytes, is_partial, took);
        }
        SchedulerMessage::TaskErred { task, failure, took } => {
            report::erred(batch, &run(&task), failure.class, &failure.text, took);
        }
        SchedulerMessage::AddKeys(keys) => report::has(batch, &keys, STIMULUS),
        SchedulerMessage::ReleaseWorkerData(key) => report::released(batch, &key, STIMULUS),
        SchedulerMessage::StealResponse { key, state, stimulus } => {
            report::stolen(batch, &key, state, &stimulus);
        }
        SchedulerMessage::RequestRefreshWhoHas(keys) => {
            report::refresh_who_has(batch, &keys, STIMULUS);
        }
        SchedulerMessage::StatusChange { status, stimulus } => {
            report::status(batch, &status, &stimulus);
        }
    }
}
