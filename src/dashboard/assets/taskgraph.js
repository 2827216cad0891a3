// @ts-check
// The graph of single tasks on a canvas. Colour and shape show the state: tasks with a result are filled,
// unfinished ones are outlines, and failed ones are crossed.

import { CANCELLED, DELAYED, FAILED, FINISHED, RUNNING, STATES, drawSymbol } from "./states.js";
import { Camera } from "./camera.js";
import { Layout } from "./layout.js";
import { colours } from "./colour.js";
import { store } from "./store.js";

/** @import { Changes, Task } from "./store.js" */

/** @typedef {{ chosen: number | null, hover: number | null, only: number }} Emphasis `only` is a state or -1 */

// Above this number of tasks, the graph of functions is shown instead.
export const MOST_TASKS = 2_000;

export class TaskGraph {
  constructor() {
    this.camera = new Camera({ most: [150, 26], least: [0.2, 0.05], uniform: false });
    this.layout = new Layout();
    /** @type {(task: Task) => boolean} */
    this.shown = () => true;
    /** @type {Set<number>} */
    this.members = new Set();
    // The size of a node in pixels.
    this.nodeWidth = 0;
    this.nodeHeight = 0;
  }

  clear() {
    this.shown = () => true;
    this.members = new Set();
    this.layout = new Layout();
  }

  /**
   * Lays out all tasks that `shown` accepts.
   * @param {(task: Task) => boolean} shown
   */
  rebuild(shown) {
    this.clear();
    this.shown = shown;
    for (const task of store.tasks.values()) if (shown(task)) this.members.add(task.id);
    if (this.fits) this.place(this.members);
  }

  /** @param {Changes} changes */
  update(changes) {
    const fitted = this.fits;
    for (const id of changes.gone) this.remove(id);
    for (const id of changes.tasks) {
      const task = store.tasks.get(id);
      if (task && this.shown(task)) this.members.add(id);
      else this.remove(id);
    }
    // Tasks are placed only if the graph is shown, which keeps a run of a million tasks cheap.
    if (!this.fits) this.layout = new Layout();
    else this.place(fitted ? changes.tasks : this.members);
  }

  /** @param {number} id */
  remove(id) {
    this.members.delete(id);
    this.layout.remove(id);
  }

  /**
   * Places tasks, inputs before dependents.
   * @param {Iterable<number>} ids
   */
  place(ids) {
    const tasks = [];
    for (const id of ids) {
      const task = this.members.has(id) ? store.tasks.get(id) : undefined;
      if (task) tasks.push(task);
    }
    tasks.sort((a, b) => a.depth - b.depth || a.id - b.id);
    for (const task of tasks) this.layout.add(task);
  }

  /** Whether the tasks are few enough to be shown. */
  get fits() {
    return this.members.size <= MOST_TASKS;
  }

  get size() {
    return this.members.size;
  }

  bounds() {
    return this.layout.bounds();
  }

  /** Returns the number of shown tasks in each state. */
  counts() {
    /** @type {number[]} */
    const counts = STATES.map(() => 0);
    for (const id of this.layout.places.keys()) {
      const state = store.tasks.get(id)?.state ?? -1;
      if (state >= 0) counts[state] = (counts[state] ?? 0) + 1;
    }
    return counts;
  }

  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {number} width
   * @param {number} height
   * @param {Emphasis} emphasis
   */
  draw(ctx, width, height, { chosen, hover, only }) {
    const { camera } = this;
    const across = Math.max(2, Math.min(camera.scaleX * 0.74, 150));
    const tall = Math.max(1.5, Math.min(camera.scaleY * 0.8, 24));
    this.nodeWidth = across;
    this.nodeHeight = tall;
    this.drawEdges(ctx, width, height, chosen);
    ctx.font = Math.min(12, tall * 0.62 + 2) + "px " + colours().font;
    ctx.textBaseline = "middle";
    ctx.textAlign = "left";
    for (const [id, { column, row }] of this.layout.places) {
      const x = camera.toX(column);
      const y = camera.toY(row);
      if (x < -across || x > width + across || y < -tall || y > height + tall) continue;
      const task = store.tasks.get(id);
      if (!task) continue;
      ctx.globalAlpha = only >= 0 && only !== task.state ? 0.18 : 1;
      this.drawNode(ctx, task, x - across / 2, y - tall / 2);
      if (id === chosen || id === hover) this.drawOutline(ctx, x - across / 2, y - tall / 2, id === chosen);
    }
    ctx.globalAlpha = 1;
  }

  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {Task} task
   * @param {number} x
   * @param {number} y
   */
  drawNode(ctx, task, x, y) {
    const { nodeWidth: across, nodeHeight: tall } = this;
    const { states, panel, ink } = colours();
    const { state } = task;
    const colour = states[state] ?? ink;
    const filled = state >= FINISHED ? state !== CANCELLED && (state === FAILED || task.held) : state === RUNNING;
    if (tall < 11 || across < 30) {
      // Too small for shapes: filled nodes have the full height, the others are a thin line.
      ctx.fillStyle = colour;
      const part = state === FAILED ? Math.max(3, tall) : filled || tall < 3 ? tall : Math.max(1, tall * 0.4);
      if (!filled) ctx.globalAlpha *= state === FINISHED ? 0.6 : 0.85;
      ctx.fillRect(x, y + (tall - part) / 2, across, part);
      return;
    }
    const alpha = ctx.globalAlpha;
    ctx.fillStyle = panel;
    ctx.fillRect(x, y, across, tall);
    if (filled) {
      ctx.globalAlpha = alpha * 0.2;
      ctx.fillStyle = colour;
      ctx.fillRect(x, y, across, tall);
      ctx.globalAlpha = alpha;
    }
    ctx.strokeStyle = colour;
    ctx.lineWidth = state === RUNNING ? 2 : 1;
    ctx.setLineDash(state === DELAYED ? [4, 3] : state === CANCELLED || (state === FINISHED && !task.held) ? [2, 2] : []);
    ctx.strokeRect(x + 0.5, y + 0.5, across - 1, tall - 1);
    ctx.setLineDash([]);
    const size = Math.min(11, tall - 3);
    drawSymbol(ctx, state, x + 4 + size / 2, y + tall / 2, size, colour);
    const room = across - size - 12;
    if (room > 14) {
      ctx.fillStyle = ink;
      ctx.fillText(estimateClip(ctx, store.keyOf(task), room), x + size + 8, y + tall / 2 + 0.5);
    }
  }

  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {number} x
   * @param {number} y
   * @param {boolean} strong
   */
  drawOutline(ctx, x, y, strong) {
    ctx.globalAlpha = 1;
    ctx.strokeStyle = strong ? colours().accent : colours().ink;
    ctx.lineWidth = strong ? 2.5 : 1.5;
    ctx.strokeRect(x - 3, y - 3, this.nodeWidth + 6, this.nodeHeight + 6);
  }

  /**
   * Draws all edges of a kind as one path, which is far cheaper than a stroke per edge.
   * @param {CanvasRenderingContext2D} ctx
   * @param {number} width
   * @param {number} height
   * @param {number | null} chosen
   */
  drawEdges(ctx, width, height, chosen) {
    const { strongRule, accent, states } = colours();
    const input = new Path2D();
    const awaited = new Path2D();
    const near = new Path2D();
    const { camera, layout, nodeWidth: across } = this;
    let count = 0;
    for (const [id, to] of layout.places) {
      const task = store.tasks.get(id);
      if (!task) continue;
      const endX = camera.toX(to.column) - across / 2;
      const endY = camera.toY(to.row);
      for (const edge of task.inputs) {
        const from = layout.places.get(edge.id);
        if (!from) continue;
        const startX = camera.toX(from.column) + across / 2;
        const startY = camera.toY(from.row);
        if (Math.max(startX, endX) < 0 || Math.min(startX, endX) > width) continue;
        if (Math.max(startY, endY) < 0 || Math.min(startY, endY) > height) continue;
        const path = id === chosen || edge.id === chosen ? near : edge.kind === 1 ? awaited : input;
        const bend = Math.max(4, (endX - startX) / 2);
        path.moveTo(startX, startY);
        path.bezierCurveTo(startX + bend, startY, endX - bend, endY, endX, endY);
        count += 1;
      }
    }
    ctx.lineWidth = camera.scaleY < 6 ? 0.5 : 1;
    ctx.strokeStyle = strongRule;
    ctx.globalAlpha = count > 600 ? 0.55 : 0.9;
    ctx.stroke(input);
    ctx.globalAlpha = 0.9;
    ctx.strokeStyle = states[DELAYED] ?? strongRule;
    ctx.setLineDash([3, 3]);
    ctx.stroke(awaited);
    ctx.setLineDash([]);
    ctx.globalAlpha = 1;
    ctx.strokeStyle = accent;
    ctx.lineWidth = 1.6;
    ctx.stroke(near);
  }

  /**
   * Returns the task at a point of the canvas, or null.
   * @param {number} x
   * @param {number} y
   */
  at(x, y) {
    const { camera } = this;
    const reachX = (this.nodeWidth / 2 + 4) / camera.scaleX;
    const reachY = (this.nodeHeight / 2 + 3) / camera.scaleY;
    return this.layout.nearest(camera.fromX(x), camera.fromY(y), reachX, reachY);
  }

  /** @param {number} id */
  placeOf(id) {
    const place = this.layout.places.get(id);
    return place ? { x: place.column, y: place.row } : null;
  }

  /** @param {number} id */
  describe(id) {
    const task = store.tasks.get(id);
    if (!task) return "";
    const released = task.state === FINISHED && !task.held ? ", released" : "";
    return store.keyOf(task) + ": " + STATES[task.state] + released;
  }

  /**
   * Returns the task that an arrow key selects: an input to the left, a dependent to the right, or a neighbour in
   * the column. Without a current task it's the first task.
   * @param {number | null} id
   * @param {string} key
   * @returns {number | null}
   */
  step(id, key) {
    const { places } = this.layout;
    const task = id === null ? undefined : store.tasks.get(id);
    const start = id === null ? undefined : places.get(id);
    if (!task || !start) return places.keys().next().value ?? null;
    if (key === "ArrowUp") return this.layout.neighbour(task.id, -1);
    if (key === "ArrowDown") return this.layout.neighbour(task.id, 1);
    let best = null;
    let least = Infinity;
    for (const edge of key === "ArrowLeft" ? task.inputs : task.dependents) {
      const place = places.get(edge.id);
      const distance = place ? Math.abs(place.row - start.row) : Infinity;
      if (distance >= least) continue;
      least = distance;
      best = edge.id;
    }
    return best;
  }
}

/** @type {Map<string, number>} */
const CHARACTER_WIDTHS = new Map();

/**
 * Shortens a text to a width estimated from the font's average character, because measuring thousands of texts
 * per frame is too slow.
 * @param {CanvasRenderingContext2D} ctx
 * @param {string} text
 * @param {number} width
 */
function estimateClip(ctx, text, width) {
  let each = CHARACTER_WIDTHS.get(ctx.font);
  if (!each) {
    each = ctx.measureText("abcdefghij_klmno-0123456789").width / 27;
    CHARACTER_WIDTHS.set(ctx.font, each);
  }
  const fits = Math.floor(width / each);
  return text.length <= fits ? text : text.slice(0, Math.max(1, fits - 1)) + "…";
}
