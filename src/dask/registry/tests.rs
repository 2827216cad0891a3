//! Registration of functions, and calls as a worker makes them.

use std::num::ParseIntError;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_lite::future::{block_on, poll_once};
use serde::Serialize;

use super::*;
use crate::dask::codec::{read, write};
use crate::dask::wire::rust::{Items, is_partial};

async fn inc(x: u64) -> u64 {
    x + 1
}

async fn add(x: u64, y: u64) -> u64 {
    x + y
}

async fn nothing() {}

async fn parse(text: String) -> Result<u64, ParseIntError> {
    text.parse()
}

fn total(of: Vec<u64>) -> u64 {
    of.iter().sum()
}

fn checked(x: u64) -> Result<u64, String> {
    if x == 3 { Err("three".to_owned()) } else { Ok(2 * x) }
}

async fn same<T: Portable>(value: T) -> T {
    value
}

fn registry() -> Registry {
    Registry::new()
        .add(inc)
        .add(add)
        .add(nothing)
        .add(same::<u8>)
        .add(same::<Bytes>)
        .try_add(parse)
        .add_blocking(total)
        .try_add_blocking(checked)
}

fn args(value: &impl Serialize) -> Bytes {
    rmp_serde::to_vec(value).unwrap().into()
}

fn run(work: Work) -> Result<Serialized, Problem> {
    match work {
        Work::Async(work) => block_on(work),
        Work::Blocking(work) => work(),
    }
}

fn name<F>(_: F) -> &'static str {
    type_name::<F>()
}

fn call<T: Portable, F>(function: F, args: Bytes, inputs: Vec<Serialized>) -> Result<T, Problem> {
    let work = registry().work(name(function), args, inputs)?;
    run(work).map(|result| read(&result).unwrap())
}

/// Returns the results of a batch of calls, and whether some calls were not made.
fn batch<T: Portable, F>(function: F, args: Bytes) -> (Vec<T>, bool) {
    let work = registry().work(&format!("*{}", name(function)), args, vec![]).unwrap();
    let result = run(work).unwrap();
    let items = Items::open(&result).unwrap();
    ((0..items.len()).map(|at| items.get(at).unwrap()).collect(), is_partial(&result))
}

#[test]
fn registered_functions_are_called() {
    assert_eq!(call(inc, args(&(7,)), vec![]), Ok(8_u64));
    assert_eq!(call(add, args(&(7, 8)), vec![]), Ok(15_u64));
    assert_eq!(call(nothing, args(&[0_u8; 0]), vec![]), Ok(()));
    assert_eq!(call(parse, args(&("12",)), vec![]), Ok(12_u64));
    assert_eq!(call(total, args(&([1, 2, 3],)), vec![]), Ok(6_u64));
    assert_eq!(call(checked, args(&(4,)), vec![]), Ok(8_u64));
    assert_eq!(call(same::<u8>, args(&(4,)), vec![]), Ok(4_u8));
    let place = Bytes::from_static(&[0x91, 0xd6, 1, 0, 0, 0, 0]);
    assert_eq!(call(inc, place.clone(), vec![write(7_u64).unwrap()]), Ok(8_u64));
    let large = Bytes::from(vec![1; 1 << 20]);
    let got: Bytes = call(same::<Bytes>, place, vec![write(large.clone()).unwrap()]).unwrap();
    assert_eq!(got.as_ptr(), large.as_ptr());
}

#[test]
fn failures_have_distinct_kinds() {
    let failed = call::<u64, _>(parse, args(&("x",)), vec![]).unwrap_err();
    assert_eq!(
        (failed.kind, &*failed.text),
        (ProblemKind::Failed, "invalid digit found in string")
    );
    let failed = call::<u64, _>(checked, args(&(3,)), vec![]).unwrap_err();
    assert_eq!((failed.kind, &*failed.text), (ProblemKind::Failed, "three"));
    let text = write("b".to_owned()).unwrap();
    let place = Bytes::from_static(&[0x91, 0xd6, 1, 0, 0, 0, 0]);
    let mismatch = call::<u64, _>(inc, place, vec![text]).unwrap_err();
    assert_eq!(mismatch.kind, ProblemKind::Mismatch);
    let called = name(inc);
    assert_eq!(mismatch.text, format!("argument 1 of `{called}` is a `String`, not a `u64`"));
    let unknown = Registry::new().work("my::inc", Bytes::new(), vec![]).unwrap_err();
    assert_eq!(unknown.kind, ProblemKind::Unregistered);
    assert!(unknown.text.contains("`my::inc`") && unknown.text.contains(".add(inc)"), "{unknown}");
}

#[test]
fn arguments_are_not_deserialized_before_the_call_runs() {
    for function in [name(inc), name(total)] {
        drop(registry().work(function, Bytes::from_static(b"\xc1"), vec![]).unwrap());
    }
}

#[test]
fn batches_are_run_in_order_until_one_fails() {
    assert_eq!(batch(inc, args(&[(1,), (2,), (3,)])), (vec![2_u64, 3, 4], false));
    assert_eq!(batch(checked, args(&[(1,), (2,)])), (vec![2_u64, 4], false));
    assert_eq!(batch(nothing, args(&[[0_u8; 0]; 2])), (vec![(), ()], false));
    assert_eq!(batch(inc, args(&[0_u8; 0])), (Vec::<u64>::new(), false));
    assert_eq!(batch(checked, args(&[(1,), (2,), (3,), (4,)])), (vec![2_u64, 4], true));
    assert_eq!(batch(inc, args(&[(1, 1)])), (Vec::<u64>::new(), true));
    let called = name(inc);
    let short = Bytes::from_static(&[0x93, 0x91, 1]);
    let wrong = run(registry().work(&format!("*{called}"), short, vec![]).unwrap()).unwrap_err();
    assert!(wrong.text.contains("too early"), "{wrong}");
    let result = run(registry().work(&format!("*{called}"), args(&[(1,)]), vec![]).unwrap());
    assert_eq!(result.unwrap().header().unwrap().text("rust"), Some("[u64]"));
}

#[test]
fn a_batch_yields_and_ends_early_when_it_takes_long() {
    async fn slow(x: u8) -> u8 {
        let start = Instant::now();
        while start.elapsed() < YIELD_AFTER / 4 {
            std::hint::spin_loop();
        }
        x
    }
    let registry = Registry::new().add(slow);
    let polls = || {
        let work = registry.work(&format!("*{}", name(slow)), args(&vec![(1_u8,); 1000]), vec![]);
        let Ok(Work::Async(mut work)) = work else { panic!("not async") };
        let mut polls = 1;
        let result = loop {
            match block_on(poll_once(&mut work)) {
                Some(result) => break result.unwrap(),
                None => polls += 1,
            }
        };
        assert!(is_partial(&result));
        assert!((1..1000).contains(&Items::open(&result).unwrap().len()));
        polls
    };
    // On a busy machine, all of the time may pass in one poll, but not again and again.
    assert!((0..50).any(|_| polls() > 2));
}

#[test]
fn functions_can_be_given_names() {
    let registry = Registry::new().add(inc).add(add).name(inc, "inc");
    assert!(registry.names().eq([name(add), "inc"]));
    assert_eq!(registry.name_of::<fn()>().unwrap_err().kind, ProblemKind::Unregistered);
    assert!(registry.contains(inc));
    // Adding the function again has no effect; renaming it again has.
    assert!(registry.clone().add(inc).names().eq([name(add), "inc"]));
    assert!(registry.name(inc, "more").names().eq([name(add), "more"]));
}

#[test]
#[should_panic(expected = "another function")]
fn two_functions_cannot_have_one_name() {
    let _ = Registry::new().add(inc).add(add).name(inc, "f").name(add, "f");
}

#[test]
#[should_panic(expected = "add it to the registry first")]
fn a_function_that_was_not_added_cannot_be_renamed() {
    let _ = Registry::new().name(inc, "f");
}

/// Passes one of two functions with the same path to `this`, and the other to `that`.
macro_rules! twins {
    ($this:expr, $that:expr) => {{
        let this = {
            async fn twin(x: u64) -> u64 {
                x + 1
            }
            $this(twin)
        };
        async fn twin(x: u64) -> u64 {
            x + 2
        }
        ($that)(this, twin)
    }};
}

#[test]
#[should_panic(expected = "another function is called `ensue::dask::registry::tests::")]
fn a_function_does_not_replace_another_of_the_same_path() {
    twins!(|one| Registry::new().add(one), |registry: Registry, two| drop(registry.add(two)));
}

#[test]
fn functions_of_the_same_path_are_distinguished() {
    let registry =
        twins!(|one| Registry::new().add(one).name(one, "one"), |registry: Registry, two| {
            assert!(!registry.contains(two));
            registry.add(two).name(two, "two")
        });
    for (name, sum) in [("one", 11_u64), ("two", 12)] {
        let result = run(registry.work(name, args(&(10,)), vec![]).unwrap()).unwrap();
        assert_eq!(read::<u64>(&result), Ok(sum));
    }
    // Neither is called in place of the other.
    twins!(|one| Registry::new().add(one), |registry: Registry, two| {
        assert!(!registry.contains(two));
        let problem = name_of(&registry, two).unwrap_err();
        assert_eq!(problem.kind, ProblemKind::Unregistered);
        assert!(problem.text.starts_with("another function is called"), "{problem}");
    });
}

#[test]
#[should_panic(expected = "add it to the registry first")]
fn a_function_of_the_same_path_that_was_not_added_cannot_be_renamed() {
    twins!(|one| Registry::new().add(one), |registry: Registry, two| drop(
        registry.name(two, "two")
    ));
}

fn name_of<F: 'static>(registry: &Registry, _: F) -> Result<Arc<str>, Problem> {
    registry.name_of::<F>()
}

#[test]
#[should_panic(expected = "takes items out of lists")]
fn a_function_cannot_have_the_reserved_name() {
    let _ = Registry::new().add(inc).name(inc, "=");
}

#[test]
fn the_registry_has_names_only_for_its_functions() {
    let registry = registry();
    assert!(registry.contains(inc) && !registry.contains(same::<u16>));
    assert_eq!(registry.names().count(), 8);
    assert_eq!(registry.clone().add(inc).names().count(), 8);
    assert_eq!(name_of(&registry, inc), Ok(name(inc).into()));
    let problem = name_of(&registry, same::<u16>).unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Unregistered);
    assert!(problem.text.contains(name(same::<u16>)), "{problem}");
    let x = 5;
    let problem = name_of(&registry, move || x).unwrap_err();
    assert!(problem.text.contains("{{closure}}") && problem.text.contains("captures"), "{problem}");
    assert!(format!("{registry:?}").contains("parse"));
}

#[test]
#[should_panic(expected = "write an `fn`")]
fn closures_are_refused() {
    let _ = Registry::new().add_blocking(|x: u64| x + 1);
}

#[test]
fn a_function_within_an_async_block_can_be_registered() {
    futures_lite::future::block_on(async {
        async fn inner(x: u64) -> u64 {
            x + 1
        }
        fn name<F: 'static>(registry: &Registry, _: F) -> Arc<str> {
            registry.name_of::<F>().unwrap_or_else(|problem| panic!("{}", problem.text))
        }
        let registry = Registry::new().add(inner);
        let name = name(&registry, inner);
        assert!(name.contains("{{closure}}::inner"), "{name}");
        assert!(registry.contains(inner));
    });
}
