//! Counts the words in all files of a folder.
//!
//! ```text
//! cargo run --release --example wordcount -- PATH
//! ```
//!
//! Files are read as blocking work, and counts are merged in pairs, in the order of completion. Files that can't be read
//! are reported and skipped. Ctrl-C cancels all tasks.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;

use ensue::{Client, Error, as_completed, is_cancelled, progress};
use futures::StreamExt;

type Counts = HashMap<String, u64>;

/// Returns all files in a folder and its subfolders.
fn walk(folder: PathBuf) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)?.take_while(|_| !is_cancelled()) {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            match walk(entry.path()) {
                Ok(more) => files.extend(more),
                Err(error) => eprintln!("skipped: {}: {error}", entry.path().display()),
            }
        // Skips pipes, devices and links to folders. A file whose type is unknown fails when it's read.
        } else if fs::metadata(entry.path()).map_or(true, |meta| meta.is_file()) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn count(path: PathBuf) -> Result<Counts, String> {
    let named = |error| format!("{}: {error}", path.display());
    let mut counts = Counts::new();
    let lines = BufReader::new(File::open(&path).map_err(named)?).lines();
    for line in lines.take_while(|_| !is_cancelled()) {
        let line = line.map_err(named)?.to_lowercase();
        for word in line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
    }
    Ok(counts)
}

async fn merge(mut a: Counts, b: Counts) -> Counts {
    b.into_iter().for_each(|(word, n)| *a.entry(word).or_default() += n);
    a
}

/// Counts and prints. Dropping this future drops its handles, which cancels all tasks.
async fn run(client: &Client, folder: PathBuf) -> Result<(), Error> {
    let paths = client.try_submit_blocking(walk, folder).await?;
    println!("{} files", paths.len());
    let part = |path| client.task().acquire("files").try_submit_blocking(count, path);
    let parts: Vec<_> = paths.into_iter().map(part).collect();
    let bars = progress(&parts);
    let (mut parts, mut one) = (as_completed(parts), None);
    while let Some(part) = parts.next().await {
        if let Some(error) = part.error() {
            bars.suspend(|| eprintln!("skipped: {error:#}"));
        } else if let Some(other) = one.take() {
            let both = client.submit(merge, (other, part));
            bars.add([&both]);
            parts.add(both);
        } else {
            one = Some(part);
        }
    }
    drop(bars);
    let counts = if let Some(all) = one { all.await? } else { Counts::new() };
    println!("{} words, {} different ones", counts.values().sum::<u64>(), counts.len());
    let mut top = Vec::from_iter(counts);
    top.sort_by(|(a, n), (b, m)| m.cmp(n).then(a.cmp(b)));
    top.iter().take(5).for_each(|(word, n)| println!("{n:8} {word}"));
    Ok(())
}

/// Reads the command line: the folder, `src` by default.
fn folder() -> Result<PathBuf, lexopt::Error> {
    let mut folder = None;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            lexopt::Arg::Value(path) if folder.is_none() => folder = Some(path.into()),
            other => return Err(other.unexpected()),
        }
    }
    Ok(folder.unwrap_or_else(|| "src".into()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let folder = match folder() {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("wordcount: {error}\nusage: wordcount [PATH]");
            return ExitCode::from(2);
        }
    };
    let client = Client::builder().limit("files", 8).build();
    let ended = tokio::select! {
        biased;
        Ok(()) = tokio::signal::ctrl_c() => None,
        result = run(&client, folder) => Some(result),
    };
    client.close().await;
    match ended {
        Some(Ok(())) => return ExitCode::SUCCESS,
        Some(Err(error)) => eprintln!("wordcount: {error:#}"),
        None => eprintln!("wordcount: interrupted"),
    }
    ExitCode::FAILURE
}
