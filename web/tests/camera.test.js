import assert from "node:assert/strict";
import test from "node:test";

import { Camera } from "../../src/dashboard/assets/camera.js";

const camera = (uniform = false) => new Camera({ most: [100, 20], least: [1, 1], uniform });
const square = (size) => ({ left: 0, top: 0, right: size, bottom: size });

test("points are mapped in both directions", () => {
  const it = camera();
  it.fit(square(10), 500, 100);
  assert.deepEqual([it.scaleX, it.scaleY], [50, 10]);
  assert.equal(it.toX(3), 150);
  assert.equal(it.fromX(it.toX(3)), 3);
  assert.equal(it.fromY(it.toY(7)), 7);
});

test("a small drawing is centred", () => {
  const it = camera();
  it.fit(square(1), 500, 100);
  assert.equal(it.scaleX, 100);
  assert.equal(it.toX(0.5), 250);
  assert.equal(it.toY(0.5), 50);
});

test("uniform scales are equal", () => {
  const it = camera(true);
  it.fit(square(10), 500, 100);
  assert.deepEqual([it.scaleX, it.scaleY], [10, 10]);
  it.zoom(2, 0, 0);
  assert.equal(it.scaleX, it.scaleY);
});

test("zooming keeps a point, stays within limits, and ends following", () => {
  const it = camera();
  it.fit(square(10), 500, 100);
  const before = it.fromX(200);
  it.zoom(1.5, 200, 40);
  assert.ok(Math.abs(it.fromX(200) - before) < 1e-9);
  assert.equal(it.auto, false);
  it.zoom(1e9, 0, 0);
  assert.deepEqual([it.scaleX, it.scaleY], [300, 60]);
  it.reset();
  assert.deepEqual([it.auto, it.fitted], [true, null]);
});

test("a growing drawing rarely moves", () => {
  const it = camera();
  let moves = 0;
  let before = null;
  for (let size = 1; size <= 100; size++) {
    it.follow(square(size), 500, 500);
    if (it.fitted !== before) moves += 1;
    before = it.fitted;
    assert.ok(it.toX(size) <= 500.001 || it.scaleX === 1);
  }
  assert.ok(moves < 20, String(moves));
});

test("a point outside comes into sight", () => {
  const it = camera();
  it.fit(square(10), 500, 100);
  it.show(5, 5, 500, 100);
  assert.equal(it.auto, true);
  it.show(20, -5, 500, 100);
  assert.ok(it.toX(20) > 0 && it.toX(20) < 500);
  assert.ok(it.toY(-5) > 0 && it.toY(-5) < 100);
});
