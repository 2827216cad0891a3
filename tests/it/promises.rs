//! `docs/promises.md` and the citations of promises in the tests agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The promises of the page, by number: the tests that it names for each, as `file::test`.
fn promises() -> BTreeMap<u32, Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/promises.md");
    let page = fs::read_to_string(page).expect("the page of promises");
    let mut promises = BTreeMap::new();
    for section in page.split("\n## Promise ").skip(1) {
        let (number, text) = section.split_once('\n').expect("a promise has a text");
        let number = number.parse().expect("a promise has a number");
        let tests = text.split('`').skip(1).step_by(2).filter(|code| code.contains("::"));
        let tests = tests.filter(|code| !code.starts_with(char::is_uppercase));
        let tests: Vec<_> = tests.map(str::to_owned).collect();
        assert!(promises.insert(number, tests).is_none(), "two promises have the number {number}");
    }
    promises
}

/// The Rust files below `tests`, by name without the extension.
fn test_files() -> BTreeMap<String, String> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder of tests") {
            let path = entry.expect("an entry of a folder").path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), &mut files);
    let mut texts = BTreeMap::<String, String>::new();
    for path in files {
        let name = path.file_stem().expect("a file name").to_string_lossy().into_owned();
        // Files of the same name in several folders count as one.
        texts.entry(name).or_default().push_str(&fs::read_to_string(path).expect("a Rust file"));
    }
    // This file has citations as examples.
    texts.remove("promises");
    texts
}

/// The numbers that the comments of a file cite: `promise 7`, `promises 5 and 6`, `promises 1 to 5, 11 to 13`.
fn citations(text: &str) -> BTreeSet<u32> {
    let mut cited = BTreeSet::new();
    let comments = text.lines().filter(|line| line.trim_start().starts_with("//"));
    let comments = comments.collect::<Vec<_>>().join(" ").to_lowercase();
    for after in comments.split("promise").skip(1) {
        let after = after.strip_prefix('s').unwrap_or(after);
        let mut range = false;
        let mut last = None;
        for word in after.split([' ', ',', ')', ':', '.']).filter(|word| !word.is_empty()) {
            match (word, word.parse::<u32>()) {
                (_, Ok(number)) => {
                    let first = if range { last.unwrap_or(number) } else { number };
                    cited.extend(first..=number);
                    (last, range) = (Some(number), false);
                }
                ("and", _) if last.is_some() => {}
                ("to", _) if last.is_some() => range = true,
                _ => break,
            }
        }
    }
    cited
}

#[test]
fn citations_are_read_in_all_forms() {
    let of = |text: &str| citations(text).into_iter().collect::<Vec<_>>();
    assert_eq!(of("//! Handles (promise 7)."), [7]);
    assert_eq!(of("//! Keys (promises 5 and 6)."), [5, 6]);
    assert_eq!(of("//! Graphs (promises 1 to 3, 11 to 12)."), [1, 2, 3, 11, 12]);
    assert_eq!(of("// Promise 10: a panic.\nlet promise = 3;"), [10]);
    assert!(of("// SAFETY: as the caller promises.").is_empty());
}

#[test]
fn each_promise_is_cited_and_each_citation_is_of_a_promise() {
    let promises: BTreeSet<u32> = promises().into_keys().collect();
    let mut cited = BTreeSet::new();
    for (name, text) in test_files() {
        let numbers = citations(&text);
        let unknown: Vec<_> = numbers.difference(&promises).collect();
        assert!(
            unknown.is_empty(),
            "{name} cites promises that docs/promises.md lacks: {unknown:?}"
        );
        cited.extend(numbers);
    }
    assert_eq!(cited, promises, "the promises that tests cite, and those of docs/promises.md");
}

#[test]
fn each_test_that_the_page_names_exists_and_its_file_cites_the_promise() {
    let files = test_files();
    for (number, tests) in promises() {
        assert!(!tests.is_empty(), "promise {number} names no test");
        for test in tests {
            let (file, function) = test.split_once("::").expect("`file::test`");
            let text = files.get(file).unwrap_or_else(|| panic!("`{test}`: there is no such file"));
            let is_test = text.contains(&format!("fn {function}()"));
            assert!(is_test, "`{test}` of promise {number}: there is no such test");
            assert!(citations(text).contains(&number), "{file} doesn't cite promise {number}");
        }
    }
}
