import "./support/browser.js";

import assert from "node:assert/strict";
import test from "node:test";

import { STATES, StateLabel, hasEnded, stateMenu, stateOf } from "../../src/dashboard/assets/states.js";
import { chosenNumber } from "../../src/dashboard/assets/dom.js";
import { makeFunctionColour } from "../../src/dashboard/assets/colour.js";

test("states have numbers", () => {
  assert.deepEqual(STATES.map(stateOf), [0, 1, 2, 3, 4, 5, 6]);
  assert.deepEqual(["", null, "Failed"].map(stateOf), [-1, -1, -1]);
  assert.deepEqual(STATES.filter((_, state) => hasEnded(state)), ["finished", "failed", "cancelled"]);
});

test("symbols differ in shape", () => {
  const shapes = STATES.map((_, state) => {
    const paths = new StateLabel(state).node.all("path");
    return paths.map((path) => path.getAttribute("d") + path.getAttribute("fill")).join();
  });
  assert.equal(new Set(shapes).size, STATES.length);
});

test("a label changes only with its state", () => {
  const label = new StateLabel(0);
  const { changes } = label.node;
  label.set(0);
  assert.equal(label.node.changes, changes);
  label.set(5);
  assert.equal(label.node.className, "state s5");
  assert.equal(label.node.textContent, "failed");
});

test("the menu of states allows any", () => {
  const menu = stateMenu(() => {});
  assert.equal(menu.options.length, STATES.length + 1);
  assert.equal(chosenNumber(menu), -1);
  menu.value = "3";
  assert.equal(chosenNumber(menu), 3);
});

test("the first 24 functions have different colours", () => {
  const colours = Array.from({ length: 24 }, (_, index) => makeFunctionColour(index, 0.6, 0.1));
  assert.equal(new Set(colours).size, 24);
  assert.equal(colours[0], "oklch(0.600 0.1 255.0)");
});
