//! Cancelling and retrying tasks by number, for the dashboard.

use crate::engine::core::Core;
use crate::engine::life::{finish, retry};

/// Cancels a task like [`Handle::cancel`](crate::Handle::cancel). Returns false if it has ended or isn't in memory.
pub(crate) fn cancel(core: &Core, number: u64) -> bool {
    core.observer
        .watched
        .get(number)
        .is_some_and(|task| finish::cancel(task.as_ref(), String::new()))
}

/// Runs a failed task again like [`Handle::retry`](crate::Handle::retry). Returns false if it can't be retried, or has no
/// handle and no dependent any more.
pub(crate) fn retry(core: &Core, number: u64) -> bool {
    let task = core.observer.watched.get(number);
    let user = task.and_then(|task| task.as_ref().try_to_interest());
    user.is_some_and(|user| retry::retry(user.task()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, Status};

    #[test]
    fn a_task_is_cancelled_or_retried_by_its_number_while_it_is_in_memory() {
        let client = Client::builder().seed(1).observe().build();
        let core = client.core();
        let number = |key: crate::Key| key.rsplit_once('-').unwrap().1.parse().unwrap();
        let forever = client.spawn(std::future::pending::<()>());
        let bad = client.try_submit(async || Err::<(), _>("bad"), ());
        bad.result().unwrap_err();
        assert!(!cancel(core, number(bad.key())));
        assert!(retry(core, number(bad.key())));
        assert_eq!(bad.status(), Status::Ready);
        assert!(cancel(core, number(forever.key())) && !cancel(core, number(forever.key())));
        assert!(forever.result().unwrap_err().is_cancelled());
        assert!(!retry(core, number(forever.key())));
        let gone = number(forever.key());
        drop(forever);
        assert!(!cancel(core, gone) && !retry(core, gone) && !cancel(core, 0));
    }
}
