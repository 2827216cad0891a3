//! The tasks that the benches run, how many of them a program has, and the right answers.

pub mod threads;

/// Returns `x + 1`.
pub async fn inc(x: u64) -> u64 {
    x + 1
}

/// Returns `2 * x`.
pub async fn double(x: u64) -> u64 {
    x * 2
}

/// Returns `x + y`.
pub async fn add(x: u64, y: u64) -> u64 {
    x + y
}

/// Returns the sum.
pub async fn total(xs: Vec<u64>) -> u64 {
    xs.into_iter().sum()
}

/// Returns the number of items of a notebook of `n` tasks: three for each, and the total.
pub fn items(n: u64) -> u64 {
    n / 3
}

/// Returns the number of leaves of a tree of `n` tasks: one for each leaf, and one for each pair.
pub fn leaves(n: u64) -> u64 {
    n.div_ceil(2)
}

/// Returns the number of keys of `n` keyed submissions, ten for each key.
pub fn keys(n: u64) -> u64 {
    n.div_ceil(10)
}

/// Returns how many of `n` tasks one of four threads submits.
pub fn quarter(n: u64) -> u64 {
    n / 4
}

/// Returns pairs of neighbours, and the last one if their number is odd.
pub fn pairs<T>(mut level: Vec<T>) -> (impl Iterator<Item = (T, T)>, Option<T>) {
    let odd = if level.len() % 2 == 1 { level.pop() } else { None };
    let mut level = level.into_iter();
    (std::iter::from_fn(move || Some((level.next()?, level.next()?))), odd)
}

/// The right answers, computed the plain way.
pub mod answers {
    use super::{items, keys, leaves, quarter};

    /// The sum of independent increments.
    pub fn independent(n: u64) -> u64 {
        (1..=n).sum()
    }

    /// The total of the notebook.
    pub fn notebook(n: u64) -> u64 {
        (1..=items(n)).map(|x| x + x * 2).sum()
    }

    /// The root of the tree.
    pub fn tree(n: u64) -> u64 {
        (1..=leaves(n)).sum()
    }

    /// The end of the chain.
    pub fn chain(n: u64) -> u64 {
        n
    }

    /// The sum of the fan.
    pub fn fan(n: u64) -> u64 {
        (0..n).map(|i| 1 + i).sum()
    }

    /// The sum of the keyed tasks.
    pub fn keyed(n: u64) -> u64 {
        (0..n).map(|i| i % keys(n) + 1).sum()
    }

    /// The sum over four threads.
    pub fn four_threads(n: u64) -> u64 {
        4 * independent(quarter(n))
    }
}
