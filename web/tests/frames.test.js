import { frames, runFrames } from "./support/browser.js";

import assert from "node:assert/strict";
import test from "node:test";

import { Painter, clipText, drawn } from "../../src/dashboard/assets/frames.js";

test("input is drawn at the next frame, once", () => {
  let painted = 0;
  const painter = new Painter(() => { painted += 1; });
  painter.now();
  painter.now();
  assert.equal(frames.length, 1);
  const before = drawn.frames;
  runFrames();
  assert.equal(painted, 1);
  assert.equal(drawn.frames, before + 1);
  runFrames();
  assert.equal(painted, 1);
  painter.stop();
});

test("new data is drawn at most ten times a second", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  let painted = 0;
  const painter = new Painter(() => { painted += 1; });
  painter.now();
  runFrames();
  painter.soon();
  painter.soon();
  assert.equal(frames.length, 0);
  context.mock.timers.tick(101);
  assert.equal(frames.length, 1);
  runFrames();
  assert.equal(painted, 2);
  painter.stop();
});

test("input doesn't wait for the timer of new data", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const painter = new Painter(() => {});
  painter.now();
  runFrames();
  painter.soon();
  painter.now();
  assert.equal(frames.length, 1);
  runFrames();
  context.mock.timers.tick(1_000);
  assert.equal(frames.length, 0);
  painter.stop();
});

test("a stopped painter draws nothing", () => {
  const painter = new Painter(() => assert.fail("it drew"));
  painter.now();
  painter.stop();
  runFrames();
});

test("texts are clipped to a width", () => {
  const ctx = { measureText: (text) => ({ width: text.length * 10 }) };
  assert.equal(clipText(ctx, "abcdef", 60), "abcdef");
  assert.equal(clipText(ctx, "abcdef", 50), "abcd…");
  assert.equal(clipText(ctx, "abcdef", 15), "");
  assert.equal(clipText(ctx, "", 0), "");
});
