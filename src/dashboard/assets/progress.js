// Progress per function: a bar of what has ended, how and how fast.

import { element, keyed, panel, say, setStyle } from "./dom.js";
import { lasting, short, whole } from "./format.js";
import { functionColour } from "./colour.js";
import { store } from "./store.js";

const MOST_FUNCTIONS = 60;

export class Progress {
  constructor(navigate) {
    this.navigate = navigate;
    const { node, note } = panel("Progress", "progress");
    this.node = node;
    this.note = note;
    this.rows = element("div", { class: "rows" });
    this.empty = element("p", { class: "empty" }, "Nothing has been submitted yet.");
    node.append(element("div", { class: "scroll body" }, this.empty, this.rows));
  }

  draw() {
    const functions = store.stats?.functions ?? [];
    this.empty.hidden = functions.length > 0;
    const ended = functions.reduce((sum, each) => sum + each.finished + each.failed + each.cancelled, 0);
    const all = functions.reduce((sum, each) => sum + each.submitted, 0);
    say(this.note, all > 0 ? `${whole(ended)} of ${whole(all)} done` : "");
    // What is under way comes first, and keeps its place among its kind.
    const busy = (each) => each.submitted > each.finished + each.failed + each.cancelled;
    const rows = functions.length <= MOST_FUNCTIONS ? functions
      : [...functions.filter(busy), ...functions.filter((each) => !busy(each))].slice(0, MOST_FUNCTIONS);
    keyed(this.rows, rows, (each) => each.name, (each) => this.make(each), updateProgress);
  }

  make({ name }) {
    const row = element("div", { class: "row" });
    const index = store.indexOfName(name);
    const swatch = element("i", { class: "swatch" });
    swatch.style.background = functionColour(Math.max(0, index));
    const label = element("button", { type: "button", class: "key", title: name, onclick: () => this.navigate("tasks", { name }) }, name);
    const bar = element("div", { class: "bar", role: "progressbar", "aria-label": name, "aria-valuemin": "0", "aria-valuemax": "100" });
    row.parts = {};
    for (const part of ["finished", "failed", "cancelled", "running"]) {
      row.parts[part] = element("i", { class: part });
      bar.append(row.parts[part]);
    }
    row.parts.finished.style.background = functionColour(Math.max(0, index));
    row.parts.running.style.color = functionColour(Math.max(0, index));
    row.bar = bar;
    row.done = element("span", { class: "number" });
    row.extra = element("span", { class: "quiet extra" });
    row.append(element("span", { class: "label" }, swatch, label), bar, row.done, row.extra);
    return row;
  }
}

function updateProgress(row, each) {
  const all = Math.max(1, each.submitted);
  const ended = each.finished + each.failed + each.cancelled;
  for (const [part, node] of Object.entries(row.parts)) setStyle(node, "width", ((100 * each[part]) / all).toFixed(2) + "%");
  const percent = Math.floor((100 * ended) / all);
  if (row.percent !== percent) row.bar.setAttribute("aria-valuenow", percent);
  row.percent = percent;
  say(row.done, `${short(ended)} / ${short(each.submitted)}`);
  const extra = [];
  if (each.failed) extra.push(short(each.failed) + " failed");
  if (each.cancelled) extra.push(short(each.cancelled) + " cancelled");
  if (each.delayed) extra.push(short(each.delayed) + " delayed");
  if (each.finished > 0 && each.run_time > 0) extra.push(lasting(each.run_time / Math.max(1, each.finished + each.failed)) + " each");
  say(row.extra, extra.join(", "));
}
