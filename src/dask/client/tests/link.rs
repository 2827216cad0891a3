//! What the link makes of what the scheduler and the workers do.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_io::Timer;
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
        assert!(graphs < 60, "{graphs}");
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
        stream.in_memory("nobody's").await;
        let erred: &Fields<'_> = &[
            ("op", &"task-erred"),
            ("key", &"bad"),
            ("exception", &"it's broken"),
            ("traceback", &()),
        ];
        stream.say(erred).await;
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
        // What takes it isn't even sent.
        let next = submit(&link, "next", &["gone"]);
        let last = submit(&link, "last", &["next"]);
        let Some(Err(FutureError::Lost(why))) = next.outcome() else { panic!() };
        assert_eq!(&*why, "its input `gone` is lost: submit that again first");
        assert!(matches!(last.outcome(), Some(Err(FutureError::Lost(_)))));
        // The scheduler itself may have another view.
        stream.say(&[("op", &"task-retried"), ("key", &"bad")]).await;
        stream.in_memory("bad").await;
        while bad.outcome().unwrap().is_err() {
            Timer::after(SOON / 10).await;
        }
    });
}

#[test]
fn what_failed_runs_again() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let erred: &Fields<'_> =
            &[("op", &"task-erred"), ("key", &"bad"), ("exception", &"no"), ("traceback", &())];
        let bad = submit(&link, "bad", &[]);
        stream.expect("update-graph").await;
        stream.say(erred).await;
        soon(bad.ended()).await.unwrap_err();
        bad.retry();
        bad.retry();
        assert!(bad.outcome().is_none());
        // It would fail, until the scheduler knows.
        let next = submit(&link, "next", &["bad"]);
        let other = submit(&link, "other", &[]);
        stream.expect_keys("update-graph", &["other"]).await;
        // Said before it knew.
        stream.say(erred).await;
        let asked = fake.asked("retry").await;
        assert_eq!(asked.keys(), ["bad"]);
        assert!(bad.outcome().is_none());
        asked.answer(data(&[]));
        stream.expect_keys("update-graph", &["next"]).await;
        assert_eq!(stream.expect("report-key").await.text("key"), Some("bad"));
        stream.in_memory("bad").await;
        soon(bad.ended()).await.unwrap();

        // One that it can't.
        stream.say(&[("op", &"task-erred"), ("key", &"other"), ("exception", &"no")]).await;
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
fn the_end_of_the_scheduler_is_that_of_all_tasks() {
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
                    // In the middle of a message, or what isn't one.
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
            let start = format!("the scheduler at {} is gone: ", fake.name());
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
fn a_silent_scheduler_is_gone() {
    run(async {
        let fake = Fake::start().await;
        let (link, _stream) = fake.take_impatient().await;
        let remote = submit(&link, "f-1", &[]);
        // As long as it answers, it may have nothing to say.
        for _ in 0..3 {
            fake.asked("echo").await.answer(nil());
        }
        assert!(remote.outcome().is_none());
        let _silent = fake.asked("echo").await;
        let Err(FutureError::Lost(why)) = soon(remote.ended()).await else { panic!() };
        assert!(why.contains("is silent: nothing came for 300ms"), "{why}");
    });
}

#[test]
fn a_scheduler_that_takes_nothing_is_gone() {
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
            assert!(why.contains("is silent: it took nothing for 300ms"), "{why}");
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
fn leaving_is_said_and_not_waited_for_too_long() {
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
        assert!(start.elapsed() < Duration::from_secs(7));
    });
}

#[test]
fn results_that_are_wanted_together_come_together() {
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
            // Twice at once, and one of them given up.
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
fn a_result_is_looked_for_until_it_is_found() {
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
            // It goes away while it's asked.
            drop(away.asked("get_data").await);
            fake.asked("who_has").await.answer(who_has(&keys, &holders));
            busy.asked("get_data").await.answer(serve::busy());
            let again = busy.asked("get_data").await;
            // It has it not.
            again.answer(data(&[]));
            fake.asked("who_has").await.answer(who_has(&keys, &holders));
            let missing: &Fields<'_> = &[("status", &"error"), ("keys", &["f-1"])];
            fake.asked("gather").await.answer(message(missing));
            // Somebody may have it again.
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

/// A result that is there.
async fn data_there(link: &Link, stream: &mut Stream) -> Arc<DaskFuture> {
    let data = submit(link, "data", &[]);
    stream.expect_keys("update-graph", &["data"]).await;
    stream.in_memory("data").await;
    soon(data.ended()).await.unwrap();
    data
}

/// The scheduler takes none of these, since one of them takes what is gone.
async fn refuse(stream: &mut Stream, keys: &[&str]) {
    let reason = "lost dependencies";
    stream.say(&[("op", &"cancelled-keys"), ("keys", &keys), ("reason", &reason)]).await;
}

/// Dask refuses a graph as a whole where one of its tasks takes what is gone.
#[test]
fn what_takes_nothing_that_is_gone_is_sent_again() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let data = data_there(&link, &mut stream).await;
        let submitted = together(&fake, &link, &mut stream, "value", || {
            let bad = submit(&link, "bad", &["data", "value"]);
            let worse = submit(&link, "worse", &["bad"]);
            let good = submit(&link, "good", &["value"]);
            (bad, worse, good, submit(&link, "better", &["good"]))
        });
        let (_value, (bad, worse, good, better)) = submitted.await;
        stream.expect_keys("update-graph", &["bad", "worse", "good", "better"]).await;
        // It takes what is about to be refused, and is dropped in the meantime, or isn't.
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
fn where_it_is_not_known_what_is_gone_each_task_is_sent_by_itself() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let _data = data_there(&link, &mut stream).await;
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
fn nothing_is_registered_where_it_would_not_work() {
    run(async {
        let fake = Fake::start().await;
        let connect = || Link::connect(&fake.address, None, 5 * SOON);
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
            Timer::after(10 * SOON).await;
        };
        let error = or(connect(), async {
            silent.await;
            unreachable!()
        })
        .await
        .unwrap_err();
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
