//! The programs of `stock.py`, with the crate's client.

use std::time::Instant;

use ensue::dask::Client;
use ensue::{Handle, Portable, gather, wait_all};
use ensue_benches::{add, double, inc, total};
use ensue_tests_cluster::{Cluster, wait};

use crate::functions::{blob, length, noop, vector, vector_length};

pub(crate) struct Ours(Client);

impl Ours {
    pub(crate) fn start(cluster: &Cluster) -> Self {
        Self(cluster.client())
    }

    pub(crate) fn end(self) {
        wait(self.0.close());
    }

    /// Runs a program, and returns its time in seconds.
    pub(crate) fn run(&self, program: &str, n: u64) -> f64 {
        match program {
            "submitted" => self.submitted(n),
            "mapped" => self.mapped(n),
            "notebook" => self.notebook(n),
            "round_trip" => self.round_trip(n),
            "transfer" => self.transfer(n),
            "copied" => self.copied(n),
            _ => panic!("no program {program}"),
        }
    }

    fn submitted(&self, n: u64) -> f64 {
        let started = Instant::now();
        let handles: Vec<_> = (0..n).map(|x| self.0.submit(noop, x)).collect();
        wait(wait_all(&handles));
        let took = started.elapsed().as_secs_f64();
        let values = wait(gather(handles)).expect("all");
        assert!(values.into_iter().eq(0..n));
        took
    }

    fn mapped(&self, n: u64) -> f64 {
        let started = Instant::now();
        let handles = self.0.map(noop, 0..n);
        wait(wait_all(&handles));
        let took = started.elapsed().as_secs_f64();
        let values = wait(gather(handles)).expect("all");
        assert!(values.into_iter().eq(0..n));
        took
    }

    fn notebook(&self, n: u64) -> f64 {
        let started = Instant::now();
        let zs: Vec<_> = (0..n / 3)
            .map(|i| {
                let x = self.0.submit(inc, i);
                let y = self.0.submit(double, &x);
                self.0.submit(add, (x, y))
            })
            .collect();
        let sum = wait(self.0.submit(total, &zs)).expect("a total");
        let took = started.elapsed().as_secs_f64();
        assert_eq!(sum, (1..=n / 3).map(|x| 3 * x).sum::<u64>());
        took
    }

    fn round_trip(&self, n: u64) -> f64 {
        let mut times: Vec<_> = (0..n)
            .map(|x| {
                let started = Instant::now();
                assert_eq!(wait(self.0.submit(inc, x)).expect("a result"), x + 1);
                started.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }

    fn transfer(&self, n: u64) -> f64 {
        let bytes = self.0.task().workers(["ours-0"]).submit(blob, n);
        Self::taken(&bytes, n, || self.0.task().workers(["ours-1"]).submit(length, &bytes))
    }

    fn copied(&self, n: u64) -> f64 {
        let bytes = self.0.task().workers(["ours-0"]).submit(vector, n);
        let take = || self.0.task().workers(["ours-1"]).submit(vector_length, &bytes);
        Self::taken(&bytes, n, take)
    }

    fn taken<T: Portable>(bytes: &Handle<T>, n: u64, take: impl FnOnce() -> Handle<u64>) -> f64 {
        wait(wait_all([bytes]));
        let started = Instant::now();
        assert_eq!(wait(take()).expect("a length"), n);
        started.elapsed().as_secs_f64()
    }
}
