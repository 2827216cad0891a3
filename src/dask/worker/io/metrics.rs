//! Samples of the machine and the process, taken off the thread that drives the connections.

use std::process;
use std::time::{Duration, Instant};

use async_io::Timer;
use sysinfo::{
    DiskRefreshKind, Disks, MemoryRefreshKind, Networks, Pid, ProcessRefreshKind,
    ProcessesToUpdate, System,
};

use crate::dask::wire::worker::register::Flow;
use crate::engine::base::lock::Lock;

const INTERVAL: Duration = Duration::from_millis(500);
/// The duration of the timer whose lateness shows how busy the thread is.
const TICK: Duration = Duration::from_millis(20);

/// A sample. Rates are averages since the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Resident memory of the process in bytes.
    pub(crate) memory: u64,
    /// CPU time of the process in percent of one core.
    pub(crate) cpu: f64,
    /// Open files of the process.
    pub(crate) files: u64,
    /// Bytes per second of the machine.
    pub(crate) network: Flow,
    /// Bytes per second of the machine.
    pub(crate) disk: Flow,
    /// Seconds from setting a timer of [`TICK`] until it was handled: Dask's event loop interval.
    pub(crate) loop_interval: f64,
    /// Whether no task ran before and after the sample was taken.
    pub(crate) is_idle: bool,
}

/// The latest sample.
#[derive(Debug, Default)]
pub(crate) struct Samples(Lock<Sample>);

impl Samples {
    pub(crate) fn last(&self) -> Sample {
        *self.0.lock()
    }

    pub(crate) fn record(&self, sample: Sample) {
        *self.0.lock() = sample;
    }
}

/// Takes samples until this is dropped. `is_idle` returns whether no task runs.
pub(crate) async fn run(is_idle: impl Fn() -> bool, record: impl Fn(Sample)) {
    let mut sampler = blocking::unblock(Sampler::new).await;
    loop {
        let was_idle = is_idle();
        let (back, mut sample) = blocking::unblock(move || {
            let sample = sampler.sample();
            (sampler, sample)
        })
        .await;
        sampler = back;
        sample.is_idle = was_idle && is_idle();
        let begin = Instant::now();
        Timer::after(TICK).await;
        sample.loop_interval = begin.elapsed().as_secs_f64();
        record(sample);
        Timer::after(INTERVAL).await;
    }
}

/// The counters of the system that a sample is the difference of.
struct Sampler {
    system: System,
    networks: Networks,
    disks: Disks,
    last: Instant,
}

impl Sampler {
    fn new() -> Self {
        let io = DiskRefreshKind::nothing().with_io_usage();
        Self {
            system: System::new(),
            networks: Networks::new_with_refreshed_list(),
            disks: Disks::new_with_refreshed_list_specifics(io),
            last: Instant::now(),
        }
    }

    fn sample(&mut self) -> Sample {
        // Not zero, which would make the rates infinite.
        let seconds = self.last.elapsed().as_secs_f64().max(1e-3);
        self.last = Instant::now();
        let pid = Pid::from_u32(process::id());
        let wanted = ProcessRefreshKind::nothing().with_memory().with_cpu();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, wanted);
        self.networks.refresh(false);
        let io = DiskRefreshKind::nothing().with_io_usage();
        self.disks.refresh_specifics(false, io);
        let rate = |bytes: u64| bytes as f64 / seconds;
        let flow = |flows: &mut dyn Iterator<Item = (u64, u64)>| {
            let (read, write) = flows.fold((0, 0), |sum, flow| (sum.0 + flow.0, sum.1 + flow.1));
            Flow { read: rate(read), write: rate(write) }
        };
        let mut network =
            self.networks.values().map(|network| (network.received(), network.transmitted()));
        let mut disk = self.disks.iter().map(|disk| {
            let usage = disk.usage();
            (usage.read_bytes, usage.written_bytes)
        });
        let process = self.system.process(pid);
        Sample {
            memory: process.map_or(0, sysinfo::Process::memory),
            cpu: process.map_or(0.0, |process| process.cpu_usage().into()),
            files: process.and_then(sysinfo::Process::open_files).unwrap_or(0) as u64,
            network: flow(&mut network),
            disk: flow(&mut disk),
            loop_interval: 0.0,
            is_idle: false,
        }
    }
}

/// Returns the memory of the machine in bytes, or the limit of the control group of this process if that's lower.
pub(crate) fn machine_memory() -> u64 {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let total = system.total_memory();
    let limit = system.cgroup_limits().map_or(total, |limits| limits.total_memory);
    // 0 means that no limit could be read.
    if limit == 0 { total } else { limit.min(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_memory_and_has_open_files() {
        let mut sampler = Sampler::new();
        let sample = sampler.sample();
        assert!(sample.memory > 1 << 20, "{sample:?}");
        assert!(cfg!(not(target_os = "linux")) || sample.files >= 3, "{sample:?}");
        assert!(machine_memory() > 1 << 28);
    }
}
