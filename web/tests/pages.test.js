import { FakeNode, runFrames } from "./support/browser.js";

import assert from "node:assert/strict";
import test from "node:test";

import { counts, stats, taskRow } from "./support/record.js";
import { EventsPage } from "../../src/dashboard/assets/events.js";
import { GraphPage } from "../../src/dashboard/assets/graph.js";
import { StatusPage } from "../../src/dashboard/assets/status.js";
import { TasksPage } from "../../src/dashboard/assets/tasks.js";
import { WorkersPage } from "../../src/dashboard/assets/workers.js";
import { detail } from "../../src/dashboard/assets/detail.js";
import { mostRelevant } from "../../src/dashboard/assets/progress.js";
import { store } from "../../src/dashboard/assets/store.js";

const FAILED = 5;

function load(update) {
  store.apply({ t: 0, all: true, names: [[0, "inc"], [1, "add"]], ...update });
}

const rowTexts = (root) => root.all("tbody")[0].childNodes.map((row) => row.textContent);

test("the events page shows, filters and pauses events", () => {
  load({ tasks: [taskRow(1)], events: [[0, 1, 0, -1], [1.5, 1, 2, 3]] });
  const root = new FakeNode("main");
  const page = new EventsPage(root);
  runFrames();
  assert.deepEqual(rowTexts(root), ["0:01.5000runningworker 3inc-1", "0:00.0000waitinginc-1"]);

  page.state.value = "2";
  page.state.dispatchEvent(new Event("change"));
  runFrames();
  assert.equal(rowTexts(root).length, 1);
  page.state.value = "";

  page.pause.click();
  store.apply({ t: 2, events: [[2, 1, 4, 3]] });
  runFrames();
  assert.equal(rowTexts(root).length, 2);
  page.pause.click();
  runFrames();
  assert.equal(rowTexts(root).length, 3);
  assert.equal(page.note.textContent, "latest 3");
  page.close();
});

test("a closed page neither listens nor draws", () => {
  const { size } = store.listeners;
  const page = new EventsPage(new FakeNode("main"));
  assert.equal(store.listeners.size, size + 1);
  page.close();
  assert.equal(store.listeners.size, size);
  page.draw = () => assert.fail("it drew");
  runFrames();
});

test("the tasks page starts with the filters of the address", () => {
  load({ tasks: [taskRow(1), taskRow(2, { name: 1, state: FAILED }), taskRow(3, { name: 1 })] });
  const root = new FakeNode("main");
  const page = new TasksPage(root, { query: new URLSearchParams("state=failed&name=add") });
  runFrames();
  assert.deepEqual(rowTexts(root).map((text) => text.slice(0, 5)), ["add-2"]);
  assert.equal(page.note.textContent, "1 of 1");
  page.close();
});

test("rows under the pointer stay", () => {
  load({ tasks: [taskRow(1)] });
  const root = new FakeNode("main");
  const page = new TasksPage(root, { query: new URLSearchParams() });
  runFrames();
  const body = root.all("tbody")[0];
  body.dispatchEvent(new Event("pointerenter"));
  store.apply({ t: 1, tasks: [taskRow(2)] });
  page.painter.now();
  runFrames();
  assert.equal(rowTexts(root).length, 1);
  body.dispatchEvent(new Event("pointerleave"));
  runFrames();
  assert.equal(rowTexts(root).length, 2);
  page.close();
});

test("the drawer shows details, follows the state, and gives the focus back", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  load({ tasks: [taskRow(1), taskRow(2, { depth: 1 })], edges: [[1, 2, 0]] });
  globalThis.fetch = async () => Response.json({
    key: "inc-2",
    status: "waiting",
    error: null,
    explain: { text: "`inc-2` waits for `inc-1`" },
    timeline: { phases: [{ status: "waiting", at: 0, lasted: 1.5 }, { status: "ready", at: 1.5, lasted: null }] },
  });
  const opener = new FakeNode("button");
  opener.focus();
  const shown = [];
  const unwatch = detail.watch((id) => shown.push(id));
  detail.show(2);
  await new Promise((done) => { setImmediate(done); });
  const text = detail.node.textContent;
  for (const part of ["inc-2", "Why the task is unfinished`inc-2` waits for `inc-1`", "Timeline, from 0:00.000", "1.50 s", "Inputs: 1", "inc-1"]) {
    assert.ok(text.includes(part), `${part} in ${text}`);
  }
  store.apply({ t: 1, tasks: [taskRow(2, { state: FAILED, depth: 1 })] });
  detail.refresh();
  assert.equal(detail.state.state, FAILED);
  detail.close();
  assert.equal(globalThis.document.activeElement, opener);
  assert.deepEqual(shown, [2, null]);
  unwatch();
});

test("functions with unfinished tasks come first if there are too many", () => {
  const functions = ["a", "b", "c"].map((name, i) => ({ ...counts({ finished: i === 2 ? 0 : 1 }), name, submitted: 1, run_time: 0 }));
  assert.deepEqual(mostRelevant(functions, 3), functions);
  assert.deepEqual(mostRelevant(functions, 2).map(({ name }) => name), ["c", "a"]);
  assert.equal(mostRelevant(stats().functions, 1).length, 0);
});

/** A run with two workers: one task has failed, one is running, and one is ready. */
function loadRun() {
  load({
    t: 10,
    tasks: [taskRow(1, { state: FAILED }), taskRow(2, { state: 2, worker: 1 }), taskRow(3, { name: 1, state: 1, depth: 1 })],
    edges: [[2, 3, 0]],
    links: [[0, 1, 1]],
    lanes: [[0, "worker 0", 1, -1, 0], [1, "worker 1", 1, 2, 9]],
    bars: [[0, 1, 4, 0, 1, 2], [1, 2, 2.004, 0, 2, 0]],
    failures: [[4, 1, "task `inc-1` failed: no"]],
    stats: stats({
      workers: 2, busy: 1, running: 1, ready: 1, failed: 1, tasks_in_memory: 12_345,
      functions: [
        { ...counts({ failed: 1, running: 1 }), name: "inc", submitted: 2, run_time: 3 },
        { ...counts({ ready: 1 }), name: "add", submitted: 1, run_time: 0 },
      ],
      limits: [{ name: "db", of: 2, used: 2, waiting: 1 }, { name: "lifted", of: 2 ** 64, used: 3, waiting: 0 }],
      rates: [
        { name: "api", n: 10, per: 1, burst: 4, available: 0, next: 0.08, waiting: 7 },
        { name: "mail", n: 0, per: 60, burst: 1, available: 0, next: null, waiting: 2 },
      ],
    }),
  });
}

test("the status page shows counts, the stream, progress, failures, workers, limits and rates", () => {
  loadRun();
  const root = new FakeNode("main");
  const visited = [];
  const page = new StatusPage(root, { navigate: (...target) => visited.push(target) });
  runFrames();
  const [figures, stream, columns] = root.childNodes.map((node) => node.textContent);
  for (const part of ["1 / 2workers busy", "1running", "12.3kin memory"]) assert.ok(figures.includes(part), `${part} in ${figures}`);
  assert.ok(stream.includes("2 workers, 2 polls"), stream);
  for (const part of ["1 of 3 done", "1 / 21 failed", "task `inc-1` failed: no", "2 / 21 waiting", "3 / ∞", "10 / 1.00 s7 waiting, next in 80.0 ms", "0 / 60.0 s2 waiting, paused", "worker 110 %inc-2"]) {
    assert.ok(columns.includes(part), `${part} in ${columns}`);
  }
  assert.ok(root.all("canvas").every((canvas) => canvas.getContext().rectangles > 0));
  root.all("button").find((button) => button.textContent === "add").click();
  assert.deepEqual(visited, [["tasks", { name: "add" }]]);
  page.close();
});

const key = (name) => Object.assign(new Event("keydown"), { key: name });

test("keys choose bars of the task stream", () => {
  loadRun();
  const root = new FakeNode("main");
  const page = new StatusPage(root, { navigate: () => {} });
  runFrames();
  const { stream } = page;
  stream.canvas.dispatchEvent(key("ArrowLeft"));
  assert.equal(stream.announcement.textContent, "inc-1: 3.00 s at 0:01.000, failed, worker 0");
  stream.canvas.dispatchEvent(key("ArrowDown"));
  assert.equal(stream.announcement.textContent, "inc-2: 4.0 ms at 0:02.000, pending, worker 1");
  stream.canvas.dispatchEvent(key("+"));
  assert.ok(stream.end !== null);
  stream.canvas.dispatchEvent(key("f"));
  assert.equal(stream.end, null);
  page.close();
});

test("the pointer finds bars of the task stream", () => {
  loadRun();
  const page = new StatusPage(new FakeNode("main"), { navigate: () => {} });
  runFrames();
  const { stream } = page;
  assert.equal(stream.find({ x: stream.x(2), y: 5 }).bar.id, 1);
  assert.equal(stream.find({ x: stream.x(6), y: 5 }), null);
  assert.equal(stream.find({ x: 3, y: 5 }), null);
  const move = (type, x) => stream.canvas.dispatchEvent(Object.assign(new Event(type), { clientX: x, clientY: 5, pointerId: 1 }));
  move("pointermove", stream.x(2));
  assert.equal(stream.tip.textContent, "inc-1: 3.00 s at 0:01.000, failed, worker 0");
  move("pointerdown", 300);
  move("pointermove", 250);
  assert.ok(stream.end > 10, String(stream.end));
  page.close();
});

test("the workers page shows tasks and load", () => {
  loadRun();
  const root = new FakeNode("main");
  const page = new WorkersPage(root);
  runFrames();
  assert.deepEqual(rowTexts(root), ["worker 0idlea task30 %13.00 s", "worker 1busyinc-21.00 s10 %14.0 ms"]);
  store.apply({ t: 11, lanes: [[0, "worker 0", 0, -1, 0]] });
  page.painter.now();
  runFrames();
  assert.equal(page.note.textContent, "1 alive, 1 stopped");
  page.close();
});

test("the graph page counts, filters and chooses tasks", () => {
  loadRun();
  const root = new FakeNode("main");
  const page = new GraphPage(root, { navigate: () => {} });
  runFrames();
  assert.equal(page.note.textContent, "3 tasks");
  assert.equal(page.canvas.dataset.nodes, "3");
  page.canvas.dispatchEvent(key("ArrowDown"));
  assert.equal(page.announcement.textContent, "inc-1: failed");
  page.canvas.dispatchEvent(key("ArrowDown"));
  page.canvas.dispatchEvent(key("ArrowRight"));
  assert.equal(page.announcement.textContent, "add-3: ready");
  page.hideButton.click();
  runFrames();
  assert.equal(page.note.textContent, "2 tasks");
  page.close();
});

test("the graph of functions is shown on request", () => {
  loadRun();
  const root = new FakeNode("main");
  const visited = [];
  const page = new GraphPage(root, { navigate: (...target) => visited.push(target) });
  root.all("button").find((button) => button.textContent === "Functions").click();
  runFrames();
  assert.deepEqual([page.note.textContent, page.canvas.dataset.by], ["2 functions", "function"]);
  assert.ok(page.canvas.getContext().texts.includes("inc"));
  page.canvas.dispatchEvent(key("ArrowRight"));
  page.canvas.dispatchEvent(key("ArrowRight"));
  page.canvas.dispatchEvent(key("Enter"));
  assert.deepEqual(visited, [["tasks", { name: "add" }]]);
  page.close();
});
