import assert from "node:assert/strict";
import test from "node:test";

import { stats, taskRow } from "./support/record.js";
import { Store } from "../../src/dashboard/assets/store.js";

const FINISHED = 4;
const FAILED = 5;

function storeOf(...updates) {
  const store = new Store();
  store.hello({ client: "c", version: "1", began: 5 });
  for (const update of updates) store.apply({ t: 0, ...update });
  return store;
}

test("an update adds and changes tasks", () => {
  const store = storeOf({ t: 1, names: [[0, "inc"]], tasks: [taskRow(1), taskRow(2, { depth: 1 })], edges: [[1, 2, 0]] });
  const [first, second] = [store.tasks.get(1), store.tasks.get(2)];
  assert.deepEqual(first.dependents, [{ id: 2, kind: 0 }]);
  assert.deepEqual(second.inputs, [{ id: 1, kind: 0 }]);
  store.apply({ t: 2, tasks: [taskRow(1, { state: FINISHED, worker: 3, held: 1 })], edges: [[1, 2, 0]] });
  assert.equal(store.tasks.get(1), first);
  assert.deepEqual([first.state, first.worker, first.held, first.dependents.length], [FINISHED, 3, true, 1]);
  assert.equal(store.now, 2);
  store.apply({ t: 1.5 });
  assert.equal(store.now, 2, "time doesn't go back");
});

test("a hello and an update of everything start a new record", () => {
  const store = storeOf({ t: 9, tasks: [taskRow(1)] });
  store.hello({ client: "d", version: "2", began: 6 });
  assert.equal(store.tasks.size, 1, "the old record is shown until the new one arrives");
  store.apply({ t: 1, tasks: [taskRow(7)] });
  assert.deepEqual([[...store.tasks.keys()], store.now, store.client], [[7], 1, "d"]);
  store.apply({ t: 2, all: true, tasks: [taskRow(8)] });
  assert.deepEqual([...store.tasks.keys()], [8]);
  assert.equal(store.revision, 3, "the revision grows");
});

test("listeners are notified once per complete update", () => {
  const store = storeOf();
  const heard = [];
  const unlisten = store.listen((changes) => heard.push(changes));
  store.apply({ t: 1, tasks: [taskRow(1)], more: true });
  store.apply({ t: 1, tasks: [taskRow(2)], gone: [1] });
  assert.deepEqual(heard, [{ reset: true, tasks: [1, 2], gone: [1] }]);
  store.apply({ t: 2, tasks: [taskRow(2)] });
  assert.deepEqual(heard[1], { reset: false, tasks: [2], gone: [] });
  unlisten();
  store.apply({ t: 3 });
  assert.equal(heard.length, 2);
});

test("forgotten tasks leave no edges behind", () => {
  const store = storeOf({ tasks: [taskRow(1), taskRow(2), taskRow(3)], edges: [[1, 2, 0], [2, 3, 1], [9, 3, 0]] });
  store.apply({ t: 1, gone: [2, 77] });
  assert.deepEqual(store.tasks.get(1).dependents, []);
  assert.deepEqual(store.tasks.get(3).inputs, []);
});

test("keys are made of the name and the id unless given", () => {
  const store = storeOf({ names: [[0, "inc"]], tasks: [taskRow(1), taskRow(2)], keys: [[2, "<b>"]] });
  assert.equal(store.keyOfId(1, 0), "inc-1");
  assert.equal(store.keyOfId(2, 0), "<b>");
  assert.equal(store.keyOfId(3, 0), "inc-3");
  assert.equal(store.keyOfId(3, 8), "?-3");
});

test("a failure is recorded once, and again after a retry", () => {
  const failed = { tasks: [taskRow(1, { state: FAILED })], failures: [[1, 1, "no"]] };
  const store = storeOf(failed, failed);
  assert.equal(store.failures.length, 1);
  store.apply({ t: 1, tasks: [taskRow(1, { state: 2 })] });
  store.apply({ t: 2, ...failed });
  assert.equal(store.failures.length, 2);
});

test("two polls of a task enclose a wait", () => {
  const store = storeOf({ tasks: [taskRow(1, { state: 2 })], bars: [[0, 1, 2, 0, 1, 0]] });
  assert.equal(store.openWaits.size, 1);
  store.apply({ t: 5, bars: [[1, 4, 5, 0, 1, 1]] });
  assert.deepEqual(store.waits, [{ lane: 0, start: 2, end: 4, name: 0, id: 1 }]);
  assert.equal(store.openWaits.size, 0);
  assert.equal(store.lanes.get(1).label, "worker 1");
  assert.equal(store.workerLabel(-1), "");
});

test("a task that has ended waits no longer", () => {
  const store = storeOf({ tasks: [taskRow(1, { state: 2 })], bars: [[0, 1, 2, 0, 1, 0]] });
  store.apply({ t: 3, tasks: [taskRow(1, { state: FINISHED })] });
  assert.equal(store.openWaits.size, 0);
});

test("the record is bounded", () => {
  const store = storeOf();
  for (let round = 0; round < 8; round++) {
    const ids = Array.from({ length: 10_000 }, (_, i) => round * 10_000 + i);
    store.apply({
      t: round,
      bars: ids.map((id) => [id % 3, id, id + 0.5, 0, id, 1]),
      events: ids.map((id) => [id, id, 4, 0]),
      failures: ids.map((id) => [id, id, "no"]),
      stats: stats(),
    });
  }
  for (let t = 0; t < 1_000; t++) store.apply({ t, stats: stats() });
  const bars = [...store.lanes.values()].reduce((sum, lane) => sum + lane.bars.length, 0);
  assert.deepEqual([store.bars, bars, store.events.length, store.failures.length], [60_000, 60_000, 1_000, 200]);
  assert.equal(store.events[999][1], 79_999);
  assert.ok(store.samples.length <= 600);
});

test("the rate is that of the last seconds", () => {
  const store = storeOf();
  assert.equal(store.rate(), 0);
  for (let t = 0; t <= 10; t++) store.apply({ t, stats: stats({ finished: t < 5 ? 0 : (t - 5) * 10 }) });
  assert.equal(store.rate(), 10);
  assert.equal(store.rate(100), 5);
});

test("the share of a worker includes its current poll", () => {
  const store = storeOf({ t: 10, lanes: [[0, "w", 1, 3, 9]], bars: [[0, 0, 1, 0, 1, 1], [0, 4, 6, 0, 2, 1]] });
  const lane = store.lanes.get(0);
  assert.equal(store.share(lane, 10), 0.4);
  assert.equal(store.share(lane, 5), 0.4);
  assert.equal(store.share(lane, 2), 0.5);
  assert.equal(store.isBusy(), true);
  store.apply({ t: 10, lanes: [[0, "w", 0, -1, 0]], stats: stats() });
  assert.equal(store.isBusy(), false);
});
