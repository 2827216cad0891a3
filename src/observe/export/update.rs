//! Incremental updates of a record for the dashboard's page.
//!
//! The page knows the record up to a revision, the cursor, and asks for the changes since then. Rows are tuples, not
//! structs: field names would be most of the text of a record of 100,000 tasks. The page's script reads them by position.

use crate::Status;
use crate::engine::base::nanos::nanos;
use crate::engine::core::Core;
use crate::observe::record::recorder::Recorder;
use crate::observe::record::tables::Record;
use crate::observe::record::task_record::{EdgeKind, KeySource};
use crate::observe::views::serial::serialize;
use crate::observe::views::stats::Stats;

/// The most limits, and rates, that patterns have made.
const MOST_OF_PATTERNS: usize = 50;

/// The changes of a client's record since a revision of it.
///
/// Times are in seconds since recording began. The size is that of the changes, and at most that of the record, however
/// long ago the last update was.
pub(crate) struct Update {
    /// The cursor of the next update.
    pub(crate) cursor: u64,
    /// This is the whole record: the page forgets what it knew before.
    pub(crate) all: bool,
    pub(crate) t: f64,
    pub(crate) stats: Stats,
    /// Index, name.
    pub(crate) names: Vec<(u32, String)>,
    pub(crate) tasks: Vec<TaskRow>,
    /// Numbers of tasks that were forgotten.
    pub(crate) gone: Vec<u64>,
    /// Number, key: of those of `tasks` whose key isn't made of the name and the number.
    pub(crate) keys: Vec<(u64, String)>,
    /// Time, number, error: of those of `tasks` that have failed.
    pub(crate) failures: Vec<(f64, u64, String)>,
    /// From, to, 0 for an input and 1 for an await.
    pub(crate) edges: Vec<(u64, u64, u8)>,
    /// Index of the name from, index of the name to, number of edges.
    pub(crate) links: Vec<(u32, u32, u64)>,
    /// Polls: worker, start, end, index of the name, number, and 0 if the task was suspended, 1 for a value, 2 for an
    /// error.
    pub(crate) bars: Vec<(u32, f64, f64, u32, u64, u8)>,
    /// Workers: number, label, 1 if it exists, the number of its task or -1, since when.
    pub(crate) lanes: Vec<(u32, String, u8, i64, f64)>,
    /// Time, number, status, worker or -1.
    pub(crate) events: Vec<(f64, u64, u8, i64)>,
    pub(crate) missed: Missed,
    /// This is a part of an update, and the next part follows at once.
    pub(crate) more: bool,
}

/// Number, index of the name, status, depth, attempt, worker or -1, 1 if its value is held, priority.
pub(crate) type TaskRow = (u64, u32, u8, u32, u32, i64, u8, i32);

/// The numbers of tasks and events that aren't in the updates.
#[derive(Clone)]
pub(crate) struct Missed {
    /// Tasks that were only counted.
    pub(crate) tasks: u64,
    /// Events of watched tasks that were dropped.
    pub(crate) events: u64,
}

/// The maximum number of events in an update: the last ones.
const EVENTS: usize = 500;

/// The maximum number of failures in an update: the last ones.
const FAILURES: usize = 200;

/// The maximum length of a key or an error, in characters.
const TEXT_LENGTH: usize = 500;

serialize!(Missed, this: tasks = this.tasks, moments = this.events);

serialize!(Update, this:
    cursor = this.cursor,
    all = this.all,
    t = this.t,
    stats = this.stats,
    names = this.names,
    tasks = this.tasks,
    gone = this.gone,
    keys = this.keys,
    failures = this.failures,
    edges = this.edges,
    links = this.links,
    bars = this.bars,
    lanes = this.lanes,
    events = this.events,
    missed = this.missed,
    more = this.more,
);

impl Update {
    /// Returns the changes since the update with this cursor, or the whole record for 0.
    pub(crate) fn since(core: &Core, recorder: &Recorder, cursor: u64) -> Self {
        let alive: Vec<_> = core.workers.lock().iter().map(|worker| worker.number).collect();
        let counts = recorder.functions.counts();
        let record = &*recorder.record();
        // The list of forgotten tasks is bounded, so it may lack some for an old cursor. A cursor beyond the record is
        // of another client.
        let all = cursor == 0 || cursor < record.forgotten_before || cursor > record.revision;
        let cursor = if all { 0 } else { cursor };
        let began = nanos(recorder.since);
        let seconds = |at: u64| at.saturating_sub(began) as f64 / 1_000.0;
        let seconds = |at: u64| seconds(at).round() / 1e6;
        let mut stats = Stats::with(core, recorder, record, &counts);
        stats.keep_busiest(MOST_OF_PATTERNS);
        let mut update = Self {
            cursor: record.revision,
            all,
            t: seconds(nanos(core.now())),
            missed: Missed { tasks: record.left_out(stats.submitted), events: record.dropped },
            stats,
            names: Vec::new(),
            tasks: Vec::new(),
            gone: Vec::new(),
            keys: Vec::new(),
            failures: Vec::new(),
            edges: Vec::new(),
            links: Vec::new(),
            bars: Vec::new(),
            lanes: Vec::new(),
            events: Vec::new(),
            more: false,
        };
        update.add_tasks(record, cursor, seconds);
        // In the order of the tasks' last changes, which is close enough to that of the failures.
        let superfluous = update.failures.len().saturating_sub(FAILURES);
        update.failures.drain(..superfluous);
        let names = record.names.iter().enumerate().skip_while(|(_, (at, _))| *at <= cursor);
        update.names = names.map(|(index, (_, name))| (index as u32, name.to_string())).collect();
        if !all {
            let gone = record.forgotten.iter().rev().take_while(|(at, _)| *at > cursor);
            update.gone = gone.map(|(_, task)| *task).collect();
        }
        let links = record.links.iter().filter(|(_, link)| link.revision > cursor);
        update.links = links.map(|((from, to), link)| (*from, *to, link.count)).collect();
        update.bars = record
            .polls_since(cursor)
            .map(|poll| {
                let (start, end) = (seconds(poll.start), seconds(poll.end));
                (poll.worker, start, end, poll.name, poll.task, poll.outcome as u8)
            })
            .collect();
        // Workers that have exited are in the record, and those that have not polled yet only in the engine.
        let workers = record.workers.len().max(alive.iter().max().map_or(0, |most| most + 1));
        for number in 0..workers {
            let worker = record.workers.get(number).copied().unwrap_or_default();
            let is_alive = u8::from(alive.contains(&number));
            let since = if worker.since == 0 { 0.0 } else { seconds(worker.since) };
            let name = format!("worker {number}");
            update.lanes.push((number as u32, name, is_alive, or_none(worker.task), since));
        }
        let events = record.events_since(cursor);
        let superfluous = events.len().saturating_sub(EVENTS);
        update.events = events
            .skip(superfluous)
            .map(|event| {
                let worker = or_none(event.change.worker.map(u64::from));
                (seconds(event.change.at), event.task, status_code(event.change.status), worker)
            })
            .collect();
        update
    }

    /// Adds the rows of the tasks that have changed, with their keys, failures and new edges.
    fn add_tasks(&mut self, record: &Record, cursor: u64, seconds: impl Fn(u64) -> f64) {
        let first = record.changes.partition_point(|(at, _)| *at <= cursor);
        for (at, number) in record.changes.range(first..) {
            // Holes of the change log are skipped.
            let Some(task) = record.tasks.get(number).filter(|task| task.revision == *at) else {
                continue;
            };
            let worker = or_none(task.worker.map(u64::from));
            let status = status_code(task.status);
            self.tasks.push((
                *number,
                task.name,
                status,
                task.depth,
                task.attempt,
                worker,
                u8::from(task.held),
                task.priority,
            ));
            if !matches!(task.key_source, KeySource::Number) {
                self.keys.push((*number, start_of(&task.key(record.name(task.name), *number))));
            }
            if let (Status::Failed, Some(error)) = (task.status, &task.error) {
                let at = task.transitions.last().map_or(0.0, |last| seconds(last.at));
                self.failures.push((at, *number, start_of(error)));
            }
            // Edges are added at the end, so the new ones are the last.
            for edge in task.edges.iter().rev().take_while(|edge| edge.revision > cursor) {
                if record.tasks.contains_key(&edge.from) {
                    self.edges.push((edge.from, *number, u8::from(edge.kind == EdgeKind::Awaited)));
                }
            }
        }
    }
}

/// Returns the beginning of a text, with an ellipsis if there is more.
fn start_of(text: &str) -> String {
    match text.char_indices().nth(TEXT_LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns a number, or -1 for none.
fn or_none(number: Option<u64>) -> i64 {
    number.and_then(|number| i64::try_from(number).ok()).unwrap_or(-1)
}

/// Returns the number of a status on the page.
pub(crate) fn status_code(status: Status) -> u8 {
    match status {
        Status::Waiting => 0,
        Status::Ready => 1,
        Status::Running => 2,
        Status::Delayed => 3,
        Status::Finished => 4,
        Status::Failed => 5,
        Status::Cancelled => 6,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::Client;
    use crate::observe::record::tables::TASKS;

    fn update(client: &Client, cursor: u64) -> Value {
        let recorder = Recorder::start(client.core());
        serde_json::to_value(Update::since(client.core(), &recorder, cursor)).unwrap()
    }

    fn numbers(update: &Value, list: &str) -> Vec<u64> {
        let list = update[list].as_array().unwrap().iter();
        list.map(|row| row[0].as_u64().unwrap()).collect()
    }

    async fn inc(x: u64) -> u64 {
        x + 1
    }

    #[test]
    fn an_update_has_the_changes_since_the_one_before() {
        let client = Client::builder().seed(1).build();
        client.observe();
        let x = client.submit(inc, 1);
        let y = client.submit(inc, &x);
        let first = update(&client, 0);
        assert_eq!(first["all"], true);
        assert_eq!(first["names"], serde_json::json!([[0, "inc"]]));
        let ids = numbers(&first, "tasks");
        assert_eq!(ids.len(), 2);
        assert_eq!(first["edges"], serde_json::json!([[ids[0], ids[1], 0]]));
        assert_eq!(first["links"], serde_json::json!([[0, 0, 1]]));
        assert_eq!(first["bars"], serde_json::json!([]));
        let states: Vec<_> = first["tasks"].as_array().unwrap().iter().map(|t| &t[2]).collect();
        assert_eq!(states, [1, 0]);

        let same = update(&client, first["cursor"].as_u64().unwrap());
        for list in ["tasks", "edges", "links", "bars", "events", "names", "gone"] {
            assert_eq!(same[list], serde_json::json!([]), "{list}");
        }

        y.result().unwrap();
        let second = update(&client, first["cursor"].as_u64().unwrap());
        assert_eq!(second["all"], false);
        assert_eq!(second["edges"], serde_json::json!([]));
        assert_eq!(second["bars"].as_array().unwrap().len(), 2);
        let states: Vec<_> = second["tasks"].as_array().unwrap().iter().map(|t| &t[2]).collect();
        assert_eq!(states, [4, 4]);
        assert_eq!(second["stats"]["finished"], 2);
        assert_eq!(second["missed"], serde_json::json!({"tasks": 0, "moments": 0}));
    }

    #[test]
    fn forgotten_tasks_are_reported() {
        let client = Client::builder().seed(1).observe().build();
        let few: Vec<_> = client.map(inc, 0..1_000);
        futures_lite::future::block_on(crate::gather(few)).unwrap();
        let first = update(&client, 0);
        let known = numbers(&first, "tasks");
        assert_eq!(known.len(), 1_000);
        let many = client.map(inc, 0..TASKS as u64);
        futures_lite::future::block_on(crate::gather(many)).unwrap();
        let second = update(&client, first["cursor"].as_u64().unwrap());
        assert_eq!(second["all"], false);
        let gone: Vec<_> =
            second["gone"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        assert!(known.iter().all(|id| gone.contains(id)), "{} are gone", gone.len());
        assert!(numbers(&second, "tasks").len() <= TASKS);
        // A new page gets the whole record, and no forgotten tasks.
        let all = update(&client, 0);
        assert_eq!((&all["all"], &all["gone"]), (&true.into(), &serde_json::json!([])));
        assert_eq!(numbers(&all, "tasks").len(), numbers(&second, "tasks").len());
        assert_eq!(all["missed"], serde_json::json!({"tasks": 0, "moments": 0}));
    }
}
