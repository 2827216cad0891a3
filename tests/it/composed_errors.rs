//! Errors that tasks pass on, errors that print each message once, the places of panics, and cancellations with a reason
//! (promises 10, 11 and 14).

use std::backtrace::BacktraceStatus;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::num::ParseIntError;
use std::panic::{catch_unwind, panic_any, resume_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use ensue::{Client, Error, ErrorKind, Handle, Reason, Retry, Status};
use futures::executor::block_on;
use smol::future::yield_now;
use support::hold::Gate;
use support::observe::Count;
use support::{bounded, client_of, eventually, run_until_idle, run_what_is_ready};

type Boxed = Box<dyn StdError + Send + Sync>;

/// An error of an application, as `thiserror` would derive it.
#[derive(Debug)]
enum Shop {
    /// `#[error("no price")]`, with `#[source]` or `#[from]`.
    NoPrice(Error),
    /// `#[error(transparent)]`.
    Other(Boxed),
    /// `#[error("said: {0}")]`, without a source.
    Said(String),
}

impl fmt::Display for Shop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPrice(_) => f.write_str("no price"),
            Self::Other(error) => error.fmt(f),
            Self::Said(text) => write!(f, "said: {text}"),
        }
    }
}

impl StdError for Shop {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::NoPrice(error) => Some(error),
            Self::Other(error) => error.source(),
            Self::Said(_) => None,
        }
    }
}

impl From<Error> for Shop {
    fn from(error: Error) -> Self {
        Self::NoPrice(error)
    }
}

/// A text without the lines that submitted tasks.
fn without_lines(text: &str) -> String {
    let mut parts = text.split(concat!(" (", file!(), ":"));
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once(')').expect("the end of a line's number").1);
    }
    text
}

fn parse_fails(client: &Client) -> Handle<u8> {
    client.task().key("parse").try_submit(async || "x".parse::<u8>(), ())
}

/// The error of a task that awaits `inner`, and returns what `wrap` makes of its error.
fn outer<E, M>(
    client: &Client,
    inner: &Handle<u8>,
    wrap: impl Fn(Error) -> E + Clone + Send + 'static,
) -> Error
where
    E: ensue::IntoFailure<M>,
    M: 'static,
{
    let inner = inner.clone();
    let passes = async move || inner.clone().await.map_err(wrap.clone());
    let outer = client.task().key("outer").try_submit(passes, ());
    let dependent = client.submit(async |x: u8| x, &outer);
    run_until_idle(client);
    assert_eq!(outer.status(), Status::Failed);
    let error = outer.result().unwrap_err();
    assert_eq!(format!("{:?}", dependent.result().unwrap_err()), format!("{error:?}"));
    error
}

#[test]
fn an_error_that_a_function_returns_is_the_first_tasks() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let inner = parse_fails(&client);
        let errors = [
            outer(&client, &inner, |error| error),
            outer(&client, &inner, |error| -> Boxed { error.into() }),
            outer(&client, &inner, anyhow::Error::from),
        ];
        for error in errors {
            assert_eq!((error.kind(), error.origin().as_str()), (ErrorKind::Failed, "parse"));
            assert!(error.downcast_ref::<ParseIntError>().is_some());
            assert_eq!(error.to_string(), inner.error().unwrap().to_string());
        }
    });
}

#[test]
fn an_error_that_another_tasks_error_has_caused_keeps_kind_and_origin() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let inner = parse_fails(&client);
        let first = "task `parse` failed: invalid digit found in string";
        let transparent = |error: Error| Shop::Other(Box::new(error));
        let errors = [
            (outer(&client, &inner, Shop::from), "no price", true),
            (outer(&client, &inner, |e| Shop::Other(Box::new(Shop::from(e)))), "no price", true),
            (outer(&client, &inner, transparent), first, false),
            (outer(&client, &inner, move |e| Shop::Other(transparent(e).into())), first, false),
            (outer(&client, &inner, io::Error::other), first, false),
            (outer(&client, &inner, Box::new), first, false),
            (
                outer(&client, &inner, |e| anyhow::Error::from(e).context("no price")),
                "no price",
                true,
            ),
            (
                outer(&client, &inner, |e| anyhow::Error::from(Shop::from(e)).context("shut")),
                "shut: no price",
                true,
            ),
        ];
        for (error, own, is_followed) in errors {
            assert_eq!((error.kind(), error.origin().as_str()), (ErrorKind::Failed, "parse"));
            assert!(error.find_cause::<ParseIntError>().is_some(), "{error:#}");
            let more = if is_followed { format!(": {first}") } else { String::new() };
            let all = without_lines(&format!("{error:#}"));
            assert_eq!(all, format!("task `outer` failed: {own}{more}"));
        }
        // What keeps only the text of another task's error is the first error.
        let error = outer(&client, &inner, |error| Shop::Said(error.to_string()));
        assert_eq!((error.kind(), error.origin().as_str()), (ErrorKind::Failed, "outer"));
        let error = outer(&client, &inner, |error| error.to_string());
        assert_eq!(error.origin(), "outer");
    });
}

#[test]
fn every_kind_is_passed_on_by_functions_too() {
    bounded(|| {
        let client = Client::builder().workers(0).limit("db", 1).build();
        let never = || client.spawn(std::future::pending::<u8>());
        let cancelled = never();
        cancelled.cancel_with("enough");
        let panicked = client.submit(async || -> u8 { panic!("bad") }, ());
        let limit = client.task().acquire_many("db", 2).submit(async || 1, ());
        let other = client.task().key("k").submit(async || "text", ());
        let conflict = client.task().key("k").submit(async || 1, ());
        let mut moved = client.ready(1);
        block_on(&mut moved).unwrap();
        let of_closed = {
            let client = Client::builder().workers(0).build();
            client.submit(async || 1, ())
        };
        run_until_idle(&client);
        for (inner, kind) in [
            (&cancelled, ErrorKind::Cancelled),
            (&panicked, ErrorKind::Panicked),
            (&limit, ErrorKind::Limit),
            (&conflict, ErrorKind::KeyConflict),
            (&moved, ErrorKind::Lost),
            (&of_closed, ErrorKind::Closed),
        ] {
            for error in [outer(&client, inner, |e| e), outer(&client, inner, Shop::from)] {
                assert_eq!((error.kind(), error.origin()), (kind, &inner.key()), "{error:?}");
                assert_eq!(error.is_cancelled(), kind == ErrorKind::Cancelled);
                assert_eq!(error.is_panic(), kind == ErrorKind::Panicked);
                assert_eq!(error.reason(), error.is_cancelled().then_some("enough"));
            }
        }
        drop(other);
    });
}

#[test]
fn a_retry_of_timeouts_sees_those_of_awaited_tasks() {
    bounded(|| {
        let client = Client::builder().seed(1).build();
        let attempts = Count::new();
        for is_wrapped in [false, true] {
            let (count, inner) = (attempts.clone(), client.clone());
            let slow = async move || {
                count.add();
                let options = inner.task().timeout(Duration::from_secs(1));
                let result = options.spawn(std::future::pending::<u8>()).await;
                if is_wrapped { Ok(result.context("slow")?) } else { Ok(result?) }
            };
            let retry = Retry::new(2).when(Error::is_timeout);
            let slow = client
                .task()
                .retries(retry)
                .try_submit::<_, _, _, _>(async move || -> anyhow::Result<u8> { slow().await }, ());
            assert!(slow.result().unwrap_err().is_timeout());
        }
        assert_eq!(attempts.get(), 6);
    });
}

#[test]
fn a_task_that_passes_a_cancellation_on_has_failed_and_can_run_again() {
    bounded(|| {
        let reported: Arc<Mutex<Vec<String>>> = Arc::default();
        let hook = reported.clone();
        let hook = move |error: &Error| hook.lock().unwrap().push(error.to_string());
        let client = Client::builder().workers(0).on_unobserved(hook).build();
        for is_wrapped in [false, true] {
            let gate = Gate::new();
            let (inner, passes) = (client.clone(), gate.pass());
            let passes = Arc::new(Mutex::new(Some(passes)));
            let function = async move || -> Result<u8, Boxed> {
                let inner = match passes.lock().unwrap().take() {
                    Some(passes) => {
                        let inner = inner.spawn(async move {
                            passes.await;
                            1
                        });
                        inner.cancel();
                        inner
                    }
                    None => inner.ready(2),
                };
                if is_wrapped { Ok(inner.await.map_err(Shop::from)?) } else { Ok(inner.await?) }
            };
            let passed_on = client.try_submit(function.clone(), ());
            let dependent = client.submit(async |x: u8| x + 1, &passed_on);
            run_until_idle(&client);
            assert!(passed_on.error().unwrap().is_cancelled());
            assert_eq!((passed_on.status(), dependent.status()), (Status::Failed, Status::Failed));
            assert!(dependent.retry());
            run_until_idle(&client);
            assert_eq!(dependent.result().unwrap(), 3);
        }
        // Nobody cancelled this one, so its error is reported.
        let inner = client.clone();
        let passed_on = async move || {
            let never = inner.spawn(std::future::pending::<u8>());
            never.cancel_with("why not");
            never.await
        };
        client.try_submit(passed_on, ()).detach();
        run_until_idle(&client);
        assert_eq!(reported.lock().unwrap().len(), 1);
        assert!(reported.lock().unwrap()[0].ends_with("was cancelled: why not"), "{reported:?}");
    });
}

#[test]
fn a_callbacks_error_of_an_abandoned_task_can_be_passed_on() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let (sender, receiver) = std::sync::mpsc::channel();
        let abandoned = client.spawn(std::future::pending::<u8>());
        abandoned.on_done(move |task| sender.send(task.error().unwrap()).unwrap());
        drop(abandoned);
        let error = receiver.recv().unwrap();
        let text = error.to_string();
        let passed_on = client.try_submit(async move || Err::<u8, _>(error.clone()), ());
        run_until_idle(&client);
        let error = passed_on.result().unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!((passed_on.status(), error.to_string()), (Status::Failed, text));
    });
}

#[test]
fn a_long_chain_of_tasks_that_pass_an_error_on() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let mut last = parse_fails(&client);
        for _ in 0..10_000 {
            last = client.try_submit(async move || last.clone().await, ());
        }
        let error = last.result().unwrap_err();
        assert_eq!((error.kind(), error.origin().as_str()), (ErrorKind::Failed, "parse"));
    });
}

// Printing.

/// An error with a source, whose message doesn't contain it.
#[derive(Debug)]
struct Page(u32, Option<ParseIntError>);

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {}", self.0)
    }
}

impl StdError for Page {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.1.as_ref().map(|error| error as _)
    }
}

#[test]
fn each_message_is_printed_once() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let page = || Err::<u8, _>(Page(3, "x".parse::<u8>().err()));
        let page = client.task().key("page").try_submit(async move || page(), ());
        let error = page.result().unwrap_err();
        let all = "task `page` failed: page 3: invalid digit found in string";
        assert_eq!(error.to_string(), "task `page` failed: page 3");
        assert_eq!(without_lines(&format!("{error:#}")), all);
        assert_eq!(without_lines(&format!("{error:?}")), format!("{all} [Failed]"));
        assert!(format!("{error:#?}").contains("origin: \"page\""), "{error:#?}");
        let chained = anyhow::Error::from(error).context("no answer");
        assert_eq!(format!("{chained:#}"), format!("no answer: {all}"));

        let awaits = page.clone();
        let outer = async move || awaits.clone().await.context("no price");
        let outer = client.task().key("outer").try_submit(outer, ());
        let error = outer.result().unwrap_err();
        let all = format!("task `outer` failed: no price: {all}");
        assert_eq!(error.to_string(), "task `outer` failed: no price");
        assert_eq!(without_lines(&format!("{error:#}")), all);
        assert_eq!(without_lines(&format!("{error:?}")), format!("{all} [Failed of `page`]"));
        assert_eq!(format!("{:#}", anyhow::Error::from(error)), all);

        // Text has no cause, and a panic says everything itself.
        let text = client.task().key("text").try_submit(async || Err::<u8, _>("no"), ());
        let error = text.result().unwrap_err();
        let texts = [format!("{error}"), without_lines(&format!("{error:#}"))];
        assert_eq!(texts, ["task `text` failed: no", "task `text` failed: no"]);
        assert!(error.source().is_none());
    });
}

#[test]
fn the_causes_of_an_error_are_in_explain_and_in_the_timeline() {
    bounded(|| {
        let client = Client::builder().workers(1).observe().build();
        let page = || Err::<u8, _>(Page(3, "x".parse::<u8>().err()));
        let page = client.try_submit(async move || page(), ());
        block_on(client.idle());
        let text = "page 3: invalid digit";
        assert!(client.explain(&page).to_string().contains(text));
        assert!(client.timeline(&page).error.unwrap().contains(text));
    });
}

#[test]
fn a_chain_that_is_endless_or_panics_does_no_harm() {
    #[derive(Debug)]
    struct Endless(bool);
    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("endless")
        }
    }
    impl StdError for Endless {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            assert!(!self.0, "a source's panic");
            Some(self)
        }
    }
    bounded(|| {
        let client = Client::builder().workers(1).build();
        for panics in [false, true] {
            let bad = client.try_submit(async move || Err::<u8, _>(Endless(panics)), ());
            let error = bad.result().unwrap_err();
            assert!(format!("{error:#}").contains("failed: endless"), "{error:#}");
            assert_eq!(error.find_cause::<Endless>().map(|it| it.0), Some(panics));
        }
        assert_eq!(client.workers(), 1);
    });
}

// The places of panics.

#[test]
fn a_panic_keeps_its_place() {
    bounded(|| {
        let reported: Arc<Mutex<Vec<Error>>> = Arc::default();
        let hook = reported.clone();
        let hook = move |error: &Error| hook.lock().unwrap().push(error.clone());
        let client = Client::builder().workers(1).limit("db", 1).on_unobserved(hook).build();
        let function = async || -> u8 { panic!("bad") };
        let plain = client.submit(function, ());
        let later = client.spawn(async {
            yield_now().await;
            Vec::<u8>::new()[3]
        });
        let blocking = client.submit_blocking(|| -> u8 { panic!("bad") }, ());
        let limited = client.task().acquire("db").retries(1).submit(function, ());
        let eager = client.submit(|| -> std::future::Ready<u8> { panic!("bad") }, ());
        let retry = Retry::new(1).when(|_| panic!("bad"));
        let predicate = client.task().retries(retry).try_submit(async || Err::<u8, _>("no"), ());
        let dependent = client.submit(async |x: u8| x, &plain);
        for handle in [&plain, &later, &blocking, &limited, &eager, &predicate, &dependent] {
            let error = handle.result().unwrap_err();
            let place = error.panicked_at().unwrap();
            assert!(place.starts_with(concat!(file!(), ":")), "{place}");
            assert!(error.to_string().contains(&format!("panicked at {place}: ")), "{error}");
        }
        client.ready(1).on_done(|_| panic!("a callback's"));
        client.submit(async || 1u8, ()).on_done(|_| panic!("a callback's"));
        let seeded = Client::builder().seed(1).build();
        let blocking = seeded.submit_blocking(|| -> u8 { panic!("bad") }, ());
        assert!(blocking.result().unwrap_err().panicked_at().is_some());
        assert!(plain.error().unwrap().backtrace().is_none() || env_asks_for_backtraces());
    });
}

fn env_asks_for_backtraces() -> bool {
    std::backtrace::Backtrace::capture().status() == BacktraceStatus::Captured
}

#[test]
fn a_panic_that_a_task_has_caught_isnt_the_place_of_another_one() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let catches = |text: &'static str| {
            let caught = catch_unwind(|| panic!("first")).unwrap_err();
            if text.is_empty() { resume_unwind(caught) } else { resume_unwind(Box::new(text)) }
        };
        let again = client.submit(async move || -> u8 { catches("") }, ());
        assert!(again.result().unwrap_err().panicked_at().is_some());
        let other = client.submit(async move || -> u8 { catches("second") }, ());
        let error = other.result().unwrap_err();
        assert_eq!(error.to_string(), format!("task `{}` panicked: second", other.key()));
        // Nor if it's one of another type.
        let other = client.submit(
            async || -> u8 {
                let _ = catch_unwind(|| panic_any(1u8));
                resume_unwind(Box::new(1u16))
            },
            (),
        );
        assert!(other.result().unwrap_err().panicked_at().is_none());
    });
}

// Reasons of cancellations.

#[test]
fn a_reason_is_in_the_errors_of_the_task_and_its_dependents() {
    bounded(|| {
        let client = Client::builder().workers(0).observe().build();
        let page = client.task().key("page").spawn(std::future::pending::<u8>());
        let words = client.submit(async |x: u8| x, &page);
        let lines = client.submit_blocking(|x: u8| x, &words);
        let awaits = page.clone();
        let awaits = client.submit(async move || awaits.await.unwrap_err(), ());
        let plain = client.spawn(std::future::pending::<u8>());
        run_what_is_ready(&client);
        assert!(page.cancel_with(String::from("the user has closed it")));
        assert!(!page.cancel_with("again") && !page.cancel());
        assert!(plain.cancel_with(""));
        run_until_idle(&client);
        let late = client.submit(async |x: u8| x, &page);
        let errors = [&page, &words, &lines, &late].map(|handle| handle.error().unwrap());
        for error in errors.into_iter().chain([awaits.result().unwrap()]) {
            assert!(error.is_cancelled());
            assert_eq!(error.reason(), Some("the user has closed it"));
            assert_eq!(error.origin(), "page");
            assert_eq!(error.to_string(), "task `page` was cancelled: the user has closed it");
        }
        assert_eq!(plain.error().unwrap().reason(), None);
        let text = format!("task `{}` was cancelled", plain.key());
        assert_eq!(plain.error().unwrap().to_string(), text);

        let reason = || Some("the user has closed it".to_owned());
        let why = &client.explain(&page).reasons[0];
        assert_eq!(*why, Reason::Cancelled { origin: None, reason: reason() });
        assert_eq!(why.to_string(), "by its handle: the user has closed it");
        let why = &client.explain(&words).reasons[0];
        assert_eq!(*why, Reason::Cancelled { origin: Some("page".into()), reason: reason() });
        assert_eq!(why.to_string(), "because of `page`: the user has closed it");
        assert_eq!(client.timeline(&words).error, reason());
        assert_eq!(client.timeline(&plain).error, None);
    });
}

#[test]
fn a_reason_has_no_effect_on_a_task_that_has_ended() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let done = client.submit(async || 1, ());
        let bad = client.submit(async || -> u8 { panic!("bad") }, ());
        block_on(client.idle());
        assert!(!done.cancel_with("late") && !bad.cancel_with("late"));
        assert_eq!(done.result().unwrap(), 1);
        assert!(bad.error().unwrap().is_panic() && bad.error().unwrap().reason().is_none());
        let open = client.spawn(std::future::pending::<u8>());
        drop(client);
        assert!(!open.cancel_with("late"));
        assert_eq!(open.result().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn the_first_of_many_reasons_counts_on_every_thread() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        for _ in 0..100 {
            let task = client.spawn(std::future::pending::<u8>());
            let won = Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                for thread in 0..3 {
                    let (task, won) = (&task, &won);
                    scope.spawn(move || {
                        if task.cancel_with(thread.to_string()) {
                            won.lock().unwrap().push(thread.to_string());
                        }
                    });
                }
            });
            let won = won.into_inner().unwrap();
            assert_eq!(won.len(), 1);
            assert_eq!(task.result().unwrap_err().reason(), Some(&*won[0]));
        }
        eventually("everything is freed", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_task_in_a_poll_that_is_cancelled_says_why_it_will_end() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let waits = gate.clone();
        let busy = client.submit_blocking(move || block_on(waits.pass()), ());
        eventually("it runs", || busy.status() == Status::Running);
        assert!(busy.cancel_with("enough"));
        let error = busy.result().unwrap_err();
        assert_eq!(error.reason(), Some("enough"));
        gate.open();
    });
}

#[test]
fn a_chain_of_errors_of_any_length_is_dropped_without_recursion() {
    fn nested(client: Client, levels: u32) -> Handle<()> {
        client.clone().try_spawn(async move {
            if levels == 0 {
                anyhow::bail!("the root");
            }
            let below = nested(client, levels - 1);
            below.await.with_context(|| format!("level {levels}"))
        })
    }

    bounded(|| {
        let client = client_of(1);
        let task = nested(client.clone(), 20_000);
        assert_eq!(task.result().unwrap_err().kind(), ErrorKind::Failed);
        client.submit(async move || drop(task), ()).result().unwrap();
    });
}
