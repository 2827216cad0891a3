//! Results beside handles, from elsewhere.

use futures_core::FusedStream;

use super::*;

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
    let fetched = || all.iter().map(|(far, _)| far.fetched()).sum::<usize>();
    let mut results = as_completed(all.iter().map(|(_, handle)| handle)).with_results();
    for taken in 1..=COUNT {
        block_on(results.next()).unwrap().1.unwrap();
        assert!(fetched() < taken + 100, "{} of {taken}", fetched());
        assert_eq!(results.len(), COUNT - taken);
    }
    assert!(block_on(results.next()).is_none() && results.is_terminated());
    assert_eq!(fetched(), COUNT);
}

#[test]
fn what_is_slow_to_be_brought_holds_up_nothing() {
    let client = client();
    let slow: Vec<_> = (0..30).map(|_| far(&client, &[])).collect();
    let quick: Vec<_> = (0..200).map(|_| far(&client, &[])).collect();
    slow.iter().for_each(|(far, _)| far.set_slow(true));
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
        far.set_slow(true);
        far.end(Ok(()));
        results.add(handle);
    }
    assert!(block_on(poll_once(results.next())).is_none());
    let here = client.submit(async || "here".to_owned(), ());
    results.add(&here);
    assert_eq!(block_on(results.next()).unwrap().0, here);
    assert_eq!(results.len(), 130);
}
