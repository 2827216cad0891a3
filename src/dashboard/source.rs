//! The dashboard's access to a client: the record of its tasks, and cancelling and retrying them.
//!
//! It keeps the engine's memory alive but not the client, so it also shows clients that have closed.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::Status;
use crate::engine::core::{Core, CoreRef};
use crate::observe::act;
use crate::observe::explain::Explanation;
use crate::observe::graph::Graph;
use crate::observe::recorder::Recorder;
use crate::observe::stats::Stats;
use crate::observe::task_record::TaskRecord;
use crate::observe::timeline::Timeline;
use crate::observe::update::{Update, status_code};

/// The most tasks on a page of the list.
const PAGE: usize = 200;

const STATES: [&str; 7] =
    ["waiting", "ready", "running", "delayed", "finished", "failed", "cancelled"];

#[derive(Clone)]
pub(crate) struct Source {
    core: CoreRef,
    recorder: Arc<Recorder>,
    /// The wall-clock time at which recording began.
    began: SystemTime,
}

/// A change to a task that the dashboard can request.
#[derive(Clone, Copy, Debug)]
pub(super) enum TaskAction {
    Cancel,
    Retry,
}

/// The query of a list of tasks.
#[derive(Debug)]
pub(super) struct Filter {
    state: Option<u8>,
    name: Option<String>,
    /// A part of the key, in lower case.
    key: String,
    /// The number of the last task on the previous page.
    after: u64,
    limit: usize,
}

impl Filter {
    /// Parses the query of a URL.
    ///
    /// # Errors
    ///
    /// A text for the client that names the wrong parameter.
    pub(super) fn from_query(text: &str) -> Result<Self, String> {
        let mut filter =
            Self { state: None, name: None, key: String::new(), after: u64::MAX, limit: PAGE };
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let number = || {
                value.parse().map_err(|_| format!("`{name}` is `{value}`, which isn't a number."))
            };
            match &*name {
                "state" if value.is_empty() => {}
                "state" => {
                    let index = STATES.iter().position(|state| *state == value);
                    let index = index.ok_or_else(|| {
                        format!("`state` is `{value}`. The states are {}.", STATES.join(", "))
                    })?;
                    filter.state = Some(index as u8);
                }
                "name" => filter.name = (!value.is_empty()).then(|| value.into_owned()),
                "key" => filter.key = value.to_lowercase(),
                "after" => filter.after = number()?,
                "limit" => filter.limit = usize::try_from(number()?).map_or(PAGE, |n| n.min(PAGE)),
                other => {
                    return Err(format!(
                        "`{other}` isn't a filter. The filters are state, name, key, after and limit."
                    ));
                }
            }
        }
        Ok(filter)
    }

    fn matches(&self, number: u64, entry: &TaskRecord, name: &str) -> bool {
        number < self.after
            && self.state.is_none_or(|wanted| wanted == status_code(entry.status))
            && self.name.as_deref().is_none_or(|wanted| wanted == name)
            && (self.key.is_empty() || entry.key(name, number).to_lowercase().contains(&self.key))
    }
}

impl Source {
    /// Starts recording unless the client already records.
    pub(crate) fn of(core: &Core) -> Self {
        let recorder = Recorder::start(core);
        let ago = recorder.began.elapsed().saturating_sub(recorder.since);
        let began = SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH);
        Self { core: core.to_ref(), recorder, began }
    }

    pub(super) fn client(&self) -> &str {
        &self.core.name
    }

    /// Returns the first message of a stream, as JSON.
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

    /// Returns a page of tasks as JSON, the newest first.
    pub(super) fn tasks(&self, filter: &Filter) -> String {
        let record = self.recorder.record();
        let mut numbers: Vec<u64> = record
            .tasks
            .iter()
            .filter(|(number, entry)| filter.matches(**number, entry, record.name(entry.name)))
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

    /// Returns the details of a task as JSON, or `None` if the record doesn't contain it.
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
        let timeline = Timeline::of_number(&self.recorder, &self.recorder.record(), number, now);
        if let Some(timeline) = timeline {
            task["timeline"] = json!(timeline);
        }
        Some(task)
    }

    /// Returns the numbers of the tasks that a report explains in detail: first failed tasks, then unfinished
    /// ones, then the others, each group newest first.
    pub(super) fn remarkable(&self, most: usize) -> Vec<u64> {
        let record = self.recorder.record();
        let mut found: Vec<_> = record
            .tasks
            .iter()
            .map(|(number, entry)| (entry.status != Status::Failed, entry.has_ended(), *number))
            .collect();
        found
            .sort_unstable_by_key(|(is_fine, ended, number)| (*is_fine, *ended, u64::MAX - number));
        found.into_iter().map(|(_, _, number)| number).take(most).collect()
    }

    /// Performs an action and returns a text about its success or failure, or `None` if the record doesn't
    /// contain the task.
    pub(super) fn act(
        &self,
        number: u64,
        action: TaskAction,
    ) -> Option<Result<&'static str, &'static str>> {
        let is_known = self.recorder.record().tasks.contains_key(&number);
        is_known.then(|| match action {
            TaskAction::Cancel if act::cancel(&self.core, number) => Ok("Cancelled."),
            TaskAction::Cancel => Err("The task has already ended."),
            TaskAction::Retry if act::retry(&self.core, number) => Ok("Retrying."),
            TaskAction::Retry => Err(
                "The task can't be retried. It must have failed, must have been submitted with a \
                 fallible method or with retries, and must still have a handle or a dependent.",
            ),
        })
    }
}

fn row(number: u64, entry: &TaskRecord, name: &str) -> Value {
    json!({
        "id": number,
        "key": &*entry.key(name, number),
        "name": name,
        "submitted_at": entry.submitted_at.map(|at| format!("{}:{}", at.file(), at.line())),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(query: &str) -> Filter {
        Filter::from_query(query).expect("a filter")
    }

    #[test]
    fn values_are_decoded() {
        for (text, decoded) in [
            ("", ""),
            ("a+b", "a b"),
            ("a%20b%26", "a b&"),
            ("%C3%a9", "é"),
            ("%", "%"),
            ("%2", "%2"),
            ("%zz", "%zz"),
            ("%ff", "\u{fffd}"),
            ("%é", "%é"),
        ] {
            assert_eq!(filter(&format!("key={text}")).key, decoded, "{text}");
        }
    }

    #[test]
    fn a_parameter_needs_no_value() {
        let found = filter("limit=1&&name&key==&");
        assert_eq!((found.limit, found.name.as_deref(), &*found.key), (1, None, "="));
        assert_eq!(Filter::from_query("=").map(drop).unwrap_err().split(' ').next(), Some("``"));
    }

    #[test]
    fn errors_name_the_parameter_and_its_value() {
        for (query, part) in [
            ("after=x", "`after` is `x`"),
            ("limit=-1", "`limit` is `-1`"),
            ("state=odd", "`state` is `odd`"),
            ("colour=red", "`colour` isn't a filter"),
        ] {
            let error = Filter::from_query(query).expect_err(query);
            assert!(error.starts_with(part), "{error}");
        }
    }
}
