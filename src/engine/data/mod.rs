//! Tables that many tasks share: keys, limits and rates, the order of those that wait, timers, completion queues, lists of wakers,
//! free memory.

pub(crate) mod bucket;
pub(crate) mod cell_pool;
pub(crate) mod clock;
pub(crate) mod completion_queue;
pub(crate) mod limit_pass;
pub(crate) mod limit_queues;
pub(crate) mod limit_table;
pub(crate) mod limits;
pub(crate) mod store;
pub(crate) mod turns;
pub(crate) mod waker_list;
