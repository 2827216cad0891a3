//! What every other room of the engine stands on: atomics, locks, deferred destruction, calls into user code.

pub(crate) mod block_on;
pub(crate) mod deferred;
pub(crate) mod lock;
pub(crate) mod look;
pub(crate) mod nanos;
pub(crate) mod prefetch;
pub(crate) mod shards;
#[cfg(not(ensue_shuttle))]
pub(crate) mod sync;
#[cfg(ensue_shuttle)]
#[path = "../../../shuttle/src/sync.rs"]
pub(crate) mod sync;
pub(crate) mod user_code;
