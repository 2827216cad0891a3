//! The stream between a worker and its scheduler, and the timer of the state machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Timer;

use super::core::WorkerCore;
use crate::dask::net::{NetError, Reader, Writer};
use crate::dask::wire::unpack;
use crate::dask::wire::worker::order::Order;
use crate::dask::worker::error::WorkerErrorKind;

/// The shortest interval between messages. The scheduler spends more on a message than on one more report in it.
const BATCH_INTERVAL: Duration = Duration::from_millis(2);
/// The time without a byte after which sending fails. The scheduler may be busy with a large graph.
const SEND_TIMEOUT: Duration = Duration::from_secs(300);
/// The time in which the receiving side must notice that the connection has ended, since it knows the reason.
const RECEIVER_FIRST: Duration = Duration::from_millis(100);

/// Handles scheduler messages until the stream closes or one is malformed.
pub(crate) async fn receive(core: Arc<WorkerCore>, mut reader: Reader) {
    let gone = |cause| {
        let scheduler = core.identity.scheduler.clone();
        Err(WorkerErrorKind::SchedulerGone { scheduler, cause }.into())
    };
    loop {
        let frames = match reader.receive().await {
            Ok(Some(frames)) => frames,
            Ok(None) => return core.close(gone(None)),
            Err(error) => return core.close(gone(Some(error))),
        };
        let orders = unpack::operations(&frames, Order::read);
        // The frames may be large. The orders refer only to the parts that they need.
        drop(frames);
        match orders {
            Ok(orders) => core.handle_orders(orders),
            Err(source) => {
                let address = core.identity.scheduler.clone();
                return core.close(Err(NetError::Wire { address, source }.into()));
            }
        }
    }
}

/// Sends messages to the scheduler, in batches, until sending fails.
pub(crate) async fn send(core: Arc<WorkerCore>, mut writer: Writer) {
    let mut last = None;
    loop {
        // Listening before looking, so that no notification is missed between the two.
        let listener = core.has_messages.listen();
        if core.lock().batched_send.is_empty() {
            listener.await;
            continue;
        }
        let next = last.map(|last| last + BATCH_INTERVAL);
        // Messages that are added during the pause belong to this batch.
        if let Some(next) = next.filter(|next| *next > Instant::now()) {
            Timer::at(next).await;
        }
        let batch = std::mem::take(&mut core.lock().batched_send);
        if let Err(error) = writer.send_within(batch.finish(), SEND_TIMEOUT).await {
            Timer::after(RECEIVER_FIRST).await;
            let scheduler = core.identity.scheduler.clone();
            let gone = WorkerErrorKind::SchedulerGone { scheduler, cause: Some(error) };
            return core.close(Err(gone.into()));
        }
        last = Some(Instant::now());
    }
}

/// Advances the state machine at its timeouts.
pub(crate) async fn drive_timeouts(core: Arc<WorkerCore>) {
    loop {
        // Listening before looking, as above.
        let changed = core.timeout_changed.listen();
        let timeout = core.lock().state.next_timeout();
        match timeout {
            None => changed.await,
            Some(at) => {
                let timer = async {
                    Timer::at(at).await;
                };
                futures_lite::future::or(timer, changed).await;
            }
        }
        core.update(|inner| inner.state.advance(Instant::now()));
    }
}
