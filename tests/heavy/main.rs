//! Millions of tasks, thousands of random graphs, and threads that do everything at once.
//!
//! A debug build takes a part of the numbers, so that `cargo test` stays quick; `./tests/run` runs the optimised build
//! with all of them.

mod counts;
mod depth;
mod graphs;
mod streams;
mod stress;
