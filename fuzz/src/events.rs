//! The events of tasks, compared with their outcomes.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use ensue::{Client, Events, Status};
use futures::Stream as _;

use super::model::{Id, Life, Model};
use super::ops::with_client;
use super::run_state::{RunState, expect, model, panic_point, with};

/// A waker of an event stream that calls the client and may panic.
struct ReentrantWaker;

impl Wake for ReentrantWaker {
    fn wake(self: Arc<Self>) {
        with_client(Client::current().is_some(), |client| drop(client.events()));
        panic_point("waker of events");
    }
}

/// Subscribes to the client's events, and registers a waker for the first one.
pub(crate) fn subscribe(client: &Client) -> Events {
    let mut events = client.events();
    let waker = Arc::new(ReentrantWaker).into();
    let reported = Pin::new(&mut events).poll_next(&mut Context::from_waker(&waker));
    // They end with the last task of a closed client.
    let may_end = model(|model| model.life != Life::Open);
    expect(reported.is_pending() || may_end && matches!(reported, Poll::Ready(None)), || {
        format!("{reported:?} was reported before the first operation")
    });
    events
}

/// Checks the events since the start, at the end of a run.
pub(crate) fn check() {
    let Some(mut events) = with(|state| state.events.take()) else { return };
    let mut reported = HashMap::<String, Vec<Status>>::new();
    let cx = &mut Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(event)) = Pin::new(&mut events).poll_next(cx) {
        reported.entry(event.key.to_string()).or_default().push(event.status);
    }
    let missed = events.missed();
    model(|model| model.expect(missed == 0, || format!("{missed} events were missed")));
    with(|state| {
        for id in 0..state.model.tasks.len() {
            check_task(state, id, &reported);
        }
    });
}

/// Checks the events of a task. *Free*: a key that several tasks had, and a task whose name was never seen.
fn check_task(state: &mut RunState, id: Id, reported: &HashMap<String, Vec<Status>>) {
    let model = &mut state.model;
    let Some(name) = model.names.get(id).filter(|name| !name.is_empty()).cloned() else { return };
    let shared = model.names.iter().filter(|other| **other == name).count() > 1;
    if shared || model.conflicts.contains(&name) {
        return;
    }
    let statuses = reported.get(&name).map_or(&[][..], |statuses| &statuses[..]);
    let mut before = None;
    let legal = statuses.iter().all(|status| follows(before.replace(*status), *status));
    let ends = statuses.iter().filter(|status| is_end(**status)).count();
    let task = &model.tasks[id];
    let right = match task.outcome() {
        None => ends == task.retried,
        // A task without users may have ended in another way.
        Some(_) if task.abandoned => ends == task.retried + 1,
        Some(outcome) => {
            ends == task.retried + 1
                && before.is_some_and(|status| Model::status_matches(outcome, status))
        }
    };
    let (phase, retried) = (task.phase.clone(), task.retried);
    model.expect(legal && right, || {
        format!("t{id} is {phase:?}, was retried {retried} times, and reported {statuses:?}")
    });
}

fn is_end(status: Status) -> bool {
    matches!(status, Status::Finished | Status::Failed | Status::Cancelled)
}

fn follows(before: Option<Status>, status: Status) -> bool {
    use Status::{Delayed, Failed, Ready, Running, Waiting};
    match (before, status) {
        // The submission, or a retry.
        (None | Some(Failed), Waiting | Ready) => true,
        (Some(Waiting), Ready) | (Some(Ready), Running) => true,
        // The wait for a limit, or until another attempt.
        (Some(Running), Ready | Delayed) | (Some(Delayed), Running) => true,
        (before, status) => is_end(status) && !before.is_some_and(is_end),
    }
}
