//! The target `clients`: two clients whose tasks use each other's values, and which are closed independently.
//! Results are compared with the facts that the tasks themselves have recorded.

use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use ensue::{AsCompleted, Client, ErrorKind, Handle, Ref, Worker};
use futures::Stream as _;

use super::clients_record::{Alive, Shared, Task, Value};
use super::combine::yield_now;
use super::tally::Id;

const MAX_TASKS: usize = 16;
/// The steps of each worker after which every task must have ended.
const MAX_STEPS: usize = 400;

#[derive(Clone, Copy, Debug)]
enum Step {
    Yield,
    /// In virtual seconds.
    Sleep(u8),
    Await(Id),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Value,
    Error,
    Panic,
}

#[derive(Clone, Debug)]
enum Op {
    Submit {
        client: usize,
        inputs: Vec<Id>,
        by_ref: bool,
        steps: Vec<Step>,
        end: End,
    },
    /// Submits the sum of other sums plus one: numbers, whose values are copied between the clients.
    Sum(usize, Vec<Id>),
    Step(usize),
    Drive(usize),
    DropWorker(usize),
    Cancel(Id),
    Drop(Id),
    /// Begins an await from outside.
    Await(Id),
    Poll(u8),
    Add(Id),
    Next,
    Idle(usize),
    Close(usize),
    DropClient(usize),
}

fn id(u: &mut Unstructured<'_>) -> Result<Id> {
    u.int_in_range(0..=MAX_TASKS - 1)
}

fn op(u: &mut Unstructured<'_>) -> Result<Op> {
    let client = u.int_in_range(0..=1)?;
    Ok(match u.int_in_range(0..=35)? {
        0..=11 => Op::Submit {
            client,
            inputs: (0..u.int_in_range(0..=3)?).map(|_| id(u)).collect::<Result<_>>()?,
            by_ref: u.arbitrary()?,
            steps: (0..u.int_in_range(0..=3)?)
                .map(|_| {
                    Ok(match u.int_in_range(0..=4)? {
                        0 => Step::Yield,
                        1 => Step::Sleep(u.int_in_range(0..=3)?),
                        _ => Step::Await(id(u)?),
                    })
                })
                .collect::<Result<_>>()?,
            end: *u.choose(&[End::Value, End::Value, End::Value, End::Error, End::Panic])?,
        },
        12..=17 => Op::Step(client),
        18 => Op::Drive(client),
        19 => Op::DropWorker(client),
        20 => Op::Cancel(id(u)?),
        21..=22 => Op::Drop(id(u)?),
        23..=24 => Op::Await(id(u)?),
        25..=26 => Op::Poll(u.arbitrary()?),
        27 => Op::Add(id(u)?),
        28 => Op::Next,
        29 => Op::Idle(client),
        30 => Op::Close(client),
        31 => Op::DropClient(client),
        _ => Op::Sum(client, (0..u.int_in_range(0..=3)?).map(|_| id(u)).collect::<Result<_>>()?),
    })
}

/// Runs the steps of a task, and records them.
async fn body(
    alive: Alive,
    inputs: Vec<Id>,
    slots: Slots,
    steps: Vec<Step>,
    end: End,
) -> std::result::Result<Value, &'static str> {
    let (id, record) = (alive.0, alive.1.clone());
    {
        let mut record = record.lock();
        assert_eq!(inputs, record.tasks[id].inputs, "the inputs of t{id}");
        for input in inputs {
            assert_eq!(record.tasks[input].ended, Some(End::Value), "t{input} before t{id}");
        }
        record.tasks[id].runs += 1;
        assert_eq!(record.tasks[id].runs, 1, "t{id} runs again");
    }
    for step in steps {
        match step {
            Step::Yield => yield_now().await,
            Step::Sleep(seconds) => ensue::sleep(Duration::from_secs(seconds.into())).await,
            Step::Await(other) => await_one(&record, &slots, id, other).await,
        }
        assert!(!record.lock().tasks[id].cancelled, "t{id} was resumed after it was cancelled");
    }
    record.lock().tasks[id].ended = Some(end);
    match end {
        End::Value => Ok(Value::new(id, &record)),
        End::Error => Err("planned"),
        End::Panic => resume_unwind(Box::new("planned")),
    }
}

async fn await_one(record: &Shared, slots: &Slots, id: Id, other: Id) {
    let Some(mut handle) = slots.get(other) else { return };
    let mut in_cycle = false;
    let result = poll_fn(|cx| {
        // Of the tasks of a cycle, one is refused once all of them wait.
        in_cycle |= record.lock().waits(other, id);
        // A task ended by the close of its client may keep its function, so it seems to wait.
        let unsure = record.lock().closed.contains(&true);
        record.lock().tasks[id].awaits = Some(other);
        let polled = Pin::new(&mut handle).poll(cx);
        let refused = match &polled {
            Poll::Ready(Err(error)) => {
                error.kind() == ErrorKind::Cycle && *error.origin() == *record.lock().tasks[id].name
            }
            _ => false,
        };
        assert!(!refused || in_cycle || unsure, "t{id} awaits t{other}, which is no cycle");
        polled
    })
    .await;
    record.lock().tasks[id].awaits = None;
    if let Ok(value) = result {
        assert_eq!(value.of, other);
    }
}

/// The handles, shared with the tasks.
#[derive(Clone, Default)]
struct Slots(Arc<Mutex<Vec<Option<Handle<Value>>>>>);

impl Slots {
    fn get(&self, id: Id) -> Option<Handle<Value>> {
        self.0.lock().unwrap().get(id)?.clone()
    }

    fn take(&self, id: Id) -> Option<Handle<Value>> {
        self.0.lock().unwrap().get_mut(id)?.take()
    }

    fn all(&self) -> Vec<(Id, Handle<Value>)> {
        let slots = self.0.lock().unwrap();
        slots.iter().enumerate().filter_map(|(id, slot)| Some((id, slot.clone()?))).collect()
    }
}

struct Run {
    clients: [Option<Client>; 2],
    workers: [Option<Pin<Box<Worker>>>; 2],
    slots: Slots,
    record: Shared,
    /// Handles of sums, with the expected results.
    sums: Vec<(Handle<u64>, u64)>,
    awaiting: Vec<(Id, ensue::GetRef<Value>)>,
    arriving: AsCompleted<Value>,
    added: usize,
}

/// Runs the plan.
///
/// # Panics
///
/// If a result contradicts the record.
pub(crate) fn run(data: &[u8]) {
    let u = &mut Unstructured::new(data);
    let Ok(seed) = u.arbitrary::<u16>() else { return };
    let mut ops = Vec::new();
    while let (false, true) = (u.is_empty(), ops.len() < 60) {
        let Ok(op) = op(u) else { break };
        ops.push(op);
    }
    let plan = Rc::new((seed, ops));
    super::run_state::print_when_panicking(plan.clone(), || {
        let client = |n: u64| Client::builder().seed(u64::from(seed) + n).workers(0).build();
        let mut run = Run {
            clients: [Some(client(0)), Some(client(1))],
            workers: [None, None],
            slots: Slots::default(),
            record: Shared::default(),
            sums: Vec::new(),
            awaiting: Vec::new(),
            arriving: AsCompleted::new(),
            added: 0,
        };
        for op in &plan.1 {
            run.op(op);
            run.check();
        }
        run.end();
    });
}

fn noop_context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Run {
    fn op(&mut self, op: &Op) {
        match op {
            Op::Submit { client, inputs, by_ref, steps, end } => {
                self.submit(*client, inputs, *by_ref, steps, *end);
            }
            Op::Sum(client, inputs) => {
                let Some(of) = self.clients[*client].as_ref() else { return };
                let inputs = inputs.iter().filter_map(|at| self.sums.get(*at));
                let (handles, numbers): (Vec<_>, Vec<_>) = inputs.cloned().unzip();
                let sum = of.submit(async |all: Vec<u64>| all.iter().sum::<u64>() + 1, handles);
                self.sums.push((sum, numbers.iter().sum::<u64>() + 1));
            }
            Op::Step(client) => self.step(*client),
            Op::Drive(client) => (0..MAX_STEPS / 8).for_each(|_| self.step(*client)),
            Op::DropWorker(client) => self.workers[*client] = None,
            Op::Cancel(id) => {
                let Some(handle) = self.slots.get(*id) else { return };
                let open = !handle.is_finished();
                assert_eq!(handle.cancel(), open, "`cancel` of t{id}");
                let task = &mut self.record.lock().tasks[*id];
                task.cancelled |= open;
                assert!(!open || task.alive == 0, "t{id} was cancelled and is still in memory");
            }
            Op::Drop(id) => drop(self.slots.take(*id)),
            Op::Await(id) => {
                let handle = self.slots.get(*id);
                self.awaiting.extend(handle.map(|handle| (*id, handle.get_ref())));
            }
            Op::Poll(which) => {
                if self.awaiting.is_empty() {
                    return;
                }
                let at = usize::from(*which) % self.awaiting.len();
                let (id, await_one) = &mut self.awaiting[at];
                if let Poll::Ready(result) = Pin::new(await_one).poll(&mut noop_context()) {
                    self.record.lock().check(*id, &result);
                    drop(self.awaiting.remove(at));
                }
            }
            Op::Add(id) => {
                let Some(handle) = self.slots.get(*id) else { return };
                self.arriving.add(handle);
                self.added += 1;
            }
            Op::Next => self.next(),
            Op::Idle(client) => {
                let idle = self.clients[*client].as_ref().map(Client::idle);
                if let Some(idle) = idle {
                    let _ = pin!(idle).poll(&mut noop_context());
                }
            }
            Op::Close(client) => {
                let Some(close) = self.clients[*client].as_ref().map(Client::close) else { return };
                self.record.lock().closed[*client] = true;
                let _ = pin!(close).poll(&mut noop_context());
            }
            Op::DropClient(client) => {
                self.record.lock().closed[*client] |= self.clients[*client].is_some();
                self.clients[*client] = None;
            }
        }
    }

    fn submit(&self, client: usize, inputs: &[Id], by_ref: bool, steps: &[Step], end: End) {
        let id = self.record.lock().tasks.len();
        let Some(of) = self.clients[client].as_ref().filter(|_| id < MAX_TASKS) else { return };
        let handles = inputs.iter().filter_map(|id| Some((*id, self.slots.get(*id)?)));
        let (inputs, handles): (Vec<_>, Vec<_>) = handles.unzip();
        let task = Task { client, inputs, ..Task::default() };
        self.record.lock().tasks.push(task);
        let alive = Alive::new(id, &self.record);
        let (slots, steps) = (self.slots.clone(), steps.to_vec());
        let handle = if by_ref {
            let code = move |inputs: Vec<Ref<Value>>| {
                body(alive, inputs.iter().map(|value| value.of).collect(), slots, steps, end)
            };
            of.try_submit(code, handles)
        } else {
            let code = move |inputs: Vec<Value>| {
                body(alive, inputs.iter().map(|value| value.of).collect(), slots, steps, end)
            };
            of.try_submit(code, handles)
        };
        self.record.lock().tasks[id].name = handle.key().to_string();
        self.slots.0.lock().unwrap().push(Some(handle));
    }

    fn step(&mut self, client: usize) {
        if let (None, Some(of)) = (&self.workers[client], &self.clients[client]) {
            self.workers[client] = Some(Box::pin(of.worker()));
        }
        let Some(worker) = &mut self.workers[client] else { return };
        if worker.as_mut().poll(&mut noop_context()).is_ready() {
            assert!(self.record.lock().closed[client], "a worker of an open client exited");
            self.workers[client] = None;
        }
    }

    fn next(&mut self) {
        match Pin::new(&mut self.arriving).poll_next(&mut noop_context()) {
            Poll::Ready(Some(handle)) => {
                assert!(handle.is_finished());
                self.added -= 1;
            }
            Poll::Ready(None) => assert_eq!(self.added, 0, "the stream ended early"),
            Poll::Pending => assert!(self.added > 0, "an empty stream is pending"),
        }
        assert_eq!(self.arriving.len(), self.added);
    }

    fn check(&self) {
        for (id, handle) in self.slots.all() {
            if handle.is_finished() {
                self.record.lock().check(id, &futures::executor::block_on(handle.get_ref()));
            }
        }
    }

    fn end(mut self) {
        for _ in 0..MAX_STEPS {
            self.step(0);
            self.step(1);
        }
        self.check();
        for (id, handle) in self.slots.all() {
            assert!(handle.is_finished(), "t{id} has not ended");
        }
        for (sum, expected) in std::mem::take(&mut self.sums) {
            match sum.try_get().expect("a sum has ended") {
                Ok(sum) => assert_eq!(sum, expected),
                Err(error) => {
                    let closed = self.record.lock().closed.contains(&true);
                    assert!(closed && error.kind() == ErrorKind::Closed, "a sum gave {error:?}");
                }
            }
        }
        (0..=self.added).for_each(|_| self.next());
        self.awaiting.clear();
        // Taken out before they're dropped, since tasks lock the slots.
        let handles = std::mem::take(&mut *self.slots.0.lock().unwrap());
        drop(handles);
        self.step(0);
        self.step(1);
        for client in self.clients.iter().flatten() {
            assert_eq!(client.tasks_in_memory(), 0, "tasks held at the end");
        }
        self.workers = [None, None];
        self.clients = [None, None];
        let record = self.record.lock();
        assert_eq!(record.values, 0, "values left at the end");
        assert!(record.tasks.iter().all(|task| task.alive == 0), "left at the end: {record:?}");
    }
}
