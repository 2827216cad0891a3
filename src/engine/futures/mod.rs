//! The futures that user code awaits: tasks, completion queues, time, limits, idleness and shutdown of an engine.

pub(crate) mod acquire;
pub(crate) mod completion;
pub(crate) mod shutdown;
pub(crate) mod sleep;
pub(crate) mod wait;
