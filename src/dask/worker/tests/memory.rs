//! Results in files, and results that are dropped.

use super::*;

#[test]
fn results_are_spilled_and_read_back() {
    let scheduler = FakeScheduler::start(Behaviour::Normal);
    let folder = tempfile::tempdir().unwrap();
    let limited = worker().memory_limit(10_000_000).local_directory(folder.path());
    let (running, mut stream) = join(&scheduler, limited);
    let keys: Vec<_> = (0..20).map(|number| format!("zeros-{number}")).collect();
    for key in &keys {
        stream.compute(&TaskOrder::new(key, ZEROS).args([1_000_000]));
    }
    let mut left: HashSet<_> = keys.iter().map(String::as_str).collect();
    while !left.is_empty() {
        let report = stream.report("task-finished");
        left.remove(report.text("key").unwrap());
    }
    let held = || running.core().lock().store.sizes();
    eventually("spilling", || held().memory < 7_000_000);
    assert!(held().spilled > 13_000_000 && held().disk > 13_000_000, "{:?}", held());
    for key in &keys {
        let value = fetch(running.address(), key).unwrap();
        assert_eq!(value.content(), Ok(Content::Bytes(vec![vec![0; 1_000_000].into()])));
        let inputs = [(key.as_str(), running.address())];
        let next = format!("length-{key}");
        stream.compute(&TaskOrder::new(&next, LENGTH).input(&inputs));
        stream.finished(&next);
    }
    // A result whose file was removed is lost, and reported to the scheduler.
    eventually("spilling", || held().memory < 8_000_000);
    let own = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    for file in std::fs::read_dir(&own).unwrap() {
        // The worker may be removing the file of a result that was read back.
        match std::fs::remove_file(file.unwrap().path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }
    let lost: Vec<_> = keys.iter().filter(|key| fetch(running.address(), key).is_none()).collect();
    assert!(!lost.is_empty());
    for _ in &lost {
        stream.report("release-worker-data");
    }
    drop(running);
    assert!(!own.exists());
}

#[test]
fn heartbeats_are_sent_while_a_result_takes_long_to_drop() {
    /// As a large result, or one in a file on a slow disk.
    struct Slow(Vec<u8>);
    impl AsRef<[u8]> for Slow {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    static MAY_BE_DROPPED: AtomicBool = AtomicBool::new(false);
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    impl Drop for Slow {
        fn drop(&mut self) {
            let begin = Instant::now();
            while !MAY_BE_DROPPED.load(Ordering::Relaxed) && begin.elapsed() < scheduler::PATIENCE {
                thread::sleep(Duration::from_millis(5));
            }
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    let scheduler = FakeScheduler::start(Behaviour::Normal);
    let (running, stream) = join(&scheduler, worker());
    running.core().update(|inner| {
        for key in ["slow-1", "slow-2"] {
            let value = Serialized::bytes(Bytes::from_owner(Slow(vec![0; 2 << 20])));
            inner.state.update_data(&key.into(), ResultMeta::of(&value), 0.0);
            inner.store_result(key.into(), value);
        }
    });
    stream.about("free-keys", &["slow-1", "slow-2"]);
    eventually("freeing", || running.core().lock().store.sizes().memory == 0);
    scheduler.forget_calls();
    for _ in 0..5 {
        scheduler.called("heartbeat_worker");
    }
    assert_eq!(call_worker(running.address(), call::ping()), Value::Bin("pong".into()));
    assert_eq!(DROPPED.load(Ordering::Relaxed), 0);
    MAY_BE_DROPPED.store(true, Ordering::Relaxed);
    eventually("dropping", || DROPPED.load(Ordering::Relaxed) == 2);
}

#[test]
fn the_spill_folder_is_created_on_demand_and_removed_with_the_worker() {
    let within = tempfile::tempdir().unwrap();
    let folders = || std::fs::read_dir(within.path()).unwrap().count();
    let scheduler = FakeScheduler::start(Behaviour::Normal);
    let spilling = || {
        let limited = worker().memory_limit(10_000_000).local_directory(within.path());
        let (running, mut stream) = join(&scheduler, limited);
        stream.compute(&TaskOrder::new("inc-1", INC).args([1]));
        stream.finished("inc-1");
        assert_eq!(folders(), 0);
        for number in 0..10 {
            let key = format!("zeros-{number}");
            stream.compute(&TaskOrder::new(&key, ZEROS).args([1_000_000]));
            stream.finished(&key);
        }
        eventually("spilling", || running.core().lock().store.sizes().disk > 2_000_000);
        assert_eq!(folders(), 1);
        (running, stream)
    };
    // It's removed before the end is reported, though `running` still exists.
    let (running, stream) = spilling();
    stream.order(&[("op", &"close"), ("reason", &"a test")]);
    block_on(running.ended()).unwrap();
    assert_eq!(folders(), 0);
    let (running, stream) = spilling();
    thread::scope(|scope| {
        let leave = scope.spawn(|| block_on(running.leave()));
        scheduler.called("retire_workers");
        stream.order(&[("op", &"close"), ("reason", &"retired")]);
        leave.join().unwrap().unwrap();
    });
    assert_eq!(folders(), 0);
    let (running, _stream) = spilling();
    drop(running);
    assert_eq!(folders(), 0);
}
