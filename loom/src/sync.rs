//! A stand-in for the engine's `sync` module: the same names, made of loom's types.
//!
//! Loom treats a `SeqCst` access as `AcqRel`, and implements the total order only for fences. So, where a model
//! [asks for it](Order), each such access has a fence beside it: before it in one pass, after it in another. Two such
//! accesses of a thread then have a fence between them in both passes, as they should. A `SeqCst` access and a weaker one
//! have a fence between them in at most one of the passes, so code that relies on that fails in the other.
//!
//! A drop counts as a write, so loom finds accesses that could come after it, and atomics that are never dropped.

use std::cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8 as Plain, AtomicUsize as PlainUsize};
use std::task::{Context, Poll, Wake, Waker};

pub(crate) use loom::hint::spin_loop;
pub(crate) use loom::sync::atomic::{Ordering, fence};
pub(crate) use loom::sync::{Condvar, Mutex};
pub(crate) use loom::thread::yield_now;

/// See the engine's own. A thread that looks yields, so all others would run until they wait or end.
pub(crate) const ROUNDS: usize = 0;

/// See the engine's own.
pub(crate) const HOOKS_HAVE_LOCALS: bool = false;

#[path = "std_like.rs"]
mod std_like;
std_like::std_like!(loom);

/// The interpretation of `SeqCst` accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    /// As `AcqRel`, like loom itself.
    Weak,
    /// With a fence before each.
    Before,
    /// With a fence after each.
    After,
}

static ORDER: Plain = Plain::new(Order::Weak as u8);

/// The number of executions so far.
static EXECUTIONS: PlainUsize = PlainUsize::new(0);

pub(crate) fn begin_execution() {
    EXECUTIONS.fetch_add(1, Ordering::SeqCst);
}

/// The number of this execution.
pub(crate) fn execution() -> usize {
    EXECUTIONS.load(Ordering::SeqCst)
}

pub(crate) fn set_order(order: Order) {
    ORDER.store(order as u8, Ordering::SeqCst);
}

fn ordered<R>(ordering: Ordering, access: impl FnOnce() -> R) -> R {
    let fence_if = |order: Order| {
        if ordering == Ordering::SeqCst && ORDER.load(Ordering::Relaxed) == order as u8 {
            fence(Ordering::SeqCst);
        }
    };
    fence_if(Order::Before);
    let result = access();
    fence_if(Order::After);
    result
}

macro_rules! atomic {
    ($name:ident $(<$T:ident>)?, $value:ty, $drop:expr) => {
        pub(crate) struct $name$(<$T>)?(loom::sync::atomic::$name$(<$T>)?, loom::alloc::Track<()>);

        #[allow(dead_code)]
        impl$(<$T>)? $name$(<$T>)? {
            #[track_caller]
            pub(crate) fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value), loom::alloc::Track::new(()))
            }

            #[track_caller]
            pub(crate) fn load(&self, ordering: Ordering) -> $value {
                ordered(ordering, || self.0.load(ordering))
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, ordering: Ordering) {
                ordered(ordering, || self.0.store(value, ordering))
            }

            #[track_caller]
            pub(crate) fn swap(&self, value: $value, ordering: Ordering) -> $value {
                ordered(ordering, || self.0.swap(value, ordering))
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                ordered(success, || self.0.compare_exchange(current, new, success, failure))
            }

            #[track_caller]
            pub(crate) fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }
        }

        impl$(<$T>)? std::fmt::Debug for $name$(<$T>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(stringify!($name))
            }
        }

        impl$(<$T>)? Drop for $name$(<$T>)? {
            fn drop(&mut self) {
                if !std::thread::panicking() {
                    let drop: fn(&mut loom::sync::atomic::$name$(<$T>)?) = $drop;
                    drop(&mut self.0);
                }
            }
        }
    };
}

macro_rules! integer {
    ($($name:ident, $value:ty;)*) => {$(
        atomic!($name, $value, |atomic| atomic.with_mut(|_| ()));

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }

        #[allow(dead_code)]
        impl $name {
            #[track_caller]
            pub(crate) fn fetch_add(&self, value: $value, ordering: Ordering) -> $value {
                ordered(ordering, || self.0.fetch_add(value, ordering))
            }

            #[track_caller]
            pub(crate) fn fetch_sub(&self, value: $value, ordering: Ordering) -> $value {
                ordered(ordering, || self.0.fetch_sub(value, ordering))
            }

            #[track_caller]
            pub(crate) fn fetch_or(&self, value: $value, ordering: Ordering) -> $value {
                ordered(ordering, || self.0.fetch_or(value, ordering))
            }

            #[track_caller]
            pub(crate) fn fetch_and(&self, value: $value, ordering: Ordering) -> $value {
                ordered(ordering, || self.0.fetch_and(value, ordering))
            }

            #[track_caller]
            pub(crate) fn fetch_max(&self, value: $value, ordering: Ordering) -> $value {
                ordered(ordering, || self.0.fetch_max(value, ordering))
            }

            #[track_caller]
            pub(crate) fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut change: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut now = self.load(fetch);
                while let Some(new) = change(now) {
                    match self.compare_exchange(now, new, set, fetch) {
                        Ok(before) => return Ok(before),
                        Err(other) => now = other,
                    }
                }
                Err(now)
            }
        }
    )*};
}

integer! {
    AtomicU8, u8;
    AtomicU32, u32;
    AtomicU64, u64;
    AtomicI64, i64;
    AtomicUsize, usize;
    AtomicIsize, isize;
}
// SAFETY: loom offers no non-atomic write to a bool, so a non-atomic read stands for it.
atomic!(AtomicBool, bool, |atomic| _ = unsafe { atomic.unsync_load() });
atomic!(AtomicPtr<T>, *mut T, |atomic| atomic.with_mut(|_| ()));

impl<T> Default for AtomicPtr<T> {
    fn default() -> Self {
        Self::new(std::ptr::null_mut())
    }
}

impl Default for AtomicBool {
    fn default() -> Self {
        Self::new(false)
    }
}

/// Reports non-atomic reads and writes to loom.
#[derive(Default)]
struct Track(loom::cell::Cell<()>);

impl Track {
    #[track_caller]
    fn read(&self) {
        self.0.get();
    }

    #[track_caller]
    fn write(&self) {
        self.0.set(());
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.write();
        }
    }
}

pub(crate) struct Cell<T> {
    track: Track,
    value: cell::Cell<T>,
}

#[allow(dead_code)]
impl<T> Cell<T> {
    #[track_caller]
    pub(crate) fn new(value: T) -> Self {
        Self { track: Track::default(), value: cell::Cell::new(value) }
    }

    #[track_caller]
    pub(crate) fn set(&self, value: T) {
        self.track.write();
        self.value.set(value);
    }

    #[track_caller]
    pub(crate) fn replace(&self, value: T) -> T {
        self.track.write();
        self.value.replace(value)
    }

    #[track_caller]
    pub(crate) fn take(&self) -> T
    where
        T: Default,
    {
        self.replace(T::default())
    }

    #[track_caller]
    pub(crate) fn get(&self) -> T
    where
        T: Copy,
    {
        self.track.read();
        self.value.get()
    }
}

/// Each access to the contents counts as a write, so it must be exclusive.
pub(crate) struct UnsafeCell<T> {
    track: Track,
    value: cell::UnsafeCell<T>,
}

impl<T> UnsafeCell<T> {
    #[track_caller]
    pub(crate) fn new(value: T) -> Self {
        Self { track: Track::default(), value: cell::UnsafeCell::new(value) }
    }

    #[track_caller]
    pub(crate) fn get(&self) -> *mut T {
        self.track.write();
        self.value.get()
    }

    #[track_caller]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.track.write();
        self.value.get_mut()
    }
}

/// A variable per thread of the model. Without a destructor, it has its first value again once the thread's variables are
/// dropped, as a constant of the standard library's would.
pub(crate) struct Local<T: 'static>(pub(crate) &'static loom::thread::LocalKey<T>);

impl<T> Local<T> {
    pub(crate) fn try_with<R>(
        &self,
        code: impl FnOnce(&T) -> R,
    ) -> Result<R, loom::thread::AccessError> {
        self.0.try_with(code)
    }
}

impl<T> Local<cell::Cell<T>> {
    fn with<R>(&self, code: impl Fn(&cell::Cell<T>) -> R) -> R {
        self.0.try_with(&code).unwrap_or_else(|_| code(&(self.0.init)()))
    }

    pub(crate) fn set(&self, value: T) {
        self.replace(value);
    }

    pub(crate) fn replace(&self, value: T) -> T {
        let value = cell::Cell::new(Some(value));
        self.with(|cell| cell.replace(value.take().expect("it's called once")))
    }

    pub(crate) fn get(&self) -> T
    where
        T: Copy,
    {
        self.with(cell::Cell::get)
    }
}

macro_rules! local {
    ($(#[$attr:meta])* static $name:ident: $T:ty = const { $value:expr };) => {
        crate::sync::thread_local!($(#[$attr])* static $name: $T = $value;);
    };
    ($(#[$attr:meta])* static $name:ident: $T:ty = $value:expr;) => {
        $(#[$attr])*
        static $name: crate::sync::Local<$T> = {
            loom::thread_local! { static KEY: $T = $value; }
            crate::sync::Local(&KEY)
        };
    };
}
pub(crate) use local as thread_local;

/// A gate that lets one thread pass each time it's opened. It is also a waker.
#[derive(Default)]
pub(crate) struct Gate {
    open: loom::sync::Mutex<bool>,
    changed: loom::sync::Condvar,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_one();
    }

    /// Waits until the gate is open, and closes it again.
    pub(crate) fn pass(&self) {
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.changed.wait(open).unwrap();
        }
        *open = false;
    }
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.open();
    }
}

pub(crate) fn block_on<R>(future: impl Future<Output = R>) -> R {
    let gate = Gate::new();
    let waker = Waker::from(gate.clone());
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut cx) {
            return result;
        }
        gate.pass();
    }
}
