//! A live dashboard of a client's tasks, for a web browser.
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
//! | path | content |
//! |---|---|
//! | `/` | task counts, the task stream, progress per function, workers, limits and rates (of those that a pattern has made, the 50 that most tasks wait for), failures |
//! | `/graph` | the task graph as it grows; above 2,000 tasks, one node per function |
//! | `/tasks` | a table of tasks, with buttons to cancel and retry |
//! | `/workers`, `/events` | the current task and load of each worker; the latest state changes |
//! | `/stream` | the data of the pages: server-sent events with JSON, at most ten per second |
//! | `/api/tasks`, `/api/task/17` | a list of tasks, and the details of one task, as JSON |
//! | `/api/task/17/cancel`, `/retry` | with `POST` and the token in `X-Ensue-Token`: cancels or retries a task |
//! | `/graph.dot`, `/graph.svg`, `/report.html` | downloads: the graph, and all pages in one file |
//! | `/metrics`, `/health` | metrics for Prometheus, and a health check |
//!
//! When very many tasks are alive at a time, some are only counted; see [`observe`](crate::Client::observe).
//!
//! # Access
//!
//! The dashboard binds to the loopback interface unless [`allow_remote`](DashboardBuilder::allow_remote) is
//! called. It refuses requests for other hosts and from pages of other origins, so web sites can't read it
//! through the browser. Every user of this machine can read it; cancelling and retrying tasks needs the
//! [link](Dashboard::link).
//!
//! # Costs
//!
//! The dashboard has one thread, which sleeps while no page is open. It serves at most 200 connections at a
//! time, of which 32 can be open pages. A request has to arrive within 10 seconds and may have 16 KiB. A slow
//! reader gets fewer and larger updates, and one that accepts no data for 20 seconds is disconnected. None of
//! this delays a task.
//!
//! Tasks cost as much as with [recording](crate::Client::observe). With empty functions, the notebook's graph
//! took 1.03 to 1.04 times as long on one thread, about 124 ns per task instead of 120, and 1.04 times the
//! processor time with a page open, on 2 shared cores with little other load. During a run of a million tasks
//! with the graph page open, Chromium drew 60 frames per second, with a longest gap of 34 ms, and spent 10 ms
//! per second on drawing. The page used 79 MB, and the program, including its results, grew by 92 MB.

mod assets;
mod body;
mod builder;
mod chunks;
mod guard;
mod prometheus;
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
    /// Returns a builder for a live dashboard of the client's tasks; see [`dashboard`](crate::dashboard). The
    /// client starts to [record](Client::observe).
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

    /// Writes the recorded tasks and the pages of the dashboard to one HTML file, which needs no server. An
    /// existing file is replaced.
    ///
    /// The report contains what the client has recorded, so call [`observe`](Client::observe) before submitting
    /// work. Otherwise recording starts with this call, and the report is almost empty. The file contains keys,
    /// function names and error texts, but no values.
    ///
    /// This blocks while the file is written.
    ///
    /// # Errors
    ///
    /// The file can't be written, or the system has no random numbers.
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
