//! Requests for results to other workers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::Receiver;
use async_executor::{Executor, Task};

use super::core::{GatherCommand, WorkerCore, now};
use crate::dask::wire::WireKey;
use crate::dask::wire::call::{self, Data, WhoHas};
use crate::dask::wire::pack::{Pack, Packer};
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::value::Value;
use crate::dask::worker::state::{GatherDep, GatherDepOutcome, ResultMeta};

/// The time without a byte after which a request fails. It's doubled after each failure up to the maximum: the peer
/// may only be slow.
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_TIMEOUT: Duration = Duration::from_secs(160);
const BUSY_PAUSE: Duration = Duration::from_millis(150);
/// The number of times that a busy peer is asked for a `gather` call.
const MAX_BUSY_ANSWERS: usize = 40;

/// Carries out gather commands until this is dropped.
pub(crate) async fn run(core: Arc<WorkerCore>, commands: Receiver<GatherCommand>) {
    let executor = Executor::new();
    let mut requests: HashMap<u64, Task<()>> = HashMap::new();
    let work = async {
        while let Ok(command) = commands.recv().await {
            match command {
                GatherCommand::Start(gather) => {
                    // Finished tasks do not remove themselves.
                    requests.retain(|_, task| !task.is_finished());
                    let request = gather.request;
                    requests.insert(request, executor.spawn(gather_dep(core.clone(), gather)));
                }
                // Dropping the task closes the connection, which stops the transfer.
                GatherCommand::Cancel(request) => drop(requests.remove(&request)),
            }
        }
    };
    executor.run(work).await;
}

async fn gather_dep(core: Arc<WorkerCore>, gather: GatherDep) {
    let GatherDep { request, peer, keys, failures } = gather;
    let timeout = TIMEOUT.saturating_mul(1 << failures.min(4)).min(MAX_TIMEOUT);
    let outcome = match get_data(&core, &peer, &keys, timeout).await {
        Ok(Some(data)) => {
            let at = now();
            core.update(|inner| {
                for (key, value) in data {
                    if inner.state.data_received(request, &key, ResultMeta::of(&value), at) {
                        inner.store_result(key, value);
                    }
                }
            });
            GatherDepOutcome::Success
        }
        Ok(None) => GatherDepOutcome::Busy,
        Err(error) => {
            log::warn!("{}: can't get results from {peer}: {error}", core.identity.address);
            GatherDepOutcome::NetworkFailure
        }
    };
    core.update(|inner| inner.state.gather_finished(request, outcome, Instant::now()));
}

/// Requests results from a peer. Returns those that it has, or `None` if it's busy.
async fn get_data(
    core: &WorkerCore,
    peer: &str,
    keys: &[WireKey],
    timeout: Duration,
) -> Result<Option<Vec<(WireKey, Serialized)>>, String> {
    let begin = Instant::now();
    let message = call::get_data(keys, Some(&core.identity.address), &call::FORMS);
    let answer = core.pool.call_and_keep(peer, message, timeout).await;
    let (answer, mut lease) = answer.map_err(|error| error.to_string())?;
    match call::data_reply(answer).map_err(|error| error.to_string())? {
        Data::Here(data) => {
            let data: Vec<_> =
                data.into_iter().map(|(key, value)| (key, serialized(value))).collect();
            let bytes = data.iter().map(|(_, value)| value.nbytes()).sum();
            core.traffic.record_incoming(peer, bytes, begin.elapsed());
            // The data has arrived, so it counts even if the acknowledgement can't be sent.
            if lease.send_within(call::delivered(), TIMEOUT).await.is_ok() {
                lease.done();
            }
            Ok(Some(data))
        }
        Data::Busy => {
            lease.done();
            Ok(None)
        }
        // The state machine treats keys that were not received as missing at this peer.
        Data::Missing(_) => Ok(Some(Vec::new())),
    }
}

/// Fetches results for the caller of Dask's `gather`, who waits for the answer. Returns the keys that no holder has.
pub(super) async fn gather(core: &Arc<WorkerCore>, who_has: WhoHas) -> Vec<WireKey> {
    let is_missing = |key: &WireKey| core.lock().store.get(key).is_none();
    let mut left = who_has;
    let mut busy_answers = 0;
    loop {
        left.retain(|(key, _)| is_missing(key));
        let holder = left.iter().find_map(|(_, holders)| holders.first().cloned());
        let Some(holder) = holder else { break };
        let keys: Vec<_> = left
            .iter()
            .filter(|(_, holders)| holders.first() == Some(&holder))
            .map(|(key, _)| key.clone())
            .collect();
        match get_data(core, &holder, &keys, TIMEOUT).await {
            Ok(Some(data)) => update_data(core, data),
            Ok(None) if busy_answers < MAX_BUSY_ANSWERS => {
                busy_answers += 1;
                async_io::Timer::after(BUSY_PAUSE).await;
                continue;
            }
            Ok(None) => {}
            Err(error) => log::warn!("{}: {error}", core.identity.address),
        }
        // This holder has had its chance; keys that are still missing are requested from their next one.
        left.iter_mut().for_each(|(_, holders)| holders.retain(|other| *other != holder));
    }
    left.into_iter().map(|(key, _)| key).collect()
}

/// Stores results that this worker didn't want for a task of its own.
pub(super) fn update_data(core: &Arc<WorkerCore>, data: Vec<(WireKey, Serialized)>) {
    let at = now();
    core.update(|inner| {
        for (key, value) in data {
            inner.state.update_data(&key, ResultMeta::of(&value), at);
            inner.store_result(key, value);
        }
    });
}

/// Converts a received value into the form in which results are stored. A value that has no such form becomes an
/// error that is raised where the result is read, as Dask does it.
pub(super) fn serialized(value: Value) -> Serialized {
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
        _ => unreadable("a Rust worker doesn't know the serialization of this value"),
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

/// Returns Dask's own representation of a value that can't be deserialized.
fn unreadable(text: &str) -> Serialized {
    let mut header = Packer::new();
    header.fields(&[("serializer", &"error"), ("num-sub-frames", &1u64)]);
    let text = text.as_bytes().to_vec().into();
    Serialized::from_wire(header.into_msgpack().into(), vec![text])
}
