//! Inputs whose values are made into something else: those of a struct.

use crate::Error;
use crate::engine::task::edges::{Edge, Waits};

/// Inputs whose values are made into something else, on the dependent's worker.
pub struct Mapped<W, A, V> {
    inputs: W,
    map: fn(A) -> V,
}

impl<W, A, V> Mapped<W, A, V> {
    /// Composes inputs with what is made of their values.
    pub fn new(inputs: W, map: fn(A) -> V) -> Self {
        Self { inputs, map }
    }
}

// SAFETY: the edges are those of the inputs, which are stored inline.
unsafe impl<W, A, V> Waits for Mapped<W, A, V>
where
    W: Waits<Args = A>,
    A: 'static,
    V: Send + 'static,
{
    type Args = V;

    const SETTLES: bool = W::SETTLES;

    fn count(&self) -> usize {
        self.inputs.count()
    }
    fn each(&self, visit: &mut dyn FnMut(&Edge)) {
        self.inputs.each(visit);
    }
    fn take(self) -> Result<V, Error> {
        Ok((self.map)(self.inputs.take()?))
    }
    fn prepare(&mut self, copy: bool) -> u8 {
        self.inputs.prepare(copy)
    }
}
