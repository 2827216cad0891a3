//! The client's decisions: which operations are sent when, and what the scheduler's messages change.
//!
//! This room has no sockets and no threads, and is given the time. It's data behind the lock of
//! [`io`](super::io), which acts on it; nothing in it imports from `io` or `api`. Futures have a lock and an event of
//! their own, so that waiters don't contend for the client's lock.
//!
//! # A future on the cluster
//!
//! [`FutureState`](future_state::FutureState) has these states:
//!
//! | state | status | meaning |
//! |---|---|---|
//! | pending | `Pending` | submitted; the scheduler has yet to run it |
//! | finished | `Finished` | a worker has the result |
//! | unavailable | `Finished`, `is_unavailable` | the result was in memory and is lost; it's computed again |
//! | erred | `Failed(Erred)` | the task, or one that it depends on, failed |
//! | retrying | `Pending`, `is_retrying` | the client asked the scheduler to run it again |
//! | final | `Failed(Cancelled, Lost or Closed)` | there will never be a result |
//!
//! and these transitions:
//!
//! | from | on | to |
//! |---|---|---|
//! | any but final | `key-in-memory` | finished, of the next version |
//! | pending, finished, unavailable | `task-erred` | erred |
//! | retrying | `task-erred` | retrying: it's the error of the previous attempt |
//! | finished | `lost-data`, or a fetch finds no holder | unavailable |
//! | erred | [`retry`](future_state::FutureState::retry) | retrying |
//! | erred, retrying | `task-retried` | pending |
//! | any but final | `cancelled-keys`, `restart`, the end of the connection, or `close` | final |
//!
//! A waiter for the *end* is notified of the first finished, erred or final state. A waiter for the *result* waits in
//! the unavailable state, too.
//!
//! # A key
//!
//! | the key is | in | messages about it |
//! |---|---|---|
//! | unsent | [`BatchedSend`](batched_send::BatchedSend) | none |
//! | sent | [`SentTasks`](sent_tasks::SentTasks), until the first message | may refuse it: it's sent again, or fails |
//! | held | [`ClientState`](client_state::ClientState) | change the future |
//! | released | [`ReleasedKeys`](released::ReleasedKeys), until the scheduler answers a probe | are stale, and ignored |

pub(crate) mod batched_send;
pub(crate) mod client_state;
pub(crate) mod future_state;
pub(crate) mod pending_fetches;
pub(crate) mod pins;
pub(crate) mod released;
pub(crate) mod sent_tasks;
pub(crate) mod task_spec;
