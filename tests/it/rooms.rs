//! The rooms of `src`: at every level of the tree, folders import each other in one direction only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module path below the crate: `["engine", "task", "header"]`.
type ModulePath = Vec<String>;

struct File {
    module: ModulePath,
    /// The module paths that it names, resolved as far as there are files.
    imports: BTreeSet<ModulePath>,
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") && !path.ends_with("assets") {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

fn module_of(root: &Path, file: &Path) -> ModulePath {
    let below = file.strip_prefix(root).unwrap().with_extension("");
    let parts = below.iter().map(|part| part.to_str().unwrap().to_owned());
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

/// The code of a file, without comments, strings that span lines, and unit tests.
fn code_of(text: &str) -> String {
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    let code = code.split("\n#[cfg(all(test").next().unwrap();
    let lines = code.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// All paths that begin with `crate::` or `super::`, with nested groups written out.
fn paths_in(code: &str) -> Vec<Vec<String>> {
    let tokens = tokens(code);
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins = tokens[at] == "crate" || tokens[at] == "super";
        let is_path = tokens.get(at + 1).is_some_and(|token| token == "::");
        if begins && is_path && (at == 0 || tokens[at - 1] != "::") {
            at = expand(&tokens, at, &mut Vec::new(), &mut paths);
        } else {
            at += 1;
        }
    }
    paths
}

fn tokens(code: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut chars = code.chars().peekable();
    while let Some(next) = chars.next() {
        if next.is_alphanumeric() || next == '_' {
            let mut word = String::from(next);
            while let Some(more) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                word.push(more);
            }
            tokens.push(word);
        } else if next == ':' && chars.next_if_eq(&':').is_some() {
            tokens.push("::".into());
        } else if !next.is_whitespace() {
            tokens.push(next.into());
        }
    }
    tokens
}

/// Reads one path, which may end in a group, from `at` on. Returns where the next token is.
fn expand(
    tokens: &[String],
    mut at: usize,
    before: &mut Vec<String>,
    paths: &mut Vec<Vec<String>>,
) -> usize {
    let depth = before.len();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = if tokens[at] == "," { at + 1 } else { expand(tokens, at, before, paths) };
                }
                before.truncate(depth);
                return at + 1;
            }
            Some(word) => before.push(word.into()),
            None => break,
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
    }
    paths.push(before.clone());
    before.truncate(depth);
    // `name as other` in a group.
    if tokens.get(at).is_some_and(|token| token == "as") { at + 2 } else { at }
}

/// The crate's root re-exports: name to module path.
fn reexports(root: &Path) -> BTreeMap<String, ModulePath> {
    let code = code_of(&fs::read_to_string(root.join("lib.rs")).unwrap());
    let mut names = BTreeMap::new();
    for statement in code.split(';') {
        let Some((_, path)) = statement.split_once("use ") else { continue };
        let tokens = tokens(path);
        let mut paths = Vec::new();
        expand(&tokens, 0, &mut Vec::new(), &mut paths);
        for path in paths {
            if let [module @ .., name] = &path[..] {
                names.insert(name.clone(), module.to_vec());
            }
        }
    }
    names
}

fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let modules: BTreeSet<ModulePath> = paths.iter().map(|path| module_of(&root, path)).collect();
    let reexports = reexports(&root);
    let read = |path: &PathBuf| {
        let module = module_of(&root, path);
        let code = code_of(&fs::read_to_string(path).unwrap());
        let resolve = |path: Vec<String>| {
            let mut full: ModulePath = match path[0].as_str() {
                "crate" => Vec::new(),
                _ => module.clone(),
            };
            for part in &path {
                match part.as_str() {
                    "crate" => {}
                    "super" => drop(full.pop()),
                    part => full.push(part.into()),
                }
            }
            if let Some(home) = full.first().and_then(|name| reexports.get(name)) {
                full.clone_from(home);
            }
            while !full.is_empty() && !modules.contains(&full) {
                full.pop();
            }
            full
        };
        let imports = paths_in(&code).into_iter().map(resolve).filter(|path| !path.is_empty());
        File { imports: imports.collect(), module }
    };
    paths.iter().map(read).collect()
}

/// Who imports whom among the modules right below `parent`, each with one import that shows it.
fn arrows(files: &[File], parent: &[String]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut arrows: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let room = |module: &[String]| {
        (module.len() > parent.len() && module.starts_with(parent))
            .then(|| module[parent.len()].clone())
    };
    for file in files {
        let Some(from) = room(&file.module) else { continue };
        for import in &file.imports {
            let Some(to) = room(import).filter(|to| *to != from) else { continue };
            let shown = format!("{} imports {}", file.module.join("::"), import.join("::"));
            arrows.entry(from.clone()).or_default().entry(to).or_insert(shown);
        }
    }
    arrows
}

/// A circle of arrows that leads through one of these rooms, if there is one, as the imports that form it.
///
/// Files beside each other may import each other: they are one room.
fn circle(
    arrows: &BTreeMap<String, BTreeMap<String, String>>,
    rooms: &BTreeSet<String>,
) -> Option<Vec<String>> {
    rooms.iter().find_map(|room| {
        // By which import each module was first reached from the room, and from where.
        let mut reached: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        let mut next = vec![room.as_str()];
        while let Some(at) = next.pop() {
            for (to, shown) in arrows.get(at).into_iter().flatten() {
                if !reached.contains_key(to.as_str()) {
                    reached.insert(to, (at, shown));
                    next.push(to);
                }
            }
        }
        let mut path = Vec::new();
        let mut at = room.as_str();
        while let Some((from, shown)) = reached.get(at) {
            path.push((*shown).to_owned());
            at = from;
            if at == room {
                path.reverse();
                return Some(path);
            }
        }
        None
    })
}

/// The folders right below `parent`.
fn rooms(files: &[File], parent: &[String]) -> BTreeSet<String> {
    let below = files.iter().map(|file| &file.module);
    let below =
        below.filter(|module| module.len() > parent.len() + 1 && module.starts_with(parent));
    below.map(|module| module[parent.len()].clone()).collect()
}

/// The folders that have folders in them: their rooms must not import each other in a circle.
fn parents(files: &[File]) -> BTreeSet<ModulePath> {
    let levels = files.iter().filter(|file| file.module.len() >= 2);
    levels.map(|file| file.module[..file.module.len() - 2].to_vec()).collect()
}

#[test]
fn no_circle_of_imports_crosses_a_rooms_wall() {
    let files = files();
    assert!(files.len() > 100, "the sources were not found");
    let circles: Vec<_> = parents(&files)
        .iter()
        .filter_map(|parent| {
            let circle = circle(&arrows(&files, parent), &rooms(&files, parent))?;
            Some(format!("in src/{}:\n  {}", parent.join("/"), circle.join("\n  ")))
        })
        .collect();
    assert!(circles.is_empty(), "circles of imports between rooms:\n{}", circles.join("\n"));
}

#[test]
fn src_has_no_loose_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path());
    let loose: Vec<_> = files.filter(|path| path.is_file() && !path.ends_with("lib.rs")).collect();
    assert!(loose.is_empty(), "files in src that belong in a room: {loose:?}");
}

#[test]
fn the_engine_knows_nothing_of_what_is_built_on_it() {
    for file in
        files().iter().filter(|file| file.module.first().is_some_and(|room| room == "engine"))
    {
        for import in &file.imports {
            let allowed = ["engine", "task"].contains(&import[0].as_str());
            let (from, to) = (file.module.join("::"), import.join("::"));
            assert!(allowed, "{from} imports {to}: the engine stands on `task` only");
        }
    }
}

#[test]
fn a_circle_is_found_and_groups_are_read() {
    let code = "use crate::a::{b::{C, D as E}, f}; let x = super::g::h(); not::crate_path::i";
    let paths: Vec<_> = paths_in(code).into_iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["crate::a::b::C", "crate::a::b::D", "crate::a::f", "super::g::h"]);
    let file = |module: &str, import: &str| File {
        module: module.split("::").map(Into::into).collect(),
        imports: [import.split("::").map(Into::into).collect()].into(),
    };
    let files = [file("a::one", "b::two"), file("b::three", "c::four"), file("c::five", "a::six")];
    let circle_of = |files: &[File]| circle(&arrows(files, &[]), &rooms(files, &[]));
    assert_eq!(circle_of(&files).unwrap().len(), 3);
    assert!(circle_of(&files[..2]).is_none());
}
