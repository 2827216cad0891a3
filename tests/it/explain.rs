//! `Client::explain` for tasks in every state (promise 23).

use std::future::pending;
use std::sync::mpsc;
use std::time::Duration;

use ensue::{Client, Explanation, Handle, Reason, Retry, Status, as_completed, gather};
use futures::StreamExt;
use futures::executor::block_on;
use futures::stream::FuturesUnordered;
use support::hold::{Gate, hold_worker};
use support::{bounded, client_of, eventually, poll_once, run_what_is_ready};

fn seeded() -> Client {
    Client::builder().seed(3).build()
}

/// A task of this name that ends when the gate is open.
fn gated(client: &Client, name: &str, gate: &Gate) -> Handle<u64> {
    let gate = gate.clone();
    client.task().name(name).spawn(async move {
        gate.pass().await;
        7
    })
}

#[track_caller]
fn only(explanation: &Explanation) -> &Reason {
    match &*explanation.reasons {
        [reason] => reason,
        others => panic!("one reason, not {others:?}"),
    }
}

#[test]
fn an_ended_task_says_how_it_ended() {
    bounded(|| {
        let client = client_of(1);
        let fine = client.submit(async || 1, ());
        fine.result().unwrap();
        let explanation = client.explain(&fine);
        assert_eq!(explanation.status, Status::Finished);
        assert_eq!(only(&explanation), &Reason::Finished { ran: None });

        let (bad, line) = (client.try_submit(async || Err::<u64, _>("no luck"), ()), line!());
        let next = client.submit(async |x: u64| x, &bad);
        next.result().unwrap_err();
        let explanation = client.explain(&bad);
        assert_eq!(explanation.status, Status::Failed);
        let error = format!("task `{}` (tests/it/explain.rs:{line}) failed: no luck", bad.key());
        assert_eq!(only(&explanation), &Reason::Failed { error: error.clone(), origin: None });
        let origin = Some(bad.key());
        assert_eq!(only(&client.explain(&next)), &Reason::Failed { error, origin });

        let never = client.spawn(pending::<u64>());
        let after = client.submit(async |x: u64| x, &never);
        assert!(never.cancel());
        after.result().unwrap_err();
        let explanation = client.explain(&never);
        assert_eq!(explanation.status, Status::Cancelled);
        assert_eq!(only(&explanation), &Reason::Cancelled { origin: None, reason: None });
        let origin = Some(never.key());
        assert_eq!(only(&client.explain(&after)), &Reason::Cancelled { origin, reason: None });
    });
}

#[test]
fn with_recording_a_finished_task_says_how_long_it_ran() {
    bounded(|| {
        let client = Client::builder().workers(1).observe().build();
        let slow = client.submit(async || std::thread::sleep(Duration::from_millis(5)), ());
        block_on(client.idle());
        match only(&client.explain(&slow)) {
            Reason::Finished { ran: Some(ran) } => assert!(*ran >= Duration::from_millis(5)),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_waiting_task_names_its_inputs_and_their_states() {
    bounded(|| {
        let client = seeded();
        let gate = Gate::new();
        let (a, b) = (gated(&client, "a", &gate), gated(&client, "b", &gate));
        let done = client.ready(3u64);
        let sum = client.submit(async |a: u64, b: u64, c: u64| a + b + c, (&a, &b, &done));
        let last = client.submit(async |sum: u64| sum, &sum);
        run_what_is_ready(&client);

        let suspended = |task: &Handle<u64>| Reason::WaitsFor {
            task: task.key(),
            status: Status::Running,
            why: vec![Reason::Suspended],
        };
        let explanation = client.explain(&sum);
        assert_eq!(explanation.status, Status::Waiting);
        assert_eq!(explanation.reasons, [suspended(&a), suspended(&b)]);
        let why = [&a, &b].map(|task| Reason::WaitsFor {
            task: task.key(),
            status: Status::Running,
            why: Vec::new(),
        });
        let (task, why) = (sum.key(), why.to_vec());
        let waits = Reason::WaitsFor { task, status: Status::Waiting, why };
        assert_eq!(client.explain(&last).reasons, [waits]);

        // One that has ended is no reason any more.
        let gate_of_a = Gate::new();
        gate_of_a.open();
        let quick = gated(&client, "quick", &gate_of_a);
        let mixed = client.submit(async |a: u64, b: u64| a + b, (&a, &quick));
        quick.result().unwrap();
        assert_eq!(client.explain(&mixed).reasons, [suspended(&a)]);
        gate.open();
        assert_eq!(last.result().unwrap(), 17);
    });
}

#[test]
fn of_many_inputs_some_are_named_and_the_others_counted() {
    bounded(|| {
        let client = seeded();
        let gate = Gate::new();
        let tasks: Vec<_> = (0..20).map(|_| gated(&client, "one", &gate)).collect();
        let sum = client.submit(async |all: Vec<u64>| all.len(), &tasks);
        let reasons = client.explain(&sum).reasons;
        let named = reasons.iter().filter(|r| matches!(r, Reason::WaitsFor { .. })).count();
        assert_eq!(reasons.last(), Some(&Reason::More(20 - named)));
        assert!(named > 0 && reasons.len() == named + 1, "{reasons:?}");
    });
}

#[test]
fn without_workers_a_queued_task_says_so_and_its_place() {
    bounded(|| {
        let client = client_of(0);
        let tasks: Vec<_> = (0..3).map(|x| client.submit(async |x: u64| x, x)).collect();
        for (ahead, task) in tasks.iter().enumerate() {
            let explanation = client.explain(task);
            assert_eq!(explanation.status, Status::Ready);
            let queued = Reason::Queued { ahead: Some(ahead), of: 3 };
            assert_eq!(explanation.reasons, [Reason::NoWorker, queued]);
        }
        // A higher priority is queued before them, and a lower one behind.
        let first = client.task().priority(1).submit(async || (), ());
        let last = client.task().priority(-1).submit(async || (), ());
        let queued = |ahead| Reason::Queued { ahead: Some(ahead), of: 5 };
        assert_eq!(client.explain(&first).reasons[1], queued(0));
        assert_eq!(client.explain(&tasks[0]).reasons[1], queued(1));
        assert_eq!(client.explain(&last).reasons[1], queued(4));
        // One that was cancelled in the queue isn't counted.
        tasks[0].cancel();
        let queued = Reason::Queued { ahead: Some(1), of: 4 };
        assert_eq!(client.explain(&tasks[1]).reasons[1], queued);
    });
}

#[test]
fn a_queued_task_names_what_the_busy_workers_run() {
    bounded(|| {
        for observed in [false, true] {
            let client = client_of(1);
            if observed {
                client.observe();
            }
            let held = hold_worker(&client);
            let task = client.submit(async || 1, ());
            let explanation = client.explain(&task);
            assert_eq!(explanation.status, Status::Ready);
            let [Reason::WorkersBusy { workers: 1, with }, Reason::Queued { ahead, of: 1 }] =
                &*explanation.reasons
            else {
                panic!("{explanation:?}");
            };
            assert_eq!((with.len(), *ahead), (usize::from(observed), Some(0)));
            held.let_go();
            assert_eq!(task.result().unwrap(), 1);
        }
    });
}

#[test]
fn a_task_that_only_a_worker_future_could_run_which_is_not_polled_says_so() {
    bounded(|| {
        let client = client_of(0);
        let mut worker = client.worker();
        assert!(poll_once(&mut worker).is_pending());
        let task = client.task().name("task").submit(async || 1, ());
        let queued = Reason::Queued { ahead: Some(0), of: 1 };
        let not_polled = Reason::WorkersNotPolled { workers: 1 };
        assert_eq!(client.explain(&task).reasons, [not_polled, queued]);
        assert!(client.explain(&task).to_string().contains("a worker future is not being polled"));
        assert!(poll_once(&mut worker).is_pending());
        assert_eq!(task.result().unwrap(), 1);
    });
}

#[test]
fn a_task_of_a_seeded_client_that_is_not_driven_says_so() {
    let client = seeded();
    let task = client.submit(async || 1, ());
    let queued = Reason::Queued { ahead: Some(0), of: 1 };
    assert_eq!(client.explain(&task).reasons, [Reason::NotDriven, queued]);
}

#[test]
fn under_a_seed_the_tasks_of_a_higher_priority_are_ahead() {
    let client = seeded();
    let of = |priority| client.task().priority(priority).submit(async || 1, ());
    let tasks = [0, 2, 0, 1].map(of);
    let ahead = tasks.each_ref().map(|task| match client.explain(task).reasons[..] {
        [Reason::NotDriven, Reason::Queued { ahead, of: 4 }] => ahead,
        ref others => panic!("{others:?}"),
    });
    assert_eq!(ahead, [2, 0, 2, 1].map(Some));
}

#[test]
fn a_task_that_was_woken_is_in_a_queue_again() {
    bounded(|| {
        let client = client_of(0);
        let gate = Gate::new();
        let task = gated(&client, "gated", &gate);
        run_what_is_ready(&client);
        assert_eq!(only(&client.explain(&task)), &Reason::Suspended);
        gate.open();
        let explanation = client.explain(&task);
        assert_eq!(explanation.status, Status::Running);
        let queued = Reason::Queued { ahead: Some(0), of: 1 };
        assert_eq!(explanation.reasons, [Reason::NoWorker, queued]);
    });
}

#[test]
fn a_full_limit_names_its_holders() {
    bounded(|| {
        let client = Client::builder().seed(1).limit("db", 3).limit("free", 1).build();
        let gate = Gate::new();
        let take = |name: &str, n| {
            let gate = gate.clone();
            let options = client.task().name(name).acquire_many("db", n).acquire_many("free", 0);
            options.spawn(async move { gate.pass().await })
        };
        let holder = take("holder", 2);
        run_what_is_ready(&client);
        let waits = take("waits", 2);
        run_what_is_ready(&client);
        let behind = take("behind", 1);
        run_what_is_ready(&client);
        assert_eq!(only(&client.explain(&holder)), &Reason::Suspended);

        let full = |needed, ahead| Reason::LimitFull {
            name: "db".into(),
            of: 3,
            used: 2,
            needed,
            ahead,
            holders: vec![holder.key()],
        };
        let explanation = client.explain(&waits);
        assert_eq!(explanation.status, Status::Ready);
        assert_eq!(only(&explanation), &full(2, 0));
        // There is enough for this one, but it isn't its turn.
        assert_eq!(only(&client.explain(&behind)), &full(1, 1));

        let stats = client.stats();
        let db = stats.limits.iter().find(|limit| limit.name == "db").unwrap();
        assert_eq!((db.of, db.used, db.waiting), (3, 2, 2));
        gate.open();
        behind.result().unwrap();
        waits.result().unwrap();
        assert_eq!(client.stats().limits[0].used, 0);
    });
}

#[test]
fn of_several_limits_the_full_ones_are_named_first() {
    bounded(|| {
        let client = Client::builder().seed(1).limit("free", 9).limit("full", 1).build();
        let gate = Gate::new();
        let take = || {
            let gate = gate.clone();
            let options = client.task().acquire("free").acquire("full");
            options.spawn(async move { gate.pass().await })
        };
        let tasks = [(); 3].map(|()| {
            let task = take();
            run_what_is_ready(&client);
            task
        });
        let explanation = client.explain(&tasks[2]);
        let name = |reason: &Reason| match reason {
            Reason::LimitFull { name, .. } => name.clone(),
            other => panic!("{other}"),
        };
        let names: Vec<_> = explanation.reasons.iter().map(name).collect();
        assert_eq!(names, ["full", "free"]);
        gate.open();
        tasks.iter().for_each(|task| task.result().unwrap());
    });
}

#[test]
fn a_delayed_task_says_when_it_is_tried_again() {
    bounded(|| {
        let client = seeded();
        let day = Duration::from_secs(86_400);
        let task = client
            .task()
            .retries(Retry::new(3).backoff(day, day))
            .try_submit(async || Err::<(), _>("not yet"), ());
        // A seeded worker runs until time has to pass, and then advances it: stop before that.
        let waiting = client.spawn(pending::<()>());
        let mut worker = std::pin::pin!(client.worker());
        for _ in 0..100 {
            if client.explain(&task).status == Status::Delayed {
                break;
            }
            let _ = support::poll_once(&mut worker);
        }
        let explanation = client.explain(&task);
        assert_eq!(explanation.status, Status::Delayed);
        assert_eq!(only(&explanation), &Reason::RetryIn { attempt: 2, left: day });
        drop(waiting);
    });
}

#[test]
fn a_task_in_a_poll_says_on_which_worker_and_for_how_long() {
    bounded(|| {
        for observed in [false, true] {
            let client = client_of(1);
            if observed {
                client.observe();
            }
            let (busy, is_busy) = mpsc::channel();
            let (go, wait) = mpsc::channel::<()>();
            let task = client.spawn(async move {
                busy.send(()).unwrap();
                let _ = wait.recv();
            });
            is_busy.recv().unwrap();
            let explanation = client.explain(&task);
            assert_eq!(explanation.status, Status::Running);
            match (observed, only(&explanation)) {
                (false, Reason::Running { worker: Some(0), lasted: None }) => {}
                (true, Reason::Running { worker: Some(0), lasted: Some(_) }) => {}
                (_, other) => panic!("{other:?}"),
            }
            drop(go);
            task.result().unwrap();
        }
    });
}

#[test]
fn a_task_that_awaits_others_names_them() {
    bounded(|| {
        let client = seeded();
        let gate = Gate::new();
        let (a, b) = (gated(&client, "a", &gate), gated(&client, "b", &gate));
        let one = client.spawn({
            let a = a.clone();
            async move { a.await.unwrap() }
        });
        let both = client.spawn({
            let all = [a.clone(), b.clone()];
            async move { gather(all).await.unwrap() }
        });
        let either = client.spawn({
            let all = [a.clone(), b.clone()];
            async move {
                as_completed(all).next().await;
                pending::<()>().await;
            }
        });
        run_what_is_ready(&client);
        let awaits = |task: &Handle<u64>| Reason::Awaits {
            task: task.key(),
            status: Status::Running,
            why: vec![Reason::Suspended],
        };
        let explanation = client.explain(&one);
        assert_eq!(
            (explanation.status, &*explanation.reasons),
            (Status::Running, &[awaits(&a)][..])
        );
        for task in [client.explain(&both), client.explain(&either)] {
            let mut reasons = task.reasons;
            reasons.sort_by_key(ToString::to_string);
            assert_eq!(reasons, [awaits(&a), awaits(&b)]);
        }
        gate.open();
        run_what_is_ready(&client);
        assert_eq!(only(&client.explain(&either)), &Reason::Suspended);
        assert_eq!((one.result().unwrap(), both.result().unwrap().len()), (7, 2));
    });
}

/// `FuturesUnordered` polls only those of its futures that were woken.
#[test]
fn a_task_names_what_it_awaits_since_an_earlier_poll() {
    bounded(|| {
        let client = seeded();
        let (never, first) = (Gate::new(), Gate::new());
        let a = gated(&client, "a", &never);
        let b = gated(&client, "b", &first);
        let task = client.spawn({
            let all: FuturesUnordered<_> = [a.clone(), b].into_iter().collect();
            async move { all.collect::<Vec<_>>().await.len() }
        });
        run_what_is_ready(&client);
        first.open();
        run_what_is_ready(&client);
        let awaits =
            Reason::Awaits { task: a.key(), status: Status::Running, why: vec![Reason::Suspended] };
        assert_eq!(only(&client.explain(&task)), &awaits);
        never.open();
        assert_eq!(task.result().unwrap(), 2);
    });
}

#[test]
fn a_task_that_awaits_no_task_says_so() {
    bounded(|| {
        let client = seeded();
        let task = client.spawn(pending::<()>());
        run_what_is_ready(&client);
        let explanation = client.explain(&task);
        assert_eq!(explanation.status, Status::Running);
        assert_eq!(only(&explanation), &Reason::Suspended);
    });
}

#[test]
fn blocking_work_says_so() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let inner = gate.clone();
        let task = client.submit_blocking(move || inner.pass_blocking(), ());
        eventually("the task is suspended", || client.explain(&task).reasons == [Reason::Blocking]);
        gate.open();
        task.result().unwrap();
    });
}

#[test]
fn blocking_work_that_waits_for_a_task_names_it() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let awaited = gated(&client, "awaited", &gate);
        let handle = awaited.clone();
        let task = client.submit_blocking(move || handle.result().unwrap(), ());
        let awaits = Reason::Awaits {
            task: awaited.key(),
            status: Status::Running,
            why: vec![Reason::Suspended],
        };
        eventually("the closure waits", || {
            client.explain(&task).reasons == [Reason::Blocking, awaits.clone()]
        });
        gate.open();
        assert_eq!(task.result().unwrap(), 7);
    });
}

#[test]
fn a_cancelled_task_in_a_poll_says_that_it_ends() {
    bounded(|| {
        let client = client_of(1);
        let (busy, is_busy) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let task = client.spawn(async move {
            busy.send(()).unwrap();
            let _ = wait.recv();
            pending::<()>().await;
        });
        is_busy.recv().unwrap();
        assert!(task.cancel_with("enough"));
        let explanation = client.explain(&task);
        let at = explanation.submitted_at.unwrap();
        let error =
            format!("task `{}` ({}:{}) was cancelled: enough", task.key(), at.file(), at.line());
        assert_eq!(explanation.reasons[0], Reason::Ending { error });
        drop(go);
        assert!(task.result().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_task_that_outlives_the_closing_says_that_the_client_is_closed() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let task = gated(&client, "gated", &gate);
        eventually("it is suspended", || client.explain(&task).reasons == [Reason::Suspended]);
        let mut closing = std::pin::pin!(client.close());
        assert!(support::poll_once(&mut closing).is_pending());
        assert_eq!(client.explain(&task).reasons, [Reason::Closed, Reason::Suspended]);
        let refused = client.submit(async || (), ());
        assert_eq!(client.explain(&refused).status, Status::Cancelled);
        gate.open();
        block_on(closing);
        assert_eq!(client.explain(&task).status, Status::Finished);
    });
}

#[test]
fn it_reads_well_and_is_written_as_data() {
    bounded(|| {
        let client = Client::builder().seed(1).build();
        let gate = Gate::new();
        let x = gated(&client, "load", &gate);
        let (y, line) = (client.task().name("sum").submit(async |x: u64| x, &x), line!());
        run_what_is_ready(&client);
        let explanation = client.explain(&y);
        let (load, sum) = (x.key(), y.key());
        assert_eq!(
            explanation.to_string(),
            format!(
                "`{sum}` (tests/it/explain.rs:{line}) is waiting: it waits for `{load}`, which is running \
                 (it awaits something that is not a task)"
            )
        );
        let data = serde_json::to_value(&explanation).unwrap();
        assert_eq!(data["key"], *sum);
        assert_eq!(data["status"], "waiting");
        assert_eq!(data["reasons"][0]["kind"], "waits_for");
        assert_eq!(data["reasons"][0]["task"], *load);
        assert_eq!(data["reasons"][0]["why"][0]["kind"], "suspended");
    });
}
