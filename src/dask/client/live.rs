//! The link against stock schedulers and workers, of each release that `ENSUE_DASK` has an environment of: folders
//! with `bin/dask`, separated by colons. Without any there's nothing to test.

#[allow(dead_code, reason = "more is for the other tests")]
#[path = "../../../tests/dask/cluster.rs"]
mod cluster;
#[path = "../../../tests/dask/comm.rs"]
mod comm;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::{Timer, block_on};
use futures_lite::future::or;

use self::cluster::Cluster;
use super::io::dask_future::DaskFuture as Remote;
use super::io::link::Link;
use super::state::future_state::FutureError as Failure;
use super::state::task_spec::TaskSpec as Spec;
use crate::dask::wire::graph::{
    Annotations as OwnedAnnotations, Arg as OwnedArg, Call as OwnedCall,
};
use crate::dask::wire::serialized::{Content, Serialized};
use crate::dask::wire::value::Value;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn live() {
    let environments = std::env::var("ENSUE_DASK").unwrap_or_default();
    for folder in environments.split(':').filter(|folder| !folder.is_empty()) {
        println!("Dask in {folder}");
        talk(Path::new(folder));
    }
}

fn within<T>(limit: u64, future: impl Future<Output = T>) -> T {
    let late = async {
        Timer::after(Duration::from_secs(limit)).await;
        panic!("it takes more than {limit} s");
    };
    block_on(or(future, late))
}

fn connect(cluster: &Cluster) -> Link {
    let address = cluster.address.parse().unwrap();
    within(40, Link::connect(&address, None, PATIENCE)).unwrap()
}

fn python(link: &Link, key: &str, function: &str, args: Vec<OwnedArg>) -> Arc<Remote> {
    let (module, name) = function.split_once('.').unwrap();
    let call = OwnedCall::Python { module: module.into(), name: name.into(), args };
    let annotations = Arc::new(OwnedAnnotations::default());
    link.submit(Spec { key: key.into(), call, annotations, is_alone: false })
}

fn plain(value: &Serialized) -> Value {
    match value.content().unwrap() {
        Content::Plain(value) => value,
        Content::Bytes(parts) => Value::Bin(parts.concat().into()),
        other => panic!("{other:?}"),
    }
}

fn fetch(remote: &Arc<Remote>) -> Result<Value, Failure> {
    within(60, remote.fetch()).map(|value| plain(&value))
}

fn talk(environment: &Path) {
    let cluster = Cluster::start(environment);
    let link = connect(&cluster);
    assert_eq!(link.scheduler().to_string(), cluster.address);

    // Before any worker is there.
    let early = link.scatter("early-1", Serialized::bytes("early".into()));
    let long = python(&link, "len-1", "builtins.len", vec![OwnedArg::Result("early-1".into())]);
    let mut calls = comm::Comm::connect(&cluster.address);
    let worker = cluster.stock_worker(&mut calls);
    assert_eq!(fetch(&long).unwrap(), 5.into());
    assert_eq!(fetch(&early).unwrap(), Value::Bin("early".into()));

    inputs(&link);
    failures(&link);
    released(&link);
    many_at_once(&link);
    one_by_one(&link);
    // It must not go while we do: the scheduler's news of that would meet a closed connection.
    let _worker = recomputed(&link, || {
        drop(worker);
        std::thread::sleep(Duration::from_secs(1));
        cluster.stock_worker(&mut calls)
    });

    let left = python(&link, "sleep-1", "time.sleep", vec![OwnedArg::Float(100.0)]);
    within(10, link.close());
    assert!(matches!(left.outcome(), Some(Err(Failure::Closed))));
    within(1, link.close());
    let late = python(&link, "late-1", "builtins.list", vec![]);
    assert!(matches!(within(1, late.ended()), Err(Failure::Closed)));

    let link = connect(&cluster);
    let lost = python(&link, "sleep-2", "time.sleep", vec![OwnedArg::Float(100.0)]);
    let address = cluster.address.clone();
    let log = cluster.stop();
    let Err(Failure::Lost(why)) = within(10, lost.ended()) else { panic!("not lost") };
    assert!(why.starts_with(&format!("the scheduler at {address} is gone: ")), "{why}");
    assert!(matches!(within(1, lost.fetch()), Err(Failure::Lost(_))));
    // Of the function that isn't there.
    assert_eq!(log.matches("Traceback").count(), 1, "{log}");
}

fn inputs(link: &Link) {
    let result = |key: &str| OwnedArg::Result(key.into());
    let int = OwnedArg::Int;
    let one = python(link, "add-1", "operator.add", vec![int(1), int(2)]);
    let two = python(link, "add-2", "operator.add", vec![result("add-1"), int(4)]);
    let list = OwnedArg::List(vec![result("add-1"), result("add-2")]);
    let sum = python(link, "sum-1", "builtins.sum", vec![list]);
    assert_eq!(fetch(&sum).unwrap(), 10.into());
    assert_eq!(fetch(&two).unwrap(), 7.into());
    within(1, one.ended()).unwrap();
}

fn failures(link: &Link) {
    let result = |key: &str| OwnedArg::Result(key.into());
    let int = OwnedArg::Int;
    let bad = python(link, "div-1", "operator.truediv", vec![int(1), int(0)]);
    let next = python(link, "neg-1", "operator.neg", vec![result("div-1")]);
    for remote in [&bad, &next] {
        let Err(Failure::Erred(exception)) = within(10, remote.ended()) else { panic!() };
        assert_eq!(exception.to_string(), "ZeroDivisionError: division by zero");
    }
    next.retry();
    assert!(next.outcome().is_none());
    assert!(matches!(within(10, next.ended()), Err(Failure::Erred(_))));
    assert!(matches!(within(10, bad.ended()), Err(Failure::Erred(_))));
    // A function that isn't there, and others submitted in the same moment.
    let none = python(link, "none-1", "operator.none", vec![]);
    let good = python(link, "pos-1", "operator.pos", vec![int(1)]);
    let Err(Failure::Erred(exception)) = within(10, none.ended()) else { panic!() };
    println!("  {exception} {:?}", exception.cause);
    assert_eq!(fetch(&good).unwrap(), 1.into());
    // A failed one is replaced.
    drop(next);
    let again = python(link, "div-1", "operator.truediv", vec![int(1), int(2)]);
    assert_eq!(fetch(&again).unwrap(), Value::Float(0.5));
    assert!(matches!(within(1, bad.ended()), Err(Failure::Erred(_))));
    drop(bad);
    assert_eq!(fetch(&again).unwrap(), Value::Float(0.5));
}

fn released(link: &Link) {
    let identity = || within(10, link.identity()).unwrap();
    assert_eq!(identity().text("type"), Some("Scheduler"));
    let int = OwnedArg::Int;
    for round in 0..20 {
        let remote = python(link, "again-1", "operator.add", vec![int(round), int(1)]);
        assert_eq!(fetch(&remote).unwrap(), ((round + 1) as i64).into());
    }
}

/// The only worker is killed, and another comes, which is given back.
fn recomputed<T>(link: &Link, replace: impl FnOnce() -> T) -> T {
    let int = OwnedArg::Int;
    let sum = python(link, "sum-2", "operator.add", vec![int(20), int(3)]);
    let data = link.scatter("data-2", Serialized::bytes("only there".into()));
    within(10, async {
        sum.ended().await.unwrap();
        data.ended().await.unwrap()
    });
    let new = replace();
    assert_eq!(fetch(&sum).unwrap(), 23.into());
    let Err(Failure::Lost(why)) = within(10, data.fetch()) else { panic!() };
    assert!(why.contains("doesn't have it any more"), "{why}");
    let next = python(link, "len-2", "builtins.len", vec![OwnedArg::Result("data-2".into())]);
    assert!(matches!(next.outcome(), Some(Err(Failure::Lost(_)))));
    new
}

fn many_at_once(link: &Link) {
    let count = 1_000;
    let start = Instant::now();
    let remotes: Vec<_> = (0..count)
        .map(|at| {
            let key = format!("abs-{count}-{at}");
            python(link, &key, "builtins.abs", vec![OwnedArg::Int(at)])
        })
        .collect();
    let submitted = start.elapsed();
    within(120, async {
        for remote in &remotes {
            remote.ended().await.unwrap();
        }
    });
    let ended = start.elapsed();
    let start = Instant::now();
    let link = async {
        let mut fetches: futures::stream::FuturesOrdered<_> =
            remotes.iter().map(|remote| remote.fetch()).collect();
        let mut sum = 0;
        while let Some(value) = futures::StreamExt::next(&mut fetches).await {
            sum += plain(&value.unwrap()).as_int().unwrap();
        }
        sum
    };
    assert_eq!(within(60, link), (0..count as i64).sum::<i64>());
    let gathered = start.elapsed();
    println!("  {count}: submitted {submitted:?}, ended {ended:?}, gathered {gathered:?}");
}

fn one_by_one(link: &Link) {
    let (mut ended, mut fetched) = (Duration::ZERO, Duration::ZERO);
    for at in 0..20 {
        let start = Instant::now();
        let remote = python(link, &format!("one-{at}"), "builtins.abs", vec![OwnedArg::Int(at)]);
        within(10, remote.ended()).unwrap();
        ended += start.elapsed();
        let start = Instant::now();
        assert_eq!(fetch(&remote).unwrap(), (at as i64).into());
        fetched += start.elapsed();
    }
    println!("  one after the other: ended {:?}, fetched {:?}", ended / 20, fetched / 20);
}
