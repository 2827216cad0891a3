//! Random programs on a cluster whose workers fail all the time, against direct evaluation.

mod disturber;
mod plan;
mod program;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ensue_dask_proto::call;
use ensue_tests_cluster::comm::Comm;
use ensue_tests_cluster::{Cluster, Options, Setting, eventually, wait};
use fastrand::Rng;

use crate::run::{Outcome, Test, stress};
use disturber::{Disturber, WORKER_TTL};
use plan::Plan;
use program::Program;

pub(crate) const TESTS: &[Test] = &[("chaos", chaos)];

const PROGRAMS: u32 = 3;

/// `ENSUE_SEED` is the first seed. Without it, the same few programs run, or new ones if `ENSUE_STRESS` asks for more. The
/// timing of processes differs from run to run.
fn chaos(setting: &Setting) -> Outcome {
    let seed = std::env::var("ENSUE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| if stress() > 1 { fastrand::u64(..1 << 32) } else { 0 });
    for seed in (seed..).take((PROGRAMS * stress()) as usize) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| one(setting, seed))) {
            eprintln!("again: ENSUE_SEED={seed}");
            resume_unwind(panic);
        }
    }
    Ok(())
}

fn one(setting: &Setting, seed: u64) {
    let mut random = Rng::with_seed(seed);
    let has_python = random.u32(0..3) == 0;
    // A scheduler that validates its state fails an assertion after some failures.
    let is_checked = random.u32(0..3) > 0;
    let plan = Plan::new(random.fork(), has_python, is_checked);
    let validate = if is_checked { "True" } else { "False" };
    let variables = [
        ("DASK_DISTRIBUTED__SCHEDULER__VALIDATE", validate),
        ("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "1000"),
        ("DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL", WORKER_TTL),
    ];
    let options = Options { variables: &variables, ..Options::default() };
    let cluster = Cluster::start_with(setting, &options);
    let client = cluster.client();
    let mut disturber = Disturber::new(&cluster, random.fork(), has_python);
    let is_over = AtomicBool::new(false);
    let (disturbed, done) = thread::scope(|scope| {
        let disturbing = scope.spawn(|| {
            let result = catch_unwind(AssertUnwindSafe(|| disturber.run(&is_over)));
            (disturber, result)
        });
        let done = catch_unwind(AssertUnwindSafe(|| {
            let mut program = Program::new(&client, &plan, cluster.folder());
            program.run();
            program.end();
        }));
        is_over.store(true, Ordering::Relaxed);
        (disturbing.join().expect("no panic outside catch_unwind"), done)
    });
    let (disturber, disturbed) = disturbed;
    if let Err(panic) = disturbed.and(done) {
        eprintln!("{}\n{}", disturber.deeds.join("\n"), left(&cluster, true));
        resume_unwind(panic);
    }
    wait(client.idle());
    // The scheduler releases the keys of dropped handles after a moment, and then those on the workers.
    // Without validation, Dask keeps a task that waits for a failed one, and both stay when no client wants them.
    assert_eq!(left(&cluster, is_checked), "", "tasks left on the scheduler");
    for (name, address) in cluster.worker_addresses() {
        if is_checked && name.starts_with("worker") {
            eventually(format_args!("{name} has nothing"), || {
                let keys = Comm::connect(&address).call(call::request("keys", &[])).texts();
                // When values are scattered to several workers and one of them exits, Dask forgets those on the others.
                keys.iter().all(|key| key.starts_with("ready-"))
            });
        }
    }
    wait(client.close());
}

/// Returns the tasks that the scheduler still has after ten seconds: all of them, or those that a client wants.
fn left(cluster: &Cluster, all: bool) -> String {
    let program = "
import time

def look(dask_scheduler):
    return [
        f'{ts!r} is on {ts.who_has} {ts.processing_on} for {ts.who_wants}, waits for {ts.waiting_on}'
        for ts in dask_scheduler.tasks.values()
        if SHOWN
    ]

start = time.monotonic()
while (left := client.run_on_scheduler(look)) and time.monotonic() < start + 10:
    time.sleep(0.1)
print('\\n'.join(left), end='')
";
    cluster.python(&program.replace("SHOWN", if all { "True" } else { "ts.who_wants" }))
}
