// The page with the table of tasks: filters, and buttons to cancel and retry.

import { DELAYED, FAILED, STATES, hasEnded, setState, stateLabel } from "./states.js";
import { act, canAct, isReport } from "./api.js";
import { element, keyed, panel, say } from "./dom.js";
import { short, whole } from "./format.js";
import { Painter } from "./frames.js";
import { detail } from "./detail.js";
import { functionColour } from "./colour.js";
import { store } from "./store.js";

const PAGE = 100;

export class TasksPage {
  constructor(root, { query }) {
    this.most = PAGE;
    this.build(root, query);
    this.painter = new Painter(() => this.draw());
    this.unlisten = store.listen(() => {
      detail.refresh();
      this.painter.soon();
    });
    this.unwatch = detail.watch(() => this.painter.now());
    this.painter.now();
  }

  close() {
    this.unlisten();
    this.unwatch();
    this.painter.stop();
  }

  build(root, query) {
    const { node, right, note } = panel("Tasks", "tasks");
    this.note = note;
    const change = () => {
      this.most = PAGE;
      this.still = false;
      this.painter.now();
    };
    this.state = element("select", { onchange: change, "aria-label": "State" }, element("option", { value: "" }, "any"));
    STATES.forEach((name, state) => this.state.append(element("option", { value: state }, name)));
    this.state.value = STATES.indexOf(query.get("state")) >= 0 ? STATES.indexOf(query.get("state")) : "";
    this.name = element("select", { onchange: change, "aria-label": "Function" }, element("option", { value: "" }, "any"));
    this.wantedName = query.get("name") ?? "";
    this.key = element("input", { type: "search", placeholder: "part of a key", oninput: change, "aria-label": "Key", value: query.get("key") ?? "" });
    right.append(element("div", { class: "fields" }, element("label", {}, "State", this.state), element("label", {}, "Function", this.name), element("label", {}, "Key", this.key)));
    this.body = element("tbody");
    const head = ["Task", "State", "Function", "Attempt", "Worker", "Takes", "Priority", ""];
    const table = element("table", {}, element("caption", { class: "unseen" }, "Tasks, the newest first"),
      element("thead", {}, element("tr", {}, ...head.map((text, i) => element("th", { scope: "col", class: "c" + i + (i === 3 || i === 5 || i === 6 ? " number" : "") }, text || element("span", { class: "unseen" }, "Actions"))))), this.body);
    this.scroll = element("div", { class: "scroll" }, table);
    // Rows don't slide away from under whoever is about to press a button.
    const hold = (event) => {
      this.still = event.type === "pointerenter" || event.type === "focusin";
      if (!this.still) this.painter.now();
    };
    for (const type of ["pointerenter", "pointerleave", "focusin", "focusout"]) this.body.addEventListener(type, hold);
    this.more = element("button", { type: "button", onclick: () => { this.most += PAGE; this.still = false; this.painter.now(); } }, "Show more");
    this.empty = element("p", { class: "empty" }, "No task matches.");
    this.said = element("p", { class: "told quiet", role: "status" });
    node.append(this.scroll, this.empty, element("div", { class: "foot" }, this.more, this.said));
    if (!canAct() && !isReport()) say(this.said, "Open the link with the token to cancel or retry tasks.");
    root.append(node);
  }

  // The functions that can be chosen, as they come.
  drawNames() {
    for (let i = this.name.options.length - 1; i < store.names.length; i++) {
      this.name.append(element("option", { value: i }, store.names[i]));
    }
    if (this.wantedName && store.indexOfName(this.wantedName) >= 0) {
      this.name.value = store.indexOfName(this.wantedName);
      this.wantedName = "";
    }
  }

  found() {
    const state = this.state.value === "" ? -1 : Number(this.state.value);
    const name = this.name.value === "" ? -1 : Number(this.name.value);
    const key = this.key.value.trim().toLowerCase();
    const all = [];
    let count = 0;
    for (const task of store.tasks.values()) {
      if (state >= 0 && task.state !== state) continue;
      if (name >= 0 && task.name !== name) continue;
      if (key && !store.keyOf(task).toLowerCase().includes(key)) continue;
      count += 1;
      all.push(task);
    }
    // The record is in order of arrival, near enough: the newest are at its end.
    const newest = all.slice(-this.most).sort((a, b) => b.id - a.id);
    return { newest, count };
  }

  draw() {
    this.drawNames();
    if (this.still && this.rows) {
      // New rows have to wait, but the shown ones go on telling their state.
      this.rows = this.rows.filter((task) => store.tasks.has(task.id));
    } else {
      const { newest, count } = this.found();
      this.rows = newest;
      this.count = count;
    }
    keyed(this.body, this.rows, (task) => task.id, (task) => this.make(task), (row, task) => this.update(row, task));
    this.empty.hidden = this.rows.length > 0;
    this.scroll.hidden = this.rows.length === 0;
    this.more.hidden = this.count <= this.rows.length;
    const missed = store.missed.tasks > 0 ? `, ${short(store.missed.tasks)} more were only counted` : "";
    say(this.note, `${whole(this.rows.length)} of ${whole(this.count)}${missed}`);
  }

  make(task) {
    const key = store.keyOf(task);
    const row = element("tr");
    row.state = stateLabel(task.state);
    const swatch = element("i", { class: "swatch" });
    swatch.style.background = functionColour(task.name);
    row.attempt = element("td", { class: "number c3" });
    row.worker = element("td", { class: "c4" });
    row.ins = element("td", { class: "number c5" });
    row.priority = element("td", { class: "number c6" });
    row.cancel = element("button", { type: "button", class: "danger", "aria-label": "Cancel " + key, onclick: () => this.do(task, "cancel") }, "Cancel");
    row.retry = element("button", { type: "button", "aria-label": "Retry " + key, onclick: () => this.do(task, "retry") }, "Retry");
    row.append(element("td", { class: "c0" }, element("button", { type: "button", class: "key", title: key, onclick: () => detail.show(task.id) }, key)),
      element("td", { class: "c1" }, row.state), element("td", { class: "c2" }, swatch, store.nameOf(task.name)), row.attempt, row.worker, row.ins, row.priority,
      element("td", { class: "c7 number" }, row.cancel, row.retry));
    return row;
  }

  update(row, task) {
    row.classList.toggle("chosen", detail.id === task.id);
    setState(row.state, task.state);
    say(row.attempt, task.attempt > 1 ? String(task.attempt) : "");
    say(row.worker, task.worker >= 0 ? store.lanes.get(task.worker)?.label ?? String(task.worker) : "");
    say(row.ins, task.ins.length > 0 ? whole(task.ins.length) : "");
    say(row.priority, task.priority !== 0 ? String(task.priority) : "");
    row.cancel.hidden = !canAct() || hasEnded(task.state);
    row.retry.hidden = !canAct() || task.state !== FAILED;
    row.cancel.textContent = task.state === DELAYED ? "Give up" : "Cancel";
  }

  async do(task, verb) {
    try {
      say(this.said, await act(task.id, verb));
    } catch (error) {
      say(this.said, error.message);
    }
  }
}
