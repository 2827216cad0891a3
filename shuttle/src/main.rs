//! Runs the scenarios under random schedules: see `README.md`.

mod scenarios;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use lexopt::prelude::*;
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};

const HELP: &str = "\
usage: schedules [--schedules N] [--seed N] [NAME...]
       schedules --replay SCHEDULE NAME

  --schedules N  of each scenario, half of them with few switches between threads (1000)
  --seed N       of the first schedule; the time by default
  --replay TEXT  the schedule that a failure printed";

struct Args {
    schedules: usize,
    seed: u64,
    replay: Option<String>,
    names: Vec<String>,
}

fn args() -> Result<Args, lexopt::Error> {
    let seed = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros() as u64);
    let mut args = Args { schedules: 1000, seed, replay: None, names: Vec::new() };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("schedules") => args.schedules = parser.value()?.parse()?,
            Long("seed") => args.seed = parser.value()?.parse()?,
            Long("replay") => args.replay = Some(parser.value()?.string()?),
            Long("help") => return Err(HELP.into()),
            Value(name) => args.names.push(name.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    if let Some(name) = args.names.iter().find(|name| scenarios::ALL.iter().all(|(n, _)| n != name))
    {
        return Err(format!("there is no scenario `{name}`").into());
    }
    if args.replay.is_some() && args.names.len() != 1 {
        return Err("--replay needs the name of one scenario".into());
    }
    Ok(args)
}

fn main() -> ExitCode {
    let args = match args() {
        Ok(args) => args,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let mut failed = Vec::new();
    for (name, scenario) in scenarios::ALL {
        if !args.names.is_empty() && !args.names.iter().any(|wanted| wanted == name) {
            continue;
        }
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| match &args.replay {
            Some(schedule) => run(ReplayScheduler::new_from_encoded(schedule), *scenario),
            None => {
                let half = args.schedules / 2;
                run(RandomScheduler::new_from_seed(args.seed, args.schedules - half), *scenario)
                    + run(PctScheduler::new_from_seed(args.seed, 3, half), *scenario)
            }
        }));
        match result {
            Ok(schedules) => {
                println!("{name}: {schedules} schedules, {:.1} s", started.elapsed().as_secs_f64());
            }
            Err(_) => {
                println!("{name}: FAILED, seed {}", args.seed);
                failed.push(*name);
            }
        }
    }
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => {
            println!("failed: {}", failed.join(", "));
            ExitCode::FAILURE
        }
    }
}

/// Runs the schedules, and returns their number. Panics at the first that fails, after printing it.
fn run(scheduler: impl Scheduler + 'static, scenario: fn()) -> usize {
    let mut config = Config::new();
    // In an optimised build a poll takes less, but panics are formatted on these stacks.
    config.stack_size = 256 * 1024;
    config.failure_persistence = FailurePersistence::Print;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(move || {
        // The order in which workers steal.
        fastrand::seed(1);
        scenario();
    })
}
