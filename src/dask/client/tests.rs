//! The link against a scheduler and workers that do what a test says.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use async_io::{Timer, block_on};
use bytes::Bytes;
use futures_lite::future::{or, zip};

use super::connect::ConnectError;
use super::link::{Link, Pace};
use super::remote::{Failure, Remote};
use super::spec::{OwnedAnnotations, OwnedCall, Spec};
use crate::dask::net::{Address, Comm, Io, Listener};
use crate::dask::wire::call::EMPTY;
use crate::dask::wire::frame::Outgoing;
use crate::dask::wire::pack::{Batch, Fields, Named, Pack, Packer, Pairs};
use crate::dask::wire::serialized::{Content, Serialized};
use crate::dask::wire::unpack;
use crate::dask::wire::value::{Map, Value};
use crate::dask::wire::worker::serve;

const SOON: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(20);

fn run<T>(test: impl Future<Output = T>) -> T {
    let late = async {
        Timer::after(Duration::from_secs(60)).await;
        panic!("the test hangs");
    };
    block_on(or(test, late))
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    let late = async {
        Timer::after(PATIENCE).await;
        panic!("it takes too long");
    };
    or(future, late).await
}

/// What is asked of the fake one: the connection that waits for an answer to it.
struct Asked {
    op: String,
    map: Map,
    answer: Sender<Option<Outgoing>>,
}

impl Asked {
    fn answer(self, message: Outgoing) {
        let _ = self.answer.try_send(Some(message));
    }

    fn keys(&self) -> Vec<String> {
        self.map.get("keys").unwrap().texts()
    }
}

/// A scheduler or worker that answers as the test does.
struct Fake {
    address: Address,
    calls: Receiver<Asked>,
    streams: Receiver<Comm>,
    /// Keeps it going.
    _io: Io,
}

impl Fake {
    async fn start() -> Self {
        let io = Io::start("fake").unwrap();
        let listener = Listener::bind("127.0.0.1", 0, None).await.unwrap();
        let address = listener.address().clone();
        let (asked, calls) = async_channel::unbounded();
        let (streaming, streams) = async_channel::unbounded();
        io.spawn(async move {
            let serve = move |mut comm: Comm| {
                let (asked, streaming) = (asked.clone(), streaming.clone());
                async move {
                    while let Ok(Some(frames)) = comm.receive().await {
                        let Ok(Value::Map(mut map)) = unpack::message(&frames) else { continue };
                        let op = map.take("op").string().unwrap();
                        if op == "register-client" {
                            return streaming.send(comm).await.unwrap();
                        }
                        let (answer, answered) = async_channel::bounded(1);
                        let _ = asked.send(Asked { op, map, answer }).await;
                        match answered.recv().await {
                            Ok(Some(answer)) => comm.send(answer).await.unwrap(),
                            _ => return,
                        }
                    }
                }
            };
            match listener.serve(serve).await {}
        })
        .detach();
        Self { address, calls, streams, _io: io }
    }

    async fn asked(&self, op: &str) -> Asked {
        let asked = soon(self.calls.recv()).await.unwrap();
        assert_eq!(asked.op, op);
        asked
    }

    fn name(&self) -> String {
        self.address.to_string()
    }

    /// Takes a client, of which it wants nothing unusual.
    async fn take(&self) -> (Link, Stream) {
        self.take_at(Pace { heartbeat: SOON / 5, doubt: PATIENCE, silence: PATIENCE }).await
    }

    async fn take_impatient(&self) -> (Link, Stream) {
        self.take_at(Pace { heartbeat: SOON / 5, doubt: SOON, silence: 3 * SOON }).await
    }

    async fn take_at(&self, pace: Pace) -> (Link, Stream) {
        let take = async {
            self.asked("identity").await.answer(message(&[("type", &"Scheduler")]));
            self.asked("versions").await.answer(versions());
            // It doesn't run functions.
            self.asked("run_function").await.answer(nil());
            let mut stream =
                Stream { comm: soon(self.streams.recv()).await.unwrap(), said: vec![] };
            stream.say(&[("op", &"stream-start"), ("warning", &"")]).await;
            stream
        };
        let (link, stream) = zip(Link::connect_at(pace, &self.address, None, PATIENCE), take).await;
        (link.unwrap(), stream)
    }
}

fn message(fields: &Fields<'_>) -> Outgoing {
    Packer::message(fields)
}

fn nil() -> Outgoing {
    let mut packer = Packer::new();
    ().pack(&mut packer);
    packer.finish()
}

fn versions() -> Outgoing {
    let packages = Pairs([("distributed", "2026.8.0")].into_iter());
    message(&[("packages", &packages)])
}

fn who_has(keys: &[String], addresses: &[String]) -> Outgoing {
    let pairs: Vec<_> = keys.iter().map(|key| (key, addresses)).collect();
    let mut packer = Packer::new();
    Pairs(pairs.into_iter()).pack(&mut packer);
    packer.finish()
}

fn data(keys: &[String]) -> Outgoing {
    let data: Vec<_> = keys
        .iter()
        .map(|key| (key.as_str().into(), Serialized::bytes(key.clone().into_bytes().into())))
        .collect();
    serve::data(&data)
}

/// The scheduler's end of a client's stream.
struct Stream {
    comm: Comm,
    said: Vec<Map>,
}

impl Stream {
    async fn say(&mut self, operation: &Fields<'_>) {
        let mut batch = Batch::new();
        batch.push(operation);
        self.comm.send(batch.finish()).await.unwrap();
    }

    async fn in_memory(&mut self, key: &str) {
        self.say(&[("op", &"key-in-memory"), ("key", &key)]).await;
    }

    /// The next operation that isn't a heartbeat; none at the end.
    async fn hear(&mut self) -> Option<Map> {
        loop {
            while self.said.is_empty() {
                let frames = soon(self.comm.receive()).await.unwrap()?;
                self.said = unpack::operations(&frames).unwrap();
                self.said.reverse();
            }
            let next = self.said.pop();
            if next.as_ref().unwrap().text("op") != Some("heartbeat-client") {
                return next;
            }
        }
    }

    async fn expect(&mut self, op: &str) -> Map {
        let map = self.hear().await.unwrap();
        assert_eq!(map.text("op"), Some(op));
        map
    }

    async fn expect_keys(&mut self, op: &str, keys: &[&str]) {
        assert_eq!(self.expect(op).await.get("keys").unwrap().texts(), keys);
    }
}

fn submit(link: &Link, key: &str, inputs: &[&str]) -> Arc<Remote> {
    let inputs = inputs.iter().map(|key| Arc::from(*key)).collect();
    let call = OwnedCall::Rust { function: "f".into(), args: Bytes::from_static(b"\x90"), inputs };
    link.submit(Spec { key: key.into(), call, annotations: Arc::new(OwnedAnnotations::default()) })
}

fn submit_python(link: &Link, key: &str) -> Arc<Remote> {
    let call = OwnedCall::Python { module: "m".into(), name: "f".into(), args: Vec::new() };
    link.submit(Spec { key: key.into(), call, annotations: Arc::default() })
}

/// Who is there: a worker of ours, and these.
fn identity(python: &[&str]) -> Outgoing {
    let ours = Pairs([("rust", 4.0)].into_iter());
    let ours = Named(&[("status", &"running"), ("resources", &ours)]);
    let others = Named(&[("status", &"running"), ("resources", &EMPTY)]);
    let leaving = Named(&[("status", &"closing_gracefully"), ("resources", &EMPTY)]);
    let some = [("tcp://ours:1", ours), ("tcp://leaving:1", leaving)];
    let workers = some.into_iter().chain(python.iter().map(|address| (*address, others)));
    let workers: Vec<_> = workers.collect();
    message(&[("type", &"Scheduler"), ("workers", &Pairs(workers.into_iter()))])
}

/// Answers who is there, but nothing else, for ever.
async fn identify(fake: &Fake, python: &[&str]) {
    loop {
        fake.asked("identity").await.answer(identity(python));
    }
}

fn states(states: &[(&str, Option<&str>)]) -> Outgoing {
    let mut packer = Packer::new();
    Pairs(states.iter().map(|(key, state)| (key, state))).pack(&mut packer);
    packer.finish()
}

/// Which of these a graph says something of.
fn mentioned<'a>(graph: &Map, addresses: &[&'a str]) -> Vec<&'a str> {
    let Some(Value::Serialized(graph)) = graph.get("expr_ser") else { panic!("{graph:?}") };
    let Content::Pickle(pickle, _) = graph.content().unwrap() else { panic!() };
    let is_in = |text: &&str| pickle.windows(text.len()).any(|part| part == text.as_bytes());
    addresses.iter().copied().filter(is_in).collect()
}

fn bytes(value: Serialized) -> Vec<u8> {
    match value.content().unwrap() {
        Content::Bytes(parts) => parts.concat(),
        other => panic!("{other:?}"),
    }
}

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
fn a_key_that_is_used_again_keeps_the_order() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        // Delays what follows, so that it's there at once.
        let _first = submit(&link, "first", &[]);
        stream.expect_keys("update-graph", &["first"]).await;
        let one = submit(&link, "f-1", &[]);
        assert!(Arc::ptr_eq(&one, &submit(&link, "f-1", &[])));
        let two = submit(&link, "f-2", &["f-1"]);
        drop(one);
        let _again = submit(&link, "f-1", &[]);
        drop(two);
        stream.expect_keys("update-graph", &["f-1", "f-2"]).await;
        stream.expect_keys("client-releases-keys", &["f-1"]).await;
        stream.expect_keys("update-graph", &["f-1"]).await;
        stream.expect_keys("client-releases-keys", &["f-2"]).await;
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
        let Err(Failure::Erred(exception)) = soon(bad.ended()).await else { panic!() };
        assert_eq!(exception.text, "it's broken");
        assert!(matches!(soon(bad.fetch()).await, Err(Failure::Erred(_))));
        let Err(Failure::Lost(why)) = soon(gone.ended()).await else { panic!() };
        assert_eq!(*why, *format!("the scheduler at {} doesn't have it any more", fake.name()));
        let Err(Failure::Cancelled(why)) = soon(cancelled.ended()).await else { panic!() };
        assert_eq!(&*why, "by me");
        // What takes it isn't even sent.
        let next = submit(&link, "next", &["gone"]);
        let last = submit(&link, "last", &["next"]);
        let Some(Err(Failure::Lost(why))) = next.outcome() else { panic!() };
        assert_eq!(&*why, "it takes the result of `gone`, which is gone");
        assert!(matches!(last.outcome(), Some(Err(Failure::Lost(_)))));
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
        let Err(Failure::Lost(why)) = soon(other.ended()).await else { panic!() };
        assert!(why.contains("it can't run again: the call failed"), "{why}");
        assert!(matches!(soon(last.ended()).await, Err(Failure::Lost(_))));
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
                assert!(matches!(soon(here.fetch()).await, Err(Failure::Lost(_))));
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
            let Err(Failure::Lost(why)) = soon(pending.ended()).await else { panic!() };
            let start = format!("the scheduler at {} is gone: ", fake.name());
            assert!(why.starts_with(&start), "{why}");
            let late = submit(&link, "late", &[]);
            assert!(matches!(late.outcome(), Some(Err(Failure::Lost(_)))));
            let late = link.scatter("late", Serialized::bytes(Bytes::new()));
            assert!(matches!(late.outcome(), Some(Err(Failure::Lost(_)))));
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
        let Err(Failure::Lost(why)) = soon(remote.ended()).await else { panic!() };
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
                    let call = OwnedCall::Rust {
                        function: "f".into(),
                        args: args.clone(),
                        inputs: Vec::new(),
                    };
                    let annotations = Arc::default();
                    link.submit(Spec { key: format!("f-{at}").into(), call, annotations })
                })
                .collect();
            let Err(Failure::Lost(why)) = soon(remotes[0].ended()).await else { panic!() };
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
        assert!(matches!(remote.outcome(), Some(Err(Failure::Closed))));
        assert!(matches!(submit(&link, "f-2", &[]).outcome(), Some(Err(Failure::Closed))));

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

#[test]
fn data_waits_for_a_worker_and_tasks_for_the_data() {
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
        // It goes away in this moment.
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

        let bad = link.scatter("data-2", Serialized::bytes("value".into()));
        let next = submit(&link, "f-4", &["data-2"]);
        fake.asked("ncores_running").await.answer(workers());
        let asked = fake.asked("scatter").await;
        asked.answer(crate::dask::wire::call::failed("no memory"));
        let Err(Failure::Lost(why)) = soon(bad.ended()).await else { panic!() };
        assert!(why.contains("no worker took it: the call failed on the other side: no memory"));
        assert!(matches!(soon(next.ended()).await, Err(Failure::Lost(_))));
        drop(first);
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
        assert!(matches!(error, ConnectError::Refused { .. }));
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

const PYTHON: [&str; 3] = ["tcp://python:1", "tcp://python:2", "tcp://python:3"];

#[test]
fn python_tasks_wait_for_a_python_worker() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let first = submit_python(&link, "p-1");
        let next = submit(&link, "f-1", &["p-1"]);
        let _other = submit(&link, "f-2", &[]);
        stream.expect_keys("update-graph", &["f-2"]).await;
        drop(next);
        drop(submit_python(&link, "p-2"));
        fake.asked("identity").await.answer(identity(&[]));
        let start = Instant::now();
        let asked = fake.asked("identity").await;
        assert!(start.elapsed() > 4 * SOON);
        let second = submit_python(&link, "p-3");
        asked.answer(identity(&PYTHON[..2]));
        // What nobody needs any more isn't sent.
        let graph = stream.expect("update-graph").await;
        assert_eq!(graph.get("keys").unwrap().texts(), ["p-1", "p-3"]);
        assert_eq!(mentioned(&graph, &PYTHON), &PYTHON[..2]);
        // It's known now.
        let _third = submit_python(&link, "p-4");
        let graph = stream.expect("update-graph").await;
        assert_eq!(mentioned(&graph, &PYTHON), &PYTHON[..2]);
        drop((first, second));
        stream.expect_keys("client-releases-keys", &["p-1", "p-3"]).await;
    });
}

#[test]
fn what_follows_a_python_task_keeps_the_order() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let first = submit_python(&link, "p-1");
        let next = submit(&link, "f-1", &["p-1"]);
        let last = submit(&link, "f-2", &["f-1"]);
        drop(first);
        drop(next);
        let again = submit_python(&link, "p-1");
        fake.asked("identity").await.answer(identity(&PYTHON[..1]));
        stream.expect_keys("update-graph", &["p-1"]).await;
        stream.expect_keys("update-graph", &["f-1", "f-2"]).await;
        stream.expect_keys("client-releases-keys", &["p-1", "f-1"]).await;
        stream.expect_keys("update-graph", &["p-1"]).await;
        drop((last, again));
    });
}

#[test]
fn nobody_is_asked_for_python_workers_without_need() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        // Neither for tasks that nobody needs.
        drop(submit_python(&link, "p-1"));
        let pause = async { _ = Timer::after(12 * SOON).await };
        or(identify(&fake, &[]), pause).await;
        let chosen = OwnedAnnotations { workers: vec!["a".into()], ..OwnedAnnotations::default() };
        let call = OwnedCall::Python { module: "m".into(), name: "f".into(), args: Vec::new() };
        let key = "p-2".into();
        let chosen = link.submit(Spec { key, call, annotations: chosen.into() });
        let graph = stream.expect("update-graph").await;
        assert_eq!(graph.get("keys").unwrap().texts(), ["p-2"]);
        Timer::after(12 * SOON).await;
        assert!(fake.calls.is_empty());

        let task = submit_python(&link, "p-3");
        fake.asked("identity").await.answer(identity(&PYTHON[..1]));
        stream.expect_keys("update-graph", &["p-3"]).await;
        stream.in_memory("p-3").await;
        soon(task.ended()).await.unwrap();
        Timer::after(22 * SOON).await;
        assert!(fake.calls.is_empty());
        drop(chosen);
    });
}

#[test]
fn python_tasks_follow_the_python_workers() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let _first = submit_python(&link, "p-1");
        let _second = submit_python(&link, "p-2");
        fake.asked("identity").await.answer(identity(&PYTHON[..1]));
        stream.expect_keys("update-graph", &["p-1", "p-2"]).await;
        // Nobody, the same, another.
        fake.asked("identity").await.answer(identity(&[]));
        fake.asked("identity").await.answer(identity(&PYTHON[..1]));
        fake.asked("identity").await.answer(identity(&PYTHON[1..2]));
        // The scheduler reads graphs at its leisure.
        let asked = fake.asked("get_task_status").await;
        let mut keys = asked.keys();
        keys.sort();
        assert_eq!(keys, ["p-1", "p-2"]);
        asked.answer(states(&[("p-1", Some("no-worker")), ("p-2", None)]));
        let restricted = fake.asked("set_restrictions").await;
        let workers = restricted.map.get("worker").and_then(Value::as_map).unwrap();
        assert_eq!(workers.0.len(), 1);
        assert_eq!(workers.get("p-1").unwrap().texts(), [PYTHON[1]]);
        restricted.answer(nil());
        let asked = fake.asked("get_task_status").await;
        assert_eq!(asked.keys(), ["p-1"]);
        asked.answer(states(&[("p-1", Some("no-worker"))]));
        let asked = fake.asked("retry").await;
        assert_eq!(asked.keys(), ["p-1"]);
        asked.answer(data(&[]));
        // The other, at the next opportunity. It fails, and is tried again.
        for has_failed in [true, false] {
            fake.asked("identity").await.answer(identity(&PYTHON[1..2]));
            let asked = fake.asked("get_task_status").await;
            assert_eq!(asked.keys(), ["p-2"]);
            asked.answer(states(&[("p-2", Some("waiting"))]));
            let failed = || crate::dask::wire::call::failed("KeyError");
            let answer = if has_failed { failed() } else { nil() };
            fake.asked("set_restrictions").await.answer(answer);
        }
        fake.asked("get_task_status").await.answer(states(&[("p-2", Some("waiting"))]));
        fake.asked("identity").await.answer(identity(&PYTHON[1..2]));
        fake.asked("identity").await.answer(identity(&PYTHON[1..2]));
    });
}

#[test]
fn what_was_released_may_have_to_run_again() {
    run(async {
        let fake = Fake::start().await;
        let (link, mut stream) = fake.take().await;
        let (first, leaf) = (submit_python(&link, "p-1"), submit_python(&link, "p-2"));
        let next = submit(&link, "f-1", &["p-1"]);
        fake.asked("identity").await.answer(identity(&PYTHON[..1]));
        stream.expect_keys("update-graph", &["p-1", "p-2"]).await;
        for key in ["p-1", "p-2", "f-1"] {
            stream.in_memory(key).await;
        }
        soon(next.ended()).await.unwrap();
        drop((first, leaf));
        Timer::after(12 * SOON).await;
        assert!(fake.calls.is_empty());
        stream.say(&[("op", &"lost-data"), ("key", &"f-1")]).await;
        fake.asked("identity").await.answer(identity(&PYTHON[1..]));
        let asked = fake.asked("get_task_status").await;
        // Of the other there's no need to know.
        assert_eq!(asked.keys(), ["p-1"]);
        asked.answer(states(&[("p-1", Some("no-worker"))]));
        fake.asked("set_restrictions").await.answer(nil());
        fake.asked("get_task_status").await.answer(states(&[("p-1", Some("no-worker"))]));
        fake.asked("retry").await.answer(data(&[]));
        stream.in_memory("f-1").await;
        Timer::after(22 * SOON).await;
        while let Ok(asked) = fake.calls.try_recv() {
            assert_eq!(asked.op, "identity");
        }
    });
}
