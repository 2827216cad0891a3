//! A client's metrics in the text format of Prometheus.

use std::fmt::{Display, Write};
use std::time::Duration;

use super::source::Source;
use crate::observe::stats::FunctionStats;

pub(super) fn text(source: &Source) -> String {
    let stats = source.stats();
    let mut text = Exposition { text: String::new(), client: label(source.client()) };
    text.family("ensue_workers", "gauge", "Workers.").row(&[], stats.workers);
    text.family("ensue_workers_busy", "gauge", "Workers that aren't idle.").row(&[], stats.busy);
    text.family("ensue_tasks_in_memory", "gauge", "Tasks in memory, whether ended or not.")
        .row(&[], stats.tasks_in_memory);
    let functions = &stats.functions;
    let mut counter = |name, help, of: fn(&FunctionStats) -> u64| {
        let mut family = text.family(name, "counter", help);
        functions.iter().for_each(|each| family.row(&[("function", &each.name)], of(each)));
    };
    counter("ensue_tasks_submitted_total", "Submitted tasks.", |each| each.submitted);
    counter("ensue_tasks_finished_total", "Finished tasks.", |each| each.finished);
    counter("ensue_tasks_failed_total", "Failed tasks.", |each| each.failed);
    counter("ensue_tasks_cancelled_total", "Cancelled tasks.", |each| each.cancelled);
    counter("ensue_polls_total", "Polls of recorded tasks.", |each| each.polls);
    let mut family =
        text.family("ensue_run_seconds_total", "counter", "Time spent polling recorded tasks.");
    for each in functions {
        family.row(&[("function", &each.name)], Seconds(each.run_time));
    }
    let mut family = text.family("ensue_tasks", "gauge", "Recorded tasks that haven't ended.");
    for each in functions {
        let states = [
            ("waiting", each.waiting),
            ("ready", each.ready),
            ("running", each.running),
            ("delayed", each.delayed),
        ];
        for (state, tasks) in states {
            family.row(&[("function", &each.name), ("state", state)], tasks);
        }
    }
    let limits = stats.limits_for_metrics();
    let mut limit = |name, help, at: usize| {
        let mut family = text.family(name, "gauge", help);
        limits.iter().for_each(|(label, numbers)| family.row(&[("limit", label)], numbers[at]));
    };
    limit("ensue_limit", "The capacity of a limit.", 0);
    limit("ensue_limit_used", "The used part of a limit.", 1);
    limit("ensue_limit_waiting", "Tasks waiting for a limit.", 2);
    let rates = stats.rates_for_metrics();
    let mut rate = |name, help, at: usize| {
        let mut family = text.family(name, "gauge", help);
        rates.iter().for_each(|(label, numbers)| family.row(&[("rate", label)], numbers[at]));
    };
    rate("ensue_rate_available", "Starts that a rate allows now.", 0);
    rate("ensue_rate_waiting", "Tasks waiting for a rate.", 1);
    text.text
}

struct Exposition {
    text: String,
    /// The escaped name of the client.
    client: String,
}

impl Exposition {
    fn family<'a>(&'a mut self, name: &'static str, kind: &str, help: &str) -> Family<'a> {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { text: self, name }
    }
}

/// The rows of one metric.
struct Family<'a> {
    text: &'a mut Exposition,
    name: &'static str,
}

impl Family<'_> {
    fn row(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let Exposition { text, client } = &mut *self.text;
        let _ = write!(text, "{}{{client=\"{client}\"", self.name);
        for (name, value) in labels {
            let _ = write!(text, ",{name}=\"{}\"", label(value));
        }
        let _ = writeln!(text, "}} {value}");
    }
}

struct Seconds(Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.6}", self.0.as_secs_f64())
    }
}

/// Escapes a label value.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(label("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }

    #[test]
    fn every_row_belongs_to_a_family() {
        let client = crate::Client::builder().name("a\"b").limit("db", 2).seed(1).build();
        client.set_rate("api", crate::Rate::new(1, std::time::Duration::from_secs(1)).burst(3));
        client.observe();
        client.task().name("evil\"\n").submit(async || (), ()).result().unwrap();
        let text = super::text(&Source::of(client.core()));
        let mut family = "";
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                family = kind.split(' ').next().unwrap_or_default();
            } else if !line.starts_with('#') {
                assert!(line.starts_with(&format!("{family}{{client=\"a\\\"b\"")), "{line}");
                let value = line.rsplit(' ').next().expect("a value");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        let row = "ensue_tasks_finished_total{client=\"a\\\"b\",function=\"evil\\\"\\n\"} 1\n";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("ensue_limit{client=\"a\\\"b\",limit=\"db\"} 2\n"), "{text}");
        let rate = "ensue_rate_available{client=\"a\\\"b\",rate=\"api\"} 3\n";
        assert!(text.contains(rate), "{text}");
    }
}
