//! Counts of what the scripts have reached, for the test of the corpora.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

static COUNTS: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
static IS_COUNTING: AtomicBool = AtomicBool::new(false);

/// Starts counting, in the whole process.
pub fn count_coverage() {
    IS_COUNTING.store(true, Ordering::Relaxed);
}

/// Returns how often each situation was reached.
pub fn coverage() -> BTreeMap<String, usize> {
    COUNTS.lock().unwrap().clone()
}

/// Counts a situation.
pub(crate) fn reached(what: impl FnOnce() -> String) {
    if IS_COUNTING.load(Ordering::Relaxed) {
        *COUNTS.lock().unwrap().entry(what()).or_default() += 1;
    }
}
