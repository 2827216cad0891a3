//! The tour: Dask's futures notebook, step by step, and then what the notebook can't show.
//!
//! ```text
//! cargo run --release --example tour
//! cargo run --release --example tour -- --hold 600
//! cargo run --release --example tour -- --fast
//! cargo run --release --all-features --example tour -- --dask
//! cargo run --release --all-features --example tour -- --scheduler tcp://10.0.0.1:8786
//! ```
//!
//! The link that it prints first leads to a page on which the graph can be watched as it grows. The functions
//! sleep a random while, as in the notebook; `--fast` leaves that out. The steps use the verbs of the `Engine`
//! trait, so the same ones run here, on a Dask cluster of its own, or on one that is there already, whose workers
//! are those of the example `dask_worker`.

#[cfg(feature = "dask")]
mod cluster;
mod here;
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

  --fast               leave the sleeping out
  --hold SECONDS       keep the dashboard up so long after the last step
  --no-dashboard       leave the dashboard out
  --dask               run on a Dask cluster that is started for it
  --scheduler ADDRESS  run on the cluster of this scheduler, such as tcp://10.0.0.1:8786";

#[cfg(not(feature = "dask"))]
const WITHOUT: &str = "this was built without the feature `dask`: use `cargo run --all-features`";

/// What is asked for.
struct Asked {
    dashboard: bool,
    hold: Duration,
    place: Place,
}

/// Where the tasks are to run.
enum Place {
    Here,
    LocalCluster,
    /// The scheduler of this address knows.
    Cluster(String),
}

/// Reads the command line. `None` if it asks for the usage.
fn read_arguments() -> Result<Option<Asked>, lexopt::Error> {
    let mut asked = Asked { dashboard: true, hold: Duration::ZERO, place: Place::Here };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("fast") => FAST.store(true, Ordering::Relaxed),
            Long("no-dashboard") => asked.dashboard = false,
            Long("hold") => {
                let seconds = arguments.value().ok().and_then(|value| value.parse().ok());
                let hold = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                asked.hold = hold.ok_or("--hold takes a number of seconds")?;
            }
            Long("dask") => asked.place = Place::LocalCluster,
            Long("scheduler") => asked.place = Place::Cluster(arguments.value()?.string()?),
            Long("help") | Short('h') => return Ok(None),
            Long(other) => return Err(format!("unknown argument `--{other}`").into()),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(asked))
}

fn main() -> ExitCode {
    let asked = match read_arguments() {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(what) => {
            eprintln!("tour: {what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    match block_on(tour(&asked)) {
        Ok(()) => {
            println!("\nThat was the tour, in {:.1} s.", started.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tour: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn tour(asked: &Asked) -> Result<(), Box<dyn std::error::Error>> {
    match &asked.place {
        Place::Here => Ok(here::tour(asked.dashboard, asked.hold).await?),
        #[cfg(feature = "dask")]
        Place::LocalCluster => cluster::tour(None, asked.dashboard, asked.hold).await,
        #[cfg(feature = "dask")]
        Place::Cluster(address) => cluster::tour(Some(address), asked.dashboard, asked.hold).await,
        #[cfg(not(feature = "dask"))]
        Place::LocalCluster => Err(WITHOUT.into()),
        #[cfg(not(feature = "dask"))]
        Place::Cluster(address) => Err(format!("{WITHOUT} to reach {address}").into()),
    }
}
