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
    brought.map_err(|error| Failure { error, again: None })
}

/// The task whose value is that of this one, brought here.
pub(crate) fn bringer(user: &User) -> User {
    let ties = ties(user);
    let mut kept = ties.bringer.lock();
    if let Some(user) = kept.as_ref().and_then(|kept| still_good(kept, user)) {
        return user;
    }
    let (new, ready) = (ties.bring)(user);
    let before = kept.replace(new.task().to_task());
    drop(kept);
    drop(before);
    if let Some(task) = ready {
        context::schedule_new(task);
    }
    new
}

/// The bringer, if there's one now.
pub(crate) fn present_bringer(user: &User) -> Option<User> {
    ties(user).bringer.lock().as_ref().and_then(|kept| still_good(kept, user))
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
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Mutex, MutexGuard};
    use std::time::{Duration, Instant};

    use event_listener::Event;
    use futures_core::FusedStream;
    use futures_lite::StreamExt;
    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::{
        Client, ErrorKind, Handle, Status, as_completed, gather, gather_settled, wait_all,
    };

    /// A task somewhere else, as the test wants it to be.
    #[derive(Default)]
    struct Far {
        outcome: Mutex<Option<Result<(), Error>>>,
        told: Event,
        brought: AtomicUsize,
        again: AtomicUsize,
        /// So many times bringing the value fails.
        broken: AtomicUsize,
        /// Bringing the value never ends.
        stuck: AtomicBool,
    }

    impl Far {
        fn outcome(&self) -> MutexGuard<'_, Option<Result<(), Error>>> {
            self.outcome.lock().unwrap()
        }

        fn end(&self, outcome: Result<(), Error>) {
            *self.outcome() = Some(outcome);
            self.told.notify(usize::MAX);
        }

        fn brought(&self) -> usize {
            self.brought.load(Ordering::SeqCst)
        }
    }

    impl Away<String> for Arc<Far> {
        async fn ended(&self) -> Result<(), Error> {
            loop {
                let told = self.told.listen();
                if let Some(outcome) = &*self.outcome() {
                    return outcome.clone();
                }
                told.await;
            }
        }

        fn again(&self) -> impl Fn() + Send + Sync + 'static {
            let weak = Arc::downgrade(self);
            move || {
                let far = weak.upgrade().unwrap();
                far.again.fetch_add(1, Ordering::SeqCst);
                *far.outcome() = None;
            }
        }

        fn can_run_again(&self) -> bool {
            true
        }

        async fn bring(&self) -> Result<String, Error> {
            self.brought.fetch_add(1, Ordering::SeqCst);
            if self.stuck.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            let broken = self.broken.load(Ordering::SeqCst);
            if broken > 0 {
                self.broken.store(broken - 1, Ordering::SeqCst);
                return Err(Error::failed("far".into(), "the line is cut"));
            }
            Ok("value".to_owned())
        }
    }

    fn far(client: &Client, inputs: &[&Handle<String>]) -> (Arc<Far>, Handle<String>) {
        let far = Arc::new(Far::default());
        let key = format!("far-{}", client.core().next_number()).into();
        let named = Named { key, name: "far".into(), is_given: false };
        let inputs = inputs.iter().map(|handle| handle.typed().user().clone()).collect();
        let sent = far.clone();
        (far, Handle::new(submit(client.core(), named, inputs, || sent).unwrap()))
    }

    fn client() -> Client {
        Client::builder().workers(1).build()
    }

    /// Waits, with an end to it, until something is so.
    fn until(what: impl Fn() -> bool) {
        let start = Instant::now();
        while !what() {
            assert!(start.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
    }

    #[test]
    fn it_ends_without_being_fetched() {
        let client = client();
        let (far, handle) = far(&client, &[]);
        assert!(!handle.is_finished());
        far.end(Ok(()));
        let waited = block_on(wait_all([&handle]));
        assert_eq!(waited.done, std::slice::from_ref(&handle));
        assert_eq!(block_on(as_completed([&handle]).next()), Some(handle.clone()));
        assert_eq!((handle.status(), far.brought()), (Status::Finished, 0));
        assert!(handle.try_get().is_none());
        assert_eq!(handle.result().unwrap(), "value");
        // Nobody has kept it.
        assert!(handle.try_get().is_none());
        assert_eq!(block_on(handle.get_ref()).unwrap().as_str(), "value");
        assert_eq!(far.brought(), 2);
    }

    #[test]
    fn all_who_want_it_at_a_time_get_one_fetch() {
        let client = client();
        let (far, handle) = far(&client, &[]);
        let shared = handle.get_ref();
        let here = client.submit(async |text: String| text + "!", &handle);
        let by_ref = client.submit(async |text: crate::Ref<String>| text.len(), &handle);
        far.end(Ok(()));
        let all = block_on(gather([&handle, &handle])).unwrap();
        assert_eq!(all, ["value", "value"]);
        assert_eq!((here.result().unwrap().as_str(), by_ref.result().unwrap()), ("value!", 5));
        assert!(far.brought() <= 2);
        let shared = block_on(shared).unwrap();
        let before = far.brought();
        assert_eq!(handle.try_get().unwrap().unwrap(), *shared);
        assert_eq!(handle.result().unwrap(), *shared);
        assert_eq!(far.brought(), before);
    }

    #[test]
    fn a_failure_reaches_all_who_stand_on_it_and_can_be_tried_again() {
        let client = client();
        let (one, first) = far(&client, &[]);
        let (two, second) = far(&client, &[&first]);
        let here = client.submit(async |text: String| text, &second);
        one.end(Err(Error::failed(first.key(), "broken")));
        for error in [second.result().unwrap_err(), here.result().unwrap_err()] {
            assert_eq!((error.kind(), error.origin()), (ErrorKind::Failed, &first.key()));
        }
        assert_eq!(block_on(gather_settled([&first, &second])).iter().flatten().count(), 0);
        let mut kept = second.clone();
        assert!(block_on(&mut kept).is_err());
        assert!(second.retry());
        assert_eq!([&one, &two].map(|far| far.again.load(Ordering::SeqCst)), [1, 1]);
        assert!(!second.is_finished());
        one.end(Ok(()));
        two.end(Ok(()));
        assert_eq!(block_on(&mut kept).unwrap(), "value");
        assert_eq!(second.result().unwrap(), "value");
    }

    #[test]
    fn a_fetch_that_fails_is_told_once_and_tried_again_by_the_next() {
        let client = client();
        let (far, handle) = far(&client, &[]);
        far.broken.store(1, Ordering::SeqCst);
        far.end(Ok(()));
        let mut handle = handle;
        assert_eq!(
            block_on(&mut handle).unwrap_err().to_string(),
            "task `far` failed: the line is cut"
        );
        assert_eq!(block_on(&mut handle).unwrap(), "value");
    }

    #[test]
    fn giving_up_lets_go_of_it() {
        let client = client();
        let (one, first) = far(&client, &[]);
        let (two, second) = far(&client, &[&first]);
        drop(first);
        assert_eq!(Arc::strong_count(&one), 2, "the second task needs it");
        drop(second);
        until(|| Arc::strong_count(&one) + Arc::strong_count(&two) == 2);

        let (three, third) = far(&client, &[]);
        assert!(third.cancel());
        assert!(third.result().unwrap_err().is_cancelled());
        until(|| Arc::strong_count(&three) == 1);

        let (four, fourth) = far(&client, &[]);
        four.end(Ok(()));
        until(|| fourth.is_finished());
        assert!(!fourth.cancel());
        let brought = fourth.get_ref();
        drop(fourth);
        assert_eq!(block_on(brought).unwrap().as_str(), "value");
        until(|| Arc::strong_count(&four) == 1);
    }

    #[test]
    fn results_beside_handles_are_brought() {
        let client = client();
        let (one, first) = far(&client, &[]);
        let (two, second) = far(&client, &[]);
        let mut all = as_completed([&first, &second]).with_results();
        two.end(Ok(()));
        let (handle, result) = block_on(all.next()).unwrap();
        assert_eq!((handle, result.unwrap().as_str()), (second, "value"));
        assert_eq!(all.len(), 1);
        one.end(Err(Error::failed(first.key(), "broken")));
        let (handle, result) = block_on(all.next()).unwrap();
        assert!(handle == first && result.is_err());
        assert!(block_on(all.next()).is_none());
    }

    /// As many as nobody takes, and no more than some.
    #[test]
    fn few_results_are_brought_before_they_are_taken() {
        const COUNT: usize = 300;
        let client = client();
        let all: Vec<_> = (0..COUNT).map(|_| far(&client, &[])).collect();
        all.iter().for_each(|(far, _)| far.end(Ok(())));
        until(|| all.iter().all(|(_, handle)| handle.is_finished()));
        let brought = || all.iter().map(|(far, _)| far.brought()).sum::<usize>();
        let mut results = as_completed(all.iter().map(|(_, handle)| handle)).with_results();
        for taken in 1..=COUNT {
            block_on(results.next()).unwrap().1.unwrap();
            assert!(brought() < taken + 100, "{} of {taken}", brought());
            assert_eq!(results.len(), COUNT - taken);
        }
        assert!(block_on(results.next()).is_none() && results.is_terminated());
        assert_eq!(brought(), COUNT);
    }

    #[test]
    fn what_is_slow_to_be_brought_holds_up_nothing() {
        let client = client();
        let slow: Vec<_> = (0..30).map(|_| far(&client, &[])).collect();
        let quick: Vec<_> = (0..200).map(|_| far(&client, &[])).collect();
        slow.iter().for_each(|(far, _)| far.stuck.store(true, Ordering::SeqCst));
        slow.iter().chain(&quick).for_each(|(far, _)| far.end(Ok(())));
        until(|| slow.iter().chain(&quick).all(|(_, handle)| handle.is_finished()));
        let handles = slow.iter().chain(&quick).map(|(_, handle)| handle);
        let mut results = as_completed(handles).with_results();
        for _ in &quick {
            let (handle, _) = block_on(results.next()).unwrap();
            assert!(quick.iter().any(|(_, quick)| *quick == handle));
        }
        // As many as may be on their way are, and for ever.
        let more: Vec<_> = (0..100).map(|_| far(&client, &[])).collect();
        for (far, handle) in &more {
            far.stuck.store(true, Ordering::SeqCst);
            far.end(Ok(()));
            results.add(handle);
        }
        assert!(block_on(poll_once(results.next())).is_none());
        let here = client.submit(async || "here".to_owned(), ());
        results.add(&here);
        assert_eq!(block_on(results.next()).unwrap().0, here);
        assert_eq!(results.len(), 130);
    }

    #[test]
    fn the_end_of_the_client_is_the_end_of_all_this() {
        let client = client();
        let (far, handle) = far(&client, &[]);
        let waiting = handle.clone();
        drop(client);
        assert_eq!(handle.result().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(waiting.result().unwrap_err().kind(), ErrorKind::Closed);
        drop((handle, waiting));
        until(|| Arc::strong_count(&far) == 1);
    }
}
