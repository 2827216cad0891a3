//! The minimum effective task granularity, METG(50 %): how small tasks may be while half of what the cores can do is spent
//! in them.
//!
//! Tasks are made longer, from far too short ones on, until half of the time is spent in them at two lengths in a row. The
//! length at which it is exactly half lies between that and the one before; both are taken to be points of a line on
//! logarithmic scales. A time is the median of some runs, so that one disturbance changes nothing.

use std::time::{Duration, Instant};

use crate::graph::Graph;
use crate::kernel::Kernel;
use crate::systems::System;

/// The program that is measured.
pub(crate) struct Program<'a> {
    /// These run at once.
    pub(crate) graphs: &'a [Graph],
    pub(crate) kernel: fn(u32) -> Kernel,
    pub(crate) cores: usize,
    /// Runs of which the median counts.
    pub(crate) runs: usize,
}

/// The first length of a task, in nanoseconds, and the factor from one to the next.
const FIRST: f64 = 100.0;
const FACTOR: f64 = std::f64::consts::SQRT_2;

/// Systems that need longer tasks than this, in nanoseconds, are given up.
const LONGEST: f64 = 1e6;

/// Returns the length of a task at which half of the time is spent in tasks, in nanoseconds of a core; `None` if that's
/// more than a millisecond.
pub(crate) fn metg(
    system: &mut dyn System,
    program: &Program<'_>,
    ns_per_step: f64,
) -> Option<f64> {
    let mut before: Option<(f64, f64)> = None;
    let mut crossing: Option<f64> = None;
    let mut length = FIRST;
    while length <= LONGEST {
        let steps = (length / ns_per_step).round().max(1.0);
        let efficiency = efficiency(system, program, steps as u32, ns_per_step);
        if efficiency < 0.5 {
            crossing = None;
        } else if let Some(crossing) = crossing {
            // Half of a task's share of the cores is spent in it.
            return Some(2.0 * crossing);
        } else {
            crossing = Some(before.map_or(length, |(shorter, less)| {
                let part = (0.5 / less).ln() / (efficiency / less).ln();
                shorter * (length / shorter).powf(part)
            }));
        }
        before = Some((length, efficiency));
        length *= FACTOR;
    }
    None
}

/// Returns the part of the cores' time that is spent in tasks.
fn efficiency(system: &mut dyn System, program: &Program<'_>, steps: u32, ns_per_step: f64) -> f64 {
    let took = median_time(system, program, (program.kernel)(steps)).as_nanos() as f64;
    let tasks: usize = program.graphs.iter().map(Graph::tasks).sum();
    tasks as f64 * f64::from(steps) * ns_per_step / (took * program.cores as f64)
}

fn median_time(system: &mut dyn System, program: &Program<'_>, kernel: Kernel) -> Duration {
    let once = |_| {
        let started = Instant::now();
        system.run(program.graphs, kernel);
        started.elapsed()
    };
    let mut times: Vec<_> = (0..program.runs).map(once).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Returns how long an empty task takes, in nanoseconds of the whole machine.
pub(crate) fn ns_per_empty_task(system: &mut dyn System, program: &Program<'_>) -> f64 {
    let tasks: usize = program.graphs.iter().map(Graph::tasks).sum();
    median_time(system, program, Kernel::Empty).as_nanos() as f64 / tasks as f64
}
