// @ts-check
// The states of a task: their names and symbols. Symbols differ in shape, not only in colour.

import { element } from "./dom.js";

export const STATES = /** @type {const} */ (["waiting", "ready", "running", "delayed", "finished", "failed", "cancelled"]);
export const WAITING = 0;
export const READY = 1;
export const RUNNING = 2;
export const DELAYED = 3;
export const FINISHED = 4;
export const FAILED = 5;
export const CANCELLED = 6;

/** @param {number} state */
export function hasEnded(state) {
  return state >= FINISHED;
}

/**
 * Returns the number of a state, or -1 if there's none of this name.
 * @param {string | null | undefined} name
 */
export function stateOf(name) {
  return STATES.findIndex((state) => state === name);
}

/**
 * Each symbol is a filled path and a stroked path in a square of 12 by 12.
 * @type {readonly { line?: string, fill?: string, heavy?: boolean }[]}
 */
const SYMBOLS = [
  { line: "M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9z" },
  { line: "M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9z", fill: "M6 4.2a1.8 1.8 0 1 0 0 3.6a1.8 1.8 0 1 0 0-3.6z" },
  { fill: "M2.5 1.2L11 6L2.5 10.8z" },
  { line: "M3 1.5h6M3 10.5h6M3.5 1.5c0 3 5 6 5 9M8.5 1.5c0 3-5 6-5 9" },
  { fill: "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10z" },
  { line: "M2 2L10 10M10 2L2 10", heavy: true },
  { line: "M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9zM2.8 9.2L9.2 2.8" },
];

const SVG = "http://www.w3.org/2000/svg";

/** @param {number} state */
function symbolOf(state) {
  return SYMBOLS[state] ?? {};
}

/**
 * Creates the symbol of a state as an SVG element.
 * @param {number} state
 */
export function stateSymbol(state) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 12 12");
  svg.setAttribute("aria-hidden", "true");
  const { line, fill, heavy } = symbolOf(state);
  /**
   * @param {string} d
   * @param {Record<string, string>} attributes
   */
  const add = (d, attributes) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    for (const [name, value] of Object.entries(attributes)) path.setAttribute(name, value);
    svg.append(path);
  };
  if (fill) add(fill, { fill: "currentColor" });
  if (line) add(line, { fill: "none", stroke: "currentColor", "stroke-width": heavy ? "2.4" : "1.4" });
  return svg;
}

/** The symbol and the name of a state. */
export class StateLabel {
  /** @param {number} state */
  constructor(state) {
    this.node = element("span");
    this.state = -1;
    this.set(state);
  }

  /** @param {number} state */
  set(state) {
    if (this.state === state) return;
    this.state = state;
    this.node.className = "state s" + state;
    this.node.replaceChildren(stateSymbol(state), element("span", {}, STATES[state] ?? ""));
  }
}

/**
 * Creates a menu of states, whose first entry allows any. Its value is the number of the state or "".
 * @param {() => void} onchange
 */
export function stateMenu(onchange) {
  const options = STATES.map((name, state) => element("option", { value: state }, name));
  return element("select", { "aria-label": "State", onchange }, element("option", { value: "" }, "any"), ...options);
}

/** @type {{ line: Path2D | null, fill: Path2D | null }[]} */
const PATHS = [];

/**
 * Draws the symbol of a state on a canvas, in a square around a point.
 * @param {CanvasRenderingContext2D} ctx
 * @param {number} state
 * @param {number} x
 * @param {number} y
 * @param {number} size
 * @param {string} colour
 */
export function drawSymbol(ctx, state, x, y, size, colour) {
  const { line, fill, heavy } = symbolOf(state);
  const paths = PATHS[state] ??= { line: line ? new Path2D(line) : null, fill: fill ? new Path2D(fill) : null };
  const scale = size / 12;
  ctx.save();
  ctx.translate(x - size / 2, y - size / 2);
  ctx.scale(scale, scale);
  if (paths.fill) {
    ctx.fillStyle = colour;
    ctx.fill(paths.fill);
  }
  if (paths.line) {
    ctx.strokeStyle = colour;
    ctx.lineWidth = heavy ? 2.4 : 1.4;
    ctx.stroke(paths.line);
  }
  ctx.restore();
}
