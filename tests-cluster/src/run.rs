//! Runs tests one after the other or some at once, each bounded in time, for each release of Dask.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::process::kill_all;

/// More than any test needs on a busy machine. What hangs is killed then, and the run ends.
const LIMIT: Duration = Duration::from_secs(240);

/// How many times as long random tests go on.
pub(crate) fn stress() -> u32 {
    std::env::var("ENSUE_STRESS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// What a test is given.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// With `bin/dask` and `bin/python`.
    pub(crate) environment: PathBuf,
}

/// Why it couldn't be tested here.
pub(crate) struct Skipped(pub(crate) String);

pub(crate) type Outcome = Result<(), Skipped>;

pub(crate) type Test = (&'static str, fn(&Setting) -> Outcome);

struct Asked {
    repeat: usize,
    jobs: usize,
    filters: Vec<String>,
}

fn read(mut arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { repeat: 1, jobs: 1, filters: Vec::new() };
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let number = arguments.next().and_then(|number| number.parse().ok());
            number.filter(|number| *number > 0).ok_or(format!("{argument} takes a number"))
        };
        match &*argument {
            "--repeat" => asked.repeat = number()?,
            "--jobs" => asked.jobs = number()?,
            // What cargo and its users may say to any test.
            "--nocapture" | "--quiet" => {}
            other if other.starts_with('-') => return Err(format!("unknown option `{other}`")),
            _ => asked.filters.push(argument),
        }
    }
    Ok(asked)
}

/// Runs the tests whose names contain one of the words on the command line, or all.
pub(crate) fn run(tests: &[Test]) -> ExitCode {
    let asked = match read(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(what) => {
            eprintln!("{what}\nusage: [--repeat N] [--jobs N] [NAME...]");
            return ExitCode::from(2);
        }
    };
    let wanted = |name: &str| {
        asked.filters.is_empty() || asked.filters.iter().any(|word| name.contains(word.as_str()))
    };
    let environments = std::env::var("ENSUE_DASK").unwrap_or_default();
    let environments: Vec<_> =
        environments.split(':').filter(|folder| !folder.is_empty()).collect();
    let mut queue = VecDeque::new();
    for _ in 0..asked.repeat {
        for environment in &environments {
            let chosen = tests.iter().filter(|(name, _)| wanted(name));
            queue.extend(chosen.map(|test| (*test, Setting { environment: environment.into() })));
        }
    }
    if queue.is_empty() {
        println!("no test, or no environment of Dask in ENSUE_DASK");
        return ExitCode::SUCCESS;
    }
    let queue = Arc::new(Mutex::new(queue));
    let counts: Arc<[AtomicUsize; 3]> = Arc::default();
    let jobs: Vec<_> = (0..asked.jobs)
        .map(|_| {
            let (queue, counts) = (queue.clone(), counts.clone());
            thread::spawn(move || work(&queue, &counts))
        })
        .collect();
    for job in jobs {
        let _ = job.join();
    }
    let [passed, failed, skipped] = [0, 1, 2].map(|at: usize| counts[at].load(Ordering::Relaxed));
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn work(queue: &Mutex<VecDeque<(Test, Setting)>>, counts: &[AtomicUsize; 3]) {
    let next = || queue.lock().unwrap().pop_front();
    let limit = LIMIT * stress();
    while let Some(((name, test), setting)) = next() {
        let release = release(&setting.environment);
        let start = Instant::now();
        let (send, outcome) = channel();
        let runner = thread::Builder::new().name(name.to_owned());
        let runner = runner.spawn(move || {
            let outcome = test(&setting);
            let _ = send.send(outcome);
        });
        let received = outcome.recv_timeout(limit);
        if !matches!(received, Err(RecvTimeoutError::Timeout)) {
            let _ = runner.expect("a thread").join();
        }
        let took = start.elapsed().as_secs_f64();
        let at = match received {
            Ok(Ok(())) => {
                println!("{release} {name} ... ok, {took:.1} s");
                0
            }
            Ok(Err(Skipped(why))) => {
                println!("{release} {name} ... SKIPPED: {why}");
                2
            }
            Err(RecvTimeoutError::Disconnected) => {
                println!("{release} {name} ... FAILED, {took:.1} s");
                1
            }
            Err(RecvTimeoutError::Timeout) => {
                println!("{release} {name} ... FAILED: not done within {limit:?}");
                kill_all();
                process::exit(1);
            }
        };
        counts[at].fetch_add(1, Ordering::Relaxed);
    }
}

/// Environments are named for what is in them.
fn release(environment: &Path) -> String {
    environment.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
