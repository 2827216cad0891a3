//! The command line of a worker.

use lexopt::Parser;

use super::{WorkerOptions, bytes, read};

fn read_words(text: &str) -> Result<Option<WorkerOptions>, String> {
    read(Parser::from_args(text.split_whitespace())).map_err(|error| error.to_string())
}

#[test]
fn all_options_are_parsed() {
    let options = read_words(
        "--threads 3 tcp://host:1 --memory-limit=4GB --name w --resource gpu=1 --resource io=0.5 \
         --tls-ca a --tls-cert b --tls-key c --listen 0.0.0.0:7 --announce me --local-directory /tmp",
    );
    let some = |text: &str| Some(text.to_owned());
    let expected = WorkerOptions {
        scheduler: "tcp://host:1".into(),
        threads: Some(3),
        memory_limit: Some(4_000_000_000),
        name: some("w"),
        resources: vec![("gpu".into(), 1.0), ("io".into(), 0.5)],
        tls: [some("a"), some("b"), some("c")],
        listen: some("0.0.0.0:7"),
        announce: some("me"),
        local_directory: some("/tmp"),
    };
    assert_eq!(options, Ok(Some(expected)));
}

#[test]
fn sizes() {
    let sizes = ["1", "1B", "2kB", "2 KiB", "1.5MiB", "1e9", "1GiB", "0.5TB"].map(bytes);
    let expected = [1, 1, 2000, 2048, 1_572_864, 1_000_000_000, 1 << 30, 500_000_000_000];
    assert_eq!(sizes, expected.map(Ok));
    for wrong in ["", "GB", "4XB", "-1", "0", "nan", "inf", "1e30TB"] {
        assert!(bytes(wrong).unwrap_err().contains(&format!("`{wrong}`")));
    }
}

#[test]
fn errors_name_the_invalid_argument() {
    for (words, text) in [
        ("", "address of a scheduler is missing"),
        ("tcp://a:1 tcp://b:1", "unexpected second address `tcp://b:1`"),
        ("tcp://a:1 --threads", "--threads needs a value"),
        ("tcp://a:1 --threads 0", "not `0`"),
        ("tcp://a:1 --resource gpu", "not `gpu`"),
        ("tcp://a:1 --resource gpu=-1", "not `gpu=-1`"),
        ("tcp://a:1 --treads 2", "unknown option `--treads`"),
    ] {
        let error = read_words(words).unwrap_err();
        assert!(error.contains(text), "{words}: {error}");
    }
    assert_eq!(read_words("tcp://a:1 --help"), Ok(None));
}
