import { FakeNode, runFrames } from "./support/browser.js";

import assert from "node:assert/strict";
import test from "node:test";

import { counts, stats, taskRow } from "./support/record.js";
import { EventsPage } from "../../src/dashboard/assets/events.js";
import { TasksPage } from "../../src/dashboard/assets/tasks.js";
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
    story: { chapters: [{ status: "waiting", at: 0, lasted: 1.5 }, { status: "ready", at: 1.5, lasted: null }] },
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
