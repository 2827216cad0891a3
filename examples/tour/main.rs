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
#[path = "../support/functions.rs"]
mod functions;
mod here;
mod steps;

use std::env;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use functions::FAST;
use futures::executor::block_on;

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

/// `None` where the usage is all that's asked for, and what is wrong with the arguments.
fn read_arguments() -> Result<Option<Asked>, String> {
    let mut asked = Asked { dashboard: true, hold: Duration::ZERO, place: Place::Here };
    let mut arguments = env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default().to_string_lossy().into_owned();
        match argument.to_string_lossy().as_ref() {
            "--fast" => FAST.store(true, Ordering::Relaxed),
            "--no-dashboard" => asked.dashboard = false,
            "--hold" => {
                let number = value().parse().ok();
                let hold = number.and_then(|number| Duration::try_from_secs_f64(number).ok());
                asked.hold = hold.ok_or("--hold takes a number of seconds")?;
            }
            "--dask" => asked.place = Place::LocalCluster,
            "--scheduler" => {
                let address = value();
                if address.is_empty() {
                    return Err("--scheduler takes an address".into());
                }
                asked.place = Place::Cluster(address);
            }
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("unknown argument `{other}`")),
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
