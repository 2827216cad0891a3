//! Parallel computations inside a task, which borrow from its stack: joins, and loops made of them.

pub(crate) mod join;
pub(crate) mod map_reduce;
