//! What a task passes on to the tasks that it submits. The engine keeps it, and knows nothing of its contents.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::engine::task::header::TaskRef;

pub(crate) type Inherited = Arc<dyn Inherit>;

pub(crate) trait Inherit: Send + Sync {
    /// A task that has inherited this begins: it was submitted, or is retried. No other thread can run or end it before this
    /// returns; it may be aborted here.
    fn begun(self: Arc<Self>, task: TaskRef<'_>);

    /// So that the room that made it finds its own type again.
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// A group of tasks, as it's shown of a task that awaits its end.
pub(crate) struct AwaitedGroup {
    pub(crate) name: Arc<str>,
    /// The number of its tasks that have not ended.
    pub(crate) len: AtomicUsize,
}
