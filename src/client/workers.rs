//! The workers of a client: their number, workers as futures, and the end of their work.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::Client;
use crate::engine::worker::{WorkerFuture, threads};

impl Client {
    /// Changes the number of the client's own worker threads while tasks run.
    ///
    /// Surplus workers exit after their current task. Doesn't block; no task is lost. On a closed or a seeded client
    /// it has no effect.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread. The client goes on with the [`workers`](Client::workers) that it has; if that is
    /// none, tasks wait until this is called again or a [`worker`](Client::worker) is polled.
    pub fn scale(&self, workers: usize) -> io::Result<()> {
        if self.core.seeded.is_some() {
            return Ok(());
        }
        threads::scale(&self.core, workers)
    }

    /// Returns the number of workers: the client's own threads, and the [`worker`](Client::worker) futures that have
    /// been polled and not dropped.
    pub fn workers(&self) -> usize {
        self.core.hosted_workers() + self.core.threads.alive()
    }

    /// Returns a worker: a future that runs tasks while it is polled.
    ///
    /// Spawn any number of them on a runtime of your own. Tasks run on the threads that poll them, and can use that
    /// runtime's I/O and timers. A worker resolves when the client is closed and no task is left to run. It doesn't
    /// keep the client alive. Dropping it between polls loses no task. From its first poll on, it counts as a worker until
    /// it's dropped: a host that neither polls nor drops it leaves tasks waiting for it, and [`close`](Client::close) waits
    /// for them. [`explain`](Client::explain) says so. One poll runs up to 64 tasks, and starts no
    /// further one after about 100 µs, so that the runtime can run other futures. If others are queued, it also ends
    /// after a task that waits for something other than tasks, since tokio has a budget of operations for each poll.
    ///
    /// If tasks become ready within a poll, further workers of this kind are woken for them at its end, or after half a
    /// millisecond by the timer thread if it takes longer: what is woken within a poll, tokio may queue where no other thread
    /// takes it before the poll ends. So other workers run the children of a task while it computes.
    ///
    /// # Panics
    ///
    /// Polling it panics if a task of the same client does it, on a thread that polls another of its workers: tasks that
    /// run each other so would grow the stack without end. Polled by a task of another client it's a worker as elsewhere.
    ///
    /// ```
    /// use ensue::Client;
    ///
    /// let client = Client::builder().workers(0).build();
    /// let x = client.submit(async || 42, ());
    /// let x = futures_lite::future::block_on(futures_lite::future::or(
    ///     async { x.await },
    ///     async { client.worker().await; unreachable!() },
    /// ));
    /// assert_eq!(x.unwrap(), 42);
    /// ```
    pub fn worker(&self) -> Worker {
        Worker(WorkerFuture::new(self.core.clone(), false))
    }

    /// Returns a future that resolves when no task is waiting to run or running. It also resolves if that was so at some
    /// moment since its first poll, though further tasks were submitted after that.
    ///
    /// Tasks that await this future or [`close`](Client::close) don't count, nor do tasks whose blocking work waits
    /// for it, except on a seeded client. A task that waits for such a task counts, so the two wait for each other
    /// forever. Without workers it resolves only if there are no tasks.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// let client = ensue::Client::new();
    /// let x = client.submit(async || 1u64, ());
    /// client.idle().await;
    /// assert!(x.is_finished());
    /// # });
    /// ```
    pub fn idle(&self) -> impl Future<Output = ()> + Send + use<> {
        self.core.clone().idle()
    }

    /// Closes the client: lets tasks that have started finish, cancels the rest with the error
    /// [`Closed`](crate::ErrorKind::Closed), and resolves when the client's own workers and its threads for blocking work
    /// have exited. A task that waits for inputs is cancelled when these have ended. Closing waits for blocking functions
    /// also if their tasks were cancelled, as they can't be stopped.
    ///
    /// Closing begins with the first poll, and dropping the future doesn't undo it. It may be called again, also
    /// concurrently. A task of the client may await it, or block on it in blocking work: that task and its worker or
    /// thread are not waited for, and another thread takes the place of such a thread. But a task that waits for a task
    /// that awaits this is waited for, so the two wait for each other forever. If no worker is left to run them, started
    /// tasks are cancelled too.
    ///
    /// A task that never ends makes it wait forever, and so does a started task that only a [`worker`](Client::worker)
    /// can run which is neither polled nor dropped. To bound the wait, drop the future after a timeout, and then
    /// drop the client, which drops the tasks that still run. Only the destructors of thread locals of its threads can't be
    /// bounded: the last poll blocks until these are over.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use std::time::Duration;
    /// use ensue::{Client, ErrorKind, Status};
    /// use futures_lite::FutureExt;
    ///
    /// let client = Client::new();
    /// let endless = client.spawn(std::future::pending::<()>());
    /// # while endless.status() != Status::Running { ensue::sleep(Duration::from_millis(1)).await }
    /// client.close().or(ensue::sleep(Duration::from_millis(20))).await;
    /// assert_eq!(endless.status(), Status::Running);
    /// drop(client);
    /// assert_eq!(endless.await.unwrap_err().kind(), ErrorKind::Closed);
    /// # });
    /// ```
    pub fn close(&self) -> impl Future<Output = ()> + Send + use<> {
        self.core.clone().close()
    }
}

/// A future that runs a client's tasks on the thread that polls it; made by [`Client::worker`].
#[must_use = "a worker does nothing unless it is polled: spawn it on a runtime"]
pub struct Worker(WorkerFuture);

impl Future for Worker {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_hosted(cx)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}
