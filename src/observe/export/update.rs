//! What has changed since somebody looked last, in the shape in which it goes to a page.

use crate::Status;
use crate::engine::core::Core;
use crate::observe::record::recorder::{Recorder, nanos};
use crate::observe::record::tables::Record;
use crate::observe::record::task_record::{Kind, Label};
use crate::observe::views::serial::serialize;
use crate::observe::views::stats::Stats;

/// What has changed in a client's record since a revision of it.
///
/// All of it is plain data, and times are seconds since recording began. It's as large as what has changed, or
/// as the record where that is less, however long ago the last look was.
pub(crate) struct Update {
    /// To be asked with the next time.
    pub(crate) cursor: u64,
    /// What was known before is to be forgotten: this is everything.
    pub(crate) all: bool,
    pub(crate) t: f64,
    pub(crate) stats: Stats,
    /// Place, name.
    pub(crate) names: Vec<(u32, String)>,
    pub(crate) tasks: Vec<TaskRow>,
    /// Numbers of tasks that were forgotten.
    pub(crate) gone: Vec<u64>,
    /// Number, key, of the tasks among these whose key isn't made of the name and the number.
    pub(crate) keys: Vec<(u64, String)>,
    /// Time, number, error, of those among these that have failed.
    pub(crate) failures: Vec<(f64, u64, String)>,
    /// From, to, 0 for an input and 1 for an await.
    pub(crate) edges: Vec<(u64, u64, u8)>,
    /// From the name, to the name, how many edges.
    pub(crate) links: Vec<(u32, u32, u64)>,
    /// Worker, start, end, name, number, 0 where the task went on later, 1 for a value, 2 for an error.
    pub(crate) bars: Vec<(u32, f64, f64, u32, u64, u8)>,
    /// Worker, what it's called, whether it's there, the number of its task or -1, since when.
    pub(crate) lanes: Vec<(u32, String, u8, i64, f64)>,
    /// Time, number, state, worker or -1.
    pub(crate) events: Vec<(f64, u64, u8, i64)>,
    pub(crate) missed: Missed,
    /// This is only a part, and the next is to come at once.
    pub(crate) more: bool,
}

/// Number, name, state, depth, attempt, worker or -1, whether its value is held, priority.
pub(crate) type TaskRow = (u64, u32, u8, u32, u32, i64, u8, i32);

/// What is not in the updates.
#[derive(Clone)]
pub(crate) struct Missed {
    /// Tasks that are only counted.
    pub(crate) tasks: u64,
    /// What happened to watched tasks and was dropped.
    pub(crate) moments: u64,
}

/// So many of the last events are told.
const EVENTS: usize = 500;

/// So many of the last failures.
const FAILURES: usize = 200;

/// So much of a key or an error is told, in characters.
const LONGEST: usize = 500;

serialize!(Missed, this: tasks = this.tasks, moments = this.moments);

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
    /// What has changed since the update with this cursor; 0 for everything.
    pub(crate) fn since(core: &Core, recorder: &Recorder, cursor: u64) -> Self {
        let alive: Vec<_> = core.workers.lock().iter().map(|worker| worker.number).collect();
        let counts = recorder.functions.counts();
        let record = &*recorder.record();
        // Of the tasks that were forgotten not all are known any more.
        let all = cursor == 0 || cursor < record.gone_before || cursor > record.revision;
        let cursor = if all { 0 } else { cursor };
        let began = nanos(recorder.since);
        let seconds = |at: u64| at.saturating_sub(began) as f64 / 1_000.0;
        let seconds = |at: u64| seconds(at).round() / 1e6;
        let stats = Stats::with(core, recorder, record, &counts);
        let mut update = Self {
            cursor: record.revision,
            all,
            t: seconds(nanos(core.now())),
            missed: Missed { tasks: record.left_out(stats.submitted), moments: record.dropped },
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
        // They're in the order of their last change, near enough that of the failures.
        let superfluous = update.failures.len().saturating_sub(FAILURES);
        update.failures.drain(..superfluous);
        let names = record.names.iter().enumerate().skip_while(|(_, (at, _))| *at <= cursor);
        update.names = names.map(|(place, (_, name))| (place as u32, name.to_string())).collect();
        if !all {
            let gone = record.gone.iter().rev().take_while(|(at, _)| *at > cursor);
            update.gone = gone.map(|(_, task)| *task).collect();
        }
        let links = record.links.iter().filter(|(_, link)| link.revision > cursor);
        update.links = links.map(|((from, to), link)| (*from, *to, link.count)).collect();
        let first = record.bars.partition_point(|bar| bar.revision <= cursor);
        let bars = record.bars.range(first..);
        update.bars = bars
            .map(|bar| {
                let (start, end) = (seconds(bar.start), seconds(bar.end));
                (bar.worker, start, end, bar.name, bar.task, bar.outcome as u8)
            })
            .collect();
        let workers = record.lanes.len().max(alive.iter().max().map_or(0, |most| most + 1));
        for number in 0..workers {
            let lane = record.lanes.get(number).copied().unwrap_or_default();
            let is_alive = u8::from(alive.contains(&number));
            let since = if lane.since == 0 { 0.0 } else { seconds(lane.since) };
            let name = format!("worker {number}");
            update.lanes.push((number as u32, name, is_alive, or_none(lane.task), since));
        }
        let first = record.events.partition_point(|event| event.revision <= cursor);
        let first = first.max(record.events.len().saturating_sub(EVENTS));
        let events = record.events.range(first..);
        update.events = events
            .map(|event| {
                let worker = or_none(event.worker.map(u64::from));
                (seconds(event.at), event.task, state(event.status), worker)
            })
            .collect();
        update
    }

    fn add_tasks(&mut self, record: &Record, cursor: u64, seconds: impl Fn(u64) -> f64) {
        let first = record.changes.partition_point(|(at, _)| *at <= cursor);
        for (at, number) in record.changes.range(first..) {
            let Some(entry) = record.tasks.get(number).filter(|entry| entry.revision == *at) else {
                continue;
            };
            let worker = or_none(entry.worker.map(u64::from));
            let state = state(entry.status);
            self.tasks.push((
                *number,
                entry.name,
                state,
                entry.depth,
                entry.attempt,
                worker,
                u8::from(entry.held),
                entry.priority,
            ));
            if !matches!(entry.label, Label::Number) {
                self.keys.push((*number, start_of(&entry.key(record.name(entry.name), *number))));
            }
            if let (Status::Failed, Some(error)) = (entry.status, &entry.error) {
                let at = entry.chapters.last().map_or(0.0, |chapter| seconds(chapter.at));
                self.failures.push((at, *number, start_of(error)));
            }
            for edge in entry.edges.iter().rev().take_while(|edge| edge.revision > cursor) {
                if record.tasks.contains_key(&edge.from) {
                    self.edges.push((edge.from, *number, u8::from(edge.kind == Kind::Awaited)));
                }
            }
        }
    }
}

/// As much of a text as is told.
fn start_of(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn or_none(number: Option<u64>) -> i64 {
    number.and_then(|number| i64::try_from(number).ok()).unwrap_or(-1)
}

/// A status as a number.
pub(crate) fn state(status: Status) -> u8 {
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

    fn update(client: &Client, cursor: u64) -> Value {
        let recorder = Recorder::start(client.core());
        serde_json::to_value(Update::since(client.core(), &recorder, cursor)).unwrap()
    }

    fn numbers(update: &Value, list: &str) -> Vec<u64> {
        let list = update[list].as_array().unwrap().iter();
        list.map(|entry| entry[0].as_u64().unwrap()).collect()
    }

    async fn inc(x: u64) -> u64 {
        x + 1
    }

    #[test]
    fn an_update_is_what_has_changed_since_the_one_before() {
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
    fn tasks_that_are_forgotten_are_told_to_be_gone() {
        let client = Client::builder().seed(1).observe().build();
        let few: Vec<_> = client.map(inc, 0..1_000);
        futures_lite::future::block_on(crate::gather(few)).unwrap();
        let first = update(&client, 0);
        let known = numbers(&first, "tasks");
        assert_eq!(known.len(), 1_000);
        let many = client.map(inc, 0..crate::observe::record::tables::TASKS as u64);
        futures_lite::future::block_on(crate::gather(many)).unwrap();
        let second = update(&client, first["cursor"].as_u64().unwrap());
        assert_eq!(second["all"], false);
        let gone: Vec<_> =
            second["gone"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        assert!(known.iter().all(|id| gone.contains(id)), "{} are gone", gone.len());
        assert!(numbers(&second, "tasks").len() <= crate::observe::record::tables::TASKS);
        // Who comes new gets all there is, and nothing that is gone.
        let all = update(&client, 0);
        assert_eq!((&all["all"], &all["gone"]), (&true.into(), &serde_json::json!([])));
        assert_eq!(numbers(&all, "tasks").len(), numbers(&second, "tasks").len());
        assert_eq!(all["missed"], serde_json::json!({"tasks": 0, "moments": 0}));
    }
}
