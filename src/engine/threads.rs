//! The client's own workers: one thread each.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use futures_lite::future::block_on;

use super::core::{Core, CoreRef};
use super::lock::Lock;
use super::worker::WorkerFuture;

#[derive(Default)]
pub(crate) struct Threads {
    wanted: AtomicUsize,
    /// Those that have not decided to leave. Changed under the lock.
    alive: AtomicUsize,
    spawned: Lock<Spawned>,
}

#[derive(Default)]
struct Spawned {
    handles: Vec<JoinHandle<()>>,
    count: usize,
}

impl Threads {
    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    pub(crate) fn wanted(&self) -> usize {
        self.wanted.load(Ordering::SeqCst)
    }

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
                    log::error!(
                        "ensue: no thread for worker {} of {wanted}: {error}",
                        threads.alive()
                    );
                    break;
                }
            }
        }
        let too_many = threads.alive() > wanted;
        drop(spawned);
        if too_many {
            core.sleepers.wake_all();
        }
    }

    /// Waits for a change of scale that has begun; none begins once the engine is closed.
    pub(crate) fn settle(&self) {
        drop(self.spawned.lock());
    }

    /// Whether the worker that asks is to leave: the others number one less from then on.
    pub(crate) fn may_leave(&self, core: &Core, out_of_work: bool) -> bool {
        let to_leave = || {
            self.alive() > self.wanted()
                || (out_of_work && core.may_leave() && self.alive() > core.exempt())
        };
        if !to_leave() {
            return false;
        }
        let _spawned = self.spawned.lock();
        if !to_leave() {
            return false;
        }
        self.alive.fetch_sub(1, Ordering::SeqCst);
        true
    }

    /// Waits for the threads that have decided to leave; they're at their last instructions.
    pub(crate) fn join(&self, all: bool) {
        let handles = std::mem::take(&mut self.spawned.lock().handles);
        for handle in handles {
            if handle.thread().id() != thread::current().id() && (all || handle.is_finished()) {
                // A worker doesn't panic; if one did, the panic was reported when it happened.
                let _ = handle.join();
            }
        }
    }
}
