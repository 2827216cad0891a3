//! What a task computes.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use crate::graph::mix;

/// What a task does with its inputs besides mixing them into its result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Nothing.
    Empty,
    /// So many steps of a recurrence, each of which needs the one before.
    Compute(u32),
    /// The same, times a number between 0 and 2 that depends on the task's place.
    Imbalance(u32),
}

impl Kernel {
    /// The result of a task, of which each input is a part. The order of the inputs doesn't matter.
    #[inline]
    pub(crate) fn run(self, place: Place, inputs: impl IntoIterator<Item = u64>) -> u64 {
        let inputs = inputs.into_iter().fold(0, u64::wrapping_add);
        let x = inputs ^ mix([place.step, place.column]);
        match self {
            Self::Empty => x,
            Self::Compute(steps) => compute(x, steps),
            Self::Imbalance(steps) => {
                let part = mix([place.column, place.step, 1]) % 2048;
                compute(x, (u64::from(steps) * part / 1024) as u32)
            }
        }
    }
}

/// The place of a task in its graph.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) step: usize,
    pub(crate) column: usize,
}

#[inline(never)]
fn compute(mut x: u64, steps: u32) -> u64 {
    for _ in 0..steps {
        x = black_box(x.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1));
    }
    x
}

/// Returns how long a step of the recurrence takes, in nanoseconds, with `threads` threads that compute at once: the least
/// of some tries.
pub(crate) fn ns_per_step(threads: usize) -> f64 {
    const STEPS: u32 = 2_000_000;
    let barrier = Barrier::new(threads);
    let measure = || {
        barrier.wait();
        let started = Instant::now();
        black_box(compute(1, STEPS));
        started.elapsed().as_nanos() as f64 / f64::from(STEPS)
    };
    let once = || {
        thread::scope(|scope| {
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(measure)).collect();
            let times = all.into_iter().map(|thread| thread.join().expect("it doesn't panic"));
            times.fold(0.0, f64::max)
        })
    };
    (0..20).map(|_| once()).fold(f64::INFINITY, f64::min)
}
