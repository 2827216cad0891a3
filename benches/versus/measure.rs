//! The measurement of a row: processes, with rounds in which the two sides take turns.

use std::env;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::load::Load;
use crate::rows::{Row, Side};

/// The load by other programs above which a process is measured again.
const QUIET: f64 = 0.05;

/// The most processes that are started for each one that counts.
const TRIES: usize = 3;

/// The time of each side in one round, in nanoseconds a task.
struct Round {
    ours: f64,
    peer: f64,
}

/// The measurements of one process.
pub(crate) struct Process {
    rounds: Vec<Round>,
    /// The part of all cores that other programs used meanwhile, if it's known.
    others: Option<f64>,
}

/// Measures a row in this process.
pub(crate) fn in_this_process(row: &Row, tasks: u64, rounds: usize) -> Process {
    let expected = (row.answer)(tasks);
    let (mut ours, mut peer) = ((row.ours)(), (row.theirs)());
    let mut ours = || ns_per_task(&mut ours, tasks, expected);
    let mut peer = || ns_per_task(&mut peer, tasks, expected);
    let load = Load::now();
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
    let rounds = (0..rounds).map(in_turn).collect();
    Process { rounds, others: load.and_then(|load| load.of_others_since()) }
}

fn ns_per_task(side: &mut Side, tasks: u64, expected: u64) -> f64 {
    let started = Instant::now();
    let answer = side(tasks);
    let took = started.elapsed();
    assert_eq!(answer, expected, "a wrong answer with {tasks} tasks");
    took.as_nanos() as f64 / tasks as f64
}

/// Measures a row in fresh processes, one after the other, and returns the least disturbed ones.
pub(crate) fn in_processes(count: usize, row: usize, tasks: u64, rounds: usize) -> Vec<Process> {
    let mut processes: Vec<Process> = Vec::new();
    let undisturbed = |process: &&Process| process.others() <= QUIET;
    while processes.iter().filter(undisturbed).count() < count && processes.len() < count * TRIES {
        processes.push(in_a_process(row, tasks, rounds));
    }
    processes.sort_by(|a, b| a.others().total_cmp(&b.others()));
    processes.truncate(count);
    processes
}

fn in_a_process(row: usize, tasks: u64, rounds: usize) -> Process {
    let mut child = Command::new(env::current_exe().expect("the path of this program"));
    child.args(["--child", &row.to_string(), "--tasks", &tasks.to_string()]);
    child.args(["--rounds", &rounds.to_string()]);
    child.stderr(Stdio::inherit());
    let output = child.output().expect("this program can be run");
    assert!(output.status.success(), "row {row} failed with {tasks} tasks");
    Process::read(&String::from_utf8_lossy(&output.stdout))
}

impl Process {
    fn others(&self) -> f64 {
        self.others.unwrap_or(0.0)
    }

    /// Prints this for the parent: the load by other programs, and then a line for each round.
    pub(crate) fn print(&self) {
        println!("{}", self.others.map_or(String::new(), |others| others.to_string()));
        for Round { ours, peer } in &self.rounds {
            println!("{ours} {peer}");
        }
    }

    fn read(text: &str) -> Self {
        let mut lines = text.lines();
        let others = lines.next().and_then(|others| others.parse().ok());
        Self { rounds: lines.map(Round::read).collect(), others }
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

/// The result of a row.
pub(crate) struct Measured {
    /// Nanoseconds a task.
    pub(crate) ours: f64,
    pub(crate) peer: f64,
    /// The ratio of the two in a round: the median over the processes of the median over the rounds, and
    /// the least and greatest of all.
    pub(crate) ratio: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// The highest load by other programs.
    pub(crate) others: Option<f64>,
}

impl Measured {
    pub(crate) fn over(processes: &[Process]) -> Self {
        let median_of = |number: fn(&Round) -> f64| {
            median(processes.iter().map(|process| median(process.rounds.iter().map(number))))
        };
        let ratios = || processes.iter().flat_map(|process| &process.rounds).map(Round::ratio);
        Self {
            ours: median_of(|round| round.ours),
            peer: median_of(|round| round.peer),
            ratio: median_of(Round::ratio),
            min: ratios().fold(f64::INFINITY, f64::min),
            max: ratios().fold(0.0, f64::max),
            others: processes.iter().filter_map(|process| process.others).reduce(f64::max),
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
