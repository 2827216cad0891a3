//! Keys (promises 5 and 6).

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use ensue::{Client, ErrorKind, Handle, Key, Status};
use futures::executor::block_on;
use support::hold::{Gate, hold_worker};
use support::observe::{Count, Counted, Counts};
use support::{bounded, eventually, run_until_idle, run_what_is_ready};

async fn inc(x: u64) -> u64 {
    x + 1
}

fn number_of(key: &Key) -> u64 {
    key.rsplit_once('-').unwrap().1.parse().unwrap()
}

// Promise 5: every task has its own key by default.

#[test]
fn a_key_is_the_functions_name_and_a_number() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let (a, b) = (client.submit(inc, 1), client.submit(inc, 1));
        assert!(a.key().starts_with("inc-") && b.key().starts_with("inc-"), "{:?}", a.key());
        assert_ne!(number_of(&a.key()), number_of(&b.key()));
        assert_eq!(a.key(), a.key());
        assert_eq!(a.key(), a.clone().key());

        let closure = client.submit(async |x: u64| x, 1);
        assert!(closure.key().contains("closure-"), "{:?}", closure.key());
        let generic = client.submit(generic::<Vec<u8>>, ());
        assert!(generic.key().starts_with("generic-"), "{:?}", generic.key());
        let named = client.task().name("rows").submit(inc, 1);
        assert!(named.key().starts_with("rows-"), "{:?}", named.key());
        number_of(&named.key());
    });
}

async fn generic<T: Default + Send + 'static>() -> T {
    T::default()
}

#[test]
fn keys_are_distinct_also_where_threads_ask_at_once() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let handles = client.map(inc, 0..100u64);
        let start = Barrier::new(4);
        let seen = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    // A key is made when it is first asked for, and all threads get the same one.
                    let keys: Vec<_> = handles.iter().map(Handle::key).collect();
                    seen.lock().unwrap().push(keys);
                });
            }
        });
        let seen = seen.into_inner().unwrap();
        assert!(seen.iter().all(|keys| *keys == seen[0]));
        assert_eq!(seen[0].iter().collect::<HashSet<_>>().len(), 100);
    });
}

#[test]
fn equal_calls_are_separate_tasks_unless_dedup_is_asked_for() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let calls = Count::new();
        let call = {
            let calls = calls.clone();
            async move |x: u64| {
                calls.add();
                x
            }
        };
        let handles: Vec<_> = (0..4).map(|_| client.submit(call.clone(), 1)).collect();
        let same_name = client.task().name("call").submit(call.clone(), 1);
        let again = client.task().name("call").submit(call, 1);
        run_until_idle(&client);
        assert_eq!(calls.get(), 6);
        assert_ne!(same_name.key(), again.key());
        drop((handles, same_name, again));
    });
}

#[test]
fn a_key_is_found_while_a_dependent_needs_the_value() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let x = client.task().key("k").submit(inc, 1);
        run_until_idle(&client);
        let y = client.submit(inc, &x);
        drop(x);
        assert_eq!(client.get::<u64>("k").unwrap().result().unwrap(), 2);
        run_until_idle(&client);
        assert!(client.get::<u64>("k").is_none());
        assert_eq!(y.result().unwrap(), 3);
    });
}

#[test]
fn keys_are_text_of_any_kind() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let long = "k".repeat(10_000);
        let handles: Vec<_> = ["", "späße 🎈", "a b\n", long.as_str()]
            .into_iter()
            .map(|key| (key, client.task().key(key).submit(inc, 1)))
            .collect();
        for (key, handle) in &handles {
            assert_eq!(handle.key(), *key);
            assert_eq!(client.get::<u64>(key).as_ref(), Some(handle));
        }
        let by_string = client.task().key(String::from("owned")).submit(inc, 1);
        assert_eq!(by_string.key(), String::from("owned"));
        let by_key = client.task().key(by_string.key()).submit(inc, 1);
        assert_eq!(by_key, by_string);
    });
}

// Promise 5: `.key("k")` joins.

#[test]
fn a_waiting_task_is_joined() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let input = client.submit(inc, 0);
        let first = client.task().key("k").submit(inc, &input);
        assert_eq!(first.status(), Status::Waiting);
        let second = client.task().key("k").submit(async |x: u64| x + 1000, 0);
        assert_eq!(first, second);
        assert_eq!(second.status(), Status::Waiting);
        run_until_idle(&client);
        assert_eq!((first.result().unwrap(), second.result().unwrap()), (2, 2));
    });
}

#[test]
fn a_ready_a_running_and_a_finished_task_are_joined() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let gate = Gate::new();
        let calls = Count::new();
        let join = || {
            let (waits, calls) = (gate.pass(), calls.clone());
            client.task().key("k").spawn(async move {
                calls.add();
                waits.await;
                5u64
            })
        };
        let first = join();
        assert_eq!(first.status(), Status::Ready);
        let second = join();
        run_what_is_ready(&client);
        assert_eq!(first.status(), Status::Running);
        let third = join();
        gate.open();
        run_until_idle(&client);
        assert_eq!(first.status(), Status::Finished);
        let fourth = join();
        run_until_idle(&client);
        for handle in [first, second, third, fourth] {
            assert_eq!(handle.result().unwrap(), 5);
        }
        assert_eq!(calls.get(), 1);
    });
}

#[test]
fn the_function_and_inputs_of_a_joiner_are_dropped_unused() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let first = client.task().key("k").submit(inc, 1);
        let function = Counts::new();
        let input = Counts::new();
        let captured = function.value(0);
        let needed = client.submit(inc, 1);
        let second = client
            .task()
            .key("k")
            .submit(async move |_: Counted, _: u64| { captured }.value, (input.value(0), &needed));
        assert_eq!((function.drops.get(), function.clones.get()), (1, 0));
        assert_eq!((input.drops.get(), input.clones.get()), (1, 0));
        run_until_idle(&client);
        // The handle among the inputs was dropped, too.
        assert_eq!(client.tasks_in_memory(), 2);
        assert_eq!(block_on(needed).unwrap(), 2);
        assert_eq!(client.tasks_in_memory(), 1);
        assert_eq!((first.result().unwrap(), second.result().unwrap()), (2, 2));
    });
}

#[test]
fn the_higher_priority_holds() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let order = Arc::new(Mutex::new(Vec::new()));
        let task = |name: &'static str| {
            let order = order.clone();
            async move || order.lock().unwrap().push(name)
        };
        let a = client.task().priority(1).key("a").submit(task("a"), ());
        let b = client.task().priority(2).key("b").submit(task("b"), ());
        let c = client.task().priority(3).key("c").submit(task("c"), ());
        // The first is raised, the second isn't lowered.
        let up = client.task().priority(5).key("a").submit(task("not run"), ());
        let down = client.task().priority(-5).key("c").submit(task("not run"), ());
        run_until_idle(&client);
        assert_eq!(*order.lock().unwrap(), ["a", "c", "b"]);
        assert!(up == a && down == c);
        drop(b);
    });
}

#[test]
fn a_failed_task_is_replaced_and_its_handles_never_see_the_new_one() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let old = client.task().key("k").try_submit(async || Err::<u64, _>("first"), ());
        run_until_idle(&client);
        assert_eq!(old.status(), Status::Failed);
        let new = client.task().key("k").submit(inc, 1);
        assert_ne!(old, new);
        assert_eq!(client.get::<u64>("k").as_ref(), Some(&new));
        run_until_idle(&client);
        assert_eq!(new.result().unwrap(), 2);
        assert!(old.result().unwrap_err().to_string().contains("first"));
        // Neither dropping nor cancelling the old one touches the new one.
        assert!(!old.cancel());
        drop(old);
        assert_eq!(client.get::<u64>("k").as_ref(), Some(&new));
        assert_eq!(new.result().unwrap(), 2);
    });
}

#[test]
fn a_cancelled_task_is_replaced_and_its_handles_never_see_the_new_one() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let gate = Gate::new();
        let running = client.task().key("k").spawn(gate.pass());
        run_what_is_ready(&client);
        assert!(running.cancel());
        assert!(client.get::<()>("k").is_none());
        // Another type is no conflict: the cancelled task has lost its key.
        let new = client.task().key("k").submit(inc, 1);
        assert!(!running.cancel());
        assert!(running.result().unwrap_err().is_cancelled());
        drop(running);
        assert_eq!(client.get::<u64>("k").as_ref(), Some(&new));
        run_until_idle(&client);
        assert_eq!(new.result().unwrap(), 2);
    });
}

#[test]
fn a_task_cancelled_through_an_input_is_replaced() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let input = client.submit(inc, 1);
        let old = client.task().key("k").submit(inc, &input);
        assert!(input.cancel());
        assert!(old.is_finished());
        let new = client.task().key("k").submit(inc, 10);
        run_until_idle(&client);
        assert_eq!(new.result().unwrap(), 11);
        assert!(old.result().unwrap_err().is_cancelled());
    });
}

#[test]
fn cancelling_acts_on_every_joiner() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let handles: Vec<_> = (0..3).map(|x| client.task().key("k").submit(inc, x)).collect();
        assert!(handles[1].cancel());
        for handle in handles {
            assert!(handle.result().unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn dropping_a_joiners_handle_leaves_the_task_to_the_others() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let first = client.task().key("k").submit(inc, 1);
        let second = client.task().key("k").submit(inc, 1);
        drop(first);
        run_until_idle(&client);
        assert_eq!(second.result().unwrap(), 2);
    });
}

#[test]
fn another_type_is_a_conflict_and_never_a_wrong_value() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let number = client.task().key("k").submit(inc, 1);
        for _ in 0..2 {
            let text = client.task().key("k").submit(async || String::from("x"), ());
            let error = text.result().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::KeyConflict);
            assert_eq!(error.origin(), "k");
            let said = error.to_string();
            assert!(
                said.contains("u64") && said.contains("String") && said.contains('k'),
                "{said}"
            );
            let got = client.get::<i64>("k").unwrap();
            assert_eq!(got.result().unwrap_err().kind(), ErrorKind::KeyConflict);
            // Dependents have the error.
            let dependent = client.submit(async |x: String| x, &text);
            assert_eq!(dependent.result().unwrap_err().kind(), ErrorKind::KeyConflict);
            run_until_idle(&client);
            assert_eq!(number.result().unwrap(), 2);
        }
        drop(number);
        let text = client.task().key("k").submit(async || String::from("x"), ());
        run_until_idle(&client);
        assert_eq!(text.result().unwrap(), "x");
    });
}

#[test]
fn a_key_conflict_drops_the_submitted_function_and_inputs() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let number = client.task().key("k").submit(inc, 1);
        let conflict = client.task().key("k").submit(async |x: Counted| x, counts.value(1));
        assert_eq!(counts.drops.get(), 1);
        assert!(conflict.is_finished());
        run_until_idle(&client);
        drop((number, conflict));
        assert_eq!(client.tasks_in_memory(), 0);
    });
}

#[test]
fn every_verb_joins() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let held = hold_worker(&client);
        let first = client.task().key("k").submit(inc, 1);
        let others = [
            client.task().key("k").try_submit(async || Ok::<_, String>(9u64), ()),
            client.task().key("k").submit_blocking(|| 9u64, ()),
            client.task().key("k").try_submit_blocking(|| Ok::<_, String>(9u64), ()),
            client.task().key("k").submit_pure(inc, 9),
            client.task().key("k").spawn(async { 9u64 }),
            client.task().key("k").retries(2).submit(inc, 9),
        ];
        held.let_go();
        for other in others {
            assert_eq!(other, first);
            assert_eq!(other.result().unwrap(), 2);
        }
    });
}

#[test]
fn map_numbers_the_key() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let handles = client.task().key("row").map(inc, [10, 20, 30]);
        let keys: Vec<_> = handles.iter().map(|handle| handle.key().to_string()).collect();
        assert_eq!(keys, ["row-0", "row-1", "row-2"]);
        let joined = client.task().key("row").map(inc, [0, 0, 0, 40]);
        assert_eq!(joined[..3], handles);
        run_until_idle(&client);
        let values: Vec<_> = joined.iter().map(|handle| handle.result().unwrap()).collect();
        assert_eq!(values, [11, 21, 31, 41]);
        assert_eq!(client.get::<u64>("row-3").as_ref(), Some(&joined[3]));
    });
}

// Promise 6: a key names a task only while a handle or a dependent needs it.

#[test]
fn a_key_is_free_when_the_last_handle_is_dropped() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let calls = Count::new();
        let once = || {
            let calls = calls.clone();
            client.task().key("k").submit(async move || calls.add(), ())
        };
        assert!(client.get::<usize>("k").is_none());
        let first = once();
        let second = first.clone();
        run_until_idle(&client);
        drop(first);
        assert!(client.get::<usize>("k").is_some());
        drop(second);
        assert!(client.get::<usize>("k").is_none());
        assert_eq!(client.tasks_in_memory(), 0);
        let again = once();
        run_until_idle(&client);
        assert_eq!((again.result().unwrap(), calls.get()), (1, 2));
    });
}

#[test]
fn a_dependent_needs_the_key_too() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let x = client.task().key("x").submit(inc, 1);
        let gate = Gate::new();
        let waits = gate.pass();
        let other = client.spawn(waits);
        let y = client.submit(async |x: u64, (): ()| x, (&x, &other));
        drop(x);
        run_what_is_ready(&client);
        // It has finished; its dependent waits for something else.
        let x = client.get::<u64>("x").expect("a dependent needs it");
        assert_eq!(x.status(), Status::Finished);
        drop(x);
        gate.open();
        run_until_idle(&client);
        assert!(client.get::<u64>("x").is_none());
        assert_eq!(y.result().unwrap(), 2);
    });
}

#[test]
fn a_key_is_free_at_once_on_cancel() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let held = client.task().key("k").submit(inc, 1);
        assert!(held.cancel());
        assert!(client.get::<u64>("k").is_none());
        let new = client.task().key("k").submit(inc, 5);
        assert!(held.result().unwrap_err().is_cancelled());
        run_until_idle(&client);
        assert_eq!(new.result().unwrap(), 6);
    });
}

#[test]
fn a_value_that_was_moved_out_is_not_joined() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let mut first = client.task().key("k").submit(inc, 1);
        run_until_idle(&client);
        assert_eq!(block_on(&mut first).unwrap(), 2);
        // The handle exists, but has no value any more.
        assert!(client.get::<u64>("k").is_none());
        let second = client.task().key("k").submit(inc, 10);
        run_until_idle(&client);
        assert_eq!(second.result().unwrap(), 11);
        drop(first);
        assert_eq!(client.get::<u64>("k").as_ref(), Some(&second));
    });
}

#[test]
fn a_joiner_makes_an_await_clone() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let value = counts.value(3);
        let first = client.task().key("k").submit(async move || value, ());
        let joiner =
            client.task().key("k").submit(async || unreachable!("it joins") as Counted, ());
        run_until_idle(&client);
        assert_eq!(block_on(first).unwrap().value, 3);
        assert_eq!(counts.clones.get(), 1);
        assert_eq!(block_on(joiner).unwrap().value, 3);
        assert_eq!((counts.clones.get(), counts.drops.get()), (1, 2));
    });
}

#[test]
fn get_finds_only_keys_that_were_given() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let own = client.submit(inc, 1);
        let given = client.task().key("given").submit(inc, 1);
        assert!(client.get::<u64>("unknown").is_none());
        assert_eq!(client.get::<u64>("given").unwrap(), given);
        // A generated key may be found or not, but it never leads to another task.
        if let Some(found) = client.get::<u64>(own.key()) {
            assert_eq!(found, own);
        }
    });
}

#[test]
fn keys_of_two_clients_are_independent() {
    bounded(|| {
        let (a, b) = (Client::builder().workers(0).build(), Client::builder().workers(0).build());
        let x = a.task().key("k").submit(inc, 1);
        assert!(b.get::<u64>("k").is_none());
        let y = b.task().key("k").submit(inc, 5);
        run_until_idle(&a);
        run_until_idle(&b);
        assert_eq!((x.result().unwrap(), y.result().unwrap()), (2, 6));
    });
}

#[test]
fn dropping_a_joiners_inputs_may_use_the_same_key() {
    /// Uses the key when it's dropped, which would deadlock if the store was locked.
    #[derive(Clone)]
    struct UsesKey(Client);
    impl Drop for UsesKey {
        fn drop(&mut self) {
            let handle = self.0.task().key("k").submit(inc, 1);
            self.0.get::<u64>("k");
            drop(handle);
        }
    }
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let first = client.task().key("k").submit(inc, 1);
        let joiner =
            client.task().key("k").submit(async |_: UsesKey| 3u64, UsesKey(client.clone()));
        assert_eq!(joiner.result().unwrap(), 2);
        drop((first, joiner));
        let value = client.task().key("k").submit(async |x: UsesKey| x, UsesKey(client.clone()));
        value.result().unwrap();
        drop(value);
        let cancelled =
            client.task().key("k").submit(async |x: UsesKey| x, UsesKey(client.clone()));
        cancelled.cancel();
        drop(cancelled);
    });
}

#[test]
fn joining_races_with_release_and_cancel() {
    bounded(|| {
        for round in 0..20 {
            let client = Client::builder().workers(2).build();
            let runs: Arc<[AtomicU64; 4]> = Arc::default();
            let start = Barrier::new(4);
            thread::scope(|scope| {
                for thread in 0..4u64 {
                    let (client, runs, start) = (&client, &runs, &start);
                    scope.spawn(move || {
                        start.wait();
                        for turn in 0..300u64 {
                            let key = ((turn + thread + round) % 4) as usize;
                            let runs = runs.clone();
                            let handle = client.task().key(format!("k{key}")).submit(
                                async move |key: usize| {
                                    runs[key].fetch_add(1, SeqCst);
                                    key as u64
                                },
                                key,
                            );
                            match (turn + thread) % 4 {
                                0 => drop(handle),
                                1 => {
                                    handle.cancel();
                                }
                                2 => match handle.result() {
                                    Ok(value) => assert_eq!(value, key as u64),
                                    Err(error) => assert!(error.is_cancelled(), "{error}"),
                                },
                                _ => match block_on(handle) {
                                    Ok(value) => assert_eq!(value, key as u64),
                                    Err(error) => assert!(error.is_cancelled(), "{error}"),
                                },
                            }
                        }
                    });
                }
            });
            eventually("everything is freed", || client.tasks_in_memory() == 0);
            for key in 0..4 {
                assert!(client.get::<u64>(format!("k{key}")).is_none());
            }
        }
    });
}

#[test]
fn threads_that_hold_a_key_together_run_it_once() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        for round in 0..200 {
            let calls = Count::new();
            let start = Barrier::new(4);
            let handles: Vec<Handle<u64>> = thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            let calls = calls.clone();
                            client.task().key(format!("k{round}")).submit(
                                async move |x: u64| {
                                    calls.add();
                                    x
                                },
                                round,
                            )
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(handles.iter().all(|handle| handle.result().unwrap() == round));
            assert_eq!(calls.get(), 1);
        }
    });
}
