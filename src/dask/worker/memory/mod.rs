//! The results of a worker in memory and in files, without the parts that drive them.
//!
//! [`store`] is the table of results, [`spill`] has those in files, [`stale_dirs`] removes the files of workers that
//! were killed, [`disposal`] drops results on a thread of its own, [`pressure`] computes when to spill and when to
//! pause, and [`share`] divides the memory of a process among its workers.

mod disposal;
mod pressure;
mod share;
mod spill;
#[cfg(target_os = "linux")]
mod stale_dirs;
mod store;

pub(super) use disposal::{Disposal, dispose};
pub(super) use pressure::{Limits, Unmanaged};
pub(super) use share::ProcessShare;
pub(super) use spill::SpillDirectory;
pub(super) use store::{Store, StoredValue};
