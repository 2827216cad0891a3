// The page with the workers: what each is at, and how much of the last minute it was busy.

import { Painter, Sheet } from "./frames.js";
import { colours, functionColour } from "./colour.js";
import { element, keyed, panel, say, setStyle } from "./dom.js";
import { lasting, whole } from "./format.js";
import { detail } from "./detail.js";
import { store } from "./store.js";

const SPAN = 60;

export class WorkersPage {
  constructor(root) {
    const { node, note } = panel("Workers", "workers");
    this.note = note;
    this.body = element("tbody");
    const head = [["Worker"], ["State"], ["Doing"], ["For", true], ["Busy, 10 s", true], ["The last minute"], ["Polls seen", true], ["Time in them", true]];
    this.table = element("table", {}, element("caption", { class: "unseen" }, "Workers"),
      element("thead", {}, element("tr", {}, ...head.map(([text, number], i) => element("th", { scope: "col", class: "w" + i + (number ? " number" : "") }, text)))), this.body);
    this.empty = element("p", { class: "empty" }, "No worker has been seen yet.");
    node.append(element("div", { class: "scroll" }, this.table), this.empty);
    root.append(node);
    this.painter = new Painter(() => this.draw());
    this.unlisten = store.listen(() => {
      detail.refresh();
      this.painter.soon();
    });
    this.painter.now();
  }

  close() {
    this.unlisten();
    this.painter.stop();
    for (const row of this.body.children) row.sheet.stop();
  }

  draw() {
    const lanes = [...store.lanes.values()].sort((a, b) => a.index - b.index);
    const alive = lanes.filter((lane) => lane.alive).length;
    say(this.note, `${whole(alive)} at work` + (alive < lanes.length ? `, ${whole(lanes.length - alive)} gone` : ""));
    this.empty.hidden = lanes.length > 0;
    this.table.hidden = lanes.length === 0;
    keyed(this.body, lanes, (lane) => lane.index, () => this.make(), (row, lane) => this.update(row, lane));
  }

  make() {
    const row = element("tr");
    const cell = (className) => {
      const made = element("td", { class: className });
      row.append(made);
      return made;
    };
    row.name = cell("w0");
    row.state = cell("w1");
    row.doing = cell("w2");
    row.swatch = element("i", { class: "swatch" });
    row.task = element("button", { type: "button", class: "key", onclick: () => row.id >= 0 && detail.show(row.id) });
    row.doing.append(row.swatch, row.task);
    row.since = cell("w3 number");
    row.share = cell("w4 number");
    const canvas = element("canvas", { class: "spark", role: "img", "aria-label": "Busy share over the last minute" });
    cell("w5").append(canvas);
    row.sheet = new Sheet(canvas, () => this.painter.now());
    row.polls = cell("w6 number");
    row.busy = cell("w7 number");
    return row;
  }

  update(row, lane) {
    const task = lane.task >= 0 ? store.tasks.get(lane.task) : null;
    row.classList.toggle("quiet", !lane.alive);
    say(row.name, lane.label);
    say(row.state, !lane.alive ? "gone" : lane.task >= 0 ? "busy" : "idle");
    row.id = lane.task;
    row.task.hidden = lane.task < 0;
    say(row.task, task ? store.keyOf(task) : "a task");
    setStyle(row.swatch, "background", task ? functionColour(task.name) : "transparent");
    say(row.since, lane.task >= 0 ? lasting(Math.max(0, store.now - lane.since)) : "");
    say(row.share, lane.alive ? Math.round(store.share(lane, 10) * 100) + " %" : "");
    say(row.polls, whole(lane.bars.length));
    say(row.busy, lasting(lane.busy));
    this.drawSpark(row, lane);
  }

  drawSpark(row, lane) {
    const pen = row.sheet.begin();
    const { width, height } = row.sheet;
    const columns = Math.max(1, Math.floor(width / 3));
    const busy = new Float64Array(columns);
    const from = store.now - SPAN;
    const step = SPAN / columns;
    for (let i = lane.bars.after(from); i < lane.bars.length; i++) {
      const bar = lane.bars.at(i);
      // A long poll covers several columns.
      for (let column = Math.max(0, Math.floor((bar.start - from) / step)); column < columns; column++) {
        const left = from + column * step;
        if (left >= bar.end) break;
        busy[column] += Math.min(bar.end, left + step) - Math.max(bar.start, left);
      }
    }
    pen.fillStyle = colours().rule;
    pen.fillRect(0, height - 1, width, 1);
    pen.fillStyle = colours().accent;
    busy.forEach((time, column) => {
      const tall = Math.min(1, time / step) * (height - 1);
      if (tall > 0) pen.fillRect(column * 3, height - 1 - tall, 2, Math.max(1, tall));
    });
  }
}
