import assert from "node:assert/strict";
import test from "node:test";

import { findEvents, findTasks, groupFailures } from "../../src/dashboard/assets/queries.js";
import { Store } from "../../src/dashboard/assets/store.js";
import { taskRow } from "./support/record.js";

const ANY = { state: -1, name: -1, key: "" };

function storeOf(update) {
  const store = new Store();
  store.apply({ t: 0, names: [[0, "inc"], [1, "add"]], ...update });
  return store;
}

test("tasks are found by state, function and key, the newest first", () => {
  const store = storeOf({ tasks: [taskRow(1), taskRow(2, { name: 1, state: 4 }), taskRow(3, { state: 4 }), taskRow(4, { name: 1 })] });
  const ids = (filter, most = 10) => findTasks(store, { ...ANY, ...filter }, most).newest.map(({ id }) => id);
  assert.deepEqual(ids({}), [4, 3, 2, 1]);
  assert.deepEqual(ids({ state: 4 }), [3, 2]);
  assert.deepEqual(ids({ name: 1 }), [4, 2]);
  assert.deepEqual(ids({ key: " INC-" }), [3, 1]);
  assert.deepEqual(ids({}, 2), [4, 3]);
  assert.equal(findTasks(store, ANY, 2).count, 4);
});

test("events are found by state and key, the newest first, and each has its own row", () => {
  const events = [[1, 1, 0, -1], [2, 1, 2, 0], [2, 1, 2, 0], [3, 9, 4, 1]];
  const store = storeOf({ tasks: [taskRow(1)] });
  const find = (filter, most = 10) => findEvents(store, events, { state: -1, key: "", ...filter }, most);
  assert.deepEqual(find({}).map(({ key }) => key), ["task 9", "inc-1", "inc-1", "inc-1"]);
  assert.equal(new Set(find({}).map(({ row }) => row)).size, 4);
  assert.deepEqual(find({ state: 2 }).map(({ t, worker }) => [t, worker]), [[2, 0], [2, 0]]);
  assert.deepEqual(find({ key: "Task" }).map(({ id }) => id), [9]);
  assert.equal(find({}, 1).length, 1);
});

test("failures that differ in the task's number are one group", () => {
  const failures = [[1, 1, "task `a-1` failed: x"], [2, 2, "task `b-2` failed: x"], [3, 3, "task `a-3` failed: x"]];
  const groups = groupFailures(failures, 10);
  assert.deepEqual(groups.map(({ id, count, t }) => [id, count, t]), [[3, 2, 3], [2, 1, 2]]);
  assert.equal(groups[0].text, "task `a-3` failed: x");
  assert.equal(groupFailures(failures, 1).length, 1);
});
