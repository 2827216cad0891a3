//! The engine of one client: its tables and queues, the references to it, and the context of each thread that works
//! for it.

pub(crate) mod budget;
pub(crate) mod context;
mod engine;
pub(crate) mod engine_refs;
pub(crate) mod shutdown_state;
pub(crate) mod threads;

pub(crate) use engine::{Core, CoreRef};
