//! The promises of the crate, one module for each part of the interface.
//!
//! Tests that need a process of their own are other programs: `lifecycle` (the global logger), `tracing` (callsites that
//! another thread may register first), `memory` and `recording` (a counting allocator), `blocking_pool` (a limit of
//! memory), `fork`, and `panic_hook`. Tests that take seconds are in `heavy`.

mod around_threads;
mod as_completed;
mod auto_traits;
mod blocked_polls;
mod blocking;
mod blocking_cycles;
mod cancel;
mod composed_errors;
mod contexts;
mod cycles;
mod dashboard;
mod deadlines;
mod depth_first;
mod derive_input;
mod ends_of_cycles;
mod errors;
mod explain;
mod fairness;
mod gather_wait;
mod graph;
mod groups;
mod hedge;
mod hosted_wakes;
mod hostile;
mod hostile_wakers;
mod idle;
mod inputs;
mod join;
mod keys;
mod limits;
mod limits_that_change;
mod map_stream;
mod nested_inputs;
mod order;
mod progress;
mod promises;
mod pure;
mod rates;
mod readme;
mod release;
mod results;
mod retries;
mod rooms;
mod scale;
mod seeded;
mod set_priority;
mod settled;
mod spawn;
mod stats;
mod statuses;
mod submit;
mod submitted_at;
mod timeline;
mod timeouts;
mod worker_futures;
