//! The engine of one client: its tables and queues, the references to it, and what each thread is doing for it.

pub(crate) mod context;
mod engine;
pub(crate) mod engine_refs;
pub(crate) mod shutdown_state;
pub(crate) mod threads;

pub(crate) use engine::{Core, CoreRef};
