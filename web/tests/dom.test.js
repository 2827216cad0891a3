import { FakeNode } from "./support/browser.js";

import assert from "node:assert/strict";
import test from "node:test";

import { KeyedRows, choices, element, panel, setStyle, setText, showTip, table } from "../../src/dashboard/assets/dom.js";

test("attributes, listeners and children are added", () => {
  let clicked = 0;
  const made = element("button", { class: "plain", hidden: true, title: "", onclick: () => { clicked += 1; } }, "<b>", element("i"));
  assert.deepEqual([...made.attributes], [["class", "plain"], ["hidden", ""], ["title", ""]]);
  made.click();
  assert.equal(clicked, 1);
  assert.deepEqual(made.childNodes.map(({ tag }) => tag), ["#text", "i"]);
  assert.equal(made.textContent, "<b>");
  assert.equal(element("i", { hidden: false }).hidden, false);
});

test("a text or style that is the same changes nothing", () => {
  const node = element("span", {}, "a");
  const { changes } = node;
  setText(node, "a");
  assert.equal(node.changes, changes);
  setText(node, "b");
  assert.equal(node.textContent, "b");
  setStyle(node, "width", "1px");
  assert.equal(node.style.getPropertyValue("width"), "1px");
});

function keyedRows() {
  const parent = new FakeNode("div");
  const made = [];
  const make = ({ key }) => {
    made.push(key);
    return { node: new FakeNode(key) };
  };
  const rows = new KeyedRows(parent, ({ key }) => key, make, (row, { text }) => setText(row.node, text));
  const draw = (keys, text = "") => rows.draw([...keys].map((key) => ({ key, text })));
  return { parent, made, draw, shown: () => parent.childNodes.map(({ tag }) => tag).join("") };
}

test("rows are made once, updated, reordered and removed", () => {
  const { parent, made, draw, shown } = keyedRows();
  draw("abc");
  assert.equal(shown(), "abc");
  const second = parent.childNodes[1];
  draw("dcba", "new");
  assert.equal(shown(), "dcba");
  assert.equal(parent.childNodes[2], second);
  assert.equal(second.textContent, "new");
  draw("b");
  assert.equal(shown(), "b");
  draw("ab");
  assert.equal(shown(), "ab");
  assert.equal(made.join(""), "abcda");
});

test("rows that stay in order aren't moved", () => {
  const { parent, draw } = keyedRows();
  draw("abc");
  const { changes } = parent;
  draw("abc", "new");
  assert.equal(parent.changes, changes);
  draw("abcd");
  assert.equal(parent.changes, changes + 1);
});

test("one of several choices is pressed", () => {
  const chosen = [];
  const { node, press } = choices("Size", [["s", "Small"], ["l", "Large"]], "s", (value) => chosen.push(value));
  const pressed = () => node.childNodes.map((button) => button.getAttribute("aria-pressed"));
  assert.deepEqual(pressed(), ["true", "false"]);
  node.childNodes[1].click();
  assert.deepEqual([pressed(), chosen], [["false", "true"], ["l"]]);
  press("");
  assert.deepEqual(pressed(), ["false", "false"]);
});

test("panels and tables have names for screen readers", () => {
  const { node, note } = panel("Tasks", "tasks");
  setText(note, "3");
  assert.equal(node.getAttribute("aria-label"), "Tasks");
  assert.equal(node.textContent, "Tasks3");
  const { node: made, body } = table("Workers", "w", [{ text: "Name" }, { text: "Polls", number: true }, { text: "Actions", unseen: true }]);
  assert.deepEqual(made.all("th").map(({ className }) => className), ["w0", "w1 number", "w2"]);
  assert.equal(made.all("span")[0].className, "unseen");
  assert.equal(body.tag, "tbody");
});

test("a tooltip stays within the plot", () => {
  const tip = element("div", { hidden: true });
  showTip(tip, "text", 10, 20, 100);
  assert.deepEqual([tip.hidden, tip.style.left, tip.style.right, tip.style.top], [false, "24px", "auto", "33px"]);
  showTip(tip, "text", 90, 20, 100);
  assert.deepEqual([tip.style.left, tip.style.right], ["auto", "24px"]);
});
