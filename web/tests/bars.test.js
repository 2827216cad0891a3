import assert from "node:assert/strict";
import test from "node:test";

import { Bars } from "../../src/dashboard/assets/bars.js";

const bar = (start, end) => ({ start, end, name: 0, id: start, outcome: 1 });

function barsOf(...times) {
  const bars = new Bars();
  for (const [start, end] of times) bars.push(bar(start, end));
  return bars;
}

const starts = (bars) => Array.from({ length: bars.length }, (_, i) => bars.at(i).start);

test("late bars are moved to their position", () => {
  assert.deepEqual(starts(barsOf([0, 1], [4, 5], [2, 3], [6, 7], [5, 6])), [0, 2, 4, 5, 6]);
});

test("the first bar after a time is found", () => {
  const bars = barsOf([0, 1], [2, 3], [4, 5]);
  assert.deepEqual([-1, 0.5, 1, 1.5, 3.5, 5, 6].map((time) => bars.after(time)), [0, 0, 0, 1, 2, 2, 3]);
});

test("an interval contains the bars that overlap it", () => {
  const bars = barsOf([0, 1], [2, 3], [4, 5], [6, 7]);
  assert.deepEqual([...bars.between(2.5, 4)].map(({ start }) => start), [2, 4]);
  assert.deepEqual([...bars.between(8, 9)], []);
});

test("the oldest bars are dropped, and the memory is reclaimed", () => {
  const bars = new Bars();
  for (let i = 0; i < 300; i++) bars.push(bar(i, i + 1));
  for (let i = 0; i < 290; i++) bars.dropOldest();
  assert.equal(bars.length, 10);
  assert.deepEqual(starts(bars), [290, 291, 292, 293, 294, 295, 296, 297, 298, 299]);
  assert.equal(bars.last().start, 299);
  assert.ok(bars.list.length < 150, String(bars.list.length));
  assert.equal(bars.after(295.5), 5);
});
