//! The programs, written with other crates.
//!
//! dagx runs graphs that are complete before they start, of tasks with at most eight inputs. So it only runs the tree: the
//! notebook's total has one input for each item, and the program that adds results as they complete grows while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_executor::{Executor, StaticExecutor};
use dagx::{DagRunner, Task, TaskHandle, task};
use futures_lite::StreamExt;
use futures_lite::future::block_on;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::rows::WORKERS;
use ensue_benches::{add, inc, leaves, pairs};

pub(crate) fn tokio_spawn(runtime: &Runtime, n: u64) -> u64 {
    let tasks: Vec<_> = (0..n).map(|i| runtime.spawn(inc(i))).collect();
    block_on(async {
        let mut sum = 0;
        for task in tasks {
            sum += task.await.expect("it doesn't panic");
        }
        sum
    })
}

pub(crate) fn join_set(runtime: &Runtime, n: u64) -> u64 {
    let mut tasks = JoinSet::new();
    for i in 0..n {
        tasks.spawn_on(inc(i), runtime.handle());
    }
    block_on(async {
        let mut sum = 0;
        while let Some(x) = tasks.join_next().await {
            sum += x.expect("it doesn't panic");
        }
        sum
    })
}

pub(crate) fn round_trips(runtime: &Runtime, n: u64) -> u64 {
    block_on(async {
        let mut x = 0;
        for _ in 0..n {
            x = runtime.spawn(inc(x)).await.expect("it doesn't panic");
        }
        x
    })
}

/// Its tasks have no results, so they add to a shared sum.
pub(crate) fn rayon_spawn(pool: &rayon::ThreadPool, n: u64) -> u64 {
    let sum = AtomicU64::new(0);
    pool.in_place_scope(|scope| spawn_each(scope, n, &sum));
    sum.into_inner()
}

pub(crate) fn rayon_spawn_inside(pool: &rayon::ThreadPool, n: u64) -> u64 {
    let sum = AtomicU64::new(0);
    pool.scope(|scope| spawn_each(scope, n, &sum));
    sum.into_inner()
}

fn spawn_each<'s>(scope: &rayon::Scope<'s>, n: u64, sum: &'s AtomicU64) {
    for i in 0..n {
        scope.spawn(move |_| {
            sum.fetch_add(i + 1, Ordering::Relaxed);
        });
    }
}

pub(crate) fn rayon_join(pool: &rayon::ThreadPool, n: u64) -> u64 {
    fn tree(from: u64, to: u64) -> u64 {
        if to - from == 1 {
            return from + 1;
        }
        let middle = from.midpoint(to);
        let (a, b) = rayon::join(|| tree(from, middle), || tree(middle, to));
        a + b
    }
    pool.install(|| tree(0, leaves(n)))
}

/// An executor that is never dropped has less work for each task. Its threads end with the process.
pub(crate) fn static_executor() -> &'static StaticExecutor {
    let executor: &StaticExecutor = Box::leak(Box::default());
    for _ in 0..WORKERS {
        std::thread::spawn(|| block_on(executor.run(std::future::pending::<()>())));
    }
    executor
}

pub(crate) fn static_spawn(executor: &&'static StaticExecutor, n: u64) -> u64 {
    let tasks: Vec<_> = (0..n).map(|i| executor.spawn(inc(i))).collect();
    block_on(async {
        let mut sum = 0;
        for task in tasks {
            sum += task.await;
        }
        sum
    })
}

pub(crate) fn buffered(executor: &Arc<Executor<'static>>, n: u64) -> u64 {
    block_on(async {
        let leaves = (0..leaves(n)).map(|i| executor.spawn(inc(i)));
        let mut arriving: futures_buffered::FuturesUnordered<_> = leaves.collect();
        loop {
            let a = arriving.next().await.expect("one is always left");
            let Some(b) = arriving.next().await else { return a };
            arriving.push(executor.spawn(add(a, b)));
        }
    })
}

struct Inc(u64);

#[task]
impl Inc {
    async fn run(&self) -> u64 {
        self.0 + 1
    }
}

struct Add;

#[task]
impl Add {
    async fn run(x: &u64, y: &u64) -> u64 {
        x + y
    }
}

pub(crate) fn dagx_tree(executor: &Arc<Executor<'static>>, n: u64) -> u64 {
    let dag = DagRunner::new();
    let mut level: Vec<TaskHandle<u64>> =
        (0..leaves(n)).map(|i| (&dag.add_task(Inc(i))).into()).collect();
    while level.len() > 1 {
        let (pairs, odd) = pairs(level);
        level = pairs.map(|(a, b)| dag.add_task(Add).depends_on((&a, &b))).collect();
        level.extend(odd);
    }
    block_on(dag.run(|future| executor.spawn(future).detach())).expect("it doesn't panic");
    dag.get(level[0]).expect("the root")
}
