// @ts-check
// The page with the workers: the current task of each, and its load in the last minute.

import { KeyedRows, element, panel, setStyle, setText, table } from "./dom.js";
import { busyPerColumn, drawSparkline } from "./sparkline.js";
import { duration, whole } from "./format.js";
import { Page } from "./page.js";
import { Surface } from "./frames.js";
import { detail } from "./detail.js";
import { functionColour } from "./colour.js";
import { store } from "./store.js";

/** @import { Lane } from "./store.js" */

/** @typedef {ReturnType<WorkersPage["makeRow"]>} WorkerTableRow */

const SPARK_SECONDS = 60;

const WORKER_COLUMNS = [
  { text: "Worker" },
  { text: "State" },
  { text: "Current task" },
  { text: "Running for", number: true },
  { text: "Busy, 10 s", number: true },
  { text: "Busy, 1 min" },
  { text: "Polls", number: true },
  { text: "Time in polls", number: true },
];

export class WorkersPage extends Page {
  /** @param {HTMLElement} root */
  constructor(root) {
    super();
    const { node, note } = panel("Workers", "workers");
    this.note = note;
    const workers = table("Workers", "w", WORKER_COLUMNS);
    this.table = workers.node;
    this.rows = new KeyedRows(workers.body, (/** @type {Lane} */ lane) => lane.index, () => this.makeRow(), updateWorkerTableRow);
    this.empty = element("p", { class: "empty" }, "No workers yet.");
    node.append(element("div", { class: "scroll" }, this.table), this.empty);
    root.append(node);
  }

  /** @override */
  draw() {
    const lanes = store.sortedLanes();
    const alive = lanes.filter((lane) => lane.alive).length;
    setText(this.note, `${whole(alive)} alive` + (alive < lanes.length ? `, ${whole(lanes.length - alive)} stopped` : ""));
    this.empty.hidden = lanes.length > 0;
    this.table.hidden = lanes.length === 0;
    this.rows.draw(lanes);
  }

  makeRow() {
    const canvas = element("canvas", { class: "spark", role: "img", "aria-label": "Load in the last minute" });
    const surface = new Surface(canvas, () => this.painter.now());
    this.onClose(() => surface.stop());
    const row = {
      node: element("tr"),
      id: -1,
      name: element("td", { class: "w0" }),
      state: element("td", { class: "w1" }),
      swatch: element("i", { class: "swatch" }),
      task: element("button", { type: "button", class: "key", onclick: () => detail.show(row.id) }),
      since: element("td", { class: "w3 number" }),
      share: element("td", { class: "w4 number" }),
      surface,
      polls: element("td", { class: "w6 number" }),
      busy: element("td", { class: "w7 number" }),
    };
    row.node.append(row.name, row.state, element("td", { class: "w2" }, row.swatch, row.task), row.since, row.share,
      element("td", { class: "w5" }, canvas), row.polls, row.busy);
    return row;
  }
}

/**
 * @param {WorkerTableRow} row
 * @param {Lane} lane
 */
function updateWorkerTableRow(row, lane) {
  const task = store.tasks.get(lane.task);
  row.node.classList.toggle("quiet", !lane.alive);
  setText(row.name, lane.label);
  setText(row.state, !lane.alive ? "stopped" : lane.task >= 0 ? "busy" : "idle");
  row.id = lane.task;
  row.task.hidden = lane.task < 0;
  setText(row.task, task ? store.keyOf(task) : "a task");
  setStyle(row.swatch, "background", task ? functionColour(task.name) : "transparent");
  setText(row.since, lane.task >= 0 ? duration(Math.max(0, store.now - lane.since)) : "");
  setText(row.share, lane.alive ? Math.round(store.share(lane, 10) * 100) + " %" : "");
  setText(row.polls, whole(lane.bars.length));
  setText(row.busy, duration(lane.busy));
  drawSparkline(row.surface, (columns) => busyPerColumn(lane.bars, store.now - SPARK_SECONDS, SPARK_SECONDS, columns));
}
