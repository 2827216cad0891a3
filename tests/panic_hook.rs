//! The places of panics and the panic hook, of which a process has one (promise 10). Each test runs in a process of its own.

use std::env;
use std::panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use ensue::{Client, Error};
use support::bounded;

const CHILD: &str = "ENSUE_TEST_CHILD";

/// Runs `test`, whose name this is, in a process with these settings of the environment.
fn alone(name: &str, settings: &[(&str, &str)], test: impl FnOnce() + Send + 'static) {
    if env::var(CHILD).is_ok_and(|child| child == name) {
        return bounded(test);
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", name]).env(CHILD, name).env_remove("RUST_LIB_BACKTRACE");
    let output = child.envs(settings.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn panics(client: &Client) -> Error {
    client.submit(async || -> u8 { panic!("no disk") }, ()).result().unwrap_err()
}

#[test]
fn the_applications_hook_is_called_too() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    alone("the_applications_hook_is_called_too", &[], || {
        panic::set_hook(Box::new(|_| _ = CALLS.fetch_add(1, Ordering::Relaxed)));
        for calls in 1..3 {
            let client = Client::builder().workers(1).build();
            let error = panics(&client);
            assert!(error.panicked_at().unwrap().starts_with("tests/panic_hook.rs:"), "{error}");
            assert!(error.to_string().ends_with(": no disk"), "{error}");
            assert_eq!(CALLS.load(Ordering::Relaxed), calls);
        }
        // Panics that belong to no client go to that hook only.
        let payload = catch_unwind(|| panic!("no disk")).unwrap_err();
        assert_eq!(CALLS.load(Ordering::Relaxed), 3);
        let client = Client::builder().seed(1).build();
        let resumed = AssertUnwindSafe(payload);
        let resumes = async move || -> u8 { resume_unwind(resumed.0) };
        let error = client.submit(resumes, ()).result().unwrap_err();
        assert!(error.is_panic() && error.panicked_at().is_none(), "{error}");
    });
}

#[test]
fn after_another_hook_was_set_a_panic_has_its_message_only() {
    alone("after_another_hook_was_set_a_panic_has_its_message_only", &[], || {
        let client = Client::builder().workers(1).build();
        assert!(panics(&client).panicked_at().is_some());
        panic::set_hook(Box::new(|_| ()));
        let key = client.task().key("x").submit(async || -> u8 { panic!("no disk") }, ());
        let error = key.result().unwrap_err();
        assert_eq!(
            (error.panicked_at(), &*error.to_string()),
            (None, "task `x` panicked: no disk")
        );
        // It's put in place once.
        let _ = panic::take_hook();
        let client = Client::builder().workers(1).build();
        assert!(panics(&client).panicked_at().is_none());
    });
}

#[test]
fn a_client_that_is_built_while_its_thread_panics() {
    struct BuildsOne;
    impl Drop for BuildsOne {
        fn drop(&mut self) {
            drop(Client::builder().seed(1).build());
        }
    }
    alone("a_client_that_is_built_while_its_thread_panics", &[], || {
        let caught = catch_unwind(|| {
            let _builds = BuildsOne;
            panic!("the first");
        });
        assert!(caught.is_err());
        let client = Client::builder().workers(1).build();
        assert!(panics(&client).panicked_at().is_some());
    });
}

fn backtraces(name: &str, setting: &str, is_expected: bool) {
    alone(name, &[("RUST_BACKTRACE", setting)], move || {
        let client = Client::builder().workers(1).build();
        let error = panics(&client);
        assert_eq!(error.backtrace().is_some(), is_expected);
        let text = format!("{error:?}");
        assert_eq!(text.contains("panic_hook::panics"), is_expected, "{text}");
        assert!(!format!("{error} {error:#}").contains('\n'));
    });
}

#[test]
fn a_panic_has_a_backtrace_if_the_environment_says_so() {
    backtraces("a_panic_has_a_backtrace_if_the_environment_says_so", "1", true);
}

#[test]
fn a_panic_has_no_backtrace_unless_the_environment_says_so() {
    backtraces("a_panic_has_no_backtrace_unless_the_environment_says_so", "0", false);
}
