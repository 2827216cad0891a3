//! An update split into parts.
//!
//! The first update for a reader is the whole record, which can be tens of megabytes. Splitting it keeps its
//! JSON text from existing in one piece.

use std::mem;

use crate::observe::update::Update;

/// The most rows in a part, over all tables.
const ROWS: usize = 4_000;

/// An iterator over the parts of an update, as JSON. All parts except the last have `more` set.
pub(super) struct Chunks {
    rest: Option<Update>,
}

impl Chunks {
    pub(super) fn new(update: Update) -> Self {
        Self { rest: Some(update) }
    }

    pub(super) fn next(&mut self) -> Option<String> {
        let mut part = self.rest.take()?;
        // Rows that are referred to come in the same part or an earlier one: tasks before edges, and both
        // before bars and events.
        let mut left = ROWS;
        let mut rest = Update {
            cursor: part.cursor,
            all: false,
            t: part.t,
            stats: part.stats.clone(),
            names: Vec::new(),
            tasks: split_off(&mut part.tasks, &mut left),
            keys: split_off(&mut part.keys, &mut left),
            edges: split_off(&mut part.edges, &mut left),
            links: split_off(&mut part.links, &mut left),
            bars: split_off(&mut part.bars, &mut left),
            gone: split_off(&mut part.gone, &mut left),
            events: split_off(&mut part.events, &mut left),
            failures: split_off(&mut part.failures, &mut left),
            lanes: Vec::new(),
            missed: part.missed.clone(),
            more: false,
        };
        let is_empty = rest.tasks.is_empty()
            && rest.keys.is_empty()
            && rest.edges.is_empty()
            && rest.links.is_empty()
            && rest.bars.is_empty()
            && rest.gone.is_empty()
            && rest.events.is_empty()
            && rest.failures.is_empty();
        if !is_empty {
            part.more = true;
            rest.lanes.clone_from(&part.lanes);
            self.rest = Some(rest);
        }
        // An update is plain data, so this doesn't fail.
        serde_json::to_string(&part).ok()
    }
}

/// Keeps the first `left` rows, subtracts their number from `left`, and returns the others.
fn split_off<T>(rows: &mut Vec<T>, left: &mut usize) -> Vec<T> {
    let kept = rows.len().min(*left);
    *left -= kept;
    if kept == 0 { mem::take(rows) } else { rows.split_off(kept) }
}
