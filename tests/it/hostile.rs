//! User code that lies, panics or re-enters where the engine calls it (promise 10).
//!
//! The address sanitizer runs these, too: whatever such code does, no memory is used after it was freed.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use ensue::{Handle, Ref, as_completed, gather, wait_all};
use futures::executor::block_on;
use futures::{Stream, StreamExt};
use support::{bounded, client_of, run_until_idle};

async fn inc(x: u64) -> u64 {
    x + 1
}

/// An iterator that says this about its length.
struct Lies<I>(I, (usize, Option<usize>));

impl<I: Iterator> Iterator for Lies<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.1
    }
}

impl<I: Iterator + Unpin> Stream for Lies<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.1
    }
}

#[test]
fn iterators_may_lie_about_their_length() {
    bounded(|| {
        for hint in [(0, Some(0)), (1, Some(1)), (500, Some(3)), (0, None), (70, Some(70))] {
            let client = client_of(2);
            let all = client.map(inc, Lies(0..200, hint));
            assert_eq!(block_on(gather(Lies(all.iter(), hint))).unwrap().len(), 200, "{hint:?}");
            assert_eq!(block_on(wait_all(Lies(all.iter(), hint))).done.len(), 200);
            assert_eq!(block_on(as_completed(Lies(all.iter(), hint)).count()), 200);
            let stream = client.map_stream(Lies(0..200, hint), 7, inc);
            assert!(stream.size_hint().0 <= 500 + 7);
            assert_eq!(block_on(stream.count()), 200);
        }
    });
}

/// A map's key that hashes differently each time, and panics when it was compared a few times.
#[derive(Clone)]
struct Fickle(Arc<AtomicU64>, u64);

impl Hash for Fickle {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.0.fetch_add(1, Ordering::Relaxed) % 3);
    }
}

impl PartialEq for Fickle {
    fn eq(&self, other: &Self) -> bool {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        assert!(n < 60, "compared {n} times");
        (self.1 + n) % 4 == other.1 % 4
    }
}

impl Eq for Fickle {}

#[test]
#[expect(clippy::mutable_key_type, reason = "that is the point")]
fn keys_of_maps_may_lie_and_panic() {
    bounded(|| {
        let client = client_of(2);
        let calls = Arc::new(AtomicU64::new(0));
        for round in 0..20 {
            calls.store(round, Ordering::Relaxed);
            let mut map = HashMap::new();
            for n in 0..8 {
                map.insert(Fickle(calls.clone(), n), client.submit(inc, n));
            }
            calls.store(40 + round, Ordering::Relaxed);
            let len = client.submit(async |map: HashMap<Fickle, u64>| map.len(), &map);
            let shared = client.submit(async |map: HashMap<Fickle, Ref<u64>>| map.len(), map);
            for len in [len.result(), shared.result()] {
                assert!(len.map_or_else(|error| error.is_panic(), |len| len <= 8));
            }
        }
        block_on(client.idle());
        assert_eq!(client.tasks_in_memory(), 0);
    });
}

/// A value whose `clone` and `drop` call this with the handles that there are.
struct Reenters(Arc<Mutex<Vec<Handle<Reenters>>>>, fn(&Mutex<Vec<Handle<Reenters>>>));

impl Clone for Reenters {
    fn clone(&self) -> Self {
        (self.1)(&self.0);
        Self(self.0.clone(), self.1)
    }
}

impl Drop for Reenters {
    fn drop(&mut self) {
        (self.1)(&self.0);
    }
}

#[test]
fn cloning_or_dropping_a_value_may_use_its_own_handles() {
    type Act = fn(&Mutex<Vec<Handle<Reenters>>>);
    let acts: [Act; 6] = [
        |handles| drop(std::mem::take(&mut *handles.lock().unwrap())),
        |handles| {
            let handle = handles.lock().unwrap().pop();
            handle.iter().for_each(|handle| assert!(!handle.cancel() && !handle.retry()));
        },
        |handles| {
            let last = handles.lock().unwrap().pop();
            // Its clone pops the next one.
            let _ = last.map(|handle| handle.try_get());
        },
        |handles| {
            let last = handles.lock().unwrap().pop();
            if let Some(mut handle) = last {
                let _ = Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop()));
            }
        },
        |handles| {
            let last = handles.lock().unwrap().pop();
            let mut shared = last.map(|handle| handle.get_ref());
            let cx = &mut Context::from_waker(Waker::noop());
            let _ = shared.as_mut().map(|shared| Pin::new(shared).poll(cx));
        },
        |handles| {
            let last = handles.lock().unwrap().pop();
            assert!(std::thread::panicking() || last.is_none(), "a value's panic");
        },
    ];
    bounded(move || {
        for act in acts {
            for workers in [0, 2] {
                let client = client_of(workers);
                let handles = Arc::<Mutex<Vec<Handle<Reenters>>>>::default();
                let x = client.ready(Reenters(handles.clone(), act));
                *handles.lock().unwrap() = vec![x.clone(); 5];
                let y = client.submit(async |_: Reenters| (), &x);
                if workers == 0 {
                    run_until_idle(&client);
                }
                let _ = block_on(y);
                let mut waits = pin!(gather([&x, &x]));
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let _ = waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                }));
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| block_on(x)));
                let left = std::mem::take(&mut *handles.lock().unwrap());
                drop(left);
            }
        }
    });
}

/// A waker whose destructor and wake use the handle that it waits for.
struct Meddles(Mutex<Option<Handle<u64>>>, bool);

impl Wake for Meddles {
    fn wake(self: Arc<Self>) {
        let handle = self.0.lock().unwrap().take();
        assert!(!self.1, "a waker's panic");
        drop(handle);
    }
}

impl Drop for Meddles {
    fn drop(&mut self) {
        if let Some(mut handle) = self.0.lock().unwrap().take() {
            let _ = Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop()));
            handle.cancel();
        }
    }
}

#[test]
fn wakers_may_use_the_handle_that_they_wait_for() {
    bounded(|| {
        for panics in [false, true] {
            for ends in [false, true] {
                let client = client_of(1);
                let gate = support::hold::Gate::new();
                let pass = gate.pass();
                let mut x = client.spawn(async move {
                    pass.await;
                    1u64
                });
                let waker = || Arc::new(Meddles(Mutex::new(Some(x.clone())), panics)).into();
                let (one, two): (Waker, Waker) = (waker(), waker());
                let mut many = as_completed([&x, &x]);
                for waker in [one, two] {
                    // The second registration drops the first waker.
                    let mut cx = Context::from_waker(&waker);
                    assert!(many.poll_next_unpin(&mut cx).is_pending() || x.is_finished());
                    let _ = Pin::new(&mut x).poll(&mut cx);
                }
                if ends {
                    gate.open();
                }
                drop(many);
                let _ = x.result();
                drop(x);
            }
        }
    });
}

#[test]
fn a_handle_of_a_function_pointer_is_one_of_a_narrower_type_too() {
    type Any = fn(&u8) -> u8;
    type One = fn(&'static u8) -> u8;
    bounded(|| {
        let client = client_of(1);
        let any: Handle<Any> = client.task().key("any").submit(async || (|x: &u8| *x) as Any, ());
        let one: Handle<One> = any.clone();
        static SEVEN: u8 = 7;
        assert_eq!((one.result().unwrap())(&SEVEN), 7);
        assert_eq!((block_on(gather([&one, &one])).unwrap()[1])(&SEVEN), 7);
        assert_eq!((block_on(gather((&one, &any))).unwrap().0)(&SEVEN), 7);
        let called = client.submit(async |call: One| call(&SEVEN), &one);
        assert_eq!(called.result().unwrap(), 7);
        assert_eq!((block_on(one.get_ref()).unwrap())(&SEVEN), 7);
        assert_eq!((block_on(as_completed([one]).next()).unwrap().result().unwrap())(&SEVEN), 7);
        // By its key it's found with the type that it was made with.
        assert!(client.get::<One>("any").unwrap().error().is_some());
        assert_eq!((client.get::<Any>("any").unwrap().result().unwrap())(&SEVEN), 7);
    });
}
