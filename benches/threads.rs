//! The executors and pools of threads that the benches compare with.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use async_executor::Executor;
use futures_lite::future::block_on;

/// An executor and the threads that run it, which end with it.
#[derive(Debug)]
pub struct Pool {
    /// The executor.
    pub executor: Arc<Executor<'static>>,
    stop: Option<async_channel::Sender<()>>,
    threads: Vec<JoinHandle<bool>>,
}

impl Pool {
    /// Starts this many threads.
    pub fn new(threads: usize) -> Self {
        let executor = Arc::new(Executor::new());
        let (stop, stopped) = async_channel::bounded::<()>(1);
        let run = |_| {
            let (executor, stopped) = (executor.clone(), stopped.clone());
            thread::spawn(move || block_on(executor.run(stopped.recv())).is_err())
        };
        let threads = (0..threads).map(run).collect();
        Self { executor, stop: Some(stop), threads }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop = None;
        for thread in self.threads.drain(..) {
            thread.join().expect("a worker doesn't panic");
        }
    }
}

/// Starts tokio's runtime with this many threads.
pub fn tokio(threads: usize) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).build().expect("threads for tokio")
}

/// Starts a pool of rayon's with this many threads.
pub fn rayon(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads for rayon")
}
