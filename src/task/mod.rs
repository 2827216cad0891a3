//! The data types that describe a task. They don't depend on the engine.

pub(crate) mod error;
pub(crate) mod function;
pub(crate) mod key;
pub(crate) mod panic_place;
pub(crate) mod per_worker;
pub(crate) mod rate;
pub(crate) mod retry;
pub(crate) mod seal;
pub(crate) mod status;
pub(crate) mod subject;
pub(crate) mod thread_wait;
