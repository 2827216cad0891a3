//! An interest in a task whose type of value is known, and the shared value.

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use crate::Error;
use crate::engine::task::header::{Interest, TaskRef};
use crate::engine::task::state::{OBSERVED, TAKEN};
use crate::engine::task::waiters::Resolution;

/// An interest in a task with values of type `T`.
#[repr(transparent)]
pub(crate) struct Typed<T>(Interest, PhantomData<fn() -> T>);

/// Stands for the type of a value that isn't known, where tasks with values of several types are waited for together. It's
/// neither `Send` nor `Sync`, so nothing here gives a value of this type.
pub(crate) struct Erased(PhantomData<*const ()>);

impl<T> Clone for Typed<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<T> Typed<T> {
    /// # Safety
    ///
    /// The task's values are of type `T`.
    pub(crate) unsafe fn new(interest: Interest) -> Self {
        Self(interest, PhantomData)
    }

    /// # Safety
    ///
    /// As for `new`.
    pub(crate) unsafe fn of(interest: &Interest) -> &Self {
        // SAFETY: it's the same in memory.
        unsafe { &*ptr::from_ref(interest).cast() }
    }

    pub(crate) fn checked(interest: Interest) -> Result<Self, Interest>
    where
        T: 'static,
    {
        if (interest.vtable.type_id)() == TypeId::of::<T>() {
            Ok(Self(interest, PhantomData))
        } else {
            Err(interest)
        }
    }

    /// For an interest that was a `Typed<T>` before.
    pub(crate) fn known(interest: Interest) -> Self
    where
        T: 'static,
    {
        match Self::checked(interest) {
            Ok(typed) => typed,
            Err(_) => unreachable!("it was of this type before"),
        }
    }

    /// Forgets the type of the value.
    pub(crate) fn erased(self) -> Typed<Erased> {
        Typed(self.0, PhantomData)
    }

    /// The value of an ended task in which this is the only interest.
    pub(crate) fn into_value(self) -> Result<T, Error>
    where
        T: Send,
    {
        match self.available() {
            Some(Ok(())) => self.take().ok_or_else(|| self.lost()),
            Some(Err(error)) => Err(error),
            None => Err(self.lost()),
        }
    }

    pub(crate) fn interest(&self) -> &Interest {
        &self.0
    }

    pub(crate) fn into_interest(self) -> Interest {
        self.0
    }

    pub(crate) fn task(&self) -> TaskRef<'_> {
        self.0.task()
    }

    /// Whether the value is in another process.
    pub(crate) fn is_remote(&self) -> bool {
        self.0.vtable.is_remote
    }

    /// The task in this process that has or gets the value: this one, or the one that fetches a remote value.
    pub(crate) fn value_task(self) -> Self {
        match self.0.remote() {
            Some(remote) => Self(remote.fetch_task(&self.0), PhantomData),
            None => self,
        }
    }

    /// `Some(Ok)` if the value is in this process; an error if the task has failed or the value was moved out.
    fn available(&self) -> Option<Result<(), Error>> {
        match self.0.waiters.resolution() {
            Resolution::Succeeded if self.0.state.load() & TAKEN != 0 => Some(Err(self.lost())),
            Resolution::Succeeded if self.is_remote() => None,
            Resolution::Succeeded => Some(Ok(())),
            // A retry may come between.
            Resolution::Failed => self.error().map(Err),
            Resolution::Pending | Resolution::Aborting => None,
        }
    }

    /// The error of a task that has failed, which counts as observed from now on.
    pub(crate) fn error(&self) -> Option<Error> {
        let error = self.unseen_error()?;
        self.set_seen();
        Some(error)
    }

    /// The error of a task that has failed, without counting it as observed.
    pub(crate) fn unseen_error(&self) -> Option<Error> {
        self.0.waiters.is_closed().then(|| self.0.failure()).flatten()
    }

    /// Counts the error as observed.
    pub(crate) fn set_seen(&self) {
        if self.0.state.load() & OBSERVED == 0 {
            self.0.state.set(OBSERVED);
        }
    }

    pub(crate) fn has_succeeded(&self) -> bool {
        self.0.waiters.resolution() == Resolution::Succeeded
    }

    fn lost(&self) -> Error {
        Error::lost(self.0.subject())
    }

    /// The outcome of an ended task, with its value cloned.
    pub(crate) fn try_clone(&self) -> Option<Result<T, Error>>
    where
        T: Clone + Sync,
    {
        if let Some(remote) = self.0.remote().filter(|_| self.has_succeeded()) {
            return Self(remote.current_fetch_task(&self.0)?, PhantomData).try_clone();
        }
        Some(self.available()?.map(|()| self.value().clone()))
    }

    /// The outcome of an ended task, with its value shared.
    pub(crate) fn try_ref(&self) -> Option<Result<Ref<T>, Error>>
    where
        T: Sync,
    {
        Some(self.available()?.map(|()| Ref(self.clone())))
    }

    /// The outcome of an ended task, with its value moved out if this is the last interest.
    pub(crate) fn try_take_or_clone(&self) -> Option<Result<T, Error>>
    where
        T: Clone + Sync,
    {
        Some(self.available()?.map(|()| self.take().unwrap_or_else(|| self.value().clone())))
    }

    /// The same for an input whose task has ended.
    pub(crate) fn take_or_clone(self) -> Result<T, Error>
    where
        T: Clone + Sync,
    {
        self.try_take_or_clone().unwrap_or_else(|| Err(self.lost()))
    }

    /// The value shared, for an input whose task has ended.
    pub(crate) fn into_ref(self) -> Result<Ref<T>, Error>
    where
        T: Sync,
    {
        match self.available() {
            Some(Ok(())) => Ok(Ref(self)),
            Some(Err(error)) => Err(error),
            None => Err(self.lost()),
        }
    }

    /// Moves the value out if this is the last interest.
    fn take(&self) -> Option<T> {
        if !self.0.state.take() {
            return None;
        }
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the task has succeeded and its value is of type `T`. The only interest has claimed the value, so nothing
        // else reads it.
        unsafe {
            let place = NonNull::from(&mut value).cast::<()>();
            (self.0.vtable.take)(self.task().as_ptr(), place);
            Some(value.assume_init())
        }
    }

    /// The value of a task that has succeeded. It wasn't moved out.
    fn value(&self) -> &T
    where
        T: Sync,
    {
        debug_assert!(self.0.waiters.resolution() == Resolution::Succeeded);
        // SAFETY: the value exists and is of type `T`. Only the last interest moves it out, and this one doesn't do so
        // while the reference lives. It's `Sync`, so other threads may read it too.
        unsafe { (self.0.vtable.value)(self.task().as_ptr()).cast().as_ref() }
    }
}

/// The value of a task, shared instead of copied.
///
/// It derefs to `T` and keeps the value in memory. As the type of a function's argument it takes a handle without
/// requiring `Clone`; see also [`Handle::get_ref`](crate::Handle::get_ref). The value is dropped on the thread that
/// drops the last `Ref`, handle or dependent of the task.
///
/// ```
/// use ensue::{Client, Ref};
///
/// struct Big([u8; 1000]); // not `Clone`
///
/// let client = Client::new();
/// let big = client.submit(async || Big([1; 1000]), ());
/// let sum = client.submit(async |big: Ref<Big>| big.0.iter().map(|b| *b as u32).sum::<u32>(), &big);
/// assert_eq!(sum.result().unwrap(), 1000);
/// ```
pub struct Ref<T>(Typed<T>);

impl<T> Ref<T> {
    /// Moves the value out if nothing else holds it.
    ///
    /// # Errors
    ///
    /// Returns the `Ref` if another handle, `Ref` or dependent task needs the value.
    pub fn try_into_inner(self) -> Result<T, Self> {
        self.0.take().ok_or(self)
    }
}

impl<T: Sync> Deref for Ref<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.value()
    }
}

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Sync> AsRef<T> for Ref<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: fmt::Debug + Sync> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display + Sync> fmt::Display for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
