//! The programs, with this crate.

use std::thread;

use ensue::{Client, Error, as_completed, gather};
use futures_lite::StreamExt;
use futures_lite::future::block_on;

use ensue_benches::{add, double, inc, items, keys, leaves, pairs, quarter, total};

pub(crate) fn independent(client: &Client, n: u64) -> Result<u64, Error> {
    block_on(independent_async(client, n))
}

async fn independent_async(client: &Client, n: u64) -> Result<u64, Error> {
    let handles: Vec<_> = (0..n).map(|i| client.submit(inc, i)).collect();
    let mut sum = 0;
    for handle in handles {
        sum += handle.await?;
    }
    Ok(sum)
}

pub(crate) fn mapped(client: &Client, n: u64) -> Result<u64, Error> {
    block_on(async {
        let mut sum = 0;
        for handle in client.map(inc, 0..n) {
            sum += handle.await?;
        }
        Ok(sum)
    })
}

pub(crate) fn gathered(client: &Client, n: u64) -> Result<u64, Error> {
    let handles: Vec<_> = (0..n).map(|i| client.submit(inc, i)).collect();
    Ok(block_on(gather(handles))?.into_iter().sum())
}

pub(crate) fn inside(client: &Client, n: u64) -> Result<u64, Error> {
    let inner = client.clone();
    block_on(client.spawn(async move { independent_async(&inner, n).await }))?
}

pub(crate) fn notebook(client: &Client, n: u64) -> Result<u64, Error> {
    let mut zs = Vec::new();
    for i in 0..items(n) {
        let x = client.submit(inc, i);
        let y = client.submit(double, &x);
        let z = client.submit(add, (&x, &y));
        zs.push(z);
    }
    block_on(client.submit(total, zs))
}

pub(crate) fn tree(client: &Client, n: u64) -> Result<u64, Error> {
    let mut level = client.map(inc, 0..leaves(n));
    while level.len() > 1 {
        let (pairs, odd) = pairs(level);
        level = client.map(add, pairs);
        level.extend(odd);
    }
    block_on(level.pop().expect("the root"))
}

pub(crate) fn chain(client: &Client, n: u64) -> Result<u64, Error> {
    let mut last = client.submit(inc, 0);
    for _ in 1..n {
        last = client.submit(inc, last);
    }
    block_on(last)
}

pub(crate) fn fan(client: &Client, n: u64) -> Result<u64, Error> {
    let source = client.submit(inc, 0);
    let sums: Vec<_> = (0..n).map(|i| client.submit(add, (&source, i))).collect();
    block_on(client.submit(total, sums))
}

pub(crate) fn arriving(client: &Client, n: u64) -> Result<u64, Error> {
    block_on(async {
        let mut arriving = as_completed(client.map(inc, 0..leaves(n)));
        loop {
            let a = arriving.next().await.expect("one is always left");
            let Some(b) = arriving.next().await else { return a.await };
            arriving.add(client.submit(add, (a, b)));
        }
    })
}

pub(crate) fn keyed(client: &Client, n: u64) -> Result<u64, Error> {
    let keys = keys(n);
    let handles: Vec<_> = (0..n).map(|i| client.submit_pure(inc, i % keys)).collect();
    block_on(async {
        let mut sum = 0;
        for handle in handles {
            sum += handle.await?;
        }
        Ok(sum)
    })
}

pub(crate) fn four_threads(client: &Client, n: u64) -> Result<u64, Error> {
    thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(|| independent(client, quarter(n))));
        threads.into_iter().map(|thread| thread.join().expect("it doesn't panic")).sum()
    })
}

pub(crate) fn round_trips(client: &Client, n: u64) -> Result<u64, Error> {
    block_on(async {
        let mut x = 0;
        for _ in 0..n {
            x = client.submit(inc, x).await?;
        }
        Ok(x)
    })
}
