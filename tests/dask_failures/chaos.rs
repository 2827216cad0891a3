//! Random programs on a cluster whose parts fail all the time: what comes of them is what comes of them anywhere.

mod disturber;
mod plan;
mod program;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ensue_dask_proto::call;
use fastrand::Rng;

use crate::comm::Comm;
use crate::harness::{Cluster, Options, Outcome, Setting, Test, eventually, stress, wait};
use disturber::{Disturber, WORKER_TTL};
use plan::Plan;
use program::Program;

pub(crate) const TESTS: &[Test] = &[("chaos", chaos)];

const PROGRAMS: u32 = 3;

/// `ENSUE_SEED` says with which seed to begin. Without it, it's the same few programs, or new ones if there are to be
/// more. What processes do isn't the same each time.
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
    // Some failures are more than a scheduler can bear that checks itself.
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
        (disturbing.join().expect("it's caught"), done)
    });
    let (disturber, disturbed) = disturbed;
    if let Err(panic) = disturbed.and(done) {
        eprintln!("{}\n{}", disturber.deeds.join("\n"), left(&cluster, true));
        resume_unwind(panic);
    }
    wait(client.idle());
    // The scheduler learns of handles that were dropped after a moment, and then tells the workers.
    // Without its checks Dask goes on with a task that waits for a failed one, and keeps both when nobody wants them.
    assert_eq!(left(&cluster, is_checked), "", "what the scheduler has still");
    for (name, address) in cluster.worker_addresses() {
        if is_checked && name.starts_with("worker") {
            eventually(format_args!("{name} has nothing"), || {
                let keys = Comm::connect(&address).call(call::request("keys", &[])).texts();
                // If one of the workers goes that are given values together, Dask forgets what it gave to the others.
                keys.iter().all(|key| key.starts_with("ready-"))
            });
        }
    }
    wait(client.close());
}

/// What the scheduler knows after some seconds, unless that's nothing: all of it, or what somebody wants.
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
