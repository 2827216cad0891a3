//! Reports: a whole run in one HTML file, with the pages of the dashboard.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use super::assets;
use super::chunks::Chunks;
use super::guard::random_text;
use super::source::Source;

/// The number of tasks that a report explains in detail.
const DETAILS: usize = 2_000;

/// Writes a report to a file, replacing its content.
pub(crate) fn write(source: &Source, path: &Path) -> io::Result<()> {
    fs::write(path, html(source, &random_text()?))
}

pub(super) fn html(source: &Source, nonce: &str) -> String {
    let mut details = Map::new();
    for number in source.remarkable(DETAILS) {
        if let Some(task) = source.details(number) {
            details.insert(number.to_string(), task);
        }
    }
    let mut chunks = Chunks::new(source.update(0));
    let mut updates = Vec::new();
    while let Some(chunk) = chunks.next() {
        updates.push(chunk);
    }
    let record = format!(
        "{{\"hello\":{},\"updates\":[{}],\"details\":{}}}",
        source.hello(),
        updates.join(","),
        Value::Object(details)
    );
    assets::one_file(&format!("{} · ensue", source.client()), &record, nonce)
}
