//! A table in sixteen parts, each behind a lock of its own.

use crossbeam_utils::CachePadded;

use crate::engine::base::lock::Lock;

/// More parts than submitting threads would hardly help. A power of two, so that a remainder is a mask.
pub(crate) const SHARDS: usize = 16;

/// Each part has cache lines of its own, so that threads in different parts don't contend for one.
pub(crate) struct Shards<T>([CachePadded<Lock<T>>; SHARDS]);

impl<T: Default> Default for Shards<T> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| CachePadded::new(Lock::default())))
    }
}

impl<T> Shards<T> {
    /// The shard of this index, modulo their number.
    pub(crate) fn get(&self, index: usize) -> &Lock<T> {
        &self.0[index % SHARDS]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lock<T>> {
        self.0.iter().map(|shard| &**shard)
    }
}
