//! The memory monitor: spills results to files and, if that isn't enough, pauses the worker.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::future::or;

use super::core::WorkerCore;
use crate::dask::wire::WireKey;
use crate::dask::wire::serialized::Serialized;
use crate::dask::worker::memory::{StoredValue, Unmanaged};

/// The interval between checks that no event has caused.
const INTERVAL: Duration = Duration::from_millis(200);
/// No file is written for this time after one couldn't be, for example because the disk is full.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

impl WorkerCore {
    /// Returns a stored result, reading its file if it has one. Returns `None` if the file can't be read.
    pub(super) async fn load(
        self: &Arc<Self>,
        key: &WireKey,
        value: StoredValue,
    ) -> Option<Serialized> {
        let StoredValue::Disk(file) = value else { return value.load().await.ok() };
        match StoredValue::Disk(file.clone()).load().await {
            Ok(value) => {
                let kept = value.clone();
                self.update(|inner| {
                    // It's kept in memory only if that doesn't cause it to be spilled again.
                    let sizes = inner.store.sizes();
                    if sizes.memory + kept.nbytes() <= self.limits.spill_to && !inner.is_pressed {
                        let before = inner.store.unspill(key, &file, kept);
                        inner.discard(before);
                    }
                    // The last reference removes the file, which may be slow.
                    inner.discard(Some(StoredValue::Disk(file)));
                });
                Some(value)
            }
            Err(error) => {
                log::error!("{}: can't read `{key}` back: {error}", self.identity.address);
                None
            }
        }
    }
}

/// Monitors memory until this is dropped.
pub(crate) async fn run(core: Arc<WorkerCore>) {
    let mut next_write: Option<Instant> = None;
    let mut was_full = false;
    let mut has_failed = false;
    let mut unmanaged = Unmanaged::default();
    loop {
        let exceeded = core.memory_exceeded.listen();
        let timer = async {
            Timer::after(INTERVAL).await;
        };
        or(timer, exceeded).await;
        let may_write = next_write.is_none_or(|at| at <= Instant::now());
        let managed = core.lock().store.sizes().memory;
        let sample = core.samples.last();
        let process = core.process_share.share(sample.memory, managed);
        unmanaged.measure(process, managed, sample.is_idle);
        let (excess, _) = unmanaged.pressure(managed, &core.limits);
        if excess > 0 && may_write {
            match spill(&core, excess).await {
                Ok(true) => (next_write, has_failed) = (None, false),
                // All results in memory are too small to spill.
                Ok(false) => next_write = Some(Instant::now() + INTERVAL),
                Err(error) => {
                    if !has_failed {
                        let directory = core.spill_directory.within().display();
                        log::error!(
                            "{}: can't spill results to {directory}, so they stay in memory: {error}",
                            core.identity.address
                        );
                    }
                    (next_write, has_failed) = (Some(Instant::now() + RETRY_PAUSE), true);
                }
            }
        }
        let is_full = core.update(|inner| {
            let (_, is_full) = unmanaged.pressure(inner.store.sizes().memory, &core.limits);
            inner.is_pressed = is_full;
            // The scheduler is notified only of a state that lasts for two checks: it moves tasks because of it.
            if is_full == was_full {
                inner.state.set_paused(is_full);
            }
            is_full
        });
        was_full = is_full;
        if excess > 0 && !may_write {
            // Each new result notifies `memory_exceeded`, and none of them can be spilled now.
            Timer::after(INTERVAL).await;
        }
    }
}

/// Spills the least recently used results, up to this number of bytes. Returns whether there was one to spill.
async fn spill(core: &Arc<WorkerCore>, excess: u64) -> io::Result<bool> {
    let victims = core.lock().store.victims(excess);
    let has_victims = !victims.is_empty();
    for victim in victims {
        let (writer, value) = (core.clone(), victim.value);
        let file = blocking::unblock(move || writer.spill_directory.write(&value)).await?;
        core.update(|inner| {
            let before = inner.store.spilled(&victim.key, victim.since, Arc::new(file));
            inner.discard(Some(before));
        });
    }
    Ok(has_victims)
}
