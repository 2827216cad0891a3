//! Code that must not compile, and the compiler's messages about it.
//!
//! The texts are those of one compiler, so they are compared only with that; to renew them, run with
//! `TRYBUILD=overwrite`. The feature `dask` must be off: it has a second `Client`, and the compiler names both by their
//! whole paths then.

use std::process::Command;

/// The version of the compiler whose messages are in `compile_fail/*.stderr`.
const WRITTEN_BY: &str = "rustc 1.95.";

#[test]
fn what_must_not_compile() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    if !version.starts_with(WRITTEN_BY) {
        println!("the messages are of {WRITTEN_BY}x, this is {version}");
        return;
    }
    let cases = trybuild::TestCases::new();
    cases.pass("tests/compile_fail/pass/*.rs");
    cases.compile_fail("tests/compile_fail/*.rs");
}
