// @ts-check
// The page with the latest events: state changes of tasks, with their time and worker.

import { KeyedRows, chosenNumber, element, panel, setPressed, setText, table } from "./dom.js";
import { StateLabel, stateMenu } from "./states.js";
import { clock, short } from "./format.js";
import { Page } from "./page.js";
import { detail } from "./detail.js";
import { findEvents } from "./queries.js";
import { store } from "./store.js";

/** @import { EventItem } from "./queries.js" */
/** @import { EventRow } from "./store.js" */

const MOST_EVENT_ROWS = 200;

const EVENT_COLUMNS = [{ text: "Time", number: true }, { text: "State" }, { text: "Worker" }, { text: "Task" }];

export class EventsPage extends Page {
  /** @param {HTMLElement} root */
  constructor(root) {
    super();
    // The events to show while paused.
    /** @type {EventRow[] | null} */
    this.paused = null;
    const { node, right, note } = panel("Events", "events");
    this.note = note;
    const filter = () => this.painter.now();
    this.state = stateMenu(filter);
    this.key = element("input", { type: "search", placeholder: "part of a key", "aria-label": "Key", oninput: filter });
    this.pause = element("button", { type: "button", "aria-pressed": "false", onclick: () => this.togglePause() }, "Pause");
    right.append(element("div", { class: "fields" }, element("label", {}, "State", this.state), element("label", {}, "Key", this.key), this.pause));
    const events = table("Events, newest first", "e", EVENT_COLUMNS);
    this.table = events.node;
    this.rows = new KeyedRows(events.body, (/** @type {EventItem} */ event) => event.row, makeEventRow, updateEventRow);
    this.empty = element("p", { class: "empty" }, "No matching events.");
    node.append(element("div", { class: "scroll" }, this.table), this.empty);
    root.append(node);
  }

  /** @override */
  update() {
    if (!this.paused) this.painter.soon();
  }

  togglePause() {
    this.paused = this.paused ? null : [...store.events];
    setPressed(this.pause, this.paused !== null);
    this.painter.now();
  }

  /** @override */
  draw() {
    const filter = { state: chosenNumber(this.state), key: this.key.value };
    const events = findEvents(store, this.paused ?? store.events, filter, MOST_EVENT_ROWS);
    this.rows.draw(events);
    this.empty.hidden = events.length > 0;
    this.table.hidden = events.length === 0;
    const missed = store.missed.moments > 0 ? `, ${short(store.missed.moments)} dropped` : "";
    setText(this.note, `latest ${events.length}${missed}`);
  }
}

/** @param {EventItem} event */
function makeEventRow({ id }) {
  const time = element("td", { class: "number mono e0" });
  const state = new StateLabel(0);
  const key = element("button", { type: "button", class: "key", onclick: () => detail.show(id) });
  const worker = element("td", { class: "quiet e2" });
  const node = element("tr", {}, time, element("td", { class: "e1" }, state.node), worker, element("td", { class: "e3" }, key));
  return { node, time, state, key, worker };
}

/**
 * @param {ReturnType<typeof makeEventRow>} row
 * @param {EventItem} event
 */
function updateEventRow(row, event) {
  setText(row.time, clock(event.t, 4));
  row.state.set(event.state);
  setText(row.key, event.key);
  setText(row.worker, store.workerLabel(event.worker));
}
