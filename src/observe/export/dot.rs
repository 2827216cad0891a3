//! Graphs in Graphviz's language.

use std::fmt::Write;

use super::svg;
use crate::observe::views::graph::{EdgeKind, Graph, GraphEdge};
use crate::observe::views::serial::FileLine;

impl Graph {
    /// Returns the graph in Graphviz's DOT language, coloured by status; `dot -Tsvg` draws it.
    ///
    /// Awaits are dashed, inputs are not.
    pub fn to_dot(&self) -> String {
        let mut dot = String::from(
            "digraph tasks {\n  rankdir=LR;\n  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];\n",
        );
        for task in &self.tasks {
            let (key, colour) = (quoted(&task.key), svg::colour(task.status));
            let (status, at) = (task.status, task.submitted_at.map(FileLine));
            let tooltip =
                quoted(&at.map_or_else(|| format!("{status}"), |at| format!("{status}, {at}")));
            // Writing to a string doesn't fail.
            let _ = writeln!(
                dot,
                "  t{} [label={key}, tooltip={tooltip}, fillcolor=\"{colour}\"];",
                task.id
            );
        }
        for GraphEdge { from, to, kind } in &self.edges {
            let style = if *kind == EdgeKind::Awaited { " [style=dashed]" } else { "" };
            let _ = writeln!(dot, "  t{from} -> t{to}{style};");
        }
        dot.push_str("}\n");
        dot
    }
}

/// Returns a text as a quoted string of the DOT language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
