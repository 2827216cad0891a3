//! Many small calls of one function as few tasks of the cluster.
//!
//! A task costs the scheduler about a tenth of a millisecond, and `map` can't know how long its calls take. So they
//! go in *batches*: a worker makes the calls of one in turn until a few milliseconds have passed, or one fails, and
//! returns what it has by then. What is left is sent again: in batches of the size that was done, or one by one where
//! calls take long. So a call that fails may be made twice, as after the loss of a worker.
//!
//! A batch that is lost with its worker is made again, and may not come as far. Who fetches a result finds that, and
//! has the call made by itself; a task that takes one has the call [with it](crate::dask::codec::Spare).

use std::collections::HashSet;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;

use crate::dask::client::io::dask_future::{Failure, Remote};
use crate::dask::client::io::link::Link;
use crate::dask::client::state::task_spec::{OwnedAnnotations, OwnedCall, Spec};
use crate::dask::codec::{self, Items, Misfit, Spare};
use crate::engine::base::lock::Lock;

/// Fewer calls than this go one by one.
pub(crate) const FEW: usize = 16;
/// And at most so many together.
const MOST: usize = 1024;
/// At most so many bytes of arguments together.
const BYTES: usize = 1 << 20;
/// A call with larger arguments goes by itself: they'd go again with each task that takes its result.
const LARGE: usize = 4 << 10;
/// Where a worker does fewer than this at a time, batches aren't worth it.
const WORTH: usize = 4;

/// What the calls of a `map` have in common.
pub(crate) struct Common {
    pub(crate) link: Link,
    /// What the workers know it by.
    pub(crate) function: Arc<str>,
    pub(crate) annotations: Arc<OwnedAnnotations>,
    /// What the keys of batches begin with, and where their numbers come from.
    pub(crate) key: String,
    pub(crate) number: Box<dyn Fn() -> u64 + Send + Sync>,
    pub(crate) slow: Arc<Slow>,
}

/// The functions whose calls were found to take long.
#[derive(Default)]
pub(crate) struct Slow(Lock<HashSet<Arc<str>>>);

/// One of the calls.
pub(crate) struct Slice {
    key: Arc<str>,
    args: Bytes,
    common: Arc<Common>,
    seat: Lock<Option<Seat>>,
}

/// Where a call is made.
#[derive(Clone)]
enum Seat {
    /// In a batch, as the one with this number.
    In(Arc<Batch>, u32),
    /// By a task of its own.
    Alone(Arc<Remote>),
}

/// Where a result is, for those who take it as an input: the task that has it, and which item of that it is, with the
/// call that gives it.
pub(crate) struct Place {
    pub(crate) key: Arc<str>,
    pub(crate) item: Option<(u32, Arc<Slice>)>,
}

impl Place {
    /// Of the whole result of a task.
    pub(crate) fn whole(key: &Arc<str>) -> Self {
        Self { key: key.clone(), item: None }
    }

    /// The item, if it's one, with the call that gives it.
    pub(crate) fn spare(&self) -> Option<Spare<'_>> {
        let (item, slice) = self.item.as_ref()?;
        Some(Spare { item: *item, function: &slice.common.function, args: &slice.args })
    }
}

struct Batch {
    remote: Arc<Remote>,
    /// Until it's known how many were done.
    members: Lock<Vec<Weak<Slice>>>,
    done: OnceLock<usize>,
    /// What was fetched; one fetch serves all.
    items: Lock<Option<Arc<Items>>>,
}

impl Slow {
    pub(crate) fn has(&self, function: &str) -> bool {
        self.0.lock().contains(function)
    }

    fn add(&self, function: &Arc<str>) {
        self.0.lock().insert(function.clone());
    }
}

impl Common {
    /// Sends calls, in batches that are enough to keep so many threads busy.
    pub(crate) fn send_all(self: &Arc<Self>, slices: &[Arc<Slice>], threads: usize) {
        // Some for each thread, since they may end at different times.
        let size = slices.len().div_ceil(4 * threads.max(1));
        self.send(slices, size);
    }

    fn send(self: &Arc<Self>, slices: &[Arc<Slice>], size: usize) {
        if size < WORTH {
            return slices.iter().for_each(Slice::send_alone);
        }
        let (small, large): (Vec<_>, Vec<_>) =
            slices.iter().cloned().partition(|slice| slice.args.len() <= LARGE);
        large.iter().for_each(Slice::send_alone);
        let mut left = &small[..];
        while !left.is_empty() {
            let mut bytes = 0;
            let fits = |slice: &&Arc<Slice>| {
                bytes += slice.args.len();
                bytes <= BYTES
            };
            let count = left[..left.len().min(size.min(MOST))].iter().take_while(fits).count();
            let (now, later) = left.split_at(count.max(1));
            match now {
                [slice] => slice.send_alone(),
                slices => self.send_batch(slices),
            }
            left = later;
        }
    }

    fn send_batch(&self, slices: &[Arc<Slice>]) {
        let key: Arc<str> = format!("{}-{}", self.key, (self.number)()).into();
        let calls: Vec<_> = slices.iter().map(|slice| &slice.args).collect();
        let call = OwnedCall::Rust {
            function: format!("{}{}", codec::MANY, self.function).into(),
            args: codec::list(&calls).into(),
            inputs: Vec::new(),
        };
        let spec = Spec { key, call, annotations: self.annotations.clone(), is_alone: false };
        let batch = Arc::new(Batch {
            remote: self.link.submit(spec),
            members: Lock::new(slices.iter().map(Arc::downgrade).collect()),
            done: OnceLock::new(),
            items: Lock::default(),
        });
        for (slice, at) in slices.iter().zip(0..) {
            slice.sit(Seat::In(batch.clone(), at));
        }
    }
}

impl Slice {
    /// A call that will be sent.
    pub(crate) fn new(key: Arc<str>, args: Bytes, common: Arc<Common>) -> Arc<Self> {
        Arc::new(Self { key, args, common, seat: Lock::default() })
    }

    fn send_alone(self: &Arc<Self>) {
        self.sit(Seat::Alone(self.alone()));
    }

    /// The call as a task of its own.
    fn alone(&self) -> Arc<Remote> {
        self.submit(self.common.function.clone(), self.args.clone(), Vec::new())
    }

    fn submit(&self, function: Arc<str>, args: Bytes, inputs: Vec<Arc<str>>) -> Arc<Remote> {
        let call = OwnedCall::Rust { function, args, inputs };
        let annotations = self.common.annotations.clone();
        self.common.link.submit(Spec { key: self.key.clone(), call, annotations, is_alone: false })
    }

    fn sit(&self, seat: Seat) {
        let before = self.seat.lock().replace(seat);
        drop(before);
    }

    fn seat(&self) -> Seat {
        match &*self.seat.lock() {
            Some(seat) => seat.clone(),
            None => unreachable!("a call is sent before anybody can wait for it"),
        }
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Waits until the call was made, and gives where its result is.
    pub(crate) async fn ended(&self) -> Result<(), Failure> {
        loop {
            match self.seat() {
                Seat::Alone(remote) => return remote.ended().await,
                Seat::In(batch, at) => {
                    if (at as usize) < batch.settle(&self.common).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Where the result is, if the call has been made.
    pub(crate) fn place(self: &Arc<Self>) -> Option<Place> {
        match self.seat() {
            Seat::Alone(remote) => Some(Place::whole(remote.key())),
            Seat::In(batch, at) => {
                let is_done = batch.done.get().is_some_and(|done| (at as usize) < *done);
                let key = batch.remote.key();
                is_done.then(|| Place { key: key.clone(), item: Some((at, self.clone())) })
            }
        }
    }

    /// Has a task of its own give the result: for those who can't look into a batch that may turn out shorter.
    pub(crate) fn stand_alone(&self) {
        let mut seat = self.seat.lock();
        let before = match &*seat {
            Some(Seat::In(batch, at)) => {
                let item = Spare { item: *at, function: &self.common.function, args: &self.args };
                let (args, inputs) = (codec::picked(&item), vec![batch.remote.key().clone()]);
                let picked = self.submit(codec::PICK.into(), args.into(), inputs);
                seat.replace(Seat::Alone(picked))
            }
            _ => None,
        };
        drop(seat);
        drop(before);
    }

    /// The result, once the call was made.
    pub(crate) async fn bring<T: crate::Portable>(
        self: &Arc<Self>,
    ) -> Result<Result<T, Misfit>, Failure> {
        loop {
            let (batch, at) = match self.seat() {
                Seat::Alone(remote) => return Ok(codec::read(&remote.fetch().await?)),
                Seat::In(batch, at) => (batch, at),
            };
            match batch.items().await {
                Ok(Ok(items)) if (at as usize) < items.len() => return Ok(items.get(at as usize)),
                Ok(Err(misfit)) => return Ok(Err(misfit)),
                // The batch was lost and made again, and didn't come as far, or failed.
                Ok(Ok(_)) | Err(Failure::Erred(_)) => self.leave(&batch),
                Err(other) => return Err(other),
            }
        }
    }

    /// Has the call made by itself, unless somebody has seen to that.
    fn leave(self: &Arc<Self>, batch: &Arc<Batch>) {
        let mut seat = self.seat.lock();
        let is_there = matches!(&*seat, Some(Seat::In(of, _)) if Arc::ptr_eq(of, batch));
        let before = is_there.then(|| seat.replace(Seat::Alone(self.alone())));
        drop(seat);
        drop(before);
    }

    pub(crate) fn retry(&self) {
        if let Seat::Alone(remote) = self.seat() {
            remote.retry();
        }
    }
}

impl Batch {
    /// Waits until the calls were made, and gives how many of them.
    async fn settle(&self, common: &Arc<Common>) -> Result<usize, Failure> {
        if let Some(done) = self.done.get() {
            return Ok(*done);
        }
        let all = self.members.lock().len();
        let mut is_slow = false;
        let done = match self.remote.ended().await {
            Ok(()) if !self.remote.is_partial() => all,
            Ok(()) => {
                let done = self.items().await?.map_or(0, |items| items.len());
                // Where it's none, the first call has failed.
                is_slow = (1..WORTH).contains(&done);
                done
            }
            Err(Failure::Erred(_)) => 0,
            Err(other) => return Err(other),
        };
        let mut members = self.members.lock();
        // The first to come does it.
        if self.done.get().is_none() {
            let left: Vec<_> = members.drain(..).skip(done).filter_map(|it| it.upgrade()).collect();
            if is_slow {
                common.slow.add(&common.function);
            }
            common.send(&left, done);
            // From now on, who isn't done finds where it is.
            let _ = self.done.set(done);
        }
        Ok(*self.done.get().unwrap_or(&done))
    }

    async fn items(&self) -> Result<Result<Arc<Items>, Misfit>, Failure> {
        if let Some(items) = &*self.items.lock() {
            return Ok(Ok(items.clone()));
        }
        let fetched = self.remote.fetch().await?;
        let mut kept = self.items.lock();
        if let Some(items) = &*kept {
            return Ok(Ok(items.clone()));
        }
        Ok(Items::open(&fetched).map(|items| {
            let items = Arc::new(items);
            *kept = Some(items.clone());
            items
        }))
    }
}
