//! Graphs as SVG drawings: one column for each depth, one row for each task or function.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use crate::Status;
use crate::observe::views::graph::{EdgeKind, Graph, GraphTask};
use crate::observe::views::serial::FileLine;

/// The maximum number of tasks with a box each. Browsers become slow beyond that, and readers even more so.
const TASKS: usize = 2_000;

/// The size of a box, the distances between the left and between the upper sides of two boxes, and the margin around the
/// drawing, all in pixels.
const WIDTH: usize = 150;
const HEIGHT: usize = 26;
const ACROSS: usize = 210;
const DOWN: usize = 36;
const MARGIN: usize = 16;

/// The number of characters of a label that fit into its box.
const SHOWN: usize = 20;

struct NodeBox {
    label: String,
    title: String,
    depth: usize,
    colour: &'static str,
}

/// The tasks of one function, counted by status.
struct FunctionTasks<'a> {
    name: &'a str,
    depth: usize,
    counts: BTreeMap<String, (usize, Status)>,
}

struct Arrow {
    from: usize,
    to: usize,
    count: u64,
    kind: EdgeKind,
}

/// Returns the fill colour of a status: light, since the label on it is dark.
pub(super) fn colour(status: Status) -> &'static str {
    match status {
        Status::Waiting => "#d0d5dd",
        Status::Ready => "#fde68a",
        Status::Running => "#7dd3a8",
        Status::Delayed => "#f9c08b",
        Status::Finished => "#8fb8f0",
        Status::Failed => "#f29a9a",
        Status::Cancelled => "#c9b3e6",
    }
}

impl Graph {
    /// Returns the graph as an SVG drawing, laid out by depth and coloured by status.
    ///
    /// Awaits are dashed. A graph of more than 2,000 tasks has one box for each function instead, with the numbers of its
    /// tasks and edges.
    pub fn to_svg(&self) -> String {
        let (nodes, lines) =
            if self.tasks.len() > TASKS { by_function(self) } else { by_task(self) };
        let corners = lay_out(&nodes);
        let most = |of: fn(&(usize, usize)) -> usize| corners.iter().map(of).max().unwrap_or(0);
        let width = most(|(x, _)| *x) + WIDTH + MARGIN;
        let height = most(|(_, y)| *y) + HEIGHT + MARGIN;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <g fill=\"none\" stroke=\"#7a8699\">\n"
        );
        // Writing to a string doesn't fail.
        for Arrow { from, to, count, kind } in &lines {
            let ((x1, y1), (x2, y2)) = (corners[*from], corners[*to]);
            let (x1, y1, y2) = (x1 + WIDTH, y1 + HEIGHT / 2, y2 + HEIGHT / 2);
            let middle = (x1 + x2) / 2;
            let dashes = if *kind == EdgeKind::Awaited { " stroke-dasharray=\"4 3\"" } else { "" };
            let _ =
                write!(svg, "<path d=\"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}\"{dashes}");
            let _ = match count {
                1 => writeln!(svg, "/>"),
                n => writeln!(svg, "><title>{n} edges</title></path>"),
            };
        }
        svg.push_str("</g>\n");
        for (node, (x, y)) in nodes.iter().zip(&corners) {
            let NodeBox { label, title, colour, .. } = node;
            let (label, title) = (escaped(&shortened(label)), escaped(title));
            let (text_x, text_y) = (x + 8, y + 17);
            let _ = writeln!(
                svg,
                "<g><title>{title}</title><rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" rx=\"6\" fill=\"{colour}\"/>\
             <text x=\"{text_x}\" y=\"{text_y}\" fill=\"#1f2733\">{label}</text></g>"
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// Returns a box for each task and a line for each edge.
fn by_task(graph: &Graph) -> (Vec<NodeBox>, Vec<Arrow>) {
    let at: HashMap<_, _> =
        graph.tasks.iter().enumerate().map(|(at, task)| (task.id, at)).collect();
    let node = |task: &GraphTask| NodeBox {
        label: task.key.to_string(),
        title: match task.submitted_at.map(FileLine) {
            Some(at) => format!("{}: {}, {at}", task.key, task.status),
            None => format!("{}: {}", task.key, task.status),
        },
        depth: task.depth as usize,
        colour: colour(task.status),
    };
    let nodes = graph.tasks.iter().map(node).collect();
    let line = |edge: &crate::observe::views::graph::GraphEdge| {
        let (from, to) = (*at.get(&edge.from)?, *at.get(&edge.to)?);
        Some(Arrow { from, to, count: 1, kind: edge.kind })
    };
    (nodes, graph.edges.iter().filter_map(line).collect())
}

/// Returns a box for each function, and a line for all edges of one kind between two functions.
fn by_function(graph: &Graph) -> (Vec<NodeBox>, Vec<Arrow>) {
    let mut at = HashMap::new();
    let mut functions: Vec<FunctionTasks<'_>> = Vec::new();
    let mut of_task = HashMap::new();
    for task in &graph.tasks {
        let index = *at.entry(&*task.name).or_insert_with(|| {
            let (name, depth) = (&*task.name, task.depth as usize);
            functions.push(FunctionTasks { name, depth, counts: BTreeMap::new() });
            functions.len() - 1
        });
        let FunctionTasks { depth, counts, .. } = &mut functions[index];
        *depth = (*depth).min(task.depth as usize);
        counts.entry(task.status.to_string()).or_insert((0, task.status)).0 += 1;
        of_task.insert(task.id, index);
    }
    let mut lines = BTreeMap::new();
    for edge in &graph.edges {
        if let (Some(from), Some(to)) = (of_task.get(&edge.from), of_task.get(&edge.to)) {
            let is_awaited = edge.kind == EdgeKind::Awaited;
            *lines.entry((*from, *to, is_awaited)).or_insert(0) += 1;
        }
    }
    let node = |FunctionTasks { name, depth, counts }: FunctionTasks<'_>| {
        let all: usize = counts.values().map(|(count, _)| count).sum();
        let parts: Vec<_> =
            counts.iter().map(|(status, (count, _))| format!("{count} {status}")).collect();
        let most = counts.values().max_by_key(|(count, _)| count);
        NodeBox {
            label: format!("{name} ({all})"),
            title: format!("{name}: {}", parts.join(", ")),
            depth,
            colour: most.map_or("#d0d5dd", |(_, status)| colour(*status)),
        }
    };
    let line = |((from, to, is_awaited), count): ((usize, usize, bool), u64)| {
        let kind = if is_awaited { EdgeKind::Awaited } else { EdgeKind::Taken };
        Arrow { from, to, count, kind }
    };
    (functions.into_iter().map(node).collect(), lines.into_iter().map(line).collect())
}

/// Returns the upper left corners of the boxes: a column for each depth that occurs, and a row for each box in it.
fn lay_out(nodes: &[NodeBox]) -> Vec<(usize, usize)> {
    let mut depths: Vec<_> = nodes.iter().map(|node| node.depth).collect();
    depths.sort_unstable();
    depths.dedup();
    let mut rows = vec![0; depths.len()];
    let corner = |node: &NodeBox| {
        let column = depths.binary_search(&node.depth).unwrap_or_default();
        let row = rows[column];
        rows[column] += 1;
        (MARGIN + column * ACROSS, MARGIN + row * DOWN)
    };
    nodes.iter().map(corner).collect()
}

/// Returns the first characters of a label, with an ellipsis if there are more.
fn shortened(label: &str) -> String {
    let mut characters = label.chars();
    let start: String = characters.by_ref().take(SHOWN).collect();
    if characters.next().is_none() { start } else { format!("{start}\u{2026}") }
}

/// Returns a text escaped for XML. Control characters can't be escaped there and are replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
