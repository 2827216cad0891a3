use ensue::*;
use futures::StreamExt;
use std::time::Duration;

async fn inc(x: u64) -> u64 {
    x + 1
}
async fn double(x: u64) -> u64 {
    x * 2
}
async fn add(x: u64, y: u64) -> u64 {
    x + y
}
async fn sum(xs: Vec<u64>) -> u64 {
    xs.into_iter().sum()
}

fn graph(client: &Client) -> Result<u64, Error> {
    let xs = client.map(inc, 0..256u64);
    let ys = client.map(double, &xs);
    let zs = client.map(add, xs.iter().zip(&ys));
    client.submit(sum, &zs).result()
}

#[test]
fn notebook() {
    let client = Client::new();
    let x = client.submit(inc, 1);
    let y = client.submit(double, &x);
    let z = client.submit(add, (&x, &y));
    assert_eq!(z.result().unwrap(), 6);
    let c = client.submit(async |a: u64, b: u64| a * b, (&x, 7));
    assert_eq!(c.result().unwrap(), 14);
    for _ in 0..100 {
        assert_eq!(graph(&client).unwrap(), 98688);
    }
    println!("{:?} {}", client, client);
    drop((x, y, z, c));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(client.held(), 0);
}

#[test]
fn dynamic() {
    let client = Client::new();
    futures::executor::block_on(async {
        let mut s = as_completed(client.map(inc, 0..256u64));
        let mut last = None;
        while let Some(a) = s.next().await {
            match s.next().await {
                Some(b) => s.add(client.submit(add, (a, b))),
                None => last = Some(a),
            }
        }
        assert_eq!(last.unwrap().await.unwrap(), 32896);
    });
}

#[test]
fn seeded() {
    for seed in 0..20 {
        let client = Client::builder().seed(seed).build();
        assert_eq!(graph(&client).unwrap(), 98688);
        let h = client.submit(
            async || {
                ensue::sleep(Duration::from_secs(3600)).await;
                5
            },
            (),
        );
        assert_eq!(futures::executor::block_on(h).unwrap(), 5);
    }
}

#[test]
fn failing() {
    let client = Client::new();
    let bad = client.try_submit(async |s: &str| s.parse::<u8>(), "x");
    let d = client.submit(async |x: u8| x, &bad);
    let e = d.result().unwrap_err();
    println!("{e} {e:?} {:?}", bad);
    assert_eq!(e.origin(), bad.key());
    let p = client.submit(async || -> u64 { panic!("boom {}", 1) }, ());
    println!("{}", p.result().unwrap_err());
    let t = client
        .task()
        .timeout(Duration::from_millis(20))
        .submit(async || ensue::sleep(Duration::from_secs(100)).await, ());
    assert!(t.result().unwrap_err().is_timeout());
    let b = client.submit_blocking(
        || {
            while !ensue::is_cancelled() {}
        },
        (),
    );
    std::thread::sleep(Duration::from_millis(20));
    assert!(b.cancel());
    assert!(b.result().unwrap_err().is_cancelled());
    let n = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let n2 = n.clone();
    let r = client.task().retries(5).try_submit(
        async move || {
            if n2.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 3 { Err("no") } else { Ok(7) }
        },
        (),
    );
    assert_eq!(r.result().unwrap(), 7);
    assert_eq!(n.load(std::sync::atomic::Ordering::SeqCst), 4);
}

#[test]
fn deep_chain() {
    let client = Client::new();
    let mut h = client.ready(0u64);
    for _ in 0..1_000_000 {
        h = client.submit(inc, h);
    }
    assert_eq!(h.result().unwrap(), 1_000_000);
    drop(h);
    let never = client.submit(async || std::future::pending::<u64>().await, ());
    let mut h = client.submit(inc, &never);
    for _ in 0..1_000_000 {
        h = client.submit(inc, h);
    }
    assert!(never.cancel());
    assert!(h.result().unwrap_err().is_cancelled());
    drop((h, never));
    let never = client.submit(async || std::future::pending::<u64>().await, ());
    let mut h = client.submit(inc, never);
    for _ in 0..1_000_000 {
        h = client.submit(inc, h);
    }
    drop(h);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(client.held(), 0);
}

#[test]
fn close() {
    let client = Client::new();
    let hs = client.map(async |_: u64| futures_lite::future::yield_now().await, 0..1000u64);
    futures::executor::block_on(client.idle());
    assert!(hs.iter().all(|h| h.is_finished()));
    let never = client.submit(async || std::future::pending::<u64>().await, ());
    let w = client.submit(inc, &never);
    futures::executor::block_on(async {
        let c = client.close();
        let n2 = never.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            n2.cancel();
        });
        c.await;
    });
    println!("{:?} {:?}", never, w);
    assert_eq!(client.workers(), 0);
    let h = client.submit(inc, 1);
    assert_eq!(h.result().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn tour_values() {
    let client = Client::new();
    futures::executor::block_on(async {
        let ring = client.submit(
            async || {
                let me = Client::current().unwrap().get::<u64>("me").unwrap();
                me.await.map_err(|e| e.kind())
            },
            (),
        );
        let me =
            client.task().key("me").submit(async |r: Result<u64, ErrorKind>| r.unwrap_or(0), &ring);
        println!("{:?}", (&ring).await);
        println!("{:?}", me.await);
    });
}
