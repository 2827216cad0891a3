//! Stock workers, for functions in Python.

use std::path::Path;
use std::time::{Duration, Instant};

use async_io::Timer;

use super::error::{ClusterError, Problem};
use super::process::{Folder, Process};
use super::scheduler::PAUSE;
use crate::dask::net::{Address, Comm, NetError};
use crate::dask::wire::call;
use crate::dask::wire::value::Value;

/// How long the scheduler may take to answer: it's on this machine.
const ANSWER: Duration = Duration::from_secs(30);

/// Stopped when dropped.
pub(super) struct PythonWorkers(Vec<Process>);

impl PythonWorkers {
    pub(super) fn start(
        environment: Option<&Path>,
        folder: &Folder,
        scheduler: &str,
        count: usize,
    ) -> Result<Self, ClusterError> {
        let start = |number| {
            let name = name(number);
            let arguments = [
                "worker",
                scheduler,
                "--name",
                &name,
                "--host",
                "127.0.0.1",
                "--nthreads",
                "1",
                "--resources",
                "python=1",
                // A nanny would start it again when we kill it.
                "--no-nanny",
                "--no-dashboard",
                // It has an HTTP server in any case, by default on all addresses of the machine.
                "--dashboard-address",
                "127.0.0.1:0",
            ];
            Process::start(environment, folder, &name, arguments)
        };
        (0..count).map(start).collect::<Result<_, _>>().map(Self)
    }

    /// Waits until the scheduler knows them all.
    pub(super) async fn joined(
        &mut self,
        scheduler: &str,
        patience: Duration,
    ) -> Result<(), ClusterError> {
        let started = Instant::now();
        for (number, process) in self.0.iter_mut().enumerate() {
            let what = "`dask worker`";
            while !knows(scheduler, &name(number)).await.map_err(Problem::Scheduler)? {
                if let Some(status) = process.ended() {
                    return Err(Problem::Ended { what, status, log: process.tail() }.into());
                }
                if started.elapsed() > patience {
                    return Err(Problem::Slow { what, after: patience, log: process.tail() }.into());
                }
                Timer::after(PAUSE).await;
            }
        }
        Ok(())
    }
}

fn name(number: usize) -> String {
    format!("python-{number}")
}

/// Whether the scheduler knows a worker of that name.
async fn knows(scheduler: &str, name: &str) -> Result<bool, NetError> {
    let address: Address = scheduler.parse()?;
    let mut comm = Comm::connect(&address, None, ANSWER).await?;
    let Ok(identity) = call::map_reply(comm.call(call::identity(), ANSWER).await?) else {
        return Ok(false);
    };
    let workers = identity.get("workers").and_then(Value::as_map);
    let mut names = workers.into_iter().flat_map(|workers| workers.named());
    Ok(names.any(|(_, worker)| worker.as_map().and_then(|worker| worker.text("id")) == Some(name)))
}
