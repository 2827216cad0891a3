//! What the dashboard knows of a client: its record, and what can be done with one of its tasks.
//!
//! It keeps the memory of the engine, and not the client: what is shown may be of one that has closed.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::query;
use crate::engine::core::{Core, CoreRef};
use crate::observe::act;
use crate::observe::explain::Explanation;
use crate::observe::graph::Graph;
use crate::observe::recorder::Recorder;
use crate::observe::stats::Stats;
use crate::observe::story::Story;
use crate::observe::task_record::TaskRecord;
use crate::observe::update::{Update, status_code};

/// So many tasks are on a page of the list.
const PAGE: usize = 200;

const STATES: [&str; 7] =
    ["waiting", "ready", "running", "delayed", "finished", "failed", "cancelled"];

#[derive(Clone)]
pub(crate) struct Source {
    core: CoreRef,
    recorder: Arc<Recorder>,
    /// When recording began.
    began: SystemTime,
}

/// What can be done with a task.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Cancel,
    Retry,
}

/// Which tasks are asked for.
#[derive(Debug)]
pub(super) struct Filter {
    state: Option<u8>,
    name: Option<String>,
    key: String,
    /// Those before this one, which was the last on the page before.
    after: u64,
    limit: usize,
}

impl Filter {
    /// From what follows the `?`. Says what is wrong with it.
    pub(super) fn from_query(text: &str) -> Result<Self, String> {
        let mut filter =
            Self { state: None, name: None, key: String::new(), after: u64::MAX, limit: PAGE };
        for (name, value) in query::pairs(text) {
            let number = || value.parse().map_err(|_| format!("`{name}` takes a number."));
            match &*name {
                "state" if value.is_empty() => {}
                "state" => {
                    let place = STATES.iter().position(|state| *state == value);
                    let place = place.ok_or_else(|| format!("`state` is one of {STATES:?}."))?;
                    filter.state = Some(place as u8);
                }
                "name" => filter.name = (!value.is_empty()).then_some(value),
                "key" => filter.key = value.to_lowercase(),
                "after" => filter.after = number()?,
                "limit" => filter.limit = usize::try_from(number()?).map_or(PAGE, |n| n.min(PAGE)),
                other => return Err(format!("`{other}` isn't a filter.")),
            }
        }
        Ok(filter)
    }

    fn takes(&self, number: u64, entry: &TaskRecord, name: &str) -> bool {
        number < self.after
            && self.state.is_none_or(|wanted| wanted == status_code(entry.status))
            && self.name.as_deref().is_none_or(|wanted| wanted == name)
            && (self.key.is_empty() || entry.key(name, number).to_lowercase().contains(&self.key))
    }
}

impl Source {
    /// Begins to record, if the client doesn't yet.
    pub(crate) fn of(core: &Core) -> Self {
        let recorder = Recorder::start(core);
        let ago = recorder.began.elapsed().saturating_sub(recorder.since);
        let began = SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH);
        Self { core: core.to_ref(), recorder, began }
    }

    pub(super) fn client(&self) -> &str {
        &self.core.name
    }

    /// What a reader is told first.
    pub(super) fn hello(&self) -> String {
        let began = self.began.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        json!({
            "client": self.client(),
            "version": env!("CARGO_PKG_VERSION"),
            "began": u64::try_from(began.as_millis()).unwrap_or(u64::MAX),
        })
        .to_string()
    }

    pub(super) fn update(&self, cursor: u64) -> Update {
        Update::since(&self.core, &self.recorder, cursor)
    }

    pub(super) fn stats(&self) -> Stats {
        Stats::of(&self.core)
    }

    pub(super) fn graph(&self) -> Graph {
        Graph::of(&self.recorder)
    }

    /// A page of tasks, the newest first, as JSON.
    pub(super) fn tasks(&self, filter: &Filter) -> String {
        let record = self.recorder.record();
        let mut numbers: Vec<u64> = record
            .tasks
            .iter()
            .filter(|(number, entry)| filter.takes(**number, entry, record.name(entry.name)))
            .map(|(number, _)| *number)
            .collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        let next =
            (numbers.len() > filter.limit && filter.limit > 0).then(|| numbers[filter.limit - 1]);
        numbers.truncate(filter.limit);
        let rows: Vec<Value> = numbers
            .iter()
            .filter_map(|number| {
                Some(row(
                    *number,
                    record.tasks.get(number)?,
                    record.name(record.tasks.get(number)?.name),
                ))
            })
            .collect();
        drop(record);
        json!({ "tasks": rows, "next": next }).to_string()
    }

    /// Everything about a task, as JSON; `None` if it isn't known.
    pub(super) fn task(&self, number: u64) -> Option<String> {
        self.details(number).map(|details| details.to_string())
    }

    pub(super) fn details(&self, number: u64) -> Option<Value> {
        let mut task = {
            let record = self.recorder.record();
            let entry = record.tasks.get(&number)?;
            row(number, entry, record.name(entry.name))
        };
        if let Some(explanation) = Explanation::of_number(&self.core, &self.recorder, number) {
            task["explain"] = json!({ "text": explanation.to_string(), "data": explanation });
        }
        let now = self.core.now();
        let story = Story::of_number(&self.recorder, &self.recorder.record(), number, now);
        if let Some(story) = story {
            task["story"] = json!(story);
        }
        Some(task)
    }

    /// The tasks that a report tells more about: first those that have failed, then those that haven't
    /// ended, then the others, of each the last ones first.
    pub(super) fn remarkable(&self, most: usize) -> Vec<u64> {
        let record = self.recorder.record();
        let mut found: Vec<_> = record
            .tasks
            .iter()
            .map(|(number, entry)| (entry.error.is_none(), entry.has_ended(), *number))
            .collect();
        found
            .sort_unstable_by_key(|(is_fine, ended, number)| (*is_fine, *ended, u64::MAX - number));
        found.into_iter().map(|(_, _, number)| number).take(most).collect()
    }

    /// Does it, and says so or why not; `None` if the task isn't known.
    pub(super) fn act(
        &self,
        number: u64,
        verb: Verb,
    ) -> Option<Result<&'static str, &'static str>> {
        let is_known = self.recorder.record().tasks.contains_key(&number);
        is_known.then(|| match verb {
            Verb::Cancel if act::cancel(&self.core, number) => Ok("It's cancelled."),
            Verb::Cancel => Err("It has ended already."),
            Verb::Retry if act::retry(&self.core, number) => Ok("It runs again."),
            Verb::Retry => {
                Err("It can't run again: that takes a task that has failed, was submitted with a \
                 fallible verb or with retries, and is still held by somebody.")
            }
        })
    }
}

fn row(number: u64, entry: &TaskRecord, name: &str) -> Value {
    json!({
        "id": number,
        "key": &*entry.key(name, number),
        "name": name,
        "status": entry.status,
        "depth": entry.depth,
        "attempt": entry.attempt,
        "priority": entry.priority,
        "worker": entry.worker,
        "held": entry.held,
        "error": entry.error.as_deref(),
    })
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("client", &self.client()).finish_non_exhaustive()
    }
}
