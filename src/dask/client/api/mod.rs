//! The public interface: the client, its submit methods, and the tasks that its handles stand for.
//!
//! Modules import each other in this order:
//!
//! | module | |
//! |---|---|
//! | [`client`] | `Client`, and `Connect`, which creates one |
//! | [`options`] | the options of one task; all submit methods of the client use them |
//! | [`session`] | what the clones of a client share; turns submissions into tasks of the local engine |
//! | [`prepared`] | a submission that is valid, until its inputs are located and it's sent |
//! | [`remote_task`] | a task on the cluster, as the local engine sees it |
//! | [`batched_calls`] | many calls of a `map` in one task |
//! | [`python`] | the arguments of Python functions |
//! | [`error`] | `ConnectError` |

pub(crate) mod batched_calls;
pub(crate) mod client;
pub(crate) mod error;
pub(crate) mod options;
pub(crate) mod prepared;
pub(crate) mod python;
pub(crate) mod remote_task;
pub(crate) mod session;
