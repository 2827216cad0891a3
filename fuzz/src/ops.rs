//! The operations that are available both inside tasks and from outside.

use ensue::{Client, ErrorKind, Handle};

use super::coverage::reached;
use super::events;
use super::instrumented::Value;
use super::model::{Model, Outcome};
use super::run_state::{check_outcome, expect, model, panic_point, reentry_point, with};
use super::script::Op;
use super::stream::Stream;
use super::submit;
use super::tracked::{self, Tracked};

/// The limit of retries, since tasks may retry each other endlessly.
const MAX_RETRIES: usize = 40;

pub(crate) fn run(op: &Op, inside: bool) {
    match op {
        Op::Submit(submit) => with_client(inside, |client| submit::submit(client, submit)),
        Op::Clone(from, into) => {
            if let Some(tracked) = tracked::copy(*from) {
                tracked::put(*into, Some(tracked.clone()));
            }
        }
        Op::Drop(slot) => tracked::put(*slot, None),
        Op::Cancel(slot) => each(*slot, |tracked| {
            // The model is updated first: destructors that the engine calls report to it.
            let right = model(|model| model.cancel(tracked.id));
            if !right && with(|state| state.reentering) {
                // The engine may not have propagated the outcome to this task yet.
                return;
            }
            let cancelled = tracked.handle().cancel();
            expect(cancelled == right, || format!("`cancel` of t{} gave {cancelled}", tracked.id));
        }),
        Op::Retry(_) if model(|model| model.retries) >= MAX_RETRIES => {}
        Op::Retry(slot) => each(*slot, |tracked| {
            if with(|state| state.reentering) {
                return retry_in_hook(tracked);
            }
            let right = model(|model| model.retry(tracked.id));
            let retried = tracked.handle().retry();
            expect(retried == right, || format!("`retry` of t{} gave {retried}", tracked.id));
        }),
        Op::Detach(slot) => {
            if let Some(tracked) = tracked::take(*slot) {
                model(|model| model.detach(tracked.id));
                let (id, handle) = tracked.into_counted();
                model(|model| model.release(id));
                handle.detach();
            }
        }
        Op::OnDone(slot) => each(*slot, on_done),
        Op::Peek(slot) => each(*slot, peek),
        Op::Get(key, into) => with_client(inside, |client| get(client, *key, *into)),
        Op::StreamAdd(slot, at) => {
            if let Some(tracked) = tracked::copy(*slot) {
                let mut stream = take_stream(*at).unwrap_or_else(Stream::of_handles);
                stream.add(tracked);
                put_stream(*at, Some(stream));
            }
        }
        Op::StreamClear(at) => {
            let mut stream = take_stream(*at);
            stream.iter_mut().for_each(Stream::clear);
            put_stream(*at, stream);
        }
        Op::StreamBatch(at) => {
            let mut stream = take_stream(*at);
            stream.iter_mut().for_each(Stream::batch);
            put_stream(*at, stream);
        }
        Op::StreamDrop(at) => drop(take_stream(*at)),
        Op::StreamResults(at) => {
            let stream = take_stream(*at).map(Stream::with_results);
            put_stream(*at, stream);
        }
        Op::StreamMap(mapped) => with_client(inside, |client| {
            put_stream(mapped.at, Some(Stream::map(client, *mapped)));
        }),
        Op::Listen => {
            let mut listener = with(|state| state.listener.take());
            if listener.take().is_none() {
                with_client(inside, |client| {
                    let events = events::subscribe(client);
                    with(|state| state.listener = Some(events));
                });
            }
        }
        // Without a seed it would start threads.
        Op::Scale(_) if with(|state| state.script.seed.is_none()) => {}
        Op::Scale(workers) => with_client(inside, |client| {
            let before = client.workers();
            client.scale((*workers).into()).unwrap();
            expect(client.workers() == before, || "`scale` changed a seeded client".into());
        }),
        Op::DropClient => {
            if let Some(client) = with(|state| state.client.take()) {
                model(Model::drop_client);
                drop(client);
            }
        }
        Op::Forget(slot) => {
            if let Some(tracked) = tracked::take(*slot) {
                reached(|| "forgot a handle".into());
                with(|state| state.forgotten.push(Box::new(tracked)));
            }
        }
        Op::Look(slot) => each(*slot, look),
        Op::Find(key) => {
            with_client(inside, |client| drop(client.get::<Value>(format!("k{key}"))));
        }
        Op::Inspect(slot) => each(*slot, |tracked| {
            with_client(inside, |client| inspect(client, tracked.handle()));
        }),
        _ => unreachable!("{op:?} is executed by the program"),
    }
}

pub(crate) fn with_client(inside: bool, code: impl FnOnce(&Client)) {
    let client = if inside { Client::current() } else { with(|state| state.client.clone()) };
    if let Some(client) = client {
        code(&client);
    }
}

pub(crate) fn take_stream(at: usize) -> Option<Stream> {
    with(|state| state.streams[at].take())
}

pub(crate) fn put_stream(at: usize, stream: Option<Stream>) {
    let before = with(|state| std::mem::replace(&mut state.streams[at], stream));
    drop(before);
}

fn each(slot: usize, code: impl FnOnce(&Tracked)) {
    if let Some(tracked) = tracked::copy(slot) {
        code(&tracked);
    }
}

fn on_done(tracked: &Tracked) {
    let id = tracked.id;
    model(|model| {
        let task = &mut model.tasks[id];
        let counter = match task.outcome() {
            Some(_) => &mut task.callbacks_due,
            None => &mut task.callbacks,
        };
        *counter += 1;
    });
    tracked.handle().on_done(move |handle: &Handle<Value>| {
        let finished = handle.is_finished();
        expect(finished, || format!("a callback of t{id} was called early"));
        with(|state| state.alive(id).callbacks += 1);
        panic_point("callback");
        reentry_point("callback");
    });
}

fn peek(tracked: &Tracked) {
    let (id, handle) = (tracked.id, tracked.handle());
    let (status, finished, result) = (handle.status(), handle.is_finished(), handle.try_get());
    let error = handle.error();
    model(|model| {
        model.check_status(id, status);
        let outcome = model.tasks[id].outcome();
        let has_error = matches!(outcome, Some(Outcome::Error(..)));
        let right = finished == outcome.is_some()
            && result.is_some() == finished
            && error.is_some() == has_error;
        model.expect(right, || {
            format!("t{id} is {outcome:?}: `is_finished` {finished}, `try_get` {result:?}, `error` {error:?}")
        });
    });
    if let Some(result) = result {
        check_outcome(id, result, 0);
    }
}

/// Retries a task from a hook. *Free*: whether the engine has ended it by now. A task whose dependents the engine may
/// not have notified of the failure yet isn't retried.
fn retry_in_hook(tracked: &Tracked) {
    let id = tracked.id;
    let has_dependents =
        |model: &mut Model| model.tasks.iter().any(|task| task.plan.inputs.contains(&id));
    if model(has_dependents) {
        return;
    }
    let retried = tracked.handle().retry();
    reached(|| format!("retry in a hook: {retried}"));
    if !retried {
        return;
    }
    let right = model(|model| model.retry(id));
    expect(right, || format!("`retry` of t{id} in a hook gave true"));
}

/// Reads the state of a task, which must be consistent.
fn look(tracked: &Tracked) {
    let (id, handle) = (tracked.id, tracked.handle());
    let (status, finished, error) = (handle.status(), handle.is_finished(), handle.error());
    if error.is_some() {
        model(|model| model.tasks[id].observed = true);
    }
    let right = finished || error.is_none();
    expect(right, || format!("t{id} is {status:?}, `is_finished` {finished}, `error` {error:?}"));
}

fn inspect(client: &Client, handle: &Handle<Value>) {
    client.observe();
    let explanation = client.explain(handle).to_string();
    expect(!explanation.is_empty(), || "an explanation is empty".into());
    drop((client.stats(), client.graph(), client.timeline(handle)));
}

/// Calls `result` in a task. In the poll of a task it's refused; blocking work reads a finished result.
pub(crate) fn refused_result(slot: usize, blocking: bool) {
    each(slot, |tracked| {
        let id = tracked.id;
        let ended = model(|model| model.tasks[id].outcome().is_some());
        if blocking && ended {
            reached(|| "result in blocking work".into());
            check_outcome(id, tracked.handle().result(), 1);
        } else if !blocking {
            reached(|| format!("result refused, ended: {ended}"));
            let result = tracked.handle().result();
            let refused = result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Blocking);
            expect(refused, || format!("`result` of t{id} in a task gave {result:?}"));
        }
    });
}

/// Looks up a key with the right type and with a wrong one.
fn get(client: &Client, key: u8, into: usize) {
    let name = format!("k{key}");
    if model(|model| model.is_uncertain(&name)) {
        return;
    }
    let known = model(|model| model.get(&name));
    let found = client.get::<Value>(&name);
    let right = found.is_some() == known.is_some();
    expect(right, || format!("`get` of {name} is {found:?}, not t{known:?}"));
    if let (Some(handle), Some(id)) = (found, known) {
        model(|model: &mut Model| {
            model.add_handle(id);
            model.conflicts.push(name.clone());
        });
        let tracked = Tracked::new(id, handle);
        let wrong = client.get::<u8>(&name).and_then(|handle| handle.error());
        let is_conflict =
            wrong.as_ref().is_some_and(|error| error.kind() == ErrorKind::KeyConflict);
        expect(is_conflict, || format!("`get` of {name} with another type: {wrong:?}"));
        if model(|model| model.joinable(&name)).is_some() {
            let other = client.task().key(&*name).submit(async || 1u8, ());
            let error = other.error();
            let is_conflict =
                error.as_ref().is_some_and(|error| error.kind() == ErrorKind::KeyConflict);
            expect(is_conflict, || format!("{name} submitted with another type: {error:?}"));
        }
        tracked::put(into, Some(tracked));
    }
}
