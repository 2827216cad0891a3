//! The registry of functions that can be called by name, and the calls themselves.

use std::any::{TypeId, type_name};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::yield_now;

use super::codec::{self, Arguments, Batch, Problem, ProblemKind};
use super::wire::rust::{BATCH_PREFIX, Inputs, PICK_FUNCTION, pick_item, short_type_name};
use super::wire::serialized::Serialized;
use crate::task::error::IntoFailure;
use crate::task::seal::SEAL;
use crate::{BlockingFn, Portable, PortableFn, TaskFn, is_cancelled};

/// The resource that Rust workers have, one for each thread. Rust functions ask for it, which keeps them off Python
/// workers.
pub(crate) const RUST: &str = "rust";

/// The time after which a batch of calls lets other tasks of its thread run.
const YIELD_AFTER: Duration = Duration::from_millis(1);

/// Functions that can be called from other machines, by name.
///
/// Client and workers need the same functions, and usually have them by being the same program. The name of a function is
/// its path, so it must be an `fn` item, which captures nothing, and not a closure.
///
/// ```
/// use std::num::ParseIntError;
///
/// use ensue::dask::Registry;
///
/// async fn inc(x: u64) -> u64 {
///     x + 1
/// }
///
/// async fn parse(text: String) -> Result<u64, ParseIntError> {
///     text.parse()
/// }
///
/// fn checksum(bytes: Vec<u8>) -> u64 {
///     bytes.iter().map(|byte| u64::from(*byte)).sum()
/// }
///
/// let registry = Registry::new().add(inc).try_add(parse).add_blocking(checksum);
/// assert!(registry.contains(inc));
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    /// By their names on the wire.
    functions: Arc<BTreeMap<Arc<str>, RegisteredFunction>>,
    /// The names of the functions that were renamed.
    names: Arc<BTreeMap<TypeId, Arc<str>>>,
}

#[derive(Clone)]
struct RegisteredFunction {
    /// Identifies the function. A path doesn't: functions in different blocks of one function share it, but each `fn` has
    /// a type of its own.
    id: TypeId,
    function: Arc<dyn Function>,
}

/// A call to run. Its arguments are deserialized when it runs, on the thread that runs it.
pub(crate) enum Work {
    /// To be polled.
    Async(Pin<Box<dyn Future<Output = Result<Serialized, Problem>> + Send>>),
    /// To be called on a thread that may block.
    Blocking(Box<dyn FnOnce() -> Result<Serialized, Problem> + Send>),
}

/// A function with its types erased.
trait Function: Send + Sync {
    /// Returns a call of the function or, if `many`, a batch of calls with each of the arguments in a list.
    fn work(&self, many: bool, args: Bytes, inputs: Vec<Serialized>) -> Work;
}

impl Registry {
    /// Returns a registry without functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an async function. Adding a function again has no effect.
    ///
    /// # Panics
    ///
    /// If another function has its name. Paths are unique, except for functions in different blocks of one function, and
    /// for several versions of a crate: give the first a [`name`](Self::name) before adding the second.
    ///
    /// If it's a closure, which has no name. One that captures something doesn't compile:
    ///
    /// ```compile_fail,E0080
    /// let x = 3;
    /// ensue::dask::Registry::new().add(async move |y: u64| x + y);
    /// ```
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "a registry isn't a number")]
    pub fn add<F, A>(self, function: F) -> Self
    where
        F: PortableFn<A> + Sync,
        A: Arguments,
    {
        self.insert::<F>(Async {
            name: type_name::<F>(),
            call: move |args| {
                let value = function.call(args, SEAL);
                async { Ok(value.await) }
            },
            args: PhantomData::<fn(A)>,
        })
    }

    /// Adds an async function that returns a `Result`; an `Err` fails the task.
    ///
    /// # Panics
    ///
    /// As [`add`](Self::add) does.
    #[must_use]
    pub fn try_add<F, A, T, E, M>(self, function: F) -> Self
    where
        F: TaskFn<A, Output = Result<T, E>> + Copy + Sync,
        A: Arguments,
        T: Portable,
        E: IntoFailure<M>,
        M: 'static,
    {
        self.insert::<F>(Async {
            name: type_name::<F>(),
            call: move |args| {
                let value = function.call(args, SEAL);
                async { value.await.map_err(failed) }
            },
            args: PhantomData::<fn(A)>,
        })
    }

    /// Adds a function that may block. Workers call it on a thread of their blocking pool.
    ///
    /// # Panics
    ///
    /// As [`add`](Self::add) does.
    #[must_use]
    pub fn add_blocking<F, A>(self, function: F) -> Self
    where
        F: BlockingFn<A, Output: Portable> + Copy + Sync,
        A: Arguments,
    {
        self.insert::<F>(Blocking {
            name: type_name::<F>(),
            call: move |args| Ok(function.call(args, SEAL)),
            args: PhantomData::<fn(A)>,
        })
    }

    /// Adds a function that may block and returns a `Result`; an `Err` fails the task.
    ///
    /// # Panics
    ///
    /// As [`add`](Self::add) does.
    #[must_use]
    pub fn try_add_blocking<F, A, T, E, M>(self, function: F) -> Self
    where
        F: BlockingFn<A, Output = Result<T, E>> + Copy + Sync,
        A: Arguments,
        T: Portable,
        E: IntoFailure<M>,
        M: 'static,
    {
        self.insert::<F>(Blocking {
            name: type_name::<F>(),
            call: move |args| function.call(args, SEAL).map_err(failed),
            args: PhantomData::<fn(A)>,
        })
    }

    fn insert<F: 'static>(mut self, function: impl Function + 'static) -> Self {
        // A type without size has a single value, so a worker can call the function without receiving anything but
        // its name.
        const {
            assert!(
                size_of::<F>() == 0,
                "a function that is called by name can't capture anything, nor be a function pointer: \
                 give the `fn` itself, and what it would capture as arguments"
            );
        }
        let path = type_name::<F>();
        // The path of a closure is the same for all closures of one function.
        assert!(
            !is_closure(path),
            "`{path}` is a closure, which other machines can't call by name: write an `fn` with its \
             body, and add that"
        );
        let (name, id) = (self.wire_name::<F>(), TypeId::of::<F>());
        let known = RegisteredFunction { id, function: Arc::new(function) };
        let before = Arc::make_mut(&mut self.functions).insert(name.clone(), known);
        assert!(before.is_none_or(|before| before.id == id), "{}", taken(&name));
        self
    }

    /// Renames a function that was added. Other programs can then call it by this name; its default name is its path, which
    /// begins with the name of the program.
    ///
    /// ```
    /// # async fn inc(x: u64) -> u64 { x + 1 }
    /// let registry = ensue::dask::Registry::new().add(inc).name(inc, "inc");
    /// assert!(registry.names().eq(["inc"]));
    /// ```
    ///
    /// # Panics
    ///
    /// If the function wasn't added, another one has the name, or the name begins with `*` or is `=`.
    #[must_use]
    pub fn name<F: 'static>(mut self, _function: F, name: &str) -> Self {
        let (path, id) = (type_name::<F>(), TypeId::of::<F>());
        assert!(
            !name.starts_with(BATCH_PREFIX),
            "`{path}` can't be called `{name}`: `{BATCH_PREFIX}` stands for many calls"
        );
        assert!(
            name != PICK_FUNCTION,
            "`{path}` can't be called `{name}`: that takes items out of lists"
        );
        let before = self.wire_name::<F>();
        let functions = Arc::make_mut(&mut self.functions);
        // Another function may have the same path, and must not lose its name.
        let Some(function) = functions.remove(&*before).filter(|known| known.id == id) else {
            panic!("`{path}` can't be called `{name}`: add it to the registry first");
        };
        assert!(
            functions.insert(name.into(), function).is_none(),
            "`{path}` can't be called `{name}`: that's the name of another function"
        );
        Arc::make_mut(&mut self.names).insert(id, name.into());
        self
    }

    /// Returns the name of a function, whether it was added or not.
    fn wire_name<F: 'static>(&self) -> Arc<str> {
        let given = self.names.get(&TypeId::of::<F>());
        given.cloned().unwrap_or_else(|| type_name::<F>().into())
    }

    /// Returns whether the function was added.
    pub fn contains<F: 'static>(&self, _function: F) -> bool {
        self.has::<F>(&self.wire_name::<F>())
    }

    fn has<F: 'static>(&self, name: &str) -> bool {
        self.functions.get(name).is_some_and(|known| known.id == TypeId::of::<F>())
    }

    /// Returns the names of the functions, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.functions.keys().map(|name| &**name)
    }

    /// Returns the name by which workers with the same functions know this one. Fails if the function wasn't added.
    pub(crate) fn name_of<F: 'static>(&self) -> Result<Arc<str>, Problem> {
        let path = type_name::<F>();
        let name = self.wire_name::<F>();
        if self.has::<F>(&name) {
            return Ok(name);
        }
        let text = if size_of::<F>() > 0 || is_closure(path) {
            format!(
                "`{path}` can't be called on other machines, since it isn't an `fn` with a name that \
                 captures nothing: write one, and add it to the registry"
            )
        } else if self.functions.contains_key(&name) {
            taken(&name)
        } else {
            unregistered(path)
        };
        Err(Problem::new(ProblemKind::Unregistered, text))
    }

    /// Returns the call of a function. `args` are the arguments as the client has sent them, and `inputs` the results of
    /// the task's inputs, in order.
    pub(crate) fn work(
        &self,
        name: &str,
        args: Bytes,
        inputs: Vec<Serialized>,
    ) -> Result<Work, Problem> {
        // Built in, so that clients can take items out of lists without a registered function.
        if name == PICK_FUNCTION {
            return Ok(Work::Async(Box::pin(async move {
                pick_item(&args, &inputs).map_err(Problem::from)
            })));
        }
        let (name, many) = match name.strip_prefix(BATCH_PREFIX) {
            Some(name) => (name, true),
            None => (name, false),
        };
        match self.functions.get(name) {
            Some(known) => Ok(known.function.work(many, args, inputs)),
            None => Err(Problem::new(ProblemKind::Unregistered, unregistered(name))),
        }
    }
}

/// Returns whether this is the path of a closure. An `fn` within a closure, or within an async function, has
/// `{{closure}}` only in the middle of its path.
fn is_closure(path: &str) -> bool {
    path.ends_with("{{closure}}")
}

fn taken(name: &str) -> String {
    format!(
        "another function is called `{name}` already: give that one a name of its own with `Registry::name` \
         before this one is added, or move one of them to another module"
    )
}

fn unregistered(name: &str) -> String {
    let call = short_type_name(name);
    format!(
        "no function `{name}` is registered: create the registry with `Registry::new().add({call})`, or \
         with `try_add`, `add_blocking` or `try_add_blocking`, in the same way for client and workers"
    )
}

/// Converts an error that a function has returned, with the texts of its sources.
fn failed<E: IntoFailure<M>, M>(error: E) -> Problem {
    let cause = error.into_cause(SEAL);
    let mut text = cause.as_error().to_string();
    let mut source = cause.as_error().source();
    while let Some(error) = source {
        let more = error.to_string();
        // Many errors include the text of their source.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    Problem::new(ProblemKind::Failed, text)
}

struct Async<C, A> {
    name: &'static str,
    call: C,
    args: PhantomData<fn(A)>,
}

impl<C, A, T, Fut> Function for Async<C, A>
where
    C: Fn(A) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<T, Problem>> + Send + 'static,
    A: Arguments,
    T: Portable,
{
    fn work(&self, many: bool, args: Bytes, inputs: Vec<Serialized>) -> Work {
        let Self { name, call, .. } = *self;
        if !many {
            return Work::Async(Box::pin(async move {
                let mut inputs = Inputs::new(inputs);
                let arguments = codec::decode(name, &args, &mut inputs)?;
                // The serialized arguments may be large, and the function may take long.
                drop((args, inputs));
                codec::write(call(arguments).await?)
            }));
        }
        Work::Async(Box::pin(async move {
            let mut batch = Batch::<T>::new(name, args, inputs)?;
            let mut since = Instant::now();
            while let Some(arguments) = batch.next() {
                if !batch.push(call(arguments).await) {
                    break;
                }
                // Short calls that never wait would otherwise occupy the thread for the whole batch.
                if since.elapsed() > YIELD_AFTER {
                    yield_now().await;
                    since = Instant::now();
                }
            }
            Ok(batch.finish())
        }))
    }
}

struct Blocking<C, A> {
    name: &'static str,
    call: C,
    args: PhantomData<fn(A)>,
}

impl<C, A, T> Function for Blocking<C, A>
where
    C: Fn(A) -> Result<T, Problem> + Copy + Send + Sync + 'static,
    A: Arguments,
    T: Portable,
{
    fn work(&self, many: bool, args: Bytes, inputs: Vec<Serialized>) -> Work {
        let Self { name, call, .. } = *self;
        if !many {
            return Work::Blocking(Box::new(move || {
                let mut inputs = Inputs::new(inputs);
                let arguments = codec::decode(name, &args, &mut inputs)?;
                drop((args, inputs));
                codec::write(call(arguments)?)
            }));
        }
        Work::Blocking(Box::new(move || {
            let mut batch = Batch::<T>::new(name, args, inputs)?;
            while let Some(arguments) = batch.next() {
                // A blocking batch can not be dropped, so it looks for cancellation between two calls.
                if !batch.push(call(arguments)) || is_cancelled() {
                    break;
                }
            }
            Ok(batch.finish())
        }))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Async(_) => "Async",
            Self::Blocking(_) => "Blocking",
        })
    }
}

#[cfg(test)]
mod tests;
