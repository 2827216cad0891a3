//! A task elsewhere in each state that its bringer can be in, and what is done to it then.

use super::*;

/// Counts how often its wakers are woken.
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

/// How far the second task is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bringer {
    NotMade,
    /// For its task to end.
    Waits,
    NotMadeThoughEnded,
    Running,
    Failed,
    GivenUp,
    Done,
    Dropped,
}

const BRINGERS: [Bringer; 8] = {
    use Bringer::*;
    [NotMade, Waits, NotMadeThoughEnded, Running, Failed, GivenUp, Done, Dropped]
};

/// A task elsewhere, with who keeps its bringer as it is.
struct Scene {
    client: Client,
    far: Arc<Far>,
    handle: Handle<String>,
    kept: Vec<Box<dyn Any>>,
    fetch_task: Bringer,
}

impl Scene {
    fn new(fetch_task: Bringer) -> Self {
        let client = client();
        let (far, handle) = far(&client, &[]);
        let mut kept: Vec<Box<dyn Any>> = Vec::new();
        let mut wanted = handle.get_ref();
        if fetch_task == Bringer::Waits {
            assert!(block_on(poll_once(&mut wanted)).is_none());
        } else if fetch_task != Bringer::NotMade {
            far.end(Ok(()));
            until(|| handle.is_finished());
        }
        match fetch_task {
            Bringer::NotMade | Bringer::NotMadeThoughEnded => drop(wanted),
            Bringer::Waits => kept.push(Box::new(wanted)),
            Bringer::Running | Bringer::GivenUp => {
                far.set_slow(true);
                assert!(block_on(poll_once(&mut wanted)).is_none());
                until(|| far.fetched() == 1);
                match fetch_task {
                    Bringer::Running => kept.push(Box::new(wanted)),
                    _ => drop(wanted),
                }
            }
            Bringer::Failed => {
                far.broken.store(1, Ordering::SeqCst);
                let here = client.submit(async |text: String| text, &handle);
                assert!(here.result().is_err() && block_on(wanted).is_ok());
                kept.push(Box::new(here));
            }
            Bringer::Done => kept.push(Box::new(block_on(wanted).unwrap())),
            Bringer::Dropped => drop(block_on(wanted).unwrap()),
        }
        Self { client, far, handle, kept, fetch_task }
    }

    fn has_ended(&self) -> bool {
        !matches!(self.fetch_task, Bringer::NotMade | Bringer::Waits)
    }

    fn end(&self) {
        self.far.set_slow(false);
        self.far.end(Ok(()));
    }

    /// Nothing is left of it.
    fn leave(self) {
        let Self { client, far, handle, kept, .. } = self;
        drop((handle, kept));
        until(|| client.tasks_in_memory() == 0);
        assert_eq!(Arc::strong_count(&far), 1);
    }
}

fn in_all_states(act: impl Fn(&mut Scene) + Send + 'static) {
    bounded(move || {
        for fetch_task in BRINGERS {
            println!("{fetch_task:?}");
            let mut scene = Scene::new(fetch_task);
            act(&mut scene);
            scene.leave();
        }
    });
}

#[test]
fn it_can_be_left_in_all_states() {
    in_all_states(|_| {});
    // With the bringer last.
    in_all_states(|scene| {
        let (_, other) = far(&scene.client, &[]);
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
fn it_runs_again_only_where_it_has_failed_in_all_states() {
    in_all_states(|scene| {
        assert!(!scene.handle.retry());
        scene.end();
        assert_eq!(scene.handle.result().unwrap(), "value");
        assert_eq!(scene.far.again.load(Ordering::SeqCst), 0);
    });
    bounded(|| {
        for fetch_task in [Bringer::NotMade, Bringer::Waits] {
            let scene = Scene::new(fetch_task);
            let here = scene.client.submit(async |text: String| text, &scene.handle);
            let mut before = scene.handle.clone();
            assert!(block_on(poll_once(&mut before)).is_none());
            scene.far.end(Err(Error::failed(scene.handle.key(), "broken")));
            assert!(here.result().is_err());
            assert!(scene.handle.retry());
            scene.end();
            until(|| scene.handle.is_finished());
            // One has awaited since before, one is new, and one has seen the error and is run again.
            assert_eq!(block_on(before).unwrap(), "value");
            assert_eq!(scene.handle.result().unwrap(), "value");
            assert!(here.retry());
            assert_eq!(here.result().unwrap(), "value");
            drop(here);
            scene.leave();
        }
    });
}

#[test]
fn new_dependents_and_two_who_await_get_it_in_all_states() {
    in_all_states(|scene| {
        let here = scene.client.submit(async |text: String| text + "!", &scene.handle);
        let (mut one, mut two) = (scene.handle.clone(), scene.handle.get_ref());
        let (first, again) = (Counted::default(), Counted::default());
        let mut poll = |counted: &Counted| {
            let waker = counted.waker();
            let mut cx = std::task::Context::from_waker(&waker);
            (Pin::new(&mut one).poll(&mut cx), Pin::new(&mut two).poll(&mut cx))
        };
        // The last waker is the one that counts.
        let _ = (poll(&first), poll(&again));
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
        assert_eq!(first.count(), before);
        assert_eq!(here.result().unwrap(), "value!");
    });
}

#[test]
fn the_client_can_close_and_go_in_all_states() {
    bounded(|| {
        for (fetch_task, goes) in BRINGERS.iter().flat_map(|at| [(*at, false), (*at, true)]) {
            println!("{fetch_task:?}, {goes}");
            let scene = Scene::new(fetch_task);
            if !goes {
                scene.end();
                block_on(scene.client.close());
            }
            let Scene { client, far, handle, kept, .. } = scene;
            drop(client);
            // What is here is here, and nothing else comes.
            match handle.result() {
                Ok(value) => assert_eq!(value, "value"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
            }
            assert!(block_on(poll_once(handle.get_ref())).is_some());
            drop((handle, kept));
            until(|| Arc::strong_count(&far) == 1);
        }
    });
}

#[test]
fn awaits_failures_retries_and_drops_from_several_threads() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        for round in 0..300 {
            let (far, handle) = far(&client, &[]);
            far.broken.store(round % 3, Ordering::SeqCst);
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
                    let here = client.submit(async |text: String| text, &handle);
                    let _ = here.result().map_err(is_known);
                    here.retry();
                    let _ = here.result().map_err(is_known);
                });
                scope.spawn(|| {
                    let mut all = as_completed([&handle, &handle]).with_results();
                    while let Some((_, result)) = block_on(all.next()) {
                        let _ = result.map_err(is_known);
                    }
                });
                far.end(Err(Error::failed("far".into(), "broken")));
                // Whoever runs it again has it wait for this once more.
                while handle.status() != Status::Finished {
                    handle.retry();
                    far.end(Ok(()));
                    thread::yield_now();
                }
            });
            until(|| handle.result().map_err(is_known).is_ok());
            drop(handle);
            until(|| client.tasks_in_memory() == 0);
            assert_eq!(Arc::strong_count(&far), 1);
        }
    });
}
