//! What the corpora reach: each operation that is easily missed, and each way in which it ends.

use std::fs;
use std::path::Path;

use ensue_tests_support as support;

type Target = fn(&[u8]);

#[test]
fn the_corpora_reach_every_situation() {
    ensue_fuzz::count_coverage();
    let targets: [(&str, Target); 3] = [
        ("several", ensue_fuzz::several),
        ("unseeded", ensue_fuzz::unseeded),
        ("threads", ensue_fuzz::threads),
    ];
    support::bounded(move || {
        for (name, target) in targets {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
            for file in fs::read_dir(folder).unwrap() {
                target(&fs::read(file.unwrap().path()).unwrap());
            }
        }
    });
    let mut expected = Vec::new();
    let mut of = |name: &str, ends: &[&str]| {
        expected.extend(ends.iter().map(|end| format!("{name}{end}")));
    };
    for how in ["Join", "Select", "Unordered"] {
        of(how, &[": pending", ": ready", ": dropped"]);
        of("threads ", &[&format!("{how}: ready")]);
        of("threads forgot ", &[how]);
    }
    for part in ["yield", "handle", "ref", "gather", "settled", "any", "all", "stream", "idle"] {
        of(&format!("part {part}"), &[": pending", ": ready"]);
    }
    of(
        "part ",
        &["sleep: pending", "sleep: ready", "close: pending", "close: ready", "hang: pending"],
    );
    of("", &["idle: pending", "idle: ready", "close: pending", "close: ready"]);
    let forgotten = ["handle", "ref", "gather", "settled", "any", "all"];
    for await_of in forgotten {
        of("forgot ", &[&format!("{await_of} outside")]);
    }
    of("forgot ", &["a handle", "handle in a task", "idle in a task", "several in a task"]);
    of("has forgotten: ", &["runs", "Value", "Failed", "Panicked", "Cancelled", "Closed"]);
    of("result ", &["refused, ended: true", "refused, ended: false", "in blocking work"]);
    of("retry in a hook: ", &["true", "false"]);
    of("hook ", &["Submit", "Cancel", "Retry", "Drop", "DropClient", "Clone", "Detach", "OnDone"]);
    of("hook ", &["Forget", "Look", "Find", "Inspect", "StreamClear", "StreamDrop"]);
    of("a submission in a hook ", &["joined", "made a second task"]);
    of("a submission in a hook ", &["joined what is about to end"]);
    of("threads ", &["Idle", "Close", "Drop"]);
    of("threads own ", &["0 hosted 1", "0 hosted 2", "1 hosted 0", "1 hosted 1", "3 hosted 0"]);
    of("threads gave ", &["Value", "Failed", "Panicked", "Cancelled", "Closed"]);
    for op in ["Submit", "Drop", "Clone", "Cancel", "Retry", "Detach", "OnDone", "Explain", "Scale"]
    {
        of("threads ", &[&format!("{op} inside"), &format!("{op} outside")]);
    }
    of("threads ", &["Idle outside", "Result outside"]);
    let reached = ensue_fuzz::coverage();
    let missed: Vec<_> = expected.iter().filter(|name| !reached.contains_key(*name)).collect();
    assert!(missed.is_empty(), "the corpora don't reach {missed:?}, but {reached:#?}");
}
