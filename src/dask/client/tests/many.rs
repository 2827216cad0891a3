//! Batches of calls whose results are complete, shorter, or never arrive.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use futures_lite::future::or;

use super::fake::*;
use crate::dask::codec::write;
use crate::dask::wire::pack::Fields;
use crate::dask::wire::serialized::{LIST_CLASS, Serialized};
use crate::dask::wire::value::Map;
use crate::dask::wire::worker::serve;
use crate::dask::{Client, Registry};
use crate::{Handle, Portable, gather, wait_all};

async fn inc(x: u64) -> u64 {
    x + 1
}

async fn add(x: u64, y: u64) -> u64 {
    x + y
}

const INC: &str = "ensue::dask::client::tests::many::inc";

/// A cluster whose results the test decides.
struct Cluster {
    fake: Fake,
    results: Mutex<HashMap<String, Serialized>>,
}

impl Cluster {
    async fn start() -> (Self, Client, Stream) {
        let fake = Fake::start().await;
        let (client, stream) = fake.take_client(Registry::new().add(inc).add(add)).await;
        (Self { fake, results: Mutex::default() }, client, stream)
    }

    fn put(&self, key: &str, value: impl Portable) {
        self.results.lock().unwrap().insert(key.to_owned(), write(value).unwrap());
    }

    /// Answers fetches until `other` has ended.
    async fn serve<T>(&self, other: impl Future<Output = T>) -> T {
        let serve = async {
            loop {
                let asked = self.fake.calls.recv().await.unwrap();
                let keys = asked.keys();
                match &*asked.op {
                    "who_has" => asked.answer(who_has(&keys, &[self.fake.name()])),
                    "get_data" => {
                        let results = self.results.lock().unwrap();
                        let data =
                            keys.iter().map(|key| (key.as_str().into(), results[key].clone()));
                        asked.answer(serve::data(&data.collect::<Vec<_>>()));
                    }
                    other => panic!("{other}"),
                }
            }
        };
        soon(or(other, serve)).await
    }
}

/// Returns the keys of the next `count` submitted tasks.
async fn submitted(stream: &mut Stream, count: usize) -> Vec<String> {
    let mut keys = Vec::new();
    while keys.len() < count {
        let said = stream.hear().await.unwrap();
        // A batch of which no call was done is released.
        if said.text("op") != Some("client-releases-keys") {
            assert_eq!(said.text("op"), Some("update-graph"));
            keys.extend(texts(&said));
        }
    }
    assert_eq!(keys.len(), count);
    keys
}

fn texts(graph: &Map) -> Vec<String> {
    graph.get("keys").unwrap().texts()
}

fn names<T>(handles: &[Handle<T>]) -> Vec<String> {
    handles.iter().map(|handle| handle.key().to_string()).collect()
}

async fn partly(stream: &mut Stream, key: &str) {
    let said: &Fields<'_> =
        &[("op", &"key-in-memory"), ("key", &key), ("type", &Bytes::from_static(LIST_CLASS))];
    stream.say(said).await;
}

#[test]
fn calls_that_a_batch_left_are_sent_again() {
    run(async {
        let (cluster, client, mut stream) = Cluster::start().await;
        let xs = client.map(inc, 0..32);
        let batches = submitted(&mut stream, 4).await;
        // One batch is complete, one had enough calls done to batch the rest, one hadn't, and one has failed.
        stream.in_memory(&batches[0]).await;
        cluster.put(&batches[1], vec![9u64, 10, 11, 12]);
        partly(&mut stream, &batches[1]).await;
        let again = cluster.serve(submitted(&mut stream, 1)).await;
        assert!(!names(&xs).contains(&again[0]));
        cluster.put(&batches[2], vec![17u64]);
        partly(&mut stream, &batches[2]).await;
        assert_eq!(cluster.serve(submitted(&mut stream, 7)).await, names(&xs[17..24]));
        stream.erred(&batches[3], "no").await;
        assert_eq!(cluster.serve(submitted(&mut stream, 8)).await, names(&xs[24..]));
        stream.in_memory(&again[0]).await;
        for key in names(&xs[17..]) {
            stream.in_memory(&key).await;
        }
        soon(wait_all(&xs)).await;
        // By now the function is known to be slow.
        let alone = client.map(inc, 0..32);
        assert_eq!(submitted(&mut stream, 32).await, names(&alone));
    });
}

#[test]
fn a_batch_that_runs_again_and_is_shorter_loses_no_call() {
    run(async {
        let (cluster, client, mut stream) = Cluster::start().await;
        let xs = client.map(inc, 0..16);
        let batches = submitted(&mut stream, 4).await;
        for key in &batches {
            stream.in_memory(key).await;
        }
        soon(wait_all(&xs)).await;
        stream.say(&[("op", &"lost-data"), ("key", &batches[0])]).await;
        partly(&mut stream, &batches[0]).await;
        cluster.put(&batches[0], vec![1u64, 2]);
        cluster.put(&batches[1], vec![5u64, 6, 7, 8]);
        // This one fails when it runs again.
        stream.say(&[("op", &"lost-data"), ("key", &batches[2])]).await;
        stream.erred(&batches[2], "no").await;
        // When this has ended, all of the above was handled.
        let other = client.submit(inc, 100);
        submitted(&mut stream, 1).await;
        stream.in_memory(&other.key()).await;
        soon(wait_all([&other])).await;
        let left = [2, 3, 8, 9, 10, 11];
        for at in left {
            cluster.put(&xs[at].key(), at as u64 + 1);
        }
        let fetched = async {
            let alone = async {
                let mut alone = submitted(&mut stream, left.len()).await;
                for key in &alone {
                    stream.in_memory(key).await;
                }
                alone.sort_unstable();
                let mut expected: Vec<_> =
                    left.iter().map(|at| xs[*at].key().to_string()).collect();
                expected.sort_unstable();
                assert_eq!(alone, expected);
                stream
            };
            futures_lite::future::zip(gather(&xs[..12]), alone).await
        };
        let (values, _stream) = cluster.serve(fetched).await;
        assert_eq!(values.unwrap(), (1..=12).collect::<Vec<_>>());
    });
}

#[test]
fn dependents_of_a_call_can_do_without_its_batch() {
    run(async {
        let (_cluster, client, mut stream) = Cluster::start().await;
        let xs = client.map(inc, 0..16);
        let batches = submitted(&mut stream, 4).await;
        for key in &batches {
            stream.in_memory(key).await;
        }
        soon(wait_all(&xs)).await;
        // It has the calls in its arguments.
        let sum = client.submit(add, (&xs[1], &xs[6]));
        let graph = stream.expect("update-graph").await;
        assert_eq!(texts(&graph), [sum.key().to_string()]);
        let wanted = [&*batches[0], &*batches[1], INC];
        assert_eq!(mentioned(&graph, &wanted), wanted);
        let third = xs[2].key().to_string();
        // Python gets a task's result, not an item of a list.
        let python: Handle<u64> =
            client.task().workers(["python"]).submit_python("operator.neg", &xs[2]);
        let graph = stream.expect("update-graph").await;
        assert_eq!(texts(&graph), [&*third]);
        assert_eq!(mentioned(&graph, &[&batches[0], INC]), [&batches[0], INC]);
        let graph = stream.expect("update-graph").await;
        assert_eq!(texts(&graph), [python.key().to_string()]);
        assert_eq!(mentioned(&graph, &[&batches[0], &third]), [&*third]);
        // The next dependent takes that result, too.
        let next = client.submit(inc, &xs[2]);
        let graph = stream.expect("update-graph").await;
        assert_eq!(texts(&graph), [next.key().to_string()]);
        assert_eq!(mentioned(&graph, &[&batches[0], &third]), [&*third]);
    });
}

/// A dependent of a call has a copy of its arguments.
#[test]
fn calls_with_large_arguments_are_sent_alone() {
    async fn length(text: String) -> usize {
        text.len()
    }
    run(async {
        let fake = Fake::start().await;
        let (client, mut stream) = fake.take_client(Registry::new().add(length)).await;
        let texts = (0..32).map(|at| "x".repeat(if at % 8 == 0 { 5_000 } else { 10 }));
        let lengths = client.map(length, texts.collect::<Vec<_>>());
        let keys = submitted(&mut stream, 4 + 4).await;
        let alone: Vec<_> = names(&lengths).into_iter().step_by(8).collect();
        assert_eq!(keys[..4], alone);
    });
}
