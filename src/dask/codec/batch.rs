//! Many small calls of one function, sent as one: a list with the arguments of each, and a list with the results.
//!
//! They're made one after the other until one fails or they've taken too long together; then the list has the results
//! so far, and says that it isn't whole.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::args::{Arguments, Inputs, decode};
use super::problem::Problem;
use super::scan;
use super::value::List;
use crate::Portable;
use crate::dask::wire::serialized::Serialized;

/// After so long, no further call is made: if calls take long, others can make them at the same time.
const ENOUGH: Duration = Duration::from_millis(10);

/// Calls that are made one after the other.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    function: &'static str,
    left: Bytes,
    count: usize,
    /// How many were begun.
    begun: usize,
    inputs: Inputs,
    results: List<T>,
    since: Instant,
}

impl<T: Portable> Batch<T> {
    /// Of a function.
    pub(crate) fn new(
        function: &'static str,
        args: Bytes,
        inputs: Vec<Serialized>,
    ) -> Result<Self, Problem> {
        let (count, start) = scan::list(&args).map_err(|broken| {
            Problem::mismatch(format!("the calls of `{function}` can't be read: {broken}"))
        })?;
        let (left, inputs) = (args.slice(start..), Inputs::new(inputs));
        Ok(Self {
            function,
            left,
            count,
            begun: 0,
            inputs,
            results: List::new(),
            since: Instant::now(),
        })
    }

    /// The arguments of the next call, if there is to be one.
    pub(crate) fn next<A: Arguments>(&mut self) -> Option<A> {
        if self.begun == self.count || (self.begun > 0 && self.since.elapsed() > ENOUGH) {
            return None;
        }
        self.begun += 1;
        // What is wrong with it is told when it's called by itself.
        self.read().ok()
    }

    fn read<A: Arguments>(&mut self) -> Result<A, Problem> {
        let extent = scan::value(&self.left, |_| ())
            .map_err(|broken| Problem::mismatch(format!("the call can't be read: {broken}")))?;
        let args = self.left.split_to(extent.len);
        decode(self.function, &args, &mut self.inputs)
    }

    /// What the call gave. False where that ends the batch.
    pub(crate) fn push(&mut self, result: Result<T, Problem>) -> bool {
        result.and_then(|value| self.results.push(value)).is_ok()
    }

    /// The results so far.
    pub(crate) fn finish(self) -> Serialized {
        let is_partial = (self.results.len() as usize) < self.count;
        self.results.finish(is_partial)
    }
}
