//! The link's reactions to the scheduler and the workers.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::{or, zip};

use crate::dask::client::io::dask_future::DaskFuture;
use crate::dask::client::io::link::Link;
use crate::dask::client::io::register::RegistrationError;
use crate::dask::client::state::future_state::FutureError;
use crate::dask::client::state::task_spec::TaskSpec;
use crate::dask::wire::frame::Outgoing;
use crate::dask::wire::graph::Call;
use crate::dask::wire::pack::Fields;
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::worker::serve;

use super::fake::*;

#[test]
fn many_submissions_are_few_graphs_in_order() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let names: Vec<_> = (0..10_000).map(|at| format!("f-{at}")).collect();
        let start = Instant::now();
        let remotes: Vec<_> = names.iter().map(|name| submit(&link, name, &[])).collect();
        let (mut heard, mut graphs) = (Vec::new(), 0);
        while heard.len() < names.len() {
            let graph = stream.expect("update-graph").await;
            let keys = graph.get("keys").unwrap().texts();
            assert!(keys.len() <= 2_000);
            heard.extend(keys);
            graphs += 1;
        }
        assert_eq!(heard, names);
        // The client pauses for 2 ms after each message that isn't full, however slow this machine is.
        let most = 60.max(10 + start.elapsed().as_millis() / 2);
        assert!(graphs < most, "{graphs}");
        drop(remotes);
        let mut released = 0;
        while released < names.len() {
            let releases = stream.expect("client-releases-keys").await;
            released += releases.get("keys").unwrap().items().unwrap().len();
        }
    });
}

#[test]
fn tasks_end_as_the_scheduler_says() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let [good, bad, gone, cancelled] =
            ["good", "bad", "gone", "cancelled"].map(|key| submit(&link, key, &[]));
        assert!(good.outcome().is_none());
        stream.in_memory("good").await;
        stream.in_memory("unknown").await;
        stream.erred("bad", "it's broken").await;
        stream.say(&[("op", &"cancelled-keys"), ("keys", &["gone"])]).await;
        let reason: &Fields<'_> =
            &[("op", &"cancelled-keys"), ("keys", &["cancelled"]), ("reason", &"by me")];
        stream.say(reason).await;
        zip(soon(good.ended()), soon(good.ended())).await.0.unwrap();
        let Err(FutureError::Erred(exception)) = soon(bad.ended()).await else { panic!() };
        assert_eq!(exception.text, "it's broken");
        assert!(matches!(soon(bad.fetch()).await, Err(FutureError::Erred(_))));
        let Err(FutureError::Lost(why)) = soon(gone.ended()).await else { panic!() };
        assert_eq!(
            *why,
            *format!("the scheduler at {} doesn't have it any more: submit it again", fake.name())
        );
        let Err(FutureError::Cancelled(why)) = soon(cancelled.ended()).await else { panic!() };
        assert_eq!(&*why, "by me");
        // Its dependents aren't even sent.
        let next = submit(&link, "next", &["gone"]);
        let last = submit(&link, "last", &["next"]);
        let Some(Err(FutureError::Lost(why))) = next.outcome() else { panic!() };
        assert_eq!(&*why, "its input `gone` is lost: submit that again first");
        assert!(matches!(last.outcome(), Some(Err(FutureError::Lost(_)))));
        // Another client may have it retried.
        stream.say(&[("op", &"task-retried"), ("key", &"bad")]).await;
        stream.in_memory("bad").await;
        let _last = heard_all(&link, &mut stream).await;
        bad.outcome().unwrap().unwrap();
    });
}

#[test]
fn failed_tasks_run_again() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let bad = submit(&link, "bad", &[]);
        stream.expect("update-graph").await;
        stream.erred("bad", "no").await;
        soon(bad.ended()).await.unwrap_err();
        bad.retry();
        bad.retry();
        assert!(bad.outcome().is_none());
        // The scheduler would fail it, until it has accepted the retry.
        let next = submit(&link, "next", &["bad"]);
        let other = submit(&link, "other", &[]);
        stream.expect_keys("update-graph", &["other"]).await;
        // The error of the first attempt, once more.
        stream.erred("bad", "no").await;
        let _last = heard_all(&link, &mut stream).await;
        stream.expect_keys("update-graph", &["last-said"]).await;
        let asked = fake.asked("retry").await;
        assert_eq!(asked.keys(), ["bad"]);
        assert!(bad.outcome().is_none());
        asked.answer(data(&[]));
        stream.expect_keys("update-graph", &["next"]).await;
        assert_eq!(stream.expect("report-key").await.text("key"), Some("bad"));
        stream.in_memory("bad").await;
        soon(bad.ended()).await.unwrap();

        // A task that the scheduler can't run again.
        stream.erred("other", "no").await;
        soon(other.ended()).await.unwrap_err();
        other.retry();
        let last = submit(&link, "last", &["other"]);
        for _ in 0..2 {
            fake.asked("retry").await.answer(crate::dask::wire::call::failed("KeyError"));
        }
        let Err(FutureError::Lost(why)) = soon(other.ended()).await else { panic!() };
        assert!(why.contains("it can't run again: the call failed"), "{why}");
        assert!(matches!(soon(last.ended()).await, Err(FutureError::Lost(_))));
        drop((next, last));
    });
}

#[test]
fn all_tasks_end_with_the_scheduler() {
    for end in 0..3 {
        run(async {
            let fake = Fake::start().await;
            let (link, mut stream) = fake.take().await;
            let (here, pending) = (submit(&link, "here", &[]), submit(&link, "pending", &[]));
            stream.in_memory("here").await;
            soon(here.ended()).await.unwrap();
            let fetch = async {
                assert!(matches!(soon(here.fetch()).await, Err(FutureError::Lost(_))));
            };
            let ends = async {
                let asked = fake.asked("who_has").await;
                match end {
                    0 => drop(stream),
                    1 => stream.say(&[("op", &"stream-closed")]).await,
                    // A reserved msgpack marker.
                    _ => stream
                        .comm
                        .send(Outgoing::new([Bytes::from_static(b"\xc1")]))
                        .await
                        .unwrap(),
                }
                drop(asked);
            };
            zip(fetch, ends).await;
            let Err(FutureError::Lost(why)) = soon(pending.ended()).await else { panic!() };
            let start = format!("the connection to the scheduler at {} was lost: ", fake.name());
            assert!(why.starts_with(&start), "{why}");
            let late = submit(&link, "late", &[]);
            assert!(matches!(late.outcome(), Some(Err(FutureError::Lost(_)))));
            let late = link.scatter("late", Serialized::bytes(Bytes::new()));
            assert!(matches!(late.outcome(), Some(Err(FutureError::Lost(_)))));
            pending.retry();
            soon(link.close()).await;
        });
    }
}

#[test]
fn a_silent_scheduler_is_lost() {
    run(async {
        let fake = Fake::start().await;
        let (link, _stream) = fake.take_impatient().await;
        let remote = submit(&link, "f-1", &[]);
        // A scheduler that answers may have nothing else to say.
        for _ in 0..3 {
            fake.asked("echo").await.answer(nil());
        }
        assert!(remote.outcome().is_none());
        let _silent = fake.asked("echo").await;
        let Err(FutureError::Lost(why)) = soon(remote.ended()).await else { panic!() };
        assert!(why.contains("is silent: no data received for 2s"), "{why}");
    });
}

#[test]
fn a_scheduler_that_reads_nothing_is_lost() {
    run(async {
        let fake = Fake::start().await;
        let (link, _stream) = fake.take_impatient().await;
        let answers = async {
            loop {
                fake.asked("echo").await.answer(nil());
            }
        };
        let args = Bytes::from(vec![0; 4 << 20]);
        let submits = async {
            let remotes: Vec<_> = (0..20)
                .map(|at| {
                    let call =
                        Call::Rust { function: "f".into(), args: args.clone(), inputs: Vec::new() };
                    let annotations = Arc::default();
                    link.submit(TaskSpec {
                        key: format!("f-{at}").into(),
                        call,
                        annotations,
                        is_alone: false,
                    })
                })
                .collect();
            let Err(FutureError::Lost(why)) = soon(remotes[0].ended()).await else { panic!() };
            assert!(why.contains("is silent: no data accepted for 2s"), "{why}");
        };
        or(submits, answers).await;
    });
}

#[test]
fn the_last_reference_closes_the_connection() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let remote = submit(&link, "f-1", &[]);
        stream.expect("update-graph").await;
        drop(link.clone());
        drop(link);
        stream.in_memory("f-1").await;
        soon(remote.ended()).await.unwrap();
        drop(remote);
        while let Ok(Some(_)) = soon(stream.comm.receive()).await {}
    });
}

#[test]
fn closing_notifies_the_scheduler_and_is_bounded_in_time() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let remote = submit(&link, "f-1", &[]);
        stream.expect("update-graph").await;
        let hear = async {
            stream.expect("close-client").await;
            stream.expect("close-stream").await;
            drop(stream);
        };
        let close = async { _ = zip(link.close(), link.close()).await };
        zip(hear, soon(close)).await;
        assert!(matches!(remote.outcome(), Some(Err(FutureError::Closed))));
        assert!(matches!(submit(&link, "f-2", &[]).outcome(), Some(Err(FutureError::Closed))));

        let (link, _stream) = fake.take().await;
        let start = Instant::now();
        soon(link.close()).await;
        // 5 s, and as long as a loaded machine may take.
        assert!(start.elapsed() < Duration::from_secs(15));
    });
}

#[test]
fn results_that_are_wanted_together_are_fetched_together() {
    run(async {
        let (fake, worker) = (Fake::start().await, Fake::start().await);
        let (link, mut stream) = fake.take().await;
        let names: Vec<_> = (0..2_000).map(|at| format!("f-{at}")).collect();
        let remotes: Vec<_> = names.iter().map(|name| submit(&link, name, &[])).collect();
        for name in &names {
            stream.in_memory(name).await;
        }
        for remote in &remotes {
            soon(remote.ended()).await.unwrap();
        }
        let (questions, calls) = (Mutex::new(0), Mutex::new(0));
        let answer = async {
            loop {
                let asked = fake.asked("who_has").await;
                *questions.lock().unwrap() += 1;
                let keys = asked.keys();
                asked.answer(who_has(&keys, &[worker.name()]));
            }
        };
        let serve = async {
            loop {
                let asked = worker.asked("get_data").await;
                *calls.lock().unwrap() += 1;
                let keys = asked.keys();
                asked.answer(data(&keys));
            }
        };
        let fetch = async {
            let fetches = remotes.iter().map(|remote| remote.fetch());
            let values = futures::future::join_all(fetches).await;
            for (name, value) in names.iter().zip(values) {
                assert_eq!(bytes(value.unwrap()), name.as_bytes());
            }
            // Twice at the same time, after a fetch that was cancelled.
            let one = &remotes[0];
            let _ = futures_lite::future::poll_once(one.fetch()).await;
            let (first, second) = zip(one.fetch(), one.fetch()).await;
            assert_eq!(first.unwrap(), second.unwrap());
        };
        soon(or(fetch, or(answer, serve))).await;
        let (questions, calls) = (questions.into_inner().unwrap(), calls.into_inner().unwrap());
        assert!(questions < 10 && calls < 30, "{questions} {calls}");
    });
}

#[test]
fn a_result_is_fetched_until_a_source_has_it() {
    run(async {
        let (fake, busy, away) = (Fake::start().await, Fake::start().await, Fake::start().await);
        let (link, mut stream) = fake.take().await;
        let remote = submit(&link, "f-1", &[]);
        stream.expect("update-graph").await;
        stream.in_memory("f-1").await;
        let fetch = async { assert_eq!(bytes(remote.fetch().await.unwrap()), b"f-1") };
        let keys = ["f-1".to_owned()];
        let holders = [away.name(), busy.name()];
        let play = async {
            fake.asked("who_has").await.answer(who_has(&keys, &holders[..1]));
            // It closes the connection instead of answering.
            drop(away.asked("get_data").await);
            fake.asked("who_has").await.answer(who_has(&keys, &holders));
            busy.asked("get_data").await.answer(serve::busy());
            let again = busy.asked("get_data").await;
            // It doesn't have the result.
            again.answer(data(&[]));
            fake.asked("who_has").await.answer(who_has(&keys, &holders));
            let missing: &Fields<'_> = &[("status", &"error"), ("keys", &["f-1"])];
            fake.asked("gather").await.answer(message(missing));
            // A worker may have it again.
            assert_eq!(stream.expect("report-key").await.text("key"), Some("f-1"));
            stream.in_memory("f-1").await;
            fake.asked("who_has").await.answer(who_has(&keys, &[]));
            stream.expect("report-key").await;
            stream.say(&[("op", &"lost-data"), ("key", &"f-1")]).await;
            stream.in_memory("f-1").await;
            fake.asked("who_has").await.answer(who_has(&keys, &holders[..1]));
            fake.asked("gather").await.answer(data(&keys));
            std::future::pending::<()>().await;
        };
        soon(or(fetch, play)).await;
        assert!(remote.outcome().unwrap().is_ok());
    });
}

/// Submits a task, and reports that it has ended.
async fn finished_data(link: &Link, stream: &mut Stream) -> Arc<DaskFuture> {
    let data = submit(link, "data", &[]);
    stream.expect_keys("update-graph", &["data"]).await;
    stream.in_memory("data").await;
    soon(data.ended()).await.unwrap();
    data
}

/// Refuses a graph of these tasks, since one of them takes a lost result.
async fn refuse(stream: &mut Stream, keys: &[&str]) {
    let reason = "lost dependencies";
    stream.say(&[("op", &"cancelled-keys"), ("keys", &keys), ("reason", &reason)]).await;
}

/// Dask refuses a graph as a whole if one of its tasks takes a lost result.
#[test]
fn refused_tasks_without_a_lost_input_are_sent_again() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let data = finished_data(&link, &mut stream).await;
        let submitted = together(&fake, &link, &mut stream, "value", || {
            let bad = submit(&link, "bad", &["data", "value"]);
            let worse = submit(&link, "worse", &["bad"]);
            let good = submit(&link, "good", &["value"]);
            (bad, worse, good, submit(&link, "better", &["good"]))
        });
        let (_value, (bad, worse, good, better)) = submitted.await;
        stream.expect_keys("update-graph", &["bad", "worse", "good", "better"]).await;
        // Dependents of tasks that are about to be refused. One of them is dropped in the meantime.
        let submitted = together(&fake, &link, &mut stream, "other", || {
            let dropped = submit(&link, "dropped", &["good", "other"]);
            (dropped, submit(&link, "best", &["good", "better", "other"]))
        });
        let (_other, (dropped, best)) = submitted.await;
        stream.expect_keys("update-graph", &["dropped", "best"]).await;
        drop(dropped);
        stream.expect_keys("client-releases-keys", &["dropped"]).await;

        stream.say(&[("op", &"cancelled-keys"), ("keys", &["data"])]).await;
        refuse(&mut stream, &["better", "worse", "good", "bad"]).await;
        stream.expect_keys("update-graph", &["good", "better"]).await;
        refuse(&mut stream, &["best", "dropped"]).await;
        stream.expect_keys("update-graph", &["best"]).await;
        for lost in [data, bad, worse] {
            assert!(matches!(soon(lost.ended()).await, Err(FutureError::Lost(_))));
        }
        for (remote, key) in [(good, "good"), (better, "better"), (best, "best")] {
            assert!(remote.outcome().is_none());
            stream.in_memory(key).await;
            soon(remote.ended()).await.unwrap();
        }
    });
}

#[test]
fn refused_tasks_are_sent_alone_if_no_lost_input_is_known() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let _data = finished_data(&link, &mut stream).await;
        let submitted = together(&fake, &link, &mut stream, "value", || {
            (submit(&link, "bad", &["data", "value"]), submit(&link, "good", &["value"]))
        });
        let (_value, (bad, good)) = submitted.await;
        for _ in 0..2 {
            stream.expect_keys("update-graph", &["bad", "good"]).await;
            refuse(&mut stream, &["bad", "good"]).await;
        }
        stream.expect_keys("update-graph", &["bad"]).await;
        stream.expect_keys("update-graph", &["good"]).await;
        refuse(&mut stream, &["bad"]).await;
        assert!(matches!(soon(bad.ended()).await, Err(FutureError::Lost(_))));
        assert!(good.outcome().is_none());
        stream.in_memory("good").await;
        soon(good.ended()).await.unwrap();
    });
}

#[test]
fn no_client_registers_with_an_incompatible_server() {
    run(async {
        let fake = Fake::start().await;
        let connect = || Link::connect(&fake.address, None, PATIENCE);
        let worker = async {
            fake.asked("identity").await.answer(message(&[("type", &"Worker")]));
        };
        let error = zip(connect(), worker).await.0.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} isn't a scheduler, but a Worker; connect to the scheduler", fake.name())
        );

        let strange = async {
            fake.asked("identity").await.answer(message(&[("type", &"Scheduler")]));
            fake.asked("versions").await.answer(versions());
            let text = "update_graph:self,client,expr_ser,keys,span_metadata,internal_priority,\
                        submitting_task,moon_phase";
            let answer: &Fields<'_> = &[("status", &"OK"), ("result", &text)];
            fake.asked("run_function").await.answer(message(answer));
        };
        let error = zip(connect(), strange).await.0.unwrap_err();
        assert!(matches!(error, RegistrationError::Incompatible { .. }));
        assert!(error.to_string().contains("its `update_graph` needs `moon_phase`"), "{error}");

        let silent = async {
            fake.asked("identity").await.answer(message(&[("type", &"Scheduler")]));
            let _held = fake.asked("versions").await;
            std::future::pending().await
        };
        let error = or(Link::connect(&fake.address, None, 5 * SOON), silent).await.unwrap_err();
        assert!(error.to_string().contains("is silent"), "{error}");

        let refusing = async {
            fake.asked("identity").await.answer(message(&[("type", &"Scheduler")]));
            fake.asked("versions").await.answer(versions());
            fake.asked("run_function").await.answer(nil());
            drop(fake.streams.recv().await);
        };
        let error = zip(connect(), refusing).await.0.unwrap_err();
        assert!(error.to_string().contains("doesn't take this client"), "{error}");
        assert!(fake.streams.is_empty());
    });
}
