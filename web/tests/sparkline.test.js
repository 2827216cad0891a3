import "./support/browser.js";

import assert from "node:assert/strict";
import test from "node:test";

import { busyPerColumn, columnCount, endedPerColumn } from "../../src/dashboard/assets/sparkline.js";
import { Bars } from "../../src/dashboard/assets/bars.js";

const bar = (start, end) => ({ start, end, name: 0, id: 0, outcome: 1 });

test("there's at least one column", () => {
  assert.deepEqual([0, 2, 3, 10].map(columnCount), [1, 1, 1, 3]);
});

test("ended tasks are counted in the column of their sample", () => {
  const samples = [0, 1, 2, 3, 4].map((t) => ({ t, ended: t * t, running: 0 }));
  assert.deepEqual([...endedPerColumn(samples, 60, 4)], [0, 1, 3, 5]);
  assert.deepEqual([...endedPerColumn([], 60, 2)], [0, 0]);
});

test("a poll counts in each column that it covers", () => {
  const bars = new Bars();
  bars.push(bar(-1, 0.5));
  bars.push(bar(1.5, 3.5));
  assert.deepEqual([...busyPerColumn(bars, 0, 4, 4)], [0.5, 0.5, 1, 0.5]);
});
