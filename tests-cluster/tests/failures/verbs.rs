//! The submit methods and handles of the client, on a cluster.

use std::fs;
use std::num::ParseIntError;
use std::time::{Duration, Instant};

use ensue::dask::Failed;
use ensue::{
    Client, Engine, ErrorKind, Handle, Retry, Status, TaskOptions, as_completed, gather,
    gather_settled, progress_counts, wait_all, wait_any,
};
use ensue_tests_cluster::{Cluster, Setting, eventually, wait};
use futures::StreamExt;

use crate::functions::{add, divide, inc, read_file, slowly, total};
use crate::run::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("handles_work_as_on_an_embedded_client", handles_work_as_on_an_embedded_client),
    (
        "results_stay_on_workers_until_they_are_fetched",
        results_stay_on_workers_until_they_are_fetched,
    ),
    ("options_are_respected", options_are_respected),
    ("errors_name_their_origin", errors_name_their_origin),
    ("failed_tasks_run_again", failed_tasks_run_again),
    ("dependents_of_a_cancelled_task_are_cancelled", dependents_of_a_cancelled_task_are_cancelled),
    ("dependents_of_a_lost_result_are_lost", dependents_of_a_lost_result_are_lost),
    ("invalid_submissions_are_refused", invalid_submissions_are_refused),
    ("small_calls_are_sent_in_batches", small_calls_are_sent_in_batches),
    ("a_key_is_used_again", a_key_is_used_again),
    ("clients_end", clients_end),
];

/// The same program as on an embedded client.
async fn program(engine: &impl Engine) -> u64 {
    let xs = engine.map(inc, 0..20);
    let mut arriving = as_completed(xs);
    let mut sum = engine.ready(0u64);
    while let Some(x) = arriving.next().await {
        sum = engine.submit(add, (&sum, x));
    }
    sum.await.expect("a sum")
}

fn handles_work_as_on_an_embedded_client(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let (_a, _b) = (cluster.worker("a"), cluster.worker("b"));
    let client = cluster.client();
    assert_eq!(wait(program(&client)), wait(program(&Client::new())));

    let quick = client.submit(inc, 1);
    let slow = client.submit(slowly, (60_000, 1));
    let waited = wait(wait_any([&slow, &quick]));
    assert_eq!((waited.done, waited.pending), (vec![quick.clone()], vec![slow.clone()]));
    let waited = wait(wait_all([&slow, &quick]).timeout(Duration::from_millis(50)));
    assert_eq!(waited.pending, std::slice::from_ref(&slow));
    assert!(slow.cancel() && !slow.cancel() && !quick.cancel());
    assert!(wait(slow).expect_err("cancelled").is_cancelled());
    // Its thread is available again.
    let both = [client.submit(slowly, (1, 1)), client.submit(slowly, (1, 2))];
    assert_eq!(wait(gather(&both)).expect("values"), [1, 2]);

    let mut results = as_completed(&both).with_results();
    let mut seen = 0;
    while let Some((handle, result)) = wait(results.next()) {
        assert!(both.contains(&handle));
        seen += result.expect("a value");
    }
    assert_eq!(seen, 3);
    let counts = wait(async {
        let mut counts = progress_counts(&both);
        counts.next().await
    });
    assert_eq!(counts.expect("counts").iter().map(|counted| counted.done).sum::<usize>(), 2);
    // An embedded client takes results of a cluster as inputs.
    let here = Client::new();
    let local = here.submit(async |x: u64, xs: Vec<u64>| x + xs.len() as u64, (&both[0], &both));
    assert_eq!(wait(local).expect("a value"), 3);
    wait(client.close());
    Ok(())
}

fn results_stay_on_workers_until_they_are_fetched(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let _worker = cluster.worker("a");
    let client = cluster.client();
    let x = client.submit(inc, 1);
    wait(wait_all([&x]));
    assert!(x.is_finished() && x.status() == Status::Finished && x.try_get().is_none());
    let shared = wait(x.get_ref()).expect("a value");
    assert_eq!((*shared, x.try_get().expect("a fetched value").expect("a value")), (2, 2));
    drop(shared);
    assert_eq!(x.result().expect("a value"), 2);
    // `client.has_what` lists where it is stored. The key of a dropped handle is released.
    let key = x.key().to_string();
    let held = |key: &str| {
        let program = format!(
            "import time\n\
             end = time.time() + 20\n\
             while time.time() < end and any('{key}' in keys for keys in client.has_what().values()):\n    \
                 time.sleep(0.05)\n\
             assert not any('{key}' in keys for keys in client.has_what().values())"
        );
        cluster.python(&program)
    };
    cluster.python(&format!("assert any('{key}' in keys for keys in client.has_what().values())"));
    let y = client.submit(inc, &x);
    drop(x);
    assert_eq!(wait(y).expect("a value"), 3);
    held(&key);
    // A scattered value is a result like any other.
    let data = client.ready(vec![1u64, 2, 3]);
    assert_eq!(wait(client.submit(total, &data)).expect("a sum"), 6);
    assert_eq!(wait(&data).expect("the value"), [1, 2, 3]);
    wait(client.close());
    Ok(())
}

fn options_are_respected(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let _a = cluster.worker("a");
    let client = cluster.client();
    // The worker has one thread, so tasks run in the order of their priority.
    let first = client.submit(slowly, (500, 0));
    let low: Vec<_> = (0..5).map(|x| client.task().priority(-1).submit(slowly, (20, x))).collect();
    let high = client.task().priority(10).submit(slowly, (20, 100));
    let mut order = as_completed(low.iter().chain([&high]));
    wait(first).expect("a value");
    let ahead: Vec<_> = (0..2).map(|_| wait(order.next()).expect("one")).collect();
    assert!(ahead.contains(&high), "the urgent one is among the first to be done");

    let one = client.task().key("k").submit(inc, 1);
    let two = client.task().key("k").submit(inc, 50);
    assert_eq!(one, two);
    let other: Handle<Vec<u8>> = client.task().key("k").submit(crate::functions::blob, 3);
    assert_eq!(other.error().expect("an error").kind(), ErrorKind::KeyConflict);
    assert_eq!(wait(two).expect("a value"), 2);

    let late = client.task().timeout(Duration::from_millis(50)).submit(slowly, (60_000, 1));
    assert!(wait(late).expect_err("late").is_timeout());
    let named = client.task().name("other").submit(inc, 1);
    assert!(named.key().starts_with("other-"));

    // A resource that no worker has is waited for.
    let gpu = client.task().resource("gpu", 1.0).submit(inc, 7);
    let on_another = client.task().workers(["b"]).allow_other_workers().submit(inc, 8);
    assert_eq!(wait(on_another).expect("a value"), 9);
    assert!(!gpu.is_finished());
    let _b = cluster.worker_with("b", &["--resource", "gpu=1"]);
    assert_eq!(wait(gpu).expect("a value"), 8);
    let limited = TaskOptions::new().acquire("gpu");
    assert_eq!(wait(client.submit_with(limited, inc, 8)).expect("a value"), 9);
    wait(client.close());
    Ok(())
}

fn errors_name_their_origin(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let _worker = cluster.worker("a");
    let client = cluster.client();
    let x = client.try_submit(divide, (1, 0));
    let y = client.submit(inc, &x);
    let z = client.submit(total, vec![&y, &y]);
    for result in wait(gather_settled([&x, &y, &z])) {
        let error = result.expect_err("it failed");
        assert_eq!((error.kind(), error.origin()), (ErrorKind::Failed, &x.key()));
        let failed = error.downcast_ref::<Failed>().expect("the remote error");
        assert_eq!(failed.class(), "RuntimeError");
        assert_eq!(failed.message(), "1 can't be divided by 0");
    }
    let panicked = wait(client.submit(crate::functions::length, vec![9u8])).expect_err("a panic");
    assert!(panicked.is_panic() && panicked.to_string().contains("not as they were made"));
    // The type of the handle isn't that of the result.
    let bytes = client.submit(crate::functions::blob, 3);
    let wrong: Handle<String> = client.submit_python("operator.concat", (&bytes, &bytes));
    let _python = cluster.python_worker("python");
    let text = wait(wrong).expect_err("bytes").to_string();
    assert!(text.contains("String"), "{text}");
    wait(client.close());
    Ok(())
}

fn failed_tasks_run_again(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let _worker = cluster.worker("a");
    let client = cluster.client();
    let path = cluster.folder().join("number");
    let file = path.display().to_string();
    let x = client.try_submit(read_file, file.clone());
    let y = client.submit(inc, &x);
    assert_eq!(wait(&y).expect_err("no file").origin(), &x.key());
    fs::write(&path, "41").expect("a file");
    assert!(y.retry());
    assert_eq!((wait(&y).expect("a value"), wait(&x).expect("a value")), (42, 41));
    assert!(!y.retry(), "it has succeeded");

    fs::remove_file(&path).expect("a file");
    let backoff = Retry::new(100).backoff(Duration::from_millis(20), Duration::from_millis(100));
    let x = client.task().retries(backoff).try_submit(read_file, file.clone());
    let y = client.submit(inc, &x);
    eventually("the retry is delayed", || x.status() == Status::Delayed);
    fs::write(&path, "1").expect("a file");
    assert_eq!(wait(y).expect("a value"), 2);

    // The scheduler retries up to the given number, and not at all if the predicate refuses.
    fs::remove_file(&path).expect("a file");
    let twice = client.task().retries(2).try_submit(read_file, file.clone());
    assert_eq!(wait(twice).expect_err("no file").kind(), ErrorKind::Failed);
    let never = Retry::new(100).when(|error| !error.to_string().contains("No such file"));
    let started = Instant::now();
    let never = client.task().retries(never).try_submit(read_file, file);
    wait(never).expect_err("no file");
    assert!(started.elapsed() < Duration::from_secs(30));
    wait(client.close());
    Ok(())
}

async fn parse(text: String) -> Result<u64, ParseIntError> {
    text.parse()
}

/// Tasks that were submitted with the dependent aren't affected.
fn dependents_of_a_cancelled_task_are_cancelled(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let _worker = cluster.worker("a");
    let client = cluster.client();
    for many in [false, true] {
        let mut some = match many {
            true => client.map(slowly, (0..20u64).map(|x| (10_000, x))),
            false => vec![client.submit(slowly, (10_000, 1))],
        };
        let x = some.swap_remove(0);
        assert!(x.cancel());
        std::thread::sleep(Duration::from_millis(100));
        let (y, z) = (client.submit(inc, &x), client.submit(inc, 8));
        drop(some);
        assert_eq!(wait(z).expect("a value"), 9);
        assert!(wait(y).expect_err("cancelled").is_cancelled());
    }

    // The handle of a replaced task keeps its error.
    let first = client.task().key("k").try_submit(divide, (1, 0));
    wait(&first).expect_err("it fails");
    let second = client.task().key("k").try_submit(divide, (6, 3));
    assert_eq!(wait(&second).expect("a value"), 2);
    first.retry();
    wait(first).expect_err("it fails");
    wait(client.close());
    Ok(())
}

/// The scheduler then refuses the whole graph, but only dependents of the lost result are lost.
fn dependents_of_a_lost_result_are_lost(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let _worker = cluster.worker("worker");
    let client = cluster.client();
    let (forgotten, kept) = (client.ready(1), client.ready(2));
    wait(wait_all([&client.submit(inc, &forgotten), &client.submit(inc, &kept)]));
    let forget = "
def forget(dask_scheduler):
    for name in list(dask_scheduler.clients):
        dask_scheduler.client_releases_keys(keys=['KEY'], client=name, stimulus_id='a test')

client.run_on_scheduler(forget)";
    cluster.python(&forget.replace("KEY", &forgotten.key()));
    // The first one is sent at once, and the others together, a moment later.
    let first = client.submit(inc, 0);
    let lost = client.submit(add, (&forgotten, 1));
    let fine = client.submit(inc, &kept);
    let next_lost = client.submit(add, (&fine, &lost));
    let next_fine = client.submit(add, (&fine, &first));
    assert_eq!(wait(gather([&first, &fine, &next_fine])).expect("values"), [1, 3, 4]);
    for lost in [lost, next_lost] {
        let error = wait(lost).expect_err("a lost input");
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
        assert!(error.to_string().contains("the result of one of its inputs is lost"), "{error}");
    }
    Ok(())
}

fn invalid_submissions_are_refused(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let _worker = cluster.worker("a");
    let client = cluster.client();
    let refused = |error: Option<ensue::Error>, text: &str| {
        let error = error.expect("an immediate refusal");
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains(text), "{error}");
    };
    refused(client.try_submit(parse, "7".to_owned()).error(), "verbs::parse");
    refused(client.submit(async |x: u64| x, 7).error(), "{{closure}}");
    let here = Client::new();
    let x = here.submit(async || 7u64, ());
    refused(client.submit(inc, &x).error(), "`ready`");
    let other = cluster.client();
    refused(client.submit(inc, other.submit(inc, 1)).error(), "isn't on this cluster");
    refused(client.submit_python::<u64>("no name", ()).error(), "no name");
    let late = client.task().timeout(Duration::from_secs(1));
    refused(late.submit_python::<u64>("operator.neg", 1).error(), "timeout");
    // Dependents fail with the same error.
    let x = client.try_submit(parse, "7".to_owned());
    let y = client.submit(inc, client.ready(1u64));
    assert_eq!(wait(y).expect("a value"), 2);
    assert_eq!(wait(gather([x])).expect_err("refused").kind(), ErrorKind::Refused);
    wait(client.close());
    Ok(())
}

fn small_calls_are_sent_in_batches(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let (_a, _b) = (cluster.worker("a"), cluster.worker("b"));
    let client = cluster.client();
    wait(client.wait_for_workers(2, Duration::from_secs(60))).expect("workers");
    let xs = client.map(inc, 0..2000);
    let sum = client.submit(total, &xs);
    assert_eq!(wait(gather(&xs)).expect("values"), (1..=2000).collect::<Vec<_>>());
    assert_eq!(wait(sum).expect("a sum"), (1..=2000).sum::<u64>());
    let ys = client.map(inc, &xs[..50]);
    assert_eq!(wait(gather(ys)).expect("values"), (2..=51).collect::<Vec<_>>());

    // Only the failing calls fail.
    let results = client.try_map(divide, (0..200u64).map(|x| (x, x % 50)));
    for (x, result) in (0..200).zip(wait(gather_settled(&results))) {
        assert_eq!(result.is_err(), x % 50 == 0, "{x}");
    }
    // Long calls are spread over the workers.
    let started = Instant::now();
    let slow = client.map(slowly, (0..40u64).map(|x| (50, x)));
    assert_eq!(wait(gather(slow)).expect("values"), (0..40).collect::<Vec<_>>());
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    // Cancelling or dropping one doesn't affect the others.
    let mut some = client.map(slowly, (0..40u64).map(|x| (5, x)));
    some[7].cancel();
    let rest: Vec<_> = some.drain(20..).collect();
    assert_eq!(wait(gather(rest)).expect("values"), (20..40).collect::<Vec<_>>());
    assert!(wait(some.swap_remove(7)).expect_err("cancelled").is_cancelled());

    // Their dependents are sent when the calls are placed, and the next ones after them.
    let slow = client.map(slowly, (0..64u64).map(|x| (2, x)));
    let sum = client.submit(add, (&slow[0], &slow[63]));
    let next = client.submit(inc, &sum);
    let other = client.submit(inc, 7);
    assert_eq!(wait(gather([next, other, sum])).expect("values"), [64, 8, 63]);
    wait(client.close());
    Ok(())
}

/// A key can be used again, whatever became of its task, and however late the client learns of it.
fn a_key_is_used_again(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let (_a, _b) = (cluster.worker("a"), cluster.worker("b"));
    let client = cluster.client();
    for round in 0..150u64 {
        let again = || client.task().key("again");
        // It ends at about the time of the cancellation.
        let former: Handle<u64> = match round % 3 {
            0 => again().submit(slowly, (1, 1_000)),
            1 => again().try_submit(divide, (1_000, 0)),
            _ => again().submit(inc, 1_000),
        };
        if round % 2 == 0 {
            wait(wait_all([&former]));
        } else {
            std::thread::sleep(Duration::from_micros(100 * (round % 50)));
        }
        drop(former);
        let now = again().submit(inc, round);
        let next = client.submit(inc, &now);
        assert_eq!(wait(gather([now, next])).expect("values"), [round + 1, round + 2], "{round}");
    }
    wait(client.close());
    Ok(())
}

fn clients_end(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let _worker = cluster.worker("a");
    let client = cluster.client();
    let done = client.submit(inc, 1);
    wait(wait_all([&done]));
    let running = client.submit(slowly, (60_000, 1));
    wait(client.close());
    wait(client.close());
    for handle in [running, done, client.submit(inc, 2)] {
        assert_eq!(wait(handle).expect_err("closed").kind(), ErrorKind::Closed);
    }
    let client = cluster.client();
    let running = client.submit(slowly, (60_000, 1));
    let many = client.map(inc, 0..1000);
    drop(client);
    assert_eq!(wait(running).expect_err("closed").kind(), ErrorKind::Closed);
    assert!(wait(gather_settled(many)).iter().any(Result::is_err));
    // The worker runs the next task.
    let client = cluster.client();
    assert_eq!(wait(client.submit(inc, 1)).expect("a value"), 2);
    wait(client.idle());
    wait(client.close());
    Ok(())
}
