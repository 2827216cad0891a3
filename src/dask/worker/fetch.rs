//! Getting results from other workers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::Receiver;
use async_executor::{Executor, Task};

use super::core::{Core, Errand, now};
use super::state::{Fetch, Landing, Made};
use crate::dask::wire::WireKey;
use crate::dask::wire::call::{self, Data, WhoHas};
use crate::dask::wire::pack::{Pack, Packer};
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::value::Value;

/// How long a worker may move no byte. One that let us down gets longer the next time: it may only be slow.
const PATIENCE: Duration = Duration::from_secs(10);
const LONG_PATIENCE: Duration = Duration::from_secs(160);
const BUSY: Duration = Duration::from_millis(150);
/// How often a busy worker is asked on behalf of somebody who waits.
const ATTEMPTS: usize = 40;

/// Does errands until it's dropped.
pub(super) async fn errands(core: Arc<Core>, errands: Receiver<Errand>) {
    let executor = Executor::new();
    let mut flights: HashMap<u64, Task<()>> = HashMap::new();
    let work = async {
        while let Ok(errand) = errands.recv().await {
            match errand {
                Errand::Fetch(fetch) => {
                    flights.retain(|_, task| !task.is_finished());
                    flights.insert(fetch.flight, executor.spawn(fly(core.clone(), fetch)));
                }
                // This closes the connection.
                Errand::Stop(flight) => drop(flights.remove(&flight)),
            }
        }
    };
    executor.run(work).await;
}

async fn fly(core: Arc<Core>, fetch: Fetch) {
    let Fetch { flight, peer, keys, failures } = fetch;
    let patience = PATIENCE.saturating_mul(1 << failures.min(4)).min(LONG_PATIENCE);
    let landing = match ask(&core, &peer, &keys, patience).await {
        Ok(Some(data)) => {
            let at = now();
            core.with(|inner| {
                for (key, value) in data {
                    if inner.state.arrived(flight, &key, Made::of(&value), at) {
                        inner.keep(key, value);
                    }
                }
            });
            Landing::Answered
        }
        Ok(None) => Landing::Busy,
        Err(error) => {
            log::warn!("{}: no results come from {peer}: {error}", core.me.address);
            Landing::Failed
        }
    };
    core.with(|inner| inner.state.landed(flight, landing, Instant::now()));
}

/// What a worker has of these; none if it's busy.
async fn ask(
    core: &Core,
    peer: &str,
    keys: &[WireKey],
    patience: Duration,
) -> Result<Option<Vec<(WireKey, Serialized)>>, String> {
    let begin = Instant::now();
    let message = call::get_data(keys, Some(&core.me.address), &call::FORMS);
    let answer = core.pool.call_and_keep(peer, message, patience).await;
    let (answer, mut lease) = answer.map_err(|error| error.to_string())?;
    match call::data_reply(answer).map_err(|error| error.to_string())? {
        Data::Here(data) => {
            let data: Vec<_> = data.into_iter().map(|(key, value)| (key, closed(value))).collect();
            let bytes = data.iter().map(|(_, value)| value.nbytes()).sum();
            core.traffic.came(peer, bytes, begin.elapsed());
            // It's here, whatever becomes of the thanks.
            if lease.send_within(call::delivered(), PATIENCE).await.is_ok() {
                lease.done();
            }
            Ok(Some(data))
        }
        Data::Busy => {
            lease.done();
            Ok(None)
        }
        Data::Missing(_) => Ok(Some(Vec::new())),
    }
}

/// Gets results for somebody who waits for the answer. Gives what nobody has.
pub(super) async fn gather(core: &Arc<Core>, who_has: WhoHas) -> Vec<WireKey> {
    let is_missing = |key: &WireKey| core.lock().store.get(key).is_none();
    let mut left = who_has;
    let mut attempts = 0;
    loop {
        left.retain(|(key, _)| is_missing(key));
        let holder = left.iter().find_map(|(_, holders)| holders.first().cloned());
        let Some(holder) = holder else { break };
        let keys: Vec<_> = left
            .iter()
            .filter(|(_, holders)| holders.first() == Some(&holder))
            .map(|(key, _)| key.clone())
            .collect();
        match ask(core, &holder, &keys, PATIENCE).await {
            Ok(Some(data)) => {
                let at = now();
                core.with(|inner| {
                    for (key, value) in data {
                        inner.state.placed(&key, Made::of(&value), at);
                        inner.keep(key, value);
                    }
                });
            }
            Ok(None) if attempts < ATTEMPTS => {
                attempts += 1;
                async_io::Timer::after(BUSY).await;
                continue;
            }
            Ok(None) => {}
            Err(error) => log::warn!("{}: {error}", core.me.address),
        }
        left.iter_mut().for_each(|(_, holders)| holders.retain(|other| *other != holder));
    }
    left.into_iter().map(|(key, _)| key).collect()
}

/// A value as it's held: closed. One that can't be held is an error for whoever wants to read it.
pub(super) fn closed(value: Value) -> Serialized {
    match value {
        Value::Serialized(object) => *object,
        Value::Pickled(object) if object.frames().is_empty() => match object.pickle() {
            Ok(pickle) => Serialized::pickle(pickle),
            Err(error) => unreadable(&error.to_string()),
        },
        value if is_plain(&value) => {
            let mut packer = Packer::new();
            value.pack(&mut packer);
            Serialized::msgpack(packer.into_msgpack().into())
        }
        _ => unreadable("it came in a form that a Rust worker doesn't know"),
    }
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::Serialized(_) | Value::Pickled(_) => false,
        Value::Array(items) | Value::Set(items) => items.iter().all(is_plain),
        Value::Map(map) => map.0.iter().all(|(key, value)| is_plain(key) && is_plain(value)),
        _ => true,
    }
}

/// Stands for what can't be read, as Dask itself says that.
fn unreadable(text: &str) -> Serialized {
    let mut header = Packer::new();
    header.fields(&[("serializer", &"error"), ("num-sub-frames", &1u64)]);
    let text = text.as_bytes().to_vec().into();
    Serialized::from_wire(header.into_msgpack().into(), vec![text])
}
