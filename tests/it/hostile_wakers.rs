//! Wakers that do what a waker shouldn't (promise 10): everything that can be awaited, with each of them.
//!
//! A waker is foreign code, which the engine calls in the middle of its own work. Whatever it does there, no worker may
//! stop, no list may be corrupted, and no lock of the engine's may be held. Each case runs on a thread of its own and is
//! bounded in time, so a hang is a failure.

use std::future::{Future, poll_fn};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use ensue::{Client, ErrorKind, Handle, as_completed, gather, gather_settled, progress_counts};
use ensue::{sleep, wait_all, wait_any};
use futures::executor::block_on;
use futures::{FutureExt, Stream, StreamExt, stream};
use support::hold::Gate;
use support::observe::Count;
use support::{eventually, poll_once, run_what_is_ready, within};

/// What the waker does, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Waking {
    PanicsInWake,
    PanicsInClone,
    PanicsInDrop,
    PollsInWake,
    DropsTheFutureInWake,
    DropsTheFutureInDrop,
    SubmitsInWake,
    ClosesInWake,
    AwaitsIdleInWake,
    RetriesInWake,
    CancelsInWake,
    DropsTheTaskInWake,
}

const ALL: [Waking; 12] = [
    Waking::PanicsInWake,
    Waking::PanicsInClone,
    Waking::PanicsInDrop,
    Waking::PollsInWake,
    Waking::DropsTheFutureInWake,
    Waking::DropsTheFutureInDrop,
    Waking::SubmitsInWake,
    Waking::ClosesInWake,
    Waking::AwaitsIdleInWake,
    Waking::RetriesInWake,
    Waking::CancelsInWake,
    Waking::DropsTheTaskInWake,
];

/// What is done to a waker.
#[derive(Clone, Copy, PartialEq)]
enum Deed {
    Clone,
    Wake,
    Drop,
}

impl Waking {
    /// The moment at which it acts.
    fn at(self) -> Deed {
        match self {
            Self::PanicsInClone => Deed::Clone,
            Self::PanicsInDrop | Self::DropsTheFutureInDrop => Deed::Drop,
            _ => Deed::Wake,
        }
    }

    fn act(self, world: &Arc<World>) {
        world.acted.add();
        match self {
            // Without a message on the standard error.
            Self::PanicsInWake | Self::PanicsInClone | Self::PanicsInDrop => {
                resume_unwind(Box::new("the waker's panic"));
            }
            Self::PollsInWake => {
                let waker = ManuallyDrop::new(waker(self, world));
                let _ = world.poll(&waker);
            }
            Self::DropsTheFutureInWake | Self::DropsTheFutureInDrop => world.drop_future(),
            Self::SubmitsInWake => world.client.spawn(async {}).detach(),
            Self::ClosesInWake => {
                let _ = poll_once(&mut Box::pin(world.client.close()));
            }
            Self::AwaitsIdleInWake => {
                let _ = poll_once(&mut Box::pin(world.client.idle()));
            }
            Self::RetriesInWake => {
                world.failed.retry();
                world.with_task(|task| task.map(Handle::retry));
            }
            Self::CancelsInWake => {
                world.with_task(|task| task.map(Handle::cancel));
            }
            Self::DropsTheTaskInWake => {
                let task = world.task.lock().unwrap().take();
                drop(task);
            }
        }
    }
}

/// What a case consists of.
struct World {
    client: Client,
    gate: Gate,
    /// A task that fails once the gate is open.
    task: Mutex<Option<Handle<u64>>>,
    /// A task that has failed.
    failed: Handle<u64>,
    /// The future under test, until it resolves or is dropped.
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    /// How often the waker has acted.
    acted: Count,
}

/// Who runs the tasks: a thread of the client's, or this one while it waits.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Runs {
    OneThread,
    Seeded,
}

impl World {
    /// A client, and a task that is suspended at the gate.
    fn new(runs: Runs) -> Arc<Self> {
        let builder = match runs {
            Runs::OneThread => Client::builder().workers(1),
            Runs::Seeded => Client::builder().seed(1),
        };
        let client = builder.limit("one", 1).on_unobserved(|_| ()).build();
        let gate = Gate::new();
        let failed = client.try_submit(async || Err::<u64, _>("failed before"), ());
        failed.result().unwrap_err();
        let task = {
            let gate = gate.clone();
            let fails = async move || {
                gate.pass().await;
                Err::<u64, _>("fails")
            };
            client.task().acquire("one").try_submit(fails, ())
        };
        match runs {
            // One task later, the worker has suspended it.
            Runs::OneThread => client.submit(async || (), ()).result().unwrap(),
            Runs::Seeded => run_what_is_ready(&client),
        }
        let (future, acted) = (Mutex::new(None), Count::new());
        Arc::new(Self { client, gate, task: Mutex::new(Some(task)), failed, future, acted })
    }

    fn task(&self) -> Handle<u64> {
        self.with_task(|task| task.cloned()).expect("it wasn't dropped yet")
    }

    fn with_task<R>(&self, code: impl FnOnce(Option<&Handle<u64>>) -> R) -> R {
        // Not while the lock is held: a callback of `cancel` would find it locked.
        let task = self.task.lock().unwrap().clone();
        code(task.as_ref())
    }

    /// Polls the future under test, unless it's being polled or is gone. A panic of the poll drops the future.
    fn poll(&self, waker: &Waker) -> Option<Poll<()>> {
        let mut slot = self.future.try_lock().ok()?;
        let future = slot.as_mut()?;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            future.as_mut().poll(&mut Context::from_waker(waker))
        }));
        let over = match &polled {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(())) | Err(_) => slot.take(),
        };
        drop(slot);
        drop(over);
        Some(polled.unwrap_or_else(|payload| resume_unwind(payload)))
    }

    /// Drops the future under test, unless it's being polled or is gone.
    fn drop_future(&self) {
        let future = self.future.try_lock().ok().and_then(|mut slot| slot.take());
        drop(future);
    }
}

/// The waker itself, which is in the world that it acts on.
struct Hostile {
    waking: Waking,
    world: Arc<World>,
}

impl Hostile {
    fn suffers(&self, deed: Deed) {
        if self.waking.at() == deed {
            self.waking.act(&self.world);
        }
    }
}

fn waker(waking: Waking, world: &Arc<World>) -> Waker {
    // SAFETY: the pointers that these get are those of an `Arc`, of which each waker owns one reference.
    static VTABLE: RawWakerVTable = unsafe {
        RawWakerVTable::new(
            |data| {
                let hostile = ManuallyDrop::new(Arc::from_raw(data.cast::<Hostile>()));
                hostile.suffers(Deed::Clone);
                RawWaker::new(Arc::into_raw(Arc::clone(&hostile)).cast(), &VTABLE)
            },
            |data| {
                let hostile = Arc::from_raw(data.cast::<Hostile>());
                hostile.suffers(Deed::Wake);
                hostile.suffers(Deed::Drop);
            },
            |data| (*data.cast::<Hostile>()).suffers(Deed::Wake),
            |data| Arc::from_raw(data.cast::<Hostile>()).suffers(Deed::Drop),
        )
    };
    let hostile = Arc::new(Hostile { waking, world: world.clone() });
    // SAFETY: the functions of the vtable fulfil the contract of `RawWaker`.
    unsafe { Waker::from_raw(RawWaker::new(Arc::into_raw(hostile).cast(), &VTABLE)) }
}

/// A future under test.
type Awaited = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs a case for each waker on each client: `make` makes the future, and `trigger` what it waits for.
#[track_caller]
fn torment(make: fn(&World) -> Awaited, trigger: fn(&World)) {
    torment_on(Runs::OneThread, make, trigger);
    torment_on(Runs::Seeded, make, trigger);
}

#[track_caller]
fn torment_on(runs: Runs, make: fn(&World) -> Awaited, trigger: fn(&World)) {
    for waking in ALL {
        // Shown if the test fails.
        println!("{runs:?}, a waker that {waking:?}");
        within(Duration::from_secs(60), move || case(runs, waking, make, trigger));
    }
}

fn case(runs: Runs, waking: Waking, make: fn(&World) -> Awaited, trigger: fn(&World)) {
    let world = World::new(runs);
    // Forgotten, so that they act only where the engine uses them.
    let [first, second, third] = [(); 3].map(|()| ManuallyDrop::new(waker(waking, &world)));
    let poll = |waker| {
        let polled = catch_unwind(AssertUnwindSafe(|| world.poll(waker)));
        let may_panic = waking == Waking::PanicsInClone;
        polled.unwrap_or_else(|_| {
            assert!(may_panic, "the poll panicked");
            None
        })
    };

    // One that is dropped while it waits.
    *world.future.lock().unwrap() = Some(make(&world));
    poll(&third);
    world.drop_future();

    *world.future.lock().unwrap() = Some(make(&world));
    let waits = poll(&first).is_some_and(|polled| polled.is_pending());
    // Replaces the waker.
    poll(&second);
    if runs == Runs::Seeded {
        // A poll makes one step, and these are more than there are to make until it waits.
        for _ in 0..5 {
            poll(&second);
        }
    }
    trigger(&world);
    if waits || waking == Waking::PanicsInClone {
        eventually("the waker acts", || world.acted.get() > 0);
    }
    world.drop_future();

    let client = world.client.clone();
    world.gate.open();
    let sixth = client.submit(async |x: u64| x + 1, 5).result();
    match sixth {
        Ok(value) => {
            assert_eq!(value, 6);
            // The timer thread may still run a seeded client's tasks in the waker, which counts as a worker.
            let workers = usize::from(runs == Runs::OneThread);
            eventually("the workers are these", || client.workers() == workers);
            block_on(client.idle());
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
    }
    block_on(client.close());
    assert_eq!(client.workers(), 0);
    let _ = world.with_task(|task| task.map(Handle::result));
    world.failed.result().unwrap_err();
}

/// Opens the gate and waits until the task behind it has ended.
fn open(world: &World) {
    world.gate.open();
    let _ = world.with_task(|task| task.map(Handle::result));
}

/// Cancels the task on this thread.
fn cancel(world: &World) {
    world.with_task(|task| task.map(Handle::cancel));
}

/// A future of the next item of a stream that comes after it was waited for.
fn next<S: Stream + Send + Unpin + 'static>(mut stream: S) -> Awaited {
    let mut has_waited = false;
    Box::pin(poll_fn(move |cx| {
        loop {
            match stream.poll_next_unpin(cx) {
                Poll::Ready(Some(_)) if !has_waited => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    has_waited = true;
                    return Poll::Pending;
                }
            }
        }
    }))
}

#[test]
fn idle() {
    torment(|world| Box::pin(world.client.idle()), open);
    torment(|world| Box::pin(world.client.idle()), cancel);
}

#[test]
fn close() {
    torment(|world| Box::pin(world.client.close()), open);
    torment(|world| Box::pin(world.client.close()), cancel);
}

#[test]
fn a_handle_by_value() {
    torment(|world| Box::pin(world.task().map(drop)), open);
    torment(|world| Box::pin(world.task().map(drop)), cancel);
}

#[test]
fn a_handle_by_reference() {
    torment(|world| Box::pin(IntoFuture::into_future(&world.task()).map(drop)), open);
}

#[test]
fn a_reference_to_the_value() {
    torment(|world| Box::pin(world.task().get_ref().map(drop)), open);
}

#[test]
fn a_handle_of_a_task_that_waits_for_a_limit() {
    let make = |world: &World| -> Awaited {
        Box::pin(world.client.task().acquire("one").spawn(async {}).map(drop))
    };
    torment(make, open);
}

#[test]
fn waits_for_all_and_for_any() {
    torment(|world| Box::pin(wait_all([world.task()]).map(drop)), open);
    torment(|world| Box::pin(wait_any([world.task()]).map(drop)), open);
    let make = |world: &World| -> Awaited {
        Box::pin(wait_all([world.task()]).timeout(Duration::from_secs(3600)).map(drop))
    };
    torment(make, open);
}

#[test]
fn gathers() {
    torment(|world| Box::pin(gather([world.task(), world.task()]).map(drop)), open);
    torment(|world| Box::pin(gather_settled([world.task()]).map(drop)), open);
}

#[test]
fn the_next_that_completes() {
    torment(|world| next(as_completed([world.task()])), open);
}

#[test]
fn the_next_batch_that_completes() {
    let make = |world: &World| -> Awaited {
        let mut stream = as_completed([world.task()]);
        Box::pin(async move { drop(stream.next_batch().await) })
    };
    torment(make, open);
}

#[test]
fn the_next_result() {
    torment(|world| next(as_completed([world.task()]).with_results()), open);
}

#[test]
fn a_stream_of_calls() {
    let make = |world: &World| {
        let gate = world.gate.clone();
        let calls = world.client.map_stream(stream::iter([1u64]), 1, move |_: u64| gate.pass());
        next(calls)
    };
    torment(make, open);
}

#[test]
fn events() {
    torment(|world| next(world.client.events()), open);
}

#[test]
fn counts_of_progress() {
    torment(|world| next(progress_counts([&world.task()])), open);
}

#[test]
fn a_sleep() {
    torment(|_| Box::pin(sleep(Duration::from_millis(50))), |_| ());
}

#[test]
fn a_worker_future() {
    let trigger = |world: &World| {
        // The client's own worker is preferred, so there is none when a task is queued.
        let client = &world.client;
        client.scale(0).unwrap();
        eventually("the thread leaves", || client.workers() <= 1);
        client.spawn(async {}).detach();
        client.scale(1).unwrap();
    };
    torment_on(Runs::OneThread, |world| Box::pin(world.client.worker()), trigger);
}

#[test]
fn several_waiters_of_one_change() {
    // The hostile one is neither the first nor the last.
    for waking in ALL {
        println!("a waker that {waking:?}");
        within(Duration::from_secs(60), move || {
            let world = World::new(Runs::OneThread);
            let client = world.client.clone();
            let others: Vec<_> = (0..2).map(|_| Box::pin(client.idle())).collect();
            let [mut before, mut after] = others.try_into().ok().unwrap();
            assert!(poll_once(&mut before).is_pending());
            let hostile = ManuallyDrop::new(waker(waking, &world));
            *world.future.lock().unwrap() = Some(Box::pin(client.idle()));
            let _ = catch_unwind(AssertUnwindSafe(|| world.poll(&hostile)));
            assert!(poll_once(&mut after).is_pending());
            let waits = [before, after].map(|idle| std::thread::spawn(|| block_on(idle)));
            open(&world);
            waits.into_iter().for_each(|thread| thread.join().unwrap());
            world.drop_future();
            block_on(client.close());
            assert_eq!(client.workers(), 0);
            drop(world.task.lock().unwrap().take());
        });
    }
}

#[test]
fn the_panic_of_a_waker_that_a_result_wakes_to_give_way() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: Arc<Self>) {
            resume_unwind(Box::new("the waker's panic"));
        }
    }
    within(Duration::from_secs(60), || {
        let client = Client::builder().workers(1).build();
        let x = client.submit(async || 1u8, ());
        block_on(client.idle());
        type Make = Box<dyn Fn() -> Awaited>;
        let handle = || x.clone();
        let (a, b, c, d, e, f) = (handle(), handle(), handle(), handle(), handle(), client);
        let awaited: [Make; 6] = [
            Box::new(move || Box::pin(a.clone().map(drop))),
            Box::new(move || Box::pin(b.get_ref().map(drop))),
            Box::new(move || Box::pin(gather([&c]).map(drop))),
            Box::new(move || Box::pin(wait_all([&d]).map(drop))),
            Box::new(move || Box::pin(as_completed([&e]).into_future().map(drop))),
            Box::new(move || Box::pin(f.idle())),
        ];
        let waker = Arc::new(Panics).into();
        let (mut polls, mut ready) = (0, 0);
        for make in awaited.iter().chain([&(Box::new(|| sleep(Duration::ZERO).boxed()) as Make)]) {
            for _ in 0..300 {
                let mut future = make();
                // Outside of tasks, some of the results give way once.
                while future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                    polls += 1;
                    assert!(polls < 300, "a future doesn't resolve");
                }
                ready += 1;
            }
        }
        assert!(polls > 0, "no result has given way");
        assert_eq!(ready, 7 * 300);
    });
}
