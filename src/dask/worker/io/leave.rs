//! Graceful shutdown: the scheduler moves the results to other workers before this one ends.

use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use async_io::Timer;
use futures_lite::future::or;

use super::core::WorkerCore;
use crate::dask::wire::call::{self, CallError};
use crate::dask::wire::worker::report;
use crate::dask::worker::error::WorkerError;

/// The time for everything but the last message.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The number of times that the scheduler is asked if it fails to retire the worker, and the pause between them.
const MAX_ATTEMPTS: u32 = 10;
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The time in which the scheduler must ask the worker to close after it has retired it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The time to send the last message in.
const LAST_MESSAGE: Duration = Duration::from_millis(200);

/// Has the scheduler retire this worker, and waits until it may close. Results that no other worker can take are
/// lost, and so are tasks that still run after the timeout; the scheduler has both computed again.
pub(crate) async fn leave(
    core: &Arc<WorkerCore>,
    end: &Receiver<Result<(), WorkerError>>,
) -> Result<(), WorkerError> {
    let me = &core.identity;
    let retire = async {
        for attempt in 1.. {
            let message = call::retire_workers(&[&me.address]);
            let answer = core.pool.call(&me.scheduler, message, TIMEOUT).await;
            let error = match answer.map(call::map_reply) {
                Ok(Ok(retired)) if retired.0.is_empty() => {
                    log::warn!("{}: no other worker could take all results", me.address);
                    break;
                }
                Ok(Ok(_)) => {
                    Timer::after(CLOSE_TIMEOUT).await;
                    break;
                }
                // For example, the worker that was to take the results has just left as well.
                Ok(Err(CallError::Failed(_))) if attempt < MAX_ATTEMPTS => {
                    Timer::after(RETRY_PAUSE).await;
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            log::warn!("{}: closing without being retired: {error}", me.address);
            break;
        }
        None
    };
    let late = async {
        Timer::after(TIMEOUT).await;
        log::warn!("{}: closing without being retired: no answer for {TIMEOUT:?}", me.address);
        None
    };
    // Normally the scheduler asks the worker to close, and the other two futures are dropped.
    let closed = async { end.recv().await.ok() };
    if let Some(result) = or(closed, or(retire, late)).await {
        return result;
    }
    // The scheduler learns at once that the worker has left, not only by its silence.
    core.update(|inner| report::close(&mut inner.batched_send));
    Timer::after(LAST_MESSAGE).await;
    Ok(())
}
