//! Keeping memory free: results go to files, and if that isn't enough, nothing begins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::future::or;

use super::core::{Core, Limits};
use super::store::Value;
use crate::dask::wire::WireKey;
use crate::dask::wire::serialized::Serialized;

/// How often it's looked at without a reason.
const LOOK: Duration = Duration::from_millis(200);
/// After a file couldn't be written, for example since the disk is full, none is tried for so long.
const RESPITE: Duration = Duration::from_secs(10);

impl Core {
    /// The value of a key, from its file if it's there. None if that can't be read.
    pub(super) async fn load(self: &Arc<Self>, key: &WireKey, value: Value) -> Option<Serialized> {
        let Value::Disk(file) = value else { return value.load().await.ok() };
        match Value::Disk(file.clone()).load().await {
            Ok(value) => {
                let kept = value.clone();
                self.with(|inner| {
                    let sizes = inner.store.sizes();
                    if sizes.memory + kept.nbytes() <= self.limits.spill_to && !inner.is_pressed {
                        let before = inner.store.unspill(key, &file, kept);
                        inner.discard(before);
                    }
                    // If this is the last to know of the file, it goes with it.
                    inner.discard(Some(Value::Disk(file)));
                });
                Some(value)
            }
            Err(error) => {
                log::error!("{}: `{key}` can't be read back: {error}", self.me.address);
                None
            }
        }
    }
}

/// What the process takes besides results.
#[derive(Clone, Copy, Debug, Default)]
struct Unmanaged {
    now: u64,
    /// As much of it was there when no task ran: the program itself, and memory that the allocator keeps for
    /// what comes. Waiting, and writing files, makes none of it free, so it counts for nothing.
    idle: u64,
}

impl Unmanaged {
    fn measure(&mut self, process: u64, managed: u64, is_idle: bool) {
        self.now = process.saturating_sub(managed);
        self.idle = if is_idle { self.now } else { self.idle.min(self.now) };
    }

    /// How much too much is in memory, in bytes, and whether it's so much that nothing may begin.
    fn pressure(self, managed: u64, limits: &Limits) -> (u64, bool) {
        let used = managed + (self.now - self.idle);
        let excess = if used > limits.spill { used - limits.spill_to } else { 0 };
        (excess.min(managed), used > limits.pause)
    }
}

/// Watches memory until it's dropped.
pub(super) async fn watch(core: Arc<Core>) {
    let mut respite: Option<Instant> = None;
    let mut was_full = false;
    let mut has_failed = false;
    let mut unmanaged = Unmanaged::default();
    loop {
        let crowded = core.crowded.listen();
        let timer = async {
            Timer::after(LOOK).await;
        };
        or(timer, crowded).await;
        let may_write = respite.is_none_or(|until| until <= Instant::now());
        let managed = core.lock().store.sizes().memory;
        let sample = core.samples.last();
        let process = core.member.share(sample.memory, managed);
        unmanaged.measure(process, managed, sample.is_idle);
        let (excess, _) = unmanaged.pressure(managed, &core.limits);
        if excess > 0 && may_write {
            match spill(&core, excess).await {
                Ok(true) => (respite, has_failed) = (None, false),
                // What is left is too small, or nothing.
                Ok(false) => respite = Some(Instant::now() + LOOK),
                Err(error) => {
                    if !has_failed {
                        let folder = core.directory.within().display();
                        log::error!(
                            "{}: results stay in memory, since they can't be written to {folder}: {error}",
                            core.me.address
                        );
                    }
                    (respite, has_failed) = (Some(Instant::now() + RESPITE), true);
                }
            }
        }
        let is_full = core.with(|inner| {
            let (_, is_full) = unmanaged.pressure(inner.store.sizes().memory, &core.limits);
            inner.is_pressed = is_full;
            // The scheduler learns of it if it lasts.
            if is_full == was_full {
                inner.state.pause(is_full);
            }
            is_full
        });
        was_full = is_full;
        if excess > 0 && !may_write {
            // There's no use in being told again and again.
            Timer::after(LOOK).await;
        }
    }
}

/// Writes as much to files as is too much, beginning with what hasn't been used for longest. Says whether there
/// was anything to write.
async fn spill(core: &Arc<Core>, excess: u64) -> std::io::Result<bool> {
    let victims = core.lock().store.victims(excess);
    let has_victims = !victims.is_empty();
    for victim in victims {
        let (writer, value) = (core.clone(), victim.value);
        let file = blocking::unblock(move || writer.directory.write(&value)).await?;
        core.with(|inner| {
            let before = inner.store.spilled(&victim.key, victim.since, Arc::new(file));
            inner.discard(Some(before));
        });
    }
    Ok(has_victims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_without_tasks_counts_for_nothing() {
        let limits = Limits::of(1000);
        let mut unmanaged = Unmanaged::default();
        unmanaged.measure(5000, 0, true);
        assert_eq!(unmanaged.pressure(600, &limits), (0, false));
        unmanaged.measure(5300, 0, false);
        assert_eq!(unmanaged.pressure(0, &limits), (0, false));
        assert_eq!(unmanaged.pressure(410, &limits), (110, false));
        unmanaged.measure(5800, 300, false);
        assert_eq!(unmanaged.pressure(300, &limits), (200, false));
        unmanaged.measure(6000, 100, false);
        assert_eq!(unmanaged.pressure(100, &limits), (100, true));
        // It has given memory back, and takes it again.
        unmanaged.measure(100, 100, false);
        unmanaged.measure(950, 100, false);
        assert_eq!(unmanaged.pressure(100, &limits), (100, true));
    }

    #[test]
    fn results_alone_can_be_too_much() {
        let limits = Limits::of(1000);
        let unmanaged = Unmanaged::default();
        assert_eq!(unmanaged.pressure(700, &limits), (0, false));
        assert_eq!(unmanaged.pressure(701, &limits), (101, false));
        assert_eq!(unmanaged.pressure(801, &limits), (201, true));
    }
}
