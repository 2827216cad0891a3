//! Random failures of the workers of a cluster: they are killed, stopped, retired, cut off and replaced.

use std::net::SocketAddr;
use std::process::id;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ensue_dask_proto::call;
use ensue_tests_cluster::comm::Comm;
use ensue_tests_cluster::proxy::{Proxy, Then};
use ensue_tests_cluster::{Cluster, Process, free_port};
use fastrand::Rng;

/// The time limit of a worker that was asked to exit.
const LEAVING: Duration = Duration::from_secs(60);

/// The time after which the scheduler removes a connected worker without heartbeats.
pub(crate) const WORKER_TTL: &str = "12s";

struct Worker {
    process: Process,
    name: String,
    /// The proxies between it and the scheduler, and between it and the workers and clients that fetch from it.
    to_scheduler: Option<Proxy>,
    to_it: Option<Proxy>,
    /// Whether it may exit with an error: its connection was cut, or it was silent for long.
    may_fail: bool,
}

/// The workers, and the failures that they have had.
pub(crate) struct Disturber<'a> {
    cluster: &'a Cluster,
    random: Rng,
    workers: Vec<Worker>,
    python: Option<Process>,
    count: usize,
    /// The failures so far, for the message of a failed test.
    pub(crate) deeds: Vec<String>,
}

impl<'a> Disturber<'a> {
    pub(crate) fn new(cluster: &'a Cluster, mut random: Rng, has_python: bool) -> Self {
        let count = random.usize(3..5);
        let python = has_python.then(|| cluster.python_worker("python-0"));
        let mut new =
            Self { cluster, random, workers: Vec::new(), python, count: 0, deeds: Vec::new() };
        (0..count).for_each(|_| new.start());
        new
    }

    /// Causes failures until `is_over` is set.
    ///
    /// # Panics
    ///
    /// If a worker exits without a reason.
    pub(crate) fn run(&mut self, is_over: &AtomicBool) {
        // The longest pause between failures, from 16 to 512 ms: some runs have hardly any pauses.
        let longest = 1 << self.random.u32(4..10);
        while !is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(self.random.u64(1..longest)));
            self.disturb();
            self.replace_the_ended();
        }
        for worker in &self.workers {
            for cable in worker.to_scheduler.iter().chain(&worker.to_it) {
                cable.after(u64::MAX, Then::Cut);
            }
        }
    }

    fn start(&mut self) {
        self.count += 1;
        let name = format!("worker-{}", self.count);
        let threads = self.random.u32(1..3).to_string();
        let mut options = vec!["--threads".to_owned(), threads];
        let to_it = self.random.bool().then(|| {
            let port = free_port();
            options.extend(["--listen".to_owned(), format!("127.0.0.1:{port}")]);
            // All of 127.0.0.0/8 is loopback: the proxy listens on the same port of another address.
            let host = format!("127.0.{}.{}", id() % 250, self.count % 250 + 2);
            let cable =
                Proxy::start(&format!("{host}:{port}"), SocketAddr::from(([127, 0, 0, 1], port)));
            options.extend(["--announce".to_owned(), host]);
            cable
        });
        let mut scheduler = self.cluster.address.clone();
        let to_scheduler = (self.random.u32(0..3) == 0).then(|| {
            let server = scheduler.trim_start_matches("tcp://").parse().expect("an address");
            let cable = Proxy::start("127.0.0.1:0", server);
            scheduler = format!("tcp://{}", cable.address);
            cable
        });
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        let process = self.cluster.start_worker(&scheduler, &name, &options);
        self.deeds.push(format!("start {name} {options:?}"));
        self.workers.push(Worker { process, name, to_scheduler, to_it, may_fail: false });
    }

    fn disturb(&mut self) {
        let at = self.random.usize(..self.workers.len());
        let name = self.workers[at].name.clone();
        let most = 1 << self.random.u32(4..22);
        let bytes = self.random.u64(0..most);
        let pause = Duration::from_millis(self.random.u64(5..900));
        match self.random.u32(0..100) {
            0..=24 => {
                self.deed("kill", &name);
                self.workers.swap_remove(at).process.kill();
                self.start();
            }
            25..=39 => {
                let pause = if self.random.u32(0..12) == 0 { pause * 20 } else { pause * 2 };
                self.deed(&format!("stop for {pause:?}"), &name);
                let worker = &mut self.workers[at];
                worker.may_fail |= pause > Duration::from_secs(4);
                worker.process.signal("STOP");
                thread::sleep(pause);
                worker.process.signal("CONT");
            }
            40..=44 => {
                self.deed(&format!("stop for {pause:?}"), "scheduler");
                self.cluster.scheduler.signal("STOP");
                thread::sleep(pause);
                self.cluster.scheduler.signal("CONT");
            }
            // A worker that hasn't joined yet may exit without retiring.
            45..=54 if self.workers[at].process.log().contains("joined") => {
                self.deed("terminate", &name);
                self.start();
                self.workers[at].process.signal("TERM");
                self.leaves(at);
            }
            55..=66 => {
                self.start();
                self.retire(at);
            }
            67..=74 => {
                let worker = &mut self.workers[at];
                if let Some(cable) = &worker.to_scheduler {
                    cable.after(bytes, Then::Cut);
                    worker.may_fail = true;
                    self.deed(&format!("cut from the scheduler after {bytes}"), &name);
                }
            }
            75..=84 => {
                if let Some(cable) = &self.workers[at].to_it {
                    cable.after(bytes, Then::Cut);
                    self.deed(&format!("cut from its peers after {bytes}"), &name);
                }
            }
            85..=94 => {
                let long = self.random.u32(0..12) == 0;
                if let Some(cable) = &self.workers[at].to_it {
                    cable.after(bytes, Then::Stall);
                    thread::sleep(if long { pause * 16 } else { pause });
                    // Removes the stall in case it hasn't happened yet.
                    cable.after(u64::MAX, Then::Cut);
                    cable.resume();
                    self.deed(&format!("stalled after {bytes} for {pause:?}"), &name);
                }
            }
            _ => {
                if let Some(mut python) = self.python.take() {
                    self.count += 1;
                    let name = format!("python-{}", self.count);
                    self.deed("kill the one before", &name);
                    python.kill();
                    self.python = Some(self.cluster.python_worker(&name));
                }
            }
        }
    }

    fn deed(&mut self, what: &str, to: &str) {
        self.deeds.push(format!("{to}: {what}"));
    }

    fn retire(&mut self, at: usize) {
        let name = self.workers[at].name.clone();
        let known = self.cluster.worker_addresses();
        let Some((_, address)) = known.iter().find(|(known, _)| *known == name) else { return };
        self.deed("retire", &name);
        let mut comm = Comm::connect(&self.cluster.address);
        let answer = call::map_reply(comm.call(call::retire_workers(&[address])));
        // A worker whose results couldn't be moved isn't retired.
        if answer.is_ok_and(|retired| !retired.0.is_empty()) {
            self.leaves(at);
        } else {
            self.deed("can't retire", &name);
        }
    }

    fn leaves(&mut self, at: usize) {
        let mut worker = self.workers.swap_remove(at);
        let status = worker.process.ended_within(LEAVING);
        assert!(
            status.success() || worker.may_fail,
            "{} left with {status}:\n{}",
            worker.name,
            worker.process.log()
        );
    }

    fn replace_the_ended(&mut self) {
        let mut at = 0;
        while at < self.workers.len() {
            let worker = &mut self.workers[at];
            let Some(status) = worker.process.ended() else {
                at += 1;
                continue;
            };
            assert!(
                worker.may_fail,
                "{} has ended with {status}:\n{}",
                worker.name,
                worker.process.log()
            );
            self.workers.swap_remove(at);
            self.start();
        }
    }
}
