// The states of a task: what they're called, and their marks. Every mark differs in shape, so that nobody
// has to tell colours apart.

import { element } from "./dom.js";

export const STATES = ["waiting", "ready", "running", "delayed", "finished", "failed", "cancelled"];
export const WAITING = 0;
export const READY = 1;
export const RUNNING = 2;
export const DELAYED = 3;
export const FINISHED = 4;
export const FAILED = 5;
export const CANCELLED = 6;

export function hasEnded(state) {
  return state >= FINISHED;
}

// Each mark is drawn in a square of 12, as what is filled and what is a line.
const MARKS = [
  { line: "M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9z" },
  { line: "M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9z", fill: "M6 4.2a1.8 1.8 0 1 0 0 3.6a1.8 1.8 0 1 0 0-3.6z" },
  { fill: "M2.5 1.2L11 6L2.5 10.8z" },
  { line: "M3 1.5h6M3 10.5h6M3.5 1.5c0 3 5 6 5 9M8.5 1.5c0 3-5 6-5 9" },
  { fill: "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10z" },
  { line: "M2 2L10 10M10 2L2 10", heavy: true },
  { line: "M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9zM2.8 9.2L9.2 2.8" },
];

const SVG = "http://www.w3.org/2000/svg";

export function stateMark(state) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 12 12");
  svg.setAttribute("aria-hidden", "true");
  const { line, fill, heavy } = MARKS[state];
  const add = (d, attributes) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    for (const [name, value] of Object.entries(attributes)) path.setAttribute(name, value);
    svg.append(path);
  };
  if (fill) add(fill, { fill: "currentColor" });
  if (line) add(line, { fill: "none", stroke: "currentColor", "stroke-width": heavy ? 2.4 : 1.4 });
  return svg;
}

// The mark and the word. `setState` changes it later.
export function stateLabel(state) {
  const node = element("span", { class: "state" });
  setState(node, state);
  return node;
}

export function setState(node, state) {
  if (node.state === state) return;
  node.state = state;
  node.className = "state s" + state;
  node.replaceChildren(stateMark(state), element("span", {}, STATES[state]));
}

const PATHS = [];

// The same mark on a canvas, in a square of `size` around a point.
export function drawMark(pen, state, x, y, size, colour) {
  const paths = PATHS[state] ?? (PATHS[state] = {
    line: MARKS[state].line && new Path2D(MARKS[state].line),
    fill: MARKS[state].fill && new Path2D(MARKS[state].fill),
  });
  const scale = size / 12;
  pen.save();
  pen.translate(x - size / 2, y - size / 2);
  pen.scale(scale, scale);
  if (paths.fill) {
    pen.fillStyle = colour;
    pen.fill(paths.fill);
  }
  if (paths.line) {
    pen.strokeStyle = colour;
    pen.lineWidth = MARKS[state].heavy ? 2.4 : 1.4;
    pen.stroke(paths.line);
  }
  pen.restore();
}
