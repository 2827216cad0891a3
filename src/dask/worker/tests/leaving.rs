//! How workers end, and how they do not begin.

use super::*;

#[test]
fn a_worker_leaves_when_it_is_told_to() {
    let scheduler = Scheduler::start(Mood::Kind);
    let (running, mut stream) = join(&scheduler, worker());
    stream.order(&[
        ("op", &"worker-status-change"),
        ("status", &"closing_gracefully"),
        ("stimulus_id", &"s"),
    ]);
    let change = stream.report("worker-status-change");
    assert_eq!(change.text("status"), Some("closing_gracefully"));
    // Nothing begins any more.
    stream.compute(&Order::new("inc-1", INC).args([1]));
    assert!(stream.rest(Duration::from_millis(100)).is_empty());
    stream.order(&[("op", &"close"), ("reason", &"a test")]);
    block_on(running.ended()).unwrap();
    block_on(running.ended()).unwrap();
    drop(running);
    stream.ended();

    let (running, mut stream) = join(&scheduler, worker());
    let terminate = call::request("terminate", &[("reason", &"a test")]);
    assert_eq!(ask(running.address(), terminate).as_str(), Some("OK"));
    block_on(running.ended()).unwrap();
    drop(running);
    stream.ended();
}

#[test]
fn a_worker_that_wants_to_leave_is_retired() {
    let scheduler = Scheduler::start(Mood::Kind);
    let (running, stream) = join(&scheduler, worker());
    let leave = thread::spawn(move || block_on(running.leave()));
    let call = scheduler.called("retire_workers");
    assert_eq!(call.get("workers").unwrap().texts(), [stream.address()]);
    stream.order(&[("op", &"close"), ("reason", &"retired")]);
    leave.join().unwrap().unwrap();
}

/// As when another worker goes in this moment, which was to take results. They're still to be moved.
#[test]
fn a_worker_that_was_not_retired_at_once_asks_again() {
    let scheduler = Scheduler::start(Mood::Stumbling);
    let (running, stream) = join(&scheduler, worker());
    let leave = thread::spawn(move || block_on(running.leave()));
    for _ in 0..2 {
        let call = scheduler.called("retire_workers");
        assert_eq!(call.get("workers").unwrap().texts(), [stream.address()]);
    }
    stream.order(&[("op", &"close"), ("reason", &"retired")]);
    leave.join().unwrap().unwrap();
}

/// A heartbeat isn't on the stream, and may be answered before it's read that the worker is to leave.
#[test]
fn one_that_is_to_leave_may_be_forgotten_before_it_hears_it() {
    let scheduler = Scheduler::start(Mood::Forgetful);
    let (running, stream) = join(&scheduler, worker());
    scheduler.called("heartbeat_worker");
    std::thread::sleep(Duration::from_millis(100));
    stream.order(&[("op", &"close"), ("reason", &"retired")]);
    block_on(running.ended()).unwrap();
}

#[test]
fn a_worker_of_which_a_part_breaks_ends_and_says_why() {
    /// It panics again when it's dropped.
    struct Twice;
    impl Drop for Twice {
        fn drop(&mut self) {
            panic!("and again");
        }
    }
    let scheduler = Scheduler::start(Mood::Kind);
    let text: fn() = || panic!("oh no");
    let odd: fn() = || std::panic::panic_any(Twice);
    for (break_it, why) in [(text, "oh no"), (odd, "a panic without a message")] {
        let (mut running, mut stream) = join(&scheduler, worker());
        stream.compute(&Order::new("forever-1", FOREVER).args([5001]));
        eventually("starting", || super::tests::running().contains(&5001));
        running.add(async move {
            futures_lite::future::yield_now().await;
            break_it();
        });
        let error = block_on(within(running.ended())).unwrap_err();
        assert_eq!(error.to_string(), format!("the worker has a defect, and ends: {why}"));
        assert!(!(error.is_refused() || error.is_forgotten() || error.is_scheduler_gone()));
        eventually("dropping", || !super::tests::running().contains(&5001));
        drop(running);
        stream.ended();
    }
}

#[test]
fn a_scheduler_that_clings_is_left_without_a_word() {
    let scheduler = Scheduler::start(Mood::Clinging);
    let (running, mut stream) = join(&scheduler, worker());
    stream.compute(&Order::new("forever-1", FOREVER).args([3001]));
    eventually("starting", || super::tests::running().contains(&3001));
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
    eventually("dropping", || !super::tests::running().contains(&3001));
}

#[test]
fn schedulers_that_go_or_do_not_want_a_worker_are_named() {
    let mut scheduler = Scheduler::start(Mood::Kind);
    let (running, stream) = join(&scheduler, worker());
    let begin = Instant::now();
    scheduler.die();
    drop(stream);
    let error = block_on(running.ended()).unwrap_err();
    assert!(error.is_scheduler_gone() && begin.elapsed() < Duration::from_secs(5), "{error}");
    assert!(error.to_string().contains(&scheduler.address), "{error}");
    let error = block_on(worker().start(&scheduler.address)).unwrap_err();
    assert!(error.to_string().contains("can't connect"), "{error}");

    let scheduler = Scheduler::start(Mood::Refuses);
    let error = block_on(worker().name("w").start(&scheduler.address)).unwrap_err();
    assert!(error.is_refused() && error.to_string().contains("name taken, w"), "{error}");

    let scheduler = Scheduler::start(Mood::Forgetful);
    let error = block_on(worker().handle_signals(false).run(&scheduler.address)).unwrap_err();
    assert!(error.is_forgotten(), "{error}");

    let error = block_on(worker().start("nowhere")).unwrap_err();
    assert!(error.to_string().contains("`nowhere` isn't an address"), "{error}");
}

#[test]
fn a_scheduler_that_says_nothing_is_not_waited_for() {
    let scheduler = Scheduler::start(Mood::Silent);
    let begin = Instant::now();
    let error = block_on(worker().patience(Duration::from_millis(300)).start(&scheduler.address));
    let error = error.unwrap_err();
    assert!(error.is_refused() && begin.elapsed() < Duration::from_secs(5), "{error}");
    assert!(error.to_string().contains("another one may be known by that address"), "{error}");
}

#[test]
fn joining_can_be_given_up() {
    let scheduler = Scheduler::start(Mood::Silent);
    let address = scheduler.address.clone();
    let begin = Instant::now();
    let start = async { worker().start(&address).await.is_ok() };
    let late = async {
        async_io::Timer::after(Duration::from_millis(200)).await;
        false
    };
    assert!(!block_on(futures_lite::future::or(start, late)));
    assert!(begin.elapsed() < Duration::from_secs(5));
}
