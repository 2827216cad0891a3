//! Diagnostics of a client. The engine knows only the [`Observer`](crate::engine::watch::observer::Observer) trait, which is
//! implemented in this folder.
//!
//! | folder | contents | imports |
//! |---|---|---|
//! | `record` | what is remembered of tasks, and the observer that writes it down | the engine |
//! | `views` | snapshots and streams as plain data: stats, graph, timeline, explanations, events | `record` |
//! | `export` | other formats of them: DOT, SVG, metrics, the dashboard's updates | `views`, `record` |
//!
//! Imports point down that table only. `act`, which changes tasks instead of looking at them, imports the engine
//! alone. No file knows the client, whose methods are in `client::observe`.

// Several views are used by the dashboard only.
#![cfg_attr(not(feature = "dashboard"), allow(dead_code))]

#[cfg(feature = "dashboard")]
pub(crate) mod act;
mod export;
mod record;
mod views;

#[cfg(feature = "metrics")]
pub(crate) use export::metrics;
#[cfg(feature = "dashboard")]
pub(crate) use export::update;
pub(crate) use record::recorder;
#[cfg(feature = "tracing")]
pub(crate) use record::spans;
#[cfg(feature = "dashboard")]
pub(crate) use record::task_record;
#[cfg(feature = "progress")]
pub(crate) use views::bars;
pub(crate) use views::{events, explain, function_progress, graph, reason, stall, stats, timeline};
