//! What is remembered of a task.

use std::mem;
use std::sync::Arc;

use crate::{Key, Status, key};

/// The memory of lists with room for so many is used again for other tasks.
const ROOM: usize = 8;

/// Of the times at which a task came to a new status, so many are kept: the first and the last ones.
const CHAPTERS: usize = 100;

pub(crate) struct Entry {
    /// The place of its function's name.
    pub(crate) name: u32,
    pub(crate) label: Label,
    pub(crate) status: Status,
    /// It has given up running, for a limit or until its next attempt, and may be polled meanwhile.
    pub(crate) parked: bool,
    /// It has a value that is in memory.
    pub(crate) held: bool,
    /// Its memory is free.
    pub(crate) released: bool,
    pub(crate) priority: i32,
    /// One more than the deepest of those it takes inputs from, and than the task that has submitted it.
    pub(crate) depth: u32,
    /// 1 for the first.
    pub(crate) attempt: u32,
    /// Who polls it.
    pub(crate) worker: Option<u32>,
    /// Since when, or when it was polled last.
    pub(crate) polled: u64,
    pub(crate) run_time: u64,
    pub(crate) edges: Vec<Edge>,
    pub(crate) chapters: Vec<Chapter>,
    /// Chapters that were not kept.
    pub(crate) left_out: u32,
    pub(crate) error: Option<Arc<str>>,
    /// When it changed last, as a number of the record's.
    pub(crate) revision: u64,
    /// Where the log of changes says so.
    pub(crate) noted: u64,
}

/// What a task's key is made from.
pub(crate) enum Label {
    /// Its name and its number.
    Number,
    Key(Key),
    /// Its name and the digest of a pure call.
    Derived(Box<u128>),
}

/// Leads to the task that has it.
#[derive(Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) from: u64,
    pub(crate) kind: Kind,
    pub(crate) revision: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Input = 0,
    Awaited = 1,
}

#[derive(Clone, Copy)]
pub(crate) struct Chapter {
    pub(crate) status: Status,
    pub(crate) at: u64,
    pub(crate) worker: Option<u32>,
    pub(crate) attempt: u32,
}

impl Entry {
    pub(crate) fn new(name: u32, priority: i32, status: Status) -> Self {
        Self {
            name,
            label: Label::Number,
            status,
            parked: false,
            held: false,
            released: false,
            priority,
            depth: 0,
            attempt: 1,
            worker: None,
            polled: 0,
            run_time: 0,
            edges: Vec::new(),
            chapters: Vec::new(),
            left_out: 0,
            error: None,
            revision: 0,
            noted: u64::MAX,
        }
    }

    /// Lets go of what it knows of a task, but for the memory of its lists.
    pub(crate) fn empty(&mut self) {
        self.label = Label::Number;
        self.error = None;
        self.edges.clear();
        self.edges.shrink_to(ROOM);
        self.chapters.clear();
        self.chapters.shrink_to(ROOM);
    }

    /// After that, makes it the entry of another.
    pub(crate) fn begin_again(&mut self, name: u32, priority: i32, status: Status) {
        let (edges, chapters) = (mem::take(&mut self.edges), mem::take(&mut self.chapters));
        *self = Self { edges, chapters, ..Self::new(name, priority, status) };
    }

    pub(crate) fn key(&self, name: &str, number: u64) -> Key {
        match &self.label {
            Label::Number => format!("{name}-{number}").into(),
            Label::Key(key) => key.clone(),
            Label::Derived(digest) => key::derived(name, **digest),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        is_end(self.status)
    }

    pub(crate) fn begin_chapter(&mut self, at: u64) {
        if self.chapters.len() == CHAPTERS {
            self.chapters.remove(CHAPTERS / 2);
            self.left_out += 1;
        }
        let Self { status, worker, attempt, .. } = *self;
        self.chapters.push(Chapter { status, at, worker, attempt });
    }
}

pub(crate) fn is_end(status: Status) -> bool {
    matches!(status, Status::Finished | Status::Failed | Status::Cancelled)
}
