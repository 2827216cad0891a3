//! Making a client.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::engine::core::CoreRef;
use crate::engine::limits::Limits;
use crate::observe::stall::{self, Stall};
use crate::{Client, Error};

/// Makes a [`Client`]; see [`Client::builder`].
///
/// ```
/// let client = ensue::Client::builder().workers(2).name("reports").limit("db", 4).build();
/// assert_eq!(client.to_string(), "client `reports`: 2 workers, limits: db 4");
/// ```
#[must_use = "nothing is made before `build`"]
pub struct Builder {
    workers: Option<usize>,
    name: Cow<'static, str>,
    limits: Vec<(String, usize)>,
    seed: Option<u64>,
    unobserved: Box<dyn Fn(&Error) + Send + Sync>,
    observed: bool,
    stall: Option<(Duration, stall::Hook)>,
}

impl Default for Builder {
    fn default() -> Self {
        let unobserved = Box::new(|error: &Error| log::error!("unobserved: {error}"));
        Self {
            workers: None,
            name: "ensue".into(),
            limits: Vec::new(),
            seed: None,
            unobserved,
            observed: false,
            stall: None,
        }
    }
}

impl Builder {
    /// The number of worker threads; one per core if this isn't said.
    ///
    /// With 0 there are none: tasks run where [`Client::worker`] is polled, and if it isn't, they wait.
    pub fn workers(mut self, n: usize) -> Self {
        self.workers = Some(n);
        self
    }

    /// A name, for the threads and for whoever looks; `ensue` if this isn't said. Any text will do; the names of
    /// the threads leave out NULs.
    ///
    /// ```
    /// let client = ensue::Client::builder().workers(1).name("re\0ports").build();
    /// let thread = client.submit(async || std::thread::current().name().map(str::to_owned), ());
    /// assert_eq!(thread.result().unwrap().as_deref(), Some("reports-0"));
    /// ```
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Declares a limit: tasks that ask for some of it, with [`Options::limit`](crate::Options::limit),
    /// never have more than `n` at the same time. Said again, it replaces the former number.
    pub fn limit(mut self, name: impl Into<String>, n: usize) -> Self {
        let name = name.into();
        self.limits.retain(|(other, _)| *other != name);
        self.limits.push((name, n));
        self
    }

    /// A client for tests, with no threads and a virtual clock, that does the same each time for the same
    /// seed.
    ///
    /// Its tasks run while someone outside blocks on or awaits one of its handles, or drives a
    /// [`worker`](Client::worker). Among ready tasks of equal priority it picks at random. Its clock moves on
    /// only when nothing is ready, straight to the next timer of [`sleep`](crate::sleep), a timeout or a
    /// retry, so time costs no time. Blocking work runs on the spot. Handles in a `HashMap` are looked at in its
    /// order, which differs from run to run: give a `BTreeMap` where the schedule is to be the same.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let client = ensue::Client::builder().seed(7).build();
    /// let day = client.submit(async || ensue::sleep(Duration::from_secs(86_400)).await, ());
    /// day.result().unwrap(); // at once
    /// ```
    ///
    /// So a test can look for a race in your own code among many schedules, and then run the very schedule
    /// that shows it again and again, in a debugger or as a test that stays:
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// use ensue::{Client, gather};
    /// use futures_lite::future::{block_on, yield_now};
    ///
    /// /// Adds one, and is wrong: another may add between its reading and its writing.
    /// async fn add_one(counter: Arc<Mutex<u32>>) {
    ///     let read = *counter.lock().unwrap();
    ///     yield_now().await; // a request, in real life
    ///     *counter.lock().unwrap() = read + 1;
    /// }
    ///
    /// /// What two of them come to, in the schedule of this seed.
    /// fn two_of_them(seed: u64) -> u32 {
    ///     let client = Client::builder().seed(seed).build();
    ///     let counter = Arc::new(Mutex::new(0));
    ///     let both = client.map(add_one, [counter.clone(), counter.clone()]);
    ///     block_on(gather(both)).unwrap();
    ///     *counter.lock().unwrap()
    /// }
    ///
    /// let outcomes: Vec<_> = (0..50).map(two_of_them).collect();
    /// assert!(outcomes.contains(&2), "it often goes well");
    /// let seed = outcomes.iter().position(|sum| *sum == 1).expect("some schedule shows the race");
    /// assert!((0..10).all(|_| two_of_them(seed as u64) == 1), "and does so each time");
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// What is told of errors that nobody can see: of [detached](crate::Handle::detach) tasks, and panics
    /// in callbacks and destructors. If this isn't said, they're logged with the `log` crate.
    pub fn on_unobserved(mut self, hook: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.unobserved = Box::new(hook);
        self
    }

    /// Has the client [observe](Client::observe) from the beginning.
    pub fn observe(mut self) -> Self {
        self.observed = true;
        self
    }

    /// What is told when work is left and nothing has moved for `after`: no task was submitted, started, woken,
    /// or has ended. It's told once, and again after something has moved.
    ///
    /// A task that takes long, and one that waits for its next attempt, make a stall, too; the [`Stall`] says what
    /// it is. The hook is called on a thread outside the workers. If it panics, that goes to
    /// [`on_unobserved`](Builder::on_unobserved). The client [observes](Client::observe) from the beginning. A seeded
    /// client, whose time is not the real one, never stalls.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (told, stall) = std::sync::mpsc::channel();
    /// let client = ensue::Client::builder()
    ///     .workers(1)
    ///     .on_stall(Duration::from_millis(20), move |stall| told.send(stall.to_string()).unwrap())
    ///     .build();
    /// let forever = client.spawn(std::future::pending::<()>());
    /// let text = stall.recv().unwrap();
    /// assert!(text.contains("awaits something that is not a task"), "{text}");
    /// # drop(forever);
    /// ```
    pub fn on_stall(
        mut self,
        after: Duration,
        hook: impl Fn(&Stall) + Send + Sync + 'static,
    ) -> Self {
        self.stall = Some((after, Arc::new(hook)));
        self
    }

    /// Makes the client and starts its workers.
    pub fn build(self) -> Client {
        let Self { workers, name, limits, seed, unobserved, observed, stall } = self;
        let core = CoreRef::new(name, seed, Limits::new(limits), unobserved);
        let client = Client::first(core);
        #[cfg(feature = "tracing")]
        let observed = observed || crate::observe::spans::Spans::are_wanted();
        if observed {
            client.observe();
        }
        if let Some((after, hook)) = stall.filter(|_| seed.is_none()) {
            stall::watch(client.core(), after, hook);
        }
        let workers =
            workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get));
        client.scale(workers);
        client
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("workers", &self.workers)
            .field("name", &self.name)
            .field("limits", &self.limits)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
