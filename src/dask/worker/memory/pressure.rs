//! The thresholds of a worker's memory, and how far it's above them.

/// The thresholds in bytes. The fractions are Dask's defaults (`distributed.worker.memory`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) memory: u64,
    /// Above this, results are spilled until `spill_to` is reached.
    pub(crate) spill: u64,
    pub(crate) spill_to: u64,
    /// Above this, no task starts.
    pub(crate) pause: u64,
}

impl Limits {
    pub(crate) fn of(memory: u64) -> Self {
        let percent = |percent| memory / 100 * percent;
        Self { memory, spill: percent(70), spill_to: percent(60), pause: percent(80) }
    }
}

/// The memory of the process besides results.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unmanaged {
    now: u64,
    /// Its lowest value, and the last one while no task ran: the program itself, and memory that the allocator
    /// retains. Neither spilling nor pausing frees any of it, so it isn't counted as pressure.
    idle: u64,
}

impl Unmanaged {
    /// Records a measurement of the process, of which `managed` bytes are results.
    pub(crate) fn measure(&mut self, process: u64, managed: u64, is_idle: bool) {
        self.now = process.saturating_sub(managed);
        self.idle = if is_idle { self.now } else { self.idle.min(self.now) };
    }

    /// Returns the number of bytes to spill, and whether the worker has to pause.
    pub(crate) fn pressure(self, managed: u64, limits: &Limits) -> (u64, bool) {
        let used = managed + (self.now - self.idle);
        let excess = if used > limits.spill { used - limits.spill_to } else { 0 };
        (excess.min(managed), used > limits.pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_in_use_without_tasks_is_no_pressure() {
        let limits = Limits::of(1000);
        let mut unmanaged = Unmanaged::default();
        unmanaged.measure(5000, 0, true);
        assert_eq!(unmanaged.pressure(600, &limits), (0, false));
        unmanaged.measure(5300, 0, false);
        assert_eq!(unmanaged.pressure(0, &limits), (0, false));
        assert_eq!(unmanaged.pressure(410, &limits), (110, false));
        unmanaged.measure(5800, 300, false);
        assert_eq!(unmanaged.pressure(300, &limits), (200, false));
        unmanaged.measure(6000, 100, false);
        assert_eq!(unmanaged.pressure(100, &limits), (100, true));
        // The process has returned memory to the system, and allocates it again.
        unmanaged.measure(100, 100, false);
        unmanaged.measure(950, 100, false);
        assert_eq!(unmanaged.pressure(100, &limits), (100, true));
    }

    #[test]
    fn results_alone_can_exceed_the_limits() {
        let limits = Limits::of(1000);
        let unmanaged = Unmanaged::default();
        assert_eq!(unmanaged.pressure(700, &limits), (0, false));
        assert_eq!(unmanaged.pressure(701, &limits), (101, false));
        assert_eq!(unmanaged.pressure(801, &limits), (201, true));
    }
}
