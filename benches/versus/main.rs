//! The crate beside its peers: each row is one program, written for both and measured in turn.
//!
//! ```text
//! cargo bench -p ensue-benches --bench versus
//! cargo bench -p ensue-benches --bench versus -- --row notebook --tasks 5000
//! cargo bench -p ensue-benches --bench versus -- --once --rounds 3
//! ```
//!
//! A row is measured in three fresh processes, because both sides are faster in some processes than in others. In each, the
//! two sides take turns for some rounds after one to warm up. A wrong answer fails the bench, and so does a row over its
//! bound.
//!
//! The last column is the part of all cores that other programs used meanwhile. That costs the two sides differently, so
//! disturbed processes are measured again. A row whose last column isn't near 0 is of little use.

mod load;
mod measure;
mod others;
mod ours;
mod peers;
mod rows;

use std::process::ExitCode;

use lexopt::Arg::Long;
use lexopt::ValueExt;
use measure::{Measured, in_processes, in_this_process};
use rows::{Row, all};

const USAGE: &str = "usage: versus [--row NAME] [--tasks N] [--rounds N] [--once] [--check]

  --row NAME   only rows with this in their name or that of their peer; may be given again
  --tasks N    this many tasks instead of a row's own sizes
  --rounds N   rounds in each process (9)
  --once       measure in this process only, not in three fresh ones
  --check      one round of 1000 tasks a row, for its answers only";

/// Processes that measure a row.
const PROCESSES: usize = 3;

struct Arguments {
    rows: Vec<String>,
    tasks: Option<u64>,
    rounds: usize,
    once: bool,
    check: bool,
    /// The row that this process measures for its parent.
    child: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(lexopt::Parser::from_env()) {
        Ok(arguments) => arguments,
        Err(wrong) => {
            eprintln!("versus: {wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let rows = all();
    if let (Some(at), Some(tasks)) = (arguments.child, arguments.tasks) {
        in_this_process(&rows[at], tasks, arguments.rounds).print();
        return ExitCode::SUCCESS;
    }

    let wanted = || rows.iter().enumerate().filter(|(_, row)| arguments.wants(row));
    if wanted().next().is_none() {
        eprintln!("versus: no row is called {}", arguments.rows.join(" or "));
        return ExitCode::from(2);
    }
    if arguments.check {
        for (_, row) in wanted() {
            in_this_process(row, 1000, 1);
            println!("right: {}, beside {}", row.name, row.peer);
        }
        return ExitCode::SUCCESS;
    }
    println!(
        "| program | peer | tasks | ours, ns | peer, ns | ours / peer | min .. max | bound | | others |\n\
         |---|---|--:|--:|--:|--:|--:|--:|---|--:|"
    );
    let mut over = 0;
    for (at, row) in wanted() {
        let given = arguments.tasks.map(|tasks| vec![tasks]);
        for tasks in given.unwrap_or_else(|| row.sizes.to_vec()) {
            let measured = if arguments.once {
                Measured::over(&[in_this_process(row, tasks, arguments.rounds)])
            } else {
                Measured::over(&in_processes(PROCESSES, at, tasks, arguments.rounds))
            };
            over += usize::from(row.bound.is_some_and(|bound| measured.ratio > bound));
            print(row, tasks, &measured);
        }
    }
    if over > 0 {
        eprintln!("versus: {over} over the bound");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn print(row: &Row, tasks: u64, measured: &Measured) {
    let Measured { ours, peer, ratio, min, max, others } = measured;
    let (bound, verdict) = match row.bound {
        Some(bound) if *ratio <= bound => (format!("{bound:.2}"), "within"),
        Some(bound) => (format!("{bound:.2}"), "OVER"),
        None => (String::new(), ""),
    };
    let others = others.map_or(String::new(), |part| format!("{:.0} %", part * 100.0));
    println!(
        "| {} | {} | {tasks} | {ours:.0} | {peer:.0} | {ratio:.2} | {min:.2} .. {max:.2} | {bound} | {verdict} | {others} |",
        row.name, row.peer
    );
}

impl Arguments {
    fn parse(mut given: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut arguments = Self {
            rows: Vec::new(),
            tasks: None,
            rounds: 9,
            once: false,
            check: false,
            child: None,
        };
        while let Some(argument) = given.next()? {
            match argument {
                Long("row") => arguments.rows.push(given.value()?.string()?.to_lowercase()),
                Long("tasks") => arguments.tasks = Some(given.value()?.parse()?),
                Long("rounds") => arguments.rounds = given.value()?.parse()?,
                Long("once") => arguments.once = true,
                Long("check") => arguments.check = true,
                Long("child") => arguments.child = Some(given.value()?.parse()?),
                // From `cargo bench`.
                Long("bench") => {}
                other => return Err(other.unexpected()),
            }
        }
        if arguments.tasks == Some(0) || arguments.rounds == 0 {
            return Err("--tasks and --rounds take a number from 1 on".into());
        }
        Ok(arguments)
    }

    fn wants(&self, row: &Row) -> bool {
        let name = format!("{} {}", row.name, row.peer).to_lowercase();
        self.rows.is_empty() || self.rows.iter().any(|wanted| name.contains(wanted))
    }
}
