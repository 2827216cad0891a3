//! The tour: Dask's futures notebook, step by step, and then features that the notebook doesn't have.
//!
//! ```text
//! cargo run --release --example tour
//! cargo run --release --example tour -- --hold 600
//! cargo run --release --example tour -- --fast
//! cargo run --release --all-features --example tour -- --dask
//! cargo run --release --all-features --example tour -- --scheduler tcp://10.0.0.1:8786
//! ```
//!
//! The link that it prints first leads to a page that shows the graph as it grows. The functions sleep a random while, as
//! in the notebook, unless `--fast` is given. The steps use the `Engine` trait, so the same ones run in this process, on a
//! Dask cluster that the tour starts, or on a running one with workers of the example `dask_worker`.

#[cfg(feature = "dask")]
mod cluster;
mod embedded;
mod steps;

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ensue_examples::functions::FAST;
use futures::executor::block_on;
use lexopt::Arg::{Long, Short};
use lexopt::ValueExt;

const USAGE: &str =
    "usage: tour [--fast] [--hold SECONDS] [--no-dashboard] [--dask | --scheduler ADDRESS]

  --fast               don't sleep
  --hold SECONDS       keep the dashboard up for this time after the last step
  --no-dashboard       show no dashboard
  --dask               start a Dask cluster and run on it
  --scheduler ADDRESS  run on the cluster of this scheduler, such as tcp://10.0.0.1:8786";

#[cfg(not(feature = "dask"))]
const WITHOUT: &str = "this was built without the feature `dask`: use `cargo run --all-features`";

/// The command line.
struct Arguments {
    dashboard: bool,
    hold: Duration,
    engine: EngineKind,
}

/// The engine that runs the tasks.
enum EngineKind {
    /// A client in this process.
    Embedded,
    /// A cluster that the tour starts.
    LocalCluster,
    /// The cluster of the scheduler with this address.
    Cluster(String),
}

/// Reads the command line. `None` if it asks for the usage.
fn read_arguments() -> Result<Option<Arguments>, lexopt::Error> {
    let mut arguments =
        Arguments { dashboard: true, hold: Duration::ZERO, engine: EngineKind::Embedded };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("fast") => FAST.store(true, Ordering::Relaxed),
            Long("no-dashboard") => arguments.dashboard = false,
            Long("hold") => {
                let seconds = parser.value().ok().and_then(|value| value.parse().ok());
                let hold = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                arguments.hold = hold.ok_or("--hold takes a number of seconds")?;
            }
            Long("dask") => arguments.engine = EngineKind::LocalCluster,
            Long("scheduler") => arguments.engine = EngineKind::Cluster(parser.value()?.string()?),
            Long("help") | Short('h') => return Ok(None),
            Long(other) => return Err(format!("unknown argument `--{other}`").into()),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(arguments))
}

fn main() -> ExitCode {
    let arguments = match read_arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("tour: {message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    match block_on(tour(&arguments)) {
        Ok(()) => {
            println!("\nThat was the tour, in {:.1} s.", started.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tour: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn tour(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    match &arguments.engine {
        EngineKind::Embedded => Ok(embedded::tour(arguments.dashboard, arguments.hold).await?),
        #[cfg(feature = "dask")]
        EngineKind::LocalCluster => cluster::tour(None, arguments.dashboard, arguments.hold).await,
        #[cfg(feature = "dask")]
        EngineKind::Cluster(address) => {
            cluster::tour(Some(address), arguments.dashboard, arguments.hold).await
        }
        #[cfg(not(feature = "dask"))]
        EngineKind::LocalCluster => Err(WITHOUT.into()),
        #[cfg(not(feature = "dask"))]
        EngineKind::Cluster(address) => Err(format!("{WITHOUT} to reach {address}").into()),
    }
}
