//! The queues of ready tasks, the table of started tasks, and the list of idle workers.

pub(crate) mod idle;
pub(crate) mod injector;
pub(crate) mod local;
pub(crate) mod owned_tasks;
pub(crate) mod priority_queue;
pub(crate) mod seeded;
pub(crate) mod shared;
