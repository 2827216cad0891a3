//! Errors and views name the line that submitted a task (promises 10 and 23).

use std::panic::Location;
use std::time::Duration;

use ensue::{Client, Engine, Error, ErrorKind, Handle, TaskOptions};
use futures::StreamExt;
use futures::executor::block_on;
use support::{bounded, run_what_is_ready};

async fn fails(_: u8) -> u8 {
    panic!("bad")
}

async fn returns(_: u8) -> Result<u8, String> {
    Err("bad".into())
}

/// Asserts that the task was submitted at this line, which is that of the caller by default.
#[track_caller]
fn is_from_here(handle: &Handle<u8>) {
    let error = handle.result().unwrap_err();
    is_at(&error, Location::caller());
}

#[track_caller]
fn is_at(error: &Error, here: &Location<'_>) {
    let at = error.submitted_at().expect("a task that a call submitted");
    assert_eq!((at.file(), at.line()), (here.file(), here.line()), "{error:?}");
    let text = format!("({}:{})", here.file(), here.line());
    assert!(format!("{error:#}").contains(&text), "{error:#}");
    assert!(format!("{error:?}").contains(&text), "{error:?}");
    assert!(!error.to_string().contains(&text), "{error}");
}

#[rustfmt::skip] // each call and its assertion are on one line
#[test]
fn every_verb_notes_the_line_of_its_call() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        is_from_here(&client.submit(fails, 1));
        is_from_here(&client.try_submit(returns, 1));
        is_from_here(&client.submit_blocking(|| -> u8 { panic!("bad") }, ()));
        is_from_here(&client.try_submit_blocking(|| Err::<u8, _>("bad"), ()));
        is_from_here(&client.submit_pure(fails, 1));
        is_from_here(&client.spawn(fails(1)));
        is_from_here(&client.try_spawn(returns(1)));
        is_from_here(&client.map(fails, [1])[0]);
        is_from_here(&client.try_map(returns, [1])[0]);
        is_from_here(&client.task().submit(fails, 1));
        is_from_here(&client.task().key("a").submit(fails, 1));
        is_from_here(&client.task().retries(1).submit(fails, 1));
        is_from_here(&client.task().acquire("no such").submit(fails, 1));
        is_from_here(&client.task().timeout(Duration::from_millis(1)).spawn(std::future::pending::<u8>()));
        is_from_here(&client.task().try_submit(returns, 1));
        is_from_here(&client.task().submit_blocking(|| -> u8 { panic!("bad") }, ()));
        is_from_here(&client.task().try_submit_blocking(|| Err::<u8, _>("bad"), ()));
        is_from_here(&client.task().name("b").submit_pure(fails, 1));
        is_from_here(&client.task().spawn(fails(1)));
        is_from_here(&client.task().try_spawn(returns(1)));
        is_from_here(&client.task().map(fails, [1])[0]);
        is_from_here(&client.task().key("c").try_map(returns, [1])[0]);
        is_from_here(&client.submit(async |_: [u8; 20_000]| fails(1).await, [1; 20_000]));
        // A value that was moved out, and a key that another type has.
        is_from_here(&{ let mut moved = client.ready(1u8); block_on(&mut moved).unwrap(); moved });
        let text = client.task().key("text").submit(async || "text", ());
        is_from_here(&client.get("text").unwrap());
        is_from_here(&client.task().key("text").submit(fails, 1));
        drop(text);
        // A cancelled task, and one of a closed client.
        is_from_here(&{ let never = client.spawn(std::future::pending()); never.cancel(); never });
        is_from_here(&{ let client = Client::builder().workers(0).build(); client.submit(fails, 1) });
    });
}

#[rustfmt::skip] // as above
#[test]
fn every_verb_of_the_engine_trait_notes_the_line_of_its_call() {
    fn check<E: Engine>(engine: &E) {
        is_from_here(&engine.submit(fails, 1));
        is_from_here(&engine.try_submit(returns, 1));
        is_from_here(&engine.map(fails, [1])[0]);
        is_from_here(&engine.try_map(returns, [1])[0]);
        is_from_here(&engine.submit_with(TaskOptions::new(), fails, 1));
        is_from_here(&engine.submit_with(TaskOptions::new().retries(1), fails, 1));
        is_from_here(&engine.try_submit_with(TaskOptions::new(), returns, 1));
    }
    bounded(|| check(&Client::builder().workers(1).build()));
}

#[test]
fn the_tasks_and_the_errors_of_a_stream_name_the_call_that_made_it() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let here = Location::caller().line() + 1;
        let results = client.map_stream(futures::stream::iter([1, 2]), 2, fails);
        for result in block_on(results.collect::<Vec<_>>()) {
            assert_eq!(result.unwrap_err().submitted_at().unwrap().line(), here);
        }
        let results = client.try_map_stream(futures::stream::iter([1, 2]), 0, returns);
        let error = block_on(results.collect::<Vec<_>>()).remove(0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert_eq!(error.submitted_at().unwrap().line(), here + 4);
    });
}

#[test]
fn options_that_are_used_again_have_a_line_for_each_call() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let options = client.task().priority(1);
        is_from_here(&options.clone().submit(fails, 1));
        is_from_here(&options.submit(fails, 1));
    });
}

#[test]
fn dependents_name_the_line_of_the_first_task() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let (first, here) = (client.submit(fails, 1), Location::caller());
        let next = client.submit(async |x: u8| x, &first);
        let awaits = client.try_submit(async move || next.clone().await, ());
        is_at(&awaits.result().unwrap_err(), here);
    });
}

#[track_caller]
fn submit_for_a_caller(client: &Client) -> Handle<u8> {
    client.submit(fails, 1)
}

#[test]
fn a_function_can_submit_for_its_caller() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        is_from_here(&submit_for_a_caller(&client));
    });
}

#[test]
fn explain_the_graph_and_the_timeline_name_the_line() {
    bounded(|| {
        let client = Client::builder().workers(0).observe().build();
        let (task, at) = (client.submit(fails, 1), Location::caller());
        let text = format!("{}:{}", at.file(), at.line());
        let explanation = client.explain(&task);
        assert_eq!(explanation.submitted_at.unwrap().line(), at.line());
        let start = format!("`{}` ({text}) is ready: ", task.key());
        assert!(explanation.to_string().starts_with(&start), "{explanation}");
        assert_eq!(serde_json::to_value(&explanation).unwrap()["submitted_at"], text);
        run_what_is_ready(&client);
        let graph = client.graph();
        assert_eq!(graph.tasks[0].submitted_at.unwrap().line(), at.line());
        assert_eq!(serde_json::to_value(&graph).unwrap()["tasks"][0]["submitted_at"], text);
        assert!(graph.to_dot().contains(&text) && graph.to_svg().contains(&text));
        let timeline = client.timeline(&task);
        assert_eq!(timeline.submitted_at.unwrap().line(), at.line());
        assert!(timeline.to_string().starts_with(&format!("{} ({text})\n", task.key())));
    });
}
