//! The client and the workers of the crate beside stock ones, on one scheduler, in one run:
//!
//! ```text
//! cargo bench -p ensue-benches --features dask --bench dask_speed -- ENVIRONMENT [ROUNDS]
//! ```
//!
//! `ENVIRONMENT` is a folder with `bin/dask`, such as `target/dask/2026.8.0`. Each client has two workers of its own kind
//! with one thread each, so the stock client needs no worker restrictions. Rounds of both alternate. A time is the median
//! of the rounds, from the first submission until all tasks are done; that of the scheduler is its processor time
//! meanwhile. Its validation is off, as by default.

mod functions;
mod ours;
mod stock;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ensue_examples::worker;
use ensue_tests_cluster::{Cluster, Options, Setting};
use lexopt::{Arg, Parser, ValueExt};

/// A program of both clients.
struct Row {
    title: &'static str,
    /// Its name in `stock.py` and `ours.rs`.
    program: &'static str,
    n: u64,
    unit: Unit,
    /// The largest accepted quotient of our time and that of stock Dask.
    bound: f64,
}

enum Unit {
    /// The whole time, divided by the number of tasks.
    Task,
    Whole,
}

const ROWS: [Row; 8] = [
    row("independent, `submit`", "submitted", 1_000, Unit::Task, 0.2),
    row("independent, `submit`", "submitted", 10_000, Unit::Task, 0.2),
    row("independent, `map`", "mapped", 1_000, Unit::Task, 0.2),
    row("independent, `map`", "mapped", 10_000, Unit::Task, 0.02),
    row("notebook", "notebook", 769, Unit::Task, 0.2),
    row("round trip", "round_trip", 200, Unit::Whole, 0.6),
    row("200 MB from worker to worker", "transfer", 200_000_000, Unit::Whole, 1.0),
    // Python doesn't copy the bytes.
    row("the same, as a `Vec` of one's own", "copied", 200_000_000, Unit::Whole, 1.5),
];

const fn row(title: &'static str, program: &'static str, n: u64, unit: Unit, bound: f64) -> Row {
    Row { title, program, n, unit, bound }
}

impl Row {
    /// Returns its number of tasks.
    fn tasks(&self) -> f64 {
        if matches!(self.program, "transfer" | "copied") { 2.0 } else { self.n as f64 }
    }

    fn shown(&self, seconds: f64) -> String {
        match self.unit {
            Unit::Task => format!("{:.1} µs", seconds / self.n as f64 * 1e6),
            Unit::Whole => format!("{:.2} ms", seconds * 1e3),
        }
    }
}

/// The time of a row, and the processor time of the scheduler, in seconds.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    scheduler: f64,
}

const USAGE: &str = "usage: cargo bench -p ensue-benches --features dask --bench dask_speed -- ENVIRONMENT [ROUNDS]";

/// Reads the environment and the number of rounds.
fn read(mut arguments: Parser) -> Result<(PathBuf, usize), lexopt::Error> {
    let (mut environment, mut rounds) = (None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            // From `cargo bench`.
            Arg::Long("bench") => {}
            Arg::Value(path) if environment.is_none() => environment = Some(path),
            Arg::Value(number) if rounds.is_none() => rounds = Some(number.parse()?),
            other => return Err(other.unexpected()),
        }
    }
    let environment = environment.ok_or("the environment is missing")?;
    Ok((std::path::absolute(environment).map_err(|error| error.to_string())?, rounds.unwrap_or(3)))
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "worker") {
        let arguments = Parser::from_args(arguments);
        return worker::main("dask_speed worker", arguments, functions::registry());
    }
    match read(Parser::from_env()) {
        Ok((environment, rounds)) => measure(&environment, rounds),
        Err(error) => {
            eprintln!("dask_speed: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn measure(environment: &Path, rounds: usize) -> ExitCode {
    let variables = [("DASK_DISTRIBUTED__SCHEDULER__VALIDATE", "False")];
    let options = Options { variables: &variables, ..Options::default() };
    let setting = Setting { environment: environment.to_owned(), registry: functions::registry };
    let cluster = Cluster::start_with(&setting, &options);
    let mut took: Vec<[Vec<Took>; 2]> = ROWS.iter().map(|_| [vec![], vec![]]).collect();
    for _ in 0..rounds {
        let workers = [cluster.python_worker("stock-0"), cluster.python_worker("stock-1")];
        let mut stock = stock::Stock::start(&cluster);
        // A warm-up.
        stock.run("mapped", 200);
        for (row, took) in ROWS.iter().zip(&mut took) {
            took[0].push(metered(&cluster, || stock.run(row.program, row.n)));
        }
        drop((stock, workers));
        cluster.wait_for_workers(0);

        let workers = [cluster.worker("ours-0"), cluster.worker("ours-1")];
        let ours = ours::Ours::start(&cluster);
        ours.run("mapped", 200);
        for (row, took) in ROWS.iter().zip(&mut took) {
            took[1].push(metered(&cluster, || ours.run(row.program, row.n)));
        }
        ours.end();
        drop(workers);
        cluster.wait_for_workers(0);
    }
    report(environment, &took)
}

/// Measures a run. The scheduler needs a moment afterwards, in which it releases the keys.
fn metered(cluster: &Cluster, run: impl FnOnce() -> f64) -> Took {
    let before = processor_time(cluster.scheduler.id());
    let wall = run();
    std::thread::sleep(Duration::from_millis(300));
    Took { wall, scheduler: processor_time(cluster.scheduler.id()) - before }
}

/// Returns the processor time of a process, in seconds, in steps of 10 ms.
fn processor_time(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux");
    // After the name in parentheses, utime and stime are the 12th and 13th fields.
    let fields: Vec<_> = stat[stat.rfind(')').unwrap_or(0) + 1..].split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    (ticks(11) + ticks(12)) as f64 / 100.0
}

fn report(environment: &Path, took: &[[Vec<Took>; 2]]) -> ExitCode {
    println!("Dask of {}, two workers with a thread each\n", environment.display());
    println!("| | tasks | stock | ours | stock / ours | scheduler, stock | scheduler, ours |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    let mut missed = false;
    for (row, [stock, ours]) in ROWS.iter().zip(took) {
        let wall = |took: &[Took]| median(took.iter().map(|took| took.wall));
        let scheduler = |took: &[Took]| {
            let seconds = median(took.iter().map(|took| took.scheduler));
            format!("{:.0} µs a task", seconds / row.tasks() * 1e6)
        };
        let quotient = wall(ours) / wall(stock);
        let late = if quotient > row.bound { " (too little)" } else { "" };
        missed |= quotient > row.bound;
        println!(
            "| {} | {} | {} | {} | {:.1}{late} | {} | {} |",
            row.title,
            row.tasks(),
            row.shown(wall(stock)),
            row.shown(wall(ours)),
            1.0 / quotient,
            scheduler(stock),
            scheduler(ours),
        );
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
