//! The length and the snippets of the README, and the number of dependencies. A documentation test at the end of
//! `src/lib.rs` compiles and runs the snippets.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../../README.md");

#[test]
fn the_readme_is_short_and_starts_with_a_snippet() {
    assert!(README.lines().count() <= 120);
    let first = README.lines().position(|line| line == "```rust").expect("a snippet");
    assert!(first < 30);
}

#[test]
fn every_code_block_of_the_readme_says_what_it_is() {
    let fences: Vec<_> = README.lines().filter(|line| line.starts_with("```")).collect();
    for (at, fence) in fences.iter().enumerate() {
        // Only blocks marked as `rust` are compiled.
        let kinds: &[&str] = if at % 2 == 0 { &["```rust", "```sh", "```toml"] } else { &["```"] };
        assert!(kinds.contains(fence), "{fence}");
    }
}

#[test]
fn every_example_is_named_in_the_readme() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    for entry in std::fs::read_dir(examples).expect("the examples") {
        let entry = entry.expect("an example");
        let name = entry.file_name();
        if ["Cargo.toml", "src", "tests"].iter().any(|part| name == *part) {
            continue;
        }
        let name = name.to_string_lossy();
        assert!(README.contains(&*name), "{name}");
    }
}

#[test]
fn the_msrv_of_the_readme_is_that_of_the_manifest() {
    let version = env!("CARGO_PKG_RUST_VERSION");
    assert!(README.contains(&format!("Rust {version}")));
}

#[test]
fn at_most_25_crates_in_the_default_tree() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "ensue", "--edges", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("text");
    // A line is a name, a version, and maybe more.
    let crates: BTreeSet<Vec<_>> =
        tree.lines().map(|line| line.split(' ').take(2).collect()).collect();
    assert!(crates.iter().any(|named| named[0] == "ensue"));
    assert!(crates.len() <= 25, "{crates:?}");
}

#[test]
fn relative_links_of_all_documents_lead_to_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "RELEASING.md",
        "docs/dask.md",
        "docs/promises.md",
        "src/engine/README.md",
        "tests/README.md",
        "loom/README.md",
        "shuttle/README.md",
        "fuzz/README.md",
        "dask-proto/README.md",
    ];
    for document in documents {
        let text = fs::read_to_string(root.join(document)).expect(document);
        let folder = root.join(document).parent().unwrap().to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let is_file = !target.is_empty() && !target.contains("://");
            assert!(!is_file || folder.join(target).exists(), "{document} links to {target}");
        }
    }
}
