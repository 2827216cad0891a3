//! The target `threads`: scripts on clients with real worker threads, or workers that other threads poll.
//!
//! The order of events is up to the machine, so only facts that hold in any order are checked: the outcomes of tasks, how
//! often each ran, that no thread polls one that another polls, that idleness and closing come in time, and that
//! nothing is left. Tasks await only older tasks, and bodies end, so each task ends.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use ensue::{Client, Handle, Ref, Retry, wait_all};

use super::coverage::reached;
use super::threads_body as body;
use super::threads_plan::{Ending, Op, Plan, SLOTS, Submit};
use super::threads_record::{Alive, Id, Shared, Task, Value};

const MAX_TASKS: usize = 40;
const MAX_RETRIES: usize = 20;
/// Longer than any run takes on a busy machine.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Runs the plan.
///
/// # Panics
///
/// If a fact contradicts the record, or if a run hangs.
pub(crate) fn run(data: &[u8]) {
    let Ok(plan) = Plan::decode(data) else { return };
    let plan = Arc::new(plan);
    let shared = Shared::new(plan.clone());
    let failed = run_plan(&plan, &shared).err().or_else(|| shared.lock().failure.take());
    if let Some(failure) = failed {
        panic!("{failure}\n{plan:#?}\n{:#?}", shared.lock().tasks);
    }
}

fn run_plan(plan: &Plan, shared: &Shared) -> Result<(), String> {
    let mut builder = Client::builder().workers(plan.own).limit("a", 1).on_unobserved(|_| ());
    if plan.observes {
        builder = builder.observe();
    }
    if let Some((after, op)) = plan.on_stall.clone() {
        let shared = shared.clone();
        builder = builder.on_stall(Duration::from_millis(after.into()), move |stall| {
            drop(stall.to_string());
            shared.with_client(|client| {
                reached(|| "threads called on_stall".into());
                run_op(&op, &shared, Some(client));
            });
        });
    }
    let client = builder.build();
    shared.set_client(Some(client.clone()));
    reached(|| format!("threads {:?}", plan.ending));
    reached(|| format!("threads own {} hosted {}", plan.own, plan.hosted));
    let hosts: Vec<_> = (0..plan.hosted)
        .map(|_| {
            let worker = client.worker();
            thread::spawn(move || finish("a worker", worker))
        })
        .collect();
    let users: Vec<_> = plan.threads[1..]
        .iter()
        .map(|ops| {
            let (ops, client, shared) = (ops.clone(), client.clone(), shared.clone());
            thread::spawn(move || ops.iter().for_each(|op| run_op(op, &shared, Some(&client))))
        })
        .collect();
    plan.threads[0].iter().for_each(|op| run_op(op, shared, Some(&client)));
    let join = |threads: Vec<thread::JoinHandle<()>>| {
        let joined = threads.into_iter().map(thread::JoinHandle::join);
        joined.collect::<Result<Vec<_>, _>>().map_err(|_| "a thread has panicked".to_string())
    };
    match plan.ending {
        Ending::Idle => {
            join(users)?;
            // A task that awaits `idle` itself doesn't count.
            shared.set_client(None);
            finish("idle", client.idle())
                .map_err(|what| format!("{what}: {}", explain(&client, shared)))?;
            for (id, handle) in shared.kept() {
                let ended = handle.is_finished() || plan.awaits_idle() || plan.blocks();
                shared.expect(ended, || format!("t{id} has not ended when idle"));
            }
            shared.lock().closed = true;
            finish("close", client.close())?;
        }
        Ending::Close => {
            shared.lock().closed = true;
            shared.set_client(None);
            finish("close", client.close())?;
            join(users)?;
        }
        Ending::Drop => {
            shared.lock().closed = true;
            let close = client.close();
            shared.lock().dropped = true;
            shared.set_client(None);
            drop(client);
            join(users)?;
            finish("close", close)?;
            return end(hosts, shared);
        }
    }
    drop(client);
    end(hosts, shared)
}

/// Checks the results, and that nothing is left.
fn end(hosts: Vec<thread::JoinHandle<Result<(), String>>>, shared: &Shared) -> Result<(), String> {
    for host in hosts {
        host.join().map_err(|_| "a worker has panicked")??;
    }
    // Not waited for by `close`: a task that awaits it itself.
    let start = Instant::now();
    while shared.kept().iter().any(|it| !it.1.is_finished()) && start.elapsed() < TIME_LIMIT {
        finish("the last result", wait_all(shared.kept().into_iter().map(|it| it.1)))?;
    }
    for (id, handle) in shared.kept() {
        let Some(result) = handle.try_get() else { return Err(format!("t{id} never ended")) };
        shared.check(id, result.as_ref());
        reached(|| match &result {
            Ok(_) => "threads gave Value".into(),
            Err(error) => format!("threads gave {:?}", error.kind()),
        });
        let cancelled = shared.lock().tasks[id].cancelled;
        let right = !cancelled || handle.status() == ensue::Status::Cancelled;
        shared.expect(right, || format!("t{id} was cancelled and gave {result:?}"));
    }
    shared.clear();
    let left = || {
        let record = shared.lock();
        let alive = record.tasks.iter().any(|task| task.alive != 0);
        (alive || record.values != 0 || record.callbacks != 0).then(|| format!("left: {record:#?}"))
    };
    let start = Instant::now();
    // Another thread may be about to drop the last parts.
    while left().is_some() && start.elapsed() < TIME_LIMIT {
        thread::yield_now();
    }
    left().map_or(Ok(()), Err)
}

/// Waits for the future, for a limited time.
fn finish<F: Future>(what: &str, future: F) -> Result<(), String> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    let start = Instant::now();
    while Pin::as_mut(&mut future).poll(&mut Context::from_waker(&waker)).is_pending() {
        let Some(left) = TIME_LIMIT.checked_sub(start.elapsed()) else {
            return Err(format!("{what} doesn't come"));
        };
        thread::park_timeout(left);
    }
    Ok(())
}

/// Runs an operation: in a task, a callback or a blocking function, or from outside with a client.
pub(crate) fn run_op(op: &Op, shared: &Shared, outside: Option<&Client>) {
    let current = Client::current();
    let client = outside.or(current.as_ref());
    reached(|| {
        let name = format!("{op:?}");
        let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let place = if outside.is_some() { "outside" } else { "inside" };
        format!("threads {name} {place}")
    });
    match op {
        Op::Submit(plan) => client.into_iter().for_each(|client| submit(client, shared, plan)),
        Op::Drop(slot) => shared.put(*slot, None),
        Op::Clone(from, into) => {
            if let Some(handle) = shared.get(*from) {
                shared.put(*into, Some(handle));
            }
        }
        Op::Cancel(slot) => {
            if let Some((id, handle)) = shared.get(*slot) {
                let mut record = shared.lock();
                let same = record.same(id);
                same.iter().for_each(|id| record.tasks[*id].may_be_cancelled = true);
                drop(record);
                let is_known = same.len() == 1;
                if handle.cancel() && is_known {
                    shared.lock().tasks[id].cancelled = true;
                }
            }
        }
        Op::Retry(slot) => {
            if let Some((id, handle)) = shared.get(*slot) {
                let mut record = shared.lock();
                record.retries += 1;
                // Tasks may retry each other endlessly.
                if record.retries > MAX_RETRIES {
                    return;
                }
                // Its failed inputs are retried, too.
                let last = record.same(id).into_iter().max().unwrap_or(id);
                (0..=last).for_each(|id| record.tasks[id].most_runs += 3);
                drop(record);
                handle.retry();
            }
        }
        Op::Detach(slot) => shared.take(*slot).into_iter().for_each(|(_, handle)| handle.detach()),
        Op::OnDone(slot, op) => {
            if let Some((id, handle)) = shared.get(*slot) {
                shared.lock().callbacks += 1;
                let (op, shared) = (op.clone(), shared.clone());
                handle.on_done(move |handle| {
                    // It may have been retried since it ended.
                    let right = handle.is_finished() || shared.lock().retries > 0;
                    shared.expect(right, || format!("an early callback of t{id}"));
                    shared.lock().callbacks -= 1;
                    run_op(&op, &shared, None);
                });
            }
        }
        Op::Explain(slot) => {
            if let (Some((_, handle)), Some(client)) = (shared.get(*slot), client) {
                drop((client.explain(&handle).to_string(), client.stats()));
            }
        }
        Op::Scale(workers) => {
            // The threads that poll workers don't count.
            if let (Some(client), true) = (client, shared.plan().own > 0) {
                let _ = client.scale(*workers);
            }
        }
        Op::Idle => {
            if let Some(client) = outside {
                let result = finish("idle", client.idle());
                shared.expect(result.is_ok(), || {
                    format!("`idle` doesn't come: {}", explain(client, shared))
                });
            }
        }
        Op::Result(slot) => {
            if let (Some((id, handle)), Some(client)) = (shared.get(*slot), outside) {
                let result = finish("a result", handle.get_ref());
                shared.expect(result.is_ok(), || {
                    format!("the result of t{id} doesn't come: {}", explain(client, shared))
                });
                let result = handle.try_get();
                result.iter().for_each(|result| shared.check(id, result.as_ref()));
            }
        }
    }
}

/// Says why tasks have not ended.
fn explain(client: &Client, shared: &Shared) -> String {
    let handles = shared.kept().into_iter().chain((0..SLOTS).filter_map(|slot| shared.get(slot)));
    let pending = handles.filter(|(_, handle)| !handle.is_finished());
    let one = |(id, handle)| format!("\nt{id}: {}", client.explain(&handle));
    pending.map(one).collect::<String>() + &format!("\n{} workers", client.workers())
}

fn submit(client: &Client, shared: &Shared, plan: &Submit) {
    let handles = plan.inputs.iter().filter_map(|slot| shared.get(*slot));
    let (inputs, handles): (Vec<_>, Vec<_>) = handles.unzip();
    let mut record = shared.lock();
    let id = record.tasks.len();
    if id >= MAX_TASKS {
        return;
    }
    let most_runs = 1 + plan.retries;
    let (limited, key) = (plan.limited, plan.key);
    record.tasks.push(Task { inputs, most_runs, limited, key, ..Task::default() });
    drop(record);
    let alive = Alive::new(id, shared);
    let handle = if plan.by_ref {
        with_args::<Vec<Ref<Value>>>(client, plan, alive, handles)
    } else {
        with_args::<Vec<Value>>(client, plan, alive, handles)
    };
    shared.lock().tasks[id].name = handle.key().to_string();
    if plan.kept {
        shared.keep(id, handle.clone());
    }
    shared.put(plan.into, Some((id, handle)));
}

fn with_args<A>(
    client: &Client,
    plan: &Submit,
    alive: Alive,
    inputs: Vec<Handle<Value>>,
) -> Handle<Value>
where
    A: Clone + Send + 'static,
    Vec<Handle<Value>>: ensue::Input<A>,
{
    let mut options = client.task().priority(plan.priority);
    if let Some(key) = plan.key {
        options = options.key(format!("k{key}"));
    }
    if plan.limited {
        options = options.acquire("a");
    }
    let options = options.retries(Retry::new(plan.retries).backoff(Duration::ZERO, Duration::ZERO));
    let code = plan.body;
    if plan.blocking {
        options.try_submit_blocking(move |_: A| body::block(alive.clone(), code), inputs)
    } else {
        options.try_submit(move |_: A| body::run(alive.clone(), code), inputs)
    }
}

pub(crate) fn is_limited(id: Id, shared: &Shared) -> bool {
    shared.lock().tasks[id].limited
}
