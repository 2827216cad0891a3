//! The tasks of the target `threads`.

use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use ensue::{AsCompleted, Client, ErrorKind, gather, wait_any};
use futures::future::select;
use futures::stream::StreamExt as _;

use super::combine::yield_now;
use super::coverage::reached;
use super::threads;
use super::threads_plan::{Action, Body, End, Wait};
use super::threads_record::{Alive, Id, Shared, Value};

type Part = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The future of an attempt.
pub(crate) async fn run(alive: Alive, body: usize) -> Result<Value, &'static str> {
    let (id, shared) = (alive.0, alive.1.clone());
    let body = begin(id, &shared, body);
    let limited = threads::is_limited(id, &shared);
    let mut actions: Part = {
        let shared = shared.clone();
        let actions = body.actions.clone();
        Box::pin(async move {
            for action in &actions {
                act(id, &shared, action, limited).await;
            }
        })
    };
    poll_fn(|cx| {
        let twice = std::mem::replace(&mut shared.lock().tasks[id].polled, true);
        shared.expect(!twice, || format!("t{id} was polled on two threads at once"));
        let polled = actions.as_mut().poll(cx);
        shared.lock().tasks[id].polled = false;
        polled
    })
    .await;
    drop(actions);
    end(id, &shared, body.end)
}

/// Runs the body as blocking work.
pub(crate) fn block(alive: Alive, body: usize) -> Result<Value, &'static str> {
    let (id, shared) = (alive.0, alive.1.clone());
    let body = begin(id, &shared, body);
    let limited = threads::is_limited(id, &shared);
    for action in &body.actions {
        match action {
            Action::Do(op) => threads::run_op(op, &shared, None),
            // One that holds a limit waits for no task, which may wait for the limit.
            Action::Result(slot) if !limited => {
                for (other, handle) in shared.older(&[*slot], id) {
                    shared.check(other, handle.result().as_ref());
                }
            }
            _ => {}
        }
    }
    end(id, &shared, body.end)
}

fn begin(id: Id, shared: &Shared, body: usize) -> Body {
    let mut record = shared.lock();
    let task = &mut record.tasks[id];
    task.runs += 1;
    let (runs, most) = (task.runs, task.most_runs);
    let inputs = task.inputs.clone();
    let has_value = |input: &Id| record.same(*input).iter().any(|id| record.tasks[*id].has_value);
    let unmet = inputs.into_iter().find(|input| !has_value(input));
    drop(record);
    shared.expect(runs <= most, || format!("t{id} ran {runs} times, {most} at most"));
    shared.expect(unmet.is_none(), || format!("t{id} started before t{unmet:?} ended"));
    let plan = shared.plan();
    plan.bodies[body % plan.bodies.len()].clone()
}

fn end(id: Id, shared: &Shared, end: End) -> Result<Value, &'static str> {
    let mut record = shared.lock();
    let task = &mut record.tasks[id];
    let is_last = task.runs >= task.most_runs;
    match end {
        End::LastValue if !is_last => {}
        End::Value | End::LastValue => {
            task.has_value = true;
            drop(record);
            return Ok(Value::new(id, shared));
        }
        End::Error => {}
        End::Panic => {
            task.has_panicked = true;
            drop(record);
            resume_unwind(Box::new("planned"));
        }
    }
    task.has_failed = true;
    Err("planned")
}

async fn act(id: Id, shared: &Shared, action: &Action, limited: bool) {
    match action {
        Action::Yield => yield_now().await,
        Action::Sleep(time) => sleep(*time).await,
        Action::Do(op) => threads::run_op(op, shared, None),
        Action::Result(slot) => {
            if let Some((other, handle)) = shared.get(*slot) {
                let result = handle.result();
                let refused =
                    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Blocking);
                shared.expect(refused, || format!("`result` of t{other} in a task: {result:?}"));
            }
        }
        Action::Forget(how, waits) => {
            let mut all = how.combine(parts(id, shared, waits));
            let polled = poll_fn(|cx| Poll::Ready(all.as_mut().poll(cx))).await;
            if polled.is_pending() {
                reached(|| format!("threads forgot {how:?}"));
                shared.forget(all);
            }
        }
        // A task that holds a limit waits for no task, which may wait for the limit.
        _ if limited => {}
        Action::Wait(one) => wait(id, shared, one).await,
        Action::Several(how, waits) => {
            how.combine(parts(id, shared, waits)).await;
            reached(|| format!("threads {how:?}: ready"));
        }
        // Tasks that wait for this one count as running, so it may wait only for some time.
        Action::Idle => {
            if let Some(client) = Client::current() {
                let idle = Box::pin(client.idle());
                drop(client);
                drop(select(idle, ensue::sleep(Duration::from_millis(1))).await);
            }
        }
        Action::Close => {
            if let Some(client) = Client::current() {
                shared.lock().closed = true;
                let close = Box::pin(client.close());
                drop(client);
                drop(select(close, ensue::sleep(Duration::from_millis(1))).await);
            }
        }
    }
}

fn parts(id: Id, shared: &Shared, waits: &[Wait]) -> Vec<Part> {
    let part = |one: &Wait| -> Part {
        let (one, shared) = (one.clone(), shared.clone());
        Box::pin(async move { wait(id, &shared, &one).await })
    };
    waits.iter().map(part).collect()
}

async fn wait(id: Id, shared: &Shared, one: &Wait) {
    match one {
        Wait::One(slot) => {
            for (other, handle) in shared.older(&[*slot], id) {
                let result = handle.await;
                shared.check(other, result.as_ref());
            }
        }
        Wait::Ref(slot) => {
            for (other, handle) in shared.older(&[*slot], id) {
                let by_ref = handle.get_ref();
                drop(handle);
                let result = by_ref.await;
                shared.check(other, result.as_deref());
            }
        }
        Wait::Gather(slots) => {
            let (ids, handles): (Vec<_>, Vec<_>) = shared.older(slots, id).into_iter().unzip();
            if let Ok(values) = gather(handles).await {
                let of: Vec<_> = values.iter().map(|value| value.of).collect();
                let record = shared.lock();
                let mut pairs = ids.iter().zip(&of);
                let right = pairs.all(|(id, of)| record.same(*id).contains(of));
                drop(record);
                shared.expect(right && of.len() == ids.len(), || {
                    format!("a gather of {ids:?} gave {of:?}")
                });
            }
        }
        Wait::Any(slots) => {
            let (ids, handles): (Vec<_>, Vec<_>) = shared.older(slots, id).into_iter().unzip();
            let waited = wait_any(handles).await;
            let right = ids.is_empty() || !waited.done.is_empty();
            shared.expect(right, || format!("`wait_any` of {ids:?} gave none"));
        }
        Wait::Stream(slots) => {
            let (ids, handles): (Vec<_>, Vec<_>) = shared.older(slots, id).into_iter().unzip();
            let count = handles.into_iter().collect::<AsCompleted<_>>().count().await;
            shared.expect(count == ids.len(), || format!("a stream of {ids:?} gave {count}"));
        }
        Wait::Yield => yield_now().await,
        Wait::Sleep(time) => sleep(*time).await,
    }
}

async fn sleep(milliseconds: u8) {
    ensue::sleep(Duration::from_millis(milliseconds.into())).await;
}
