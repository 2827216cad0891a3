//! Measuring a row: rounds in which the sides take turns, and processes in which there are rounds.

use std::env;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::rows::{Row, Side};

/// What one round cost each side, in nanoseconds a task.
pub(crate) struct Round {
    ours: f64,
    peer: f64,
}

/// Measures a row in this process.
pub(crate) fn rounds(row: &Row, tasks: u64, count: usize) -> Vec<Round> {
    let expected = (row.answer)(tasks);
    let (mut ours, mut peer) = ((row.ours)(), (row.theirs)());
    let mut ours = || ns_per_task(&mut ours, tasks, expected);
    let mut peer = || ns_per_task(&mut peer, tasks, expected);
    ours();
    peer();
    let in_turn = |round| {
        if round % 2 == 0 {
            let ours = ours();
            Round { ours, peer: peer() }
        } else {
            let peer = peer();
            Round { ours: ours(), peer }
        }
    };
    (0..count).map(in_turn).collect()
}

fn ns_per_task(side: &mut Side, tasks: u64, expected: u64) -> f64 {
    let started = Instant::now();
    let answer = side(tasks);
    let took = started.elapsed();
    assert_eq!(answer, expected, "a wrong answer with {tasks} tasks");
    took.as_nanos() as f64 / tasks as f64
}

/// Measures a row in fresh processes, one after the other.
pub(crate) fn in_processes(
    processes: usize,
    row: usize,
    tasks: u64,
    count: usize,
) -> Vec<Vec<Round>> {
    let own = env::current_exe().expect("the path of this program");
    let measure = |_| {
        let mut child = Command::new(&own);
        child.args(["--child", &row.to_string(), "--tasks", &tasks.to_string()]);
        child.args(["--rounds", &count.to_string()]);
        child.stderr(Stdio::inherit());
        let output = child.output().expect("this program can be run");
        assert!(output.status.success(), "row {row} failed with {tasks} tasks");
        String::from_utf8_lossy(&output.stdout).lines().map(Round::read).collect()
    };
    (0..processes).map(measure).collect()
}

/// Prints the rounds for the parent.
pub(crate) fn print_rounds(rounds: &[Round]) {
    for Round { ours, peer } in rounds {
        println!("{ours} {peer}");
    }
}

impl Round {
    fn read(line: &str) -> Self {
        let mut numbers = line.split(' ').map(|number| number.parse().expect("a number"));
        let mut next = || numbers.next().expect("two numbers");
        Self { ours: next(), peer: next() }
    }

    fn ratio(&self) -> f64 {
        self.ours / self.peer
    }
}

/// What came of a row.
pub(crate) struct Measured {
    /// Nanoseconds a task.
    pub(crate) ours: f64,
    pub(crate) peer: f64,
    /// The ratio of the two in a round: the median over the processes of the median over the rounds, and
    /// the least and greatest of all.
    pub(crate) ratio: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Measured {
    pub(crate) fn over(processes: &[Vec<Round>]) -> Self {
        let median_of = |number: fn(&Round) -> f64| {
            let each = processes.iter().map(|rounds| median(rounds.iter().map(number)));
            median(each)
        };
        let ratios = || processes.iter().flatten().map(Round::ratio);
        Self {
            ours: median_of(|round| round.ours),
            peer: median_of(|round| round.peer),
            ratio: median_of(Round::ratio),
            min: ratios().fold(f64::INFINITY, f64::min),
            max: ratios().fold(0.0, f64::max),
        }
    }
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    let upper = numbers.len() / 2;
    let lower = (numbers.len() - 1) / 2;
    (numbers[lower] + numbers[upper]) / 2.0
}
