//! Tests of a remote task in each state that its fetch task can be in.

use super::*;

/// Counts the wakes of its wakers.
#[derive(Clone, Default)]
struct Counted(Arc<Wakes>);

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Counted {
    fn waker(&self) -> Waker {
        self.0.clone().into()
    }

    fn count(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }
}

/// The state of the fetch task.
#[derive(Clone, Copy, Debug, PartialEq)]
enum FetchState {
    /// Not created; the remote task hasn't ended.
    NotCreated,
    /// Waits for the remote task to end.
    Waiting,
    /// Not created, although the remote task has ended.
    NotCreatedEnded,
    Running,
    Failed,
    /// Dropped while it ran.
    Abandoned,
    Done,
    /// Dropped after it was done.
    Dropped,
}

const FETCH_STATES: [FetchState; 8] = {
    use FetchState::*;
    [NotCreated, Waiting, NotCreatedEnded, Running, Failed, Abandoned, Done, Dropped]
};

/// A remote task, and the references that keep its fetch task in its state.
struct Scene {
    client: Client,
    remote: Arc<FakeRemote>,
    handle: Handle<String>,
    kept: Vec<Box<dyn Any>>,
    fetch: FetchState,
}

impl Scene {
    fn new(fetch: FetchState) -> Self {
        let client = client();
        let (remote, handle) = remote_task(&client, &[]);
        let mut kept: Vec<Box<dyn Any>> = Vec::new();
        let mut wanted = handle.get_ref();
        if fetch == FetchState::Waiting {
            assert!(block_on(poll_once(&mut wanted)).is_none());
        } else if fetch != FetchState::NotCreated {
            remote.end(Ok(()));
            until(|| handle.is_finished());
        }
        match fetch {
            FetchState::NotCreated | FetchState::NotCreatedEnded => drop(wanted),
            FetchState::Waiting => kept.push(Box::new(wanted)),
            FetchState::Running | FetchState::Abandoned => {
                remote.set_slow(true);
                assert!(block_on(poll_once(&mut wanted)).is_none());
                until(|| remote.fetched() == 1);
                match fetch {
                    FetchState::Running => kept.push(Box::new(wanted)),
                    _ => drop(wanted),
                }
            }
            FetchState::Failed => {
                remote.broken.store(1, Ordering::SeqCst);
                let local = client.submit(async |text: String| text, &handle);
                assert!(local.result().is_err() && block_on(wanted).is_ok());
                kept.push(Box::new(local));
            }
            FetchState::Done => kept.push(Box::new(block_on(wanted).unwrap())),
            FetchState::Dropped => drop(block_on(wanted).unwrap()),
        }
        Self { client, remote, handle, kept, fetch }
    }

    fn has_ended(&self) -> bool {
        !matches!(self.fetch, FetchState::NotCreated | FetchState::Waiting)
    }

    fn end(&self) {
        self.remote.set_slow(false);
        self.remote.end(Ok(()));
    }

    /// Drops all references, and checks that nothing is left.
    fn finish(self) {
        let Self { client, remote, handle, kept, .. } = self;
        drop((handle, kept));
        until(|| client.tasks_in_memory() == 0);
        assert_eq!(Arc::strong_count(&remote), 1);
    }
}

fn in_all_states(act: impl Fn(&mut Scene) + Send + 'static) {
    bounded(move || {
        for fetch in FETCH_STATES {
            println!("{fetch:?}");
            let mut scene = Scene::new(fetch);
            act(&mut scene);
            scene.finish();
        }
    });
}

#[test]
fn it_can_be_dropped_in_all_states() {
    in_all_states(|_| {});
    // The handle first, the fetch task last.
    in_all_states(|scene| {
        let (_, other) = remote_task(&scene.client, &[]);
        drop(std::mem::replace(&mut scene.handle, other));
    });
}

#[test]
fn it_can_be_cancelled_until_it_has_ended_in_all_states() {
    in_all_states(|scene| {
        assert_eq!(scene.handle.cancel(), !scene.has_ended());
        scene.end();
        match scene.handle.result() {
            Ok(value) => assert!(scene.has_ended() && value == "value"),
            Err(error) => assert!(error.is_cancelled() && !scene.has_ended()),
        }
    });
}

#[test]
fn only_a_failed_one_is_retried_in_all_states() {
    in_all_states(|scene| {
        assert!(!scene.handle.retry());
        scene.end();
        assert_eq!(scene.handle.result().unwrap(), "value");
        assert_eq!(scene.remote.again.load(Ordering::SeqCst), 0);
    });
    bounded(|| {
        for fetch in [FetchState::NotCreated, FetchState::Waiting] {
            let scene = Scene::new(fetch);
            let local = scene.client.submit(async |text: String| text, &scene.handle);
            let mut before = scene.handle.clone();
            assert!(block_on(poll_once(&mut before)).is_none());
            scene.remote.end(Err(Error::failed(scene.handle.key(), "broken")));
            assert!(local.result().is_err());
            assert!(scene.handle.retry());
            scene.end();
            until(|| scene.handle.is_finished());
            // One await began before the failure, one begins now, and one dependent has failed and is retried.
            assert_eq!(block_on(before).unwrap(), "value");
            assert_eq!(scene.handle.result().unwrap(), "value");
            assert!(local.retry());
            assert_eq!(local.result().unwrap(), "value");
            drop(local);
            scene.finish();
        }
    });
}

#[test]
fn new_dependents_and_awaits_get_the_value_in_all_states() {
    in_all_states(|scene| {
        let local = scene.client.submit(async |text: String| text + "!", &scene.handle);
        let (mut one, mut two) = (scene.handle.clone(), scene.handle.get_ref());
        let (first, again) = (Counted::default(), Counted::default());
        let mut poll = |counted: &Counted| {
            let waker = counted.waker();
            let mut cx = std::task::Context::from_waker(&waker);
            (Pin::new(&mut one).poll(&mut cx), Pin::new(&mut two).poll(&mut cx))
        };
        // Only the waker of the last poll is woken, if that was registered before the end.
        let (_, (one_now, two_now)) = (poll(&first), poll(&again));
        let is_replaced = one_now.is_pending() && two_now.is_pending();
        let before = first.count();
        scene.end();
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < Duration::from_secs(20));
            if let (Poll::Ready(one), Poll::Ready(two)) = poll(&again) {
                assert_eq!((one.unwrap().as_str(), two.unwrap().as_str()), ("value", "value"));
                break;
            }
            thread::yield_now();
        }
        assert!(!is_replaced || first.count() == before);
        assert_eq!(local.result().unwrap(), "value!");
    });
}

#[test]
fn the_client_can_be_closed_and_dropped_in_all_states() {
    bounded(|| {
        for (fetch, drops) in FETCH_STATES.iter().flat_map(|at| [(*at, false), (*at, true)]) {
            println!("{fetch:?}, {drops}");
            let scene = Scene::new(fetch);
            if !drops {
                scene.end();
                block_on(scene.client.close());
            }
            let Scene { client, remote, handle, kept, .. } = scene;
            drop(client);
            // A value that was fetched is still in memory; no other one will be.
            match handle.result() {
                Ok(value) => assert_eq!(value, "value"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
            }
            assert!(block_on(poll_once(handle.get_ref())).is_some());
            drop((handle, kept));
            until(|| Arc::strong_count(&remote) == 1);
        }
    });
}

#[test]
fn awaits_failures_retries_and_drops_from_several_threads() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        for round in 0..300 {
            let (remote, handle) = remote_task(&client, &[]);
            remote.broken.store(round % 3, Ordering::SeqCst);
            let is_known = |error: Error| assert_eq!(error.kind(), ErrorKind::Failed);
            thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..20 {
                        drop(block_on(poll_once(handle.get_ref())));
                        drop(block_on(poll_once(&mut handle.clone())));
                        drop(handle.try_get());
                    }
                });
                scope.spawn(|| {
                    let local = client.submit(async |text: String| text, &handle);
                    let _ = local.result().map_err(is_known);
                    local.retry();
                    let _ = local.result().map_err(is_known);
                });
                scope.spawn(|| {
                    let mut all = as_completed([&handle, &handle]).with_results();
                    while let Some((_, result)) = block_on(all.next()) {
                        let _ = result.map_err(is_known);
                    }
                });
                remote.end(Err(Error::failed("remote", "broken")));
                // A retry clears the outcome, so it's set again until a success remains.
                while handle.status() != Status::Finished {
                    handle.retry();
                    remote.end(Ok(()));
                    thread::yield_now();
                }
            });
            until(|| handle.result().map_err(is_known).is_ok());
            drop(handle);
            until(|| client.tasks_in_memory() == 0);
            assert_eq!(Arc::strong_count(&remote), 1);
        }
    });
}
