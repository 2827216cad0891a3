//! Tests of streams that yield the values of remote tasks.

use futures_core::FusedStream;

use super::*;

#[test]
fn a_stream_with_results_fetches_them() {
    let client = client();
    let (one, first) = remote_task(&client, &[]);
    let (two, second) = remote_task(&client, &[]);
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

/// The stream fetches ahead of its consumer, but not without limit.
#[test]
fn few_results_are_fetched_before_they_are_taken() {
    const COUNT: usize = 300;
    let client = client();
    let all: Vec<_> = (0..COUNT).map(|_| remote_task(&client, &[])).collect();
    all.iter().for_each(|(remote, _)| remote.end(Ok(())));
    until(|| all.iter().all(|(_, handle)| handle.is_finished()));
    let fetched = || all.iter().map(|(remote, _)| remote.fetched()).sum::<usize>();
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
fn slow_fetches_delay_no_other_results() {
    let client = client();
    let slow: Vec<_> = (0..30).map(|_| remote_task(&client, &[])).collect();
    let quick: Vec<_> = (0..200).map(|_| remote_task(&client, &[])).collect();
    slow.iter().for_each(|(remote, _)| remote.set_slow(true));
    slow.iter().chain(&quick).for_each(|(remote, _)| remote.end(Ok(())));
    until(|| slow.iter().chain(&quick).all(|(_, handle)| handle.is_finished()));
    let handles = slow.iter().chain(&quick).map(|(_, handle)| handle);
    let mut results = as_completed(handles).with_results();
    for _ in &quick {
        let (handle, _) = block_on(results.next()).unwrap();
        assert!(quick.iter().any(|(_, quick)| *quick == handle));
    }
    // Further slow ones take up all concurrent fetches; a value in this process needs none.
    let more: Vec<_> = (0..100).map(|_| remote_task(&client, &[])).collect();
    for (remote, handle) in &more {
        remote.set_slow(true);
        remote.end(Ok(()));
        results.add(handle);
    }
    assert!(block_on(poll_once(results.next())).is_none());
    let local = client.submit(async || "local".to_owned(), ());
    results.add(&local);
    assert_eq!(block_on(results.next()).unwrap().0, local);
    assert_eq!(results.len(), 130);
}
