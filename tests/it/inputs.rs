//! Every kind of input (promise 2).

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use ensue::{Client, Handle, Ref};
use support::observe::{Counted, Counts};
use support::{bounded, eventually, run_until_idle};

/// Not `Clone`: only a `Ref` can share it.
#[derive(Debug, PartialEq)]
struct Big(u64);

async fn total(xs: Vec<u64>) -> u64 {
    xs.into_iter().sum()
}

async fn total_ref(xs: Vec<Ref<Big>>) -> u64 {
    xs.iter().map(|x| x.0).sum()
}

/// A client with one worker, tasks of three numbers, and tasks of three values that aren't `Clone`.
fn setup() -> (Client, [Handle<u64>; 3], [Handle<Big>; 3]) {
    let client = Client::builder().workers(1).build();
    let numbers = [1, 2, 3].map(|x| client.submit(async |x: u64| x, x));
    let bigs = [10, 20, 30].map(|x| client.submit(async |x: u64| Big(x), x));
    (client, numbers, bigs)
}

#[test]
fn nothing() {
    bounded(|| {
        let (client, ..) = setup();
        assert_eq!(client.submit(async || 5, ()).result().unwrap(), 5);
        assert_eq!(client.submit_blocking(|| 6, ()).result().unwrap(), 6);
    });
}

#[test]
fn plain_values() {
    bounded(|| {
        let (client, ..) = setup();
        let text = client.submit(async |s: String| s.len(), "four".to_owned());
        assert_eq!(text.result().unwrap(), 4);
        let text = client.submit(async |s: &'static str| s.len(), "three");
        assert_eq!(text.result().unwrap(), 5);
        assert_eq!(client.submit(total, vec![1, 2, 3]).result().unwrap(), 6);
        let pair = client.submit(async |(a, b): (u8, char)| format!("{a}{b}"), (1, 'x'));
        assert_eq!(pair.result().unwrap(), "1x");
        let option = client.submit(async |x: Option<u8>| x.is_none(), None::<u8>);
        assert!(option.result().unwrap());
        let unit = client.submit(async |(): ()| 9, ());
        assert_eq!(unit.result().unwrap(), 9);
        // Neither `Clone` nor `Sync`: an input only has to be `Send`.
        let cell = client.submit(
            async |x: std::cell::Cell<Box<u8>>| *x.into_inner(),
            std::cell::Cell::new(Box::new(3)),
        );
        assert_eq!(cell.result().unwrap(), 3);
        let function = client.submit(async |f: fn(u8) -> u8| f(1), (|x| x + 1) as fn(u8) -> u8);
        assert_eq!(function.result().unwrap(), 2);
    });
}

#[test]
fn literals_get_the_type_of_the_argument() {
    bounded(|| {
        let (client, [x, ..], _) = setup();
        async fn narrow(x: u8) -> u8 {
            x.wrapping_add(1)
        }
        async fn wide(x: u64, y: i128, z: f32) -> bool {
            x as i128 == y && z > 0.0
        }
        assert_eq!(client.submit(narrow, 255).result().unwrap(), 0);
        assert!(client.submit(wide, (7, 7, 0.5)).result().unwrap());
        let c = client.submit(async |a: u64, b: u64| a * b, (&x, 7));
        assert_eq!(c.result().unwrap(), 7);
        let mapped = client.map(narrow, [1, 2, 255]);
        assert_eq!(mapped.iter().map(|h| h.result().unwrap()).collect::<Vec<_>>(), [2, 3, 0]);
    });
}

#[test]
fn a_handle_by_value_or_by_reference() {
    bounded(|| {
        let (client, [x, y, _], [big, other, _]) = setup();
        assert_eq!(client.submit(async |x: u64| x, &x).result().unwrap(), 1);
        assert_eq!(client.submit(async |x: u64| x, x).result().unwrap(), 1);
        assert_eq!(client.submit(async |y: Ref<u64>| *y, &y).result().unwrap(), 2);
        assert_eq!(client.submit(async |y: Ref<u64>| *y, y).result().unwrap(), 2);
        assert_eq!(client.submit(async |x: Ref<Big>| x.0, &big).result().unwrap(), 10);
        assert_eq!(client.submit(async |x: Ref<Big>| x.0, big).result().unwrap(), 10);
        // The whole handle is a plain value where the argument says so.
        let whole = client.submit(async |x: Handle<Big>| x.get_ref().await.unwrap().0, other);
        assert_eq!(whole.result().unwrap(), 20);
    });
}

#[test]
fn vectors_and_slices() {
    bounded(|| {
        let (client, xs, bigs) = setup();
        let (xs, bigs) = (Vec::from(xs), Vec::from(bigs));
        assert_eq!(client.submit(total, &xs).result().unwrap(), 6);
        assert_eq!(client.submit(total, &xs[1..]).result().unwrap(), 5);
        assert_eq!(client.submit(total, xs.iter().collect::<Vec<_>>()).result().unwrap(), 6);
        assert_eq!(client.submit(total, xs.clone().into_boxed_slice()).result().unwrap(), 6);
        assert_eq!(client.submit(total, xs).result().unwrap(), 6);
        assert_eq!(client.submit(total_ref, &bigs).result().unwrap(), 60);
        assert_eq!(client.submit(total_ref, &bigs[..2]).result().unwrap(), 30);
        assert_eq!(client.submit(total_ref, bigs.iter().collect::<Vec<_>>()).result().unwrap(), 60);
        assert_eq!(client.submit(total_ref, bigs.clone().into_boxed_slice()).result().unwrap(), 60);
        assert_eq!(client.submit(total_ref, bigs).result().unwrap(), 60);
    });
}

#[test]
fn empty_containers_wait_for_nothing() {
    bounded(|| {
        let (client, ..) = setup();
        let none: Vec<Handle<u64>> = Vec::new();
        assert_eq!(client.submit(total, &none).result().unwrap(), 0);
        assert_eq!(client.submit(total, &none[..]).result().unwrap(), 0);
        assert_eq!(client.submit(total_ref, Vec::<Handle<Big>>::new()).result().unwrap(), 0);
        let nested: Vec<Vec<Handle<u64>>> = vec![Vec::new(), Vec::new()];
        let lengths = client.submit(async |xs: Vec<Vec<u64>>| xs.len(), nested);
        assert_eq!(lengths.result().unwrap(), 2);
        let map = HashMap::<u8, Handle<u64>>::new();
        assert_eq!(client.submit(async |m: HashMap<u8, u64>| m.len(), map).result().unwrap(), 0);
    });
}

#[test]
fn arrays_as_arrays_and_as_vectors() {
    bounded(|| {
        async fn array([a, b, c]: [u64; 3]) -> u64 {
            a * 100 + b * 10 + c
        }
        async fn array_ref(xs: [Ref<Big>; 3]) -> u64 {
            xs.iter().map(|x| x.0).sum()
        }
        let (client, xs, bigs) = setup();
        assert_eq!(client.submit(array, &xs).result().unwrap(), 123);
        assert_eq!(client.submit(array, [&xs[0], &xs[1], &xs[2]]).result().unwrap(), 123);
        assert_eq!(client.submit(array, xs.clone()).result().unwrap(), 123);
        assert_eq!(client.submit(total, &xs).result().unwrap(), 6);
        assert_eq!(client.submit(total, [&xs[0], &xs[1]]).result().unwrap(), 3);
        assert_eq!(client.submit(total, xs).result().unwrap(), 6);
        assert_eq!(client.submit(array_ref, &bigs).result().unwrap(), 60);
        assert_eq!(client.submit(array_ref, bigs.each_ref()).result().unwrap(), 60);
        assert_eq!(client.submit(array_ref, bigs.clone()).result().unwrap(), 60);
        assert_eq!(client.submit(total_ref, &bigs).result().unwrap(), 60);
        assert_eq!(client.submit(total_ref, bigs.each_ref()).result().unwrap(), 60);
        assert_eq!(client.submit(total_ref, bigs).result().unwrap(), 60);
    });
}

#[test]
fn options() {
    bounded(|| {
        async fn or_zero(x: Option<u64>) -> u64 {
            x.unwrap_or(0)
        }
        async fn or_zero_ref(x: Option<Ref<Big>>) -> u64 {
            x.map_or(0, |x| x.0)
        }
        let (client, [x, ..], [big, ..]) = setup();
        assert_eq!(client.submit(or_zero, Some(&x)).result().unwrap(), 1);
        let maybe = Some(x.clone());
        assert_eq!(client.submit(or_zero, &maybe).result().unwrap(), 1);
        assert_eq!(client.submit(or_zero, maybe).result().unwrap(), 1);
        assert_eq!(client.submit(or_zero, Some(x)).result().unwrap(), 1);
        assert_eq!(client.submit(or_zero, None::<Handle<u64>>).result().unwrap(), 0);
        assert_eq!(client.submit(or_zero_ref, Some(&big)).result().unwrap(), 10);
        let maybe = Some(big.clone());
        assert_eq!(client.submit(or_zero_ref, &maybe).result().unwrap(), 10);
        assert_eq!(client.submit(or_zero_ref, maybe).result().unwrap(), 10);
        assert_eq!(client.submit(or_zero_ref, Some(big)).result().unwrap(), 10);
        assert_eq!(client.submit(or_zero_ref, None::<&Handle<Big>>).result().unwrap(), 0);
    });
}

#[test]
fn maps() {
    bounded(|| {
        type Fixed = BuildHasherDefault<DefaultHasher>;
        async fn hashed(map: HashMap<String, u64>) -> u64 {
            map["a"] * 10 + map["b"]
        }
        async fn hashed_ref(map: HashMap<String, Ref<Big>, Fixed>) -> u64 {
            map["a"].0 * 10 + map["b"].0
        }
        async fn ordered(map: BTreeMap<u8, u64>) -> Vec<(u8, u64)> {
            map.into_iter().collect()
        }
        async fn ordered_ref(map: BTreeMap<u8, Ref<Big>>) -> Vec<(u8, u64)> {
            map.into_iter().map(|(key, value)| (key, value.0)).collect()
        }
        let (client, [x, y, _], [big, other, _]) = setup();
        let map = HashMap::from([("a".to_owned(), x.clone()), ("b".to_owned(), y.clone())]);
        assert_eq!(client.submit(hashed, &map).result().unwrap(), 12);
        assert_eq!(client.submit(hashed, map).result().unwrap(), 12);
        let map: HashMap<_, _, Fixed> =
            [("a".to_owned(), big.clone()), ("b".to_owned(), other.clone())].into_iter().collect();
        assert_eq!(client.submit(hashed_ref, &map).result().unwrap(), 120);
        assert_eq!(client.submit(hashed_ref, map).result().unwrap(), 120);
        let map = BTreeMap::from([(2, y), (1, x)]);
        assert_eq!(client.submit(ordered, &map).result().unwrap(), [(1, 1), (2, 2)]);
        assert_eq!(client.submit(ordered, map).result().unwrap(), [(1, 1), (2, 2)]);
        let map = BTreeMap::from([(2, other), (1, big)]);
        assert_eq!(client.submit(ordered_ref, &map).result().unwrap(), [(1, 10), (2, 20)]);
        assert_eq!(client.submit(ordered_ref, map).result().unwrap(), [(1, 10), (2, 20)]);
    });
}

#[test]
fn vectors_of_vectors() {
    bounded(|| {
        let (client, [x, y, z], [a, b, c]) = setup();
        let nested = vec![vec![x.clone(), y], vec![], vec![z, x]];
        let same = async |xs: Vec<Vec<u64>>| xs;
        let expected = vec![vec![1, 2], vec![], vec![3, 1]];
        assert_eq!(client.submit(same, &nested).result().unwrap(), expected);
        assert_eq!(client.submit(same, nested).result().unwrap(), expected);
        let nested = vec![vec![a, b], vec![c]];
        let sums = async |xs: Vec<Vec<Ref<Big>>>| {
            xs.iter().map(|xs| xs.iter().map(|x| x.0).sum()).collect::<Vec<u64>>()
        };
        assert_eq!(client.submit(sums, &nested).result().unwrap(), [30, 30]);
        assert_eq!(client.submit(sums, nested).result().unwrap(), [30, 30]);
    });
}

#[test]
fn a_mixture() {
    bounded(|| {
        let (client, xs, bigs) = setup();
        let mixed = client.submit(
            async |a: u64, b: Ref<Big>, c: Vec<u64>, d: &str, e: Option<Ref<u64>>| {
                a + b.0 + c.len() as u64 + d.len() as u64 + e.map_or(0, |e| *e)
            },
            (&xs[0], &bigs[1], &xs, "four", Some(&xs[2])),
        );
        assert_eq!(mixed.result().unwrap(), 1 + 20 + 3 + 4 + 3);
    });
}

#[test]
fn up_to_twelve_arguments() {
    bounded(|| {
        let (client, [x, y, z], [big, ..]) = setup();
        #[allow(clippy::too_many_arguments)]
        async fn twelve(
            a: u64,
            b: u8,
            c: u64,
            d: i8,
            e: u64,
            f: u16,
            g: Ref<Big>,
            h: u32,
            i: u64,
            j: u64,
            k: u64,
            l: char,
        ) -> String {
            format!("{a}{b}{c}{d}{e}{f}{}{h}{i}{j}{k}{l}", g.0)
        }
        let handle = client.submit(twelve, (&x, 4, &y, -5, &z, 6, &big, 7, &x, x.clone(), 8, '!'));
        assert_eq!(handle.result().unwrap(), "142-53610711".to_owned() + "8!");
        let three = client.submit(async |a: u8, b: u8, c: u8| a + b + c, (1, 2, 3));
        assert_eq!(three.result().unwrap(), 6);
        let eight = client.submit(
            async |a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u64| {
                [a, b, c, d, e, f, g, h as u8]
            },
            (1, 2, 3, 4, 5, 6, 7, &y),
        );
        assert_eq!(eight.result().unwrap(), [1, 2, 3, 4, 5, 6, 7, 2]);
        let blocking = client
            .submit_blocking(|a: u64, b: Vec<u64>, c: u8| a + b[0] + c as u64, (&y, vec![&z], 1));
        assert_eq!(blocking.result().unwrap(), 6);
    });
}

#[test]
fn the_same_kinds_for_every_verb() {
    bounded(|| {
        let (client, [x, y, _], [big, ..]) = setup();
        let tried =
            client.try_submit(async |x: u64, b: Ref<Big>| Ok::<_, String>(x + b.0), (&x, &big));
        assert_eq!(tried.result().unwrap(), 11);
        let tried = client.try_submit_blocking(|x: u64| Ok::<_, String>(x + 1), &y);
        assert_eq!(tried.result().unwrap(), 3);
        let mapped = client.map(async |a: u64, b: u64| a + b, [(&x, &y), (&y, &y)]);
        assert_eq!(mapped.iter().map(|h| h.result().unwrap()).collect::<Vec<_>>(), [3, 4]);
        let mapped = client.map(async |a: u64, b: u64| a * b, [1, 2, 3].map(|n| (n, &y)));
        assert_eq!(mapped.iter().map(|h| h.result().unwrap()).collect::<Vec<_>>(), [2, 4, 6]);
        let mapped =
            client.try_map(async |x: u64| if x > 1 { Ok(x) } else { Err("small") }, [&x, &y]);
        assert!(mapped[0].result().is_err());
        assert_eq!(mapped[1].result().unwrap(), 2);
        let rows = client.map(total, [vec![&x, &y], vec![&y]]);
        assert_eq!(rows.iter().map(|h| h.result().unwrap()).collect::<Vec<_>>(), [3, 2]);
        let none = client.map(async || 4, [(), ()]);
        assert_eq!(none.len(), 2);
        let zero: Vec<Handle<u64>> = client.map(async |x: u64| x, Vec::<u64>::new());
        assert!(zero.is_empty());
    });
}

#[test]
fn an_input_whose_clone_panics_fails_its_task_only() {
    bounded(|| {
        #[derive(Debug)]
        struct Fragile;
        impl Clone for Fragile {
            fn clone(&self) -> Self {
                panic!("can't be copied")
            }
        }
        let client = Client::builder().workers(1).build();
        let fragile = client.submit(async || Fragile, ());
        // The handle outlives it, so the value must be cloned.
        let copied = client.submit(async |_: Fragile| 1, &fragile);
        let error = copied.result().unwrap_err();
        assert!(error.is_panic() && error.to_string().contains("can't be copied"), "{error}");
        assert_eq!(error.origin(), copied.key());
        let shared = client.submit(async |_: Ref<Fragile>| 2, &fragile);
        assert_eq!(shared.result().unwrap(), 2);
        // The last user needs no clone.
        drop((copied, shared));
        eventually("the other tasks are freed", || client.tasks_in_memory() == 1);
        let moved = client.submit(async |_: Fragile| 3, fragile);
        assert_eq!(moved.result().unwrap(), 3);
    });
}

#[test]
fn values_are_moved_into_the_last_task_that_takes_them() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let value = counts.value(7);
        let x = client.submit(async move || value, ());
        // Each is moved into the next without a clone.
        let y = client.submit(async |x: Counted| x, x);
        let z = client.submit(async |x: Vec<Counted>| x.into_iter().next().unwrap(), vec![y]);
        let w = client.submit(async |x: Option<Counted>| x.unwrap().value, Some(z));
        run_until_idle(&client);
        assert_eq!(w.result().unwrap(), 7);
        assert_eq!((counts.clones.get(), counts.drops.get()), (0, 1));
    });
}

#[test]
fn refs_share_one_value() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let value = counts.value(7);
        let x = client.submit(async move || value, ());
        let sums =
            client.map(async |x: Ref<Counted>, n: u64| x.value + n, (0..10).map(|n| (&x, n)));
        drop(x);
        run_until_idle(&client);
        let sums: Vec<_> = sums.iter().map(|sum| sum.result().unwrap()).collect();
        assert_eq!(sums, Vec::from_iter(7..17));
        assert_eq!((counts.clones.get(), counts.drops.get()), (0, 1));
    });
}

#[test]
fn a_task_may_take_the_value_out_of_its_last_ref() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let value = counts.value(7);
        let x = client.submit(async move || value, ());
        let y = client.submit(async |x: Ref<Counted>| x.try_into_inner().map_err(|_| ()), x);
        run_until_idle(&client);
        let value = futures::executor::block_on(y).unwrap().unwrap();
        assert_eq!((value.value, counts.clones.get(), counts.drops.get()), (7, 0, 0));
    });
}

/// The number of clones of `Small`, which is small and has no destructor.
static CLONES: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
struct Small(u64);

impl Clone for Small {
    fn clone(&self) -> Self {
        assert!(self.0 < 100, "a clone of {} panics", self.0);
        CLONES.fetch_add(1, SeqCst);
        Self(self.0)
    }
}

async fn twice(x: Small, y: Small) -> u64 {
    x.0 + y.0
}

#[test]
fn a_small_finished_value_is_cloned_once_for_each_task() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let x = client.ready(Small(1));
        let y = client.submit(async || Small(2), ());
        let before = CLONES.load(SeqCst);
        let sums: Vec<_> = (0..10).map(|_| client.submit(twice, (&x, &y))).collect();
        run_until_idle(&client);
        assert!(sums.iter().all(|sum| sum.result().unwrap() == 3));
        assert_eq!(CLONES.load(SeqCst) - before, 20);
        // For the last user it's moved.
        let z = client.submit(twice, (x, y));
        run_until_idle(&client);
        assert_eq!(z.result().unwrap(), 3);
        assert_eq!(CLONES.load(SeqCst) - before, 20);
    });
}

#[test]
fn a_clone_that_panics_is_the_tasks_error_and_not_the_submitters() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let bad = client.ready(Small(100));
        let sum = client.submit(twice, (&bad, &bad));
        assert!(!sum.is_finished());
        run_until_idle(&client);
        let error = sum.result().unwrap_err();
        assert!(error.is_panic() && error.to_string().contains("a clone of 100 panics"), "{error}");
    });
}

#[test]
fn a_large_value_is_cloned_where_the_task_runs() {
    bounded(|| {
        let counts = Counts::new();
        let client = Client::builder().workers(0).build();
        let x = client.ready(counts.value(1));
        let uses: Vec<_> = (0..10).map(|_| client.submit(async |_: Counted| (), &x)).collect();
        assert_eq!(counts.clones.get(), 0, "nothing is cloned while the tasks are queued");
        run_until_idle(&client);
        assert_eq!(counts.clones.get(), 10);
        drop(uses);
    });
}

#[test]
fn a_clone_that_panics_with_what_panics_when_dropped_fails_its_task() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("the payload too");
        }
    }
    struct Value;
    impl Clone for Value {
        fn clone(&self) -> Self {
            std::panic::panic_any(Bad)
        }
    }
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let value = client.ready(Value);
        assert!(client.submit(async |_: Value| (), &value).result().unwrap_err().is_panic());
        let all = client.map(async |_: Value| (), [&value, &value]);
        assert!(all.iter().all(|x| x.result().unwrap_err().is_panic()));
    });
}
