//! How the machine and the process are, sampled off the thread that talks.

use std::process;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use async_io::Timer;
use slab::Slab;
use sysinfo::{
    DiskRefreshKind, Disks, MemoryRefreshKind, Networks, Pid, ProcessRefreshKind,
    ProcessesToUpdate, System,
};

use super::core::Core;
use crate::dask::wire::worker::register::Flow;
use crate::engine::base::lock::Lock;

const INTERVAL: Duration = Duration::from_millis(500);
/// How long a look at the sockets is put off to see how late it comes.
const TICK: Duration = Duration::from_millis(20);

/// How it was when it was last looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    /// Of the process, in bytes.
    pub(super) memory: u64,
    /// Of the process, in percent of a core.
    pub(super) cpu: f64,
    /// Open ones, of the process.
    pub(super) files: u64,
    /// Of the machine.
    pub(super) network: Flow,
    /// Of the machine.
    pub(super) disk: Flow,
    /// Seconds between two looks at the sockets.
    pub(super) loop_interval: f64,
    /// Whether no task ran.
    pub(super) is_idle: bool,
}

/// The last sample, for whoever needs it.
#[derive(Debug, Default)]
pub(super) struct Samples(Lock<Sample>);

impl Samples {
    fn lock(&self) -> MutexGuard<'_, Sample> {
        self.0.lock()
    }

    pub(super) fn last(&self) -> Sample {
        *self.lock()
    }
}

/// Takes samples until it's dropped.
pub(super) async fn sample(core: Arc<Core>) {
    let mut sampler = blocking::unblock(Sampler::new).await;
    let is_idle = || core.lock().state.counts().executing == 0;
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
        *core.samples.lock() = sample;
        Timer::after(INTERVAL).await;
    }
}

/// What has to be remembered from sample to sample.
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

/// The memory of the machine, or as much of it as this process may take, in bytes.
pub(super) fn machine_memory() -> u64 {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let total = system.total_memory();
    let limit = system.cgroup_limits().map_or(total, |limits| limits.total_memory);
    if limit == 0 { total } else { limit.min(total) }
}

/// How many bytes each worker of a process holds: one process may have several, and what it takes of the memory
/// is to be counted once.
#[derive(Debug)]
struct Workers(Lock<Slab<u64>>);

/// Of this process.
static WORKERS: Workers = Workers::new();

impl Workers {
    const fn new() -> Self {
        Self(Lock::new(Slab::new()))
    }

    fn lock(&self) -> MutexGuard<'_, Slab<u64>> {
        self.0.lock()
    }

    fn join(&'static self) -> Member {
        Member { workers: self, id: self.lock().insert(0) }
    }
}

/// A worker among the others of the process.
#[derive(Debug)]
pub(super) struct Member {
    workers: &'static Workers,
    id: usize,
}

impl Member {
    pub(super) fn new() -> Self {
        WORKERS.join()
    }

    /// What this worker takes of the process's memory: what it holds, and its part of what nobody does.
    pub(super) fn share(&self, process: u64, held: u64) -> u64 {
        let mut workers = self.workers.lock();
        if let Some(known) = workers.get_mut(self.id) {
            *known = held;
        }
        let all: u64 = workers.iter().map(|(_, held)| *held).sum();
        held + process.saturating_sub(all) / workers.len().max(1) as u64
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.workers.lock().try_remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_memory_and_has_files() {
        let mut sampler = Sampler::new();
        let sample = sampler.sample();
        assert!(sample.memory > 1 << 20, "{sample:?}");
        assert!(cfg!(not(target_os = "linux")) || sample.files >= 3, "{sample:?}");
        assert!(machine_memory() > 1 << 28);
    }

    #[test]
    fn what_nobody_holds_is_shared() {
        static WORKERS: Workers = Workers::new();
        let (one, two) = (WORKERS.join(), WORKERS.join());
        assert_eq!(one.share(1000, 100), 100 + 900 / 2);
        assert_eq!(two.share(1000, 300), 300 + 600 / 2);
        drop(one);
        assert_eq!(two.share(1000, 300), 1000);
        assert_eq!(two.share(10, 300), 300);
    }
}
