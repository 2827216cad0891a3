//! The verbs that submit a task for each input of a stream.

use futures_core::Stream;

use super::Client;
use super::map_stream::MapStream;
use super::options::Options;
use super::retry_mode::{NoRetry, RetryMode};
use crate::handle::input::Inputs;
use crate::task::function::{BlockingFn, TaskFn, TryBlockingFn, TryTaskFn};

impl Client {
    /// Runs the function for each input of a stream, and yields the results in the order in which the tasks end. They come in the
    /// order of the inputs after [`in_order`](MapStream::in_order), and with a tag of their input after
    /// [`tagged`](MapStream::tagged).
    ///
    /// At most `limit` tasks are in flight, including those that have ended and whose results have not been yielded.
    /// This is the backpressure: millions of inputs pass in constant memory. `inputs` is polled only by polling the
    /// returned stream, on that thread. Dropping the returned stream abandons the tasks in flight. If `inputs`
    /// panics, also when it's dropped at its end, the last result is an error of that panic. A `limit` of 0 yields one
    /// [`Limit`](crate::ErrorKind::Limit) error.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use futures_lite::{StreamExt, stream};
    ///
    /// let client = ensue::Client::new();
    /// let mut squares = client.map_stream(stream::iter(1..=1000u64), 8, async |x: u64| x * x);
    /// let mut sum = 0;
    /// while let Some(square) = squares.next().await {
    ///     sum += square?;
    /// }
    /// assert_eq!(sum, 333_833_500);
    /// # Ok::<_, ensue::Error>(()) }).unwrap();
    /// ```
    #[track_caller]
    pub fn map_stream<S, F, A>(
        &self,
        inputs: S,
        limit: usize,
        function: F,
    ) -> MapStream<S, F::Output>
    where
        S: Stream,
        S::Item: Inputs<A>,
        F: TaskFn<A> + Clone,
        A: Send + 'static,
        NoRetry: RetryMode<F, A>,
    {
        self.task().map_stream(inputs, limit, function)
    }

    /// Runs a function that returns a `Result` for each input of a stream, as [`map_stream`](Client::map_stream)
    /// does. An `Err` becomes the task's error, and can be [retried](crate::Options::retries).
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use futures_lite::{StreamExt, stream};
    ///
    /// let client = ensue::Client::new();
    /// let parse = async |text: &'static str| text.parse::<u64>();
    /// let numbers = client.task().retries(2).try_map_stream(stream::iter(["1", "x", "3"]), 2, parse);
    /// let numbers: Vec<_> = numbers.collect().await;
    /// assert_eq!(numbers.iter().flatten().sum::<u64>(), 4);
    /// assert_eq!(numbers.iter().filter(|number| number.is_err()).count(), 1);
    /// # });
    /// ```
    #[track_caller]
    pub fn try_map_stream<S, F, A, M>(
        &self,
        inputs: S,
        limit: usize,
        function: F,
    ) -> MapStream<S, F::Value>
    where
        S: Stream,
        S::Item: Inputs<A>,
        F: TryTaskFn<A, M>,
        A: Clone + Send + 'static,
        M: 'static,
    {
        self.task().try_map_stream(inputs, limit, function)
    }

    /// Runs a plain function that may block for each input of a stream, as [`map_stream`](Client::map_stream) does; see
    /// [`submit_blocking`](Client::submit_blocking) for its threads.
    ///
    /// The `limit` bounds the functions that run at once and the results that wait to be taken. So a pipeline of such streams,
    /// each of which is the input of the next one, has bounded memory, whatever its slowest part is:
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use ensue::Client;
    /// use futures_lite::{StreamExt, stream};
    ///
    /// fn read(n: u64) -> Vec<u64> {
    ///     vec![n; 1000] // stands for a large file
    /// }
    ///
    /// let client = Client::new();
    /// let files = client.map_stream_blocking(stream::iter(0..20), 4, read);
    /// let files = files.filter_map(Result::ok);
    /// let mut sums = client.map_stream_blocking(files, 4, |file: Vec<u64>| file.iter().sum::<u64>());
    /// let mut total = 0;
    /// while let Some(sum) = sums.next().await {
    ///     total += sum?;
    /// }
    /// assert_eq!(total, 190_000);
    /// # Ok::<_, ensue::Error>(()) }).unwrap();
    /// ```
    #[track_caller]
    pub fn map_stream_blocking<S, F, A>(
        &self,
        inputs: S,
        limit: usize,
        function: F,
    ) -> MapStream<S, F::Output>
    where
        S: Stream,
        S::Item: Inputs<A>,
        F: BlockingFn<A> + Clone,
        A: Send + 'static,
        NoRetry: RetryMode<F, A>,
    {
        self.task().map_stream_blocking(inputs, limit, function)
    }

    /// Runs a plain function that may block and returns a `Result` for each input of a stream, as
    /// [`map_stream_blocking`](Client::map_stream_blocking) does. An `Err` becomes the task's error, and can be
    /// [retried](crate::Options::retries).
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use futures_lite::{StreamExt, stream};
    ///
    /// let client = ensue::Client::new();
    /// let names = stream::iter(["Cargo.toml", "no such file"]);
    /// let texts = client.try_map_stream_blocking(names, 2, std::fs::read_to_string).in_order();
    /// let texts: Vec<_> = texts.collect().await;
    /// assert!(texts[0].is_ok() && texts[1].is_err());
    /// # });
    /// ```
    #[track_caller]
    pub fn try_map_stream_blocking<S, F, A, M>(
        &self,
        inputs: S,
        limit: usize,
        function: F,
    ) -> MapStream<S, F::Value>
    where
        S: Stream,
        S::Item: Inputs<A>,
        F: TryBlockingFn<A, M>,
        A: Clone + Send + 'static,
        M: 'static,
    {
        self.task().try_map_stream_blocking(inputs, limit, function)
    }
}

impl<R> Options<'_, R> {
    /// Runs a function for each input of a stream; see [`Client::map_stream`].
    ///
    /// With a key, the keys of the tasks are that key and a number. A result can't be moved out of a task that
    /// another handle of its key needs, and is replaced by the error [`Lost`](crate::ErrorKind::Lost).
    #[track_caller]
    pub fn map_stream<S, F, A>(
        self,
        inputs: S,
        limit: usize,
        function: F,
    ) -> MapStream<S, F::Output>
    where
        S: Stream,
        S::Item: Inputs<A>,
        F: TaskFn<A> + Clone,
        A: Send + 'static,
        R: RetryMode<F, A>,
    {
        self.stream(inputs, limit, function, |options, function, input| {
            options.submit(function, input)
        })
    }

    /// Runs a function that returns a `Result` for each input of a stream; see [`Client::try_map_stream`]. For keys,
    /// see [`map_stream`](Self::map_stream).
    #[track_caller]
    pub fn try_map_stream<S, F, A, M>(
        self,
        inputs: S,
        limit: usize,
        function: F,
    ) -> MapStream<S, F::Value>
    where
        S: Stream,
        S::Item: Inputs<A>,
        F: TryTaskFn<A, M>,
        A: Clone + Send + 'static,
        M: 'static,
    {
        self.stream(inputs, limit, function, |options, function, input| {
            options.try_submit(function, input)
        })
    }

    /// Runs a plain function that may block for each input of a stream; see [`Client::map_stream_blocking`]. For keys, see
    /// [`map_stream`](Self::map_stream).
    #[track_caller]
    pub fn map_stream_blocking<S, F, A>(
        self,
        inputs: S,
        limit: usize,
        function: F,
    ) -> MapStream<S, F::Output>
    where
        S: Stream,
        S::Item: Inputs<A>,
        F: BlockingFn<A> + Clone,
        A: Send + 'static,
        R: RetryMode<F, A>,
    {
        self.stream(inputs, limit, function, |options, function, input| {
            options.submit_blocking(function, input)
        })
    }

    /// Runs a plain function that may block and returns a `Result` for each input of a stream; see
    /// [`Client::try_map_stream_blocking`]. For keys, see [`map_stream`](Self::map_stream).
    #[track_caller]
    pub fn try_map_stream_blocking<S, F, A, M>(
        self,
        inputs: S,
        limit: usize,
        function: F,
    ) -> MapStream<S, F::Value>
    where
        S: Stream,
        S::Item: Inputs<A>,
        F: TryBlockingFn<A, M>,
        A: Clone + Send + 'static,
        M: 'static,
    {
        self.stream(inputs, limit, function, |options, function, input| {
            options.try_submit_blocking(function, input)
        })
    }
}
