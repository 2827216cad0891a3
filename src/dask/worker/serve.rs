//! Answering other workers, clients and the scheduler.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, now};
use super::fetch::{self, closed};
use super::state::Made;
use crate::dask::net::{Comm, NetError};
use crate::dask::wire::frame::Outgoing;
use crate::dask::wire::worker::serve::{self, Ask, Request};
use crate::dask::wire::{WireKey, call, unpack};

/// How many get results at the same time; others are told to come again.
const TRANSFERS: u64 = 50;
/// How long the other side may take no byte, or not say that data has arrived.
const PATIENCE: Duration = Duration::from_secs(60);

const NOT_RUN: &str = "this is a Rust worker, which runs no Python functions";

/// Answers one who has connected, until it goes.
pub(super) async fn serve(core: Arc<Core>, mut comm: Comm) {
    if let Err(error) = answer_all(&core, &mut comm).await {
        log::debug!("{}: {error}", core.me.address);
    }
}

async fn answer_all(core: &Arc<Core>, comm: &mut Comm) -> Result<(), NetError> {
    while let Some(frames) = comm.receive().await? {
        let request = unpack::message(&frames).and_then(Request::read);
        let request =
            request.map_err(|source| NetError::Wire { address: comm.peer().to_owned(), source })?;
        drop(frames);
        let mut leaves = false;
        let answer = match request.ask {
            Ask::GetData { keys, .. } => {
                give(core, comm, keys).await?;
                if request.close {
                    return Ok(());
                }
                continue;
            }
            Ask::Terminate { reason } => {
                log::info!("{}: {} says to leave: {reason}", core.me.address, comm.peer());
                leaves = true;
                call::answer_value(&"OK")
            }
            ask => answer(core, ask).await,
        };
        if request.reply {
            comm.send_within(answer, PATIENCE).await?;
        }
        if leaves {
            core.finish(Ok(()));
        }
        if request.close {
            break;
        }
    }
    Ok(())
}

/// Gives results, and waits until they have arrived.
async fn give(core: &Arc<Core>, comm: &mut Comm, keys: Vec<WireKey>) -> Result<(), NetError> {
    let Some(mut transfer) = core.traffic.begin(TRANSFERS) else {
        return comm.send_within(serve::busy(), PATIENCE).await;
    };
    let values: Vec<_> = {
        let mut inner = core.lock();
        keys.into_iter().filter_map(|key| Some((inner.store.get(&key)?, key))).collect()
    };
    let mut data = Vec::with_capacity(values.len());
    for (value, key) in values {
        match core.load(&key, value).await {
            Some(value) => data.push((key, value)),
            None => core.with(|inner| inner.state.lost(&key)),
        }
    }
    transfer.measures(data.iter().map(|(_, value)| value.nbytes()).sum());
    let message = serve::data(&data);
    drop(data);
    comm.send_within(message, PATIENCE).await?;
    match comm.receive_within(PATIENCE).await? {
        Some(frames) if unpack::message(&frames).is_ok_and(|it| serve::is_delivered(&it)) => Ok(()),
        _ => Err(NetError::Closed { address: comm.peer().to_owned() }),
    }
}

async fn answer(core: &Arc<Core>, ask: Ask) -> Outgoing {
    match ask {
        Ask::UpdateData { data } => {
            let data = data.into_iter().map(|(key, value)| (key, closed(value)));
            let data: Vec<_> = data.collect();
            let sizes: Vec<_> =
                data.iter().map(|(key, value)| (key.clone(), value.nbytes())).collect();
            let at = now();
            core.with(|inner| {
                for (key, value) in data {
                    inner.state.placed(&key, Made::of(&value), at);
                    inner.keep(key, value);
                }
            });
            serve::updated(&sizes)
        }
        Ask::Gather { who_has } => serve::gathered(&fetch::gather(core, who_has).await),
        Ask::FreeKeys { keys } => {
            core.with(|inner| inner.state.drop_results(&keys));
            serve::unknown()
        }
        Ask::Keys => {
            let keys: Vec<_> = core.lock().state.held().cloned().collect();
            serve::keys(&keys)
        }
        Ask::Identity => {
            let me = &core.me;
            serve::identity(&me.id, &me.address, &me.name, &me.scheduler)
        }
        Ask::Versions => call::answer_value(&core.me.versions),
        Ask::Ping => serve::pong(),
        Ask::Run => serve::not_run(NOT_RUN),
        Ask::Harmless(kind) => serve::harmless(kind),
        Ask::Other(op, _) => {
            log::debug!("{}: nothing is known of `{op}`", core.me.address);
            serve::unknown()
        }
        Ask::GetData { .. } | Ask::Terminate { .. } => {
            unreachable!("what goes on after the answer is done elsewhere")
        }
    }
}
