//! Starting and stopping of the client's own workers, each on a thread of its own.

use std::io;
use std::sync::atomic::Ordering;

use crate::engine::base::block_on::block_on_among;
use crate::engine::core::CoreRef;
use crate::engine::worker::WorkerFuture;

/// Starts workers, or lets surplus ones exit after their current task. Doesn't block; no task is lost.
///
/// # Errors
///
/// If the system refuses a thread. There are fewer workers than wanted then.
pub(crate) fn scale(core: &CoreRef, wanted: usize) -> io::Result<()> {
    let threads = &core.threads;
    let mut spawned = threads.spawned.lock();
    if core.is_closed() {
        return Ok(());
    }
    threads.wanted.store(wanted, Ordering::SeqCst);
    threads.lookers.set_threads(wanted);
    // Handles of surplus workers that exited since the last call would accumulate.
    spawned.handles.retain(|handle| !handle.is_finished());
    while threads.alive() < wanted {
        let worker = WorkerFuture::new(core.clone(), true);
        let name = format!("{}-{}", core.name, spawned.count);
        let lookers = threads.lookers.clone();
        // Before the thread starts, because the worker compares this count with the wanted one to decide whether to exit.
        threads.alive.fetch_add(1, Ordering::SeqCst);
        match threads.options.spawn(&name, move || block_on_among(&lookers, worker)) {
            Ok(handle) => {
                spawned.handles.push(handle);
                spawned.count += 1;
            }
            Err(error) => {
                let started = threads.alive.fetch_sub(1, Ordering::SeqCst) - 1;
                let text = format!(
                    "the system refused the thread of worker {} of {wanted}: {error}",
                    started + 1
                );
                return Err(io::Error::new(error.kind(), text));
            }
        }
    }
    let too_many = threads.alive() > wanted;
    // Before the wakes: a worker that exits takes this lock.
    drop(spawned);
    if too_many {
        core.wake_all_workers();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use futures_lite::future::block_on;

    use super::*;
    use crate::Client;

    #[test]
    fn a_thread_that_unwinds_is_no_longer_counted_and_leaves_its_tasks() {
        let client = Client::builder().workers(0).build();
        let core = client.core();
        let task = client.submit(async || 5, ());
        {
            // As `scale` does, but the thread is this one, and ends in the middle.
            core.threads.wanted.store(1, Ordering::SeqCst);
            core.threads.alive.fetch_add(1, Ordering::SeqCst);
            let mut worker = pin!(WorkerFuture::new(core.clone(), true));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(worker.as_mut().poll(&mut cx).is_pending());
            assert_eq!((client.workers(), task.is_finished()), (1, true));
        }
        assert_eq!(client.workers(), 0);
        let left = client.submit(async || 6, ());
        scale(core, 1).unwrap();
        assert_eq!((client.workers(), left.result().unwrap()), (1, 6));
        block_on(client.close());
        assert_eq!(client.workers(), 0);
    }
}
