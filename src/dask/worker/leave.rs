//! Leaving in good order: the results go to other workers first.

use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use async_io::Timer;
use futures_lite::future::or;

use super::core::Core;
use super::error::WorkerError;
use crate::dask::wire::call::{self, CallError};
use crate::dask::wire::worker::report;

/// How long it may take altogether.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the scheduler is asked where it fails, and how soon again.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(200);
/// How long the scheduler has to say that we may go, after all has been moved.
const WORD: Duration = Duration::from_secs(2);
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_millis(200);

/// Has the scheduler retire this worker, and waits until it may go. Results that no other worker can take are
/// lost, and so is what still runs after a while; the scheduler has it done again.
pub(super) async fn leave(
    core: &Arc<Core>,
    end: &Receiver<Result<(), WorkerError>>,
) -> Result<(), WorkerError> {
    let me = &core.me;
    let retire = async {
        for attempt in 1.. {
            let message = call::retire_workers(&[&me.address]);
            let answer = core.pool.call(&me.scheduler, message, PATIENCE).await;
            let error = match answer.map(call::map_reply) {
                Ok(Ok(retired)) if retired.0.is_empty() => {
                    log::warn!("{}: no other worker could take all results", me.address);
                    break;
                }
                Ok(Ok(_)) => {
                    Timer::after(WORD).await;
                    break;
                }
                // As where another worker goes in this moment, which was to take some.
                Ok(Err(CallError::Failed(_))) if attempt < ATTEMPTS => {
                    Timer::after(PAUSE).await;
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            log::warn!("{}: leaving without retiring: {error}", me.address);
            break;
        }
        None
    };
    let late = async {
        Timer::after(PATIENCE).await;
        log::warn!("{}: retiring takes too long, so it's given up", me.address);
        None
    };
    // Mostly the scheduler says to go.
    let told = async { end.recv().await.ok() };
    if let Some(result) = or(told, or(retire, late)).await {
        return result;
    }
    core.with(|inner| report::close(&mut inner.outbox));
    Timer::after(FAREWELL).await;
    Ok(())
}
