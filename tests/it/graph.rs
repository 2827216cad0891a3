//! `Client::graph`: its tasks and edges, and the drawings (promise 23).

use std::future::pending;
use std::time::Instant;

use ensue::{Client, EdgeKind, Graph, GraphTask, Handle, Reason, Status, as_completed, gather};
use futures::StreamExt;
use futures::executor::block_on;
use support::hold::{Gate, turns};
use support::{bounded, eventually, run_what_is_ready};

async fn inc(x: u64) -> u64 {
    x + 1
}

async fn add(x: u64, y: u64) -> u64 {
    x + y
}

#[track_caller]
fn task<'g, T>(graph: &'g Graph, handle: &Handle<T>) -> &'g GraphTask {
    let key = handle.key();
    graph.tasks.iter().find(|task| task.key == key).expect("the task is in the graph")
}

/// The edges, by keys.
fn edges(graph: &Graph) -> Vec<(String, String, EdgeKind)> {
    let key = |id| {
        let task = graph.tasks.iter().find(|task| task.id == id);
        task.expect("an edge leads from and to tasks").key.to_string()
    };
    let mut edges: Vec<_> =
        graph.edges.iter().map(|edge| (key(edge.from), key(edge.to), edge.kind)).collect();
    edges.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    edges
}

fn edge<A, B>(from: &Handle<A>, to: &Handle<B>, kind: EdgeKind) -> (String, String, EdgeKind) {
    (from.key().to_string(), to.key().to_string(), kind)
}

#[test]
fn inputs_are_edges_even_if_they_had_ended_before() {
    bounded(|| {
        let client = Client::builder().workers(1).observe().build();
        let x = client.submit(inc, 1);
        x.result().unwrap();
        let y = client.submit(inc, &x);
        let z = client.submit(add, (&x, &y));
        assert_eq!(z.result().unwrap(), 5);
        block_on(client.idle());
        let graph = client.graph();
        assert_eq!(graph.omitted, 0);
        let input = EdgeKind::Taken;
        let mut wanted = vec![edge(&x, &y, input), edge(&x, &z, input), edge(&y, &z, input)];
        wanted.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        assert_eq!(edges(&graph), wanted);
        let depths = [&x, &y, &z].map(|handle| task(&graph, handle).depth);
        assert_eq!(depths, [0, 1, 2]);
        for handle in [&x, &y, &z] {
            let task = task(&graph, handle);
            assert_eq!((task.status, task.held, task.attempt), (Status::Finished, true, 1));
            assert_eq!(task.id.to_string(), handle.key().rsplit_once('-').unwrap().1);
        }
        assert_eq!(&*task(&graph, &z).name, "add");
        // A value without handles is not held any more.
        let key = x.key();
        drop((x, y));
        eventually("the value is gone", || {
            let graph = client.graph();
            graph.tasks.iter().any(|task| task.key == key && !task.held)
        });
    });
}

#[test]
fn awaits_inside_tasks_are_edges_too() {
    bounded(|| {
        let client = Client::builder().seed(1).observe().build();
        let gate = Gate::new();
        let gated: Vec<_> = (0..3)
            .map(|_| {
                let gate = gate.clone();
                client.spawn(async move { gate.pass().await })
            })
            .collect();
        let one = client.spawn({
            let first = gated[0].clone();
            async move { first.await.is_ok() }
        });
        let both = client.spawn({
            let rest = gated[1..].to_vec();
            async move { gather(rest).await.map(drop) }
        });
        let streamed = client.spawn({
            let first = gated[0].clone();
            async move { as_completed([first]).count().await }
        });
        let parent = client.spawn(async {
            let client = Client::current().unwrap();
            client.task().name("child").spawn(pending::<()>()).await
        });
        run_what_is_ready(&client);
        gate.open();
        run_what_is_ready(&client);
        assert!([one.is_finished(), both.is_finished()] == [true, true]);
        let graph = client.graph();
        let edges = edges(&graph);
        let awaited = EdgeKind::Awaited;
        for wanted in [
            edge(&gated[0], &one, awaited),
            edge(&gated[1], &both, awaited),
            edge(&gated[2], &both, awaited),
            edge(&gated[0], &streamed, awaited),
        ] {
            assert_eq!(edges.iter().filter(|edge| **edge == wanted).count(), 1, "{wanted:?}");
        }
        let child = graph.tasks.iter().find(|task| &*task.name == "child").unwrap();
        assert!(graph.edges.iter().any(|edge| edge.from == child.id
            && edge.to == task(&graph, &parent).id
            && edge.kind == awaited));
        assert_eq!(child.depth, task(&graph, &parent).depth + 1);
        assert_eq!(task(&graph, &parent).status, Status::Running);
    });
}

#[test]
fn blocking_work_that_waits_for_a_task_has_an_edge() {
    for observed in [false, true] {
        bounded(move || {
            let client = Client::builder().workers(1).build();
            if observed {
                client.observe();
            }
            let never = client.spawn(pending::<u64>());
            let (awaited, other) = (never.clone(), never.clone());
            let waits = client.submit_blocking(move || awaited.result().is_ok(), ());
            // The `block_on` of another crate is an await, too.
            let blocks = client.submit_blocking(move || block_on(other).is_ok(), ());
            let is_known = |waits: &Handle<bool>| {
                let reasons = client.explain(waits).reasons;
                reasons.iter().any(|reason| matches!(reason, Reason::Awaits { .. }))
            };
            eventually("both wait", || is_known(&waits) && is_known(&blocks));
            let edges = edges(&client.graph());
            for to in [&waits, &blocks] {
                let wanted = edge(&never, to, EdgeKind::Awaited);
                assert_eq!(edges.iter().filter(|edge| **edge == wanted).count(), 1, "{edges:?}");
            }
            never.cancel();
        });
    }
}

#[test]
fn the_first_graph_has_the_tasks_from_before() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let gate = Gate::new();
        let root = client.task().name("root").spawn({
            let gate = gate.clone();
            async move {
                gate.pass().await;
                1
            }
        });
        eventually("it is suspended", || client.explain(&root).reasons == [Reason::Suspended]);
        let keyed = client.task().key("mine").submit(inc, 1);
        keyed.result().unwrap();
        turns(&client);
        let next = client.submit(inc, &root);
        let last = client.submit(add, (&next, &keyed));
        let graph = client.graph();
        let statuses = [
            (task(&graph, &root).status, Status::Running),
            (task(&graph, &next).status, Status::Waiting),
            (task(&graph, &last).status, Status::Waiting),
            (task(&graph, &keyed).status, Status::Finished),
        ];
        for (is, wanted) in statuses {
            assert_eq!(is, wanted);
        }
        assert!(task(&graph, &keyed).held);
        let input = EdgeKind::Taken;
        let edges = edges(&graph);
        assert!(edges.contains(&edge(&root, &next, input)), "{edges:?}");
        assert!(edges.contains(&edge(&next, &last, input)), "{edges:?}");
        gate.open();
        assert_eq!(last.result().unwrap(), 4);
        block_on(client.idle());
        let graph = client.graph();
        assert!(graph.tasks.iter().all(|task| task.status == Status::Finished), "{graph:?}");
    });
}

#[test]
fn the_graph_has_keys_and_names_verbatim_and_the_drawings_escape_them() {
    bounded(|| {
        let client = Client::builder().workers(1).observe().build();
        let bad = "<b>\"a\\b\"&\n</b>";
        let keyed = client.task().key(bad).submit(inc, 1);
        let pure = client.submit_pure(inc, 7);
        let failed = client.task().name("<i>").try_submit(async || Err::<u64, _>("<error>"), ());
        let next = client.submit(inc, &keyed);
        for task in [&keyed, &pure, &next] {
            task.result().unwrap();
        }
        failed.result().unwrap_err();
        block_on(client.idle());
        let graph = client.graph();
        assert_eq!(task(&graph, &pure).key, pure.key());
        assert_eq!(task(&graph, &keyed).key, bad);
        assert!(task(&graph, &failed).error.as_deref().unwrap().ends_with("failed: <error>"));
        let svg = graph.to_svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("<b>") && !svg.contains("<i>"), "{svg}");
        assert!(svg.contains("&lt;b&gt;"));
        assert_eq!(svg.matches("<rect").count(), graph.tasks.len());
        assert_eq!(svg.matches("<path").count(), 1);
        let dot = graph.to_dot();
        assert!(dot.contains("\"<b>\\\"a\\\\b\\\"&\\n</b>\""), "{dot}");
        assert_eq!(dot.matches(" -> ").count(), 1);
        let data = serde_json::to_value(&graph).unwrap();
        assert_eq!(data["edges"][0]["kind"], "input");
        assert_eq!(data["tasks"].as_array().unwrap().len(), 4);
    });
}

#[test]
fn a_large_graph_is_drawn_by_function() {
    bounded(|| {
        let client = Client::builder().seed(1).observe().build();
        let ones = client.map(inc, 0..2_500);
        let sums: Vec<_> =
            ones.windows(2).map(|pair| client.submit(add, (&pair[0], &pair[1]))).collect();
        block_on(gather(&sums)).unwrap();
        let graph = client.graph();
        assert_eq!(graph.tasks.len(), 2_500 + 2_499);
        let svg = graph.to_svg();
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(svg.contains("inc (2500)") && svg.contains("4998 edges"), "{svg}");
    });
}

#[test]
fn a_burst_over_the_budget_is_counted_and_left_out() {
    const TASKS: u64 = 60_000;
    bounded(|| {
        let client = Client::builder().workers(2).observe().build();
        let started = Instant::now();
        let handles = client.map(inc, 0..TASKS);
        block_on(gather(&handles)).unwrap();
        block_on(client.idle());
        // What quiet times save up, and 2,000 for each tenth of a second: a slow machine may watch all of them.
        let most = 10_000 + 2_000 * (started.elapsed().as_millis() / 100 + 1);
        let (graph, stats) = (client.graph(), client.stats());
        assert_eq!((stats.submitted, stats.finished, stats.left), (TASKS, TASKS, 0));
        assert!(graph.tasks.len() as u128 <= most, "{} of at most {most}", graph.tasks.len());
        assert_eq!(graph.tasks.len() as u64 + graph.omitted, TASKS);
        // After a while tasks are watched again.
        eventually("a task is watched", || {
            let task = client.submit(inc, 1);
            task.result().unwrap();
            !client.timeline(&task).phases.is_empty()
        });
    });
}
