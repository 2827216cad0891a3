//! What user code awaits: tasks, completion queues, time, limits, the end of an engine.

pub(crate) mod acquire;
pub(crate) mod completion;
pub(crate) mod shutdown;
pub(crate) mod sleep;
pub(crate) mod wait;
