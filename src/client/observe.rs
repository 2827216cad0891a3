//! The methods of a client that observe it.

use super::Client;
use crate::Handle;
use crate::observe::events::Events;
use crate::observe::explain::Explanation;
use crate::observe::graph::Graph;
use crate::observe::recorder::Recorder;
use crate::observe::stats::Stats;
use crate::observe::timeline::Timeline;

impl Client {
    /// Starts to record the state changes of tasks, for [`stats`](Client::stats) and the other views. A view starts
    /// it when it is first called, and lacks the time before then; only `stats` never starts it, and counts nothing
    /// until it has started.
    ///
    /// Recording costs about 3 nanoseconds a task, and 1 to 2 microseconds for each task that is recorded in detail.
    /// Up to 20,000 new tasks a second are recorded in detail, which uses 2 to 4 % of a core; if more than 200,000
    /// tasks a second are submitted, it is 5,000. The record holds up to 100,000 tasks. It can't be stopped. Calling
    /// it again does nothing.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// client.observe();
    /// client.submit(async |x: u64| x + 1, 1).result().unwrap();
    /// assert_eq!(client.stats().submitted, 1);
    /// ```
    pub fn observe(&self) {
        Recorder::start(self.core());
    }

    /// Returns statistics of the client and its tasks.
    ///
    /// Some of them are counted only after the client has started to [`observe`](Client::observe), which this call
    /// doesn't do; see [`Stats`].
    ///
    /// ```
    /// let client = ensue::Client::builder().workers(2).limit("db", 4).build();
    /// let stats = client.stats();
    /// assert_eq!((stats.workers, stats.tasks_in_memory), (2, 0));
    /// assert_eq!((&*stats.limits[0].name, stats.limits[0].of, stats.limits[0].used), ("db", 4, 0));
    /// ```
    pub fn stats(&self) -> Stats {
        Stats::of(self.core())
    }

    /// Returns a publisher of the client's statistics to the `metrics` facade; see [`Metrics`](crate::Metrics).
    /// Requires the feature `metrics`.
    ///
    /// The client starts to [`observe`](Client::observe) if it hasn't.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let mut metrics = client.metrics();
    /// client.submit(async || (), ()).result().unwrap();
    /// metrics.publish(); // periodically
    /// ```
    #[cfg(feature = "metrics")]
    pub fn metrics(&self) -> crate::Metrics {
        crate::Metrics::new(self.core())
    }

    /// Returns a snapshot of the graph of tasks: unfinished and recorded ones, with the edges between them.
    ///
    /// The client starts to [`observe`](Client::observe) if it hasn't. The first snapshot then contains the tasks
    /// that can be found without a record: those that are suspended, are in the queue of all workers, or have keys,
    /// and the tasks linked to those.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// client.observe();
    /// let x = client.submit(async || 1, ());
    /// let y = client.submit(async |x: u64| x + 1, &x);
    /// y.result().unwrap();
    /// let graph = client.graph();
    /// assert_eq!((graph.tasks.len(), graph.edges.len()), (2, 1));
    /// assert!(graph.to_dot().starts_with("digraph"));
    /// ```
    pub fn graph(&self) -> Graph {
        Graph::of(&Recorder::start(self.core()))
    }

    /// Returns the reasons why a task is not finished: the tasks that it waits for and their status, the limit that
    /// is full and its holders, its position in the queue, the time until its next attempt, that the client has no
    /// worker, or that a worker is blocked in a poll.
    ///
    /// It inspects the tasks and the workers themselves, so it needs no record. But without one nothing tells when a poll
    /// began: the first explanation that finds a worker in a poll notes that, and later ones, of any task, know how long it
    /// has lasted since. So explain again if tasks seem stuck. From 0.1 s on, a poll is said to be
    /// [blocked](crate::Reason::Blocked); [`on_stall`](crate::Builder::on_stall) looks for those by itself.
    ///
    /// If the task waits for itself, it names the [cycle](crate::Reason::Cycle), over awaits, inputs, limits, threads for blocking
    /// work, [`idle`](Client::idle) and [`close`](Client::close). What else a task may await isn't known: a channel or a timer,
    /// [`events`](Client::events), [`progress_counts`](crate::progress_counts), another client's `idle`.
    ///
    /// It takes about a microsecond for each of the client's unfinished tasks and their waits.
    ///
    /// For a task of another client it reports the state of that client.
    ///
    /// ```
    /// let client = ensue::Client::builder().workers(0).build();
    /// let x = client.task().name("x").submit(async || 1, ());
    /// let y = client.task().name("y").submit(async |x: u64| x + 1, &x);
    /// let text = client.explain(&y).to_string();
    /// assert!(text.ends_with("is ready (the client has no worker, it is the next to be run)"), "{text}");
    /// ```
    pub fn explain<T>(&self, handle: &Handle<T>) -> Explanation {
        Explanation::of(handle.typed().task())
    }

    /// Returns the states that a task has had, in order, with the duration of each.
    ///
    /// The client starts to [`observe`](Client::observe) if it hasn't; earlier states are missing then.
    ///
    /// ```
    /// use ensue::{Client, Status};
    ///
    /// let client = Client::new();
    /// client.observe();
    /// let x = client.submit(async || 1, ());
    /// x.result().unwrap();
    /// let timeline = client.timeline(&x);
    /// let phases: Vec<_> = timeline.phases.iter().map(|phase| phase.status).collect();
    /// assert_eq!(phases, [Status::Ready, Status::Running, Status::Finished]);
    /// ```
    pub fn timeline<T>(&self, handle: &Handle<T>) -> Timeline {
        Timeline::of(&Recorder::start(self.core()), handle.typed().task())
    }

    /// Returns a stream of the state changes of the client's tasks, from this call on.
    ///
    /// The client starts to [`observe`](Client::observe) if it hasn't. While a stream exists, all tasks are recorded
    /// in detail, at 1 to 2 microseconds each. Without a stream there is no such cost. A consumer never delays a
    /// task. The stream ends when the client is closed or dropped and all its tasks have ended.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use ensue::{Client, Status};
    /// use futures_lite::StreamExt;
    ///
    /// let client = Client::new();
    /// let events = client.events();
    /// client.submit(async || (), ()).await?;
    /// let seen: Vec<_> = events.take(3).map(|event| event.status).collect().await;
    /// assert_eq!(seen, [Status::Ready, Status::Running, Status::Finished]);
    /// # Ok::<_, ensue::Error>(()) }).unwrap();
    /// ```
    pub fn events(&self) -> Events {
        Events::new(Recorder::start(self.core()))
    }
}
