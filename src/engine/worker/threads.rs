//! Starting and stopping the client's own workers: one thread each.

use std::sync::atomic::Ordering;
use std::thread;

use futures_lite::future::block_on;

use crate::engine::core::CoreRef;
use crate::engine::worker::WorkerFuture;

/// Starts workers, or lets some leave as soon as they have no task in hand.
///
/// Where the system refuses a thread there are fewer; the log says so.
pub(crate) fn scale(core: &CoreRef, wanted: usize) {
    let threads = &core.threads;
    let mut spawned = threads.spawned.lock();
    if core.is_closed() {
        return;
    }
    threads.wanted.store(wanted, Ordering::SeqCst);
    spawned.handles.retain(|handle| !handle.is_finished());
    while threads.alive() < wanted {
        let worker = WorkerFuture::new(core.clone(), true);
        // The system can't take a name with a NUL in it.
        let name = format!("{}-{}", core.name, spawned.count).replace('\0', "");
        // Before the worker is there to ask whether it may leave.
        threads.alive.fetch_add(1, Ordering::SeqCst);
        match thread::Builder::new().name(name).spawn(move || block_on(worker)) {
            Ok(handle) => {
                spawned.handles.push(handle);
                spawned.count += 1;
            }
            Err(error) => {
                threads.alive.fetch_sub(1, Ordering::SeqCst);
                log::error!("ensue: no thread for worker {} of {wanted}: {error}", threads.alive());
                break;
            }
        }
    }
    let too_many = threads.alive() > wanted;
    drop(spawned);
    if too_many {
        core.idle_workers.wake_all();
    }
}
