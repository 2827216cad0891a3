//! Values that tasks inherit, and those that workers make once (promise 28).

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ensue::{Client, Handle, PerWorker, Retry, context, gather, sleep};
use futures::StreamExt;
use futures::executor::block_on;
use futures::stream;
use support::observe::Count;
use support::{bounded, client_of, eventually};

#[derive(Debug, PartialEq)]
struct Id(u64);

#[derive(Debug, PartialEq)]
struct User(&'static str);

fn id() -> Option<u64> {
    context::<Id>().map(|id| id.0)
}

async fn seen() -> Option<u64> {
    id()
}

fn clients() -> [Client; 2] {
    [client_of(2), Client::builder().seed(1).build()]
}

#[test]
fn tasks_and_theirs_have_the_values() {
    bounded(|| {
        for client in clients() {
            let plain = client.clone();
            let with = client.with_context(Id(1)).with_context(User("ada"));
            let all = with.spawn(async move {
                let current = Client::current().unwrap();
                assert_eq!(context::<User>().as_deref(), Some(&User("ada")));
                let mut all = vec![id()];
                for by in [&current, &plain] {
                    all.push(by.submit(seen, ()).await?);
                    all.push(by.task().key("k").retries(1).submit(seen, ()).await?);
                    all.push(by.submit_blocking(id, ()).await?);
                    all.extend(gather(by.map(|_: u8| seen(), 0..2)).await?);
                    let mut results = by.map_stream(stream::iter(0..2u8), 1, |_| seen());
                    all.push(results.next().await.unwrap()?);
                }
                let (left, right) = ensue::join(id, || plain.submit(seen, ()));
                all.extend([left, right.await?]);
                let deep = plain.spawn(async { Client::current().unwrap().submit(seen, ()).await });
                all.push(deep.await??);
                Ok::<_, ensue::Error>(all)
            });
            let all = all.result().unwrap().unwrap();
            assert!(all.iter().all(|id| *id == Some(1)), "{client}: {all:?}");
            assert_eq!(client.submit(seen, ()).result().unwrap(), None, "others have none");
            assert_eq!(id(), None, "nor has this thread");
        }
    });
}

#[test]
fn a_value_takes_the_place_of_another_of_its_type() {
    bounded(|| {
        for client in clients() {
            let outer = client.with_context(Id(1)).with_context(User("ada"));
            let inner = outer.with_context(Id(2));
            assert_eq!(inner.submit(seen, ()).result().unwrap(), Some(2));
            assert_eq!(outer.submit(seen, ()).result().unwrap(), Some(1));
            let plain = client.clone();
            let both = inner.spawn(async move {
                // With a client that carries none, this adds to the task's.
                let third = plain.with_context(Id(3));
                let user = third.submit(async || context::<User>().map(|user| user.0), ());
                (third.submit(seen, ()).await.unwrap(), user.await.unwrap(), id())
            });
            let (third, user, own) = both.result().unwrap();
            assert_eq!((third, user, own), (Some(3), Some("ada"), Some(2)));
        }
    });
}

#[test]
fn a_client_with_a_context_of_its_own_keeps_it() {
    bounded(|| {
        for client in clients() {
            let (two, plain) = (client.with_context(Id(2)), client.clone());
            let seen_by = client.with_context(Id(1)).spawn(async move {
                let none = plain.without_context();
                let current = Client::current().unwrap().without_context();
                let mut all = Vec::new();
                for by in [two, none, current, plain] {
                    all.push(by.submit(seen, ()).await.unwrap());
                }
                all
            });
            assert_eq!(seen_by.result().unwrap(), [Some(2), None, None, Some(1)]);
        }
    });
}

#[test]
fn the_current_client_keeps_the_context_elsewhere() {
    bounded(|| {
        let client = client_of(1);
        let (sender, receiver) = mpsc::channel();
        client
            .with_context(Id(5))
            .spawn(async move { sender.send(Client::current().unwrap()).unwrap() })
            .detach();
        let current = receiver.recv().unwrap();
        let there = thread::spawn(move || current.submit(seen, ()).result().unwrap());
        assert_eq!(there.join().unwrap(), Some(5));
    });
}

#[test]
fn a_task_keeps_its_context_through_retries_and_keys() {
    bounded(|| {
        let client = client_of(1);
        let with = client.with_context(Id(1));
        let tries = Count::new();
        let count = tries.clone();
        let again = async move || {
            assert_eq!(id(), Some(1));
            if count.add() < 3 { Err("again") } else { Ok(id()) }
        };
        let retry = Retry::new(1);
        let x = with.task().key("x").retries(retry).try_submit(again, ());
        x.result().unwrap_err();
        assert!(x.retry());
        assert_eq!(x.result().unwrap(), Some(1));
        let joined = client.with_context(Id(2)).task().key("x").submit(seen, ());
        assert_eq!(joined.result().unwrap(), Some(1));
    });
}

#[test]
fn another_client_inherits_nothing() {
    bounded(|| {
        let (one, two) = (client_of(1), client_of(1));
        let of_two = two.clone();
        let x = one.with_context(Id(1)).spawn(async move { of_two.submit(seen, ()).await });
        assert_eq!(x.result().unwrap().unwrap(), None);
    });
}

#[test]
fn callbacks_have_no_context() {
    bounded(|| {
        let client = client_of(1);
        let (sender, receiver) = mpsc::channel();
        let x = client.with_context(Id(1)).submit(seen, ());
        x.on_done(move |_| sender.send(id()).unwrap());
        assert_eq!(receiver.recv().unwrap(), None);
    });
}

#[test]
fn values_are_dropped_with_the_last_that_has_them() {
    bounded(|| {
        let client = client_of(2);
        let value = Arc::new(());
        let with = client.with_context(value.clone());
        let x = with.spawn(async {
            sleep(Duration::from_millis(1)).await;
            Client::current().unwrap().spawn(std::future::pending::<()>()).await
        });
        drop(with);
        assert_eq!(Arc::strong_count(&value), 2);
        x.cancel();
        drop(x);
        eventually("it is dropped", || Arc::strong_count(&value) == 1);
        // One that holds its client keeps it, until that is closed or it's dropped.
        let holder = client.with_context(client.clone());
        holder.submit(async || (), ()).result().unwrap();
        drop((holder, client));
    });
}

#[test]
fn workers_make_their_state_once() {
    bounded(|| {
        static MADE: PerWorker<u64> = PerWorker::new();
        let client = client_of(3);
        let made = Count::new();
        let all: Vec<_> = (0..300)
            .map(|n| {
                let made = made.clone();
                let use_it = move || {
                    let mut state = MADE.get(|| {
                        made.add();
                        0
                    });
                    *state += 1;
                    thread::yield_now();
                };
                if n % 2 == 0 {
                    client.submit(async move || use_it(), ())
                } else {
                    client.submit_blocking(use_it, ())
                }
            })
            .collect();
        block_on(gather(all)).unwrap();
        let total: u64 = std::iter::from_fn(|| MADE.take().map(|it| it.into_inner())).sum();
        assert_eq!(total, 300);
        assert!(made.get() < 300, "{}", made.get());
        assert!(MADE.is_empty());
    });
}

#[test]
fn state_is_used_by_one_at_a_time_across_awaits() {
    bounded(|| {
        let client = client_of(2);
        let state = Arc::new(PerWorker::new());
        let drops = Count::new();
        let all: Vec<_> = (0..50)
            .map(|_| {
                let (state, drops) = (state.clone(), drops.clone());
                client.spawn(async move {
                    let mut used = state.get(|| (drops.on_drop(), 0u64));
                    let before = used.1;
                    sleep(Duration::from_micros(50)).await;
                    assert_eq!(used.1, before);
                    used.1 += 1;
                })
            })
            .collect();
        block_on(gather(all)).unwrap();
        let made = state.len();
        let uses: u64 = std::iter::from_fn(|| state.take().map(|it| it.into_inner().1)).sum();
        assert_eq!((uses, drops.get()), (50, made));
        assert!(state.is_empty());
    });
}

#[test]
fn state_that_fails_or_panics_is_not_used_again() {
    bounded(|| {
        let client = client_of(1);
        let state = Arc::new(PerWorker::<u64>::new());
        let of = state.clone();
        let bad = client.submit_blocking(
            move || {
                let _used = of.get(|| 1);
                panic!("in the middle");
            },
            (),
        );
        assert!(bad.result().is_err_and(|error| error.is_panic()));
        assert!(state.is_empty(), "it may be broken");
        assert_eq!(state.try_get(|| Err("no")).unwrap_err(), "no");
        assert_eq!(*state.try_get(|| Ok::<_, ()>(7)).unwrap(), 7);
        assert_eq!(*state.get(|| 8), 7, "it was put back");
        // A task that is cancelled puts it back.
        let of = state.clone();
        let x = client.spawn(async move {
            let _used = of.get(|| 9);
            std::future::pending::<()>().await;
        });
        eventually("it's in use", || state.is_empty());
        x.cancel();
        eventually("it's put back", || state.len() == 1);
        state.clear();
        assert!(state.take().is_none());
        assert_eq!(format!("{state:?}"), "PerWorker { unused: 0 }");
    });
}

/// It panics when it's dropped, and uses a client before that.
struct Bomb(Client, Count);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.1.add();
        drop(self.0.submit(seen, ()));
        let _ = self.0.tasks_in_memory();
        panic!("a bomb");
    }
}

#[test]
fn destructors_of_values_and_predicates_may_panic_and_use_the_client() {
    bounded(|| {
        let other = client_of(1);
        for way in 0..8 {
            let (client, drops) = (client_of(2), Count::new());
            let bomb =
                || Bomb(if way % 2 == 0 { other.clone() } else { client.clone() }, drops.clone());
            let mut all = Vec::new();
            for n in 0..50 {
                let value = bomb();
                let options = client.task().retries(Retry::new(1).when(move |_| {
                    let _bomb = &value;
                    false
                }));
                all.push(
                    options
                        .try_submit(async move || if n % 2 == 0 { Ok(()) } else { Err("no") }, ()),
                );
                let with = client.with_context(bomb());
                all.push(with.spawn(async move { sleep(Duration::from_micros(n)).await }));
                // The task has it, too, and drops it last.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(with)));
            }
            match way / 2 {
                0 => all.into_iter().for_each(Handle::detach),
                1 => drop(all),
                2 => all.into_iter().for_each(|x| assert!(x.cancel() || x.is_finished())),
                _ => all.into_iter().for_each(|x| drop(x.result())),
            }
            eventually("all have gone off", || drops.get() == 100);
            assert_eq!(client.submit(async || 1, ()).result().unwrap(), 1);
            block_on(client.close());
        }
        eventually("nothing is left", || other.tasks_in_memory() == 0);
    });
}
