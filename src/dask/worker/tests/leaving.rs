//! The end of workers, and workers that cannot join.

use super::scheduler::PATIENCE;
use super::*;

#[test]
fn a_worker_closes_when_it_is_asked_to() {
    let scheduler = FakeScheduler::start(Behaviour::Normal);
    let (running, mut stream) = join(&scheduler, worker());
    stream.order(&[
        ("op", &"worker-status-change"),
        ("status", &"closing_gracefully"),
        ("stimulus_id", &"s"),
    ]);
    let change = stream.report("worker-status-change");
    assert_eq!(change.text("status"), Some("closing_gracefully"));
    // No task starts any more.
    stream.compute(&TaskOrder::new("inc-1", INC).args([1]));
    assert!(stream.rest(Duration::from_millis(100)).is_empty());
    stream.order(&[("op", &"close"), ("reason", &"a test")]);
    block_on(running.ended()).unwrap();
    block_on(running.ended()).unwrap();
    drop(running);
    stream.ended();

    let (running, mut stream) = join(&scheduler, worker());
    let terminate = call::request("terminate", &[("reason", &"a test")]);
    assert_eq!(call_worker(running.address(), terminate).as_str(), Some("OK"));
    block_on(running.ended()).unwrap();
    drop(running);
    stream.ended();
}

#[test]
fn a_worker_that_leaves_is_retired() {
    let scheduler = FakeScheduler::start(Behaviour::Normal);
    let (running, stream) = join(&scheduler, worker());
    let leave = thread::spawn(move || block_on(running.leave()));
    let call = scheduler.called("retire_workers");
    assert_eq!(call.get("workers").unwrap().texts(), [stream.address()]);
    stream.order(&[("op", &"close"), ("reason", &"retired")]);
    leave.join().unwrap().unwrap();
}

/// As when the worker that was to take the results has left as well: they still have to be moved.
#[test]
fn retiring_is_tried_again_after_a_failure() {
    let scheduler = FakeScheduler::start(Behaviour::FailsToRetire);
    let (running, stream) = join(&scheduler, worker());
    let leave = thread::spawn(move || block_on(running.leave()));
    for _ in 0..2 {
        let call = scheduler.called("retire_workers");
        assert_eq!(call.get("workers").unwrap().texts(), [stream.address()]);
    }
    stream.order(&[("op", &"close"), ("reason", &"retired")]);
    leave.join().unwrap().unwrap();
}

/// Heartbeats have a connection of their own, so the answer to one may be read before the message to close.
#[test]
fn a_retired_worker_may_be_forgotten_before_it_is_asked_to_close() {
    let scheduler = FakeScheduler::start(Behaviour::Forgets);
    let closes_without_error = || {
        // Before the worker joins: its first heartbeat, after which it waits, may come at once.
        scheduler.forget_calls();
        let (running, stream) = join(&scheduler, worker());
        scheduler.called("heartbeat_worker");
        thread::sleep(Duration::from_millis(100));
        stream.order(&[("op", &"close"), ("reason", &"retired")]);
        block_on(running.ended()).is_ok()
    };
    // The worker waits a second for the message. On a busy machine that may be too short, but not again and again.
    assert!((0..10).any(|_| closes_without_error()));
}

#[test]
fn a_worker_ends_with_an_error_when_a_part_panics() {
    /// It panics again when it's dropped.
    struct Twice;
    impl Drop for Twice {
        fn drop(&mut self) {
            panic!("and again");
        }
    }
    let scheduler = FakeScheduler::start(Behaviour::Normal);
    let text: fn() = || panic!("oh no");
    let odd: fn() = || std::panic::panic_any(Twice);
    for (break_it, why) in [(text, "oh no"), (odd, "a panic without a message")] {
        let (mut running, mut stream) = join(&scheduler, worker());
        stream.compute(&TaskOrder::new("forever-1", FOREVER).args([5001]));
        eventually("starting", || is_running(5001));
        running.add(async move {
            futures_lite::future::yield_now().await;
            break_it();
        });
        let error = block_on(within(running.ended())).unwrap_err();
        assert_eq!(error.to_string(), format!("the worker ended because of a bug in ensue: {why}"));
        assert!(!(error.is_refused() || error.is_forgotten() || error.is_scheduler_gone()));
        eventually("dropping", || !is_running(5001));
        drop(running);
        stream.ended();
    }
}

#[test]
fn a_worker_that_is_not_retired_can_be_dropped() {
    let scheduler = FakeScheduler::start(Behaviour::NeverRetires);
    let (running, mut stream) = join(&scheduler, worker());
    stream.compute(&TaskOrder::new("forever-1", FOREVER).args([3001]));
    eventually("starting", || is_running(3001));
    let leave = async { Some(running.leave().await) };
    let told_again = async {
        while !scheduler.was_called("retire_workers") {
            async_io::Timer::after(Duration::from_millis(5)).await;
        }
        None
    };
    assert!(block_on(futures_lite::future::or(leave, told_again)).is_none());
    drop(running);
    stream.ended();
    eventually("dropping", || !is_running(3001));
}

#[test]
fn errors_name_a_scheduler_that_is_gone_or_rejects_the_worker() {
    let mut scheduler = FakeScheduler::start(Behaviour::Normal);
    let (running, stream) = join(&scheduler, worker());
    let begin = Instant::now();
    scheduler.die();
    drop(stream);
    let error = block_on(running.ended()).unwrap_err();
    assert!(error.is_scheduler_gone() && begin.elapsed() < PATIENCE, "{error}");
    assert!(error.to_string().contains(&scheduler.address), "{error}");
    let error = block_on(worker().start(&scheduler.address)).unwrap_err();
    assert!(error.to_string().contains("can't connect"), "{error}");

    let scheduler = FakeScheduler::start(Behaviour::Refuses);
    let error = block_on(worker().name("w").start(&scheduler.address)).unwrap_err();
    assert!(error.is_refused() && error.to_string().contains("name taken, w"), "{error}");

    let scheduler = FakeScheduler::start(Behaviour::Forgets);
    let error = block_on(worker().handle_signals(false).run(&scheduler.address)).unwrap_err();
    assert!(error.is_forgotten(), "{error}");

    let error = block_on(worker().start("nowhere")).unwrap_err();
    assert!(error.to_string().contains("`nowhere` isn't an address"), "{error}");
}

#[test]
fn a_registration_that_is_not_answered_times_out() {
    let scheduler = FakeScheduler::start(Behaviour::Silent);
    let begin = Instant::now();
    // Long enough for the calls before the registration, which are answered, also on a busy machine.
    let error = block_on(worker().timeout(Duration::from_secs(2)).start(&scheduler.address));
    let error = error.unwrap_err();
    assert!(error.is_refused() && begin.elapsed() < PATIENCE, "{error}");
    assert!(error.to_string().contains("another worker may be registered"), "{error}");
}

#[test]
fn joining_can_be_abandoned() {
    let scheduler = FakeScheduler::start(Behaviour::Silent);
    let address = scheduler.address.clone();
    let begin = Instant::now();
    let start = async { worker().start(&address).await.is_ok() };
    let late = async {
        async_io::Timer::after(Duration::from_millis(200)).await;
        false
    };
    assert!(!block_on(futures_lite::future::or(start, late)));
    assert!(begin.elapsed() < PATIENCE);
}
