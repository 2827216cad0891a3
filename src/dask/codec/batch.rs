//! Many small calls of one function, sent as one: a list with the arguments of each, and a list with the results.

use bytes::Bytes;

use super::args::{Arguments, Inputs, decode};
use super::problem::Problem;
use super::scan;
use super::value::List;
use crate::Portable;
use crate::dask::wire::serialized::Serialized;

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
        Ok(Self { function, left, count, begun: 0, inputs, results: List::new(count) })
    }

    /// The arguments of the next call.
    pub(crate) fn next<A: Arguments>(&mut self) -> Option<Result<A, Problem>> {
        if self.begun == self.count {
            return None;
        }
        self.begun += 1;
        Some(self.read().map_err(|problem| self.of_this(problem)))
    }

    fn read<A: Arguments>(&mut self) -> Result<A, Problem> {
        let extent = scan::value(&self.left, |_| ())
            .map_err(|broken| Problem::mismatch(format!("the call can't be read: {broken}")))?;
        let args = self.left.split_to(extent.len);
        decode(self.function, &args, &mut self.inputs)
    }

    /// What the call gave.
    pub(crate) fn push(&mut self, result: Result<T, Problem>) -> Result<(), Problem> {
        result.and_then(|value| self.results.push(value)).map_err(|problem| self.of_this(problem))
    }

    /// All results.
    pub(crate) fn finish(self) -> Serialized {
        self.results.finish()
    }

    fn of_this(&self, problem: Problem) -> Problem {
        let Self { begun, count, .. } = self;
        Problem::new(problem.kind, format!("call {begun} of {count}: {}", problem.text))
    }
}
