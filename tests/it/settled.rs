//! Inputs that a task takes however they end (promises 2, 4, 8, 9, 11, 12, 16, 20 and 23).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use ensue::{Client, Error, ErrorKind, Handle, Reason, Ref, Status, settled};
use support::hold::{Gate, hold_worker};
use support::observe::{Counted, Counts};
use support::{bounded, client_of, eventually, run_until_idle, run_what_is_ready};

use crate::cycles::{Seen, awaits_later, flat, one_worker};

/// What a task gets of its input: the value, or the kind of the error.
async fn outcome(input: Result<u64, Error>) -> Result<u64, ErrorKind> {
    input.map_err(|error| error.kind())
}

fn failing(client: &Client) -> Handle<u64> {
    client.try_submit(async || Err::<u64, _>("it fails"), ())
}

#[test]
fn a_dependent_runs_however_its_input_has_ended() {
    for early in [false, true] {
        bounded(move || {
            let client = Client::builder().workers(0).build();
            let ok = client.submit(async || 7u64, ());
            let failed = failing(&client);
            let panicked = client.submit(async || -> u64 { panic!("at the disco") }, ());
            let cancelled = client.spawn(std::future::pending::<u64>());
            let dependent = client.submit(async |x: u64| x, &failed);
            let timeout = client.task().timeout(Duration::from_millis(1));
            let timed_out = timeout.submit(async || std::future::pending::<u64>().await, ());
            let all = [&ok, &failed, &panicked, &cancelled, &dependent, &timed_out];
            let submit = || client.map(outcome, all.map(Handle::settled));
            let mut outcomes = if early { submit() } else { Vec::new() };
            cancelled.cancel();
            run_until_idle(&client);
            if !early {
                outcomes = submit();
                run_until_idle(&client);
            }
            let outcomes: Vec<_> = outcomes.iter().map(|it| it.result().unwrap()).collect();
            let expected = [
                Ok(7),
                Err(ErrorKind::Failed),
                Err(ErrorKind::Panicked),
                Err(ErrorKind::Cancelled),
                Err(ErrorKind::Failed),
                Err(ErrorKind::TimedOut),
            ];
            assert_eq!(outcomes, expected);
        });
    }
}

#[test]
fn the_error_is_that_of_the_input() {
    bounded(|| {
        let client = client_of(1);
        let age = client.try_submit(async |text: &str| text.parse::<u8>(), "old");
        let origin = age.key();
        let seen = client.submit(
            async move |age: Result<u8, Error>| {
                let error = age.unwrap_err();
                error.downcast_ref::<std::num::ParseIntError>().is_some()
                    && *error.origin() == origin
            },
            age.settled(),
        );
        assert!(seen.result().unwrap());
    });
}

#[test]
fn values_are_moved_cloned_or_shared_as_those_of_handles() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let value = counts.value(7);
        let x = client.submit(async move || value, ());
        let shared =
            client.submit(async |x: Result<Ref<Counted>, Error>| x.unwrap().value, x.settled());
        let cloned = client.submit(async |x: Result<Counted, Error>| x.unwrap().value, x.settled());
        run_until_idle(&client);
        assert_eq!((shared.result().unwrap(), cloned.result().unwrap()), (7, 7));
        assert_eq!((counts.clones.get(), counts.drops.get()), (1, 1));
        let moved = client
            .submit(async |x: Result<Counted, Error>| x.unwrap().value, settled([x]).remove(0));
        run_until_idle(&client);
        assert_eq!(moved.result().unwrap(), 7);
        assert_eq!((counts.clones.get(), counts.drops.get()), (1, 2));
    });
}

#[test]
fn many_are_waited_for_and_given_in_order() {
    bounded(|| {
        let client = client_of(1);
        let numbers = client.try_map(async |text: &str| text.parse::<u64>(), ["1", "x", "3"]);
        let sum = async |all: Vec<Result<u64, Error>>, extra: u64| {
            (
                all.iter().map(Result::is_ok).collect::<Vec<_>>(),
                all.into_iter().flatten().sum::<u64>() + extra,
            )
        };
        let expected = (vec![true, false, true], 14);
        assert_eq!(client.submit(sum, (settled(&numbers), 10)).result().unwrap(), expected);
        let each: Vec<_> = numbers.iter().map(Handle::settled).collect();
        assert_eq!(client.submit(sum, (&each, 10)).result().unwrap(), expected);
        assert_eq!(client.submit(sum, (settled(numbers), 10)).result().unwrap(), expected);
        let none = client.submit(sum, (settled(Vec::<Handle<u64>>::new()), 0));
        assert_eq!(none.result().unwrap(), (vec![], 0));
    });
}

#[test]
fn every_verb_takes_them() {
    bounded(|| {
        let client = client_of(1);
        let x = failing(&client);
        let is_err = |x: Result<u64, Error>| x.is_err();
        assert!(client.submit_blocking(is_err, x.settled()).result().unwrap());
        let tried = async |x: Result<u64, Error>| x;
        assert_eq!(
            client.try_submit(tried, x.settled()).result().unwrap_err().kind(),
            ErrorKind::Failed
        );
        let pure = async |x: Result<u64, Error>| x.is_err();
        let (a, b) = (client.submit_pure(pure, x.settled()), client.submit_pure(pure, x.settled()));
        assert_eq!(a.key(), b.key());
        assert!(b.result().unwrap());
    });
}

#[test]
fn another_input_that_fails_ends_the_dependent() {
    for settles_first in [false, true] {
        bounded(move || {
            let client = client_of(1);
            let gate = Gate::new();
            let pass = gate.pass();
            let x = client.spawn(async move {
                pass.await;
                1u64
            });
            let fails = failing(&client);
            let ran = async |_: Result<u64, Error>, _: u64| panic!("it ran");
            let (a, b) = if settles_first { (&fails, &x) } else { (&x, &fails) };
            let dependent = client.submit(ran, (a.settled(), b));
            if settles_first {
                eventually("it has settled", || a.is_finished());
                assert!(!dependent.is_finished());
                b.cancel();
                assert_eq!(dependent.result().unwrap_err().kind(), ErrorKind::Cancelled);
            } else {
                assert_eq!(dependent.result().unwrap_err().kind(), ErrorKind::Failed);
                // It's no longer needed by the dependent.
                gate.open();
                assert_eq!(x.result().unwrap(), 1);
            }
        });
    }
}

#[test]
fn a_dependent_that_is_cancelled_or_dropped_lets_its_input_go() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let x = client.spawn(std::future::pending::<u64>());
        run_what_is_ready(&client);
        let dependents: Vec<_> = (0..3).map(|_| client.submit(outcome, x.settled())).collect();
        drop(x);
        dependents[0].cancel();
        assert_eq!(dependents[0].status(), Status::Cancelled);
        assert_eq!(client.tasks_in_memory(), 4);
        drop(dependents);
        run_until_idle(&client);
        assert_eq!(client.tasks_in_memory(), 0);
    });
}

/// Counts itself when it's dropped.
#[derive(Debug)]
struct Dropped(Arc<AtomicUsize>);

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("dropped")
    }
}

impl std::error::Error for Dropped {}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn an_error_that_no_dependent_takes_is_dropped() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let drops = Arc::new(AtomicUsize::new(0));
        let error = Dropped(drops.clone());
        let x = client.try_spawn(async move { Err::<u64, _>(error) });
        let never = client.spawn(std::future::pending::<u64>());
        let pair = async |_: Result<u64, Error>, _: u64| panic!("it ran");
        let dependent = client.submit(pair, (x.settled(), &never));
        run_what_is_ready(&client);
        assert!(x.is_finished());
        drop(x);
        assert_eq!(drops.load(SeqCst), 0, "the dependent has it");
        drop(dependent);
        assert_eq!(drops.load(SeqCst), 1);
    });
}

#[test]
fn an_input_that_is_retried_before_the_dependent_runs_has_settled() {
    bounded(|| {
        let client = client_of(1);
        let attempts = Arc::new(AtomicUsize::new(0));
        let counted = attempts.clone();
        let flaky = async move || match counted.fetch_add(1, SeqCst) {
            0 => Err("the first one fails"),
            n => Ok(n as u64),
        };
        let x = client.try_submit(flaky, ());
        let gate = Gate::new();
        let pass = gate.pass();
        let other = client.spawn(async move {
            pass.await;
            0u64
        });
        let both = async |x: Result<u64, Error>, _: u64| x.map_err(|error| error.kind());
        let dependent = client.submit(both, (x.settled(), &other));
        assert!(x.result().is_err());
        eventually("it's retried", || x.retry());
        assert_eq!(x.result().unwrap(), 1);
        gate.open();
        assert_eq!(dependent.result().unwrap(), Err(ErrorKind::Failed));
        // One that is submitted now sees the second end.
        assert_eq!(client.submit(outcome, x.settled()).result().unwrap(), Ok(1));
    });
}

#[test]
fn a_retry_of_the_dependent_leaves_its_settled_inputs_as_they_are() {
    bounded(|| {
        let client = client_of(1);
        let attempts = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let [settles, fails] = attempts.clone().map(|attempts| {
            let flaky = async move || match attempts.fetch_add(1, SeqCst) {
                0 => Err("the first one fails"),
                n => Ok(n as u64),
            };
            client.try_submit(flaky, ())
        });
        assert!(settles.result().is_err());
        let both = async |x: Result<u64, Error>, y: u64| (x.is_err(), y);
        let dependent = client.submit(both, (settles.settled(), &fails));
        assert_eq!(dependent.result().unwrap_err().kind(), ErrorKind::Failed);
        eventually("it's retried", || dependent.retry());
        assert_eq!(dependent.result().unwrap(), (true, 1));
        assert_eq!(attempts.map(|attempts| attempts.load(SeqCst)), [1, 2]);
    });
}

#[test]
fn a_dependent_that_is_retried_takes_its_settled_inputs_anew() {
    bounded(|| {
        let client = client_of(1);
        let attempts = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let [settles, fails] = attempts.map(|attempts| {
            let flaky = async move || match attempts.fetch_add(1, SeqCst) {
                0 => Err("the first one fails"),
                n => Ok(n as u64),
            };
            client.try_submit(flaky, ())
        });
        let both = async |x: Result<u64, Error>, y: u64| x.unwrap() + y;
        let dependent = client.submit(both, (settles.settled(), &fails));
        assert!(dependent.result().is_err());
        assert!(settles.result().is_err());
        eventually("the input is retried", || settles.retry());
        assert_eq!(settles.result().unwrap(), 1);
        eventually("it's retried", || dependent.retry());
        assert_eq!(dependent.result().unwrap(), 2);
    });
}

#[test]
fn when_the_client_closes_dependents_do_not_run() {
    bounded(|| {
        let client = client_of(1);
        let x = client.spawn(std::future::pending::<u64>());
        let dependent = client.submit(outcome, x.settled());
        let second = client.submit(
            async |x: Result<Result<u64, ErrorKind>, Error>| x.is_ok(),
            dependent.settled(),
        );
        drop(client);
        assert_eq!(x.result().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(dependent.result().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(second.result().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn the_end_of_another_client_is_an_outcome() {
    bounded(|| {
        let (client, other) = (client_of(1), client_of(1));
        let x = other.spawn(std::future::pending::<u64>());
        let dependent = client.submit(outcome, x.settled());
        drop(other);
        assert_eq!(dependent.result().unwrap(), Err(ErrorKind::Closed));
    });
}

#[test]
fn a_close_that_waits_for_the_input_does_not_wait_for_the_dependent() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let pass = gate.pass();
        let x = client.spawn(async move {
            pass.await;
            1u64
        });
        eventually("it has begun", || x.status() == Status::Running);
        let dependent = client.submit(outcome, x.settled());
        let close = client.close();
        gate.open();
        futures::executor::block_on(close);
        assert_eq!(x.result().unwrap(), 1);
        assert_eq!(dependent.result().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_client_with_a_dependent_that_waits_is_idle() {
    bounded(|| {
        let client = client_of(1);
        let own = client.clone();
        let x = client.spawn(async move {
            own.idle().await;
            1u64
        });
        let dependent = client.submit(outcome, x.settled());
        assert_eq!(dependent.result().unwrap(), Ok(1));
    });
}

#[test]
fn the_error_counts_as_observed() {
    bounded(|| {
        let reported = Arc::new(AtomicUsize::new(0));
        let counted = reported.clone();
        let hook = move |_: &Error| {
            counted.fetch_add(1, SeqCst);
        };
        let client = Client::builder().workers(0).on_unobserved(hook).build();
        let early = failing(&client);
        let dependent = client.submit(outcome, early.settled());
        early.detach();
        run_until_idle(&client);
        assert_eq!(dependent.result().unwrap(), Err(ErrorKind::Failed));
        let late = failing(&client);
        run_until_idle(&client);
        let dependent = client.submit(outcome, late.settled());
        late.detach();
        run_until_idle(&client);
        assert_eq!(dependent.result().unwrap(), Err(ErrorKind::Failed));
        drop(dependent);
        assert_eq!(reported.load(SeqCst), 0);
    });
}

#[test]
fn a_dependent_lends_its_priority_and_explains_what_it_waits_for() {
    bounded(|| {
        let client = client_of(1);
        let held = hold_worker(&client);
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let named = |name: &'static str| {
            let order = order.clone();
            move || {
                order.lock().unwrap().push(name);
                std::future::ready(1u64)
            }
        };
        let first = client.submit(named("first"), ());
        let lent = client.submit(named("lent"), ());
        let dependent = client.task().priority(5).submit(outcome, lent.settled());
        let explanation = client.explain(&dependent);
        let waits = |reason: &Reason| matches!(reason, Reason::WaitsFor { task, .. } if *task == lent.key());
        assert!(explanation.reasons.iter().any(waits), "{explanation}");
        held.let_go();
        assert_eq!((first.result().unwrap(), dependent.result().unwrap()), (1, Ok(1)));
        assert_eq!(*order.lock().unwrap(), ["lent", "first"]);
    });
}

#[test]
fn the_graph_has_an_edge_from_a_settled_input() {
    bounded(|| {
        let client = client_of(1);
        client.observe();
        let x = failing(&client);
        let dependent = client.submit(outcome, x.settled());
        assert!(dependent.result().unwrap().is_err());
        let key_of = |number| {
            let graph = client.graph();
            graph.tasks.iter().find(|task| task.id == number).map(|task| task.key.clone())
        };
        let has_edge = || {
            let graph = client.graph();
            graph.edges.iter().any(|edge| {
                key_of(edge.from) == Some(x.key()) && key_of(edge.to) == Some(dependent.key())
            })
        };
        eventually("the edge is shown", has_edge);
    });
}

#[test]
fn a_cycle_through_a_settled_input_is_seen() {
    for seed in [None, Some(1)] {
        bounded(move || {
            let client = one_worker(seed);
            let (a, sender) = awaits_later(&client, "a");
            let b = client.submit(async |a: Result<Seen, Error>| flat(a), a.settled());
            sender.send(b.clone()).unwrap();
            assert_eq!(a.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
            assert_eq!(b.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
        });
    }
}

/// An input that may fail, but is settled, ends no wait: the cycle through the other one is refused at once.
#[test]
fn a_settled_input_that_may_fail_is_no_way_out_of_a_cycle() {
    type Dependent = fn(&Client, &Handle<Seen>, &Handle<u64>) -> Handle<Seen>;
    let dependents: [Dependent; 2] = [
        |client, a, other| {
            client.submit(
                async |a: Result<Seen, Error>, _: Result<u64, Error>| flat(a),
                (a.settled(), other.settled()),
            )
        },
        |client, a, other| {
            client.submit(async |_: Result<u64, Error>, a: Seen| a, (other.settled(), a))
        },
    ];
    for dependent in dependents {
        for seed in [None, Some(1)] {
            bounded(move || {
                let client = one_worker(seed);
                let never = client.spawn(std::future::pending::<u64>());
                let (a, sender) = awaits_later(&client, "a");
                let b = dependent(&client, &a, &never);
                sender.send(b.clone()).unwrap();
                assert_eq!(a.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
                never.cancel();
                assert_eq!(b.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
            });
        }
    }
}

/// The plain one may fail, which would end the dependent: that is no cycle until it has ended well.
#[test]
fn a_plain_input_that_may_fail_keeps_a_settled_one_from_closing_a_cycle() {
    for fails in [true, false] {
        bounded(move || {
            let client = client_of(1);
            let gate = Gate::new();
            let pass = gate.pass();
            let c = client.task().name("gated").try_spawn(async move {
                pass.await;
                if fails { Err("fails") } else { Ok(0u64) }
            });
            let never = client.spawn(std::future::pending::<u64>());
            let (a, sender) = awaits_later(&client, "a");
            let both = async |_: Result<u64, Error>, a: Result<Seen, Error>, _: u64| flat(a);
            let b = client.task().name("both").submit(both, (never.settled(), a.settled(), &c));
            sender.send(b.clone()).unwrap();
            eventually("it waits", || client.explain(&a).to_string().contains(&*b.key()));
            assert!(!a.is_finished() && !b.is_finished());
            gate.open();
            let seen = a.result().unwrap().unwrap_err();
            if fails {
                assert_eq!((seen.kind(), seen.origin()), (ErrorKind::Failed, &c.key()));
            } else {
                assert_eq!(seen.kind(), ErrorKind::Cycle);
            }
        });
    }
}

#[test]
fn a_chain_of_many_settles_without_recursion() {
    bounded(|| {
        let client = client_of(1);
        let gate = Gate::new();
        let pass = gate.pass();
        let first = client.try_spawn(async move {
            pass.await;
            Err::<u64, _>("the first one fails")
        });
        let step = async |x: Result<u64, Error>| x.map_or(1, |x| x + 1);
        let last = (0..20_000).fold(first, |x, _| client.submit(step, x.settled()));
        gate.open();
        assert_eq!(last.result().unwrap(), 20_000);
        let first = client.spawn(std::future::pending::<u64>());
        let last = (0..20_000).fold(first, |x, _| client.submit(step, x.settled()));
        drop(client);
        assert_eq!(last.result().unwrap_err().kind(), ErrorKind::Closed);
    });
}
