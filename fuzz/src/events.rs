//! What the client tells of its tasks, held against how they ended.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use ensue::{Client, Events, Status};
use futures::Stream as _;

use super::model::{Id, Model};
use super::ops::with_client;
use super::run_state::{World, expect, fuse, model, with};

/// Is woken where something is told: it comes back to the client, and may panic.
struct Listening;

impl Wake for Listening {
    fn wake(self: Arc<Self>) {
        with_client(Client::current().is_some(), |client| drop(client.events()));
        fuse("waker of events");
    }
}

/// Listens to the client, and is to be woken once.
pub(crate) fn begin(client: &Client) -> Events {
    let mut events = client.events();
    let waker = Arc::new(Listening).into();
    let told = Pin::new(&mut events).poll_next(&mut Context::from_waker(&waker));
    expect(told.is_pending(), || format!("{told:?} was told before anything happened"));
    events
}

/// Takes what was told since the start, at the end of a run.
pub(crate) fn check() {
    let Some(mut events) = with(|world| world.events.take()) else { return };
    let mut told = HashMap::<String, Vec<Status>>::new();
    let poller = &mut Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(event)) = Pin::new(&mut events).poll_next(poller) {
        told.entry(event.key.to_string()).or_default().push(event.status);
    }
    let missed = events.missed();
    model(|model| model.expect(missed == 0, || format!("{missed} events were missed")));
    with(|world| {
        for id in 0..world.model.tasks.len() {
            check_task(world, id, &told);
        }
    });
}

/// *Free*: a key that several tasks had, and a task whose name was never seen.
fn check_task(world: &mut World, id: Id, told: &HashMap<String, Vec<Status>>) {
    let model = &mut world.model;
    let Some(name) = model.names.get(id).filter(|name| !name.is_empty()).cloned() else { return };
    let shared = model.names.iter().filter(|other| **other == name).count() > 1;
    if shared || model.conflicts.contains(&name) {
        return;
    }
    let statuses = told.get(&name).map_or(&[][..], |statuses| &statuses[..]);
    let mut before = None;
    let legal = statuses.iter().all(|status| follows(before.replace(*status), *status));
    let ends = statuses.iter().filter(|status| is_end(**status)).count();
    let task = &model.tasks[id];
    let right = match task.outcome() {
        None => ends == task.retried,
        // What nobody needed any more may have ended in another way.
        Some(_) if task.given_up => ends == task.retried + 1,
        Some(outcome) => {
            ends == task.retried + 1 && before.is_some_and(|status| Model::says(outcome, status))
        }
    };
    let (phase, retried) = (task.phase.clone(), task.retried);
    model.expect(legal && right, || {
        format!("t{id} is {phase:?}, was retried {retried} times, and told of as {statuses:?}")
    });
}

fn is_end(status: Status) -> bool {
    matches!(status, Status::Finished | Status::Failed | Status::Cancelled)
}

fn follows(before: Option<Status>, status: Status) -> bool {
    use Status::{Delayed, Failed, Ready, Running, Waiting};
    match (before, status) {
        // It's made, or retried.
        (None | Some(Failed), Waiting | Ready) => true,
        (Some(Waiting), Ready) | (Some(Ready), Running) => true,
        // For a limit, or until another attempt.
        (Some(Running), Ready | Delayed) | (Some(Delayed), Running) => true,
        (before, status) => is_end(status) && !before.is_some_and(is_end),
    }
}
