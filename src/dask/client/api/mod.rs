//! The client type and its verbs.

pub(crate) mod batched_calls;
pub(crate) mod client;
pub(crate) mod options;
pub(crate) mod python;
pub(crate) mod remote_task;
pub(crate) mod submit;
