//! The load by other processes, on Linux.

use std::fs;

/// Ticks since the machine and this process started.
pub(crate) struct Load {
    all: u64,
    idle: u64,
    own: u64,
}

impl Load {
    pub(crate) fn now() -> Option<Self> {
        let machine = fs::read_to_string("/proc/stat").ok()?;
        // User, nice, system, idle, waiting, interrupts of two kinds, and stolen by other machines.
        let machine = numbers(machine.lines().next()?.strip_prefix("cpu")?, 0, 8)?;
        let process = fs::read_to_string("/proc/self/stat").ok()?;
        // In user mode and in the kernel, of this process and of its children that have ended.
        let own = numbers(process.rsplit_once(')')?.1, 11, 4)?;
        let idle = machine[3] + machine[4];
        Some(Self { all: machine.iter().sum(), idle, own: own.iter().sum() })
    }

    /// Returns the part of all cores that other processes have used since then.
    pub(crate) fn of_others_since(&self) -> Option<f64> {
        let now = Self::now()?;
        let all = now.all.checked_sub(self.all).filter(|&all| all > 0)?;
        let spared = (now.idle - self.idle) + (now.own - self.own);
        Some(all.saturating_sub(spared) as f64 / all as f64)
    }
}

fn numbers(text: &str, from: usize, count: usize) -> Option<Vec<u64>> {
    text.split_whitespace().skip(from).take(count).map(|number| number.parse().ok()).collect()
}
