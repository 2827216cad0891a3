//! Wakes: no task stays queued while all workers are idle, and no stale pending wake prevents further wakes forever.
//!
//! Real workers run real tasks. The last task closes the engine, upon which the workers exit. So if a task is missed, or the
//! wake that follows the shutdown is lost, all threads wait, and loom reports a deadlock. At the end an idle worker that
//! enters the list must be woken at once.
//!
//! The total order of `SeqCst` accesses is modelled by fences beside them. Bounds: at most two workers and three tasks;
//! preemptions as `MODELS` says.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use loom::sync::{Condvar, Mutex};
use loom::thread::{self, JoinHandle};

use super::{Gate, Model, SEQ_CST, WEAK, block_on, new_core, new_task, run_task, run_with};
use crate::engine::core::CoreRef;
use crate::engine::core::context::{self, ThreadContext};
use crate::engine::core::host_poll::host_poll;
use crate::engine::data::clock::Clock;
use crate::engine::life::create::Setup;
use crate::engine::life::schedule;
use crate::engine::queue::local::Local;
use crate::engine::task::header::Task;
use crate::engine::task::typed::Typed;
use crate::engine::worker::WorkerFuture;

pub(super) const MODELS: &[Model] = &[
    Model { name: "wake: from outside", orders: SEQ_CST, interruptions: Some(5), run: outside },
    Model { name: "wake: by priority", orders: SEQ_CST, interruptions: Some(5), run: by_priority },
    Model { name: "wake: from a worker", orders: WEAK, interruptions: Some(2), run: local },
    Model { name: "wake: made ready", orders: WEAK, interruptions: Some(2), run: made_ready },
    Model { name: "wake: published", orders: WEAK, interruptions: Some(2), run: published },
    Model { name: "wake: stolen", orders: WEAK, interruptions: Some(1), run: stolen },
    Model { name: "wake: together", orders: SEQ_CST, interruptions: Some(2), run: together },
    Model { name: "wake: finished", orders: WEAK, interruptions: None, run: finished },
    Model { name: "wake: in vain", orders: WEAK, interruptions: Some(3), run: in_vain },
    Model { name: "wake: passed on", orders: SEQ_CST, interruptions: Some(2), run: passed_on },
    Model {
        name: "wake: hosted worker",
        orders: SEQ_CST,
        interruptions: Some(2),
        run: hosted_worker,
    },
    Model {
        name: "wake: dropped worker",
        orders: SEQ_CST,
        interruptions: Some(2),
        run: dropped_worker,
    },
    Model { name: "wake: put off", orders: WEAK, interruptions: Some(1), run: put_off },
    Model { name: "wake: ticks", orders: WEAK, interruptions: None, run: ticks },
    Model { name: "wake: no timer", orders: WEAK, interruptions: Some(2), run: no_timer },
    Model { name: "wake: end of a poll", orders: WEAK, interruptions: None, run: end_of_poll },
];

/// The number of tasks left to run; the last one closes the engine.
struct Left(AtomicUsize);

impl Left {
    fn new(tasks: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(tasks)))
    }

    fn ran(&self) {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            context::current_core().expect("a task runs on a worker").begin_close(false);
        }
    }
}

fn worker(core: &CoreRef, own: bool) -> JoinHandle<()> {
    count_worker(core, own);
    let worker = WorkerFuture::new(core.clone(), own);
    thread::spawn(|| block_on(worker))
}

/// Counts a worker of the client's own, as `scale` does before it starts the worker's thread.
fn count_worker(core: &CoreRef, own: bool) {
    core.threads.wanted.fetch_add(usize::from(own), Ordering::SeqCst);
    core.threads.alive.fetch_add(usize::from(own), Ordering::SeqCst);
}

/// Creates a task that runs `code` and counts itself down.
fn task(
    core: &CoreRef,
    left: &Arc<Left>,
    code: impl FnOnce() + Send + 'static,
) -> (Typed<()>, Task) {
    let left = left.clone();
    new_task(core, Setup::default(), async move {
        code();
        left.ran();
    })
}

/// Waits for the workers to exit, and checks that nothing is left and that a wake is possible.
fn end(core: CoreRef, workers: impl IntoIterator<Item = JoinHandle<()>>) {
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert!(!core.has_queued());
    assert_eq!(core.idle_workers.asleep(), 0);
    let gate = Gate::new();
    core.idle_workers.enter(usize::MAX - 1, true, Waker::from(gate.clone()));
    core.wake_worker();
    gate.pass();
}

/// Two tasks from outside, one after the other, and one worker.
fn outside() {
    let core = new_core();
    let left = Left::new(2);
    let workers = [worker(&core, true)];
    let _interests = [(), ()].map(|()| {
        let (interest, task) = task(&core, &left, || ());
        schedule::schedule_new(task);
        interest
    });
    end(core, workers);
}

/// The same, with the second task in the priority queue.
fn by_priority() {
    let core = new_core();
    let left = Left::new(2);
    let workers = [worker(&core, true)];
    let _interests = [0, 1].map(|priority| {
        let (interest, task) = task(&core, &left, || ());
        task.priority.store(priority, Ordering::Relaxed);
        schedule::schedule_new(task);
        interest
    });
    end(core, workers);
}

/// A task puts another one into the queue of its worker, and keeps the worker busy until that one has run.
fn local() {
    let core = new_core();
    let left = Left::new(2);
    let ran = Gate::new();
    let (second_interest, second) = task(&core, &left, {
        let ran = ran.clone();
        move || ran.open()
    });
    let (first_interest, first) = task(&core, &left, move || {
        schedule::schedule(second);
        ran.pass();
    });
    core.injector.push(first);
    let workers = [worker(&core, true), worker(&core, true)];
    end(core, workers);
    drop((first_interest, second_interest));
}

/// A task makes two others ready as if by ending. The first one keeps their worker busy until the second one has run.
fn made_ready() {
    two_made_ready(0, |ran| ran.pass(), |ran| ran.open());
}

/// A task makes two others ready as if by ending: one that only its worker can reach, and one with a priority, which comes
/// first and keeps the worker busy until the other one has run.
fn published() {
    two_made_ready(1, |ran| ran.open(), |ran| ran.pass());
}

/// A task makes two others ready that run this code, of which the later one has this priority.
fn two_made_ready(priority: i32, earlier: fn(&Gate), later: fn(&Gate)) {
    let core = new_core();
    let left = Left::new(2);
    let ran = Gate::new();
    let (third_interest, third) = task(&core, &left, {
        let ran = ran.clone();
        move || later(&ran)
    });
    third.priority.store(priority, Ordering::Relaxed);
    let (second_interest, second) = task(&core, &left, move || earlier(&ran));
    let (first_interest, first) = new_task(&core, Setup::default(), async move {
        schedule::make_ready(|ready| {
            ready.push(second);
            ready.push(third);
        });
    });
    core.injector.push(first);
    let workers = [worker(&core, true), worker(&core, true)];
    end(core, workers);
    drop((first_interest, second_interest, third_interest));
}

/// A number of threads that wait for each other.
#[derive(Default)]
struct Meeting {
    arrived: Mutex<usize>,
    changed: Condvar,
}

impl Meeting {
    fn arrive(&self) {
        *self.arrived.lock().unwrap() += 1;
        self.changed.notify_all();
    }

    fn wait(&self, wanted: usize) {
        let mut arrived = self.arrived.lock().unwrap();
        while *arrived < wanted {
            arrived = self.changed.wait(arrived).unwrap();
        }
    }
}

/// Three tasks in the queue of a worker that takes one of them at most, and is busy until the others have begun. They wait
/// for each other, so if another worker takes both, it must wake a third one.
fn stolen() {
    let core = new_core();
    let left = Left::new(3);
    let meeting = Arc::new(Meeting::default());
    let (interests, mut tasks): (Vec<_>, Vec<_>) = (0..3)
        .map(|_| {
            let meeting = meeting.clone();
            task(&core, &left, move || {
                meeting.arrive();
                meeting.wait(2);
            })
        })
        .unzip();
    let local = Local::new();
    core.add_worker(usize::MAX - 2, true, Default::default(), local.stealers());
    let workers = [worker(&core, false), worker(&core, false)];
    ThreadContext::of_worker(&core, &local, 0).enter(|| schedule::schedule_all(&core, &mut tasks));
    if let Some(task) = local.pop() {
        meeting.wait(2);
        run_task(&core, task);
    }
    end(core, workers);
    drop(interests);
}

/// Two tasks from outside, queued together, the first of which waits for the second. The worker that takes both must wake
/// another one: it runs outside the client's own threads, so its wake isn't pending, and it doesn't finish it.
fn together() {
    let core = new_core();
    let left = Left::new(2);
    let ran = Gate::new();
    let workers = [worker(&core, false), worker(&core, false)];
    let (first_interest, first) = task(&core, &left, {
        let ran = ran.clone();
        move || ran.pass()
    });
    let (second_interest, second) = task(&core, &left, move || ran.open());
    schedule::schedule_all(&core, &mut vec![first, second]);
    end(core, workers);
    drop((first_interest, second_interest));
}

/// A woken worker finishes its wake while another one pushes into its own queue. One of the two wakes a third worker.
fn finished() {
    let core = new_core();
    let gates = [Gate::new(), Gate::new()];
    for (worker, gate) in gates.iter().enumerate() {
        core.idle_workers.enter(worker, true, Waker::from(gate.clone()));
    }
    core.wake_worker();
    gates[1].pass();
    assert!(core.idle_workers.leave(1));
    let producer = thread::spawn({
        let core = core.clone();
        move || {
            let local = Local::new();
            core.add_worker(2, true, Default::default(), local.stealers());
            let (interest, task) = new_task(&core, Setup::default(), async {});
            ThreadContext::of_worker(&core, &local, 0).enter(|| schedule::schedule(task));
            gates[0].pass();
            drop((local.pop(), interest));
        }
    });
    // As `WorkerFuture::finish_wake` does.
    core.idle_workers.finish_wake();
    if core.has_queued() {
        core.wake_worker();
    }
    producer.join().unwrap();
}

/// A worker is woken for a task that a second one takes, and which queues two more while that wake is pending, so nobody else is
/// woken for them. The woken worker steals one of the two: it must wake a third worker, which is a gate here. The first two
/// wait for that.
fn in_vain() {
    let core = new_core();
    let left = Left::new(3);
    let (third_worker, may_go_on) = (Gate::new(), Gate::new());
    core.idle_workers.enter(usize::MAX - 2, true, Waker::from(third_worker.clone()));
    count_worker(&core, true);
    let mut worker = Box::pin(WorkerFuture::new(core.clone(), true));
    assert!(worker.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let (stolen_interest, stolen) = task(&core, &left, {
        let may_go_on = may_go_on.clone();
        move || may_go_on.pass()
    });
    let (other_interest, other) = task(&core, &left, || ());
    let (first_interest, first) = task(&core, &left, {
        let core = core.clone();
        move || {
            schedule::schedule(stolen);
            schedule::schedule(other);
            third_worker.pass();
            core.idle_workers.finish_wake();
            may_go_on.open();
        }
    });
    schedule::schedule_new(first);
    let worker = thread::spawn(move || block_on(worker));
    let local = Local::new();
    core.add_worker(usize::MAX - 3, true, Default::default(), local.stealers());
    let mut taken = None;
    core.injector.submitted.take(1, |task| taken = Some(task));
    taken.into_iter().for_each(|task| run_with(&core, &local, task));
    end(core, [worker]);
    drop((first_interest, stolen_interest, other_interest));
}

/// Two tasks from outside, the first of which waits for the second, so each needs a worker of its own. One worker is woken
/// at a time, so the first one must wake the next.
fn passed_on() {
    wait_for_each_other(true);
}

/// The same with one worker that runs outside the client's own threads.
fn hosted_worker() {
    wait_for_each_other(false);
}

fn wait_for_each_other(own: bool) {
    let core = new_core();
    let left = Left::new(2);
    let ran = Gate::new();
    let workers = [worker(&core, own), worker(&core, true)];
    let (first_interest, first) = task(&core, &left, {
        let ran = ran.clone();
        move || ran.pass()
    });
    let (second_interest, second) = task(&core, &left, move || ran.open());
    schedule::schedule_new(first);
    schedule::schedule_new(second);
    end(core, workers);
    drop((first_interest, second_interest));
}

/// A worker is dropped by its host, at any time, with its pending wake and the tasks that it has taken.
fn dropped_worker() {
    let core = new_core();
    let left = Left::new(2);
    let workers = [worker(&core, true)];
    count_worker(&core, true);
    let dropper = thread::spawn({
        let core = core.clone();
        move || {
            let mut worker = Box::pin(WorkerFuture::new(core, true));
            let _ = worker.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    });
    let _interests = [(), ()].map(|()| {
        let (interest, task) = task(&core, &left, || ());
        schedule::schedule_new(task);
        interest
    });
    end(core, workers.into_iter().chain([dropper]));
}

/// A worker that a host polls on a thread of its own.
fn hosted(core: &CoreRef) -> JoinHandle<()> {
    let mut worker = WorkerFuture::new(core.clone(), false);
    thread::spawn(move || block_on(poll_fn(|cx| worker.poll_hosted(cx))))
}

/// A task that queues others, one after the other, and keeps its worker busy until each has run. The wake of the other
/// worker is put off until the clock's tick, which comes within that poll.
fn put_off_for(tasks: usize, clock: Option<Arc<Clock>>) {
    let core = new_core();
    let left = Left::new(tasks + 1);
    let ran = Gate::new();
    let (mut interests, queued): (Vec<_>, Vec<_>) = (0..tasks)
        .map(|_| {
            let ran = ran.clone();
            task(&core, &left, move || ran.open())
        })
        .unzip();
    let (interest, first) = task(&core, &left, move || {
        for task in queued {
            schedule::schedule(task);
            ran.pass();
        }
    });
    interests.push(interest);
    core.injector.push(first);
    let serves = clock.clone().map(|clock| thread::spawn(move || clock.serve()));
    let workers = [hosted(&core), hosted(&core)];
    end(core, workers);
    clock.into_iter().for_each(Clock::end);
    serves.into_iter().for_each(|serves| serves.join().unwrap());
    drop(interests);
}

/// The other worker takes the first of three tasks when it begins, and sleeps when the next two are queued. The tick for the
/// second may have passed by the third.
fn put_off() {
    put_off_for(3, Some(Clock::start()));
}

/// Two workers, which are gates here, are woken one after the other within a poll of a third one.
fn ticks() {
    let core = new_core();
    let clock = Clock::start();
    let serves = thread::spawn({
        let clock = clock.clone();
        move || clock.serve()
    });
    host_poll(&Arc::default(), || {
        for worker in 1..=2 {
            let gate = Gate::new();
            core.idle_workers.enter(worker, false, Waker::from(gate.clone()));
            core.wake_worker();
            gate.pass();
        }
    });
    clock.end();
    serves.join().unwrap();
}

/// The system refuses the thread of the clock.
fn no_timer() {
    put_off_for(1, None);
}

/// A task queues another one. The clock stands still, so the other worker, which is a gate here, is woken by the end of the poll.
fn end_of_poll() {
    let core = new_core();
    let clock = Clock::start();
    let gate = Gate::new();
    core.idle_workers.enter(usize::MAX - 2, false, Waker::from(gate.clone()));
    let left = Left::new(2);
    let (second_interest, second) = task(&core, &left, || ());
    let (first_interest, first) = task(&core, &left, || schedule::schedule(second));
    core.injector.push(first);
    let mut worker = WorkerFuture::new(core.clone(), false);
    assert!(worker.poll_hosted(&mut Context::from_waker(Waker::noop())).is_ready());
    gate.pass();
    drop(worker);
    end(core, []);
    clock.end();
    drop((first_interest, second_interest));
}
