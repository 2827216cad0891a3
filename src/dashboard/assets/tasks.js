// @ts-check
// The page with the table of tasks: filters, and buttons to cancel and retry.

import { FAILED, StateLabel, hasEnded, stateMenu, stateOf } from "./states.js";
import { KeyedRows, chosenNumber, element, panel, setText, table } from "./dom.js";
import { act, canAct, isReport } from "./api.js";
import { short, whole } from "./format.js";
import { Page } from "./page.js";
import { detail } from "./detail.js";
import { findTasks } from "./queries.js";
import { functionColour } from "./colour.js";
import { store } from "./store.js";

/** @import { TaskAction } from "./api.js" */
/** @import { Task } from "./store.js" */

/** @typedef {ReturnType<TasksPage["makeRow"]>} TaskTableRow */

const ROWS_PER_PAGE = 100;

const TASK_COLUMNS = [
  { text: "Task" },
  { text: "State" },
  { text: "Function" },
  { text: "Attempt", number: true },
  { text: "Worker" },
  { text: "Inputs", number: true },
  { text: "Priority", number: true },
  { text: "Actions", unseen: true },
];

export class TasksPage extends Page {
  /**
   * @param {HTMLElement} root
   * @param {{ query: URLSearchParams }} options
   */
  constructor(root, { query }) {
    super();
    this.most = ROWS_PER_PAGE;
    // The rows are frozen while the pointer or the focus is on them, so that a button doesn't move away.
    this.frozen = false;
    /** @type {Task[]} */
    this.shown = [];
    this.count = 0;

    const { node, right, note } = panel("Tasks", "tasks");
    this.note = note;
    const filter = () => this.show(ROWS_PER_PAGE);
    this.state = stateMenu(filter);
    const state = stateOf(query.get("state"));
    this.state.value = state >= 0 ? String(state) : "";
    this.name = element("select", { onchange: filter, "aria-label": "Function" }, element("option", { value: "" }, "any"));
    // A function from the address, until it's in the record.
    this.wantedName = query.get("name") ?? "";
    this.key = element("input", { type: "search", placeholder: "part of a key", oninput: filter, "aria-label": "Key", value: query.get("key") ?? "" });
    right.append(element("div", { class: "fields" }, element("label", {}, "State", this.state),
      element("label", {}, "Function", this.name), element("label", {}, "Key", this.key)));

    const tasks = table("Tasks, newest first", "c", TASK_COLUMNS);
    this.rows = new KeyedRows(tasks.body, (/** @type {Task} */ task) => task.id, (task) => this.makeRow(task), (row, task) => this.updateRow(row, task));
    this.scroll = element("div", { class: "scroll" }, tasks.node);
    for (const type of ["pointerenter", "focusin"]) tasks.body.addEventListener(type, () => { this.frozen = true; });
    for (const type of ["pointerleave", "focusout"]) tasks.body.addEventListener(type, () => this.show(this.most));
    this.more = element("button", { type: "button", onclick: () => this.show(this.most + ROWS_PER_PAGE) }, "Show more");
    this.empty = element("p", { class: "empty" }, "No matching tasks.");
    this.announcement = element("p", { class: "announcement quiet", role: "status" });
    node.append(this.scroll, this.empty, element("div", { class: "foot" }, this.more, this.announcement));
    if (!canAct() && !isReport()) setText(this.announcement, "To cancel or retry tasks, open the link with the token.");
    root.append(node);
    this.onClose(detail.watch(() => this.painter.now()));
  }

  /**
   * Applies the filters and shows up to `most` tasks.
   * @param {number} most
   */
  show(most) {
    this.most = most;
    this.frozen = false;
    this.painter.now();
  }

  /** Adds new functions to the menu. */
  drawNames() {
    for (let i = this.name.options.length - 1; i < store.names.length; i++) {
      this.name.append(element("option", { value: i }, store.nameOf(i)));
    }
    const wanted = this.wantedName ? store.indexOfName(this.wantedName) : -1;
    if (wanted < 0) return;
    this.name.value = String(wanted);
    this.wantedName = "";
  }

  /** @override */
  draw() {
    this.drawNames();
    if (this.frozen && this.shown.length > 0) {
      // The shown tasks still change their state, and may leave the record.
      this.shown = this.shown.filter((task) => store.tasks.has(task.id));
    } else {
      const filter = { state: chosenNumber(this.state), name: chosenNumber(this.name), key: this.key.value };
      const { newest, count } = findTasks(store, filter, this.most);
      this.shown = newest;
      this.count = count;
    }
    this.rows.draw(this.shown);
    this.empty.hidden = this.shown.length > 0;
    this.scroll.hidden = this.shown.length === 0;
    this.more.hidden = this.count <= this.shown.length;
    const missed = store.missed.tasks > 0 ? `, ${short(store.missed.tasks)} more only counted` : "";
    setText(this.note, `${whole(this.shown.length)} of ${whole(this.count)}${missed}`);
  }

  /** @param {Task} task */
  makeRow(task) {
    const key = store.keyOf(task);
    const state = new StateLabel(task.state);
    const swatch = element("i", { class: "swatch" });
    swatch.style.background = functionColour(task.name);
    const attempt = element("td", { class: "number c3" });
    const worker = element("td", { class: "c4" });
    const inputs = element("td", { class: "number c5" });
    const priority = element("td", { class: "number c6" });
    const cancel = element("button", { type: "button", class: "danger", "aria-label": "Cancel " + key, onclick: () => this.act(task, "cancel") }, "Cancel");
    const retry = element("button", { type: "button", "aria-label": "Retry " + key, onclick: () => this.act(task, "retry") }, "Retry");
    const node = element("tr", {},
      element("td", { class: "c0" }, element("button", { type: "button", class: "key", title: key, onclick: () => detail.show(task.id) }, key)),
      element("td", { class: "c1" }, state.node), element("td", { class: "c2" }, swatch, store.nameOf(task.name)),
      attempt, worker, inputs, priority, element("td", { class: "c7 number" }, cancel, retry));
    return { node, state, attempt, worker, inputs, priority, cancel, retry };
  }

  /**
   * @param {TaskTableRow} row
   * @param {Task} task
   */
  updateRow(row, task) {
    row.node.classList.toggle("chosen", detail.id === task.id);
    row.state.set(task.state);
    setText(row.attempt, task.attempt > 1 ? String(task.attempt) : "");
    setText(row.worker, store.workerLabel(task.worker));
    setText(row.inputs, task.inputs.length > 0 ? whole(task.inputs.length) : "");
    setText(row.priority, task.priority !== 0 ? String(task.priority) : "");
    row.cancel.hidden = !canAct() || hasEnded(task.state);
    row.retry.hidden = !canAct() || task.state !== FAILED;
  }

  /**
   * @param {Task} task
   * @param {TaskAction} action
   */
  async act(task, action) {
    setText(this.announcement, await act(task.id, action));
  }
}
