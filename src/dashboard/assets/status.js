// @ts-check
// The status page: task counts, the task stream, and panels for progress, failures, workers, limits and rates.

import { CANCELLED, DELAYED, FAILED, FINISHED, READY, RUNNING, WAITING, stateSymbol } from "./states.js";
import { KeyedRows, element, panel, setStyle, setText } from "./dom.js";
import { clock, duration, plural, short, whole } from "./format.js";
import { drawSparkline, endedPerColumn } from "./sparkline.js";
import { Page } from "./page.js";
import { Progress } from "./progress.js";
import { Surface } from "./frames.js";
import { TaskStream } from "./taskstream.js";
import { detail } from "./detail.js";
import { functionColour } from "./colour.js";
import { groupFailures } from "./queries.js";
import { store } from "./store.js";

/** @import { Navigate } from "./page.js" */
/** @import { FailureGroup } from "./queries.js" */
/** @import { Lane, LimitStats, RateStats, Stats } from "./store.js" */

const COUNTS = /** @type {const} */ ([
  ["busy", "workers busy", -1, "Workers that are polling a task"],
  ["running", "running", RUNNING, "Tasks that have started, including those that await something"],
  ["ready", "ready", READY, "Tasks that wait for a worker, a limit or a rate"],
  ["waiting", "waiting", WAITING, "Tasks with an unfinished input"],
  ["delayed", "delayed", DELAYED, "Tasks that wait for their next attempt"],
  ["finished", "finished", FINISHED, "Tasks with a result"],
  ["failed", "failed", FAILED, "Tasks with an error"],
  ["cancelled", "cancelled", CANCELLED, "Tasks that were cancelled"],
  ["tasks_in_memory", "in memory", -1, "Tasks in memory: unfinished tasks, and results that are still referenced"],
]);

const MOST_WORKER_ROWS = 64;
const MOST_FAILURE_ROWS = 20;
const LOAD_SECONDS = 10;
const RATE_SECONDS = 60;

export class StatusPage extends Page {
  /**
   * @param {HTMLElement} root
   * @param {{ navigate: Navigate }} options
   */
  constructor(root, { navigate }) {
    super();
    this.stream = new TaskStream((id) => detail.show(id));
    this.onClose(() => this.stream.stop());
    this.progress = new Progress(navigate);

    const figures = element("section", { class: "figures panel", "aria-label": "Task counts" });
    this.counts = COUNTS.map(([name, text, state, title]) => {
      const value = element("b", {}, "–");
      const label = element("span", { class: state < 0 ? "" : "s" + state });
      if (state >= 0) label.append(stateSymbol(state));
      label.append(element("span", { class: "quiet" }, text));
      const node = element("div", { class: "figure", "data-figure": name, title }, value, label);
      figures.append(node);
      return { name, state, value, node };
    });
    const spark = element("canvas", { class: "spark", role: "img", "aria-label": "Tasks per second in the last minute" });
    this.rate = element("b", {}, "–");
    figures.append(element("div", { class: "figure rate" },
      element("div", {}, this.rate, element("span", { class: "quiet" }, "tasks per second")), spark));
    this.spark = new Surface(spark, () => this.painter.now());
    this.onClose(() => this.spark.stop());

    this.failures = panel("Failures", "failures");
    const failureRows = element("div", { class: "rows body scroll tight" });
    this.failures.node.append(failureRows);
    this.failureRows = new KeyedRows(failureRows, (/** @type {FailureGroup} */ group) => group.kind, makeFailureRow, updateFailureRow);

    this.workers = panel("Workers");
    this.workerBody = element("div", { class: "rows body scroll tight" });
    this.workers.node.append(this.workerBody);
    this.workerRows = new KeyedRows(this.workerBody, (/** @type {Lane} */ lane) => lane.index, makeWorkerRow, updateWorkerRow);

    this.limits = panel("Limits");
    const limitRows = element("div", { class: "rows body scroll tight" });
    this.limits.node.append(limitRows);
    this.limitRows = new KeyedRows(limitRows, (/** @type {LimitStats} */ limit) => limit.name, makeLimitRow, updateLimitRow);

    this.rates = panel("Rates");
    const rateRows = element("div", { class: "rows body scroll tight rates" });
    this.rates.node.append(rateRows);
    this.rateRows = new KeyedRows(rateRows, (/** @type {RateStats} */ rate) => rate.name, makeLimitRow, updateRateRow);

    root.append(figures, this.stream.node, element("div", { class: "columns" }, this.progress.node,
      element("div", { class: "side" }, this.failures.node, this.workers.node, this.limits.node, this.rates.node)));
  }

  /** @override */
  draw() {
    const { stats } = store;
    if (!stats) return;
    this.drawCounts(stats);
    setText(this.rate, short(store.rate()));
    drawSparkline(this.spark, (columns) => {
      const ended = endedPerColumn(store.samples, RATE_SECONDS, columns);
      const most = Math.max(1, ...ended);
      return ended.map((count) => count / most);
    });
    this.progress.draw();

    const lanes = store.sortedLanes().filter((lane) => lane.alive);
    setText(this.workers.note, lanes.length ? `busy in the last ${LOAD_SECONDS} s` : "no workers");
    this.workerBody.hidden = lanes.length === 0;
    this.workerRows.draw(lanes.slice(0, MOST_WORKER_ROWS));

    this.limits.node.hidden = stats.limits.length === 0;
    this.limitRows.draw(stats.limits);
    this.rates.node.hidden = stats.rates.length === 0;
    this.rateRows.draw(stats.rates);

    const groups = groupFailures(store.failures, MOST_FAILURE_ROWS);
    this.failures.node.hidden = groups.length === 0;
    setText(this.failures.note, groups.length ? plural(stats.failed, "task") : "");
    this.failureRows.draw(groups);
  }

  /** @param {Stats} stats */
  drawCounts(stats) {
    for (const { name, state, value, node } of this.counts) {
      setText(value, name === "busy" ? `${stats.busy} / ${stats.workers}` : short(stats[name]));
      value.title = name === "busy" ? "" : whole(stats[name]);
      node.classList.toggle("none", state >= 0 && stats[name] === 0);
      node.classList.toggle("wrong", name === "failed" && stats.failed > 0);
    }
  }
}

function makeWorkerRow() {
  const name = element("span", { class: "label" });
  const fill = element("i");
  const share = element("span", { class: "number" });
  const swatch = element("i", { class: "swatch" });
  const task = element("span", { class: "mono doing" });
  const node = element("div", { class: "row worker" }, name, element("div", { class: "bar" }, fill), share,
    element("span", { class: "doing-cell" }, swatch, task));
  return { node, name, fill, share, swatch, task };
}

/**
 * @param {ReturnType<typeof makeWorkerRow>} row
 * @param {Lane} lane
 */
function updateWorkerRow(row, lane) {
  const share = store.share(lane, LOAD_SECONDS);
  setText(row.name, lane.label);
  setStyle(row.fill, "width", (share * 100).toFixed(1) + "%");
  setText(row.share, Math.round(share * 100) + " %");
  const task = store.tasks.get(lane.task);
  setStyle(row.swatch, "background", task ? functionColour(task.name) : "transparent");
  setText(row.task, task ? store.keyOf(task) : lane.task >= 0 ? "a task" : "");
}

function makeLimitRow() {
  const name = element("span", { class: "label mono" });
  const fill = element("i");
  const used = element("span", { class: "number" });
  const waiting = element("span", { class: "quiet" });
  const node = element("div", { class: "row limit" }, name, element("div", { class: "bar" }, fill), used, waiting);
  return { node, name, fill, used, waiting };
}

/**
 * @param {ReturnType<typeof makeLimitRow>} row
 * @param {LimitStats} limit
 */
function updateLimitRow(row, limit) {
  setText(row.name, limit.name);
  setStyle(row.fill, "width", (100 * Math.min(1, limit.used / Math.max(1, limit.of))).toFixed(1) + "%");
  row.node.classList.toggle("full", limit.of > 0 && limit.used >= limit.of);
  // A limit was lifted by the largest number.
  setText(row.used, `${short(limit.used)} / ${limit.of > Number.MAX_SAFE_INTEGER ? "∞" : short(limit.of)}`);
  setText(row.waiting, limit.waiting > 0 ? short(limit.waiting) + " waiting" : "");
}

/**
 * @param {ReturnType<typeof makeLimitRow>} row
 * @param {RateStats} rate
 */
function updateRateRow(row, rate) {
  setText(row.name, rate.name);
  setStyle(row.fill, "width", (100 * (1 - rate.available / rate.burst)).toFixed(1) + "%");
  row.node.classList.toggle("full", rate.available === 0);
  setText(row.used, `${short(rate.n)} / ${duration(rate.per)}`);
  const next = rate.waiting === 0 ? "" : rate.next === null ? ", paused" : ", next in " + duration(rate.next);
  setText(row.waiting, rate.waiting > 0 ? short(rate.waiting) + " waiting" + next : "");
}

/** @param {FailureGroup} group */
function makeFailureRow(group) {
  const row = {
    node: element("div", { class: "row failure" }),
    id: group.id,
    text: element("button", { type: "button", class: "key", onclick: () => detail.show(row.id) }),
    count: element("span", { class: "quiet number" }),
    when: element("span", { class: "quiet number" }),
  };
  row.node.append(element("span", { class: "state s" + FAILED }, stateSymbol(FAILED)), row.text, row.count, row.when);
  return row;
}

/**
 * @param {ReturnType<typeof makeFailureRow>} row
 * @param {FailureGroup} group
 */
function updateFailureRow(row, group) {
  row.id = group.id;
  setText(row.text, group.text);
  row.text.title = group.text;
  setText(row.count, group.count > 1 ? "× " + whole(group.count) : "");
  setText(row.when, clock(group.t, 1));
  row.when.title = duration(store.now - group.t) + " ago";
}
