import assert from "node:assert/strict";
import test from "node:test";

import { clock, duration, plural, short, tickStep, tickText, whole } from "../../src/dashboard/assets/format.js";

const check = (format, pairs) => pairs.forEach(([value, text]) => assert.equal(format(value), text, String(value)));

test("whole numbers have separators", () => {
  check(whole, [[0, "0"], [1234567, "1,234,567"]]);
});

test("short numbers have at most six characters", () => {
  check(short, [[0, "0"], [9999, "9,999"], [10_000, "10.0k"], [999_949, "1000k"], [1_000_000, "1.0M"], [2.5e9, "2.5G"], [1.25, "1.3"], [123.4, "123"]]);
  for (let n = 1; n < 1e11; n *= 1.7) assert.ok(short(n).length <= 6, short(n));
});

test("durations have a suitable unit", () => {
  check(duration, [
    [0, "0 µs"], [12e-6, "12 µs"], [0.0123, "12.3 ms"], [0.5, "500 ms"], [1.5, "1.50 s"], [59.96, "60.0 s"],
    [100, "1 min 40 s"], [7200, "2 h 0 min"], [NaN, "–"], [-1, "–"], [undefined, "–"],
  ]);
});

test("clock times are padded", () => {
  assert.equal(clock(0), "0:00.000");
  assert.equal(clock(9.5, 1), "0:09.5");
  assert.equal(clock(61, 0), "1:01");
  assert.equal(clock(3605.25, 2), "60:05.25");
});

test("tick steps are 1, 2 or 5 times a power of ten", () => {
  assert.equal(tickStep(10, 10), 1);
  assert.equal(tickStep(30, 10), 5);
  assert.equal(tickStep(12, 10), 2);
  assert.ok(Math.abs(tickStep(0.7, 10) - 0.1) < 1e-12);
  assert.equal(tickStep(5, 0), 5);
});

test("tick labels have as many digits as the step", () => {
  assert.equal(tickText(1.5, 0.5), "1.5 s");
  assert.equal(tickText(3, 1), "3 s");
  assert.equal(tickText(90, 30), "1:30");
});

test("nouns are in the plural unless there's one", () => {
  assert.equal(plural(1, "task"), "1 task");
  assert.equal(plural(0, "task"), "0 tasks");
  assert.equal(plural(1500, "poll"), "1,500 polls");
});
