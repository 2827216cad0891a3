//! Tables that many tasks share: keys, limits, timers, completion queues, free memory.

pub(crate) mod cell_pool;
pub(crate) mod clock;
pub(crate) mod completion_queue;
pub(crate) mod limits;
pub(crate) mod store;
