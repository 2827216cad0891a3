//! A batch on a worker: many small calls of one function, whose results are one list.
//!
//! The calls are made one after the other until one fails or together they take too long. Then the list is partial: it
//! has the results so far.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Arguments, Problem, decode};
use crate::Portable;
use crate::dask::wire::msgpack;
use crate::dask::wire::rust::{Inputs, ListWriter};
use crate::dask::wire::serialized::Serialized;

/// The time after which no further call begins. Calls that take long are better made by several workers at once.
const ENOUGH: Duration = Duration::from_millis(10);

/// The calls of a batch, in order.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    function: &'static str,
    left: Bytes,
    count: usize,
    /// The number of calls whose arguments were taken.
    begun: usize,
    inputs: Inputs,
    results: ListWriter<T>,
    since: Instant,
}

impl<T: Portable> Batch<T> {
    /// Returns the batch of calls of `function` that a client has sent.
    pub(crate) fn new(
        function: &'static str,
        args: Bytes,
        inputs: Vec<Serialized>,
    ) -> Result<Self, Problem> {
        let (count, start) = msgpack::array(&args).map_err(|error| {
            Problem::mismatch(format!("the calls of `{function}` can't be read: {error}"))
        })?;
        let (left, inputs) = (args.slice(start..), Inputs::new(inputs));
        Ok(Self {
            function,
            left,
            count,
            begun: 0,
            inputs,
            results: ListWriter::new(),
            since: Instant::now(),
        })
    }

    /// Returns the arguments of the next call, or `None` at the end of the batch.
    pub(crate) fn next<A: Arguments>(&mut self) -> Option<A> {
        if self.begun == self.count || (self.begun > 0 && self.since.elapsed() > ENOUGH) {
            return None;
        }
        self.begun += 1;
        // The client then makes this call by itself, which reports the error.
        self.read().ok()
    }

    fn read<A: Arguments>(&mut self) -> Result<A, Problem> {
        let extent = msgpack::scan(&self.left, |_| ())
            .map_err(|error| Problem::mismatch(format!("the call can't be read: {error}")))?;
        let args = self.left.split_to(extent.len);
        decode(self.function, &args, &mut self.inputs)
    }

    /// Adds the result of a call. Returns false if that ends the batch.
    pub(crate) fn push(&mut self, result: Result<T, Problem>) -> bool {
        result.is_ok_and(|value| self.results.push(value).is_ok())
    }

    /// Returns the results so far as a list, which is partial if calls are left.
    pub(crate) fn finish(self) -> Serialized {
        let is_partial = (self.results.len() as usize) < self.count;
        self.results.finish(is_partial)
    }
}
