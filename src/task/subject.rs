//! Where a task comes from.

use std::panic::Location;

use crate::Key;

/// The line that submitted a task; `None` if the crate made it for itself.
pub(crate) type SubmittedAt = Option<&'static Location<'static>>;

/// What an error tells of a task: its key, and the line that submitted it.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) key: Key,
    pub(crate) submitted_at: SubmittedAt,
}

impl<K: Into<Key>> From<K> for Subject {
    fn from(key: K) -> Self {
        Self { key: key.into(), submitted_at: None }
    }
}
