//! The engine of one client: its tables and queues, the references to it, and the contexts and threads that work
//! for it.

pub(crate) mod activity;
pub(crate) mod blocking_pool;
pub(crate) mod budget;
pub(crate) mod context;
mod engine;
pub(crate) mod engine_refs;
pub(crate) mod host_poll;
pub(crate) mod shutdown_state;
pub(crate) mod threads;
pub(crate) mod virtual_timer;

pub(crate) use engine::{Core, CoreRef, CurrentPoll};
