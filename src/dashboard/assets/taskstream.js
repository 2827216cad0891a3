// @ts-check
// The task stream: a lane per worker, and a bar per poll in the colour of its function. A gap is idle time, and a
// thin line is a task that awaits something between two polls.

import { choices, element, panel, setPressed, setText, showTip } from "./dom.js";
import { clock, duration, plural, tickStep, tickText } from "./format.js";
import { colours, functionColour } from "./colour.js";
import { Painter, Surface, clipText } from "./frames.js";
import { store } from "./store.js";

/** @import { Bar } from "./bars.js" */
/** @import { Lane, OpenWait } from "./store.js" */

/** @typedef {{ lane: number, bar: Bar }} FoundBar */

const AXIS_HEIGHT = 22;
const LABEL_WIDTH = 84;
const NARROW_LABEL_WIDTH = 30;
const DRAG_THRESHOLD_X = 4;
const THINNEST_BAR = 1.5;
const BAR_TEXT_COLOUR = "#10151a";
const OUTCOMES = ["pending", "finished", "failed"];
const FAILED_OUTCOME = 2;

export class TaskStream {
  /** @param {(id: number) => void} showTask */
  constructor(showTask) {
    this.showTask = showTask;
    // The length of the window in seconds.
    this.span = 30;
    // Whether the window contains the whole run.
    this.all = false;
    // The end of the window, or null while it follows the run.
    /** @type {number | null} */
    this.end = null;
    /** @type {FoundBar | null} */
    this.chosen = null;
    /** @type {FoundBar | null} */
    this.hover = null;
    /** @type {{ x: number, end: number, moved: boolean } | null} */
    this.drag = null;
    // Whether the pointer was dragged since it was pressed: the click that follows chooses nothing.
    this.dragged = false;
    // The positions of the last drawing.
    this.map = { lanes: /** @type {Lane[]} */ ([]), height: 1, left: LABEL_WIDTH, from: 0, to: 1, perSecond: 1, width: 0 };

    const { node, right, note } = panel("Task stream", "stream");
    this.node = node;
    this.note = note;
    this.window = choices("Length of the window", [["5", "5 s"], ["30", "30 s"], ["120", "2 min"], ["all", "All"]],
      "30", (value) => this.setSpan(value));
    this.followButton = element("button", { type: "button", "aria-pressed": "true", onclick: () => this.setEnd(null) }, "Follow");
    right.append(this.window.node, this.followButton);
    this.canvas = element("canvas", {
      tabindex: "0",
      role: "application",
      "aria-label": "Task stream. Arrow keys move from bar to bar and lane to lane, Enter opens the details, plus and minus zoom, F follows the run.",
      onkeydown: (event) => this.onKey(event),
      onwheel: (event) => this.onWheel(event),
      onpointerdown: (event) => this.onPress(event),
      onpointermove: (event) => this.onMove(event),
      onpointerup: () => { this.drag = null; },
      onpointercancel: () => { this.drag = null; },
      onpointerleave: () => this.setHover(null, 0, 0),
      onclick: (event) => this.onClick(event),
    });
    this.tip = element("div", { class: "tip", hidden: true });
    this.announcement = element("p", { class: "announcement quiet", "aria-live": "polite" });
    node.append(element("div", { class: "scroll lanes" }, element("div", { class: "plot" }, this.canvas, this.tip)), this.announcement);

    this.painter = new Painter(() => this.draw());
    this.surface = new Surface(this.canvas, () => this.painter.now());
    this.unlisten = store.listen(() => this.painter.soon());
    this.painter.now();
  }

  stop() {
    this.unlisten();
    this.painter.stop();
    this.surface.stop();
  }

  /** @param {string} value seconds or "all" */
  setSpan(value) {
    this.all = value === "all";
    if (!this.all) this.span = Number(value);
    this.setEnd(this.all ? null : this.end);
  }

  /** @param {number | null} end */
  setEnd(end) {
    this.end = end;
    setPressed(this.followButton, end === null);
    this.painter.now();
  }

  /**
   * Returns the interval to show. A window that follows the run stops while no task is running, so that the last
   * bars stay visible.
   * @returns {[from: number, to: number]}
   */
  range() {
    if (this.end !== null) return [this.end - this.span, this.end];
    let last = store.now;
    if (!store.isBusy()) {
      last = 0;
      for (const lane of store.lanes.values()) last = Math.max(last, lane.bars.last()?.end ?? 0);
      last = last > 0 ? last : store.now;
    }
    const first = this.firstTime();
    if (this.all) return [first, Math.max(last, first + 0.01)];
    // A run shorter than the window fills it.
    const span = Math.min(this.span, Math.max(1, last - first));
    return [last - span, last];
  }

  firstTime() {
    let first = Infinity;
    for (const { bars } of store.lanes.values()) first = Math.min(first, bars.at(0)?.start ?? Infinity);
    return first === Infinity ? 0 : first;
  }

  /** Sets the height of the canvas, and computes the positions of lanes and times. */
  measure() {
    const lanes = store.sortedLanes();
    const room = Math.min(350, innerHeight * 0.4) - AXIS_HEIGHT;
    const height = Math.max(9, Math.min(30, Math.floor(room / Math.max(1, lanes.length))));
    this.canvas.style.height = Math.max(60, lanes.length * height + AXIS_HEIGHT) + "px";
    const width = this.canvas.clientWidth;
    const left = width < 560 ? NARROW_LABEL_WIDTH : LABEL_WIDTH;
    const [from, to] = this.range();
    this.map = { lanes, height, left, from, to, perSecond: (width - left - 6) / (to - from), width };
  }

  draw() {
    this.measure();
    const ctx = this.surface.begin();
    const { lanes, height } = this.map;
    this.drawAxis(ctx, lanes.length * height);
    lanes.forEach((lane, i) => this.drawLane(ctx, lane, i * height));
    this.drawWaits(ctx);
    this.drawMarks(ctx);
    const polls = lanes.reduce((sum, lane) => sum + lane.bars.length, 0);
    setText(this.note, lanes.length === 0 ? "no workers yet" : plural(lanes.length, "worker") + ", " + plural(polls, "poll"));
    this.canvas.dataset.lanes = String(lanes.length);
  }

  /** @param {number} time */
  x(time) {
    return this.map.left + (time - this.map.from) * this.map.perSecond;
  }

  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {number} bottom
   */
  drawAxis(ctx, bottom) {
    const { from, to, left, width } = this.map;
    const { rule, quiet, font } = colours();
    const step = tickStep(to - from, (width - left) / 90);
    ctx.font = "11px " + font;
    ctx.textBaseline = "middle";
    ctx.textAlign = "center";
    for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
      const x = Math.round(this.x(t)) + 0.5;
      ctx.fillStyle = rule;
      ctx.fillRect(x, 0, 1, bottom + 4);
      ctx.fillStyle = quiet;
      if (x > left + 12 && x < width - 18) ctx.fillText(tickText(t, step), x, bottom + 14);
    }
  }

  /**
   * @param {CanvasRenderingContext2D} ctx
   * @param {Lane} lane
   * @param {number} top
   */
  drawLane(ctx, lane, top) {
    const { height, left, width, from, to } = this.map;
    const { rule, quiet, ink, font } = colours();
    ctx.fillStyle = rule;
    ctx.fillRect(left, top + height - 1, width - left, 1);
    ctx.font = "11px " + font;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    if (height >= 11) {
      ctx.fillStyle = lane.alive ? ink : quiet;
      const label = left === LABEL_WIDTH ? lane.label : lane.label.replace(/^\D+/, "");
      ctx.fillText(clipText(ctx, label, left - 8), 0, top + height / 2);
    }
    const tall = height - (height > 14 ? 5 : 2);
    const y = top + (height - 1 - tall) / 2;
    this.drawPolls(ctx, lane, y, tall);
    if (lane.task >= 0 && lane.since < to) {
      const task = store.tasks.get(lane.task);
      const x = Math.max(left, this.x(Math.max(lane.since, from)));
      const across = Math.max(1, this.x(Math.min(store.now, to)) - x);
      ctx.fillStyle = task ? functionColour(task.name) : quiet;
      ctx.globalAlpha = 0.55;
      ctx.fillRect(x, y, across, tall);
      ctx.globalAlpha = 1;
    }
  }

  /**
   * Draws the bars of a lane. Bars too thin to be seen are summed up per column of pixels, whose height is the
   * share of time in polls and whose colour is that of the prevailing function.
   * @param {CanvasRenderingContext2D} ctx
   * @param {Lane} lane
   * @param {number} y
   * @param {number} tall
   */
  drawPolls(ctx, lane, y, tall) {
    const { left, from, to, width, perSecond } = this.map;
    const { failed } = colours();
    const columns = Math.max(0, Math.ceil(width - left));
    const busy = new Float32Array(columns);
    const owner = new Int32Array(columns);
    const lead = new Float32Array(columns);
    let thin = false;
    for (const bar of lane.bars.between(from, to)) {
      const x = this.x(bar.start);
      const across = (bar.end - bar.start) * perSecond;
      if (across < THINNEST_BAR) {
        const column = Math.floor(x - left);
        if (column < 0 || column >= columns) continue;
        thin = true;
        const weight = Math.max(across, 1e-6);
        busy[column] = (busy[column] ?? 0) + weight;
        // Boyer–Moore majority vote: bars of other functions reduce the owner's lead.
        const before = lead[column] ?? 0;
        if (owner[column] === bar.name + 1) lead[column] = before + weight;
        else if (before >= weight) lead[column] = before - weight;
        else {
          owner[column] = bar.name + 1;
          lead[column] = weight - before;
        }
        continue;
      }
      const start = Math.max(left, x);
      ctx.fillStyle = functionColour(bar.name);
      // A narrow gap separates neighbours.
      ctx.fillRect(start, y, Math.max(1, x + across - start - (across > 4 ? 0.75 : 0)), tall);
      if (bar.outcome === FAILED_OUTCOME) {
        ctx.fillStyle = failed;
        ctx.fillRect(start, y + tall - 3, Math.max(2, x + across - start), 3);
      }
      if (across > 46 && tall > 12) {
        ctx.fillStyle = BAR_TEXT_COLOUR;
        ctx.fillText(clipText(ctx, store.nameOf(bar.name), x + across - start - 8), start + 4, y + tall / 2 + 0.5);
      }
    }
    if (!thin) return;
    busy.forEach((share, column) => {
      if (share === 0) return;
      const part = Math.max(2, Math.min(1, share) * tall);
      ctx.fillStyle = functionColour((owner[column] ?? 1) - 1);
      ctx.fillRect(left + column, y + tall - part, 1, part);
    });
  }

  /**
   * Draws the time between two polls of a task as a line at the bottom of the lane.
   * @param {CanvasRenderingContext2D} ctx
   */
  drawWaits(ctx) {
    const { lanes, height, left, from, to } = this.map;
    const tops = new Map(lanes.map((lane, i) => [lane.index, i * height]));
    /**
     * @param {OpenWait} wait
     * @param {number} end
     */
    const drawWait = (wait, end) => {
      const top = tops.get(wait.lane);
      if (top === undefined || end < from || wait.start > to) return;
      const x = Math.max(left, this.x(wait.start));
      const across = this.x(Math.min(end, to)) - x;
      if (across < 1) return;
      ctx.fillStyle = functionColour(wait.name);
      ctx.fillRect(x, top + height - 3, across, 1.5);
    };
    ctx.globalAlpha = 0.8;
    for (const wait of store.waits) drawWait(wait, wait.end);
    for (const wait of store.openWaits.values()) drawWait(wait, store.now);
    ctx.globalAlpha = 1;
  }

  /** @param {CanvasRenderingContext2D} ctx */
  drawMarks(ctx) {
    const { lanes, left, height } = this.map;
    for (const [found, strong] of /** @type {const} */ ([[this.hover, false], [this.chosen, true]])) {
      if (!found) continue;
      const row = lanes.findIndex((lane) => lane.index === found.lane);
      if (row < 0) continue;
      const x = Math.max(left, this.x(found.bar.start));
      const across = Math.max(3, this.x(found.bar.end) - x);
      ctx.strokeStyle = strong ? colours().accent : colours().ink;
      ctx.lineWidth = strong ? 2 : 1;
      ctx.strokeRect(x - 1, row * height + 1, across + 2, height - 3);
    }
  }

  /** @param {MouseEvent} event */
  pointOf(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  /**
   * Returns the bar at a point of the canvas.
   * @param {{ x: number, y: number }} point
   * @returns {FoundBar | null}
   */
  find({ x, y }) {
    const { lanes, height, left, from, perSecond } = this.map;
    const lane = lanes[Math.floor(y / height)];
    if (!lane || x < left) return null;
    const slack = 2 / perSecond;
    const time = from + (x - left) / perSecond;
    const bar = lane.bars.at(lane.bars.after(time - slack));
    return bar && bar.start <= time + slack ? { lane: lane.index, bar } : null;
  }

  /** @param {FoundBar} found */
  describe({ lane, bar }) {
    const key = store.keyOfId(bar.id, bar.name);
    return `${key}: ${duration(bar.end - bar.start)} at ${clock(bar.start)}, ${OUTCOMES[bar.outcome]}, ${store.workerLabel(lane)}`;
  }

  /**
   * @param {FoundBar | null} found
   * @param {number} x
   * @param {number} y
   */
  setHover(found, x, y) {
    if (found?.bar === this.hover?.bar) return;
    this.hover = found;
    this.tip.hidden = true;
    if (found) showTip(this.tip, this.describe(found), x, y, this.map.width);
    this.painter.now();
  }

  /** @param {PointerEvent} event */
  onPress(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.drag = { x: event.clientX, end: this.map.to, moved: false };
  }

  /** @param {PointerEvent} event */
  onMove(event) {
    if (!this.drag) {
      const point = this.pointOf(event);
      this.setHover(this.find(point), point.x, point.y);
      return;
    }
    const by = event.clientX - this.drag.x;
    if (Math.abs(by) < DRAG_THRESHOLD_X && !this.drag.moved) return;
    this.drag.moved = this.dragged = true;
    this.freeze();
    this.setEnd(this.drag.end - by / this.map.perSecond);
  }

  /** Keeps the current length of the window and stops following. */
  freeze() {
    if (this.end !== null) return;
    this.span = this.map.to - this.map.from;
    this.all = false;
    this.window.press("");
  }

  /** @param {MouseEvent} event */
  onClick(event) {
    if (this.dragged) {
      this.dragged = false;
      return;
    }
    const found = this.find(this.pointOf(event));
    if (!found) return;
    this.choose(found);
    this.showTask(found.bar.id);
  }

  /** @param {WheelEvent} event */
  onWheel(event) {
    // Without Ctrl or Shift the wheel scrolls the page.
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    this.zoom(Math.exp((event.deltaY || event.deltaX) / 300), this.pointOf(event).x);
  }

  /**
   * @param {number} factor
   * @param {number} x the pixel whose time keeps its position
   */
  zoom(factor, x) {
    this.freeze();
    const { from, to, left, perSecond } = this.map;
    const time = from + (x - left) / perSecond;
    this.span = Math.min(86_400, Math.max(1e-5, (to - from) * factor));
    this.window.press("");
    this.setEnd(time + (to - time) * (this.span / (to - from)));
  }

  /** @param {FoundBar} found */
  choose(found) {
    this.chosen = found;
    setText(this.announcement, this.describe(found));
    const { from, to } = this.map;
    if (found.bar.end < from || found.bar.start > to) {
      this.freeze();
      this.setEnd(found.bar.end + this.span / 2);
    }
    this.painter.now();
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const middle = this.map.left + (this.map.width - this.map.left) / 2;
    if (event.key === "ArrowLeft") this.step(-1, 0);
    else if (event.key === "ArrowRight") this.step(1, 0);
    else if (event.key === "ArrowUp") this.step(0, -1);
    else if (event.key === "ArrowDown") this.step(0, 1);
    else if (event.key === "+" || event.key === "=") this.zoom(1 / 1.5, middle);
    else if (event.key === "-") this.zoom(1.5, middle);
    else if (event.key === "f" || event.key === "F") this.setEnd(null);
    else if (event.key === "Enter" && this.chosen) this.showTask(this.chosen.bar.id);
    else return;
    event.preventDefault();
  }

  /**
   * Chooses a neighbouring bar.
   * @param {number} along bars along the lane
   * @param {number} down lanes
   */
  step(along, down) {
    const { lanes, to } = this.map;
    const { chosen } = this;
    const row = chosen ? lanes.findIndex((lane) => lane.index === chosen.lane) : 0;
    const lane = lanes[Math.max(0, Math.min(lanes.length - 1, row + down))];
    if (!lane || lane.bars.length === 0) return;
    let index = lane.bars.after(chosen ? chosen.bar.start : to);
    if (chosen && down === 0) index = lane.bars.after((chosen.bar.start + chosen.bar.end) / 2) + along;
    const bar = lane.bars.at(Math.max(0, Math.min(lane.bars.length - 1, index)));
    if (bar) this.choose({ lane: lane.index, bar });
  }
}
