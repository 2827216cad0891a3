//! Pure calls: equal calls run once (promise 5).

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use ensue::{Client, ErrorKind, Handle, Ref, gather};
use futures::executor::block_on;
use support::{bounded, run_until_idle};

async fn inc(x: u64) -> u64 {
    x + 1
}

async fn dec(x: u64) -> u64 {
    x - 1
}

async fn add(x: u64, y: u64) -> u64 {
    x + y
}

#[test]
fn equal_calls_run_once() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    async fn counted(x: u64) -> u64 {
        CALLS.fetch_add(1, SeqCst);
        x * x
    }
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let handles: Vec<_> = (0..10).map(|x| client.submit_pure(counted, x % 2 + 5)).collect();
        run_until_idle(&client);
        let late = client.submit_pure(counted, 5);
        assert_eq!(late.result().unwrap(), 25);
        assert_eq!(CALLS.load(SeqCst), 2);
        assert_eq!(client.tasks_in_memory(), 2);
        // Without handles the next equal call runs again.
        drop((handles, late));
        assert_eq!(client.tasks_in_memory(), 0);
        let again = client.submit_pure(counted, 5);
        run_until_idle(&client);
        assert_eq!(again.result().unwrap(), 25);
        assert_eq!(CALLS.load(SeqCst), 3);
    });
}

#[test]
fn the_key_is_the_name_and_a_digest() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let handle = client.submit_pure(inc, 1);
        let key = handle.key();
        let digest = key.strip_prefix("inc-").unwrap();
        assert!(digest.len() == 32 && digest.chars().all(|c| c.is_ascii_hexdigit()), "{key}");
        // It doesn't depend on the client.
        assert_eq!(Client::builder().workers(0).build().submit_pure(inc, 1).key(), key);
        assert_eq!(client.get::<u64>(&key), Some(handle));
    });
}

#[test]
fn another_function_or_input_or_type_is_another_call() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        async fn echo<T: Send + 'static>(x: T) -> T {
            x
        }
        let x = client.ready(1u64);
        let y = client.ready(1u64);
        let keys = [
            client.submit_pure(inc, 1).key(),
            client.submit_pure(inc, 2).key(),
            client.submit_pure(dec, 1).key(),
            client.submit_pure(echo::<u64>, 1).key(),
            client.submit_pure(echo::<i64>, 1).key(),
            client.submit_pure(echo::<Vec<u8>>, vec![1, 2]).key(),
            client.submit_pure(echo::<Vec<u8>>, vec![2, 1]).key(),
            client.submit_pure(add, (1, 2)).key(),
            client.submit_pure(add, (2, 1)).key(),
            // Handles count by their keys, not by their values.
            client.submit_pure(inc, &x).key(),
            client.submit_pure(inc, &y).key(),
            client.submit_pure(add, (&x, &y)).key(),
            client.submit_pure(add, (&y, &x)).key(),
            client.submit_pure(async |x: u64| x + 1, 1).key(),
            client.submit_pure(async |x: u64| x + 1, 1).key(),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len(), "{keys:#?}");
    });
}

#[test]
fn a_given_key_with_the_digest_of_a_call_and_another_name_is_another_task() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let pure = client.submit_pure(inc, 1).key();
        let key = pure.replace("inc-", "other-");
        let other = client.task().key(&*key).submit(inc, 5);
        let first = client.submit_pure(inc, 1);
        assert_ne!(first, other);
        assert_eq!(client.submit_pure(inc, 1), first);
        assert_eq!(client.get::<u64>(&key), Some(other));
        assert_eq!(client.get::<u64>(&pure), Some(first));
    });
}

#[test]
fn a_closure_that_is_written_once_is_one_function() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let square = async |x: u64| x * x;
        let handles: Vec<_> = (0..3).map(|_| client.submit_pure(square, 12)).collect();
        assert!(handles.iter().all(|handle| *handle == handles[0]));
        run_until_idle(&client);
        assert_eq!(handles[2].result().unwrap(), 144);
    });
}

#[test]
fn pure_calls_of_pure_calls_are_shared_too() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    async fn step(x: u64) -> u64 {
        CALLS.fetch_add(1, SeqCst);
        x + 1
    }
    bounded(|| {
        let client = Client::new();
        let chain = |client: &Client| -> Vec<Handle<u64>> {
            let mut handles = vec![client.submit_pure(step, 0)];
            for at in 0..49 {
                handles.push(client.submit_pure(step, &handles[at]));
            }
            handles
        };
        let (a, b) = (chain(&client), chain(&client));
        assert_eq!(a, b);
        assert_eq!(block_on(gather(&a)).unwrap(), Vec::from_iter(1..=50));
        assert_eq!(CALLS.load(SeqCst), 50);
    });
}

#[test]
fn fibonacci_with_pure_calls_is_linear() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    fn fib(n: u64) -> std::pin::Pin<Box<dyn Future<Output = u64> + Send>> {
        Box::pin(async move {
            CALLS.fetch_add(1, SeqCst);
            if n < 2 {
                return n;
            }
            let client = Client::current().unwrap();
            // Both are held while they are awaited: equal calls are shared only while a handle exists.
            let (a, b) = (client.submit_pure(fib, n - 1), client.submit_pure(fib, n - 2));
            (&a).await.unwrap() + (&b).await.unwrap()
        })
    }
    bounded(|| {
        let client = Client::builder().workers(1).build();
        assert_eq!(client.submit_pure(fib, 40).result().unwrap(), 102_334_155);
        // How many calls are shared depends on the schedule: at most two of each number run.
        assert!(CALLS.load(SeqCst) <= 82, "{} calls", CALLS.load(SeqCst));
    });
}

#[test]
fn a_failed_pure_call_runs_again() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    async fn flaky(x: u64) -> u64 {
        assert!(CALLS.fetch_add(1, SeqCst) > 0, "not yet");
        x
    }
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let first = client.submit_pure(flaky, 1);
        run_until_idle(&client);
        assert!(first.result().unwrap_err().is_panic());
        let second = client.submit_pure(flaky, 1);
        assert_eq!(first.key(), second.key());
        run_until_idle(&client);
        assert_eq!(second.result().unwrap(), 1);
        assert!(first.result().unwrap_err().is_panic());
    });
}

#[test]
fn a_name_or_a_key_may_be_given() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let named = client.task().name("n").submit_pure(inc, 1);
        assert!(named.key().starts_with("n-"), "{:?}", named.key());
        let keyed = client.task().key("k").submit_pure(inc, 1);
        assert_eq!(keyed.key(), "k");
        assert_ne!(named, keyed);
    });
}

#[test]
fn values_and_references_of_a_handle_are_the_same_input() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let x = client.submit(inc, 1);
        let a = client.submit_pure(inc, &x);
        let b = client.submit_pure(inc, x.clone());
        assert_eq!(a, b);
        // Whether the value or a `Ref` is passed is part of the function.
        async fn read(x: Ref<u64>) -> u64 {
            *x
        }
        assert_ne!(client.submit_pure(read, &x).key(), a.key());
    });
}

#[test]
fn a_pure_call_is_found_by_the_text_of_its_key() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        // The text is asked for before the other one comes, and only after it.
        for asked_before in [true, false] {
            let pure = client.submit_pure(inc, 1);
            let other = Client::builder().workers(0).build().submit_pure(inc, 1).key();
            if asked_before {
                assert_eq!(pure.key(), other);
            }
            assert_eq!(client.get::<u64>(&other).as_ref(), Some(&pure));
            assert_eq!(client.task().key(&other).submit(dec, 9), pure);
            assert_eq!(client.submit_pure(inc, 1), pure);
            drop(pure);
            assert!(client.get::<u64>(&other).is_none());
            // And the other way round: the key was given to another task first.
            let given = client.task().key(&other).submit(dec, 9);
            assert_eq!(client.submit_pure(inc, 1), given);
            assert_eq!(client.get::<u64>(&other).as_ref(), Some(&given));
            // The same digest under another name is another key.
            let renamed = other.replace("inc-", "cni-");
            assert!(client.get::<u64>(&renamed).is_none());
            assert_ne!(client.task().key(renamed).submit(dec, 9), given);
        }
    });
}

#[test]
fn a_conflict_names_the_key_of_a_pure_call() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let pure = client.submit_pure(inc, 1);
        let text = client.task().key(pure.key()).submit(async || "text", ());
        let error = text.error().unwrap();
        assert!(
            error.kind() == ErrorKind::KeyConflict
                && error.to_string().contains(pure.key().as_str()),
            "{error}"
        );
        let key = client.submit_pure(dec, 1).key();
        let other = client.task().key(key).submit(async || "text", ());
        let error = client.submit_pure(dec, 1).error().unwrap();
        assert!(
            error.kind() == ErrorKind::KeyConflict && error.to_string().contains("dec-"),
            "{error}"
        );
        drop(other);
    });
}

#[test]
fn a_name_that_is_given_is_part_of_the_call() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let plain = client.submit_pure(inc, 1);
        let named = client.task().name("n").submit_pure(inc, 1);
        assert_ne!(plain, named);
        assert_eq!(client.task().name("n").submit_pure(inc, 1), named);
        assert_ne!(client.task().name("m").submit_pure(inc, 1), named);
        assert_eq!(client.get::<u64>(named.key()), Some(named));
    });
}

#[test]
fn a_value_is_not_the_handle_whose_key_reads_like_it() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let same = async |text: String| text;
        let report = client.task().key("report").submit(async || "content".to_owned(), ());
        let of_text = client.submit_pure(same, "report".to_owned());
        let of_report = client.submit_pure(same, &report);
        run_until_idle(&client);
        assert_eq!(of_text.result().unwrap(), "report");
        assert_eq!(of_report.result().unwrap(), "content");
    });
}

#[test]
fn handles_of_the_same_number_are_other_inputs() {
    bounded(|| {
        let clients = [(); 3].map(|()| Client::builder().workers(0).build());
        let [client, one, two] = &clients;
        let (a, b) = (one.submit(inc, 1), two.submit(inc, 2));
        assert_eq!(a.key(), b.key());
        let c = client.task().key(a.key()).submit(inc, 3);
        let all = [&a, &b, &c].map(|x| client.submit_pure(dec, x));
        clients.iter().rev().for_each(run_until_idle);
        clients.iter().for_each(run_until_idle);
        assert_eq!(all.map(|x| x.result().unwrap()), [1, 2, 3]);
    });
}

#[test]
fn handles_of_the_same_given_key_are_other_inputs() {
    bounded(|| {
        let clients = [(); 3].map(|()| Client::builder().workers(0).build());
        let [client, one, two] = &clients;
        let keyed = |client: &Client, x| client.task().key("x").submit(inc, x);
        let all = [keyed(one, 1), keyed(two, 2), keyed(client, 3)];
        // Each value is a call of the same function on a handle of the same key.
        let all = all.map(|x| client.submit_pure(dec, x));
        clients.iter().rev().for_each(run_until_idle);
        clients.iter().for_each(run_until_idle);
        assert_eq!(all.map(|x| x.result().unwrap()), [1, 2, 3]);
    });
}

#[test]
fn a_key_that_was_given_again_is_another_input() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let keyed = |x| client.task().key("x").submit(inc, x);
        let old = client.submit_pure(dec, keyed(1));
        run_until_idle(&client);
        assert!(client.get::<u64>("x").is_none(), "its task is gone, and the call on it is held");
        let x = keyed(5);
        let (new, same) = (client.submit_pure(dec, &x), client.submit_pure(dec, keyed(9)));
        run_until_idle(&client);
        assert_eq!([&old, &new, &same].map(|x| x.result().unwrap()), [1, 5, 5]);
        assert_eq!((new.key(), new == same), (same.key(), true), "the key was joined meanwhile");
    });
}
