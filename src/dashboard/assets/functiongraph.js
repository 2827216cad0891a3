// @ts-check
// The graph with one node per function, for runs with too many tasks to show each. Nodes show the number of
// tasks and their states, edges the number of edges between tasks.

import { CANCELLED, DELAYED, FAILED, FINISHED, READY, RUNNING, STATES, WAITING } from "./states.js";
import { colours, functionColour } from "./colour.js";
import { duration, plural, short } from "./format.js";
import { Camera } from "./camera.js";
import { clipText } from "./frames.js";
import { store } from "./store.js";

/** @import { Cell } from "./layout.js" */
/** @import { FunctionStats, LinkRow } from "./store.js" */
/** @import { Emphasis } from "./taskgraph.js" */

/** @typedef {{ count: number, strong: boolean, x: number, y: number }} LinkLabel */

const CELL_WIDTH = 230;
const CELL_HEIGHT = 104;
const NODE_WIDTH = 158;
const NODE_HEIGHT = 58;
const STACK_ORDER = [FINISHED, FAILED, CANCELLED, RUNNING, READY, DELAYED, WAITING];

export class FunctionGraph {
  constructor() {
    this.camera = new Camera({ most: [1.25, 1.25], least: [0.1, 0.1], uniform: true });
    /** @type {Map<number, Cell>} */
    this.places = new Map();
    /** @type {Set<string>} */
    this.taken = new Set();
  }

  clear() {
    this.places.clear();
    this.taken.clear();
  }

  /** Places new functions. The others keep their place. */
  update() {
    const functions = store.stats?.functions ?? [];
    const links = [...store.links.values()];
    for (const { name } of functions) {
      const index = store.indexOfName(name);
      if (index < 0 || this.places.has(index)) continue;
      let column = 0;
      let sum = 0;
      let count = 0;
      for (const [from, to] of links) {
        const place = this.places.get(from);
        if (to !== index || from === index || !place) continue;
        column = Math.max(column, place.column + 1);
        sum += place.row;
        count += 1;
      }
      let row = count > 0 ? Math.round(sum / count) : 0;
      // Searches in turn below and above for a free row.
      for (let away = 0; this.taken.has(column + ":" + row); away++) row += away % 2 === 0 ? away + 1 : -(away + 1);
      this.taken.add(column + ":" + row);
      this.places.set(index, { column, row });
    }
  }

  get size() {
    return this.places.size;
  }

  bounds() {
    let right = 0, top = 0, bottom = 0;
    for (const { column, row } of this.places.values()) {
      right = Math.max(right, column);
      top = Math.min(top, row);
      bottom = Math.max(bottom, row);
    }
    return { left: -110, right: right * CELL_WIDTH + 110, top: top * CELL_HEIGHT - 62, bottom: bottom * CELL_HEIGHT + 52 };
  }

  /** Returns the number of tasks in each state. */
  counts() {
    return STATES.map((name) => (store.stats?.functions ?? []).reduce((sum, stats) => sum + (stats[name] ?? 0), 0));
  }

  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {number} _width
   * @param {number} _height
   * @param {Emphasis} emphasis
   */
  draw(ctx, _width, _height, { chosen, hover, only }) {
    const { camera } = this;
    const byName = new Map((store.stats?.functions ?? []).map((stats) => [stats.name, stats]));
    ctx.save();
    ctx.scale(camera.scaleX, camera.scaleY);
    ctx.translate(-camera.x, -camera.y);
    // All lines come first, so that none crosses a label.
    const labels = [...store.links.values()].map((link) => this.drawLink(ctx, link, chosen));
    for (const label of labels) if (label) this.drawLabel(ctx, label);
    for (const [index, { column, row }] of this.places) {
      const stats = byName.get(store.nameOf(index));
      if (stats) this.drawNode(ctx, index, stats, column * CELL_WIDTH, row * CELL_HEIGHT, only);
      if (index === chosen || index === hover) {
        ctx.strokeStyle = index === chosen ? colours().accent : colours().ink;
        ctx.lineWidth = index === chosen ? 2.5 : 1.5;
        ctx.strokeRect(column * CELL_WIDTH - NODE_WIDTH / 2 - 3, row * CELL_HEIGHT - NODE_HEIGHT / 2 - 3, NODE_WIDTH + 6, NODE_HEIGHT + 6);
      }
    }
    ctx.restore();
  }

  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {number} index
   * @param {FunctionStats} stats
   * @param {number} x
   * @param {number} y
   * @param {number} only
   */
  drawNode(ctx, index, stats, x, y, only) {
    const { panel, ink, quiet, strongRule, states, sunk, font } = colours();
    const left = x - NODE_WIDTH / 2;
    const top = y - NODE_HEIGHT / 2;
    ctx.fillStyle = panel;
    ctx.fillRect(left, top, NODE_WIDTH, NODE_HEIGHT);
    ctx.strokeStyle = strongRule;
    ctx.lineWidth = 1;
    ctx.strokeRect(left + 0.5, top + 0.5, NODE_WIDTH - 1, NODE_HEIGHT - 1);
    ctx.fillStyle = functionColour(index);
    ctx.fillRect(left, top, 5, NODE_HEIGHT);
    ctx.textBaseline = "alphabetic";
    ctx.textAlign = "left";
    ctx.fillStyle = ink;
    ctx.font = "600 13px " + font;
    ctx.fillText(clipText(ctx, stats.name, NODE_WIDTH - 78), left + 13, top + 20);
    ctx.textAlign = "right";
    ctx.fillText(short(stats.submitted), left + NODE_WIDTH - 9, top + 20);
    ctx.font = "11px " + font;
    ctx.fillStyle = quiet;
    const note = stats.failed > 0 ? short(stats.failed) + " failed" : stats.running > 0 ? short(stats.running) + " running" : "";
    ctx.fillText(note, left + NODE_WIDTH - 9, top + 51);
    ctx.textAlign = "left";
    ctx.fillText(duration(stats.run_time) + " total", left + 13, top + 51);
    const room = NODE_WIDTH - 22;
    ctx.fillStyle = sunk;
    ctx.fillRect(left + 13, top + 28, room, 9);
    let at = left + 13;
    for (const state of STACK_ORDER) {
      const across = (room * countOf(stats, state)) / Math.max(1, stats.submitted);
      if (across <= 0) continue;
      ctx.globalAlpha = only >= 0 && only !== state ? 0.15 : state === WAITING ? 0.35 : 1;
      ctx.fillStyle = states[state] ?? ink;
      // Tasks that haven't started have lower bars, so that they differ not only in colour.
      const tall = state >= FINISHED || state === RUNNING ? 9 : 4;
      ctx.fillRect(at, top + 28 + (9 - tall), Math.max(1, across), tall);
      at += across;
    }
    ctx.globalAlpha = 1;
  }

  /**
   * Draws the line, and returns the position of its label.
   * @param {CanvasRenderingContext2D} ctx
   * @param {LinkRow} link
   * @param {number | null} chosen
   * @returns {LinkLabel | null}
   */
  drawLink(ctx, [from, to, count], chosen) {
    const a = this.places.get(from);
    const b = this.places.get(to);
    if (!a || !b) return null;
    const { strongRule, accent } = colours();
    const strong = from === chosen || to === chosen;
    ctx.strokeStyle = strong ? accent : strongRule;
    ctx.lineWidth = 1 + Math.min(5, Math.log10(count + 1));
    const startX = a.column * CELL_WIDTH + NODE_WIDTH / 2;
    const startY = a.row * CELL_HEIGHT;
    const endX = b.column * CELL_WIDTH - NODE_WIDTH / 2;
    const endY = b.row * CELL_HEIGHT;
    let labelX = (startX + endX) / 2;
    let labelY = (startY + endY) / 2;
    ctx.beginPath();
    if (from === to) {
      // A loop above the node.
      labelX = a.column * CELL_WIDTH;
      labelY = startY - NODE_HEIGHT / 2 - 17;
      ctx.moveTo(startX - 12, startY - NODE_HEIGHT / 2);
      ctx.bezierCurveTo(startX - 8, labelY - 6, endX + 8, labelY - 6, endX + 12, startY - NODE_HEIGHT / 2);
    } else if (endX < startX) {
      // To an earlier column or the same: below the nodes.
      labelY = Math.max(startY, endY) + NODE_HEIGHT / 2 + 12;
      ctx.moveTo(startX, startY + 10);
      ctx.bezierCurveTo(startX + 60, labelY + 10, endX - 60, labelY + 10, endX, endY + 10);
    } else {
      const bend = (endX - startX) / 2;
      ctx.moveTo(startX, startY);
      ctx.bezierCurveTo(startX + bend, startY, endX - bend, endY, endX, endY);
    }
    ctx.stroke();
    return { count, strong, x: labelX, y: labelY };
  }

  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {LinkLabel} label
   */
  drawLabel(ctx, { count, strong, x, y }) {
    const { accent, quiet, paper, font } = colours();
    ctx.font = "11px " + font;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    const text = short(count);
    const room = ctx.measureText(text).width + 8;
    ctx.fillStyle = paper;
    ctx.fillRect(x - room / 2, y - 8, room, 16);
    ctx.fillStyle = strong ? accent : quiet;
    ctx.fillText(text, x, y + 0.5);
  }

  /**
   * Returns the function at a point of the canvas, or null.
   * @param {number} x
   * @param {number} y
   */
  at(x, y) {
    const atX = this.camera.fromX(x);
    const atY = this.camera.fromY(y);
    for (const [index, { column, row }] of this.places) {
      if (Math.abs(column * CELL_WIDTH - atX) <= NODE_WIDTH / 2 && Math.abs(row * CELL_HEIGHT - atY) <= NODE_HEIGHT / 2) return index;
    }
    return null;
  }

  /** @param {number} index */
  placeOf(index) {
    const place = this.places.get(index);
    return place ? { x: place.column * CELL_WIDTH, y: place.row * CELL_HEIGHT } : null;
  }

  /** @param {number} index */
  describe(index) {
    const stats = store.stats?.functions.find((each) => each.name === store.nameOf(index));
    if (!stats) return "";
    const parts = STACK_ORDER.filter((state) => countOf(stats, state) > 0).map((state) => short(countOf(stats, state)) + " " + STATES[state]);
    return `${stats.name}: ${plural(stats.submitted, "task")}, ${parts.join(", ")}`;
  }

  /**
   * Returns the function that an arrow key selects. Without a current function it's the first one.
   * @param {number | null} index
   * @param {string} key
   * @returns {number | null}
   */
  step(index, key) {
    const start = index === null ? undefined : this.places.get(index);
    if (!start) return this.places.keys().next().value ?? null;
    const byX = key === "ArrowLeft" ? -1 : key === "ArrowRight" ? 1 : 0;
    const byY = key === "ArrowUp" ? -1 : key === "ArrowDown" ? 1 : 0;
    let best = null;
    let least = Infinity;
    for (const [other, { column, row }] of this.places) {
      const ahead = (column - start.column) * byX + (row - start.row) * byY;
      const aside = Math.abs((column - start.column) * byY) + Math.abs((row - start.row) * byX);
      if (ahead <= 0 || ahead + aside * 3 >= least) continue;
      least = ahead + aside * 3;
      best = other;
    }
    return best;
  }
}

/**
 * @param {FunctionStats} stats
 * @param {number} state
 */
function countOf(stats, state) {
  const name = STATES[state];
  return name ? stats[name] : 0;
}
