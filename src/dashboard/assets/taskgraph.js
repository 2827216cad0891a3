// The graph of single tasks, on a canvas. The state is told by colour and by shape: what has a value is
// full, what has none yet is an outline, what failed is crossed.

import { CANCELLED, DELAYED, FAILED, FINISHED, RUNNING, drawMark } from "./states.js";
import { Camera } from "./camera.js";
import { Layout } from "./layout.js";
import { colours } from "./colour.js";
import { store } from "./store.js";

// Of more than that only the functions are shown.
export const MOST_TASKS = 2_000;

export class TaskGraph {
  constructor() {
    this.camera = new Camera({ most: [150, 26], least: [0.2, 0.05], uniform: false });
    this.clear();
  }

  clear() {
    this.shown = () => true;
    this.members = new Set();
    this.layout = new Layout();
  }

  // All there is, anew.
  rebuild(shown) {
    this.shown = shown;
    this.members = new Set();
    this.layout = new Layout();
    for (const task of store.tasks.values()) if (shown(task)) this.members.add(task.id);
    if (this.fits) this.place(this.members);
  }

  update(changed) {
    const fitted = this.fits;
    for (const id of changed.gone) this.remove(id);
    for (const id of changed.tasks) {
      const task = store.tasks.get(id);
      if (task && this.shown(task)) this.members.add(id);
      else this.remove(id);
    }
    // Places are only looked for when they're shown: that's what keeps a run of a million tasks cheap.
    if (!this.fits) this.layout = new Layout();
    else this.place(fitted ? changed.tasks : this.members);
  }

  remove(id) {
    this.members.delete(id);
    this.layout.remove(id);
  }

  // Inputs are placed before what takes them.
  place(ids) {
    const tasks = [...ids].filter((id) => this.members.has(id)).map((id) => store.tasks.get(id));
    tasks.sort((a, b) => a.depth - b.depth || a.id - b.id);
    for (const task of tasks) this.layout.add(task);
  }

  // Whether they're few enough to be shown one by one.
  get fits() {
    return this.members.size <= MOST_TASKS;
  }

  get size() {
    return this.members.size;
  }

  bounds() {
    return this.layout.bounds();
  }

  draw(pen, width, height, { chosen, hover, only }) {
    const { camera } = this;
    const across = Math.max(2, Math.min(camera.scaleX * 0.74, 150));
    const tall = Math.max(1.5, Math.min(camera.scaleY * 0.8, 24));
    this.box = { across, tall };
    this.edges(pen, width, height, across, chosen);
    const { text } = colours();
    pen.font = Math.min(12, tall * 0.62 + 2) + "px " + text;
    pen.textBaseline = "middle";
    pen.textAlign = "left";
    for (const [id, { column, row }] of this.layout.places) {
      const x = camera.toX(column);
      const y = camera.toY(row);
      if (x < -across || x > width + across || y < -tall || y > height + tall) continue;
      const task = store.tasks.get(id);
      if (!task) continue;
      pen.globalAlpha = only >= 0 && only !== task.state ? 0.18 : 1;
      this.node(pen, task, x - across / 2, y - tall / 2, across, tall);
      if (id === chosen || id === hover) this.outline(pen, x - across / 2, y - tall / 2, across, tall, id === chosen);
    }
    pen.globalAlpha = 1;
  }

  node(pen, task, x, y, across, tall) {
    const { states, panel, ink } = colours();
    const { state } = task;
    const colour = states[state];
    const big = tall >= 11 && across >= 30;
    const full = state >= FINISHED ? state !== CANCELLED && (state === FAILED || task.held) : state === RUNNING;
    if (!big) {
      // No room for shapes: full height for what is full, a thin line for the rest.
      pen.fillStyle = colour;
      const part = state === FAILED ? Math.max(3, tall) : full || tall < 3 ? tall : Math.max(1, tall * 0.4);
      if (!full) pen.globalAlpha *= state === FINISHED ? 0.6 : 0.85;
      pen.fillRect(x, y + (tall - part) / 2, across, part);
      return;
    }
    const alpha = pen.globalAlpha;
    pen.fillStyle = panel;
    pen.fillRect(x, y, across, tall);
    if (full) {
      pen.globalAlpha = alpha * 0.2;
      pen.fillStyle = colour;
      pen.fillRect(x, y, across, tall);
      pen.globalAlpha = alpha;
    }
    pen.strokeStyle = colour;
    pen.lineWidth = state === RUNNING ? 2 : 1;
    pen.setLineDash(state === DELAYED ? [4, 3] : state === CANCELLED || (state === FINISHED && !task.held) ? [2, 2] : []);
    pen.strokeRect(x + 0.5, y + 0.5, across - 1, tall - 1);
    pen.setLineDash([]);
    const size = Math.min(11, tall - 3);
    drawMark(pen, state, x + 4 + size / 2, y + tall / 2, size, colour);
    const room = across - size - 12;
    if (room > 14) {
      pen.fillStyle = ink;
      pen.fillText(fitted(pen, store.keyOf(task), room), x + size + 8, y + tall / 2 + 0.5);
    }
  }

  outline(pen, x, y, across, tall, strong) {
    pen.globalAlpha = 1;
    pen.strokeStyle = strong ? colours().accent : colours().ink;
    pen.lineWidth = strong ? 2.5 : 1.5;
    pen.strokeRect(x - 3, y - 3, across + 6, tall + 6);
  }

  // One path for all edges of a kind: a thousand small strokes cost far more than one long one.
  edges(pen, width, height, across, chosen) {
    const { strongRule, accent, states } = colours();
    const input = new Path2D();
    const awaited = new Path2D();
    const near = new Path2D();
    const { camera, layout } = this;
    let count = 0;
    for (const [id, to] of layout.places) {
      const task = store.tasks.get(id);
      if (!task) continue;
      const endX = camera.toX(to.column) - across / 2;
      const endY = camera.toY(to.row);
      for (const edge of task.ins) {
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
    pen.lineWidth = camera.scaleY < 6 ? 0.5 : 1;
    pen.strokeStyle = strongRule;
    pen.globalAlpha = count > 600 ? 0.55 : 0.9;
    pen.stroke(input);
    pen.globalAlpha = 0.9;
    pen.strokeStyle = states[DELAYED];
    pen.setLineDash([3, 3]);
    pen.stroke(awaited);
    pen.setLineDash([]);
    pen.globalAlpha = 1;
    pen.strokeStyle = accent;
    pen.lineWidth = 1.6;
    pen.stroke(near);
  }

  at(x, y) {
    const { camera, box } = this;
    if (!box) return null;
    const reachX = (box.across / 2 + 4) / camera.scaleX;
    const reachY = (box.tall / 2 + 3) / camera.scaleY;
    return this.layout.nearest(camera.fromX(x), camera.fromY(y), reachX, reachY);
  }

  placeOf(id) {
    const place = this.layout.places.get(id);
    return place ? { x: place.column, y: place.row } : null;
  }

  // Where an arrow key leads: left to an input, right to what takes the task, up and down in the column.
  step(id, key) {
    const { layout } = this;
    const task = store.tasks.get(id);
    const start = layout.places.get(id);
    if (!task || !start) return layout.places.keys().next().value ?? null;
    if (key === "ArrowUp") return layout.neighbour(id, -1);
    if (key === "ArrowDown") return layout.neighbour(id, 1);
    const near = (key === "ArrowLeft" ? task.ins : task.outs).filter((edge) => layout.places.has(edge.id));
    near.sort((a, b) => Math.abs(layout.places.get(a.id).row - start.row) - Math.abs(layout.places.get(b.id).row - start.row));
    return near[0]?.id ?? null;
  }
}

const WIDTHS = new Map();

// As much of a text as fits, guessed from its length, and measured once for each length.
function fitted(pen, text, room) {
  const known = pen.font;
  let each = WIDTHS.get(known);
  if (!each) {
    each = pen.measureText("abcdefghij_klmno-0123456789").width / 27;
    WIDTHS.set(known, each);
  }
  const fits = Math.floor(room / each);
  return text.length <= fits ? text : text.slice(0, Math.max(1, fits - 1)) + "…";
}
