//! The life of a task: creation, scheduling, pauses, end, retries, destruction.

pub(crate) mod callback;
pub(crate) mod cell;
pub(crate) mod create;
pub(crate) mod deadline;
pub(crate) mod drop_task;
pub(crate) mod finish;
pub(crate) mod pause;
pub(crate) mod priority_inheritance;
pub(crate) mod retry;
pub(crate) mod schedule;
pub(crate) mod shutdown;
pub(crate) mod status;
pub(crate) mod waiting;
pub(crate) mod waker;
