//! Where ready tasks and idle workers are found.

pub(crate) mod idle;
pub(crate) mod injector;
pub(crate) mod local;
pub(crate) mod owned_tasks;
pub(crate) mod priority_queue;
pub(crate) mod seeded;
