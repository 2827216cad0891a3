// The page with the last events: which task came to which state, when and where.

import { STATES, setState, stateLabel } from "./states.js";
import { clock, short } from "./format.js";
import { element, keyed, panel, say } from "./dom.js";
import { Painter } from "./frames.js";
import { detail } from "./detail.js";
import { store } from "./store.js";

const MOST_EVENT_ROWS = 200;

export class EventsPage {
  constructor(root) {
    const { node, right, note } = panel("Events", "events");
    this.note = note;
    this.paused = false;
    const again = () => this.painter.now();
    this.state = element("select", { "aria-label": "State", onchange: again }, element("option", { value: "" }, "any"));
    STATES.forEach((name, state) => this.state.append(element("option", { value: state }, name)));
    this.key = element("input", { type: "search", placeholder: "part of a key", "aria-label": "Key", oninput: again });
    this.pause = element("button", { type: "button", "aria-pressed": "false", onclick: () => this.toggle() }, "Pause");
    right.append(element("div", { class: "fields" }, element("label", {}, "State", this.state), element("label", {}, "Key", this.key), this.pause));
    this.body = element("tbody");
    this.table = element("table", {}, element("caption", { class: "unseen" }, "Events, the newest first"),
      element("thead", {}, element("tr", {}, ...["Time", "State", "Worker", "Task"].map((text, i) => element("th", { scope: "col", class: "e" + i + (i === 0 ? " number" : "") }, text)))), this.body);
    this.empty = element("p", { class: "empty" }, "Nothing has happened yet.");
    node.append(element("div", { class: "scroll" }, this.table), this.empty);
    root.append(node);
    this.painter = new Painter(() => this.draw());
    this.unlisten = store.listen(() => {
      detail.refresh();
      if (!this.paused) this.painter.soon();
    });
    this.painter.now();
  }

  close() {
    this.unlisten();
    this.painter.stop();
  }

  toggle() {
    this.paused = !this.paused;
    this.pause.setAttribute("aria-pressed", this.paused);
    if (this.paused) this.kept = [...store.events];
    this.painter.now();
  }

  draw() {
    const state = this.state.value === "" ? -1 : Number(this.state.value);
    const key = this.key.value.trim().toLowerCase();
    const events = this.paused ? this.kept : store.events;
    const rows = [];
    for (let i = events.length - 1; i >= 0 && rows.length < MOST_EVENT_ROWS; i--) {
      const [t, id, to, lane] = events[i];
      if (state >= 0 && to !== state) continue;
      const task = store.tasks.get(id);
      const text = task ? store.keyOf(task) : "task " + id;
      if (key && !text.toLowerCase().includes(key)) continue;
      rows.push({ t, id, to, lane, text });
    }
    // Two events may be alike; what came first keeps the plain name.
    const seen = new Map();
    const nameOf = (row) => {
      const plain = row.t + ":" + row.id + ":" + row.to;
      const before = seen.get(plain) ?? 0;
      seen.set(plain, before + 1);
      return plain + ":" + before;
    };
    keyed(this.body, rows, nameOf, makeEvent, updateEvent);
    this.empty.hidden = rows.length > 0;
    this.table.hidden = rows.length === 0;
    const missed = store.missed.moments > 0 ? `, ${short(store.missed.moments)} missed` : "";
    say(this.note, `the last ${rows.length}${missed}`);
  }
}

function makeEvent() {
  const row = element("tr");
  row.time = element("td", { class: "number mono e0" });
  row.state = stateLabel(0);
  row.key = element("button", { type: "button", class: "key", onclick: () => detail.show(row.id) });
  row.worker = element("td", { class: "quiet e2" });
  row.append(row.time, element("td", { class: "e1" }, row.state), row.worker, element("td", { class: "e3" }, row.key));
  return row;
}

function updateEvent(row, { t, id, to, lane, text }) {
  row.id = id;
  say(row.time, clock(t, 4));
  setState(row.state, to);
  say(row.key, text);
  say(row.worker, lane >= 0 ? store.lanes.get(lane)?.label ?? "worker " + lane : "");
}
