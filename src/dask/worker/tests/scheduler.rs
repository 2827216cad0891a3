//! A fake scheduler that sends what a test wants, and records what it receives.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use async_executor::Task;
use async_io::Timer;
use futures_lite::future::{block_on, or};

use crate::dask::net::{Comm, Io, Listener, Pool};
use crate::dask::wire::frame::Outgoing;
use crate::dask::wire::pack::{Batch, FieldMap, Fields, Pack};
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::value::{Map, Value};
use crate::dask::wire::{WireKey, call, unpack};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A deviation from the behaviour of Dask's scheduler.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    Normal,
    /// Rejects registrations.
    Refuses,
    /// Doesn't answer registrations.
    Silent,
    /// Answers heartbeats as those of an unknown worker.
    Forgets,
    /// Doesn't answer requests to retire a worker.
    NeverRetires,
    /// Answers requests to retire a worker with an error.
    FailsToRetire,
}

pub(super) struct FakeScheduler {
    pub(super) address: String,
    streams: Receiver<Stream>,
    calls: Arc<Mutex<VecDeque<Map>>>,
    task: Option<Task<()>>,
    _io: Io,
}

/// The stream of a worker, from the scheduler's side.
pub(super) struct Stream {
    registration: Map,
    orders: Sender<Batch>,
    reports: Receiver<Map>,
    seen: VecDeque<Map>,
}

impl FakeScheduler {
    pub(super) fn start(behaviour: Behaviour) -> Self {
        let io = Io::start("scheduler").unwrap();
        let listener = block_on(Listener::bind("127.0.0.1", 0, None)).unwrap();
        let address = listener.address().to_string();
        let (to_test, streams) = async_channel::unbounded();
        let calls: Arc<Mutex<VecDeque<Map>>> = Arc::default();
        let known = calls.clone();
        let task = io.spawn(async move {
            let serve = move |comm| answer(comm, behaviour, to_test.clone(), known.clone());
            match listener.serve(serve).await {}
        });
        Self { address, streams, calls, task: Some(task), _io: io }
    }

    /// Waits for the next worker to register.
    pub(super) fn stream(&self) -> Stream {
        block_on(within(self.streams.recv())).unwrap()
    }

    /// Waits for the next call of this operation. Earlier calls of others are dropped.
    pub(super) fn called(&self, op: &str) -> Map {
        let start = Instant::now();
        loop {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(call) = calls.pop_front() {
                if call.text("op") == Some(op) {
                    return call;
                }
                continue;
            }
            drop(calls);
            assert!(start.elapsed() < PATIENCE, "`{op}` is never called");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Drops the calls so far.
    pub(super) fn forget_calls(&self) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns whether this operation was called.
    pub(super) fn was_called(&self, op: &str) -> bool {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().any(|call| call.text("op") == Some(op))
    }

    /// Closes all connections.
    pub(super) fn die(&mut self) {
        self.task = None;
    }
}

pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    let late = async {
        Timer::after(PATIENCE).await;
        panic!("it takes too long")
    };
    or(future, late).await
}

async fn answer(
    mut comm: Comm,
    behaviour: Behaviour,
    streams: Sender<Stream>,
    calls: Arc<Mutex<VecDeque<Map>>>,
) {
    while let Ok(Some(frames)) = comm.receive().await {
        let Ok(Value::Map(call)) = unpack::message(&frames) else { return };
        let reply = match call.text("op").unwrap_or_default() {
            "versions" => {
                let packages = FieldMap(&[("distributed", &"2026.8.0")]);
                call::answer(&[("packages", &packages)])
            }
            // As by a scheduler that forbids it.
            "run_function" => call::answer_value(&()),
            "heartbeat_worker" if behaviour == Behaviour::Forgets => {
                call::answer(&[("status", &"missing")])
            }
            "heartbeat_worker" => welcome(),
            "retire_workers" if behaviour == Behaviour::NeverRetires => {
                note(&calls, call);
                return std::future::pending().await;
            }
            "retire_workers" if behaviour == Behaviour::FailsToRetire => {
                call::failed("CommClosedError: another worker has gone")
            }
            "retire_workers" => call::answer(&[("nobody", &1u64)]),
            "register-worker" => match behaviour {
                Behaviour::Silent => std::future::pending().await,
                Behaviour::Refuses => {
                    call::answer(&[("status", &"error"), ("message", &"name taken, w")])
                }
                _ => {
                    if comm.send(welcome()).await.is_ok() {
                        stream(comm, call, streams).await;
                    }
                    return;
                }
            },
            _ => call::answer_value(&()),
        };
        note(&calls, call);
        if comm.send(reply).await.is_err() {
            return;
        }
    }
}

fn welcome() -> Outgoing {
    call::answer(&[("status", &"OK"), ("time", &0.0), ("heartbeat-interval", &0.02)])
}

fn note(calls: &Mutex<VecDeque<Map>>, call: Map) {
    calls.lock().unwrap_or_else(PoisonError::into_inner).push_back(call);
}

async fn stream(comm: Comm, registration: Map, streams: Sender<Stream>) {
    let (mut writer, mut reader) = comm.split();
    let (orders, to_send) = async_channel::unbounded::<Batch>();
    let (to_test, reports) = async_channel::unbounded();
    let stream = Stream { registration, orders, reports, seen: VecDeque::new() };
    if streams.send(stream).await.is_err() {
        return;
    }
    let send = async {
        while let Ok(batch) = to_send.recv().await {
            if writer.send(batch.finish()).await.is_err() {
                return;
            }
        }
    };
    let receive = async {
        while let Ok(Some(frames)) = reader.receive().await {
            for report in unpack::operations(&frames, Ok).unwrap() {
                let _ = to_test.send(report).await;
            }
        }
    };
    or(send, receive).await;
}

/// A task for a worker.
#[derive(Clone)]
pub(super) struct TaskOrder<'a> {
    pub(super) key: &'a str,
    pub(super) run: i64,
    pub(super) function: &'a str,
    pub(super) args: Vec<u8>,
    /// With one holder each.
    pub(super) inputs: &'a [(&'a str, &'a str)],
    pub(super) timeout: Option<f64>,
}

impl<'a> TaskOrder<'a> {
    pub(super) fn new(key: &'a str, function: &'a str) -> Self {
        Self { key, run: 1, function, args: vec![0x90], inputs: &[], timeout: None }
    }

    pub(super) fn args(self, args: impl serde::Serialize) -> Self {
        Self { args: rmp_serde::to_vec_named(&args).unwrap(), ..self }
    }

    /// Sets one argument, which is the first of these inputs.
    pub(super) fn input(self, inputs: &'a [(&'a str, &'a str)]) -> Self {
        Self { args: vec![0x91, 0xd6, 1, 0, 0, 0, 0], inputs, ..self }
    }
}

impl Stream {
    /// Returns the address at which the worker listens.
    pub(super) fn address(&self) -> &str {
        self.registration.text("address").unwrap()
    }

    pub(super) fn registration(&self) -> &Map {
        &self.registration
    }

    pub(super) fn order(&self, fields: &Fields<'_>) {
        let mut batch = Batch::new();
        batch.push(fields);
        self.orders.try_send(batch).unwrap();
    }

    pub(super) fn compute(&self, task: &TaskOrder<'_>) {
        let args = bytes::Bytes::from(task.args.clone());
        let keys: Vec<_> = task.inputs.iter().map(|(key, _)| *key).collect();
        let mut rust: Vec<(&str, &dyn Pack)> =
            vec![("fn", &task.function), ("args", &args), ("deps", &keys)];
        if let Some(timeout) = &task.timeout {
            rust.push(("timeout", timeout));
        }
        let named = FieldMap(&rust);
        let holders = |(key, holder): &(&str, &str)| {
            (Value::from(*key), Value::Array(vec![Value::from(*holder)]))
        };
        let who_has = Map(task.inputs.iter().map(holders).collect());
        let size = |(key, _): &(&str, &str)| (Value::from(*key), Value::Int(100));
        let sizes = Map(task.inputs.iter().map(size).collect());
        self.order(&[
            ("op", &"compute-task"),
            ("key", &task.key),
            ("run_id", &task.run),
            ("priority", &[0i64, 1, 0]),
            ("stimulus_id", &"a-test"),
            ("who_has", &who_has),
            ("nbytes", &sizes),
            ("run_spec", &()),
            ("resource_restrictions", &FieldMap(&[("rust", &1.0)])),
            ("actor", &false),
            ("annotations", &FieldMap(&[("rust", &named)])),
            ("span_id", &()),
        ]);
    }

    pub(super) fn about(&self, op: &str, keys: &[&str]) {
        self.order(&[("op", &op), ("keys", &keys), ("stimulus_id", &"a-test")]);
    }

    /// Waits for the next report of this operation. Others are kept for later.
    pub(super) fn report(&mut self, op: &str) -> Map {
        if let Some(at) = self.seen.iter().position(|report| report.text("op") == Some(op)) {
            return self.seen.remove(at).unwrap();
        }
        loop {
            let report = block_on(within(self.reports.recv()));
            let report = report.unwrap_or_else(|_| panic!("the stream ends before `{op}`"));
            if report.text("op") == Some(op) {
                return report;
            }
            self.seen.push_back(report);
        }
    }

    /// Waits until a task has succeeded.
    pub(super) fn finished(&mut self, key: &str) -> Map {
        loop {
            let report = self.report("task-finished");
            if report.text("key") == Some(key) {
                return report;
            }
        }
    }

    /// Waits until a task has failed. Returns the exception as text.
    pub(super) fn erred(&mut self, key: &str) -> String {
        let report = self.report("task-erred");
        assert_eq!(report.text("key"), Some(key), "{report:?}");
        crate::dask::wire::failure::exception(report.get("exception").unwrap()).to_string()
    }

    /// Returns the operations that were reported until now and, for this time, from now on.
    pub(super) fn rest(&mut self, after: Duration) -> Vec<String> {
        std::thread::sleep(after);
        while let Ok(report) = self.reports.try_recv() {
            self.seen.push_back(report);
        }
        let name = |report: Map| report.text("op").unwrap_or_default().to_owned();
        self.seen.drain(..).map(name).collect()
    }

    /// Waits until the worker has closed the stream.
    pub(super) fn ended(&mut self) {
        block_on(within(async { while self.reports.recv().await.is_ok() {} }));
    }
}

/// Requests a result from a worker.
pub(super) fn fetch(address: &str, key: &str) -> Option<Serialized> {
    let pool = Pool::new(None, PATIENCE);
    let data = block_on(async {
        let message = call::get_data(&[key], None, &call::FORMS);
        let (answer, mut lease) = pool.call_and_keep(address, message, PATIENCE).await.unwrap();
        lease.send(call::delivered()).await.unwrap();
        call::data_reply(answer).unwrap()
    });
    let call::Data::Here(mut data) = data else { panic!("{data:?}") };
    let (found, value) = data.pop()?;
    assert_eq!(found, WireKey::from(key));
    let Value::Serialized(value) = value else { panic!("{value:?}") };
    Some(*value)
}

pub(super) fn call_worker(address: &str, message: Outgoing) -> Value {
    block_on(Pool::new(None, PATIENCE).call(address, message, PATIENCE)).unwrap()
}
