//! Answers to other workers, clients and the scheduler.

use std::sync::Arc;
use std::time::Duration;

use super::core::WorkerCore;
use super::gather::{self, serialized, update_data};
use crate::dask::net::{Comm, NetError};
use crate::dask::wire::frame::Outgoing;
use crate::dask::wire::worker::serve::{self, Ask, Request};
use crate::dask::wire::{WireKey, call, unpack};

/// The number of transfers to other workers at a time. Dask's limit; further peers are answered `busy`.
const MAX_TRANSFERS: u64 = 50;
/// The time without a byte after which a connection is closed, also while an acknowledgement is awaited.
const TIMEOUT: Duration = Duration::from_secs(60);

const NOT_RUN: &str = "a Rust worker can't run Python functions";

/// Answers the requests on a connection until it's closed.
pub(crate) async fn serve(core: Arc<WorkerCore>, mut comm: Comm) {
    if let Err(error) = answer_all(&core, &mut comm).await {
        log::debug!("{}: {error}", core.identity.address);
    }
}

async fn answer_all(core: &Arc<WorkerCore>, comm: &mut Comm) -> Result<(), NetError> {
    while let Some(frames) = comm.receive().await? {
        let request = unpack::message(&frames).and_then(Request::read);
        let request =
            request.map_err(|source| NetError::Wire { address: comm.peer().to_owned(), source })?;
        // The frames of the request may be large, and answering it may take long.
        drop(frames);
        let mut closes = false;
        let answer = match request.ask {
            Ask::GetData { keys, .. } => {
                send_data(core, comm, keys).await?;
                if request.close {
                    return Ok(());
                }
                continue;
            }
            Ask::Terminate { reason } => {
                let address = &core.identity.address;
                log::info!("{address}: closing at the request of {}: {reason}", comm.peer());
                closes = true;
                call::answer_value(&"OK")
            }
            ask => answer(core, ask).await,
        };
        if request.reply {
            comm.send_within(answer, TIMEOUT).await?;
        }
        // After the answer, which wouldn't be sent any more.
        if closes {
            core.close(Ok(()));
        }
        if request.close {
            break;
        }
    }
    Ok(())
}

/// Sends results, and waits for the acknowledgement: until then the transfer counts towards the limit.
async fn send_data(
    core: &Arc<WorkerCore>,
    comm: &mut Comm,
    keys: Vec<WireKey>,
) -> Result<(), NetError> {
    let Some(mut transfer) = core.traffic.begin_outgoing(MAX_TRANSFERS) else {
        return comm.send_within(serve::busy(), TIMEOUT).await;
    };
    // Only references are taken under the lock. Files are read without it.
    let values: Vec<_> = {
        let mut inner = core.lock();
        keys.into_iter().filter_map(|key| Some((inner.store.get(&key)?, key))).collect()
    };
    let mut data = Vec::with_capacity(values.len());
    for (value, key) in values {
        // A key that is missing in the answer is one that this worker does not have.
        match core.load(&key, value).await {
            Some(value) => data.push((key, value)),
            None => core.update(|inner| inner.state.result_lost(&key)),
        }
    }
    transfer.set_bytes(data.iter().map(|(_, value)| value.nbytes()).sum());
    let message = serve::data(&data);
    drop(data);
    comm.send_within(message, TIMEOUT).await?;
    match comm.receive_within(TIMEOUT).await? {
        Some(frames) if unpack::message(&frames).is_ok_and(|it| serve::is_delivered(&it)) => Ok(()),
        _ => Err(NetError::Closed { address: comm.peer().to_owned() }),
    }
}

async fn answer(core: &Arc<WorkerCore>, ask: Ask) -> Outgoing {
    match ask {
        Ask::UpdateData { data } => {
            let data = data.into_iter().map(|(key, value)| (key, serialized(value)));
            let data: Vec<_> = data.collect();
            let sizes: Vec<_> =
                data.iter().map(|(key, value)| (key.clone(), value.nbytes())).collect();
            update_data(core, data);
            serve::updated(&sizes)
        }
        Ask::Gather { who_has } => serve::gathered(&gather::gather(core, who_has).await),
        Ask::FreeKeys { keys } => {
            core.update(|inner| inner.state.drop_results(&keys));
            serve::unknown()
        }
        Ask::Keys => {
            let keys: Vec<_> = core.lock().state.in_memory().cloned().collect();
            serve::keys(&keys)
        }
        Ask::Identity => {
            let me = &core.identity;
            serve::identity(&me.id, &me.address, &me.name, &me.scheduler)
        }
        Ask::Versions => call::answer_value(&core.identity.versions),
        Ask::Ping => serve::pong(),
        Ask::Run => serve::not_run(NOT_RUN),
        Ask::Harmless(kind) => serve::harmless(kind),
        Ask::Other(op, _) => {
            log::debug!("{}: unknown operation `{op}`", core.identity.address);
            serve::unknown()
        }
        Ask::GetData { .. } | Ask::Terminate { .. } => {
            unreachable!("`answer_all` handles these itself")
        }
    }
}
