//! Containers of inputs, as they are stored in a waiting task's cell.

use std::marker::PhantomData;

use crate::Error;
use crate::engine::task::edges::{Edge, Waits};

/// Prefetching runs this many inputs ahead: enough to hide the latency of memory.
const AHEAD: usize = 8;

/// A list of inputs; the vector is never changed, so its elements stay in place.
pub struct Many<W>(Vec<W>);

impl<W> Many<W> {
    pub(crate) fn new(inputs: Vec<W>) -> Self {
        Self(inputs)
    }
}

// SAFETY: all edges are in the vector's own memory.
unsafe impl<W: Waits> Waits for Many<W> {
    type Args = Vec<W::Args>;

    const SETTLES: bool = W::SETTLES;

    fn count(&self) -> usize {
        self.0.iter().map(W::count).sum()
    }
    fn each(&self, visit: &mut dyn FnMut(&Edge)) {
        let mut ahead = self.0.iter().skip(AHEAD);
        for waits in &self.0 {
            ahead.next().into_iter().for_each(W::announce);
            waits.each(visit);
        }
    }
    fn take(self) -> Result<Self::Args, Error> {
        let mut args = Vec::with_capacity(self.0.len());
        let mut all = self.0.into_iter();
        while let Some(waits) = all.next() {
            all.as_slice().get(AHEAD).into_iter().for_each(W::announce);
            args.push(waits.take()?);
        }
        Ok(args)
    }
    fn prepare(&mut self, copy: bool) -> u8 {
        let mut depth = 0;
        for at in 0..self.0.len() {
            self.0.get(at + AHEAD).into_iter().for_each(W::announce);
            depth = depth.max(self.0[at].prepare(copy));
        }
        depth
    }
}

/// An array of inputs.
pub struct Array<W, const N: usize>([W; N]);

impl<W, const N: usize> Array<W, N> {
    pub(crate) fn new(inputs: [W; N]) -> Self {
        Self(inputs)
    }
}

// SAFETY: all edges are stored inline.
unsafe impl<W: Waits, const N: usize> Waits for Array<W, N> {
    type Args = [W::Args; N];

    const SETTLES: bool = W::SETTLES;

    fn count(&self) -> usize {
        self.0.iter().map(W::count).sum()
    }
    fn each(&self, visit: &mut dyn FnMut(&Edge)) {
        self.0.iter().for_each(|waits| waits.each(visit));
    }
    fn take(self) -> Result<Self::Args, Error> {
        let args: Vec<_> = self.0.into_iter().map(W::take).collect::<Result<_, _>>()?;
        match args.try_into() {
            Ok(array) => Ok(array),
            Err(_) => unreachable!("an array has as many elements as it has"),
        }
    }
    fn prepare(&mut self, copy: bool) -> u8 {
        self.0.iter_mut().fold(0, |depth, waits| depth.max(waits.prepare(copy)))
    }
}

/// One input or none.
pub struct Maybe<W>(Option<W>);

impl<W> Maybe<W> {
    pub(crate) fn new(inputs: Option<W>) -> Self {
        Self(inputs)
    }
}

// SAFETY: the edges are stored inline.
unsafe impl<W: Waits> Waits for Maybe<W> {
    type Args = Option<W::Args>;

    const SETTLES: bool = W::SETTLES;

    fn count(&self) -> usize {
        self.0.as_ref().map_or(0, W::count)
    }
    fn each(&self, visit: &mut dyn FnMut(&Edge)) {
        if let Some(waits) = &self.0 {
            waits.each(visit);
        }
    }
    fn take(self) -> Result<Self::Args, Error> {
        self.0.map(W::take).transpose()
    }
    fn prepare(&mut self, copy: bool) -> u8 {
        self.0.iter_mut().fold(0, |depth, waits| depth.max(waits.prepare(copy)))
    }
}

/// An input, or an error that the submitter has in its place.
pub struct Fallible<W, E>(Result<W, E>);

impl<W, E> Fallible<W, E> {
    pub(crate) fn new(inputs: Result<W, E>) -> Self {
        Self(inputs)
    }
}

// SAFETY: the edges are stored inline.
unsafe impl<W: Waits, E: Send + 'static> Waits for Fallible<W, E> {
    type Args = Result<W::Args, E>;

    const SETTLES: bool = W::SETTLES;

    fn count(&self) -> usize {
        self.0.as_ref().map_or(0, W::count)
    }
    fn each(&self, visit: &mut dyn FnMut(&Edge)) {
        if let Ok(waits) = &self.0 {
            waits.each(visit);
        }
    }
    fn take(self) -> Result<Self::Args, Error> {
        Ok(match self.0 {
            Ok(waits) => Ok(waits.take()?),
            Err(error) => Err(error),
        })
    }
    fn prepare(&mut self, copy: bool) -> u8 {
        self.0.iter_mut().fold(0, |depth, waits| depth.max(waits.prepare(copy)))
    }
}

/// The values of a map, to be collected into a `C`.
pub struct Pairs<K, W, C>(Vec<(K, W)>, PhantomData<fn() -> C>);

impl<K, W, C> Pairs<K, W, C> {
    pub(crate) fn new(inputs: Vec<(K, W)>) -> Self {
        Self(inputs, PhantomData)
    }
}

// SAFETY: all edges are in the vector's own memory.
unsafe impl<K, W, C> Waits for Pairs<K, W, C>
where
    K: 'static,
    W: Waits,
    C: FromIterator<(K, W::Args)> + Send + 'static,
{
    type Args = C;

    const SETTLES: bool = W::SETTLES;

    fn count(&self) -> usize {
        self.0.iter().map(|(_, waits)| waits.count()).sum()
    }
    fn each(&self, visit: &mut dyn FnMut(&Edge)) {
        self.0.iter().for_each(|(_, waits)| waits.each(visit));
    }
    fn take(self) -> Result<C, Error> {
        self.0.into_iter().map(|(key, waits)| Ok((key, waits.take()?))).collect()
    }
    fn prepare(&mut self, copy: bool) -> u8 {
        self.0.iter_mut().fold(0, |depth, (_, waits)| depth.max(waits.prepare(copy)))
    }
}

macro_rules! tuple {
    ($($W:ident $at:tt),*) => {
        // SAFETY: all edges are stored inline.
        unsafe impl<$($W: Waits),*> Waits for ($($W,)*) {
            type Args = ($($W::Args,)*);

            const SETTLES: bool = false $(|| $W::SETTLES)*;

            fn count(&self) -> usize {
                0 $(+ self.$at.count())*
            }
            fn each(&self, _visit: &mut dyn FnMut(&Edge)) {
                $(self.$at.each(_visit);)*
            }
            #[allow(clippy::unused_unit)] // for the empty tuple
            fn take(self) -> Result<Self::Args, Error> {
                Ok(($(self.$at.take()?,)*))
            }
            fn prepare(&mut self, _copy: bool) -> u8 {
                0u8 $(.max(self.$at.prepare(_copy)))*
            }
        }
    };
}

tuple!();
tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::task::edges::ByValue;
    use crate::{Client, Handle};

    fn input<T>(handle: Handle<T>) -> ByValue<T> {
        ByValue::new(handle.into_typed())
    }

    /// The number of edges that are left after small values were copied.
    fn settled(mut waits: impl Waits) -> usize {
        waits.prepare(true);
        waits.count()
    }

    #[test]
    fn small_values_that_are_there_are_copied() {
        let client = Client::builder().workers(0).build();
        let x = client.ready(1u64);
        let one = || input(x.clone());
        assert_eq!(settled(one()), 0);
        assert_eq!(settled(input(client.ready([1u64; 2]))), 0);
        assert_eq!(settled(Many(vec![one(), one()])), 0);
        assert_eq!(settled(Array([one(), one()])), 0);
        assert_eq!(settled(Maybe(Some(one()))), 0);
        assert_eq!(settled(Fallible::<_, ()>(Ok(one()))), 0);
        let pairs = vec![("one", one())];
        assert_eq!(settled(Pairs(pairs, PhantomData::<fn() -> Vec<(&'static str, u64)>>)), 0);
    }

    #[test]
    fn others_are_waited_for() {
        let client = Client::builder().workers(0).build();
        assert_eq!(settled(input(client.ready([1u64; 3]))), 1);
        assert_eq!(settled(input(client.ready(String::new()))), 1);
        assert_eq!(settled(input(client.submit(async || 1, ()))), 1);
    }
}
