//! Waits that a failure may end: they close a cycle once it can't (promise 4).

use ensue::{Client, ErrorKind, Handle, gather};
use support::hold::Gate;
use support::{bounded, eventually};

use crate::cycles::{Seen, awaits_later, flat, one_worker};

/// A task that ends when the gate opens.
fn gated(client: &Client, gate: &Gate, fails: bool) -> Handle<Seen> {
    let passed = gate.pass();
    client.task().name("gated").try_spawn(async move {
        passed.await;
        if fails { Err("fails") } else { Ok(Seen::Ok(0)) }
    })
}

fn waits_for(client: &Client, task: &Handle<Seen>, other: &Handle<Seen>) {
    eventually("it waits", || client.explain(task).to_string().contains(&*other.key()));
}

#[test]
fn a_member_of_a_gather_that_may_fail_keeps_it_from_being_a_cycle() {
    for fails in [true, false] {
        bounded(move || {
            let client = Client::builder().workers(1).build();
            let gate = Gate::new();
            let c = gated(&client, &gate, fails);
            let (b, sender) = awaits_later(&client, "b");
            let members = [b.clone(), c];
            let a = client.task().name("a").submit(
                async move || match gather(members).await {
                    Ok(_) => unreachable!("one of them waits for this"),
                    Err(error) if error.kind() == ErrorKind::Cycle => Err(error),
                    Err(_) => Ok(7),
                },
                (),
            );
            waits_for(&client, &a, &b);
            sender.send(a.clone()).unwrap();
            waits_for(&client, &b, &a);
            assert!(!a.is_finished() && !b.is_finished());
            gate.open();
            if fails {
                assert_eq!((a.result().unwrap().unwrap(), b.result().unwrap().unwrap()), (7, 8));
            } else {
                for seen in [a.result(), b.result()] {
                    assert_eq!(seen.unwrap().unwrap_err().kind(), ErrorKind::Cycle);
                }
            }
        });
    }
}

/// Makes the task that waits for the first and the second.
type Dependent = fn(&Client, &Handle<Seen>, &Handle<Seen>) -> Handle<Seen>;

fn of_both(client: &Client, x: &Handle<Seen>, y: &Handle<Seen>) -> Handle<Seen> {
    client.task().name("both").submit(async |x: Seen, y: Seen| flat(Ok(x.and(y))), (x, y))
}

#[test]
fn an_input_that_may_fail_keeps_its_dependent_from_being_in_a_cycle() {
    let dependents: [Dependent; 3] = [
        of_both,
        |client, x, y| client.submit(async |x: Vec<Seen>| flat(Ok(x[0].clone())), vec![x, y, x, y]),
        // Another dependent waits for both, too.
        |client, x, y| of_both(client, &of_both(client, x, y), x),
    ];
    for fails in [true, false] {
        for dependent in dependents {
            for seed in [None, Some(1)] {
                bounded(move || {
                    let client = one_worker(seed);
                    let gate = Gate::new();
                    let c = gated(&client, &gate, fails);
                    let (b, sender) = awaits_later(&client, "b");
                    let a = dependent(&client, &b, &c);
                    sender.send(a.clone()).unwrap();
                    if seed.is_none() {
                        waits_for(&client, &b, &a);
                        assert!(!a.is_finished() && !b.is_finished());
                    } else {
                        // The tasks run until nothing is ready.
                        futures::executor::block_on(async {
                            let idle = client.idle();
                            futures::pin_mut!(idle);
                            assert!(futures::poll!(idle).is_pending());
                        });
                    }
                    gate.open();
                    let seen = b.result().unwrap().unwrap_err();
                    if fails {
                        assert_eq!((seen.kind(), seen.origin()), (ErrorKind::Failed, &c.key()));
                    } else {
                        assert_eq!(seen.kind(), ErrorKind::Cycle);
                    }
                });
            }
        }
    }
}

/// All of the inputs and members wait for the task that awaits: none can fail.
#[test]
fn inputs_and_members_that_all_wait_for_the_task_are_in_a_cycle() {
    bounded(|| {
        for gathers in [false, true] {
            let client = Client::builder().workers(1).build();
            let (a, sender) = awaits_later(&client, "a");
            let parts: Vec<_> =
                (0..10).map(|_| client.submit(async |x: Seen| flat(Ok(x)), &a)).collect();
            let sum = if gathers {
                client.submit(async move || gather(parts).await.and_then(|x| x[0].clone()), ())
            } else {
                client.submit(async |x: Vec<Seen>| x[0].clone(), parts)
            };
            sender.send(sum.clone()).unwrap();
            assert_eq!(a.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
            assert_eq!(sum.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
        }
    });
}

#[test]
fn blocking_work_is_refused_once_the_other_input_has_ended() {
    for seed in [None, Some(1)] {
        bounded(move || {
            let client = one_worker(seed);
            let (sender, receiver) = std::sync::mpsc::channel::<Handle<Seen>>();
            let work = move || flat(receiver.recv().unwrap().result());
            let a = client.task().name("a").submit_blocking(work, ());
            let c = client.submit(
                async || {
                    ensue::sleep(std::time::Duration::from_millis(10)).await;
                    Seen::Ok(0)
                },
                (),
            );
            let both = of_both(&client, &a, &c);
            sender.send(both.clone()).unwrap();
            assert_eq!(a.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
            assert_eq!(both.result().unwrap().unwrap_err().kind(), ErrorKind::Cycle);
        });
    }
}
