//! A task that awaits what is ready gives way to others, and can be stopped (promise 16).

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use ensue::{
    Client, Handle, as_completed, gather, gather_settled, progress_counts, sleep, wait_all,
    wait_any,
};
use futures::executor::block_on;
use futures::future::{FutureExt, join_all, select};
use futures::stream::{self, FuturesUnordered, StreamExt};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use smol::future::yield_now;
use support::hold::Gate;
use support::{bounded, client_of};

async fn inc(x: u64) -> u64 {
    x + 1
}

type Endless = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A loop without an end, which awaits the expression. Each kind of await is one.
macro_rules! endless {
    ($client:ident, $done:ident: $await:expr) => {{
        let ($client, $done) = ($client.clone(), $client.ready(1u64));
        let endless: Endless = Box::pin(async move {
            let _used = (&$client, &$done);
            loop {
                let _ = $await;
            }
        });
        (stringify!($await), endless)
    }};
}

/// Loops that only await what is ready.
fn endless(client: &Client) -> Vec<(&'static str, Endless)> {
    fn none() -> [Handle<u64>; 0] {
        []
    }
    vec![
        endless!(client, done: (&done).await),
        endless!(client, done: done.clone().await),
        endless!(client, done: done.get_ref().await),
        endless!(client, done: client.ready(2).await),
        endless!(client, done: as_completed([&done]).next().await),
        endless!(client, done: as_completed(none()).next().await),
        endless!(client, done: as_completed([&done]).next_batch().await),
        endless!(client, done: as_completed([&done]).with_results().next().await),
        endless!(client, done: gather([&done; 3]).await),
        endless!(client, done: gather(none()).await),
        endless!(client, done: gather_settled([&done]).await),
        endless!(client, done: wait_all([&done; 3]).await),
        endless!(client, done: wait_any([&done]).await),
        endless!(client, done: wait_any(none()).await),
        endless!(client, done: sleep(Duration::ZERO).await),
        endless!(client, done: progress_counts([&done]).count().await),
        endless!(client, done: Client::builder().workers(0).build().close().await),
        endless!(client, done: Client::builder().workers(0).build().idle().await),
        endless!(client, done: join_all(vec![done.clone(); 100]).await),
        endless!(client, done: vec![done.clone(); 100].into_iter().collect::<FuturesUnordered<_>>().count().await),
        endless!(client, done: client.map_stream(stream::repeat(1), usize::MAX, inc).count().await),
    ]
}

#[test]
fn a_task_that_awaits_what_is_ready_lets_others_run_and_can_be_cancelled() {
    bounded(|| {
        for at in 0..endless(&client_of(0)).len() {
            let client = client_of(1);
            let (name, endless) = endless(&client).swap_remove(at);
            let task = client.spawn(endless);
            for n in 0..3 {
                assert_eq!(client.submit(inc, n).result().unwrap(), n + 1, "{name}");
            }
            assert!(!task.is_finished(), "{name}: {:?}", task.error());
            assert!(task.cancel(), "{name}");
            assert!(task.result().unwrap_err().is_cancelled(), "{name}");
            // Its worker is free: the client can be closed.
            block_on(client.close());
        }
    });
}

#[test]
fn a_timeout_ends_a_task_that_awaits_what_is_ready() {
    bounded(|| {
        let client = client_of(1);
        let late = Duration::from_millis(1);
        for (name, endless) in endless(&client) {
            let error = client.task().timeout(late).spawn(endless).result().unwrap_err();
            assert_eq!(error.kind(), ensue::ErrorKind::TimedOut, "{name}");
        }
    });
}

#[test]
fn a_task_that_awaits_what_is_ready_is_dropped_with_its_last_handle_or_client() {
    bounded(|| {
        let client = client_of(1);
        let handles: Vec<_> = endless(&client).into_iter().map(|(_, f)| client.spawn(f)).collect();
        client.submit(inc, 1).result().unwrap();
        // They own clients, so those that are left end only by their handles.
        drop(handles);
        block_on(client.idle());
        let done = client.ready(1u64);
        let last = client.spawn(async move {
            loop {
                (&done).await.unwrap();
            }
        });
        drop(client);
        assert_eq!(last.result().unwrap_err().kind(), ensue::ErrorKind::Closed);
    });
}

#[test]
fn each_poll_of_a_task_takes_a_bounded_number_of_ready_results() {
    bounded(|| {
        let client = client_of(1);
        let done = client.ready(1u64);
        let mut taken = 0;
        let mut polls = Vec::new();
        let all = Arc::new(AtomicUsize::new(0));
        let counter = all.clone();
        let mut inner = Box::pin(async move {
            for _ in 0..1000 {
                (&done).await.unwrap();
                drop(as_completed([&done]).next().await.unwrap());
                counter.fetch_add(2, Ordering::Relaxed);
            }
        });
        let polled = client.spawn(poll_fn(move |cx| {
            let poll = inner.as_mut().poll(cx);
            let now = all.load(Ordering::Relaxed);
            polls.push(now - taken);
            taken = now;
            poll.map(|()| std::mem::take(&mut polls))
        }));
        // 128, and the one for which the poll before gave way.
        let mut polls = polled.result().unwrap();
        assert_eq!(polls.iter().sum::<usize>(), 2000);
        polls.pop();
        assert!(polls.iter().all(|taken| (127..=130).contains(taken)), "{polls:?}");
    });
}

#[test]
fn what_comes_behind_a_busy_loop_in_the_same_task_has_its_result() {
    bounded(|| {
        let client = client_of(1);
        for (name, endless) in endless(&client) {
            let gate = Gate::new();
            let opened = gate.clone();
            let stop = client.spawn(async move { opened.pass().await });
            // The loop is polled first, and leaves nothing of the budget.
            let task = client.spawn(async move {
                select(endless, stop).await;
            });
            client.submit(inc, 1).result().unwrap();
            gate.open();
            task.result().expect(name);
        }
    });
}

#[test]
fn an_executor_within_a_poll_has_all_results() {
    bounded(|| {
        let client = client_of(1);
        let inner = client.clone();
        let task = client.spawn(async move {
            let done = inner.ready(1u64);
            block_on(async {
                for _ in 0..1000 {
                    (&done).await.unwrap();
                    drop(as_completed([&done]).next().await.unwrap());
                    gather([&done; 200]).await.unwrap();
                    assert_eq!(wait_all([&done; 200]).await.done.len(), 200);
                    assert_eq!(join_all(vec![done.clone(); 200]).await.len(), 200);
                }
            });
            // One that polls once has a result that is there.
            (0..1000).all(|_| (&done).into_future().now_or_never().is_some())
        });
        assert!(task.result().unwrap());
        let done = client.ready(1u64);
        assert!((0..1000).all(|_| (&done).into_future().now_or_never().is_some()));
        assert!((0..1000).all(|_| done.result().is_ok()));
    });
}

#[test]
fn results_beyond_the_budget_of_a_poll_are_all_delivered_in_order() {
    bounded(|| {
        for client in [client_of(1), Client::builder().seed(1).build()] {
            let inner = client.clone();
            let task = client.spawn(async move {
                let xs: Vec<_> = (0..1000).map(|n| inner.ready(n)).collect();
                assert_eq!(as_completed(&xs).collect::<Vec<_>>().await, xs);
                let all: Vec<_> = as_completed(&xs).with_results().collect().await;
                let all: Vec<_> = all.into_iter().map(|(_, x)| x.unwrap()).collect();
                assert_eq!(all, (0..1000).collect::<Vec<_>>());
                assert_eq!(gather(inner.map(inc, 0..1000)).await.unwrap().len(), 1000);
                let mapped = inner.map_stream(stream::iter(0..1000), 500, inc);
                assert_eq!(mapped.count().await, 1000);
                let waited = wait_all(inner.map(inc, 0..1000)).await;
                assert_eq!((waited.done.len(), waited.pending.len()), (1000, 0));
            });
            task.result().unwrap();
        }
    });
}

#[test]
fn code_outside_of_tasks_gives_way_to_its_runtime() {
    bounded(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let client = client_of(1);
            for (name, endless) in endless(&client) {
                let endless = tokio::spawn(endless);
                // The runtime has one thread, and runs this only if the loop leaves its poll.
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                endless.abort();
                assert!(endless.await.unwrap_err().is_cancelled(), "{name}");
            }
        });
    });
}

// The number of tasks that run before one that is ready.

/// A client with one worker, which the test polls, and tasks that keep it busy.
struct Busy {
    client: Client,
    worker: Pin<Box<dyn Future<Output = ()>>>,
    /// The polls of the tasks that keep it busy.
    polls: Arc<AtomicUsize>,
    /// Woken between the polls of the worker, as by a timer or a socket.
    woken: Arc<Mutex<Vec<Waker>>>,
    stop: Gate,
    tasks: Vec<Handle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flood {
    /// A chain of dependents.
    Chain,
    /// A chain that makes another dependent ready with each link.
    Comb,
    /// A task that yields for ever.
    Yield,
    /// A task that submits another and ends.
    Again,
    /// A task that submits another and awaits it, for ever.
    Parent,
    /// A task that is woken from outside whenever it's suspended.
    Woken,
    /// A task that awaits what is ready.
    Ready,
    /// A task that yields for ever, whose priority was raised to zero while it was queued.
    Raised,
}

const FLOODS: [Flood; 8] = [
    Flood::Chain,
    Flood::Comb,
    Flood::Yield,
    Flood::Again,
    Flood::Parent,
    Flood::Woken,
    Flood::Ready,
    Flood::Raised,
];

#[derive(Clone, Copy, Debug)]
enum Late {
    /// Submitted outside the workers.
    Outside,
    /// Submitted by a task.
    Inside,
    /// Made ready by a task that also makes a chain ready.
    Dependent,
    /// Raised to priority zero by a dependent.
    Raised,
    /// Suspended, and woken from outside.
    Woken,
}

/// The length of chains: they don't end before the others have run.
const LINKS: usize = 3000;

const LATE: [Late; 5] = [Late::Outside, Late::Inside, Late::Dependent, Late::Raised, Late::Woken];

impl Busy {
    fn new(floods: &[Flood]) -> Self {
        let client = client_of(0);
        let worker = Box::pin(client.worker());
        let stop = Gate::new();
        let (polls, woken) = Default::default();
        let mut this = Self { client, worker, polls, woken, stop, tasks: Vec::new() };
        floods.iter().for_each(|flood| this.flood(*flood));
        // All have begun.
        (0..10).for_each(|_| this.poll());
        this
    }

    fn poll(&mut self) {
        mem::take(&mut *self.woken.lock().unwrap()).into_iter().for_each(Waker::wake);
        let _ = support::poll_once(&mut self.worker);
    }

    fn flood(&mut self, flood: Flood) {
        let (client, polls, woken) = (self.client.clone(), self.polls.clone(), self.woken.clone());
        let stop = self.stop.clone();
        let count = move || _ = polls.fetch_add(1, Ordering::Relaxed);
        let task = match flood {
            Flood::Chain | Flood::Comb => {
                let mut link = client.spawn(async {});
                for _ in 0..LINKS {
                    let count = count.clone();
                    link = client.submit(async move |()| count(), &link);
                    if flood == Flood::Comb {
                        self.tasks.push(client.submit(async move |()| (), &link));
                    }
                }
                link
            }
            Flood::Yield | Flood::Raised => {
                let priority = if flood == Flood::Raised { -1 } else { 0 };
                let yields = client.task().priority(priority).spawn(async move {
                    while !stop.is_open() {
                        count();
                        yield_now().await;
                    }
                });
                client.submit(async |()| (), yields)
            }
            Flood::Again => {
                fn again(client: Client, stop: Gate, count: impl Fn() + Clone + Send + 'static) {
                    count();
                    if !stop.is_open() {
                        let next = client.clone();
                        client.spawn(async move { again(next, stop, count) }).detach();
                    }
                }
                let next = client.clone();
                client.spawn(async move { again(next, stop, count) })
            }
            Flood::Parent => client.clone().spawn(async move {
                while !stop.is_open() {
                    count();
                    let count = count.clone();
                    client.spawn(async move { count() }).await.unwrap();
                }
            }),
            Flood::Woken => client.spawn(poll_fn(move |cx| {
                count();
                woken.lock().unwrap().push(cx.waker().clone());
                if stop.is_open() { Poll::Ready(()) } else { Poll::Pending }
            })),
            Flood::Ready => {
                let mut endless = endless(&client).swap_remove(0).1;
                client.spawn(poll_fn(move |cx| {
                    count();
                    if stop.is_open() { Poll::Ready(()) } else { endless.as_mut().poll(cx) }
                }))
            }
        };
        self.tasks.push(task);
    }

    /// The number of polls of other tasks before one that becomes ready now is polled.
    fn polls_before(&mut self, late: Late) -> usize {
        let since = Arc::new(AtomicUsize::new(0));
        let result = Arc::new(AtomicUsize::new(usize::MAX));
        let (polls, begun) = (self.polls.clone(), since.clone());
        let is_ready = move || begun.store(polls.load(Ordering::Relaxed), Ordering::Relaxed);
        let (polls, ran) = (self.polls.clone(), result.clone());
        let run = move || {
            let before = polls.load(Ordering::Relaxed) - since.load(Ordering::Relaxed);
            ran.store(before, Ordering::Relaxed);
        };
        let client = self.client.clone();
        match late {
            Late::Outside => {
                is_ready();
                self.tasks.push(client.spawn(async move { run() }));
            }
            Late::Inside => {
                let inner = client.clone();
                self.tasks.push(client.spawn(async move {
                    is_ready();
                    inner.spawn(async move { run() }).detach();
                }));
            }
            Late::Dependent => {
                let input = client.spawn(async move { is_ready() });
                let mut chain = input.clone();
                for _ in 0..LINKS {
                    chain = client.submit(async |()| (), chain);
                }
                self.tasks.extend([chain, client.submit(async move |()| run(), input)]);
            }
            Late::Raised => {
                let low = client.task().priority(-1).spawn(async move { run() });
                self.poll();
                is_ready();
                self.tasks.push(client.submit(async |()| (), low));
            }
            Late::Woken => {
                let (gate, begun) = (Gate::new(), Gate::new());
                let (pass, begins) = (gate.clone(), begun.clone());
                self.tasks.push(client.spawn(async move {
                    begins.open();
                    pass.pass().await;
                    run();
                }));
                while !begun.is_open() {
                    self.poll();
                }
                is_ready();
                gate.open();
            }
        }
        while result.load(Ordering::Relaxed) == usize::MAX {
            self.poll();
        }
        result.load(Ordering::Relaxed)
    }
}

/// The bound that the documentation of the worker gives, with fewer than 64 tasks in a shared queue and `queued` in one of
/// the worker's own.
fn most(queued: usize) -> usize {
    61 + 32 * (queued + 1)
}

#[test]
fn each_kind_of_task_runs_soon_beside_each_kind_of_other() {
    bounded(|| {
        for flood in FLOODS {
            let mut busy = Busy::new(&[flood; 2]);
            for late in LATE {
                let before = busy.polls_before(late);
                // Each of the others has at most two entries: itself, and what it made ready or submitted.
                assert!(before <= most(4), "{late:?} ran after {before} polls of {flood:?}");
            }
        }
    });
}

#[test]
fn a_woken_task_does_not_wait_for_all_that_were_submitted() {
    bounded(|| {
        let mut busy = Busy::new(&[]);
        let (gate, begun) = (Gate::new(), Gate::new());
        let (pass, begins) = (gate.clone(), begun.clone());
        let polls = busy.polls.clone();
        let woken = busy.client.spawn(async move {
            begins.open();
            pass.pass().await;
            polls.load(Ordering::Relaxed)
        });
        while !begun.is_open() {
            busy.poll();
        }
        // Some will be in the worker's own queue, the others in the shared one.
        for _ in 0..LINKS {
            let polls = busy.polls.clone();
            let count = async move { _ = polls.fetch_add(1, Ordering::Relaxed) };
            busy.tasks.push(busy.client.spawn(count));
        }
        busy.poll();
        let before = busy.polls.load(Ordering::Relaxed);
        gate.open();
        while !woken.is_finished() {
            busy.poll();
        }
        let between = woken.result().unwrap() - before;
        assert!(between <= most(0), "{between} others ran before it");
    });
}

#[test]
fn any_task_runs_soon_whatever_others_do() {
    bounded(|| {
        let floods = prop::collection::vec(prop::sample::select(&FLOODS[..]), 1..6);
        let late = prop::collection::vec(prop::sample::select(&LATE[..]), 1..4);
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 20,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let run = runner.run(&(floods, late), |(floods, late)| {
            let mut busy = Busy::new(&floods);
            for late in late {
                let before = busy.polls_before(late);
                prop_assert!(before <= most(2 * floods.len()), "{before} before {late:?}");
            }
            Ok(())
        });
        run.unwrap_or_else(|failure| panic!("{failure}"));
    });
}
