//! Structs that hold handles, as inputs (promise 2).

use std::collections::HashMap;

use ensue::{Client, Engine, Error, ErrorKind, Handle, Input, Ref, Settled, gather};
use futures::executor::block_on;
use serde::{Deserialize, Serialize};
use support::observe::{Counted, Counts};
use support::{bounded, client_of, run_until_idle};

/// Not `Clone`: only a `Ref` can share it.
#[derive(Debug)]
struct Big(u64);

#[derive(Input)]
struct Job {
    image: Handle<u64>,
    size: u32,
}

async fn area(job: JobValues) -> u64 {
    job.image * u64::from(job.size)
}

#[test]
fn a_struct_arrives_with_the_values_of_its_handles() {
    bounded(|| {
        let client = client_of(1);
        let image = client.submit(async || 7u64, ());
        let job = || Job { image: image.clone(), size: 3 };
        assert_eq!(client.submit(area, job()).result().unwrap(), 21);
        let two = async |job: JobValues, n: u64| job.image + n;
        assert_eq!(client.submit(two, (job(), &image)).result().unwrap(), 14);
        let blocking = |job: JobValues| job.size;
        assert_eq!(client.submit_blocking(blocking, job()).result().unwrap(), 3);
        let all = client.map(area, (1..4).map(|size| Job { image: image.clone(), size }));
        assert_eq!(block_on(gather(all)).unwrap(), [7, 14, 21]);
        // The struct itself is still a plain value.
        let plain = async |job: Job| job.image.is_finished();
        assert!(client.submit(plain, job()).result().unwrap());
    });
}

#[derive(Input)]
#[input(name = Parts, derive(Clone, Debug))]
struct Assembly {
    /// The names, with their parts.
    named: Vec<(String, Handle<u64>)>,
    groups: HashMap<u8, Vec<Handle<u64>>>,
    #[input(as = Ref<Big>)]
    shared: Handle<Big>,
    maybe: Option<Handle<u64>>,
    settled: Settled<u64>,
    r#type: &'static str,
}

#[test]
fn fields_may_be_containers_and_be_taken_in_any_way() {
    #[derive(Input)]
    struct Shared {
        #[input(as = Vec<Ref<Big>>)]
        bigs: Box<[Handle<Big>]>,
    }
    bounded(|| {
        let client = client_of(1);
        let x = client.submit(async || 7u64, ());
        let big = client.submit(async || Big(9), ());
        let fails = client.try_submit(async || Err::<u64, _>("it fails"), ());
        let assembly = Assembly {
            named: vec![("x".to_owned(), x.clone())],
            groups: HashMap::from([(1, vec![x.clone(), x.clone()])]),
            shared: big.clone(),
            maybe: Some(x),
            settled: fails.settled(),
            r#type: "whole",
        };
        let seen = async |parts: Parts| {
            assert_eq!(parts.settled.unwrap_err().kind(), ErrorKind::Failed);
            (parts.named[0].1, parts.groups[&1].len(), parts.shared.0, parts.maybe, parts.r#type)
        };
        assert_eq!(client.submit(seen, assembly).result().unwrap(), (7, 2, 9, Some(7), "whole"));
        let shared = Shared { bigs: vec![big.clone(), big].into() };
        let sum = async |shared: SharedValues| shared.bigs.iter().map(|big| big.0).sum::<u64>();
        assert_eq!(client.submit(sum, shared).result().unwrap(), 18);
    });
}

#[test]
fn a_struct_may_be_generic_unnamed_or_in_another_one() {
    #[derive(Input)]
    struct Pair<T, const N: usize>(Handle<T>, [Handle<T>; N])
    where
        T: Copy;

    #[derive(Input)]
    struct Outer {
        #[input(as = JobValues)]
        job: Job,
        #[input(as = PairValues<u8, 2>)]
        pair: Pair<u8, 2>,
    }

    bounded(|| {
        let client = client_of(1);
        let (x, y) = (client.ready(1u8), client.ready(2u8));
        let pair = || Pair(x.clone(), [y.clone(), x.clone()]);
        let sum = async |PairValues(a, [b, c]): PairValues<u8, 2>| a + b + c;
        assert_eq!(client.submit(sum, pair()).result().unwrap(), 4);
        let job = Job { image: client.submit(async || 7, ()), size: 3 };
        let all = async |all: OuterValues| area(all.job).await + u64::from(all.pair.0);
        assert_eq!(client.submit(all, Outer { job, pair: pair() }).result().unwrap(), 22);
    });
}

#[test]
fn more_fields_than_a_function_may_have_arguments() {
    #[derive(Input)]
    struct Many {
        a: Handle<u8>,
        b: u8,
        c: Handle<u8>,
        d: u8,
        e: Handle<u8>,
        f: u8,
        g: Handle<u8>,
        h: u8,
        i: Handle<u8>,
        j: u8,
        k: Handle<u8>,
        l: u8,
        m: Handle<u8>,
        n: u8,
    }
    bounded(|| {
        let client = client_of(1);
        let x = client.submit(async || 1u8, ());
        let one = || x.clone();
        #[rustfmt::skip]
        let many = Many { a: one(), b: 2, c: one(), d: 3, e: one(), f: 4, g: one(), h: 5, i: one(), j: 6, k: one(), l: 7, m: one(), n: 8 };
        let sum = async |m: ManyValues| {
            let handles = m.a + m.c + m.e + m.g + m.i + m.k + m.m;
            (handles, m.b + m.d + m.f + m.h + m.j + m.l + m.n)
        };
        assert_eq!(client.submit(sum, many).result().unwrap(), (7, 35));
    });
}

#[derive(Input)]
#[input(derive(Clone, Debug))]
struct Fallible {
    x: Handle<Counted>,
}

#[test]
fn values_are_moved_cloned_for_retries_and_dropped_once() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let value = counts.value(7);
        let x = client.submit(async move || value, ());
        let moved = client.submit(async |all: FallibleValues| all.x.value, Fallible { x });
        run_until_idle(&client);
        assert_eq!(moved.result().unwrap(), 7);
        assert_eq!((counts.clones.get(), counts.drops.get()), (0, 1));
        let value = counts.value(8);
        let x = client.submit(async move || value, ());
        let attempts = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let flaky = async move |all: FallibleValues| match attempts
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst)
        {
            0 => Err("the first one fails"),
            _ => Ok(all.x.value),
        };
        let retried = client.task().retries(1).try_submit(flaky, Fallible { x });
        run_until_idle(&client);
        assert_eq!(retried.result().unwrap(), 8);
        drop(retried);
        assert_eq!(counts.drops.get(), 1 + 1 + counts.clones.get());
    });
}

#[test]
fn what_fails_in_a_struct_fails_the_task() {
    bounded(|| {
        let client = client_of(1);
        let image = client.submit(async || -> u64 { panic!("at the disco") }, ());
        let error =
            client.submit(area, Job { image: image.clone(), size: 1 }).result().unwrap_err();
        assert_eq!((error.kind(), error.origin()), (ErrorKind::Panicked, &image.key()));
        let pending = client.spawn(std::future::pending());
        let waits = client.submit(area, Job { image: pending.clone(), size: 1 });
        waits.cancel();
        assert_eq!(waits.result().unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(!pending.is_finished());
        drop((waits, pending, image, error));
        run_until_idle(&client);
        assert_eq!(client.tasks_in_memory(), 0);
    });
}

#[derive(Input)]
#[input(portable, derive(Clone, Serialize, Deserialize))]
struct Sent {
    x: Handle<u64>,
    pairs: Vec<(String, Handle<u64>)>,
    scale: u64,
}

#[test]
fn a_portable_struct_is_an_input_of_every_engine() {
    async fn total(sent: SentValues) -> u64 {
        sent.scale * (sent.x + sent.pairs.iter().map(|(_, x)| x).sum::<u64>())
    }
    async fn run(engine: &impl Engine) -> Result<u64, Error> {
        let x = engine.ready(2u64);
        let pairs = vec![("a".to_owned(), x.clone())];
        engine.submit(total, Sent { x, pairs, scale: 10 }).await
    }
    bounded(|| assert_eq!(block_on(run(&client_of(1))).unwrap(), 40));
}

/// With a default, and a slice that arrives as a vector.
#[derive(Input)]
struct Batch<T: Clone + Send + Sync + 'static = u64> {
    parts: Box<[Handle<T>]>,
    names: Box<[&'static str]>,
}

#[test]
fn boxed_slices_and_defaults_of_parameters_are_kept() {
    bounded(|| {
        let client = client_of(1);
        let parts = client.map(async |x: u64| x + 1, 0..3).into();
        let batch = Batch { parts, names: Box::new(["a"]) };
        let sum = async |batch: BatchValues| {
            let parts: Vec<u64> = batch.parts;
            (parts.iter().sum::<u64>(), batch.names.len())
        };
        assert_eq!(client.submit(sum, batch).result().unwrap(), (6, 1));
    });
}
