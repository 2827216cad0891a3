//! Threads that submit, await, cancel, retry, drop, scale and close at the same time: nothing hangs, and every value is
//! dropped once (promises 8, 9, 14, 20 and 21).

use std::thread;
use std::time::{Duration, Instant};

use ensue::{Client, ErrorKind, Handle, as_completed, gather, sleep};
use futures::StreamExt;
use futures::executor::block_on;
use smol::future::yield_now;
use support::observe::{Counted, Counts};
use support::{bounded, eventually};

async fn add(a: Counted, b: Counted) -> Counted {
    a.counts.value(a.value.wrapping_add(b.value))
}

async fn slow_add(a: Counted, b: Counted) -> Counted {
    for _ in 0..a.value % 3 {
        yield_now().await;
    }
    add(a, b).await
}

/// Random operations of one thread on a client that others use, too.
fn random_operations(client: &Client, counts: &Counts, seed: u64, until: Instant) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut handles: Vec<Handle<Counted>> = Vec::new();
    while Instant::now() < until {
        if handles.len() < 2 {
            handles.push(client.ready(counts.value(random.u64(..9))));
            let value = counts.value(1);
            handles
                .push(client.submit(async move |n: u64| value.counts.value(n + value.value), 1u64));
        }
        let any = |random: &mut fastrand::Rng| random.usize(..1 << 30);
        let (i, j) = (any(&mut random) % handles.len(), any(&mut random) % handles.len());
        match random.u32(..16) {
            0..4 => {
                let sum = client.submit(add, (&handles[i], &handles[j]));
                handles.push(sum);
            }
            4..6 => {
                let priority = random.i32(-2..3);
                let sum =
                    client.task().priority(priority).submit(slow_add, (&handles[i], &handles[j]));
                handles.push(sum);
            }
            6 => {
                let (a, b) = (handles[i].clone(), handles[j].clone());
                handles.push(client.spawn(async move {
                    let (a, b) = futures::join!(a, b);
                    match (a, b) {
                        (Ok(a), Ok(b)) => add(a, b).await,
                        (Ok(a), _) | (_, Ok(a)) => a,
                        (Err(error), _) => panic!("{error}"),
                    }
                }));
            }
            7 => {
                drop(handles.swap_remove(i));
            }
            8 => {
                handles[i].cancel();
            }
            9 => {
                handles[i].retry();
            }
            10 => {
                let key = format!("k{}", random.u32(..4));
                let counts = counts.clone();
                let joined = client
                    .task()
                    .key(key)
                    .priority(random.i32(-1..2))
                    .submit(async move |a: Counted| counts.value(a.value), &handles[i]);
                handles.push(joined);
            }
            11 => {
                let nap = Duration::from_micros(random.u64(..200));
                let counts = counts.clone();
                handles.push(
                    client
                        .task()
                        .acquire("few")
                        .timeout(Duration::from_micros(150))
                        .retries(1)
                        .submit(
                            async move |a: Counted| {
                                sleep(nap).await;
                                counts.value(a.value)
                            },
                            &handles[i],
                        ),
                );
            }
            12 => {
                let some: Vec<_> = handles.iter().take(random.usize(..8)).cloned().collect();
                let mut stream = as_completed(&some);
                for _ in 0..random.usize(..some.len() + 1) {
                    if random.bool() {
                        let _ = block_on(stream.next());
                    } else {
                        stream.add(&handles[j]);
                    }
                }
            }
            13 => {
                let some: Vec<_> = handles.iter().take(random.usize(..5)).cloned().collect();
                let result = block_on(gather(some));
                drop(result);
            }
            14 => {
                let mut handle = handles.swap_remove(i);
                let _ = futures::FutureExt::now_or_never(&mut handle);
                handle.detach();
            }
            _ => {
                let _ = handles[i].result();
                if handles.len() > 40 {
                    handles.truncate(10);
                }
            }
        }
    }
}

fn round(seed: u64, time: Duration, workers: usize, abort: bool) {
    let counts = Counts::new();
    {
        let client =
            Client::builder().workers(workers).limit("few", 2).on_unobserved(|_| ()).build();
        let until = Instant::now() + time;
        thread::scope(|scope| {
            for n in 0..3 {
                let (client, counts) = (&client, &counts);
                scope.spawn(move || random_operations(client, counts, seed + n, until));
            }
            let client = &client;
            scope.spawn(move || {
                let mut n = 0;
                while Instant::now() < until {
                    n += 1;
                    client.scale(1 + n % workers).unwrap();
                    thread::sleep(Duration::from_millis(1));
                }
            });
        });
        if abort {
            let leftover = client.submit(async |_: ()| std::future::pending::<()>().await, ());
            drop(client);
            assert_eq!(leftover.result().unwrap_err().kind(), ErrorKind::Closed);
        } else {
            block_on(client.close());
            // A timer that is firing, or a waker that is being dropped, may hold a task a little longer.
            eventually(format_args!("nothing is held by {client:?}"), || {
                client.tasks_in_memory() == 0
            });
        }
    }
    // If one was dropped twice, the number wraps around.
    eventually(format_args!("all values are dropped once: {counts:?}"), || counts.alive.get() == 0);
}

#[test]
fn nothing_hangs_or_leaks_when_everything_happens_at_once() {
    let rounds: u64 = std::env::var("ENSUE_STRESS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    for n in 0..rounds {
        bounded(move || {
            round(n * 10, Duration::from_millis(100), 1 + n as usize % 4, n % 2 == 1);
        });
    }
}
