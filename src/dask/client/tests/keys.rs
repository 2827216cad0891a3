//! Keys that are used again, and values that are scattered under them.

use async_io::Timer;
use futures_lite::future::or;

use crate::dask::client::state::future_state::FutureError;
use crate::dask::wire::pack::Fields;
use crate::dask::wire::serialized::Serialized;

use super::fake::*;

#[test]
fn a_key_that_is_used_again_keeps_the_order() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let _again = link.in_one_message(|| {
            let one = submit(&link, "f-1", &[]);
            let two = submit(&link, "f-2", &["f-1"]);
            drop(one);
            let again = submit(&link, "f-1", &[]);
            drop(two);
            again
        });
        stream.expect_keys("update-graph", &["f-1", "f-2"]).await;
        stream.expect_keys("client-releases-keys", &["f-1"]).await;
        stream.expect_keys("update-graph", &["f-1"]).await;
        stream.expect_keys("client-releases-keys", &["f-2"]).await;
    });
}

/// A cancelled task may be dropped later than its key is used again.
#[test]
fn a_cancelled_task_does_not_keep_its_key() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let former = submit(&link, "f-1", &[]);
        stream.expect_keys("update-graph", &["f-1"]).await;
        stream.in_memory("f-1").await;
        soon(former.ended()).await.unwrap();
        let now = submit(&link, "f-1", &[]);
        assert!(now.outcome().is_none());
        stream.expect_keys("client-releases-keys", &["f-1"]).await;
        stream.expect_keys("update-graph", &["f-1"]).await;
        drop(former);
        let _other = submit(&link, "f-2", &[]);
        stream.expect_keys("update-graph", &["f-2"]).await;
        stream.in_memory("f-1").await;
        soon(now.ended()).await.unwrap();
    });
}

/// The scheduler sends messages about the previous task of a key before it reads the release.
#[test]
fn stale_messages_about_a_key_are_ignored() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        stream.is_slow = true;
        let other = submit(&link, "other", &[]);
        let keys = ["done", "erred", "lost", "gone"];
        let former = keys.map(|key| submit(&link, key, &[]));
        stream.hear_keys("update-graph", 5).await;
        let (again, taking) = link.in_one_message(|| {
            drop(former);
            (keys.map(|key| submit(&link, key, &[])), submit(&link, "taking", &keys))
        });
        let gone: &Fields<'_> = &[("op", &"cancelled-keys"), ("keys", &["gone"])];
        let say_stale = async |stream: &mut Stream| {
            stream.in_memory("done").await;
            stream.erred("erred", "no").await;
            stream.say(&[("op", &"lost-data"), ("key", &"lost")]).await;
            stream.say(gone).await;
        };
        say_stale(&mut stream).await;
        stream.expect("client-releases-keys").await;
        stream.hear_keys("update-graph", 5).await;
        // Also after the new tasks were sent, and before the probe is answered.
        say_stale(&mut stream).await;
        stream.in_memory("other").await;
        soon(other.ended()).await.unwrap();
        assert!(again.iter().chain([&taking]).all(|remote| remote.outcome().is_none()));
        assert_eq!(stream.probes.len(), 1);
        stream.answer().await;
        stream.in_memory("done").await;
        stream.erred("erred", "no").await;
        stream.in_memory("lost").await;
        stream.say(gone).await;
        let [done, erred, lost, gone] = &again;
        soon(done.ended()).await.unwrap();
        assert!(matches!(soon(erred.ended()).await, Err(FutureError::Erred(_))));
        soon(lost.ended()).await.unwrap();
        assert!(matches!(soon(gone.ended()).await, Err(FutureError::Lost(_))));
        assert!(taking.outcome().is_none());
    });
}

#[test]
fn a_retry_that_fails_is_not_that_of_a_later_task() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let bad = submit(&link, "bad", &[]);
        stream.expect("update-graph").await;
        stream.erred("bad", "no").await;
        soon(bad.ended()).await.unwrap_err();
        bad.retry();
        let asked = fake.asked("retry").await;
        drop(bad);
        let again = submit(&link, "bad", &[]);
        let next = submit(&link, "next", &["bad"]);
        asked.answer(crate::dask::wire::call::failed("KeyError"));
        fake.asked("retry").await.answer(crate::dask::wire::call::failed("KeyError"));
        stream.expect_keys("client-releases-keys", &["bad"]).await;
        stream.expect_keys("update-graph", &["bad", "next"]).await;
        assert!(again.outcome().is_none() && next.outcome().is_none());
        stream.in_memory("bad").await;
        soon(again.ended()).await.unwrap();
    });
}

/// A scatter uses another connection, on which it could arrive before the release.
#[test]
fn a_value_is_scattered_when_its_key_is_free() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        stream.is_slow = true;
        let scatter = |text: &'static str| link.scatter("data", Serialized::bytes(text.into()));
        // The second one waits for the first one, and the third one for the second.
        let first = scatter("first");
        let mut asked = scattering(&fake).await;
        drop(first);
        drop(scatter("second"));
        let third = scatter("third");
        let next = submit(&link, "next", &["data"]);
        for _ in 0..2 {
            asked.answer(data(&[]));
            stream.expect_keys("client-releases-keys", &["data"]).await;
            // The probe comes before it in the stream.
            let other = submit(&link, "other", &[]);
            stream.expect_keys("update-graph", &["other"]).await;
            Timer::after(SOON / 2).await;
            assert!(fake.calls.is_empty());
            // This is about the previous value.
            stream.in_memory("data").await;
            stream.answer().await;
            asked = scattering(&fake).await;
            assert!(third.outcome().is_none());
            drop(other);
            stream.expect_keys("client-releases-keys", &["other"]).await;
            stream.answer().await;
        }
        asked.answer(data(&[]));
        stream.expect_keys("update-graph", &["next"]).await;
        stream.in_memory("data").await;
        soon(third.ended()).await.unwrap();
        drop(next);
    });
}

#[test]
fn a_value_waits_for_a_worker_and_tasks_for_the_value() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let value = link.scatter("data-1", Serialized::bytes("value".into()));
        let first = submit(&link, "f-1", &["data-1"]);
        let second = submit(&link, "f-2", &["f-1"]);
        let _other = submit(&link, "f-3", &[]);
        drop(second);
        stream.expect_keys("update-graph", &["f-3"]).await;
        let workers = || message(&[("tcp://w:1", &1u64)]);
        fake.asked("ncores_running").await.answer(message(&[]));
        fake.asked("ncores_running").await.answer(workers());
        // The worker leaves at this moment.
        let none = crate::dask::wire::call::failed("TimeoutError('No valid workers found')");
        fake.asked("scatter").await.answer(none);
        fake.asked("ncores_running").await.answer(workers());
        let asked = fake.asked("scatter").await;
        assert!(value.outcome().is_none());
        stream.in_memory("data-1").await;
        asked.answer(data(&[]));
        stream.expect_keys("update-graph", &["f-1", "f-2"]).await;
        stream.expect_keys("client-releases-keys", &["f-2"]).await;
        soon(value.ended()).await.unwrap();

        // The worker that was to take the value leaves at this moment: it's scattered again.
        let refuse =
            async |text| scattering(&fake).await.answer(crate::dask::wire::call::failed(text));
        let moved = link.scatter("data-2", Serialized::bytes("value".into()));
        refuse("KeyError('tcp://w:1')").await;
        refuse("CommClosedError('in <TCP>: Stream is closed')").await;
        let asked = scattering(&fake).await;
        assert!(moved.outcome().is_none());
        stream.in_memory("data-2").await;
        asked.answer(data(&[]));
        soon(moved.ended()).await.unwrap();

        let bad = link.scatter("data-3", Serialized::bytes("value".into()));
        let next = submit(&link, "f-4", &["data-3"]);
        let refused = async {
            loop {
                refuse("no memory").await;
            }
        };
        let Err(FutureError::Lost(why)) = or(bad.ended(), refused).await else { panic!() };
        assert!(why.contains("no worker took it: the call failed on the other side: no memory"));
        assert!(matches!(soon(next.ended()).await, Err(FutureError::Lost(_))));
        drop(first);
    });
}

/// So the time for each doesn't grow with their number.
#[test]
fn each_of_many_values_is_examined_a_few_times() {
    const COUNT: usize = 2_000;
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        for is_taken in [true, false] {
            let before = link.examined();
            let mut held = Vec::with_capacity(2 * COUNT);
            for at in 0..COUNT {
                let key = format!("data-{is_taken}-{at}");
                held.push(link.scatter(&key, Serialized::bytes("value".into())));
                held.push(submit(&link, &format!("f-{is_taken}-{at}"), &[&key]));
            }
            let giving = async {
                loop {
                    let asked = fake.calls.recv().await.unwrap();
                    let answer = match &*asked.op {
                        "ncores_running" => message(&[("tcp://w:1", &1u64)]),
                        _ if is_taken => data(&[]),
                        _ => crate::dask::wire::call::failed("no memory"),
                    };
                    asked.answer(answer);
                }
            };
            let hearing = async {
                if is_taken {
                    stream.hear_keys("update-graph", COUNT).await;
                }
                for remote in held.iter().filter(|_| !is_taken) {
                    assert!(matches!(soon(remote.ended()).await, Err(FutureError::Lost(_))));
                }
            };
            or(giving, hearing).await;
            let examined = link.examined() - before;
            assert!(examined < 40 * COUNT, "{examined}");
        }
    });
}
