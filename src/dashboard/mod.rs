//! A dashboard in the browser: a client's tasks, live.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! let client = ensue::Client::new();
//! let dashboard = client.dashboard().bind("127.0.0.1:0")?;
//! println!("watch it at {}", dashboard.link());
//! let x = client.submit(async || 1, ());
//! x.result().unwrap();
//! # Ok(()) }
//! ```
//!
//! | path | what |
//! |---|---|
//! | `/` | figures, the task stream, progress per function, workers, limits, failures |
//! | `/graph` | the graph as it grows; more than 2,000 tasks are shown by function |
//! | `/tasks` | a table of tasks, with buttons to cancel and retry |
//! | `/workers`, `/events` | what each worker is at; what happened last |
//! | `/stream` | what the pages are made from: server-sent events of JSON, ten a second at most |
//! | `/api/tasks`, `/api/task/17` | tasks, and everything about one, as JSON |
//! | `/api/task/17/cancel`, `/retry` | with `POST`, and the token in `X-Ensue-Token` |
//! | `/graph.dot`, `/graph.svg`, `/report.html` | to keep: the graph, and everything in one file |
//! | `/metrics`, `/health` | for Prometheus, and for whoever asks whether it's up |
//!
//! Of very many tasks at a time some are only counted; see [`observe`](crate::Client::observe).
//!
//! # Who may look
//!
//! It binds to the loopback interface unless it's told otherwise, and refuses requests for other hosts and
//! from pages of other origins, so that no web site can look at it through the browser. Everyone on this
//! machine can look. Only who has the [link](Dashboard::link) can cancel and retry.
//!
//! # What it costs
//!
//! A thread that sleeps while nobody looks. At most 200 connections are served at a time, 32 of them with a
//! page open; requests have 10 seconds and 16 KiB. A slow reader gets fewer and larger updates, and one that
//! takes none for 20 seconds is disconnected. Nothing of this ever holds up a task.
//!
//! For the tasks it costs what [recording](crate::Client::observe) does: of functions that do nothing, at full
//! speed, the notebook's graph took 1.03 to 1.04 times as long on one thread, some 124 ns a task instead of 120, and
//! with a page open 1.04 times the processor time, on 2 shared cores with little else to do. A run of a
//! million tasks with the graph page open left Chromium at 60 frames a second, the longest without one 34 ms,
//! drawing at 10 ms a second; the page had 79 MB and the program, results included, grew by 92 MB.

mod assets;
mod body;
mod builder;
mod chunks;
mod guard;
mod prometheus;
mod query;
mod report;
mod server;
mod service;
mod socket;
mod source;
mod stream;

use std::io;
use std::path::Path;

use crate::Client;
use source::Source;

pub use body::Body;
pub use builder::{Dashboard, DashboardBuilder};
pub use service::Service;

impl Client {
    /// A dashboard of the client's tasks, to be watched in a browser; see [`dashboard`](crate::dashboard).
    /// From now on the client [records](Client::observe).
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let dashboard = client.dashboard().bind("127.0.0.1:0")?;
    /// println!("watch it at {}", dashboard.link());
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn dashboard(&self) -> DashboardBuilder {
        DashboardBuilder::new(Source::of(self.core()))
    }

    /// Writes what the client has recorded as one HTML file, with the pages of the dashboard in it, to be
    /// looked at anywhere. What was there is replaced.
    ///
    /// It has all that the client remembers, so call [`observe`](Client::observe) before the work begins;
    /// if that wasn't done, recording begins now, and little is known. Keys, names and the texts of errors
    /// are in the file, values are not.
    ///
    /// # Errors
    ///
    /// The file can't be written, or the system gives no random numbers.
    ///
    /// ```
    /// # let path = std::env::temp_dir().join(format!("ensue-report-{}.html", std::process::id()));
    /// let client = ensue::Client::new();
    /// client.observe();
    /// client.submit(async || 1, ()).result().unwrap();
    /// client.report(&path)?;
    /// # std::fs::remove_file(path)?;
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn report(&self, path: impl AsRef<Path>) -> io::Result<()> {
        report::write(&Source::of(self.core()), path.as_ref())
    }
}
