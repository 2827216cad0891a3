//! Memory: one allocation a task, and nothing left behind (promises 9 and 20).
//!
//! One test, because the allocator counts for the whole process.

use std::sync::Arc;
use std::time::Duration;

use ensue::{Client, Handle, as_completed, gather};
use futures::executor::block_on;
use futures::{StreamExt, stream};
use smol::future::yield_now;
use support::allocator::{Counting, allocations, bytes};
use support::hold::hold_worker;
use support::observe::Count;
use support::{client_of, eventually, within};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

async fn inc(x: u64) -> u64 {
    x + 1
}

/// Tasks of one stream: fewer in a debug build.
const MANY: u64 = if cfg!(debug_assertions) { 200_000 } else { 10_000_000 };

/// The number of allocations for each of `n` tasks.
fn allocations_each(n: usize, work: impl FnOnce()) -> f64 {
    let before = allocations();
    work();
    (allocations() - before) as f64 / n as f64
}

fn a_submit_allocates_once() {
    const N: usize = 10_000;
    let client = client_of(1);
    let mut handles = Vec::with_capacity(2 * N);
    let held = hold_worker(&client);
    let x = client.ready(1u64);
    // In the first round the queues grow.
    for round in 0..2 {
        handles.clear();
        let each = allocations_each(N, || {
            handles.extend((0..N as u64).map(|n| client.submit(inc, n)));
        });
        assert!(round == 0 || each < 1.1, "{each} for a submit from outside");
        let each = allocations_each(N, || {
            handles.extend((0..N as u64).map(|_| client.submit(inc, &x)));
        });
        assert!(round == 0 || each < 1.1, "{each} for a submit with an input that is there");
    }
    handles.clear();
    let mut chain = x.clone();
    let each = allocations_each(N, || {
        for _ in 0..N {
            chain = client.submit(inc, &chain);
        }
    });
    assert!(each < 1.1, "{each} for a submit with an input that is awaited");
    let pairs = allocations_each(N, || {
        handles.extend(
            (0..N as u64)
                .map(|n| client.submit(async |a: u64, b: u64, c: u64| a + b + c, (&chain, &x, n))),
        );
    });
    assert!(pairs < 1.1, "{pairs} for a submit with two inputs");
    drop((handles, chain));
    held.let_go();
    let x = client.spawn(async {
        let client = Client::current().unwrap();
        let mut each = 0.0;
        let mut handles = Vec::with_capacity(N);
        for _ in 0..2 {
            handles.clear();
            each = allocations_each(N, || {
                handles.extend((0..N as u64).map(|n| client.submit(inc, n)));
            });
        }
        each
    });
    let each = x.result().unwrap();
    assert!(each < 1.1, "{each} for a submit from a task");
}

fn running_allocates_nothing() {
    const N: usize = 10_000;
    let client = client_of(1);
    let held = hold_worker(&client);
    let handles: Vec<_> = (0..N as u64).map(|n| client.submit(inc, n)).collect();
    let done = handles[N - 1].clone();
    let each = allocations_each(N, move || {
        held.let_go();
        done.result().unwrap();
    });
    assert!(each < 0.1, "{each} to run a task");
    drop(handles);
}

fn a_held_task_is_small() {
    const N: usize = 10_000;
    let client = client_of(1);
    let mut handles = Vec::with_capacity(2 * N);
    let mut each = 0;
    // The first ones use up the recycled memory and let the queues grow.
    for _ in 0..2 {
        let before = bytes();
        handles.extend((0..N as u64).map(|n| client.submit(inc, n)));
        block_on(client.idle());
        each = (bytes() - before) / N;
    }
    assert!((80..=104).contains(&each), "{each} bytes for a held task");
}

/// A future of about `N` bytes that never ends, and counts its first poll.
async fn large<const N: usize>(begun: Count) {
    let array = [1u8; N];
    begun.add();
    std::future::pending::<()>().await;
    std::hint::black_box(&array);
}

async fn try_large<const N: usize>(begun: Count) -> Result<(), String> {
    let array = [1u8; N];
    begun.add();
    std::future::pending::<()>().await;
    std::hint::black_box(&array);
    Ok(())
}

fn a_task_is_about_as_large_as_its_future<const N: usize>() {
    const TASKS: usize = 100;
    const LATE: Duration = Duration::from_secs(600);
    until_settled();
    let client = Client::builder().workers(1).limit("many", TASKS).build();
    let check = |what: &str, submit: &dyn Fn(&Client, Count) -> Handle<()>| {
        let begun = Count::new();
        let size = size_of_val(&large::<N>(begun.clone()));
        assert!((N..N + 100).contains(&size), "{size}");
        // The tables have grown after the first round.
        for round in 0..2 {
            let mut handles = Vec::with_capacity(TASKS);
            // A worker may still be about to free those of the round before.
            eventually("no task is left", || client.tasks_in_memory() == 0);
            let before = bytes();
            handles.extend((0..TASKS).map(|_| submit(&client, begun.clone())));
            eventually("all have begun", || begun.get() == (round + 1) * TASKS);
            let each = (bytes() - before) / TASKS;
            assert!(round == 0 || each <= size * 6 / 5 + 440, "{what}: {each} for {size} bytes");
            drop(handles);
            block_on(client.idle());
        }
    };
    check("spawn", &|client, begun| client.spawn(large::<N>(begun)));
    check("try_spawn", &|client, begun| client.try_spawn(try_large::<N>(begun)));
    check("submit", &|client, begun| client.submit(large::<N>, begun));
    check("try_submit", &|client, begun| client.try_submit(try_large::<N>, begun));
    check("name", &|client, begun| client.task().name("x").spawn(large::<N>(begun)));
    check("priority", &|client, begun| client.task().priority(1).submit(large::<N>, begun));
    check("a limit", &|client, begun| client.task().acquire("many").spawn(large::<N>(begun)));
    check("a limit", &|client, begun| client.task().acquire("many").submit(large::<N>, begun));
    check("a timeout", &|client, begun| client.task().timeout(LATE).spawn(large::<N>(begun)));
    check("a timeout", &|client, begun| client.task().timeout(LATE).submit(large::<N>, begun));
    check("retries", &|client, begun| client.task().retries(1).submit(large::<N>, begun));
    check("all", &|client, begun| {
        let options = client.task().acquire("many").timeout(LATE).retries(1);
        options.try_submit(try_large::<N>, begun)
    });
    check("all of a future", &|client, begun| {
        client.task().acquire("many").timeout(LATE).try_spawn(try_large::<N>(begun))
    });
}

/// Runs `work` on a client, and again, and checks that the second time has left nothing.
fn leaves_nothing(what: &str, client: &Client, work: impl Fn(&Client)) {
    let settle = || {
        block_on(client.idle());
        eventually("no task is left", || client.tasks_in_memory() == 0);
    };
    work(client);
    settle();
    // Unused memory is given back after half a second. If it takes longer, the check below is only less strict.
    std::thread::sleep(Duration::from_millis(1200));
    let before = bytes();
    work(client);
    settle();
    bytes_come_down_to(before + 200 * 1024, what);
}

fn bytes_come_down_to(wanted: usize, what: &str) {
    eventually(format_args!("{what}: at most {wanted} bytes are left"), || bytes() <= wanted);
}

/// Waits until what earlier clients have left is given back, which takes place in the background.
fn until_settled() {
    let mut before = usize::MAX;
    eventually("nothing is given back any more", || {
        let now = bytes();
        let has_settled = now >= before;
        before = now;
        std::thread::sleep(Duration::from_secs(1));
        has_settled
    });
}

fn free_memory_goes_back() {
    const N: u64 = 200_000;
    let before = bytes();
    let client = client_of(2);
    let work = || {
        let handles = client.map(inc, 0..N);
        block_on(gather(&handles)).unwrap();
        assert!(bytes() > before + N as usize * 90);
    };
    work();
    // Recycled memory saves most allocations of the next tasks...
    let each = allocations_each(N as usize, work);
    if !cfg!(ensue_no_recycling) {
        assert!(each < 1.0, "{each} for a task of the second wave");
    }
    // ... and is given back in two steps: a part of it while the client exists, the rest when it's dropped.
    bytes_come_down_to(before + 2 * 1024 * 1024, "an idle client");
    drop(client);
    bytes_come_down_to(before + 200 * 1024, "no client");
}

fn tasks_leave_nothing() {
    let client = Client::builder().workers(2).limit("one", 1).build();
    leaves_nothing("a stream of tasks", &client, |client| {
        let results = client.map_stream(stream::iter(0..MANY), 64, inc);
        block_on(results.for_each(async |x| assert!(x.is_ok())));
    });
    leaves_nothing("waves of tasks", &client, |client| {
        for _ in 0..100 {
            block_on(gather(client.map(inc, 0..1000u64))).unwrap();
        }
    });
    leaves_nothing("a completion stream that is fed", &client, |client| {
        let mut running = as_completed(client.map(inc, 0..100u64));
        for n in 0..100_000 {
            let x = block_on(running.next()).unwrap();
            running.add(client.submit(inc, x));
            assert_eq!(running.len(), 100, "{n}");
        }
    });
    leaves_nothing("a chain that is held by its end", &client, |client| {
        let mut x = client.submit(inc, 0);
        for _ in 0..100_000 {
            x = client.submit(inc, x);
        }
        assert_eq!(x.result().unwrap(), 100_001);
    });
    leaves_nothing("awaits", &client, |client| {
        for n in 0..10_000 {
            assert_eq!(block_on(client.submit(inc, n)).unwrap(), n + 1);
        }
    });
    leaves_nothing("threads that drop handles, and end", &client, |client| {
        for _ in 0..300 {
            let xs = client.map(inc, 0..40u64);
            block_on(gather(&xs)).unwrap();
            std::thread::spawn(move || drop(xs)).join().unwrap();
        }
    });
    leaves_nothing("tasks with all options, of all endings", &client, |client| {
        for n in 0..2000u64 {
            let options = client.task().key(format!("key-{n}")).acquire("one").retries(1);
            let x = options.timeout(Duration::from_secs(60)).try_submit(
                async |n: u64| {
                    yield_now().await;
                    if n % 2 == 0 { Err(format!("{n} is even")) } else { Ok(n) }
                },
                n,
            );
            let y = client.task().priority(n as i32 % 3).submit(inc, &x);
            if n % 5 == 0 {
                x.cancel();
            }
            assert_eq!(y.result().is_ok(), x.result().is_ok());
            if n % 7 == 0 {
                let _ = y.retry();
            }
            let _ = client.submit_pure(inc, n).result();
        }
    });
    leaves_nothing("tasks that were dropped or cancelled while they ran", &client, |client| {
        for n in 0..2000u64 {
            let captured = Arc::new([n; 16]);
            let x = client.spawn(async move {
                std::future::pending::<()>().await;
                captured[0]
            });
            let y = client.submit(inc, &x);
            let waiting = as_completed([&x, &y]);
            match n % 3 {
                0 => drop(x),
                1 => assert!(x.cancel()),
                _ => drop(waiting),
            }
        }
    });
}

fn clients_leave_nothing() {
    let come_and_go = |n: u64| {
        let client = Client::builder().workers(2).limit("one", 1).name("memory").build();
        let xs = client.map(inc, 0..100u64);
        let never = client.spawn(std::future::pending::<u64>());
        let waiting = client.task().acquire("one").priority(1).submit(inc, &never);
        client.task().key("k").submit(inc, 1).detach();
        if n % 2 == 0 {
            block_on(gather(&xs)).unwrap();
        }
        if n % 3 == 0 {
            never.cancel();
            block_on(client.close());
        }
        drop(client);
        // Handles may outlive their client.
        drop((xs, never, waiting));
        let seeded = Client::builder().seed(n).build();
        block_on(gather(seeded.map(inc, 0..100u64))).unwrap();
    };
    (0..50).for_each(come_and_go);
    std::thread::sleep(Duration::from_millis(50));
    let before = bytes();
    (0..1000).for_each(come_and_go);
    // A leaked client is more than a kilobyte. The queues' memory is reclaimed later, in bulk.
    bytes_come_down_to(before + 400 * 1024, "1000 clients");
}

#[test]
fn memory() {
    within(Duration::from_secs(1800), || {
        // Twice: the second time the client is the first again.
        free_memory_goes_back();
        free_memory_goes_back();
        a_held_task_is_small();
        a_task_is_about_as_large_as_its_future::<1_000>();
        a_task_is_about_as_large_as_its_future::<10_000>();
        a_task_is_about_as_large_as_its_future::<100_000>();
        a_submit_allocates_once();
        running_allocates_nothing();
        tasks_leave_nothing();
        clients_leave_nothing();
    });
}
