//! Task Bench: how small tasks may be, beside other systems.
//!
//! ```text
//! cargo bench -p ensue-benches --bench task_bench
//! cargo bench -p ensue-benches --bench task_bench -- --pattern stencil --width 16
//! ```
//!
//! Task Bench (Slaughter and others, 2020) is a set of task graphs with one parameter for each thing that costs a runtime
//! something, and a metric: METG(50 %), the length of the shortest tasks with which a system still spends half of the cores
//! in tasks. Each number of the table is that length, in nanoseconds of a core for each task, so it includes what the system
//! itself costs. The graphs have 1000 steps. Each system starts once for each number, and gives the right result for each
//! graph before anything is measured.

mod graph;
mod kernel;
mod metg;
mod systems;

use std::process::ExitCode;
use std::thread;

use graph::{Graph, PATTERNS, Pattern};
use kernel::Kernel;
use lexopt::Arg::Long;
use lexopt::ValueExt;
use metg::Program;
use systems::{SYSTEMS, Start, in_sequence};

const USAGE: &str =
    "usage: task_bench [--pattern NAME] [--system NAME] [--width N] [--graphs N] [--steps N]
                  [--runs N] [--imbalance] [--empty] [--check]

  --pattern NAME  only patterns with this in their name; may be given again
  --system NAME   only systems with this in their name; may be given again
  --width N       tasks in a row (2, then 2 with 4 graphs at once, then 16)
  --graphs N      graphs at once (1)
  --steps N       rows of a graph (1000)
  --runs N        runs of each length of task, of which the median counts (5)
  --imbalance     tasks of different lengths, from 0 to twice the mean
  --empty         the time of an empty task instead, in nanoseconds
  --check         only the results, of short graphs";

struct Arguments {
    patterns: Vec<String>,
    systems: Vec<String>,
    width: Option<usize>,
    graphs: usize,
    steps: usize,
    runs: usize,
    imbalance: bool,
    empty: bool,
    check: bool,
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(lexopt::Parser::from_env()) {
        Ok(arguments) => arguments,
        Err(wrong) => {
            eprintln!("task_bench: {wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if arguments.check {
        for width in [1, 2, 5, 16] {
            check(&arguments, width);
        }
        return ExitCode::SUCCESS;
    }
    match arguments.width {
        Some(width) => table(&arguments, width, arguments.graphs),
        None => [(2, 1), (2, 4), (16, 1)]
            .into_iter()
            .for_each(|(width, graphs)| table(&arguments, width, graphs)),
    }
    ExitCode::SUCCESS
}

/// Prints a table: a row for each pattern, and a column for each system.
fn table(arguments: &Arguments, width: usize, graphs: usize) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let ns_per_step = kernel::ns_per_step(cores);
    let what = if arguments.empty { "ns an empty task" } else { "METG(50 %), ns" };
    println!("\n{what}; width {width}, graphs at once: {graphs}; {cores} cores\n");
    let names: Vec<_> = arguments.systems().map(|(name, _)| name).collect();
    println!("| | {} |\n|---|{}", names.join(" | "), "--:|".repeat(names.len()));
    for (name, pattern) in arguments.patterns() {
        print!("| {name} |");
        let graph = |_| Graph::new(pattern, width, arguments.steps);
        let graphs: Vec<_> = (0..graphs).map(graph).collect();
        for (_, start) in arguments.systems() {
            match measure(arguments, start, &graphs, cores, ns_per_step) {
                Some(ns) => print!(" {ns:.0} |"),
                None => print!(" |"),
            }
        }
        println!();
    }
}

fn measure(
    arguments: &Arguments,
    start: Start,
    graphs: &[Graph],
    cores: usize,
    ns_per_step: f64,
) -> Option<f64> {
    let mut system = start(cores)?;
    if !graphs.iter().all(|graph| system.can_run(graph)) {
        return None;
    }
    assert_eq!(system.run(graphs, Kernel::Empty), in_sequence(graphs, Kernel::Empty));
    let kernel = if arguments.imbalance { Kernel::Imbalance } else { Kernel::Compute };
    let program = Program { graphs, kernel, cores, runs: arguments.runs };
    if arguments.empty {
        return Some(metg::ns_per_empty_task(&mut *system, &program));
    }
    metg::metg(&mut *system, &program, ns_per_step)
}

/// Compares the results of all systems.
fn check(arguments: &Arguments, width: usize) {
    for (pattern_name, pattern) in arguments.patterns() {
        let graphs = [10, 23].map(|steps| Graph::new(pattern, width, steps));
        for (system_name, start) in arguments.systems() {
            let Some(mut system) = start(2) else {
                println!("not here: {system_name}");
                continue;
            };
            if !graphs.iter().all(|graph| system.can_run(graph)) {
                continue;
            }
            for kernel in [Kernel::Empty, Kernel::Compute(10), Kernel::Imbalance(10)] {
                let right = in_sequence(&graphs, kernel);
                let result = system.run(&graphs, kernel);
                assert_eq!(result, right, "{pattern_name} of width {width} on {system_name}");
            }
            println!("right: {pattern_name} of width {width} on {system_name}");
        }
    }
}

impl Arguments {
    fn parse(mut given: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut arguments = Self {
            patterns: Vec::new(),
            systems: Vec::new(),
            width: None,
            graphs: 1,
            steps: 1000,
            runs: 5,
            imbalance: false,
            empty: false,
            check: false,
        };
        while let Some(argument) = given.next()? {
            match argument {
                Long("pattern") => arguments.patterns.push(given.value()?.string()?.to_lowercase()),
                Long("system") => arguments.systems.push(given.value()?.string()?.to_lowercase()),
                Long("width") => arguments.width = Some(given.value()?.parse()?),
                Long("graphs") => arguments.graphs = given.value()?.parse()?,
                Long("steps") => arguments.steps = given.value()?.parse()?,
                Long("runs") => arguments.runs = given.value()?.parse()?,
                Long("imbalance") => arguments.imbalance = true,
                Long("empty") => arguments.empty = true,
                Long("check") => arguments.check = true,
                // From `cargo bench`.
                Long("bench") => {}
                other => return Err(other.unexpected()),
            }
        }
        let numbers = [arguments.graphs, arguments.steps, arguments.runs];
        if numbers.contains(&0) || arguments.width == Some(0) {
            return Err("--width, --graphs, --steps and --runs take a number from 1 on".into());
        }
        if arguments.patterns().next().is_none() || arguments.systems().next().is_none() {
            return Err("no pattern or no system has such a name".into());
        }
        Ok(arguments)
    }

    fn patterns(&self) -> impl Iterator<Item = (&'static str, Pattern)> {
        PATTERNS.into_iter().filter(|(name, _)| is_wanted(name, &self.patterns))
    }

    fn systems(&self) -> impl Iterator<Item = (&'static str, Start)> {
        SYSTEMS.into_iter().filter(|(name, _)| is_wanted(name, &self.systems))
    }
}

fn is_wanted(name: &str, wanted: &[String]) -> bool {
    wanted.is_empty() || wanted.iter().any(|part| name.to_lowercase().contains(part))
}
