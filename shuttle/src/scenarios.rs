//! Programs of a few tasks and threads. Each checks what is promised whatever the order of events is, and ends with all
//! threads of its clients. An awaited handle that never resolves ends the schedule with "deadlock".

use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use ensue::{Client, Error, ErrorKind, Handle, as_completed, gather, wait_all, wait_any};
use futures_lite::StreamExt;
use futures_lite::future::{or, yield_now, zip};
use shuttle::sync::{Barrier, Mutex};
use shuttle::thread;

/// A name for the command line, and the program.
pub type Scenario = (&'static str, fn());

pub const ALL: &[Scenario] = &[
    ("submit", submit),
    ("graph", graph),
    ("children", children),
    ("parallel", parallel),
    ("parallel_children", parallel_children),
    ("parallel_dependents", parallel_dependents),
    ("woken", woken),
    ("spurious_wakes", spurious_wakes),
    ("cancel", cancel),
    ("cancel_awaited", cancel_awaited),
    ("drop_handles", drop_handles),
    ("values", values),
    ("retry", retry),
    ("retry_inputs", retry_inputs),
    ("retry_dropped", retry_dropped),
    ("close", close),
    ("close_with_waiting", close_with_waiting),
    ("close_in_task", close_in_task),
    ("close_scaled", close_scaled),
    ("close_streamed", close_streamed),
    ("close_inputs_client", || close_one_of_two(true)),
    ("close_dependents_client", || close_one_of_two(false)),
    ("drop_client", drop_client),
    ("stream", stream),
    ("stream_dropped", stream_dropped),
    ("waits", waits),
    ("limits", limits),
    ("changed_limits", changed_limits),
    ("keys", keys),
    ("priorities", priorities),
    ("changed_priorities", changed_priorities),
    ("scale", scale),
    ("hosted", hosted),
    ("hosted_children", hosted_children),
    ("idle", idle),
    ("idle_while_waiting", idle_while_waiting),
    ("callbacks", callbacks),
    ("cycles", || cycles(2, 0)),
    ("cycles_late", cycles_late),
    ("cycles_blocking", || cycles(1, 2)),
    ("cycles_blocking_await", || cycles(1, 1)),
    ("panics", panics),
    ("map_stream", map_stream),
    ("blocking", blocking),
    ("blocking_cancelled", blocking_cancelled),
    ("blocking_close", blocking_close),
    ("ready_loop", ready_loop),
    ("join", join),
    ("join_cancelled", join_cancelled),
];

/// Blocks on a future, or on a reference to a handle.
fn block_on<F: IntoFuture>(future: F) -> F::Output {
    shuttle::future::block_on(future.into_future())
}

fn client(workers: usize) -> Client {
    Client::builder().workers(workers).build()
}

fn end(client: &Client) {
    block_on(client.close());
    assert_eq!(client.workers(), 0, "the workers have exited");
}

/// Runs `code` on a thread of its own, beside the caller.
fn beside<T: Send + 'static>(code: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn(code)
}

/// Counts its drop.
struct Value(Arc<AtomicUsize>);

impl Drop for Value {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

struct OnDrop<F: FnMut() -> usize>(F);

impl<F: FnMut() -> usize> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A future that is pending until it's opened, by any thread.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Gate {
    fn open(&self) {
        let wakers = {
            let mut state = self.0.lock().unwrap();
            state.0 = true;
            std::mem::take(&mut state.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    async fn pass(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock().unwrap();
            if state.0 {
                return Poll::Ready(());
            }
            state.1.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A task that waits for the gate.
fn gated(client: &Client, gate: &Gate) -> Handle<()> {
    let gate = gate.clone();
    client.spawn(async move { gate.pass().await })
}

fn is<T>(result: &Result<T, Error>, kind: ErrorKind) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == kind)
}

/// Two threads submit chains.
fn submit() {
    let client = client(2);
    let chain = |client: Client, from: u64| {
        let a = client.submit(async |x: u64| x + 1, from);
        let b = client.submit(async |x: u64| x * 2, &a);
        client.submit(async |x: u64, y: u64| x + y, (a, b))
    };
    let other = beside({
        let client = client.clone();
        move || block_on(chain(client, 10)).unwrap()
    });
    assert_eq!(block_on(chain(client.clone(), 1)).unwrap(), 2 + 4);
    assert_eq!(other.join().unwrap(), 11 + 22);
    end(&client);
}

/// A graph is built while its tasks end.
fn graph() {
    let client = client(2);
    let root = client.submit(async || 1u64, ());
    let level: Vec<_> = (0..3).map(|i| client.submit(async move |x: u64| x + i, &root)).collect();
    drop(root);
    let sum = client.submit(async |all: Vec<u64>| all.iter().sum::<u64>(), level);
    let twice = client.submit(async |x: u64| 2 * x, &sum);
    assert_eq!(block_on(twice).unwrap(), 12);
    assert_eq!(block_on(sum).unwrap(), 6);
    end(&client);
}

/// A task submits children and awaits them; another worker may steal them.
fn children() {
    let client = client(2);
    let parent = client.submit(
        async |n: u64| {
            let client = Client::current().unwrap();
            let children = client.map(async |x: u64| x + 1, 0..n);
            let all = gather(children).await.unwrap();
            all.iter().sum::<u64>()
        },
        4,
    );
    assert_eq!(block_on(parent).unwrap(), 10);
    end(&client);
}

/// Blocks its worker until all workers are in it at once: no task is queued while a worker is idle.
async fn meet(barrier: Arc<Barrier>) {
    barrier.wait();
}

/// Tasks of outside run on all workers at once.
fn parallel() {
    let client = client(3);
    let barrier = Arc::new(Barrier::new(3));
    let tasks: Vec<_> = (0..3).map(|_| client.submit(meet, barrier.clone())).collect();
    block_on(gather(tasks)).unwrap();
    end(&client);
}

/// Tasks of a task run on all workers at once.
fn parallel_children() {
    let client = client(3);
    let barrier = Arc::new(Barrier::new(3));
    let parent = client.submit(
        async move || {
            let client = Client::current().unwrap();
            (0..3).map(|_| client.submit(meet, barrier.clone())).collect::<Vec<_>>()
        },
        (),
    );
    let children = block_on(parent).unwrap();
    block_on(gather(children)).unwrap();
    end(&client);
}

/// Tasks that an input makes ready run on all workers at once.
fn parallel_dependents() {
    let client = client(2);
    let barrier = Arc::new(Barrier::new(2));
    let input = client.submit(async || (), ());
    let dependent = async |(), barrier| meet(barrier).await;
    let tasks: Vec<_> =
        (0..2).map(|_| client.submit(dependent, (&input, barrier.clone()))).collect();
    block_on(gather(tasks)).unwrap();
    end(&client);
}

/// Tasks are woken by a thread that is none of the client's.
fn woken() {
    let client = client(2);
    let gate = Gate::default();
    let tasks: Vec<_> = (0..2)
        .map(|i| {
            let gate = gate.clone();
            client.spawn(async move {
                gate.pass().await;
                i
            })
        })
        .collect();
    let opener = beside(move || gate.open());
    assert_eq!(block_on(gather(&tasks)).unwrap(), [0, 1]);
    opener.join().unwrap();
    end(&client);
}

/// A task is woken by two threads at once, during its polls and between them.
fn spurious_wakes() {
    let client = client(2);
    let wakers = Arc::new(Mutex::new(None::<Waker>));
    let polls = Arc::new(AtomicUsize::new(0));
    let task = client.spawn({
        let (wakers, polls) = (wakers.clone(), polls.clone());
        poll_fn(move |cx| {
            *wakers.lock().unwrap() = Some(cx.waker().clone());
            match polls.fetch_add(1, Ordering::SeqCst) {
                2 => Poll::Ready(7),
                _ => Poll::Pending,
            }
        })
    });
    let wake = |wakers: Arc<Mutex<Option<Waker>>>, polls: Arc<AtomicUsize>| {
        move || {
            while polls.load(Ordering::SeqCst) < 3 {
                let waker = wakers.lock().unwrap().clone();
                waker.into_iter().for_each(|waker| waker.wake_by_ref());
                thread::yield_now();
            }
        }
    };
    let one = beside(wake(wakers.clone(), polls.clone()));
    let two = beside(wake(wakers, polls));
    assert_eq!(block_on(task).unwrap(), 7);
    one.join().unwrap();
    two.join().unwrap();
    end(&client);
}

/// A task and its dependent are cancelled while they may run.
fn cancel() {
    let client = client(2);
    let task = client.submit(
        async || {
            yield_now().await;
            3
        },
        (),
    );
    let dependent = client.submit(async |x: i32| x + 1, &task);
    let canceller = beside({
        let task = task.clone();
        move || task.cancel()
    });
    let (task, dependent) = (block_on(task), block_on(dependent));
    match canceller.join().unwrap() {
        true => assert!(is(&task, ErrorKind::Cancelled) && is(&dependent, ErrorKind::Cancelled)),
        false => assert_eq!((task.unwrap(), dependent.unwrap()), (3, 4)),
    }
    end(&client);
}

/// A task that another one awaits is cancelled, and so is the other one.
fn cancel_awaited() {
    let client = client(2);
    let gate = Gate::default();
    let inner = gated(&client, &gate);
    let outer = client.spawn({
        let inner = inner.clone();
        async move { inner.await }
    });
    let threads = [
        beside({
            let inner = inner.clone();
            move || inner.cancel()
        }),
        beside({
            let outer = outer.clone();
            move || outer.cancel()
        }),
    ];
    let opener = beside(move || gate.open());
    let _ = (block_on(&inner), block_on(outer));
    threads.into_iter().for_each(|thread| {
        let _ = thread.join().unwrap();
    });
    opener.join().unwrap();
    end(&client);
}

/// Handles are dropped while their tasks run: each future and each value is dropped once.
fn drop_handles() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let client = client(2);
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let value = Value(dropped.clone());
            client.spawn(async move {
                yield_now().await;
                value
            })
        })
        .collect();
    let clones: Vec<_> = tasks.iter().map(Handle::get_ref).collect();
    let dropper = beside(move || drop(tasks));
    drop(clones);
    dropper.join().unwrap();
    end(&client);
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
}

/// A value is moved to its last user, whatever the order in which the others are done with it.
fn values() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let client = client(2);
    let value = Arc::new(Value(dropped.clone()));
    let task = client.submit(async |value: Arc<Value>| value, value);
    let other = beside({
        let task = task.clone();
        move || drop(block_on(task))
    });
    let user = client.submit(async |value: Arc<Value>| Arc::strong_count(&value), &task);
    drop(task);
    assert!(block_on(user).unwrap() >= 1);
    other.join().unwrap();
    end(&client);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

/// A failed task is retried by two threads: one of them succeeds at a time.
fn retry() {
    let client = client(2);
    let attempts = Arc::new(AtomicUsize::new(0));
    let task = client.try_submit(
        {
            let attempts = attempts.clone();
            move || {
                let attempt = attempts.fetch_add(1, Ordering::SeqCst);
                async move { if attempt == 0 { Err("no") } else { Ok(attempt) } }
            }
        },
        (),
    );
    assert!(block_on(&task).is_err());
    let other = beside({
        let task = task.clone();
        move || task.retry()
    });
    let retried = usize::from(task.retry()) + usize::from(other.join().unwrap());
    assert_eq!(retried, 1);
    assert_eq!(block_on(&task).unwrap(), 1);
    assert_eq!(attempts.load(Ordering::SeqCst), 2);
    end(&client);
}

/// A dependent is retried with its failed input, while the input is cancelled.
fn retry_inputs() {
    let client = client(2);
    let attempts = Arc::new(AtomicUsize::new(0));
    let task = client.try_submit(
        move || {
            let attempt = attempts.fetch_add(1, Ordering::SeqCst);
            async move { if attempt == 0 { Err("no") } else { Ok(attempt) } }
        },
        (),
    );
    let dependent = client.submit(async |x: usize| x, &task);
    assert!(block_on(&dependent).is_err());
    let canceller = beside({
        let task = task.clone();
        move || task.cancel()
    });
    assert!(dependent.retry() || canceller.join().is_ok());
    let result = block_on(&dependent);
    assert!(matches!(result, Ok(1)) || result.is_err());
    let _ = block_on(&task);
    end(&client);
}

/// A failed task is retried while its other handles are dropped, the last one right after the retry.
fn retry_dropped() {
    let client = client(2);
    let dropped = Arc::new(AtomicUsize::new(0));
    let attempts = Arc::new(AtomicUsize::new(0));
    let task = client.try_submit(
        {
            let (attempts, value) = (attempts.clone(), Arc::new(Value(dropped.clone())));
            move || {
                let _ = &value;
                let attempt = attempts.fetch_add(1, Ordering::SeqCst);
                async move {
                    yield_now().await;
                    if attempt == 0 { Err("no") } else { Ok(attempt) }
                }
            }
        },
        (),
    );
    assert!(block_on(&task).is_err());
    let dropper = beside({
        let task = task.clone();
        move || drop(task)
    });
    assert!(task.retry(), "it has failed");
    drop(task);
    dropper.join().unwrap();
    end(&client);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    assert!([1, 2].contains(&attempts.load(Ordering::SeqCst)));
}

/// A client is closed while tasks are submitted: each handle resolves.
fn close() {
    let client = client(2);
    let submitter = beside({
        let client = client.clone();
        move || {
            let a = client.submit(async || 1, ());
            let b = client.submit(async |x: i32| x + 1, &a);
            (block_on(a), block_on(b))
        }
    });
    block_on(client.close());
    let (a, b) = submitter.join().unwrap();
    assert!(matches!(a, Ok(1)) || is(&a, ErrorKind::Closed));
    assert!(matches!(b, Ok(2)) || is(&b, ErrorKind::Closed));
    end(&client);
}

/// A client is closed while its tasks await each other, and one of them is woken.
fn close_with_waiting() {
    let client = client(2);
    let gate = Gate::default();
    let inner = gated(&client, &gate);
    let outer = client.spawn({
        let inner = inner.clone();
        async move { inner.await }
    });
    let last = client.submit(async |_: Result<(), Error>| (), &outer);
    let opener = beside(move || gate.open());
    block_on(client.close());
    opener.join().unwrap();
    for result in [block_on(inner), block_on(last)] {
        assert!(result.is_ok() || is(&result, ErrorKind::Closed));
    }
    end(&client);
}

/// A task closes its own client, and another one does so, too.
fn close_in_task() {
    let client = client(2);
    let closer = |client: Client| async move { client.close().await };
    let one = client.spawn(closer(client.clone()));
    let two = client.spawn(closer(client.clone()));
    let _ = (block_on(one), block_on(two));
    end(&client);
}

/// A client is closed while its number of workers changes.
fn close_scaled() {
    let client = client(1);
    let scaler = beside({
        let client = client.clone();
        move || [3, 0, 2].map(|workers| client.scale(workers).unwrap())
    });
    let task = client.submit(
        async || {
            yield_now().await;
            1
        },
        (),
    );
    block_on(client.close());
    let result = block_on(task);
    assert!(matches!(result, Ok(1)) || is(&result, ErrorKind::Closed), "{result:?}");
    scaler.join().unwrap();
    end(&client);
}

/// A client is closed while tasks are added to a stream: each one comes out.
fn close_streamed() {
    let client = client(2);
    let closer = beside({
        let client = client.clone();
        move || block_on(client.close())
    });
    let mut done = as_completed(client.map(async |x: u64| x, 0..2));
    let (mut added, mut seen) = (2, 0);
    block_on(async {
        while let Some(handle) = done.next().await {
            seen += 1;
            let result = handle.await;
            assert!(result.is_ok() || is(&result, ErrorKind::Closed), "{result:?}");
            if added < 5 {
                added += 1;
                done.add(client.submit(async |x: u64| x, 7));
            }
        }
    });
    assert_eq!((added, seen), (5, 5));
    closer.join().unwrap();
    end(&client);
}

/// Of two clients one is closed: that of a task, or that of the tasks which depend on it and await it.
fn close_one_of_two(inputs: bool) {
    let (one, two) = (client(1), client(1));
    let gate = Gate::default();
    let input = gated(&one, &gate);
    let dependent = two.submit(async |()| 7, &input);
    let awaiting = two.spawn({
        let input = input.clone();
        async move { input.await }
    });
    let closer = beside({
        let client = if inputs { one.clone() } else { two.clone() };
        move || block_on(client.close())
    });
    let opener = beside(move || gate.open());
    let (input, dependent, awaiting) = (block_on(input), block_on(dependent), block_on(awaiting));
    assert!(matches!(dependent, Ok(7)) || is(&dependent, ErrorKind::Closed), "{dependent:?}");
    match inputs {
        true => {
            let awaited = awaiting.unwrap();
            assert_eq!(input.is_ok(), dependent.is_ok());
            assert_eq!(input.is_ok(), awaited.is_ok());
        }
        false => {
            input.unwrap();
            assert!(matches!(awaiting, Ok(Ok(()))) || is(&awaiting, ErrorKind::Closed));
        }
    }
    closer.join().unwrap();
    opener.join().unwrap();
    end(&one);
    end(&two);
}

/// The last client is dropped while tasks run: their futures are dropped, and the handles resolve.
fn drop_client() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let client = client(2);
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let value = Value(dropped.clone());
            client.spawn(async move {
                let _value = value;
                pending::<()>().await;
            })
        })
        .collect();
    let worker = client.worker();
    drop(client);
    for task in tasks {
        assert!(is(&block_on(task), ErrorKind::Closed));
    }
    drop(worker);
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
}

/// Handles are added to a stream while it runs.
fn stream() {
    let client = client(2);
    let handles = client.map(async |x: u64| x, 0..3);
    let mut done = as_completed(&handles);
    let mut seen = Vec::new();
    block_on(async {
        while let Some(handle) = done.next().await {
            let x = handle.await.unwrap();
            if x < 3 {
                done.add(client.submit(async |x: u64| x + 10, x));
            }
            seen.push(x);
        }
    });
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 10, 11, 12]);
    end(&client);
}

/// A stream is dropped while its members end.
fn stream_dropped() {
    let client = client(2);
    let handles = client.map(async |x: u64| x, 0..3);
    let mut done = as_completed(&handles).with_results();
    let first = block_on(done.next());
    assert!(first.is_some_and(|result| result.1.is_ok()));
    drop(done);
    assert_eq!(block_on(gather(&handles)).unwrap(), [0, 1, 2]);
    end(&client);
}

/// All of them and any of them are awaited, inside a task and outside.
fn waits() {
    let client = client(2);
    let gate = Gate::default();
    let slow = gated(&client, &gate);
    let fast = client.spawn(async {});
    let any = client.spawn({
        let both = [slow.clone(), fast.clone()];
        async move { wait_any(both).await.done.len() }
    });
    assert!(block_on(any).unwrap() >= 1);
    gate.open();
    assert_eq!(block_on(wait_all([&slow, &fast])).done.len(), 2);
    end(&client);
}

/// At most one task holds the limit, although one that waits for it is cancelled.
fn limits() {
    let client = Client::builder().workers(2).limit("one", 1).build();
    let holders = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..3)
        .map(|i| {
            let holders = holders.clone();
            client.task().acquire("one").spawn(async move {
                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                // The task may be dropped here.
                let _holder = OnDrop(move || holders.fetch_sub(1, Ordering::SeqCst));
                yield_now().await;
                i
            })
        })
        .collect();
    let canceller = beside({
        let task = tasks[1].clone();
        move || task.cancel()
    });
    let results: Vec<_> = tasks.into_iter().map(block_on).collect();
    let cancelled = canceller.join().unwrap();
    assert!(matches!((&results[0], &results[2]), (Ok(0), Ok(2))), "{results:?}");
    assert_eq!(is(&results[1], ErrorKind::Cancelled), cancelled, "{results:?}");
    assert!(cancelled || results[1].is_ok());
    end(&client);
}

/// Tasks that need several limits all run, although one of them is cancelled and the limits change meanwhile.
fn changed_limits() {
    let client = Client::builder().workers(2).limit("one", 1).limit_each("each:*", 1).build();
    let submit = |names: &[&str]| {
        let options = names.iter().fold(client.task(), |options, name| options.acquire(*name));
        options.spawn(yield_now())
    };
    let tasks = [
        submit(&["one", "each:a"]),
        submit(&["each:a"]),
        submit(&["one"]),
        submit(&["one", "each:b"]),
    ];
    let canceller = beside({
        let task = tasks[0].clone();
        move || task.cancel()
    });
    for n in [0, 2, 1] {
        client.set_limit("one", n);
    }
    client.set_limit_each("each:*", 2);
    let results = tasks.map(block_on);
    let cancelled = canceller.join().unwrap();
    assert_eq!(is(&results[0], ErrorKind::Cancelled), cancelled, "{results:?}");
    assert!(results[1..].iter().all(Result::is_ok), "{results:?}");
    end(&client);
    let limits = client.limits();
    assert!(limits.iter().all(|limit| (limit.used, limit.waiting) == (0, 0)), "{limits:?}");
}

/// Two threads submit the same key while a third one drops its handle: equal keys run once at a time.
fn keys() {
    let client = client(2);
    let runs = Arc::new(AtomicUsize::new(0));
    let submit = {
        let (client, runs) = (client.clone(), runs.clone());
        move || {
            let runs = runs.clone();
            let function = async move || runs.fetch_add(1, Ordering::SeqCst);
            client.task().key("key").submit(function, ())
        }
    };
    let first = submit();
    let dropper = beside({
        let first = first.clone();
        move || drop(first)
    });
    let other = beside({
        let submit = submit.clone();
        move || block_on(submit()).unwrap()
    });
    let again = submit();
    assert_eq!(block_on(&again).unwrap(), block_on(&first).unwrap());
    assert_eq!(other.join().unwrap(), 0);
    dropper.join().unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    drop((first, again));
    assert!(client.get::<usize>("key").is_none());
    end(&client);
}

/// A priority is raised, through an input, while the tasks are queued and run.
fn priorities() {
    let client = client(1);
    let low = client.task().priority(-1).submit(async || 1, ());
    let next = client.task().priority(-1).submit(async |x: i32| x + 1, &low);
    let high = beside({
        let (client, next) = (client.clone(), next.clone());
        move || block_on(client.task().priority(2).submit(async |x: i32| x + 1, &next)).unwrap()
    });
    let middle = client.submit(async || 5, ());
    assert_eq!(block_on(middle).unwrap(), 5);
    assert_eq!(high.join().unwrap(), 3);
    assert_eq!((block_on(low).unwrap(), block_on(next).unwrap()), (1, 2));
    end(&client);
}

/// The priorities of tasks are changed while they're queued and run.
fn changed_priorities() {
    let client = client(2);
    let tasks = client.map(async |x: i32| x + 1, 0..4);
    let sum = client.submit(async |all: Vec<i32>| all.iter().sum::<i32>(), &tasks);
    let changer = beside({
        let tasks = tasks.clone();
        move || {
            for (task, priority) in tasks.iter().zip([-1, 2, -3, 0]) {
                task.set_priority(priority);
            }
            tasks[1].set_priority(-2);
        }
    });
    assert_eq!(block_on(gather(tasks)).unwrap(), [1, 2, 3, 4]);
    assert_eq!(block_on(sum).unwrap(), 10);
    changer.join().unwrap();
    end(&client);
}

/// The number of workers changes while tasks run.
fn scale() {
    let client = client(1);
    let scaler = beside({
        let client = client.clone();
        move || {
            client.scale(0).unwrap();
            client.scale(2).unwrap();
        }
    });
    let handles = client.map(
        async |x: u64| {
            yield_now().await;
            x
        },
        0..3,
    );
    assert_eq!(block_on(gather(handles)).unwrap(), [0, 1, 2]);
    scaler.join().unwrap();
    assert_eq!(client.workers(), 2);
    end(&client);
}

/// A worker on a thread of the application's is dropped between two of its polls; another one takes its tasks over.
fn hosted() {
    let client = client(0);
    let handles = client.map(
        async |x: u64| {
            yield_now().await;
            x
        },
        0..3,
    );
    let hosts: Vec<_> = [1, usize::MAX]
        .into_iter()
        .map(|polls| {
            let mut worker = client.worker();
            beside(move || {
                let mut polls = polls;
                block_on(poll_fn(|cx| {
                    polls -= 1;
                    match Pin::new(&mut worker).poll(cx) {
                        Poll::Pending if polls > 0 => Poll::Pending,
                        _ => Poll::Ready(()),
                    }
                }));
            })
        })
        .collect();
    // The wake for this one may be that of the worker that is dropped.
    let last = client.submit(async || 3, ());
    assert_eq!(block_on(last).unwrap(), 3);
    assert_eq!(block_on(gather(handles)).unwrap(), [0, 1, 2]);
    block_on(client.idle());
    block_on(client.close());
    hosts.into_iter().for_each(|host| host.join().unwrap());
    assert_eq!(client.workers(), 0);
}

/// A task on a worker that the application polls blocks that worker until each of its children has run, first one and then
/// two at once: others must be woken for them meanwhile.
fn hosted_children() {
    let client = client(0);
    let hosts: Vec<_> = (0..3)
        .map(|_| {
            let worker = client.worker();
            beside(move || block_on(worker))
        })
        .collect();
    let parent = client.submit(
        async |()| {
            let client = Client::current().unwrap();
            for children in [1, 2] {
                let all = Arc::new(Barrier::new(children + 1));
                let handles: Vec<_> = (0..children)
                    .map(|_| {
                        let all = all.clone();
                        client.spawn(async move {
                            all.wait();
                        })
                    })
                    .collect();
                all.wait();
                drop(handles);
            }
        },
        (),
    );
    block_on(parent).unwrap();
    block_on(client.close());
    hosts.into_iter().for_each(|host| host.join().unwrap());
}

/// Idleness is awaited by two threads while a task submits another one.
fn idle() {
    let client = client(2);
    let last = Arc::new(Mutex::new(None));
    let first = client.spawn({
        let (client, last) = (client.clone(), last.clone());
        async move {
            let child = client.spawn(async { yield_now().await });
            *last.lock().unwrap() = Some(child);
        }
    });
    let other = beside({
        let client = client.clone();
        move || block_on(client.idle())
    });
    block_on(&first).unwrap();
    block_on(client.idle());
    let child = last.lock().unwrap().take().unwrap();
    assert!(child.is_finished(), "the client is idle");
    other.join().unwrap();
    end(&client);
}

/// Idleness is awaited while a task that awaits it, too, is cancelled: the task that waits for the gate still counts.
fn idle_while_waiting() {
    let client = client(2);
    let gate = Gate::default();
    let slow = gated(&client, &gate);
    let idler = client.spawn({
        let client = client.clone();
        async move { client.idle().await }
    });
    let other = beside({
        let (client, slow) = (client.clone(), slow.clone());
        move || {
            block_on(client.idle());
            assert!(slow.is_finished(), "the client is idle");
        }
    });
    idler.cancel();
    gate.open();
    other.join().unwrap();
    let _ = (block_on(slow), block_on(idler));
    end(&client);
}

/// Callbacks are added while the task ends: each is called once.
fn callbacks() {
    let client = client(1);
    let calls = Arc::new(AtomicUsize::new(0));
    let task = client.spawn(async {});
    let add = {
        let calls = calls.clone();
        move |task: Handle<()>| {
            let calls = calls.clone();
            task.on_done(move |_| {
                calls.fetch_add(1, Ordering::SeqCst);
            });
        }
    };
    let other = beside({
        let (add, task) = (add.clone(), task.clone());
        move || add(task)
    });
    add(task.clone());
    block_on(&task).unwrap();
    other.join().unwrap();
    end(&client);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

/// A task awaits a dependent of itself and of another, which ends: then that's a cycle.
fn cycles_late() {
    let client = client(2);
    let slot: Arc<Mutex<Option<Handle<i32>>>> = Arc::default();
    let (begins, ends) = (Gate::default(), Gate::default());
    let (of, gate) = (slot.clone(), begins.clone());
    let task = client.spawn(async move {
        gate.pass().await;
        let both = of.lock().unwrap().take().unwrap();
        is(&both.await, ErrorKind::Cycle)
    });
    let gate = ends.clone();
    let other = client.spawn(async move { gate.pass().await });
    let both = client.submit(async |_: bool, (): ()| 1, (&task, other));
    *slot.lock().unwrap() = Some(both.clone());
    let opener = beside(move || ends.open());
    begins.open();
    assert!(block_on(&task).unwrap());
    assert_eq!(block_on(both).unwrap(), 1);
    opener.join().unwrap();
    end(&client);
}

/// Two tasks wait for each other, and some of them block a thread for that: one of them gets an error.
fn cycles(workers: usize, blocking: usize) {
    type Slot = Arc<Mutex<Option<Handle<bool>>>>;
    let client = Client::builder().workers(workers).blocking_threads(2).build();
    let slots: [Slot; 2] = Default::default();
    let gate = Gate::default();
    let tasks: Vec<_> = (0..2)
        .map(|i| {
            let (slot, gate) = (slots[1 - i].clone(), gate.clone());
            let take = move || slot.lock().unwrap().take().unwrap();
            if i < blocking {
                let work = move || {
                    block_on(gate.pass());
                    is(&take().result(), ErrorKind::Cycle)
                };
                return client.submit_blocking(work, ());
            }
            client.spawn(async move {
                gate.pass().await;
                is(&take().await, ErrorKind::Cycle)
            })
        })
        .collect();
    for (slot, task) in slots.iter().zip(&tasks) {
        *slot.lock().unwrap() = Some(task.clone());
    }
    gate.open();
    let results = block_on(gather(tasks)).unwrap();
    assert_eq!(results.iter().filter(|is_refused| **is_refused).count(), 1, "{results:?}");
    end(&client);
}

/// A task panics while others await it and depend on it.
fn panics() {
    let client = client(2);
    let bad = client.submit(async || -> i32 { std::panic::resume_unwind(Box::new("no")) }, ());
    let dependent = client.submit(async |x: i32| x, &bad);
    let awaiting = client.spawn({
        let bad = bad.clone();
        async move { is(&bad.await, ErrorKind::Panicked) }
    });
    assert!(block_on(awaiting).unwrap());
    assert!(is(&block_on(dependent), ErrorKind::Panicked));
    assert!(is(&block_on(bad), ErrorKind::Panicked));
    assert_eq!(block_on(client.submit(async || 1, ())).unwrap(), 1);
    end(&client);
}

/// A stream of inputs with two calls at a time, beside an await that loses a race.
fn map_stream() {
    let client = client(2);
    let gate = Gate::default();
    let slow = gated(&client, &gate);
    let results = client.map_stream(futures_lite::stream::iter(0..4u64), 2, async |x: u64| x + 1);
    let collect = async {
        let mut all: Vec<_> = results.map(Result::unwrap).collect().await;
        all.sort_unstable();
        all
    };
    let race = async { or(async { slow.await.is_ok() }, async { false }).await };
    let (all, won) = block_on(zip(collect, race));
    assert_eq!(all, [1, 2, 3, 4]);
    assert!(!won);
    gate.open();
    end(&client);
}

/// Blocking work of tasks that stand on each other, on one thread.
fn blocking() {
    let client = Client::builder().workers(2).blocking_threads(1).build();
    let a = client.submit_blocking(|| 1, ());
    let b = client.submit_blocking(|x: i32| x + 1, &a);
    let c = client.submit_blocking(|x: i32| x + 10, &a);
    assert_eq!((block_on(b).unwrap(), block_on(c).unwrap()), (2, 11));
    end(&client);
}

/// Blocking work is cancelled before, while and after it runs, and gives its limit back.
fn blocking_cancelled() {
    let builder = Client::builder().workers(1).blocking_threads(1).limit("one", 1);
    let client = builder.build();
    let tasks: Vec<_> =
        (0..2).map(|i| client.task().acquire("one").submit_blocking(move || i, ())).collect();
    let canceller = beside({
        let task = tasks[0].clone();
        move || task.cancel()
    });
    let results: Vec<_> = tasks.into_iter().map(block_on).collect();
    let cancelled = canceller.join().unwrap();
    assert_eq!(is(&results[0], ErrorKind::Cancelled), cancelled, "{results:?}");
    assert!(matches!(results[1], Ok(1)), "{results:?}");
    end(&client);
}

/// A client is closed while blocking work is submitted.
fn blocking_close() {
    let client = Client::builder().workers(1).blocking_threads(2).build();
    let submitter = beside({
        let client = client.clone();
        move || {
            let tasks: Vec<_> = (0..2).map(|i| client.submit_blocking(move || i, ())).collect();
            tasks.into_iter().map(block_on).collect::<Vec<_>>()
        }
    });
    block_on(client.close());
    for result in submitter.join().unwrap() {
        assert!(result.is_ok() || is(&result, ErrorKind::Closed), "{result:?}");
    }
    end(&client);
}

/// A task that awaits nothing but what is ready is cancelled.
fn ready_loop() {
    let client = client(1);
    let done = client.ready(1);
    let busy = client.spawn(async move {
        // Schedules needn't be fair, so it has an end.
        for _ in 0..300 {
            (&done).await.unwrap();
        }
    });
    let other = client.submit(async || 2, ());
    assert_eq!(block_on(other).unwrap(), 2);
    let cancelled = busy.cancel();
    assert_eq!(is(&block_on(busy), ErrorKind::Cancelled), cancelled);
    end(&client);
}

/// Sums a tree with a join at each node. The numbers at the nodes are changed in place, and set back.
fn tree(numbers: &mut [u64]) -> u64 {
    let [number, rest @ ..] = numbers else { return 0 };
    *number += 100;
    let (low, high) = rest.split_at_mut(rest.len() / 2);
    let (a, b) = ensue::join(|| tree(low), || tree(high));
    *number -= 100;
    *number + a + b
}

/// Tasks and blocking work with joins, whose branches run anywhere, beside others.
fn join() {
    let client = client(3);
    let sum = |n: u64| (0..n).sum::<u64>();
    let compute = |n: u64| tree(&mut (0..n).collect::<Vec<_>>());
    let one = client.submit(async move |n| compute(n), 7);
    let other = client.submit(async |x: u64| x + 1, 1);
    let two = client.submit(async move |n| compute(n), &other);
    let blocking = client.submit_blocking(compute, 5);
    assert_eq!(block_on(one).unwrap(), sum(7));
    assert_eq!(block_on(two).unwrap(), sum(2));
    assert_eq!(block_on(blocking).unwrap(), sum(5));
    end(&client);
}

/// A task is cancelled while it joins: it ends by its value or as cancelled, after all that borrows from it.
fn join_cancelled() {
    let client = client(2);
    let live = Arc::new(AtomicUsize::new(0));
    let count = live.clone();
    let task = client.submit(
        async move || {
            let _live = Value(count.clone());
            let mut numbers = [1, 2, 3, 4];
            let sum = tree(&mut numbers);
            ensue::join(|| assert_eq!(numbers, [1, 2, 3, 4]), || assert_eq!(sum, 10));
            sum
        },
        (),
    );
    let canceller = beside({
        let task = task.clone();
        move || task.cancel()
    });
    let cancelled = canceller.join().unwrap();
    match block_on(task) {
        Ok(sum) => assert!(!cancelled && sum == 10),
        Err(error) => assert!(cancelled && error.is_cancelled(), "{error}"),
    }
    end(&client);
    assert!(live.load(Ordering::SeqCst) <= 1);
}
