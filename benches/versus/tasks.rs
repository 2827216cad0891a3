//! What both sides run, how many of it, and the right answers.

pub(crate) async fn inc(x: u64) -> u64 {
    x + 1
}

pub(crate) async fn double(x: u64) -> u64 {
    x * 2
}

pub(crate) async fn add(x: u64, y: u64) -> u64 {
    x + y
}

pub(crate) async fn total(xs: Vec<u64>) -> u64 {
    xs.into_iter().sum()
}

/// The items of a notebook of `n` tasks: three for each, and the total.
pub(crate) fn items(n: u64) -> u64 {
    n / 3
}

/// The leaves of a tree of `n` tasks: one for each, and one for each pair.
pub(crate) fn leaves(n: u64) -> u64 {
    n.div_ceil(2)
}

/// The keys of `n` keyed submissions, ten for each.
pub(crate) fn keys(n: u64) -> u64 {
    n.div_ceil(10)
}

/// How many of `n` tasks one of four threads submits.
pub(crate) fn quarter(n: u64) -> u64 {
    n / 4
}

/// Neighbours, and the last one where the number is odd.
pub(crate) fn pairs<T>(mut level: Vec<T>) -> (impl Iterator<Item = (T, T)>, Option<T>) {
    let odd = if level.len() % 2 == 1 { level.pop() } else { None };
    let mut level = level.into_iter();
    (std::iter::from_fn(move || Some((level.next()?, level.next()?))), odd)
}

/// The right answers, computed the plain way.
pub(crate) mod answers {
    use super::{items, keys, leaves, quarter};

    pub(crate) fn independent(n: u64) -> u64 {
        (1..=n).sum()
    }

    pub(crate) fn notebook(n: u64) -> u64 {
        (1..=items(n)).map(|x| x + x * 2).sum()
    }

    pub(crate) fn tree(n: u64) -> u64 {
        (1..=leaves(n)).sum()
    }

    pub(crate) fn chain(n: u64) -> u64 {
        n
    }

    pub(crate) fn fan(n: u64) -> u64 {
        (0..n).map(|i| 1 + i).sum()
    }

    pub(crate) fn keyed(n: u64) -> u64 {
        (0..n).map(|i| i % keys(n) + 1).sum()
    }

    pub(crate) fn four_threads(n: u64) -> u64 {
        4 * independent(quarter(n))
    }
}
