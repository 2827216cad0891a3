//! Tests of the dashboard's pages in headless Chromium. `./tests/run` runs them; plain `cargo test` doesn't,
//! because not every machine has a browser. Screenshots are saved in `target/dashboard`.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ensue::{Client, Status};
use futures::executor::block_on;
use serde_json::{Value, json};
use support::chromium::{Chromium, Tab};

/// The number of tasks that the tour submits.
const TASKS: u64 = 1546;

/// Returns the folder of this test's build profile, which is in the target folder.
fn profile() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    test.ancestors().nth(2).expect("the folder of the profile").to_owned()
}

/// Creates the folder for screenshots.
fn screenshots() -> PathBuf {
    let folder = profile().parent().expect("the target folder").join("dashboard");
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// The process of the tour, which keeps its dashboard running.
struct Tour {
    child: Child,
    link: String,
}

impl Tour {
    fn start() -> Self {
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--package",
            "ensue-examples",
            "--example",
            "tour",
            "--target-dir",
        ]);
        build.arg(profile().parent().expect("the target folder"));
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
        assert!(status.success(), "the tour builds");
        let mut child = Command::new(profile().join("examples").join("tour"))
            .args(["--hold", "600"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tour starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let link = lines
            .find_map(|line| Some(line.expect("a line").strip_prefix("watch it at ")?.to_owned()))
            .expect("a link");
        // The tour would block on a full pipe.
        thread::spawn(move || lines.for_each(drop));
        Self { child, link }
    }

    fn page(&self, name: &str) -> String {
        page(&self.link, name)
    }
}

impl Drop for Tour {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the link to a page, with the token.
fn page(link: &str, name: &str) -> String {
    link.replace("/#", &format!("/{name}#"))
}

fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

const NODES: &str = "document.querySelector('.graph canvas')?.dataset.nodes";

#[test]
fn the_pages_show_the_tour() {
    let chromium = Chromium::start(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let tour = Tour::start();
    let graph = chromium.open(&tour.page("graph"));

    // The graph grows while the tour runs, until it contains all tasks.
    let started = Instant::now();
    let mut seen = vec![0];
    while *seen.last().unwrap() < TASKS {
        let nodes = number(&graph.eval(NODES));
        assert!(nodes >= *seen.last().unwrap(), "{nodes} after {seen:?}");
        if nodes > *seen.last().unwrap() {
            seen.push(nodes);
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{seen:?}");
        thread::sleep(Duration::from_millis(20));
    }
    println!("nodes on the graph page: {seen:?}");
    assert!(seen.len() > 5, "{seen:?}");
    assert_eq!(seen.last(), Some(&TASKS));

    let status = chromium.open(&tour.link);
    status.until("document.querySelector('.stream canvas')?.dataset.lanes === '10'");
    let progress =
        "[...document.querySelectorAll('[role=progressbar]')].map((bar) => bar.ariaValueNow)";
    status.until(&format!("{progress}.length === 7"));
    assert_eq!(status.eval(progress), json!(vec!["100"; 7]));
    let failures = status.eval("document.querySelector('.failures').innerText");
    assert!(failures.as_str().unwrap().contains("1 can't be divided by 0"), "{failures}");

    keyboard(&graph);
    shoot_all(&status, &tour);
    report(&chromium, &tour);
    assert_eq!(graph.errors(), [Value::Null; 0]);
    assert_eq!(status.errors(), [Value::Null; 0]);
}

/// Checks that the graph page can be used with the keyboard.
fn keyboard(graph: &Tab<'_>) {
    graph.eval("document.body.focus()");
    let active = "document.activeElement.tagName";
    for _ in 0..40 {
        if graph.eval(active) == "CANVAS" {
            break;
        }
        graph.press("Tab");
    }
    assert_eq!(graph.eval(active), "CANVAS");
    graph.press("ArrowDown");
    graph.press("ArrowDown");
    graph.press("ArrowRight");
    graph.press("Enter");
    graph.until("!document.querySelector('aside.detail').hidden");
    graph.until("document.querySelectorAll('.timeline li').length > 1");
    let detail = graph.eval("document.querySelector('aside.detail').innerText");
    let detail = detail.as_str().unwrap();
    assert!(detail.contains("finished") && detail.contains("running"), "{detail}");
    graph.shoot(&screenshots().join("graph-detail.png"));
    graph.press("Escape");
    graph.until("document.querySelector('aside.detail').hidden");
    assert_eq!(graph.eval(active), "CANVAS");
    let outline = "getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(graph.eval(outline), "solid", "the focus is visible");
}

/// Takes screenshots of every page, and checks that each fits into the width.
fn shoot_all(tab: &Tab<'_>, tour: &Tour) {
    for name in ["", "graph", "tasks", "workers", "events"] {
        tab.go(&tour.page(name));
        tab.until("document.getElementById('link').classList.contains('live')");
        for (width, scheme) in [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")] {
            tab.look(width, 900, scheme);
            let name = if name.is_empty() { "status" } else { name };
            tab.shoot(&screenshots().join(format!("{name}-{width}-{scheme}.png")));
            let widest = tab.eval("document.documentElement.scrollWidth");
            assert!(widest.as_u64() <= Some(width.into()), "{name} at {width}: {widest}");
        }
        tab.look(1280, 900, "light");
    }
}

/// Checks that the report shows the same without a server.
fn report(chromium: &Chromium, tour: &Tour) {
    let tab = chromium.open(&tour.link);
    let text = tab.eval("fetch('report.html').then((answer) => answer.text())");
    let path = screenshots().join("report.html");
    fs::write(&path, text.as_str().expect("a report")).expect("a file");
    let report = chromium.open(&format!("file://{}#graph", path.display()));
    report.until(&format!("{NODES} === '{TASKS}'"));
    report.shoot(&screenshots().join("report.png"));
    report.eval("document.querySelector('#nav a').click()");
    report.until("document.querySelector('.stream canvas')?.dataset.lanes === '10'");
    assert_eq!(report.errors(), [Value::Null; 0]);
}

#[test]
fn tasks_are_cancelled_and_retried_and_markup_stays_text() {
    let client = Client::builder().workers(1).name("<i>buttons</i>").build();
    let dashboard = client.dashboard().bind("127.0.0.1:0").unwrap();
    let key = "<img src=x onerror=\"window.evil = 1\">";
    let nap =
        client.task().key(key).submit(async || ensue::sleep(Duration::from_secs(3600)).await, ());
    let tries = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let flaky = client.task().name("flaky").try_submit(
        async |tries: std::sync::Arc<std::sync::atomic::AtomicUsize>| {
            let before = tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if before == 0 { Err("<b>not yet</b>") } else { Ok(before) }
        },
        tries,
    );
    let chromium = Chromium::start(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let tab = chromium.open(&page(&dashboard.link(), "tasks"));
    // The token has left the address.
    assert!(!tab.eval("location.href").as_str().unwrap().contains("token"));
    let button = |verb: &str| {
        format!(
            "[...document.querySelectorAll('tbody button')].find((button) => button.textContent === '{verb}' && !button.hidden)"
        )
    };
    tab.until("document.querySelectorAll('tbody tr').length === 2");
    assert!(tab.eval("document.querySelector('tbody').innerText").as_str().unwrap().contains(key));
    tab.until(&button("Cancel"));
    tab.eval(&format!("{}.click()", button("Cancel")));
    assert!(nap.result().unwrap_err().is_cancelled());
    tab.until(&button("Retry"));
    // A cancelled task can't be retried.
    assert_eq!(tab.eval(&format!("{}.ariaLabel", button("Retry"))), "Retry flaky-2");
    tab.eval(&format!("{}.click()", button("Retry")));
    let started = Instant::now();
    while flaky.status() != Status::Finished {
        assert!(started.elapsed() < Duration::from_secs(60), "{flaky:?}");
        thread::sleep(Duration::from_millis(5));
    }
    tab.until("document.querySelector('tbody').innerText.includes('finished')");
    for name in ["", "graph", "events"] {
        tab.go(&page(&dashboard.link(), name));
        tab.until("document.getElementById('client').textContent === '<i>buttons</i>'");
        assert_eq!(tab.eval("document.querySelectorAll('img, i i, b b').length"), 0);
    }
    assert_eq!(tab.eval("typeof window.evil"), "undefined");
}

#[test]
fn a_lost_connection_is_shown_and_restored() {
    let client = Client::builder().workers(1).build();
    let dashboard = client.dashboard().bind("127.0.0.1:0").unwrap();
    let address = dashboard.address();
    let chromium = Chromium::start(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let tab = chromium.open(&dashboard.link());
    let lost = "!document.getElementById('notice').hidden";
    tab.until("document.getElementById('link').classList.contains('live')");
    assert_eq!(tab.eval(lost), false);
    dashboard.stop();
    tab.until(lost);
    assert!(
        tab.eval("document.getElementById('notice').innerText").as_str().unwrap().contains("lost")
    );
    let _again = client.dashboard().bind(address).unwrap();
    tab.until(&format!("!({lost})"));
    client.submit(async || (), ()).result().unwrap();
    tab.until("document.querySelector('[data-figure=finished] b').textContent === '1'");
}

/// Returns the resident memory of this process in bytes.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[test]
fn a_million_tasks_leave_the_page_responsive() {
    let client = Client::builder().workers(2).build();
    let dashboard = client.dashboard().bind("127.0.0.1:0").unwrap();
    let chromium = Chromium::start(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let tab = chromium.open(&page(&dashboard.link(), "graph"));
    tab.until("document.getElementById('link').classList.contains('live')");
    tab.eval(
        "window.gaps = []; let last = performance.now();
         (function frame() {
           const now = performance.now();
           gaps.push(now - last);
           last = now;
           requestAnimationFrame(frame);
         })()",
    );
    let before = memory();
    let started = Instant::now();
    let mut kept = Vec::new();
    for round in 0..200_u64 {
        let xs = client.task().name("read").map(async |x: u64| x, 0..1_250);
        let ys = client.task().name("parse").map(async |x: u64| x + 1, &xs);
        let zs = client.task().name("score").map(async |x: u64, y: u64| x ^ y, xs.iter().zip(&ys));
        let totals = client.task().name("merge").map(async |x: u64, _: u64| x, zs.iter().zip(&xs));
        let totals = block_on(ensue::gather(totals)).unwrap();
        assert_eq!(totals.len(), 1_250);
        // Some results stay referenced, as in a real program.
        if round % 10 == 0 {
            kept.extend(zs);
        }
        // The pauses make this a long run instead of a short burst.
        thread::sleep(Duration::from_millis(50));
    }
    let ran = started.elapsed();
    tab.until("document.querySelector('.graph canvas').dataset.by === 'function'");
    tab.until(&format!("{NODES} === '4'"));
    let gaps = tab.eval(
        "({ frames: gaps.length, longest: Math.max(...gaps), slow: gaps.filter((gap) => gap > 100).length,
            mean: gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length })",
    );
    let drawn = tab.eval("import('./frames.js').then((module) => module.drawn)");
    let heap = tab.call("Runtime.getHeapUsage", json!({}))["usedSize"].clone();
    let grown = memory().saturating_sub(before);
    println!(
        "a million tasks in {ran:?}: frames {gaps}, drawing {drawn}, heap {heap} bytes, server and engine {grown} bytes"
    );
    assert!(gaps["longest"].as_f64() < Some(1_000.0), "{gaps}");
    assert!(gaps["mean"].as_f64() < Some(100.0), "{gaps}");
    assert!(heap.as_u64() < Some(400 << 20), "{heap}");
    assert!(grown < 600 << 20, "{grown}");
    tab.until("document.querySelector('.legend').innerText.includes('1.0M')");
    tab.shoot(&screenshots().join("million.png"));
    assert_eq!(tab.errors(), [Value::Null; 0]);
}

/// Checks that tasks keep their place in the graph.
#[test]
fn new_tasks_move_no_others() {
    let client = Client::builder().workers(0).build();
    let dashboard = client.dashboard().bind("127.0.0.1:0").unwrap();
    let chromium = Chromium::start(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let tab = chromium.open(&page(&dashboard.link(), "graph"));
    let moved = tab.eval(
        "import('./layout.js').then(({ Layout }) => {
           const layout = new Layout();
           const before = new Map();
           const moved = [];
           for (let id = 0; id < 1000; id++) {
             const inputs = id < 10 ? [] : [{ id: (id * 7) % id }, { id: (id * 13) % id }];
             const depth = id < 10 ? 0 : 1 + Math.max(...inputs.map((edge) => before.get(edge.id).column));
             layout.add({ id, depth, inputs });
             before.set(id, { ...layout.places.get(id) });
             if (id % 5 === 4) layout.remove(id - 2);
           }
           const taken = new Set();
           for (const [id, place] of layout.places) {
             const was = before.get(id);
             if (was.column !== place.column || was.row !== place.row) moved.push(id);
             taken.add(place.column + ':' + place.row);
           }
           return { moved, overlap: layout.places.size - taken.size };
         })",
    );
    assert_eq!(moved, json!({ "moved": [], "overlap": 0 }));
}
