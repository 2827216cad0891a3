//! Keeping memory free: results go to files, and if that isn't enough, nothing begins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::future::or;

use super::core::{Core, Inner};
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
                });
                Some(value)
            }
            Err(error) => {
                log::error!("{}: `{key}` can't be read back: {error}", self.me.address);
                None
            }
        }
    }

    /// How much too much is in memory, in bytes, and whether it's so much that nothing may begin.
    fn pressure(&self, inner: &Inner) -> (u64, bool) {
        let managed = inner.store.sizes().memory;
        let process = self.member.share(self.samples.last().memory, managed);
        // Where nothing is held and nothing runs, what the process takes can't become less by waiting.
        let is_ours = managed > 0 || inner.state.counts().executing > 0;
        let used = if is_ours { managed.max(process) } else { managed };
        let excess = if used > self.limits.spill { used - self.limits.spill_to } else { 0 };
        (excess.min(managed), used > self.limits.pause)
    }
}

/// Watches memory until it's dropped.
pub(super) async fn watch(core: Arc<Core>) {
    let mut respite: Option<Instant> = None;
    let mut was_full = false;
    let mut has_failed = false;
    loop {
        let crowded = core.crowded.listen();
        let timer = async {
            Timer::after(LOOK).await;
        };
        or(timer, crowded).await;
        let may_write = respite.is_none_or(|until| until <= Instant::now());
        let (excess, _) = core.pressure(&core.lock());
        if excess > 0 && may_write {
            match spill(&core, excess).await {
                Ok(()) => (respite, has_failed) = (None, false),
                Err(error) => {
                    if !has_failed {
                        let folder = core.directory.path().display();
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
            let (_, is_full) = core.pressure(inner);
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

/// Writes as much to files as is too much, beginning with what hasn't been used for longest.
async fn spill(core: &Arc<Core>, excess: u64) -> std::io::Result<()> {
    let victims = core.lock().store.victims(excess);
    for victim in victims {
        let (writer, value) = (core.clone(), victim.value);
        let file = blocking::unblock(move || writer.directory.write(&value)).await?;
        core.with(|inner| {
            let before = inner.store.spilled(&victim.key, victim.since, Arc::new(file));
            inner.discard(Some(before));
        });
    }
    Ok(())
}
