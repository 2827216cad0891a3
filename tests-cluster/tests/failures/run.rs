//! The runner: each test once for each release of Dask, with a time limit.

use std::ffi::OsString;
use std::path::Path;
use std::process::{self, ExitCode};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use ensue_tests_cluster::process::kill_all;
use ensue_tests_cluster::{Setting, environments};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::functions;

/// The time limit of a test, longer than any needs on a busy machine. A test that hangs can't be stopped, so it ends the
/// run.
const LIMIT: Duration = Duration::from_secs(240);

/// Returns the factor for the length of random tests.
pub(crate) fn stress() -> u32 {
    std::env::var("ENSUE_STRESS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// The reason for which a test can't run on this machine.
pub(crate) struct Skipped(pub(crate) String);

pub(crate) type Outcome = Result<(), Skipped>;

pub(crate) type Test = (&'static str, fn(&Setting) -> Outcome);

/// Takes `--repeat N` out of the command line, which is libtest's otherwise.
fn repeat(arguments: &mut Vec<OsString>) -> Result<usize, String> {
    let Some(at) = arguments.iter().position(|argument| argument == "--repeat") else {
        return Ok(1);
    };
    let rounds = arguments.get(at + 1).and_then(|rounds| rounds.to_str()?.parse().ok());
    let rounds = rounds.filter(|rounds| *rounds > 0).ok_or("--repeat takes a number from 1 on")?;
    arguments.drain(at..at + 2);
    Ok(rounds)
}

/// Runs the tests that the command line selects.
pub(crate) fn run(tests: &[Test]) -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let rounds = match repeat(&mut arguments) {
        Ok(rounds) => rounds,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let arguments = Arguments::from_iter(arguments);
    let environments = environments();
    if environments.is_empty() {
        println!("no environments of Dask in ENSUE_DASK");
    }
    let mut has_failed = false;
    for _ in 0..rounds {
        let settings = environments.iter().map(|environment| Setting {
            environment: environment.clone(),
            registry: functions::registry,
        });
        let trials = settings.flat_map(|setting| {
            let release = release(&setting.environment);
            tests.iter().map(move |&(name, test)| {
                let setting = setting.clone();
                let runner = move || bounded(name, test, setting);
                Trial::ignorable_test(name, runner).with_kind(release.clone())
            })
        });
        has_failed |= libtest_mimic::run(&arguments, trials.collect()).has_failed();
    }
    if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs a test on a thread of its own. If it isn't done in time, the process exits.
fn bounded(
    name: &'static str,
    test: fn(&Setting) -> Outcome,
    setting: Setting,
) -> Result<Completion, Failed> {
    let limit = LIMIT * stress();
    let (send, outcome) = channel();
    let runner = thread::Builder::new().name(name.to_owned());
    let runner = runner.spawn(move || {
        let outcome = test(&setting);
        let _ = send.send(outcome);
    });
    let runner = runner.expect("a thread");
    let received = outcome.recv_timeout(limit);
    if let Err(RecvTimeoutError::Timeout) = received {
        eprintln!("{name} FAILED: not done within {limit:?}");
        kill_all();
        process::exit(1);
    }
    let _ = runner.join();
    match received {
        Ok(Ok(())) => Ok(Completion::Completed),
        Ok(Err(Skipped(reason))) => Ok(Completion::ignored_with(reason)),
        // The panic's message is in the output.
        Err(_) => Err(Failed::without_message()),
    }
}

/// Returns the name of an environment's folder, which is that of its release.
fn release(environment: &Path) -> String {
    environment.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
