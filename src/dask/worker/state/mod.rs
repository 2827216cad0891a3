//! The worker's state machine, without sockets, threads or a clock. The scheduler's messages and local events are
//! its input; [`Instruction`]s are its output. The counterpart of Dask's `worker_state_machine`.
//!
//! # States of a key
//!
//! The names are Dask's. A key in none of these states is forgotten.
//!
//! | State       | Meaning                                                        | Next states |
//! |-------------|----------------------------------------------------------------|-------------|
//! | `waiting`   | ordered; inputs are missing, or an earlier attempt still runs  | `ready` when the last of these has come; forgotten when freed or stolen |
//! | `ready`     | ordered; a thread or a resource is missing                     | `executing`; `waiting` if an input is lost; forgotten when freed or stolen |
//! | `executing` | an attempt occupies a thread                                   | `memory` on success; forgotten on failure; `cancelled` when freed; `waiting` if an input can't be read |
//! | `cancelled` | an attempt occupies a thread, but its outcome isn't wanted     | forgotten when the attempt has exited; `waiting` beside it if the key is ordered again |
//! | `memory`    | the result is stored, in memory or in a file                   | forgotten when freed; `fetch` if a task here still takes it |
//! | `fetch`     | the result is wanted from another worker                       | `flight`; `missing` when no holder is left |
//! | `flight`    | a request for the result is under way                          | `memory`; `fetch` if the peer is busy or fails; `missing` if it doesn't have the result |
//! | `missing`   | no known worker has the result; the scheduler is asked         | `fetch` when the scheduler names a holder |
//!
//! An attempt ends twice: its outcome becomes known ([`WorkerState::attempt_finished`]), and it stops occupying its
//! thread ([`WorkerState::attempt_exited`]). Between the two it's `cancelled`, also after success: a blocking function
//! that was timed out still runs. A key that is ordered again in that state starts only after the first attempt has
//! exited, so no key runs twice at the same time, and nothing is reported of the first attempt.
//!
//! # Files
//!
//! [`machine`] has the transitions, [`stimuli`] maps the scheduler's messages to them, [`ready`] is the queue of tasks
//! that can start, [`gather`] decides which results to request from which workers.

mod gather;
mod instruction;
mod machine;
mod ready;
mod stimuli;
mod task;
#[cfg(test)]
mod tests;

pub(crate) use gather::{GatherDep, GatherDepOutcome};
pub(crate) use instruction::{Execute, Instruction, SchedulerMessage, TaskFailure, TaskRun};
pub(crate) use machine::WorkerState;
pub(crate) use task::ResultMeta;
