// The status page: the figures, the task stream, progress per function, workers, limits, failures.

import { Painter, Sheet } from "./frames.js";
import { clock, lasting, plural, short, whole } from "./format.js";
import { colours, functionColour } from "./colour.js";
import { element, keyed, panel, say, setStyle } from "./dom.js";
import { Progress } from "./progress.js";
import { TaskStream } from "./taskstream.js";
import { detail } from "./detail.js";
import { stateMark } from "./states.js";
import { store } from "./store.js";

const FIGURES = [
  ["busy", "workers busy", -1, "Workers that are polling a task"],
  ["running", "running", 2, "Tasks that have started, those that await something included"],
  ["ready", "ready", 1, "Tasks that could run, in the queue or waiting for a limit"],
  ["waiting", "waiting", 0, "Tasks with an input that hasn't finished"],
  ["delayed", "delayed", 3, "Tasks whose next attempt is due after a while"],
  ["finished", "finished", 4, "Tasks with a value"],
  ["failed", "failed", 5, "Tasks with an error"],
  ["cancelled", "cancelled", 6, "Tasks that were cancelled"],
  ["held", "held", -1, "Tasks in memory: unfinished ones, and results that somebody needs"],
];

export class StatusPage {
  constructor(root, { navigate }) {
    this.painter = new Painter(() => this.draw());
    this.stream = new TaskStream((id) => detail.show(id));
    this.progress = new Progress(navigate);
    this.buildFigures();
    this.buildSide();
    root.append(this.figures, this.stream.node,
      element("div", { class: "columns" }, this.progress.node, element("div", { class: "side" }, this.failures.node, this.workers.node, this.limits.node)));
    this.unlisten = store.listen(() => {
      detail.refresh();
      this.painter.soon();
    });
    this.painter.now();
  }

  close() {
    this.unlisten();
    this.stream.stop();
    this.painter.stop();
    this.sheet.stop();
  }

  buildFigures() {
    this.figures = element("section", { class: "figures panel", "aria-label": "Figures" });
    this.values = new Map();
    for (const [name, text, state, title] of FIGURES) {
      const value = element("b", {}, "–");
      const label = element("span", { class: state < 0 ? "" : "s" + state });
      if (state >= 0) label.append(stateMark(state));
      label.append(element("span", { class: "quiet" }, text));
      const node = element("div", { class: "figure", "data-figure": name, title }, value, label);
      this.values.set(name, { value, node });
      this.figures.append(node);
    }
    this.spark = element("canvas", { class: "spark", role: "img", "aria-label": "Tasks a second over the last minute" });
    this.rate = element("b", {}, "–");
    this.figures.append(element("div", { class: "figure rate" }, element("div", {}, this.rate, element("span", { class: "quiet" }, "tasks a second")), this.spark));
    this.sheet = new Sheet(this.spark, () => this.painter.now());
  }

  buildSide() {
    this.workers = panel("Workers");
    this.workerRows = element("div", { class: "rows body scroll tight" });
    this.workers.node.append(this.workerRows);
    this.limits = panel("Limits");
    this.limitRows = element("div", { class: "rows body tight" });
    this.limits.node.append(this.limitRows);
    this.failures = panel("Failures", "failures");
    this.failureRows = element("div", { class: "rows body scroll tight" });
    this.failures.node.append(this.failureRows);
  }

  draw() {
    const { stats } = store;
    if (!stats) return;
    for (const [name, , state] of FIGURES) {
      const { value, node } = this.values.get(name);
      say(value, name === "busy" ? `${stats.busy} / ${stats.workers}` : short(stats[name]));
      value.title = name === "busy" ? "" : whole(stats[name]);
      node.classList.toggle("none", state >= 0 && stats[name] === 0);
      node.classList.toggle("wrong", name === "failed" && stats.failed > 0);
    }
    say(this.rate, short(store.rate()));
    this.drawSpark();
    this.progress.draw();
    this.drawWorkers();
    this.drawLimits();
    this.drawFailures();
  }

  // Tasks a second, over the last minute.
  drawSpark() {
    const pen = this.sheet.begin();
    const { width, height } = this.sheet;
    const { samples } = store;
    if (samples.length < 2) return;
    const last = samples[samples.length - 1].t;
    const from = Math.max(samples[0].t, last - 60);
    const columns = Math.max(1, Math.floor(width / 3));
    const sums = new Float64Array(columns);
    const step = Math.max(0.2, (last - from) / columns);
    for (let i = 1; i < samples.length; i++) {
      const column = Math.floor((samples[i].t - from) / step);
      if (column >= 0 && column < columns) sums[column] += samples[i].ended - samples[i - 1].ended;
    }
    const most = Math.max(1, ...sums);
    pen.fillStyle = colours().accent;
    sums.forEach((sum, column) => {
      const tall = (sum / most) * (height - 1);
      pen.fillRect(column * 3, height - tall, 2, tall);
    });
    pen.fillStyle = colours().rule;
    pen.fillRect(0, height - 1, width, 1);
  }

  drawWorkers() {
    const lanes = [...store.lanes.values()].filter((lane) => lane.alive).sort((a, b) => a.index - b.index);
    say(this.workers.note, lanes.length ? "busy in the last 10 s" : "none at work");
    this.workerRows.hidden = lanes.length === 0;
    keyed(this.workerRows, lanes.slice(0, 64), (lane) => lane.index, () => {
      const row = element("div", { class: "row worker" });
      row.name = element("span", { class: "label" });
      row.fill = element("i");
      row.share = element("span", { class: "number" });
      row.swatch = element("i", { class: "swatch" });
      row.task = element("span", { class: "mono doing" });
      row.append(row.name, element("div", { class: "bar" }, row.fill), row.share, element("span", { class: "doing-cell" }, row.swatch, row.task));
      return row;
    }, (row, lane) => {
      const share = store.share(lane, 10);
      say(row.name, lane.label);
      setStyle(row.fill, "width", (share * 100).toFixed(1) + "%");
      say(row.share, Math.round(share * 100) + " %");
      const task = lane.task >= 0 ? store.tasks.get(lane.task) : null;
      setStyle(row.swatch, "background", task ? functionColour(task.name) : "transparent");
      say(row.task, task ? store.keyOf(task) : lane.task >= 0 ? "a task" : "");
    });
  }

  drawLimits() {
    const limits = store.stats.limits ?? [];
    this.limits.node.hidden = limits.length === 0;
    keyed(this.limitRows, limits, (limit) => limit.name, () => {
      const row = element("div", { class: "row limit" });
      row.name = element("span", { class: "label mono" });
      row.fill = element("i");
      row.used = element("span", { class: "number" });
      row.waiting = element("span", { class: "quiet" });
      row.append(row.name, element("div", { class: "bar" }, row.fill), row.used, row.waiting);
      return row;
    }, (row, limit) => {
      say(row.name, limit.name);
      setStyle(row.fill, "width", (100 * Math.min(1, limit.used / Math.max(1, limit.of))).toFixed(1) + "%");
      row.classList.toggle("full", limit.of > 0 && limit.used >= limit.of);
      say(row.used, `${short(limit.used)} / ${short(limit.of)}`);
      say(row.waiting, limit.waiting > 0 ? short(limit.waiting) + " waiting" : "");
    });
  }

  // The newest failures, those of the same text together.
  drawFailures() {
    const groups = new Map();
    for (let i = store.failures.length - 1; i >= 0; i--) {
      const [t, id, text] = store.failures[i];
      // What differs in the number of the task only is of the same kind.
      const kind = text.replace(/-\d+`/, "`");
      const group = groups.get(kind);
      if (group) group.count += 1;
      else if (groups.size < 20) groups.set(kind, { kind, t, id, text, count: 1 });
    }
    this.failures.node.hidden = groups.size === 0;
    say(this.failures.note, groups.size ? plural(store.stats.failed, "task") : "");
    keyed(this.failureRows, groups.values(), (group) => group.kind, (group) => {
      const row = element("div", { class: "row failure" });
      row.text = element("button", { type: "button", class: "key", onclick: () => detail.show(row.id) });
      row.when = element("span", { class: "quiet number" });
      row.count = element("span", { class: "quiet number" });
      row.append(element("span", { class: "state s5" }, stateMark(5)), row.text, row.count, row.when);
      return row;
    }, (row, group) => {
      row.id = group.id;
      say(row.text, group.text);
      row.text.title = group.text;
      say(row.count, group.count > 1 ? "× " + whole(group.count) : "");
      say(row.when, clock(group.t, 1));
      row.when.title = lasting(store.now - group.t) + " ago";
    });
  }
}
