// The page with the live graph: controls, legend, canvas, and how mouse and keys act on it.

import { CANCELLED, FINISHED, STATES, hasEnded, stateLabel } from "./states.js";
import { Painter, Sheet } from "./frames.js";
import { choices, element, panel, say, setStyle } from "./dom.js";
import { plural, short, whole } from "./format.js";
import { FunctionGraph } from "./functiongraph.js";
import { MOST_TASKS, TaskGraph } from "./taskgraph.js";
import { detail } from "./detail.js";
import { isReport } from "./api.js";
import { store } from "./store.js";

export class GraphPage {
  constructor(root, { navigate }) {
    this.navigate = navigate;
    this.tasks = new TaskGraph();
    this.functions = new FunctionGraph();
    this.view = this.tasks;
    this.mode = "auto";
    this.heldOnly = false;
    this.chosen = null;
    this.hover = null;
    this.only = -1;
    this.build(root);
    this.painter = new Painter(() => this.draw());
    this.sheet = new Sheet(this.canvas, () => this.painter.now());
    this.unlisten = store.listen((changed) => this.update(changed));
    this.unwatch = detail.watch((id) => this.follow(id));
    this.rebuild();
  }

  close() {
    this.unlisten();
    this.unwatch();
    this.painter.stop();
    this.sheet.stop();
  }

  build(root) {
    const { node, right, note } = panel("Graph", "graph");
    this.note = note;
    this.modes = choices("What a node is", [["auto", "Auto"], ["functions", "Functions"]], "auto", (mode) => {
      this.mode = mode;
      this.rebuild();
    });
    this.held = element("button", { type: "button", "aria-pressed": "false", onclick: () => this.toggleHeld() }, "Hide released");
    const zoom = element("div", { class: "choices", role: "group", "aria-label": "Zoom" },
      element("button", { type: "button", "aria-label": "Zoom out", onclick: () => this.zoom(1 / 1.4) }, "−"),
      element("button", { type: "button", "aria-label": "Zoom in", onclick: () => this.zoom(1.4) }, "+"),
      element("button", { type: "button", onclick: () => this.fit() }, "Fit"));
    right.append(this.modes.node, this.held, zoom);
    if (!isReport()) {
      right.append(element("a", { href: "graph.svg", download: "graph.svg" }, "SVG"), element("a", { href: "graph.dot", download: "graph.dot" }, "DOT"));
    }
    this.legend = element("div", { class: "legend", role: "group", "aria-label": "Stress one state" });
    this.counts = STATES.map((name, state) => {
      const count = element("b", {}, "0");
      const button = element("button", { type: "button", class: "plain", "aria-pressed": "false", onclick: () => this.stress(state) },
        stateLabel(state), count);
      this.legend.append(button);
      return { button, count };
    });
    this.canvas = element("canvas", {
      tabindex: "0",
      role: "application",
      "aria-label": "Graph. Arrow keys go from node to node, Enter shows the task, plus and minus zoom, 0 fits everything in.",
      onkeydown: (event) => this.key(event),
      onwheel: (event) => this.wheel(event),
      onpointerdown: (event) => this.press(event),
      onpointermove: (event) => this.move(event),
      onpointerup: (event) => this.release(event),
      onpointercancel: (event) => this.release(event),
      onpointerleave: () => this.setHover(null, 0, 0),
    });
    this.tip = element("div", { class: "tip", hidden: true });
    this.hint = element("p", { class: "hint quiet", hidden: true }, "No tasks yet. They appear here as they are submitted.");
    this.told = element("p", { class: "told quiet", "aria-live": "polite" });
    node.append(this.legend, element("div", { class: "plot" }, this.canvas, this.tip, this.hint), this.told);
    this.pointers = new Map();
    root.append(node);
  }

  shown(task) {
    return !this.heldOnly || !hasEnded(task.state) || (task.state !== CANCELLED && task.held);
  }

  toggleHeld() {
    this.heldOnly = !this.heldOnly;
    this.held.setAttribute("aria-pressed", this.heldOnly);
    this.rebuild();
  }

  stress(state) {
    this.only = this.only === state ? -1 : state;
    this.counts.forEach(({ button }, each) => button.setAttribute("aria-pressed", each === this.only));
    this.painter.now();
  }

  rebuild() {
    this.tasks.rebuild((task) => this.shown(task));
    this.functions.update();
    this.pick();
    this.painter.now();
  }

  update(changed) {
    if (changed.reset) {
      this.tasks.clear();
      this.functions.clear();
      this.chosen = null;
      this.rebuild();
      return;
    }
    this.tasks.update(changed);
    this.functions.update();
    this.pick();
    detail.refresh();
    this.painter.soon();
  }

  // Which of the two graphs is shown. Tasks that were only counted, because there were so many at a time,
  // are seen by function only.
  pick() {
    const view = this.mode === "functions" || !this.tasks.fits ? this.functions : this.tasks;
    if (view === this.view) return;
    this.view = view;
    this.chosen = null;
    this.hover = null;
    this.tip.hidden = true;
    view.camera.auto = true;
    view.camera.fitted = null;
  }

  draw() {
    const { view } = this;
    const pen = this.sheet.begin();
    const { width, height } = this.sheet;
    if (view.camera.auto && view.size > 0) view.camera.follow(view.bounds(), width, height);
    view.draw(pen, width, height, { chosen: this.chosen, hover: this.hover, only: this.only });
    this.hint.hidden = view.size > 0;
    this.canvas.dataset.nodes = view.size;
    this.canvas.dataset.by = view === this.tasks ? "task" : "function";
    this.label();
  }

  label() {
    const { missed } = store;
    const parts = [];
    if (this.view === this.tasks) parts.push(plural(this.tasks.size, "task"));
    else {
      parts.push(plural(this.functions.size, "function"));
      if (!this.tasks.fits) parts.push(short(this.tasks.size) + " tasks recorded, more than " + whole(MOST_TASKS) + ": by function");
    }
    if (missed.tasks > 0) parts.push(short(missed.tasks) + " only counted");
    say(this.note, parts.join(", "));
    const counts = new Array(STATES.length).fill(0);
    if (this.view === this.tasks) {
      for (const id of this.tasks.layout.places.keys()) {
        const task = store.tasks.get(id);
        if (task) counts[task.state] += 1;
      }
    } else {
      for (const each of store.stats?.functions ?? []) STATES.forEach((name, state) => { counts[state] += each[name] ?? 0; });
    }
    this.counts.forEach(({ button, count }, state) => {
      say(count, short(counts[state]));
      setStyle(button, "opacity", counts[state] === 0 && state !== FINISHED ? "0.75" : "1");
    });
  }

  fit() {
    this.view.camera.auto = true;
    this.view.camera.fitted = null;
    this.painter.now();
  }

  // Without a point it's around the chosen node, or the middle.
  zoom(factor, x = null, y = null) {
    const { camera } = this.view;
    const place = this.chosen === null ? null : this.view.placeOf(this.chosen);
    const { width, height } = this.sheet;
    camera.zoom(factor, x ?? (place ? camera.toX(place.x) : width / 2), y ?? (place ? camera.toY(place.y) : height / 2));
    if (place && x === null) camera.show(place.x, place.y, width, height);
    this.painter.now();
  }

  wheel(event) {
    event.preventDefault();
    const [x, y] = this.point(event);
    if (event.shiftKey) {
      this.view.camera.pan(-(event.deltaX || event.deltaY), 0);
      this.painter.now();
    } else {
      this.zoom(Math.exp(-event.deltaY / 400), x, y);
    }
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    const [x, y] = this.point(event);
    this.pointers.set(event.pointerId, { x, y });
    this.moved = this.pointers.size > 1;
    this.from = [x, y];
  }

  move(event) {
    const [x, y] = this.point(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.setHover(this.view.at(x, y), x, y);
      return;
    }
    if (!this.moved && Math.hypot(x - this.from[0], y - this.from[1]) < 4) return;
    this.moved = true;
    this.setHover(null, 0, 0);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      // Two fingers: as much as their distance changes.
      const was = Math.hypot(before.x - other.x, before.y - other.y);
      const is = Math.hypot(x - other.x, y - other.y);
      if (was > 0) this.view.camera.zoom(is / was, (x + other.x) / 2, (y + other.y) / 2);
    } else {
      this.view.camera.pan(x - before.x, y - before.y);
    }
    this.pointers.set(event.pointerId, { x, y });
    this.painter.now();
  }

  release(event) {
    if (!this.pointers.delete(event.pointerId) || this.moved || event.type === "pointercancel") return;
    const found = this.view.at(...this.point(event));
    this.choose(found);
    if (found !== null) this.open();
  }

  setHover(found, x, y) {
    if (found === this.hover) return;
    this.hover = found;
    this.canvas.style.cursor = found === null ? "grab" : "pointer";
    this.tip.hidden = found === null;
    if (found !== null) {
      this.tip.textContent = this.describe(found);
      const right = x > this.sheet.width / 2;
      this.tip.style.left = right ? "auto" : x + 14 + "px";
      this.tip.style.right = right ? this.sheet.width - x + 14 + "px" : "auto";
      this.tip.style.top = y + 12 + "px";
    }
    this.painter.now();
  }

  describe(found) {
    if (this.view === this.functions) return this.functions.describe(found);
    const task = store.tasks.get(found);
    if (!task) return "";
    const kept = task.state === FINISHED && !task.held ? ", released" : "";
    return store.keyOf(task) + ": " + STATES[task.state] + kept;
  }

  choose(found) {
    this.chosen = found;
    if (found !== null) {
      say(this.told, this.describe(found));
      const place = this.view.placeOf(found);
      if (place) this.view.camera.show(place.x, place.y, this.sheet.width, this.sheet.height);
    }
    this.painter.now();
  }

  open() {
    if (this.view === this.tasks) detail.show(this.chosen);
    else this.navigate("tasks", { name: store.nameOf(this.chosen) });
  }

  // The drawer may lead on to a neighbour.
  follow(id) {
    if (this.view === this.tasks && id !== null && id !== this.chosen) this.choose(id);
  }

  key(event) {
    if (event.key.startsWith("Arrow")) {
      const next = this.chosen === null ? this.view.step(null, event.key) : this.view.step(this.chosen, event.key);
      if (next !== null) this.choose(next);
    } else if (event.key === "+" || event.key === "=") this.zoom(1.4);
    else if (event.key === "-") this.zoom(1 / 1.4);
    else if (event.key === "0") this.fit();
    else if (event.key === "Enter" && this.chosen !== null) this.open();
    else return;
    event.preventDefault();
  }
}
