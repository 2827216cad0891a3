//! The public status of a task, computed from its words.

use crate::Status;
use crate::engine::task::header::{PausedFor, TaskRef};
use crate::engine::task::state::{PAUSED, RUNNING, STARTED};
use crate::engine::task::waiters::Resolution;

/// Returns the status of the task at some moment during the call.
pub(crate) fn status(task: TaskRef<'_>) -> Status {
    match task.waiters.resolution() {
        Resolution::Succeeded => return Status::Finished,
        Resolution::Failed => {
            let is_final = task.failure().is_some_and(|error| error.is_final());
            return if is_final { Status::Cancelled } else { Status::Failed };
        }
        Resolution::Pending | Resolution::Aborting => {}
    }
    if task.count.is_waiting() {
        return Status::Waiting;
    }
    let state = task.state.load();
    if state & PAUSED != 0 && state & RUNNING == 0 {
        let is_delayed = task.extras().is_some_and(|extras| extras.is_paused_for(PausedFor::Delay));
        return if is_delayed { Status::Delayed } else { Status::Ready };
    }
    if state & STARTED == 0 { Status::Ready } else { Status::Running }
}
