//! An update in parts. The first one for a reader is the whole record, tens of megabytes if it's full: as
//! text it never exists in one piece.

use std::mem;

use crate::observe::update::Update;

/// So much of each table goes into a part.
const ROWS: usize = 4_000;

/// The parts of an update, as JSON. All but the last say that there's more.
pub(super) struct Chunks {
    rest: Option<Update>,
}

impl Chunks {
    pub(super) fn new(update: Update) -> Self {
        Self { rest: Some(update) }
    }

    pub(super) fn next(&mut self) -> Option<String> {
        let mut part = self.rest.take()?;
        // What a part leads to comes with it or before it: tasks before edges, and before what happened to
        // them.
        let mut left = ROWS;
        let mut rest = Update {
            cursor: part.cursor,
            all: false,
            t: part.t,
            stats: part.stats.clone(),
            names: Vec::new(),
            tasks: beyond(&mut part.tasks, &mut left),
            keys: beyond(&mut part.keys, &mut left),
            edges: beyond(&mut part.edges, &mut left),
            links: beyond(&mut part.links, &mut left),
            bars: beyond(&mut part.bars, &mut left),
            gone: beyond(&mut part.gone, &mut left),
            events: beyond(&mut part.events, &mut left),
            failures: beyond(&mut part.failures, &mut left),
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
        // Plain data, which has a JSON form.
        serde_json::to_string(&part).ok()
    }
}

/// Takes away what is beyond the number that's left.
fn beyond<T>(rows: &mut Vec<T>, left: &mut usize) -> Vec<T> {
    let here = rows.len().min(*left);
    *left -= here;
    if here == 0 { mem::take(rows) } else { rows.split_off(here) }
}
