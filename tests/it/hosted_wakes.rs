//! Workers on runtimes of the application's are woken for tasks that a poll of another one makes ready, while that poll goes
//! on (promise 21).

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use ensue::{Client, Handle, Worker, gather};
use futures::executor::block_on;
use futures::future::join_all;
use support::hold::Gate;
use support::observe::{Wakes, poll_with};
use support::{bounded, client_of, eventually};

/// Runs a program with a client whose workers are tasks of a tokio with as many threads.
fn on_tokio<F: Future<Output = ()>>(workers: usize, program: impl FnOnce(Client) -> F) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(workers).build().unwrap();
    let client = client_of(0);
    let hosts: Vec<_> = (0..workers).map(|_| runtime.spawn(client.worker())).collect();
    eventually("all are polled", || client.workers() == workers);
    // They sleep, so that each has to be woken.
    block_on(client.idle());
    block_on(program(client.clone()));
    block_on(client.close());
    block_on(join_all(hosts)).into_iter().for_each(|ended| ended.unwrap());
}

/// The same with an executor of smol's.
fn on_smol<F: Future<Output = ()>>(workers: usize, program: impl FnOnce(Client) -> F) {
    let executor = smol::Executor::new();
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    let client = client_of(0);
    thread::scope(|scope| {
        for _ in 0..workers {
            executor.spawn(client.worker()).detach();
            scope.spawn(|| block_on(executor.run(stopped.recv())));
        }
        eventually("all are polled", || client.workers() == workers);
        block_on(client.idle());
        block_on(program(client.clone()));
        block_on(client.close());
        drop(stop);
    });
}

/// A task submits ten others, and computes until they have run.
async fn children(client: Client) {
    let parent = client.spawn(async {
        let ran = Arc::new(AtomicUsize::new(0));
        let run = ran.clone();
        let child = async move |_: u32| run.fetch_add(1, Ordering::SeqCst);
        let children = Client::current().unwrap().map(child, 0..10);
        eventually("another worker runs the children", || ran.load(Ordering::SeqCst) == 10);
        drop(children);
    });
    parent.await.unwrap();
}

/// Tasks that compute until as many have begun.
#[derive(Clone)]
struct Meeting {
    begun: Arc<AtomicUsize>,
    of: usize,
}

impl Meeting {
    fn of(tasks: usize) -> Self {
        Self { begun: Arc::default(), of: tasks }
    }

    fn wait(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        eventually("each has a worker", || self.begun.load(Ordering::SeqCst) == self.of);
    }

    fn submit(&self, client: &Client, tasks: usize) -> Vec<Handle<()>> {
        client.map(async |meeting: Self| meeting.wait(), vec![self.clone(); tasks])
    }
}

#[test]
fn children_run_on_tokio_while_their_parent_computes() {
    bounded(|| on_tokio(2, children));
}

#[test]
fn children_run_on_smol_while_their_parent_computes() {
    bounded(|| on_smol(2, children));
}

#[test]
fn tasks_from_outside_run_at_once_on_tokio() {
    bounded(|| {
        on_tokio(3, async |client| {
            // The first worker takes all into its queue.
            gather(Meeting::of(3).submit(&client, 3)).await.unwrap();
        });
    });
}

#[test]
fn children_that_another_worker_takes_run_at_once_on_tokio() {
    bounded(|| {
        on_tokio(4, async |client| {
            let meeting = Meeting::of(4);
            let parent = client.spawn(async move {
                let children = meeting.submit(&Client::current().unwrap(), 3);
                meeting.wait();
                children
            });
            gather(parent.await.unwrap()).await.unwrap();
        });
    });
}

#[test]
fn dependents_run_at_once_on_tokio() {
    bounded(|| {
        on_tokio(2, async |client| {
            let gate = Gate::new();
            let x = client.spawn(gate.pass());
            let meeting = Meeting::of(2);
            let dependent = async |meeting: Meeting, (): ()| meeting.wait();
            let ys = [(), ()].map(|()| client.submit(dependent, (meeting.clone(), &x)));
            gate.open();
            gather(ys).await.unwrap();
        });
    });
}

#[test]
fn children_on_another_client_run_on_tokio_while_their_parent_computes() {
    bounded(|| {
        on_tokio(2, async |client| {
            let other = client_of(0);
            let worker = other.worker();
            client.spawn(async { drop(tokio::spawn(worker)) }).await.unwrap();
            eventually("it's polled", || other.workers() == 1);
            other.idle().await;
            let inner = other.clone();
            let parent = client.spawn(async move {
                let child = inner.spawn(async {});
                eventually("the other client's worker runs it", || child.is_finished());
            });
            parent.await.unwrap();
            other.close().await;
        });
    });
}

/// Workers that a test polls by hand.
struct ByHand<const N: usize> {
    workers: [Worker; N],
    wakes: [Arc<Wakes>; N],
}

impl<const N: usize> ByHand<N> {
    /// Returns workers that sleep.
    fn new(client: &Client) -> Self {
        let mut all = Self {
            workers: [(); N].map(|()| client.worker()),
            wakes: [(); N].map(|()| Wakes::new()),
        };
        (0..N).for_each(|at| assert!(all.poll(at).is_pending()));
        all
    }

    fn poll(&mut self, at: usize) -> Poll<()> {
        poll_with(&mut self.workers[at], &self.wakes[at])
    }

    /// Returns the only one that was woken.
    fn woken(&self) -> usize {
        let mut woken = (0..N).filter(|at| self.wakes[*at].get() > 0);
        let first = woken.next().expect("one is woken");
        assert_eq!(woken.next(), None);
        first
    }
}

#[test]
fn a_worker_is_woken_once_a_poll_of_another_one_leaves_tasks() {
    bounded(|| {
        let client = client_of(0);
        let mut workers = ByHand::<2>::new(&client);
        let parent = client.spawn(async {
            let children = Client::current().unwrap().map(async |_: u32| (), 0..1000);
            gather(children).await.unwrap();
        });
        let at = workers.woken();
        assert!(workers.poll(at).is_pending() && !parent.is_finished());
        assert!(workers.wakes[1 - at].get() > 0, "the poll has ended, and tasks are left");
    });
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        resume_unwind(Box::new("the waker's panic"));
    }
}

/// Puts a worker to sleep whose waker panics.
fn sleep_and_panic(worker: &mut Worker) {
    let waker = Waker::from(Arc::new(Panics));
    assert!(Pin::new(worker).poll(&mut Context::from_waker(&waker)).is_pending());
}

#[test]
fn a_worker_is_woken_in_place_of_one_whose_waker_panics() {
    let client = client_of(0);
    let workers = ByHand::<1>::new(&client);
    // The last one that went to sleep is woken first.
    let mut bad = client.worker();
    sleep_and_panic(&mut bad);
    let _x = client.spawn(async {});
    assert_eq!(workers.woken(), 0);
}

#[test]
fn a_worker_is_woken_in_place_of_one_whose_waker_panics_during_a_poll_of_another_one() {
    bounded(|| {
        let client = client_of(0);
        let good = ByHand::<1>::new(&client);
        let mut bad = client.worker();
        sleep_and_panic(&mut bad);
        let mut workers = ByHand::<1>::new(&client);
        let wakes = good.wakes[0].clone();
        let parent = client.spawn(async move {
            let child = Client::current().unwrap().spawn(async {});
            eventually("the other one is woken", || wakes.get() > 0);
            child.await.unwrap();
        });
        assert_eq!(workers.woken(), 0);
        while !parent.is_finished() {
            let _ = workers.poll(0);
        }
        block_on(parent).unwrap();
    });
}

#[test]
fn a_worker_that_is_dropped_before_its_wake_passes_it_on() {
    bounded(|| {
        let client = client_of(0);
        let other = ByHand::<1>::new(&client);
        let dropped = ByHand::<1>::new(&client);
        let mut workers = ByHand::<1>::new(&client);
        let wakes = other.wakes[0].clone();
        let parent = client.spawn(async move {
            let child = Client::current().unwrap().spawn(async {});
            drop(dropped);
            eventually("another one is woken", || wakes.get() > 0);
            child.await.unwrap();
        });
        assert_eq!(workers.woken(), 0);
        while !parent.is_finished() {
            let _ = workers.poll(0);
        }
        block_on(parent).unwrap();
    });
}
