// The task stream: a lane per worker, a bar per poll in the colour of its function. Where a lane is empty
// its worker had nothing to do; a thin line is a task that waits for something between two polls.

import { choices, element, panel, say } from "./dom.js";
import { colours, functionColour } from "./colour.js";
import { Painter, Sheet } from "./frames.js";
import { clock, lasting, tickStep, tickText } from "./format.js";
import { store } from "./store.js";

const AXIS = 22;
const LABELS = 84;
const NARROW_LABELS = 30;
const OUTCOMES = ["awaits", "finished", "failed"];

export class TaskStream {
  constructor(showTask) {
    this.showTask = showTask;
    this.span = 30;
    // Where the window ends; null while it follows the run.
    this.end = null;
    this.chosen = null;
    this.hover = null;
    this.build();
    this.painter = new Painter(() => this.draw());
    this.sheet = new Sheet(this.canvas, () => this.painter.now());
    this.unlisten = store.listen(() => this.painter.soon());
    this.painter.now();
  }

  build() {
    const { node, right, note } = panel("Task stream", "stream");
    this.node = node;
    this.note = note;
    this.window = choices("Length of the window", [["5", "5 s"], ["30", "30 s"], ["120", "2 min"], ["all", "All"]],
      "30", (value) => this.setSpan(value));
    this.follow = element("button", { type: "button", "aria-pressed": "true", onclick: () => this.setEnd(null) }, "Follow");
    right.append(this.window.node, this.follow);
    this.canvas = element("canvas", {
      tabindex: "0",
      role: "application",
      "aria-label": "Task stream. Arrow keys go from bar to bar and lane to lane, Enter shows the task, plus and minus zoom, F follows the run.",
      onkeydown: (event) => this.key(event),
      onwheel: (event) => this.wheel(event),
      onpointerdown: (event) => this.press(event),
      onpointermove: (event) => this.move(event),
      onpointerup: () => { this.drag = null; },
      onpointercancel: () => { this.drag = null; },
      onpointerleave: () => this.setHover(null),
      onclick: (event) => this.click(event),
    });
    this.tip = element("div", { class: "tip", hidden: true });
    this.plot = element("div", { class: "plot" }, this.canvas, this.tip);
    this.told = element("p", { class: "told quiet", "aria-live": "polite" });
    node.append(element("div", { class: "scroll lanes" }, this.plot), this.told);
  }

  stop() {
    this.unlisten();
    this.painter.stop();
    this.sheet.stop();
  }

  setSpan(value) {
    this.all = value === "all";
    if (!this.all) this.span = Number(value);
    if (this.all) this.end = null;
    this.setEnd(this.end);
  }

  setEnd(end) {
    this.end = end;
    this.follow.setAttribute("aria-pressed", end === null);
    this.painter.now();
  }

  // The stretch of time that's shown. One that follows stops when the run has nothing to do, so that the
  // last bars stay in sight.
  range() {
    if (this.end !== null) return [this.end - this.span, this.end];
    let last = store.now;
    if (!store.isBusy()) {
      last = 0;
      for (const lane of store.lanes.values()) last = Math.max(last, lane.bars.last()?.end ?? 0);
      last = last > 0 ? last : store.now;
    }
    if (this.all) return [this.firstTime(), Math.max(last, this.firstTime() + 0.01)];
    // A short run fills the window rather than a corner of it.
    const span = Math.min(this.span, Math.max(1, last - this.firstTime()));
    return [last - span, last];
  }

  firstTime() {
    let first = Infinity;
    for (const { bars } of store.lanes.values()) if (bars.length) first = Math.min(first, bars.at(0).start);
    return first === Infinity ? 0 : first;
  }

  measure() {
    const lanes = [...store.lanes.values()].sort((a, b) => a.index - b.index);
    const room = Math.min(350, innerHeight * 0.4) - AXIS;
    const height = Math.max(9, Math.min(30, Math.floor(room / Math.max(1, lanes.length))));
    const tall = Math.max(60, lanes.length * height + AXIS);
    this.canvas.style.height = tall + "px";
    const width = this.canvas.clientWidth;
    return { lanes, height, width, left: width < 560 ? NARROW_LABELS : LABELS };
  }

  draw() {
    const { lanes, height, width, left } = this.measure();
    const pen = this.sheet.begin();
    const [from, to] = this.range();
    const perSecond = (width - left - 6) / (to - from);
    this.map = { lanes, height, left, from, to, perSecond, width };
    this.axis(pen, lanes.length * height);
    lanes.forEach((lane, i) => this.lane(pen, lane, i * height));
    this.waits(pen);
    this.mark(pen);
    const polls = [...store.lanes.values()].reduce((sum, lane) => sum + lane.bars.length, 0);
    say(this.note, lanes.length === 0 ? "no worker yet" : `${lanes.length} lanes, ${polls} polls`);
    this.canvas.dataset.lanes = lanes.length;
  }

  x(time) {
    return this.map.left + (time - this.map.from) * this.map.perSecond;
  }

  axis(pen, bottom) {
    const { from, to, left, width } = this.map;
    const { rule, quiet, text } = colours();
    const step = tickStep(to - from, (width - left) / 90);
    pen.font = "11px " + text;
    pen.textBaseline = "middle";
    pen.textAlign = "center";
    for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
      const x = Math.round(this.x(t)) + 0.5;
      pen.fillStyle = rule;
      pen.fillRect(x, 0, 1, bottom + 4);
      pen.fillStyle = quiet;
      if (x > left + 12 && x < width - 18) pen.fillText(tickText(t, step), x, bottom + 14);
    }
  }

  lane(pen, lane, top) {
    const { height, left, width, from, to } = this.map;
    const { rule, quiet, ink, text } = colours();
    pen.fillStyle = rule;
    pen.fillRect(left, top + height - 1, width - left, 1);
    pen.font = "11px " + text;
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    if (height >= 11) {
      pen.fillStyle = lane.alive ? ink : quiet;
      const label = left === LABELS ? lane.label : lane.label.replace(/^\D+/, "");
      pen.fillText(clip(pen, label, left - 8), 0, top + height / 2);
    }
    const tall = height - (height > 14 ? 5 : 2);
    const y = top + (height - 1 - tall) / 2;
    this.polls(pen, lane, y, tall);
    if (lane.task >= 0 && lane.since < to) {
      const task = store.tasks.get(lane.task);
      const x = Math.max(left, this.x(Math.max(lane.since, from)));
      const across = Math.max(1, this.x(Math.min(store.now, to)) - x);
      pen.fillStyle = task ? functionColour(task.name) : quiet;
      pen.globalAlpha = 0.55;
      pen.fillRect(x, y, across, tall);
      pen.globalAlpha = 1;
    }
  }

  // Bars too thin to be seen are summed up per pixel: the height then is the share of time spent in polls.
  polls(pen, lane, y, tall) {
    const { left, from, to, width, perSecond } = this.map;
    const { failed } = colours();
    const columns = Math.ceil(width - left);
    const busy = new Float32Array(columns);
    const owner = new Int32Array(columns);
    const lead = new Float32Array(columns);
    let thin = false;
    for (let i = lane.bars.after(from); i < lane.bars.length; i++) {
      const bar = lane.bars.at(i);
      if (bar.start > to) break;
      const x = this.x(bar.start);
      const across = (bar.end - bar.start) * perSecond;
      if (across < 1.5) {
        const column = Math.floor(x - left);
        if (column < 0 || column >= columns) continue;
        thin = true;
        const weight = Math.max(across, 1e-6);
        busy[column] += weight;
        // Who has most of the column, near enough: each other one takes from the lead.
        if (owner[column] === bar.name + 1) lead[column] += weight;
        else if ((lead[column] -= weight) < 0) {
          owner[column] = bar.name + 1;
          lead[column] = -lead[column];
        }
        continue;
      }
      const start = Math.max(left, x);
      pen.fillStyle = functionColour(bar.name);
      // A gap of half a pixel keeps neighbours apart.
      pen.fillRect(start, y, Math.max(1, x + across - start - (across > 4 ? 0.75 : 0)), tall);
      if (bar.outcome === 2) {
        pen.fillStyle = failed;
        pen.fillRect(start, y + tall - 3, Math.max(2, x + across - start), 3);
      }
      if (across > 46 && tall > 12) this.barText(pen, bar, start, x + across, y + tall / 2);
    }
    if (!thin) return;
    for (let column = 0; column < columns; column++) {
      if (busy[column] === 0) continue;
      const part = Math.max(2, Math.min(1, busy[column]) * tall);
      pen.fillStyle = functionColour(owner[column] - 1);
      pen.fillRect(left + column, y + tall - part, 1, part);
    }
  }

  barText(pen, bar, from, to, y) {
    pen.fillStyle = "#10151a";
    pen.textAlign = "left";
    pen.fillText(clip(pen, store.nameOf(bar.name), to - from - 8), from + 4, y + 0.5);
  }

  // Where tasks wait between polls: a line near the foot of the lane where they were polled.
  waits(pen) {
    const { lanes, height, left, from, to } = this.map;
    const tops = new Map(lanes.map((lane, i) => [lane.index, i * height]));
    const line = (wait, end) => {
      const top = tops.get(wait.lane);
      if (top === undefined || end < from || wait.start > to) return;
      const x = Math.max(left, this.x(wait.start));
      const across = this.x(Math.min(end, to)) - x;
      if (across < 1) return;
      pen.fillStyle = functionColour(wait.name);
      pen.fillRect(x, top + height - 3, across, 1.5);
    };
    pen.globalAlpha = 0.8;
    for (const wait of store.waits) line(wait, wait.end);
    for (const wait of store.openWaits.values()) line(wait, store.now);
    pen.globalAlpha = 1;
  }

  mark(pen) {
    for (const [found, strong] of [[this.hover, false], [this.chosen, true]]) {
      if (!found) continue;
      const row = this.map.lanes.findIndex((lane) => lane.index === found.lane);
      if (row < 0) continue;
      const x = Math.max(this.map.left, this.x(found.bar.start));
      const across = Math.max(3, this.x(found.bar.end) - x);
      pen.strokeStyle = strong ? colours().accent : colours().ink;
      pen.lineWidth = strong ? 2 : 1;
      pen.strokeRect(x - 1, row * this.map.height + 1, across + 2, this.map.height - 3);
    }
  }

  find(event) {
    if (!this.map) return null;
    const box = this.canvas.getBoundingClientRect();
    const x = event.clientX - box.left;
    const lane = this.map.lanes[Math.floor((event.clientY - box.top) / this.map.height)];
    if (!lane || x < this.map.left) return null;
    const slack = 2 / this.map.perSecond;
    const time = this.map.from + (x - this.map.left) / this.map.perSecond;
    const bar = lane.bars.at(lane.bars.after(time - slack));
    return bar && bar.start <= time + slack ? { lane: lane.index, bar, x, y: event.clientY - box.top } : null;
  }

  describe({ lane, bar }) {
    const key = store.keyOfId(bar.id, bar.name);
    const label = store.lanes.get(lane)?.label ?? "";
    return `${key}: ${lasting(bar.end - bar.start)} at ${clock(bar.start)}, ${OUTCOMES[bar.outcome]}, ${label}`;
  }

  setHover(found) {
    if (found?.bar === this.hover?.bar) return;
    this.hover = found;
    this.tip.hidden = !found;
    if (found) {
      this.tip.textContent = this.describe(found);
      const right = found.x > this.map.width / 2;
      this.tip.style.left = right ? "auto" : found.x + 12 + "px";
      this.tip.style.right = right ? this.map.width - found.x + 12 + "px" : "auto";
      this.tip.style.top = found.y + 14 + "px";
    }
    this.painter.now();
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.drag = { x: event.clientX, end: this.map.to, moved: false };
  }

  move(event) {
    if (!this.drag) {
      this.setHover(this.find(event));
      return;
    }
    const by = event.clientX - this.drag.x;
    if (Math.abs(by) < 4 && !this.drag.moved) return;
    this.drag.moved = this.moved = true;
    this.hold();
    this.setEnd(this.drag.end - by / this.map.perSecond);
  }

  // From now on the window has a fixed length and end.
  hold() {
    if (this.end !== null) return;
    this.span = this.map.to - this.map.from;
    this.all = false;
    this.window.press("");
  }

  click(event) {
    if (this.moved) {
      this.moved = false;
      return;
    }
    const found = this.find(event);
    if (!found) return;
    this.choose(found);
    this.showTask(found.bar.id);
  }

  wheel(event) {
    // Without Ctrl or Shift the wheel scrolls the page, as people expect.
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    const box = this.canvas.getBoundingClientRect();
    this.zoom(Math.exp((event.deltaY || event.deltaX) / 300), event.clientX - box.left);
  }

  zoom(factor, x) {
    this.hold();
    const { from, to, left, perSecond } = this.map;
    const time = from + (x - left) / perSecond;
    this.span = Math.min(86_400, Math.max(1e-5, (to - from) * factor));
    this.window.press("");
    this.setEnd(time + (to - time) * (this.span / (to - from)));
  }

  choose(found) {
    this.chosen = found;
    say(this.told, this.describe(found));
    const { from, to } = this.map;
    if (found.bar.end < from || found.bar.start > to) {
      this.hold();
      this.setEnd(found.bar.end + this.span / 2);
    }
    this.painter.now();
  }

  key(event) {
    const middle = this.map.left + (this.map.width - this.map.left) / 2;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (moves[event.key]) this.step(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(1 / 1.5, middle);
    else if (event.key === "-") this.zoom(1.5, middle);
    else if (event.key === "f" || event.key === "F") this.setEnd(null);
    else if (event.key === "Enter" && this.chosen) this.showTask(this.chosen.bar.id);
    else return;
    event.preventDefault();
  }

  step(along, down) {
    const { lanes, to } = this.map;
    if (lanes.length === 0) return;
    const row = this.chosen ? lanes.findIndex((lane) => lane.index === this.chosen.lane) : 0;
    const next = lanes[Math.max(0, Math.min(lanes.length - 1, row + down))];
    if (next.bars.length === 0) return;
    const time = this.chosen ? this.chosen.bar.start : to;
    let place = next.bars.after(time);
    if (this.chosen && down === 0) place = next.bars.after((this.chosen.bar.start + this.chosen.bar.end) / 2) + along;
    place = Math.max(0, Math.min(next.bars.length - 1, place));
    this.choose({ lane: next.index, bar: next.bars.at(place) });
  }
}

// As much of the text as fits.
function clip(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  let length = Math.floor((text.length * room) / pen.measureText(text).width) - 1;
  while (length > 0 && pen.measureText(text.slice(0, length) + "…").width > room) length -= 1;
  return length > 0 ? text.slice(0, length) + "…" : "";
}
