//! `Client::timeline`, and stall reports (promise 23).

use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ensue::{Client, Reason, Retry, Status, Timeline};
use futures::executor::block_on;
use support::hold::turns;
use support::{bounded, eventually};

fn statuses(timeline: &Timeline) -> Vec<Status> {
    timeline.phases.iter().map(|phase| phase.status).collect()
}

#[test]
fn the_phases_of_a_retried_task_are_in_order() {
    bounded(|| {
        let client = Client::builder().seed(5).observe().build();
        let delay = Duration::from_secs(3);
        let first = client.task().name("first").submit(
            async |ms| {
                ensue::sleep(Duration::from_millis(ms)).await;
                1u32
            },
            250,
        );
        let tries = Arc::new(AtomicU32::new(0));
        let task =
            client.task().name("second").retries(Retry::new(1).backoff(delay, delay)).try_submit(
                async |tries: Arc<AtomicU32>, x: u32| {
                    ensue::sleep(Duration::from_millis(500)).await;
                    if tries.fetch_add(1, Ordering::SeqCst) == 0 { Err("not yet") } else { Ok(x) }
                },
                (tries, &first),
            );
        task.result().unwrap();
        let timeline = client.timeline(&task);
        use Status::{Delayed, Finished, Ready, Running, Waiting};
        assert_eq!(statuses(&timeline), [Waiting, Ready, Running, Delayed, Running, Finished]);
        let lasted: Vec<_> = timeline.phases.iter().map(|phase| phase.lasted).collect();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(lasted, [ms(250), ms(0), ms(500), ms(3000), ms(500), None]);
        let attempts: Vec<_> = timeline.phases.iter().map(|phase| phase.attempt).collect();
        assert_eq!(attempts, [1, 1, 1, 2, 2, 2]);
        assert_eq!(timeline.phases[5].at, Duration::from_millis(4250));
        let text = timeline.to_string();
        assert!(text.contains("delayed") && text.contains("for 3.0s"), "{text}");
        let data = serde_json::to_value(&timeline).unwrap();
        assert_eq!(data["phases"][3]["status"], "delayed");
        assert_eq!(data["phases"][3]["lasted"], 3.0);
    });
}

#[test]
fn a_task_that_waits_for_a_limit_is_ready_and_an_error_is_in_the_timeline() {
    bounded(|| {
        let client = Client::builder().seed(5).limit("one", 1).observe().build();
        let hold = async |seconds| ensue::sleep(Duration::from_secs(seconds)).await;
        let tasks = client.task().acquire("one").map(hold, [10, 10]);
        let bad = client.try_submit(async || Err::<(), _>("bad"), ());
        tasks[0].result().unwrap();
        tasks[1].result().unwrap();
        bad.result().unwrap_err();
        use Status::{Failed, Finished, Ready, Running};
        let timelines = tasks.iter().map(|task| client.timeline(task));
        let waited = timelines.max_by_key(|timeline| timeline.phases.len()).unwrap();
        assert_eq!(statuses(&waited), [Ready, Running, Ready, Running, Finished]);
        assert_eq!(waited.phases[2].lasted, Some(Duration::from_secs(10)));
        let timeline = client.timeline(&bad);
        assert_eq!(statuses(&timeline), [Ready, Running, Failed]);
        assert_eq!(timeline.error, Some(format!("{:#}", bad.error().unwrap())));
    });
}

#[test]
fn a_task_from_before_has_a_timeline_from_when_recording_began() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let (go, wait) = async_channel::bounded::<()>(1);
        let task = client.spawn(async move { wait.recv().await.is_ok() });
        let done = client.submit(async || 1, ());
        done.result().unwrap();
        turns(&client);
        assert!(client.timeline(&done).phases.is_empty(), "it had ended before");
        assert_eq!(statuses(&client.timeline(&task)), [Status::Running]);
        go.send_blocking(()).unwrap();
        assert!(task.result().unwrap());
        block_on(client.idle());
        assert_eq!(statuses(&client.timeline(&task)), [Status::Running, Status::Finished]);
    });
}

#[test]
fn a_retry_by_hand_continues_the_timeline() {
    bounded(|| {
        let client = Client::builder().seed(5).observe().build();
        let bad = client.try_submit(async || Err::<(), _>("bad"), ());
        bad.result().unwrap_err();
        assert!(bad.retry());
        bad.result().unwrap_err();
        use Status::{Failed, Ready, Running};
        let timeline = client.timeline(&bad);
        assert_eq!(statuses(&timeline), [Ready, Running, Failed, Ready, Running, Failed]);
        let stats = client.stats();
        assert_eq!((stats.submitted, stats.failed, stats.left), (2, 2, 0));
    });
}

#[test]
fn of_a_long_timeline_the_beginning_and_the_end_are_kept() {
    bounded(|| {
        let client = Client::builder().seed(5).observe().build();
        let task = client.task().retries(200).try_submit(async || Err::<(), _>("bad"), ());
        task.result().unwrap_err();
        let timeline = client.timeline(&task);
        assert_eq!(timeline.phases.first().unwrap().status, Status::Ready);
        assert_eq!(timeline.phases.last().unwrap().status, Status::Failed);
        assert_eq!(timeline.phases.last().unwrap().attempt, 201);
        assert_eq!(timeline.phases.len() + timeline.left_out as usize, 1 + 2 * 201);
        assert!(timeline.phases.len() <= 100);
    });
}

#[test]
fn a_stall_is_reported_once_and_names_the_task_that_the_others_wait_for() {
    bounded(|| {
        let (report, stalls) = mpsc::channel();
        let client = Client::builder()
            .workers(2)
            .on_stall(Duration::from_millis(40), move |stall| report.send(stall.clone()).unwrap())
            .build();
        let root = client.task().name("root").spawn(pending::<u32>());
        eventually("it is suspended", || client.explain(&root).reasons == [Reason::Suspended]);
        let next = client.submit(async |x: u32| x, &root);
        // On a busy machine there may be a stall between any two steps of this.
        let with_left = |left| stalls.iter().find(|stall| stall.left == left).unwrap();
        let stall = with_left(2);
        assert!(stall.idle_for >= Duration::from_millis(40));
        let keys: Vec<_> = stall.reasons.iter().map(|reason| &reason.key).collect();
        assert_eq!(keys, [&root.key()]);
        assert_eq!(stall.reasons[0].reasons, [Reason::Suspended]);
        assert!(stall.to_string().contains("2 tasks left"), "{stall}");
        let again = stalls.recv_timeout(Duration::from_millis(200));
        assert!(again.is_err(), "reported twice: {again:?}");
        // After a task has run it is a new stall.
        client.submit(async || (), ()).result().unwrap();
        with_left(2);
        drop(next);
    });
}

#[test]
fn an_idle_or_dropped_client_reports_no_stall() {
    bounded(|| {
        let dropped = support::observe::Count::new();
        let (report, stalls) = mpsc::channel();
        let on_drop = dropped.on_drop();
        let client = Client::builder()
            .workers(1)
            .on_unobserved(move |_| {
                let _ = &on_drop;
            })
            .on_stall(Duration::from_millis(20), move |stall| report.send(stall.clone()).unwrap())
            .build();
        client.submit(async || (), ()).result().unwrap();
        block_on(client.idle());
        let start = Instant::now();
        let watched = Duration::from_millis(100);
        while let Ok(stall) = stalls.recv_timeout(watched.saturating_sub(start.elapsed())) {
            // On a busy machine the task may have waited for the worker for that long.
            assert!(stall.left > 0, "no work is left: {stall:?}");
        }
        drop(client);
        // The hook is dropped at once, not at the next check.
        eventually("the client is dropped", || dropped.get() == 1);
        assert!(stalls.iter().all(|stall| stall.left > 0));
    });
}
