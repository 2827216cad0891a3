//! What loom and shuttle lack of the standard library, for both: a clock, and some methods of threads.

/// Defines these for one of the two libraries.
macro_rules! std_like {
    ($library:ident) => {
        /// A clock that stands still, because an execution must be repeatable.
        #[derive(Clone, Copy)]
        pub(crate) struct Instant;

        impl Instant {
            pub(crate) fn now() -> Self {
                Self
            }

            pub(crate) fn elapsed(self) -> std::time::Duration {
                std::time::Duration::ZERO
            }

            pub(crate) fn duration_since(self, _: Self) -> std::time::Duration {
                std::time::Duration::ZERO
            }
        }

        /// Threads, with the methods of the standard library's that the library's lack.
        pub(crate) mod thread {
            use std::io;
            use std::sync::Arc;
            use std::sync::atomic::{AtomicBool, Ordering};

            pub(crate) use $library::thread::current;
            use $library::thread::{self, Thread};

            pub(crate) struct Builder(thread::Builder);

            pub(crate) struct JoinHandle<T> {
                inner: thread::JoinHandle<T>,
                is_finished: Arc<AtomicBool>,
            }

            impl Builder {
                pub(crate) fn new() -> Self {
                    Self(thread::Builder::new())
                }

                pub(crate) fn name(self, name: String) -> Self {
                    Self(self.0.name(name))
                }

                /// Ignored: all threads have stacks of one size.
                pub(crate) fn stack_size(self, _: usize) -> Self {
                    self
                }

                pub(crate) fn spawn<T: Send + 'static>(
                    self,
                    code: impl FnOnce() -> T + Send + 'static,
                ) -> io::Result<JoinHandle<T>> {
                    let is_finished = Arc::new(AtomicBool::new(false));
                    let finish = is_finished.clone();
                    let inner = self.0.spawn(move || {
                        let result = code();
                        finish.store(true, Ordering::SeqCst);
                        result
                    })?;
                    Ok(JoinHandle { inner, is_finished })
                }
            }

            impl<T> JoinHandle<T> {
                pub(crate) fn is_finished(&self) -> bool {
                    self.is_finished.load(Ordering::SeqCst)
                }

                pub(crate) fn thread(&self) -> &Thread {
                    self.inner.thread()
                }

                pub(crate) fn join(self) -> std::thread::Result<T> {
                    self.inner.join()
                }
            }
        }
    };
}
pub(crate) use std_like;
