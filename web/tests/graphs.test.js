import "./support/browser.js";

import assert from "node:assert/strict";
import test from "node:test";

import { MOST_TASKS, TaskGraph } from "../../src/dashboard/assets/taskgraph.js";
import { counts, stats, taskRow } from "./support/record.js";
import { FunctionGraph } from "../../src/dashboard/assets/functiongraph.js";
import { store } from "../../src/dashboard/assets/store.js";

function load(update) {
  store.apply({ t: 0, all: true, names: [[0, "inc"], [1, "add"], [2, "sum"]], ...update });
}

test("arrow keys move along edges and columns", () => {
  load({
    tasks: [taskRow(1), taskRow(2), taskRow(3, { depth: 1 }), taskRow(4, { depth: 1, state: 4 })],
    edges: [[1, 3, 0], [2, 4, 0], [1, 4, 0]],
  });
  const graph = new TaskGraph();
  graph.rebuild(() => true);
  assert.equal(graph.step(null, "ArrowDown"), 1);
  assert.equal(graph.step(1, "ArrowRight"), 3);
  assert.equal(graph.step(4, "ArrowLeft"), 2);
  assert.equal(graph.step(1, "ArrowDown"), 2);
  assert.equal(graph.step(2, "ArrowDown"), null);
  assert.equal(graph.step(1, "ArrowLeft"), null);
  assert.equal(graph.describe(4), "inc-4: finished, released");
  assert.deepEqual(graph.counts(), [3, 0, 0, 0, 1, 0, 0]);
});

test("only shown tasks are in the graph", () => {
  load({ tasks: [taskRow(1), taskRow(2, { state: 4 })] });
  const graph = new TaskGraph();
  graph.rebuild((task) => task.state !== 4);
  assert.deepEqual([...graph.layout.places.keys()], [1]);
  store.apply({ t: 1, tasks: [taskRow(1, { state: 4 }), taskRow(3)] });
  graph.update({ reset: false, tasks: [1, 3], gone: [] });
  assert.deepEqual([...graph.layout.places.keys()], [3]);
});

test("too many tasks aren't placed", () => {
  const ids = Array.from({ length: MOST_TASKS + 1 }, (_, id) => id);
  load({ tasks: ids.map((id) => taskRow(id)) });
  const graph = new TaskGraph();
  graph.rebuild(() => true);
  assert.deepEqual([graph.fits, graph.layout.places.size], [false, 0]);
  store.apply({ t: 1, gone: [0] });
  graph.update({ reset: false, tasks: [], gone: [0] });
  assert.deepEqual([graph.fits, graph.layout.places.size], [true, MOST_TASKS]);
});

test("functions are placed after their inputs, and keep their place", () => {
  const one = (name, given) => ({ ...counts(given), name, submitted: 2, run_time: 1 });
  load({ stats: stats({ functions: [one("inc"), one("add", { finished: 2 })] }), links: [[0, 1, 2]] });
  const graph = new FunctionGraph();
  graph.update();
  assert.deepEqual([...graph.places], [[0, { column: 0, row: 0 }], [1, { column: 1, row: 0 }]]);
  store.apply({ t: 1, stats: stats({ functions: [one("inc"), one("add"), one("sum")] }) });
  graph.update();
  assert.deepEqual(graph.places.get(2), { column: 0, row: 1 });
  assert.equal(graph.step(null, "ArrowUp"), 0);
  assert.equal(graph.step(0, "ArrowRight"), 1);
  assert.equal(graph.step(0, "ArrowDown"), 2);
  assert.equal(graph.step(1, "ArrowRight"), null);
  assert.equal(graph.at(graph.camera.toX(230), graph.camera.toY(0)), 1);
});

test("functions are described and counted by state", () => {
  load({ stats: stats({ functions: [{ ...counts({ finished: 3, failed: 1 }), name: "inc", submitted: 4, run_time: 1 }] }) });
  const graph = new FunctionGraph();
  graph.update();
  assert.equal(graph.describe(0), "inc: 4 tasks, 3 finished, 1 failed");
  assert.deepEqual(graph.counts(), [0, 0, 0, 0, 3, 1, 0]);
});
