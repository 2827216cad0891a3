//! The programs, with async-executor and the crates that are used with it.
//!
//! Tasks await their inputs, which are moved into a single dependent, and `Shared` between several ones.

use std::sync::Arc;
use std::thread;

use async_executor::Executor;
use futures::FutureExt;
use futures::stream::FuturesUnordered;
use futures_lite::StreamExt;
use futures_lite::future::block_on;
use moka::future::Cache;

use ensue_benches::{add, double, inc, items, keys, leaves, pairs, quarter, total};

pub(crate) fn independent(executor: &Arc<Executor<'static>>, n: u64) -> u64 {
    block_on(independent_async(executor, n))
}

async fn independent_async(executor: &Executor<'static>, n: u64) -> u64 {
    let tasks: Vec<_> = (0..n).map(|i| executor.spawn(inc(i))).collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await;
    }
    sum
}

pub(crate) fn spawn_many(executor: &Arc<Executor<'static>>, n: u64) -> u64 {
    let mut tasks = Vec::with_capacity(n as usize);
    executor.spawn_many((0..n).map(inc), &mut tasks);
    block_on(async {
        let mut sum = 0;
        for task in tasks {
            sum += task.await;
        }
        sum
    })
}

pub(crate) fn inside(executor: &Arc<Executor<'static>>, n: u64) -> u64 {
    let inner = executor.clone();
    block_on(executor.spawn(async move { independent_async(&inner, n).await }))
}

pub(crate) fn notebook(executor: &Arc<Executor<'static>>, n: u64) -> u64 {
    let mut zs = Vec::new();
    for i in 0..items(n) {
        let x = executor.spawn(inc(i)).shared();
        let input = x.clone();
        let y = executor.spawn(async move { double(input.await).await });
        let z = executor.spawn(async move { add(x.await, y.await).await });
        zs.push(z);
    }
    block_on(executor.spawn(async move {
        let mut values = Vec::with_capacity(zs.len());
        for z in zs {
            values.push(z.await);
        }
        total(values).await
    }))
}

pub(crate) fn tree(executor: &Arc<Executor<'static>>, n: u64) -> u64 {
    let mut level: Vec<_> = (0..leaves(n)).map(|i| executor.spawn(inc(i))).collect();
    while level.len() > 1 {
        let (pairs, odd) = pairs(level);
        level = pairs
            .map(|(a, b)| executor.spawn(async move { add(a.await, b.await).await }))
            .collect();
        level.extend(odd);
    }
    block_on(level.pop().expect("the root"))
}

pub(crate) fn chain(executor: &Arc<Executor<'static>>, n: u64) -> u64 {
    let mut last = executor.spawn(inc(0));
    for _ in 1..n {
        last = executor.spawn(async move { inc(last.await).await });
    }
    block_on(last)
}

pub(crate) fn fan(executor: &Arc<Executor<'static>>, n: u64) -> u64 {
    let source = executor.spawn(inc(0)).shared();
    let sum = |i| {
        let source = source.clone();
        executor.spawn(async move { add(source.await, i).await })
    };
    let sums: Vec<_> = (0..n).map(sum).collect();
    block_on(executor.spawn(async move {
        let mut values = Vec::with_capacity(sums.len());
        for sum in sums {
            values.push(sum.await);
        }
        total(values).await
    }))
}

pub(crate) fn arriving(executor: &Arc<Executor<'static>>, n: u64) -> u64 {
    block_on(async {
        let leaves = (0..leaves(n)).map(|i| executor.spawn(inc(i)));
        let mut arriving: FuturesUnordered<_> = leaves.collect();
        loop {
            let a = arriving.next().await.expect("one is always left");
            let Some(b) = arriving.next().await else { return a };
            arriving.push(executor.spawn(add(a, b)));
        }
    })
}

/// The cache is new in each round, so that its results are freed.
pub(crate) fn keyed(executor: &Arc<Executor<'static>>, n: u64) -> u64 {
    let keys = keys(n);
    let cache = Cache::new(keys);
    let get = |i| {
        let cache = cache.clone();
        executor.spawn(async move {
            let key = i % keys;
            cache.get_with(key, inc(key)).await
        })
    };
    let tasks: Vec<_> = (0..n).map(get).collect();
    block_on(async {
        let mut sum = 0;
        for task in tasks {
            sum += task.await;
        }
        sum
    })
}

pub(crate) fn four_threads(executor: &Arc<Executor<'static>>, n: u64) -> u64 {
    thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(|| independent(executor, quarter(n))));
        threads.into_iter().map(|thread| thread.join().expect("it doesn't panic")).sum::<u64>()
    })
}
