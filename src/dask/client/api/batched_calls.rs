//! Batches: many small calls of one function in few tasks of the cluster.
//!
//! A task costs the scheduler about a tenth of a millisecond, and `map` can't know how long its calls take. So calls
//! are sent in *batches*: a worker runs the calls of a batch in turn until a few milliseconds have passed or one fails,
//! and returns the results that it has by then. The calls that are left are sent again: in batches of the size that was
//! done, or alone where calls take long. So a call that fails may run twice, as it may after the loss of a worker.
//!
//! A batch that is lost with its worker runs again, and may get less far. A fetch that finds that sends the call alone;
//! a dependent of the call has the call [in its arguments](crate::dask::wire::rust::ItemCall), and its worker makes it.
//!
//! | a call is | leaves that state |
//! |---|---|
//! | new | [`MapCalls::send_all`] puts it in a batch, or sends it alone |
//! | in a batch | the batch ends without it, or failed: it's in another batch, or alone |
//! | alone | never; it's a task of its own |
//!
//! A call in a batch that has ended with it has ended, too.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;

use crate::Portable;
use crate::dask::client::io::dask_future::DaskFuture;
use crate::dask::client::io::link::Link;
use crate::dask::client::state::future_state::FutureError;
use crate::dask::client::state::task_spec::TaskSpec;
use crate::dask::codec;
use crate::dask::wire::graph::{Annotations, Call};
use crate::dask::wire::rust::{
    BATCH_PREFIX, DecodeError, ItemCall, Items, PICK_FUNCTION, batch_args, pick_args,
};
use crate::engine::base::lock::Lock;

/// Fewer calls than this are sent alone.
pub(super) const FEW: usize = 16;
/// The limits of one batch: calls, and bytes of arguments.
const CALLS: usize = 1024;
const BYTES: usize = 1 << 20;
/// A call with more bytes of arguments is sent alone: each task that takes its result would have a copy of them.
const LARGE: usize = 4 << 10;
/// If a worker does fewer calls than this in its time, batches save nothing.
const WORTHWHILE: usize = 4;

/// The common data of the calls of one `map`.
pub(super) struct MapCalls {
    pub(super) link: Link,
    /// The name that the function is registered under.
    pub(super) function: Arc<str>,
    pub(super) annotations: Arc<Annotations>,
    /// The prefix of the keys of batches, and the source of the numbers after it.
    pub(super) key_prefix: String,
    pub(super) next_number: Box<dyn Fn() -> u64 + Send + Sync>,
    pub(super) slow: Arc<SlowFunctions>,
}

/// The functions whose calls turned out to take long. They aren't batched again.
#[derive(Default)]
pub(super) struct SlowFunctions(Lock<HashSet<Arc<str>>>);

impl SlowFunctions {
    pub(super) fn contains(&self, function: &str) -> bool {
        self.0.lock().contains(function)
    }

    fn add(&self, function: &Arc<str>) {
        self.0.lock().insert(function.clone());
    }
}

/// One call of a `map`.
pub(super) struct BatchedCall {
    key: Arc<str>,
    args: Bytes,
    map: Arc<MapCalls>,
    /// None until it's sent.
    task: Lock<Option<CallTask>>,
}

/// The task that runs a call.
#[derive(Clone)]
enum CallTask {
    /// A batch, and the number of the call in it.
    Batch(Arc<CallBatch>, u32),
    /// A task of its own.
    Alone(Arc<DaskFuture>),
}

/// The location of a result: the task that has it, and the item of that task's result if it's a batch.
pub(super) struct ResultLocation {
    pub(super) key: Arc<str>,
    /// With the call that gives it again, in case the list turns out shorter.
    item: Option<(u32, Arc<BatchedCall>)>,
}

impl ResultLocation {
    /// Returns the location of the whole result of a task.
    pub(super) fn whole(key: &Arc<str>) -> Self {
        Self { key: key.clone(), item: None }
    }

    /// Returns the item with its call, if it's an item.
    pub(super) fn spare(&self) -> Option<ItemCall<'_>> {
        let (item, call) = self.item.as_ref()?;
        Some(call.spare(*item))
    }
}

/// A task of the cluster that runs several calls.
struct CallBatch {
    future: Arc<DaskFuture>,
    /// Its calls, until it's known how many were done.
    calls: Lock<Vec<Weak<BatchedCall>>>,
    done: OnceLock<usize>,
    /// The fetched result, which serves all calls.
    items: Lock<Option<Arc<Items>>>,
}

impl MapCalls {
    /// Sends calls in batches, enough to keep this many threads busy.
    pub(super) fn send_all(self: &Arc<Self>, calls: &[Arc<BatchedCall>], threads: usize) {
        // Four for each thread, since batches take different times.
        let size = calls.len().div_ceil(4 * threads.max(1));
        self.send(calls, size);
    }

    /// Sends calls in batches of up to `size`, or alone where that's better.
    fn send(self: &Arc<Self>, calls: &[Arc<BatchedCall>], size: usize) {
        if size < WORTHWHILE {
            return calls.iter().for_each(BatchedCall::send_alone);
        }
        let (small, large): (Vec<_>, Vec<_>) =
            calls.iter().cloned().partition(|call| call.args.len() <= LARGE);
        large.iter().for_each(BatchedCall::send_alone);
        let mut left = &small[..];
        while !left.is_empty() {
            let mut bytes = 0;
            let fits = |call: &&Arc<BatchedCall>| {
                bytes += call.args.len();
                bytes <= BYTES
            };
            let count = left[..left.len().min(size.min(CALLS))].iter().take_while(fits).count();
            let (now, later) = left.split_at(count.max(1));
            match now {
                // A batch of one call saves nothing.
                [call] => call.send_alone(),
                calls => self.send_batch(calls),
            }
            left = later;
        }
    }

    fn send_batch(&self, calls: &[Arc<BatchedCall>]) {
        let key: Arc<str> = format!("{}-{}", self.key_prefix, (self.next_number)()).into();
        let args: Vec<_> = calls.iter().map(|call| &call.args).collect();
        let call = Call::Rust {
            function: format!("{}{}", BATCH_PREFIX, self.function).into(),
            args: batch_args(&args).into(),
            inputs: Vec::new(),
        };
        let spec = TaskSpec { key, call, annotations: self.annotations.clone(), is_alone: false };
        let batch = Arc::new(CallBatch {
            future: self.link.submit(spec),
            // Weak, as calls hold their batch; and a dropped call needn't be sent again.
            calls: Lock::new(calls.iter().map(Arc::downgrade).collect()),
            done: OnceLock::new(),
            items: Lock::default(),
        });
        for (call, at) in calls.iter().zip(0..) {
            call.set_task(CallTask::Batch(batch.clone(), at));
        }
    }
}

impl BatchedCall {
    /// Creates a call that is about to be sent.
    pub(super) fn new(key: Arc<str>, args: Bytes, map: Arc<MapCalls>) -> Arc<Self> {
        Arc::new(Self { key, args, map, task: Lock::default() })
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    fn spare(&self, item: u32) -> ItemCall<'_> {
        ItemCall { item, function: &self.map.function, args: &self.args }
    }

    fn send_alone(self: &Arc<Self>) {
        self.set_task(CallTask::Alone(self.submit_alone()));
    }

    /// Submits the call as a task of its own.
    fn submit_alone(&self) -> Arc<DaskFuture> {
        self.submit(self.map.function.clone(), self.args.clone(), Vec::new())
    }

    fn submit(&self, function: Arc<str>, args: Bytes, inputs: Vec<Arc<str>>) -> Arc<DaskFuture> {
        self.map.link.submit(TaskSpec {
            key: self.key.clone(),
            call: Call::Rust { function, args, inputs },
            annotations: self.map.annotations.clone(),
            is_alone: false,
        })
    }

    fn set_task(&self, task: CallTask) {
        // Dropped after the lock is released: the last call of a batch releases the batch's key.
        let before = self.task.lock().replace(task);
        drop(before);
    }

    fn task(&self) -> CallTask {
        match &*self.task.lock() {
            Some(task) => task.clone(),
            None => unreachable!("a call is sent before there's a handle of it"),
        }
    }

    /// Waits until the call was made, by whichever task.
    pub(super) async fn ended(&self) -> Result<(), FutureError> {
        loop {
            match self.task() {
                CallTask::Alone(future) => return future.ended().await,
                CallTask::Batch(batch, at) => {
                    if (at as usize) < batch.settle(&self.map).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Returns where the result is, if the call was made.
    pub(super) fn location(self: &Arc<Self>) -> Option<ResultLocation> {
        match self.task() {
            CallTask::Alone(future) => Some(ResultLocation::whole(future.key())),
            CallTask::Batch(batch, at) => {
                let is_done = batch.done.get().is_some_and(|done| (at as usize) < *done);
                let key = batch.future.key();
                is_done.then(|| ResultLocation { key: key.clone(), item: Some((at, self.clone())) })
            }
        }
    }

    /// Makes the result that of a task of its own, which picks it from the batch: for dependents that can't handle a
    /// batch that turns out shorter.
    pub(super) fn stand_alone(&self) {
        let mut task = self.task.lock();
        let before = match &*task {
            Some(CallTask::Batch(batch, at)) => {
                let args = pick_args(&self.spare(*at)).into();
                let inputs = vec![batch.future.key().clone()];
                let future = self.submit(PICK_FUNCTION.into(), args, inputs);
                task.replace(CallTask::Alone(future))
            }
            _ => None,
        };
        drop(task);
        drop(before);
    }

    /// Fetches the result, once the call was made. The inner error is that the value doesn't fit `T`.
    pub(super) async fn fetch<T: Portable>(
        self: &Arc<Self>,
    ) -> Result<Result<T, DecodeError>, FutureError> {
        loop {
            let (batch, at) = match self.task() {
                CallTask::Alone(future) => return Ok(codec::read(&future.fetch().await?)),
                CallTask::Batch(batch, at) => (batch, at),
            };
            match batch.items().await {
                Ok(Ok(items)) if (at as usize) < items.len() => return Ok(items.get(at as usize)),
                Ok(Err(misfit)) => return Ok(Err(misfit)),
                // The batch was lost and ran again, and got less far or failed.
                Ok(Ok(_)) | Err(FutureError::Erred(_)) => self.leave(&batch),
                Err(other) => return Err(other),
            }
        }
    }

    /// Sends the call alone, unless it has left this batch already.
    fn leave(self: &Arc<Self>, batch: &Arc<CallBatch>) {
        let mut task = self.task.lock();
        let is_in_it = matches!(&*task, Some(CallTask::Batch(of, _)) if Arc::ptr_eq(of, batch));
        // Another fetch may have sent it alone in the meantime.
        let before = is_in_it.then(|| task.replace(CallTask::Alone(self.submit_alone())));
        drop(task);
        drop(before);
    }

    pub(super) fn retry(&self) {
        // A call that fails in a batch is sent alone, so only such a one can have failed.
        if let CallTask::Alone(future) = self.task() {
            future.retry();
        }
    }
}

impl CallBatch {
    /// Waits until the batch has ended, has the calls that it left sent again, and returns how many were done.
    async fn settle(&self, map: &Arc<MapCalls>) -> Result<usize, FutureError> {
        if let Some(done) = self.done.get() {
            return Ok(*done);
        }
        // Before it has ended: the first call that sends the rest takes them out.
        let all = self.calls.lock().len();
        let mut is_slow = false;
        let done = match self.future.ended().await {
            Ok(()) if !self.future.is_partial() => all,
            Ok(()) => {
                let done = self.items().await?.map_or(0, |items| items.len());
                // If none was done, the first call has failed, which says nothing of its time.
                is_slow = (1..WORTHWHILE).contains(&done);
                done
            }
            Err(FutureError::Erred(_)) => 0,
            Err(other) => return Err(other),
        };
        let mut calls = self.calls.lock();
        // All calls of the batch wait for it, and the first one that gets the lock sends the rest.
        if self.done.get().is_none() {
            let left: Vec<_> = calls.drain(..).skip(done).filter_map(|it| it.upgrade()).collect();
            if is_slow {
                map.slow.add(&map.function);
            }
            map.send(&left, done);
            // Only now: a waiter that sees it looks up its new task.
            let _ = self.done.set(done);
        }
        Ok(*self.done.get().unwrap_or(&done))
    }

    /// Returns the fetched result. The inner error is that it's no list.
    async fn items(&self) -> Result<Result<Arc<Items>, DecodeError>, FutureError> {
        if let Some(items) = &*self.items.lock() {
            return Ok(Ok(items.clone()));
        }
        let fetched = self.future.fetch().await?;
        let mut kept = self.items.lock();
        if let Some(items) = &*kept {
            // Another call's fetch was faster, and the batch may have run again since: all calls use the same list.
            return Ok(Ok(items.clone()));
        }
        Ok(Items::open(&fetched).map(|items| {
            let items = Arc::new(items);
            *kept = Some(items.clone());
            items
        }))
    }
}
