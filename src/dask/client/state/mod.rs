//! What the client decides.

pub(crate) mod batched_send;
pub(crate) mod future_state;
pub(crate) mod pending_fetches;
pub(crate) mod pins;
pub(crate) mod released;
pub(crate) mod sent_tasks;
pub(crate) mod task_spec;
