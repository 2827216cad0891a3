// @ts-check
// The progress of each function: a bar of ended tasks, their outcomes, and the time per task.

import { KeyedRows, element, panel, setStyle, setText } from "./dom.js";
import { duration, short, whole } from "./format.js";
import { functionColour } from "./colour.js";
import { store } from "./store.js";

/** @import { Navigate } from "./page.js" */
/** @import { FunctionStats } from "./store.js" */

/** @typedef {ReturnType<typeof makeProgressRow>} ProgressRow */

const MOST_FUNCTIONS = 60;

export class Progress {
  /** @param {Navigate} navigate */
  constructor(navigate) {
    const { node, note } = panel("Progress", "progress");
    this.node = node;
    this.note = note;
    const rows = element("div", { class: "rows" });
    this.rows = new KeyedRows(rows, (/** @type {FunctionStats} */ stats) => stats.name, ({ name }) => makeProgressRow(name, navigate), updateProgressRow);
    this.empty = element("p", { class: "empty" }, "No tasks yet.");
    node.append(element("div", { class: "scroll body" }, this.empty, rows));
  }

  draw() {
    const functions = store.stats?.functions ?? [];
    this.empty.hidden = functions.length > 0;
    const ended = functions.reduce((sum, stats) => sum + endedCount(stats), 0);
    const submitted = functions.reduce((sum, stats) => sum + stats.submitted, 0);
    setText(this.note, submitted > 0 ? `${whole(ended)} of ${whole(submitted)} done` : "");
    this.rows.draw(mostRelevant(functions, MOST_FUNCTIONS));
  }
}

/** @param {FunctionStats} stats */
function endedCount({ finished, failed, cancelled }) {
  return finished + failed + cancelled;
}

/**
 * Returns some of the functions: those with unfinished tasks first if there are too many.
 * @param {FunctionStats[]} functions
 * @param {number} most
 */
export function mostRelevant(functions, most) {
  if (functions.length <= most) return functions;
  /** @param {FunctionStats} stats */
  const unfinished = (stats) => stats.submitted > endedCount(stats);
  return [...functions.filter(unfinished), ...functions.filter((stats) => !unfinished(stats))].slice(0, most);
}

/**
 * @param {string} name
 * @param {Navigate} navigate
 */
function makeProgressRow(name, navigate) {
  const colour = functionColour(Math.max(0, store.indexOfName(name)));
  const swatch = element("i", { class: "swatch" });
  swatch.style.background = colour;
  const label = element("button", { type: "button", class: "key", title: name, onclick: () => navigate("tasks", { name }) }, name);
  const parts = {
    finished: element("i", { class: "finished" }),
    failed: element("i", { class: "failed" }),
    cancelled: element("i", { class: "cancelled" }),
    running: element("i", { class: "running" }),
  };
  parts.finished.style.background = colour;
  parts.running.style.color = colour;
  const bar = element("div", { class: "bar", role: "progressbar", "aria-label": name, "aria-valuemin": "0", "aria-valuemax": "100" },
    ...Object.values(parts));
  const done = element("span", { class: "number" });
  const extra = element("span", { class: "quiet extra" });
  const node = element("div", { class: "row" }, element("span", { class: "label" }, swatch, label), bar, done, extra);
  return { node, parts, bar, done, extra, percent: -1 };
}

/**
 * @param {ProgressRow} row
 * @param {FunctionStats} stats
 */
function updateProgressRow(row, stats) {
  const submitted = Math.max(1, stats.submitted);
  for (const part of /** @type {const} */ (["finished", "failed", "cancelled", "running"])) {
    setStyle(row.parts[part], "width", ((100 * stats[part]) / submitted).toFixed(2) + "%");
  }
  const percent = Math.floor((100 * endedCount(stats)) / submitted);
  if (row.percent !== percent) row.bar.setAttribute("aria-valuenow", String(percent));
  row.percent = percent;
  setText(row.done, `${short(endedCount(stats))} / ${short(stats.submitted)}`);
  const extra = [];
  if (stats.failed) extra.push(short(stats.failed) + " failed");
  if (stats.cancelled) extra.push(short(stats.cancelled) + " cancelled");
  if (stats.delayed) extra.push(short(stats.delayed) + " delayed");
  if (stats.finished > 0 && stats.run_time > 0) extra.push(duration(stats.run_time / Math.max(1, stats.finished + stats.failed)) + " each");
  setText(row.extra, extra.join(", "));
}
