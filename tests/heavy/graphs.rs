//! Random graphs against direct evaluation, on any number of workers and seeded (promises 1 to 5, 11 to 13).
//!
//! If several inputs of a task fail, any of their errors is accepted: which one comes first isn't determined.

use std::collections::BTreeSet;
use std::time::Duration;

use ensue::{Client, Error, ErrorKind, Handle, Ref, as_completed, gather, gather_settled};
use futures::StreamExt;
use futures::executor::block_on;
use proptest::prelude::*;
use proptest::sample::Index;
use smol::future::yield_now;
use support::{eventually, within};

/// A task, by what it does with the values of earlier ones; an index is one of those.
#[derive(Clone, Debug)]
enum Node {
    Value(u64),
    Ready(u64),
    Add(Index, Index),
    /// The inputs as `Ref`s, after some yields.
    Slow(Index, Index, u8),
    Sum(Vec<Index>),
    /// The inputs in containers of other shapes.
    Shapes(Index, Index, Option<Index>),
    /// Awaits its inputs by itself.
    Awaits(Index, Index),
    /// Submits tasks and takes their results as they come.
    Children(Index, u8),
    Blocking(Index),
    Pure(Index),
    /// Fails where the value is even.
    Fails(Index),
    /// Panics where the value is even, but not the first time if it's retried.
    Panics(Index, bool),
    Urgent(Index, i8),
    Limited(Index),
    /// Takes the outcome of its input, whatever that is.
    Settles(Index),
}

/// The value, or the nodes whose error it may be.
type Outcome = Result<u64, BTreeSet<usize>>;

const MIXED: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(a: u64, b: u64) -> u64 {
    (a ^ b.rotate_left(17)).wrapping_mul(MIXED)
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let at = any::<Index>;
    let node = prop_oneof![
        2 => any::<u64>().prop_map(Node::Value),
        1 => any::<u64>().prop_map(Node::Ready),
        4 => (at(), at()).prop_map(|(a, b)| Node::Add(a, b)),
        2 => (at(), at(), 0..4u8).prop_map(|(a, b, n)| Node::Slow(a, b, n)),
        2 => prop::collection::vec(at(), 0..6).prop_map(Node::Sum),
        1 => (at(), at(), prop::option::of(at())).prop_map(|(a, b, c)| Node::Shapes(a, b, c)),
        2 => (at(), at()).prop_map(|(a, b)| Node::Awaits(a, b)),
        1 => (at(), 0..6u8).prop_map(|(a, n)| Node::Children(a, n)),
        1 => at().prop_map(Node::Blocking),
        2 => at().prop_map(Node::Pure),
        1 => at().prop_map(Node::Fails),
        1 => (at(), any::<bool>()).prop_map(|(a, retried)| Node::Panics(a, retried)),
        2 => (at(), -2..3i8).prop_map(|(a, n)| Node::Urgent(a, n)),
        1 => at().prop_map(Node::Limited),
        1 => at().prop_map(Node::Settles),
    ];
    prop::collection::vec(node, 0..40)
}

/// Both values, or all whose error it may be.
fn both(a: Outcome, b: Outcome) -> Result<(u64, u64), BTreeSet<usize>> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(mut a), Err(b)) => {
            a.extend(b);
            Err(a)
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// The outcome of each node, evaluated directly. The first is a value, so that each node has an earlier one.
fn evaluate(nodes: &[Node]) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = vec![Ok(1)];
    for node in nodes {
        let of = |index: &Index| outcomes[index.index(outcomes.len())].clone();
        let two = |a: &Index, b: &Index| both(of(a), of(b)).map(|(a, b)| mix(a, b));
        let failed = || Err(BTreeSet::from([outcomes.len()]));
        let outcome = match node {
            Node::Value(x) | Node::Ready(x) => Ok(*x),
            Node::Add(a, b) | Node::Slow(a, b, _) => two(a, b),
            Node::Sum(all) => {
                let mut sum = Ok(0);
                for one in all {
                    sum = both(sum, of(one)).map(|(sum, x)| mix(sum, x));
                }
                sum
            }
            Node::Shapes(a, b, c) => {
                both(two(a, b), c.as_ref().map_or(Ok(0), of)).map(|(ab, c)| mix(ab, c))
            }
            // The task may handle an await that fails: these panic.
            Node::Awaits(a, b) => two(a, b).or_else(|_| failed()),
            Node::Children(a, n) => {
                of(a).map(|a| (0..u64::from(*n)).fold(a, |sum, n| sum ^ mix(a, n)))
            }
            Node::Blocking(a) | Node::Pure(a) | Node::Urgent(a, _) | Node::Limited(a) => {
                of(a).map(|a| mix(a, 1))
            }
            Node::Fails(a) | Node::Panics(a, false) => match of(a) {
                Ok(a) if a % 2 == 0 => failed(),
                other => other,
            },
            Node::Panics(a, true) => of(a),
            Node::Settles(a) => Ok(of(a).unwrap_or(7)),
        };
        outcomes.push(outcome);
    }
    outcomes
}

async fn add(a: u64, b: u64) -> u64 {
    mix(a, b)
}

async fn once(a: u64) -> u64 {
    mix(a, 1)
}

fn submit(client: &Client, handles: &[Handle<u64>], node: &Node) -> Handle<u64> {
    let of = |index: &Index| &handles[index.index(handles.len())];
    match node {
        Node::Value(x) => client.submit(async |x: u64| x, *x),
        Node::Ready(x) => client.ready(*x),
        Node::Add(a, b) => client.submit(add, (of(a), of(b))),
        Node::Slow(a, b, yields) => {
            let slow = async |a: Ref<u64>, b: Ref<u64>, yields: u8| {
                for _ in 0..yields {
                    yield_now().await;
                }
                mix(*a, *b)
            };
            client.submit(slow, (of(a), of(b), *yields))
        }
        Node::Sum(all) => {
            let all: Vec<_> = all.iter().map(of).collect();
            client.submit(async |all: Vec<u64>| all.into_iter().fold(0, mix), all)
        }
        Node::Shapes(a, b, c) => client.submit(
            async |[a, b]: [u64; 2], c: Option<u64>| mix(mix(a, b), c.unwrap_or(0)),
            ([of(a), of(b)], c.as_ref().map(of)),
        ),
        Node::Awaits(a, b) => {
            let (a, b) = (of(a).clone(), of(b).clone());
            client.spawn(async move { mix(a.await.unwrap(), b.await.unwrap()) })
        }
        Node::Children(a, n) => {
            let n = u64::from(*n);
            let parent = async move |a: u64| {
                let client = Client::current().unwrap();
                let children = client.map(async move |n: u64| mix(a, n), 0..n);
                let arriving = as_completed(children).with_results();
                arriving.fold(a, async |sum, (_, x)| sum ^ x.unwrap()).await
            };
            client.submit(parent, of(a))
        }
        Node::Blocking(a) => client.submit_blocking(|a: u64| mix(a, 1), of(a)),
        Node::Pure(a) => client.submit_pure(once, of(a)),
        Node::Fails(a) => {
            let odd = async |a: u64| if a % 2 == 0 { Err("even") } else { Ok(a) };
            client.try_submit(odd, of(a))
        }
        Node::Panics(a, retried) => {
            let attempts = support::observe::Count::new();
            let limit = if *retried { 1 } else { u32::MAX as usize };
            let odd = async move |a: u64| {
                assert!(a % 2 == 1 || attempts.add() >= limit, "even");
                a
            };
            client.task().retries(u32::from(*retried)).submit(odd, of(a))
        }
        Node::Urgent(a, priority) => client.task().priority((*priority).into()).submit(once, of(a)),
        Node::Limited(a) => client.task().acquire("one").submit(once, of(a)),
        Node::Settles(a) => {
            let a = of(a).clone();
            client.spawn(async move { gather_settled([a]).await.remove(0).unwrap_or(7) })
        }
    }
}

/// Submits the graph, drops the handles that aren't `kept`, and checks the outcomes of the others.
fn check(client: &Client, nodes: &[Node], kept: &[bool]) -> Result<(), TestCaseError> {
    let mut handles = vec![client.submit(async || 1, ())];
    for node in nodes {
        handles.push(submit(client, &handles, node));
    }
    let keys: Vec<_> = handles.iter().map(Handle::key).collect();
    let mut wanted = Vec::new();
    for (at, handle) in handles.into_iter().enumerate() {
        if kept[at % kept.len()] {
            wanted.push((at, handle));
        }
    }
    let outcomes = evaluate(nodes);
    let settled = block_on(gather_settled(wanted.iter().map(|(_, handle)| handle)));
    for ((at, handle), settled) in wanted.iter().zip(settled) {
        agrees(&keys, &outcomes[*at], &settled)?;
        // Asked once more, one by one.
        agrees(&keys, &outcomes[*at], &handle.result())?;
    }
    let succeed = wanted.iter().filter(|(at, _)| outcomes[*at].is_ok());
    let (at, handles): (Vec<usize>, Vec<_>) = succeed.map(|(at, handle)| (*at, handle)).unzip();
    let values = block_on(gather(handles)).unwrap();
    prop_assert!(at.into_iter().zip(values).all(|(at, x)| outcomes[at] == Ok(x)));
    Ok(())
}

fn agrees(
    keys: &[ensue::Key],
    outcome: &Outcome,
    settled: &Result<u64, Error>,
) -> Result<(), TestCaseError> {
    match (outcome, settled) {
        (Ok(expected), Ok(got)) => prop_assert_eq!(expected, got),
        (Err(origins), Err(error)) => {
            prop_assert!(
                matches!(error.kind(), ErrorKind::Failed | ErrorKind::Panicked),
                "{}",
                error
            );
            let origin = error.origin();
            prop_assert!(origins.iter().any(|at| keys[*at] == origin), "{}", error);
        }
        _ => prop_assert!(false, "{:?} instead of {:?}", settled, outcome),
    }
    Ok(())
}

/// Checks this number of graphs, times `ENSUE_STRESS`.
fn all_graphs(cases: u32, client: impl Fn(u64) -> Client + Send + 'static) {
    let times = std::env::var("ENSUE_STRESS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let config = ProptestConfig {
        cases: if cfg!(debug_assertions) { cases / 5 } else { cases } * times,
        max_shrink_time: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    within(Duration::from_secs(600) * times, move || check_all(config, client));
}

fn check_all(config: ProptestConfig, client: impl Fn(u64) -> Client) {
    let graphs = (nodes(), prop::collection::vec(any::<bool>(), 1..8), any::<u64>());
    proptest::test_runner::TestRunner::new(config)
        .run(&graphs, |(nodes, kept, seed)| {
            let client = client(seed);
            check(&client, &nodes, &kept)?;
            block_on(client.idle());
            block_on(client.close());
            // The timers' thread may still hold a task that it has just woken.
            eventually("nothing is left", || client.tasks_in_memory() == 0);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn any_graph_seeded() {
    all_graphs(3000, |seed| Client::builder().seed(seed).limit("one", 1).build());
}

#[test]
fn any_graph_on_some_workers() {
    all_graphs(2000, |seed| {
        Client::builder().workers(1 + seed as usize % 4).limit("one", 1).build()
    });
}
