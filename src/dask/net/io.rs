//! The thread that drives connections.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use async_executor::{Executor, Task};

/// The time for which dropping an [`Io`] waits for its futures to be dropped, so that files and sockets are closed when
/// it returns. It's bounded, since one of these futures may wait for the thread that drops.
pub(super) const DROP_TIMEOUT: Duration = Duration::from_secs(1);

/// A thread that drives futures. Dropping the last clone drops the futures that run on it and ends the thread.
#[derive(Clone, Debug)]
pub(crate) struct Io {
    thread: Arc<Thread>,
}

#[derive(Debug)]
struct Thread {
    executor: Option<Arc<Executor<'static>>>,
    id: ThreadId,
    /// Closing this ends the thread.
    stop: Option<async_channel::Sender<()>>,
    /// Closes when the thread has dropped all futures.
    stopped: Mutex<mpsc::Receiver<()>>,
}

impl Io {
    /// Starts a thread of this name.
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let executor = Arc::new(Executor::new());
        let (stop, stopping) = async_channel::bounded::<()>(1);
        let (alive, stopped) = mpsc::channel();
        let driven = executor.clone();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ = async_io::block_on(driven.run(stopping.recv()));
            drop(driven);
            drop(alive);
        })?;
        let id = thread.thread().id();
        let thread =
            Thread { executor: Some(executor), id, stop: Some(stop), stopped: Mutex::new(stopped) };
        Ok(Self { thread: Arc::new(thread) })
    }

    /// Runs a future on the thread. Dropping the task drops the future. A panic is passed to the caller who awaits the
    /// task.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        match &self.thread.executor {
            Some(executor) => executor.spawn(future),
            None => unreachable!("only `drop` removes the executor"),
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // The thread has the other reference, and drops the futures on its own stack.
        self.executor = None;
        self.stop = None;
        // A future on the thread may have the last clone, and must not wait for itself.
        if thread::current().id() != self.id {
            let stopped = self.stopped.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = stopped.recv_timeout(DROP_TIMEOUT);
        }
    }
}
