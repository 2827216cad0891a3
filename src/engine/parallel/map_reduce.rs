//! Loops over ranges and slices, made of joins.

use std::ops::Range;
use std::slice;

use self::private::Halves;
use crate::engine::parallel::join::join;

/// Computes `map` of each item and combines all results by `reduce`, in parallel, as [`join`] does. `None` without items.
///
/// The items are those of a range of integers, or of a slice, array or vector by reference: see [`Split`].
///
/// ```
/// # futures_lite::future::block_on(async {
/// let client = ensue::Client::new();
/// let norm = async |mut vector: Vec<f64>| {
///     let sum = ensue::map_reduce(&vector, |x| x * x, |a, b| a + b);
///     let norm = sum.unwrap_or(0.0).sqrt();
///     ensue::map_reduce(&mut vector, |x| *x /= norm, |(), ()| ());
///     vector
/// };
/// let vector = client.submit(norm, vec![3.0, 4.0]).await?;
/// assert_eq!(vector, [0.6, 0.8]);
/// # Ok::<_, ensue::Error>(()) }).unwrap();
/// ```
///
/// The items are halved until one is left, and results are combined in their order: those of `0..5` as
/// `((0, 1), (2, (3, 4)))`. So `reduce` has to be associative, but not commutative, and a sum of floating-point numbers is the
/// same on any number of threads.
///
/// Each item costs a join, some nanoseconds. If `map` takes less than that, let an item stand for more:
///
/// ```
/// let data = vec![1u64; 10_000];
/// let sum = |part: &[u64]| part.iter().sum::<u64>();
/// let parts: Vec<_> = data.chunks(1000).collect();
/// assert_eq!(ensue::map_reduce(&parts, |part| sum(part), |a, b| a + b), Some(10_000));
/// ```
///
/// # Panics, cancellation
///
/// As for [`join`], of which this is made: the panic of the first item wins, where several panic.
pub fn map_reduce<I, R, M, F>(items: I, map: M, reduce: F) -> Option<R>
where
    I: IntoIterator<IntoIter: Split>,
    R: Send,
    M: Fn(I::Item) -> R + Sync,
    F: Fn(R, R) -> R + Sync,
{
    let items = items.into_iter();
    (items.number() > 0).then(|| reduce_some(items, &map, &reduce))
}

/// Of at least one item.
fn reduce_some<S, R, M, F>(mut items: S, map: &M, reduce: &F) -> R
where
    S: Split,
    R: Send,
    M: Fn(S::Item) -> R + Sync,
    F: Fn(R, R) -> R + Sync,
{
    if items.number() == 1 {
        let Some(item) = items.next() else { unreachable!("there is one item") };
        return map(item);
    }
    let (first, second) = items.halves();
    let (first, second) =
        join(|| reduce_some(first, map, reduce), || reduce_some(second, map, reduce));
    reduce(first, second)
}

/// The iterators that [`map_reduce`] can split: ranges of integers, and those of `&[T]` and `&mut [T]`.
///
/// `T` has to be `Sync` for shared slices and `Send` for others, since the items are used on several threads.
///
/// This trait is sealed: no other type implements it.
pub trait Split: Iterator + Send + Sized + Halves {}

impl<S: Iterator + Send + Halves> Split for S {}

mod private {
    pub trait Halves: Sized {
        /// The number of items.
        fn number(&self) -> u64;

        /// Splits it in the middle; the second half isn't the smaller one.
        fn halves(self) -> (Self, Self);
    }
}

impl<T> Halves for slice::Iter<'_, T> {
    fn number(&self) -> u64 {
        self.len() as u64
    }

    fn halves(self) -> (Self, Self) {
        let items = self.as_slice();
        let (first, second) = items.split_at(items.len() / 2);
        (first.iter(), second.iter())
    }
}

impl<T> Halves for slice::IterMut<'_, T> {
    fn number(&self) -> u64 {
        self.len() as u64
    }

    fn halves(self) -> (Self, Self) {
        let items = self.into_slice();
        let (first, second) = items.split_at_mut(items.len() / 2);
        (first.iter_mut(), second.iter_mut())
    }
}

macro_rules! ranges {
    ($($integer:ty)*) => {$(
        impl Halves for Range<$integer> {
            fn number(&self) -> u64 {
                if self.is_empty() { 0 } else { self.end.abs_diff(self.start) as u64 }
            }

            fn halves(self) -> (Self, Self) {
                // Half of the difference fits, and from the start it's no further than to the end.
                let half = self.end.abs_diff(self.start) / 2;
                let middle = self.start.wrapping_add(half as $integer);
                (self.start..middle, middle..self.end)
            }
        }
    )*};
}

ranges! { u8 u16 u32 u64 usize i8 i16 i32 i64 isize }
