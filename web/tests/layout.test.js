import assert from "node:assert/strict";
import test from "node:test";

import { Layout } from "../../src/dashboard/assets/layout.js";

const task = (id, depth = 0, inputs = []) => ({ id, depth, inputs: inputs.map((input) => ({ id: input })) });

function layoutOf(...tasks) {
  const layout = new Layout();
  tasks.forEach((each) => layout.add(each));
  return layout;
}

test("tasks without inputs fill the first column from above", () => {
  const { places } = layoutOf(task(1), task(2), task(3));
  assert.deepEqual([...places.values()], [0, 1, 2].map((row) => ({ column: 0, row })));
});

test("a task is close to its inputs, in the nearest free row", () => {
  const layout = layoutOf(task(1), task(2), task(3), task(4, 1, [1, 3]), task(5, 1, [1, 3]), task(6, 1, [2]), task(7, 1, [2, 99]));
  assert.deepEqual([4, 5, 6, 7].map((id) => layout.places.get(id).row), [1, 2, 0, 3]);
});

test("a task keeps its place, and the row of a removed task is free again", () => {
  const layout = layoutOf(task(1), task(2), task(3, 1, [1]));
  layout.add(task(1, 5));
  assert.deepEqual(layout.places.get(1), { column: 0, row: 0 });
  layout.remove(3);
  layout.remove(3);
  layout.add(task(4, 1, [1]));
  assert.deepEqual(layout.places.get(4), { column: 1, row: 0 });
});

test("no two of many tasks overlap", () => {
  const layout = new Layout();
  for (let id = 0; id < 500; id++) {
    layout.add(task(id, id < 10 ? 0 : 1 + (id % 7), id < 10 ? [] : [(id * 7) % id, (id * 13) % id]));
    if (id % 5 === 4) layout.remove(id - 2);
  }
  const taken = new Set([...layout.places.values()].map(({ column, row }) => column + ":" + row));
  assert.equal(taken.size, layout.places.size);
  assert.ok([...layout.places.values()].every(({ row }) => row >= 0));
});

test("bounds include all tasks", () => {
  assert.deepEqual(new Layout().bounds(), { left: 0, right: 1, top: 0, bottom: 1 });
  const layout = layoutOf(task(1), task(2), task(3, 2));
  assert.deepEqual(layout.bounds(), { left: -0.6, right: 2.6, top: -0.9, bottom: 1.9 });
  layout.remove(3);
  assert.equal(layout.bounds().right, 0.6);
});

test("the nearest task is within reach", () => {
  const layout = layoutOf(task(1), task(2), task(3, 1));
  assert.equal(layout.nearest(0.1, 0.8, 0.5, 0.5), 2);
  assert.equal(layout.nearest(0.5, 3, 0.4, 0.4), null);
});

test("neighbours are in the same column", () => {
  const layout = layoutOf(task(1), task(2), task(3), task(4, 1));
  assert.equal(layout.neighbour(2, 1), 3);
  assert.equal(layout.neighbour(2, -1), 1);
  assert.equal(layout.neighbour(3, 1), null);
  assert.equal(layout.neighbour(9, 1), null);
});
