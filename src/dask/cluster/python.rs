//! Stock Dask workers, for Python functions.

use std::path::Path;
use std::time::{Duration, Instant};

use async_io::Timer;

use super::error::{ClusterError, ClusterErrorKind};
use super::process::{ClusterFolder, DaskProcess, POLL_INTERVAL};
use crate::dask::net::{Address, Comm, NetError};
use crate::dask::wire::call;
use crate::dask::wire::value::Value;

/// The time in which the scheduler, which is on this machine, must answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Worker processes, which are killed when this is dropped.
pub(super) struct PythonWorkers(Vec<DaskProcess>);

impl PythonWorkers {
    pub(super) fn start(
        environment: Option<&Path>,
        folder: &ClusterFolder,
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
                // A nanny would start the worker again after it was killed.
                "--no-nanny",
                "--no-dashboard",
                // The worker has an HTTP server in any case, by default on all addresses of the machine.
                "--dashboard-address",
                "127.0.0.1:0",
            ];
            DaskProcess::start(environment, folder, &name, arguments)
        };
        (0..count).map(start).collect::<Result<_, _>>().map(Self)
    }

    /// Waits until all of them are registered with the scheduler.
    pub(super) async fn wait_until_joined(
        &mut self,
        scheduler: &str,
        timeout: Duration,
    ) -> Result<(), ClusterError> {
        let started = Instant::now();
        for (number, process) in self.0.iter_mut().enumerate() {
            while !is_registered(scheduler, &name(number))
                .await
                .map_err(ClusterErrorKind::Scheduler)?
            {
                process.check_start("`dask worker`", started, timeout)?;
                Timer::after(POLL_INTERVAL).await;
            }
        }
        Ok(())
    }
}

fn name(number: usize) -> String {
    format!("python-{number}")
}

/// Returns whether a worker of this name is registered with the scheduler.
async fn is_registered(scheduler: &str, name: &str) -> Result<bool, NetError> {
    let address: Address = scheduler.parse()?;
    let mut comm = Comm::connect(&address, None, ANSWER_TIMEOUT).await?;
    let Ok(identity) = call::map_reply(comm.call(call::identity(), ANSWER_TIMEOUT).await?) else {
        return Ok(false);
    };
    let workers = identity.get("workers").and_then(Value::as_map);
    let mut names = workers.into_iter().flat_map(|workers| workers.named());
    Ok(names.any(|(_, worker)| worker.as_map().and_then(|worker| worker.text("id")) == Some(name)))
}
