//! Tasks whose values are somewhere else, and are brought here when somebody wants them.
//!
//! Such a task ends when its value is there, wherever that is, and who only waits for that sees no difference
//! to any other task. Who wants the value gets that of a second task in its place, the *bringer*: it's made
//! when first needed, takes the first one as its input, and goes with the last who wants it.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};

use super::cell::{self, Failure, Outcome, Setup};
use super::context;
use super::core::Core;
use super::edges::{After, Many};
use super::header::{Extras, Task, User};
use super::lock::Lock;
use super::release::hold;
use super::state::KEYED;
use super::store::{Joined, Wanted};
use super::typed::Typed;
use super::waiters::Outlook;
use crate::{Error, Key};

/// What a task stands for that is run somewhere else.
pub(crate) trait Away<T>: Clone + Send + Sync + 'static {
    /// Resolves when it has ended there.
    fn ended(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// What to call where it has failed and is to run again. It doesn't keep anything alive.
    fn again(&self) -> impl Fn() + Send + Sync + 'static;

    /// What those who submit such tasks know it by.
    fn tag(&self) -> Option<Tag> {
        None
    }

    /// Whether it can run again at all.
    fn can_run_again(&self) -> bool;

    /// Brings its value here.
    fn bring(&self) -> impl Future<Output = Result<T, Error>> + Send;
}

/// What the cell of such a task has in place of a value.
pub(crate) struct Elsewhere<T>(Box<dyn Source<T>>);

trait Source<T>: Send + Sync {
    fn bring(&self) -> Bringing<'_, T>;
}

/// Anything that goes with the task.
pub(crate) type Tag = Weak<dyn Any + Send + Sync>;

type Bringing<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

impl<T: 'static, P: Away<T>> Source<T> for P {
    fn bring(&self) -> Bringing<'_, T> {
        Box::pin(Away::bring(self))
    }
}

/// What ties such a task to where it is.
pub(crate) struct Ties {
    pub(crate) again: Box<dyn Fn() + Send + Sync>,
    /// Makes a bringer.
    bring: fn(&User) -> (User, Option<Task>),
    /// The last one that was made.
    bringer: Lock<Option<Task>>,
    tag: Option<Tag>,
}

/// What such a task is called.
pub(crate) struct Named {
    pub(crate) key: Key,
    pub(crate) name: Arc<str>,
    /// Others join by the key, which was given by who submits.
    pub(crate) is_given: bool,
}

/// Makes a task that ends when what `send` returns has ended, or joins the one of the same key; an error where
/// that has another type.
///
/// If one of the inputs fails, so does it.
pub(crate) fn submit<T, P>(
    core: &Core,
    named: Named,
    inputs: Vec<User>,
    send: impl FnOnce() -> P,
) -> Result<Typed<T>, Error>
where
    T: Send + 'static,
    P: Away<T>,
{
    let Named { key, name, is_given } = named;
    let mut waits = Many(inputs.into_iter().map(After::new).collect());
    let new = cell::inputs(core, &mut waits);
    let allocate = || {
        let away = send();
        let ties = Ties {
            again: Box::new(away.again()),
            bring: make_bringer::<T>,
            bringer: Lock::default(),
            tag: away.tag(),
        };
        let extras = Extras {
            name: Some(name),
            key: OnceLock::from(key.clone()),
            ties: Some(Box::new(ties)),
            ..Extras::default()
        };
        let flags = if is_given { KEYED } else { 0 };
        let setup = Setup { flags, extras: Some(Box::new(extras)), ..Setup::default() };
        cell::allocate_elsewhere(core, setup, wait::<T, P>, away, waits, new).into_user()
    };
    let user = if is_given {
        match core.store.join_or_insert(Wanted::Key(&key), allocate) {
            Joined::New(user) => user,
            Joined::Existing(user) => {
                let held = (user.vtable.type_name)();
                let conflict =
                    |_| Error::key_conflict(key.clone(), held, std::any::type_name::<T>());
                return Typed::checked(user).map_err(conflict);
            }
        }
    } else {
        allocate()
    };
    if let Some(task) = cell::begin(core, user.task().as_ptr(), new) {
        context::schedule_new(task);
    }
    Ok(Typed::known(user))
}

/// The inputs are needed until it has ended: what was lost on the way is made of them again.
async fn wait<T: 'static, P: Away<T>>(
    away: P,
    inputs: Vec<User>,
) -> Outcome<Elsewhere<T>, P, Vec<User>> {
    match away.ended().await {
        Ok(()) => Ok(Elsewhere(Box::new(away))),
        Err(error) => {
            let again = away.can_run_again().then_some((away, inputs));
            Err(Failure { error, again })
        }
    }
}

fn make_bringer<T: Send + 'static>(of: &User) -> (User, Option<Task>) {
    let name = format!("fetch {}", of.name()).into();
    // Its errors are those of the task.
    let key = OnceLock::from(of.key().clone());
    let extras = Extras { name: Some(name), key, ..Extras::default() };
    let setup = Setup { extras: Some(Box::new(extras)), ..Setup::default() };
    let (typed, ready) = cell::create(of.core(), setup, bring::<T>, (), (After::new(of.clone()),));
    (typed.into_user(), ready)
}

async fn bring<T: 'static>((): (), (from,): (User,)) -> Outcome<T, (), (User,)> {
    // SAFETY: only tasks that `submit` has made for values of this type make bringers with this function.
    let from = unsafe { Typed::<T>::new(from) };
    let brought = from.whereabouts().0.bring().await;
    // Who stands on it may be run again, though what it's brought from has ended and need not.
    brought.map_err(|error| Failure { error, again: Some(((), (from.into_user(),))) })
}

/// The task whose value is that of this one, brought here.
pub(crate) fn bringer(user: &User) -> User {
    let ties = ties(user);
    // Making one may be what frees another engine, and looking at the last one what frees its error: foreign code.
    let (bringer, before, ready) = hold(|| {
        let mut kept = ties.bringer.lock();
        if let Some(user) = kept.as_ref().and_then(|kept| still_good(kept, user)) {
            return (user, None, None);
        }
        let (new, ready) = (ties.bring)(user);
        let before = kept.replace(new.task().to_task());
        (new, before, ready)
    });
    drop(before);
    if let Some(task) = ready {
        context::schedule_new(task);
    }
    bringer
}

/// The bringer, if there's one now.
pub(crate) fn present_bringer(user: &User) -> Option<User> {
    hold(|| ties(user).bringer.lock().as_ref().and_then(|kept| still_good(kept, user)))
}

/// What the task is known by, if its value is elsewhere and it has such a thing.
pub(crate) fn tag(user: &User) -> Option<Arc<dyn Any + Send + Sync>> {
    ties(user).tag.as_ref()?.upgrade()
}

fn ties(user: &User) -> &Ties {
    match user.task().get().extras().and_then(|extras| extras.ties.as_deref()) {
        Some(ties) => ties,
        None => unreachable!("a task whose value is elsewhere is made with ties"),
    }
}

/// A bringer may have been given up, and may have failed, at which one tries again unless its task has failed.
fn still_good(kept: &Task, of: &User) -> Option<User> {
    let user = kept.as_ref().try_to_user()?;
    let failed = |user: &User| user.waiters.outlook() == Outlook::Failed;
    (!failed(&user) || failed(of)).then_some(user)
}

#[cfg(test)]
mod tests;
