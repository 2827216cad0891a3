//! The stream between a worker and its scheduler: orders in, reports out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Timer;

use super::core::Core;
use super::error::Kind;
use crate::dask::net::{NetError, Reader, Writer};
use crate::dask::wire::unpack;
use crate::dask::wire::worker::order::Order;

/// Messages follow each other no faster than this: the scheduler spends more on a message than on one more
/// report in it.
const PACE: Duration = Duration::from_millis(2);
/// How long the scheduler may take no byte. It may be busy with a large graph.
const PATIENCE: Duration = Duration::from_secs(300);

/// Takes orders until the scheduler goes, or says nonsense.
pub(super) async fn listen(core: Arc<Core>, mut reader: Reader) {
    let gone = |cause| Kind::Gone { scheduler: core.me.scheduler.clone(), cause };
    loop {
        let frames = match reader.receive().await {
            Ok(Some(frames)) => frames,
            Ok(None) => return core.finish(Err(gone(None).into())),
            Err(error) => return core.finish(Err(gone(Some(error)).into())),
        };
        let orders = unpack::operations(&frames, Order::read);
        drop(frames);
        match orders {
            Ok(orders) => core.obey(orders),
            Err(source) => {
                let address = core.me.scheduler.clone();
                return core.finish(Err(NetError::Wire { address, source }.into()));
            }
        }
    }
}

/// Sends reports until the scheduler takes no more.
pub(super) async fn report(core: Arc<Core>, mut writer: Writer) {
    let mut last = None;
    loop {
        let listener = core.outgoing.listen();
        if core.lock().outbox.is_empty() {
            listener.await;
            continue;
        }
        if let Some(next) = last.map(|last| last + PACE).filter(|next| *next > Instant::now()) {
            Timer::at(next).await;
        }
        let batch = std::mem::take(&mut core.lock().outbox);
        if let Err(error) = writer.send_within(batch.finish(), PATIENCE).await {
            // Mostly the reader says it better.
            Timer::after(Duration::from_millis(100)).await;
            let scheduler = core.me.scheduler.clone();
            return core.finish(Err(Kind::Gone { scheduler, cause: Some(error) }.into()));
        }
        last = Some(Instant::now());
    }
}

/// Wakes the state when it wants that.
pub(super) async fn wake(core: Arc<Core>) {
    loop {
        let changed = core.due.listen();
        let due = core.lock().state.due();
        match due {
            None => changed.await,
            Some(due) => {
                let late = async {
                    Timer::at(due).await;
                };
                futures_lite::future::or(late, changed).await;
            }
        }
        core.with(|inner| inner.state.wake(Instant::now()));
    }
}
