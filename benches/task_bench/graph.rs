//! The task graphs of Task Bench: a number of steps, each with a row of tasks that take results of the row before.

/// Which results of the row before a task takes. `W` is the width of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// None.
    Trivial,
    /// That of the same column.
    Chains,
    /// Those of the same column and its neighbours.
    Stencil,
    /// Those of the same column and the one before: a sweep over a grid from a corner.
    Sweep,
    /// That of the parent: rows of 1, 2, 4 and so on up to `W` tasks.
    Tree,
    /// Those of the same column and the two at a distance of 1, 2, 4 and so on, in turn.
    Fft,
    /// Five around the same column.
    Nearest,
    /// Five at equal distances, which move by one in each step.
    Spread,
    /// Of five around the same column, itself and each other one with a chance of a half.
    RandomNearest,
    /// All.
    AllToAll,
}

pub(crate) const PATTERNS: [(&str, Pattern); 10] = [
    ("trivial", Pattern::Trivial),
    ("chains", Pattern::Chains),
    ("stencil", Pattern::Stencil),
    ("sweep", Pattern::Sweep),
    ("tree", Pattern::Tree),
    ("fft", Pattern::Fft),
    ("nearest 5", Pattern::Nearest),
    ("spread 5", Pattern::Spread),
    ("random nearest 5", Pattern::RandomNearest),
    ("all to all", Pattern::AllToAll),
];

/// The most inputs of a task of `Nearest`, `Spread` and `RandomNearest`.
const RADIX: usize = 5;

/// The rows of a graph: for each task the columns of its inputs in the row before, in ascending order.
pub(crate) struct Graph {
    rows: Vec<Vec<Vec<usize>>>,
}

impl Graph {
    pub(crate) fn new(pattern: Pattern, width: usize, steps: usize) -> Self {
        let row = |step| {
            let width_now = width_at(pattern, width, step);
            let before = step.checked_sub(1).map_or(0, |step| width_at(pattern, width, step));
            let inputs = |column| {
                let mut inputs = inputs(pattern, width, step, column);
                inputs.retain(|&column| column < before);
                inputs.sort_unstable();
                inputs.dedup();
                inputs
            };
            (0..width_now).map(inputs).collect()
        };
        Self { rows: (0..steps).map(row).collect() }
    }

    pub(crate) fn rows(&self) -> &[Vec<Vec<usize>>] {
        &self.rows
    }

    pub(crate) fn tasks(&self) -> usize {
        self.rows.iter().map(Vec::len).sum()
    }

    pub(crate) fn most_inputs(&self) -> usize {
        self.rows.iter().flatten().map(Vec::len).max().unwrap_or(0)
    }
}

fn width_at(pattern: Pattern, width: usize, step: usize) -> usize {
    match pattern {
        Pattern::Tree if step < usize::BITS as usize => width.min(1 << step),
        _ => width,
    }
}

/// Returns columns of the row before; those that it doesn't have are left out by the caller.
fn inputs(pattern: Pattern, width: usize, step: usize, column: usize) -> Vec<usize> {
    let around = || column.saturating_sub(RADIX / 2)..=column + RADIX / 2;
    match pattern {
        Pattern::Trivial => Vec::new(),
        Pattern::Chains => vec![column],
        Pattern::Stencil => (column.saturating_sub(1)..=column + 1).collect(),
        Pattern::Sweep => (column.saturating_sub(1)..=column).collect(),
        // Once the rows are complete, each is a permutation of the one before.
        Pattern::Tree => vec![column / 2],
        Pattern::Fft => {
            let distances = width.max(2).ilog2() as usize;
            let distance = 1 << (step % distances);
            let mut inputs = vec![column, column + distance];
            inputs.extend(column.checked_sub(distance));
            inputs
        }
        Pattern::Nearest => around().collect(),
        Pattern::Spread => (0..RADIX)
            .map(|at| (column + at * width / RADIX + if at > 0 { step } else { 0 }) % width)
            .collect(),
        Pattern::RandomNearest => {
            let is_input = |&other: &usize| other == column || is_heads(step, column, other);
            around().filter(is_input).collect()
        }
        Pattern::AllToAll => (0..width).collect(),
    }
}

/// A coin toss that is the same each time.
fn is_heads(step: usize, column: usize, other: usize) -> bool {
    mix([step, column, other]) % 2 == 0
}

/// Mixes numbers into one.
pub(crate) fn mix(numbers: impl IntoIterator<Item = usize>) -> u64 {
    let mut mixed = 0x9e37_79b9_7f4a_7c15_u64;
    for number in numbers {
        mixed = (mixed ^ number as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^= mixed >> 29;
    }
    mixed
}
