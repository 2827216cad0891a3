//! The verbs of a client that are for looking at it.

use super::Client;
use crate::Handle;
use crate::observe::events::Events;
use crate::observe::explain::Explanation;
use crate::observe::graph::Graph;
use crate::observe::recorder::Recorder;
use crate::observe::stats::Stats;
use crate::observe::story::Story;

impl Client {
    /// Begins to record what happens to tasks, for whoever looks later: [`stats`](Client::stats) and the other
    /// views. The others begin by themselves when first asked, but then what was before is not known; `stats` never
    /// does, and counts nothing until recording has begun.
    ///
    /// It costs about 3 nanoseconds a task, and a microsecond or two for those that are watched in detail. These are
    /// up to 20,000 new ones a second, which is 2 to 4 % of a core; where more than 200,000 are submitted, 5,000. What
    /// is kept is bounded, too: up to 100,000 tasks. There's no way back. Calling it again does nothing.
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

    /// How the client stands, in numbers.
    ///
    /// Some are counted only since the client began to [`observe`](Client::observe), which this doesn't make it do; see
    /// [`Stats`].
    ///
    /// ```
    /// let client = ensue::Client::builder().workers(2).limit("db", 4).build();
    /// let stats = client.stats();
    /// assert_eq!((stats.workers, stats.held), (2, 0));
    /// assert_eq!((&*stats.limits[0].name, stats.limits[0].of, stats.limits[0].used), ("db", 4, 0));
    /// ```
    pub fn stats(&self) -> Stats {
        Stats::of(self.core())
    }

    /// What tells the `metrics` facade how the client does: see [`Metrics`](crate::Metrics). Feature `metrics`.
    ///
    /// The client begins to [`observe`](Client::observe) if it hasn't.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let mut metrics = client.metrics();
    /// client.submit(async || (), ()).result().unwrap();
    /// metrics.publish(); // now and then
    /// ```
    #[cfg(feature = "metrics")]
    pub fn metrics(&self) -> crate::Metrics {
        crate::Metrics::new(self.core())
    }

    /// The tasks there are and were, and what leads from one to the other: a snapshot.
    ///
    /// The client begins to [`observe`](Client::observe) if it hasn't. The first time there is what can be
    /// reached: tasks that are suspended, queued for all workers, or have keys, and what is linked to them.
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

    /// Why a task is not finished: which tasks it waits for and what those are doing, which limit is full and
    /// who holds it, its place in the queue, when it's tried again, that there's no worker.
    ///
    /// It looks at the tasks themselves, so it needs no recording; but only a client that
    /// [observes](Client::observe) knows which worker is at what. For a task of another client it says what is
    /// so there.
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

    /// What has happened to a task, in order, and how long each part of it lasted.
    ///
    /// The client begins to [`observe`](Client::observe) if it hasn't, and knows nothing of what was before.
    ///
    /// ```
    /// use ensue::{Client, Status};
    ///
    /// let client = Client::new();
    /// client.observe();
    /// let x = client.submit(async || 1, ());
    /// x.result().unwrap();
    /// let story = client.story(&x);
    /// let chapters: Vec<_> = story.chapters.iter().map(|chapter| chapter.status).collect();
    /// assert_eq!(chapters, [Status::Ready, Status::Running, Status::Finished]);
    /// ```
    pub fn story<T>(&self, handle: &Handle<T>) -> Story {
        Story::of(&Recorder::start(self.core()), handle.typed().task())
    }

    /// What happens to the client's tasks from now on, as a stream.
    ///
    /// While nobody listens it costs nothing. The client begins to [`observe`](Client::observe), and while the
    /// stream is there it watches all tasks, at a microsecond or two each.
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
