//! The thread that drives connections.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use async_executor::{Executor, Task};

/// How long dropping waits for what ran there to be dropped, so that files and sockets are closed then. More
/// isn't waited for: what is dropped may wait for who drops.
const FAREWELL: Duration = Duration::from_secs(1);

/// A thread that drives futures. When the last clone is dropped, so is all that runs there, and the thread
/// ends.
#[derive(Clone, Debug)]
pub(crate) struct Io {
    thread: Arc<Thread>,
}

#[derive(Debug)]
struct Thread {
    executor: Option<Arc<Executor<'static>>>,
    id: ThreadId,
    /// The thread ends when this closes.
    stop: Option<async_channel::Sender<()>>,
    /// Closes when the thread has dropped everything.
    stopped: Mutex<mpsc::Receiver<()>>,
}

impl Io {
    /// Starts the thread, which is called this.
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

    /// Runs a future there. Dropping the task drops the future; a panic is the task's.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        match &self.thread.executor {
            Some(executor) => executor.spawn(future),
            None => unreachable!("only dropping takes it"),
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // The thread has the other reference, and drops what runs there.
        self.executor = None;
        self.stop = None;
        if thread::current().id() != self.id {
            let stopped = self.stopped.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = stopped.recv_timeout(FAREWELL);
        }
    }
}
