//! Times as numbers.

use std::time::Duration;

/// Returns a time in nanoseconds; the largest number for one of more than 584 years.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
