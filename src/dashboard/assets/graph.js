// @ts-check
// The page with the live graph: controls, legend, canvas, and input by mouse, touch and keyboard.

import { CANCELLED, FINISHED, STATES, StateLabel, hasEnded } from "./states.js";
import { choices, element, panel, setPressed, setStyle, setText, showTip } from "./dom.js";
import { plural, short, whole } from "./format.js";
import { FunctionGraph } from "./functiongraph.js";
import { MOST_TASKS, TaskGraph } from "./taskgraph.js";
import { Page } from "./page.js";
import { Surface } from "./frames.js";
import { detail } from "./detail.js";
import { isReport } from "./api.js";
import { store } from "./store.js";

/** @import { Navigate } from "./page.js" */
/** @import { Changes, Task } from "./store.js" */

const DRAG_THRESHOLD = 4;
const ZOOM_STEP = 1.4;

export class GraphPage extends Page {
  /**
   * @param {HTMLElement} root
   * @param {{ navigate: Navigate }} options
   */
  constructor(root, { navigate }) {
    super();
    this.navigate = navigate;
    this.tasks = new TaskGraph();
    this.functions = new FunctionGraph();
    /** @type {TaskGraph | FunctionGraph} */
    this.view = this.tasks;
    /** @type {"auto" | "functions"} */
    this.mode = "auto";
    this.hideReleased = false;
    // A task or function, depending on the view.
    /** @type {number | null} */
    this.chosen = null;
    /** @type {number | null} */
    this.hover = null;
    // The emphasized state, or -1.
    this.only = -1;
    /** @type {Map<number, { x: number, y: number }>} */
    this.pointers = new Map();
    this.pressedAt = { x: 0, y: 0 };
    this.dragged = false;

    const { node, right, note } = panel("Graph", "graph");
    this.note = note;
    const modes = choices("Nodes", /** @type {const} */ ([["auto", "Auto"], ["functions", "Functions"]]), "auto", (mode) => {
      this.mode = mode;
      this.rebuild();
    });
    this.hideButton = element("button", { type: "button", "aria-pressed": "false", onclick: () => this.toggleReleased() }, "Hide released");
    const zoom = element("div", { class: "choices", role: "group", "aria-label": "Zoom" },
      element("button", { type: "button", "aria-label": "Zoom out", onclick: () => this.zoom(1 / ZOOM_STEP) }, "−"),
      element("button", { type: "button", "aria-label": "Zoom in", onclick: () => this.zoom(ZOOM_STEP) }, "+"),
      element("button", { type: "button", onclick: () => this.fit() }, "Fit"));
    right.append(modes.node, this.hideButton, zoom);
    if (!isReport()) {
      right.append(element("a", { href: "graph.svg", download: "graph.svg" }, "SVG"), element("a", { href: "graph.dot", download: "graph.dot" }, "DOT"));
    }
    const legend = element("div", { class: "legend", role: "group", "aria-label": "Emphasize a state" });
    this.counts = STATES.map((_, state) => {
      const count = element("b", {}, "0");
      const button = element("button", { type: "button", class: "plain", "aria-pressed": "false", onclick: () => this.emphasize(state) },
        new StateLabel(state).node, count);
      legend.append(button);
      return { button, count };
    });
    this.canvas = element("canvas", {
      tabindex: "0",
      role: "application",
      "aria-label": "Task graph. Arrow keys move from node to node, Enter opens the details, plus and minus zoom, 0 fits the graph.",
      onkeydown: (event) => this.onKey(event),
      onwheel: (event) => this.onWheel(event),
      onpointerdown: (event) => this.onPress(event),
      onpointermove: (event) => this.onMove(event),
      onpointerup: (event) => this.onRelease(event),
      onpointercancel: (event) => this.onRelease(event),
      onpointerleave: () => this.setHover(null, 0, 0),
    });
    this.tip = element("div", { class: "tip", hidden: true });
    this.hint = element("p", { class: "hint quiet", hidden: true }, "No tasks yet. Submitted tasks appear in this graph.");
    this.announcement = element("p", { class: "announcement quiet", "aria-live": "polite" });
    node.append(legend, element("div", { class: "plot" }, this.canvas, this.tip, this.hint), this.announcement);
    root.append(node);

    this.surface = new Surface(this.canvas, () => this.painter.now());
    this.onClose(() => this.surface.stop());
    this.onClose(detail.watch((id) => this.follow(id)));
    this.rebuild();
  }

  /** @param {Task} task */
  isShown(task) {
    return !this.hideReleased || !hasEnded(task.state) || (task.state !== CANCELLED && task.held);
  }

  toggleReleased() {
    this.hideReleased = !this.hideReleased;
    setPressed(this.hideButton, this.hideReleased);
    this.rebuild();
  }

  /** @param {number} state */
  emphasize(state) {
    this.only = this.only === state ? -1 : state;
    this.counts.forEach(({ button }, each) => setPressed(button, each === this.only));
    this.painter.now();
  }

  rebuild() {
    this.tasks.rebuild((task) => this.isShown(task));
    this.functions.update();
    this.selectView();
    this.painter.now();
  }

  /**
   * @override
   * @param {Changes} changes
   */
  update(changes) {
    if (changes.reset) {
      this.tasks.clear();
      this.functions.clear();
      this.chosen = null;
      this.rebuild();
      return;
    }
    this.tasks.update(changes);
    this.functions.update();
    this.selectView();
    this.painter.soon();
  }

  /** Shows the tasks if there are few enough, and else the functions. */
  selectView() {
    const view = this.mode === "functions" || !this.tasks.fits ? this.functions : this.tasks;
    if (view === this.view) return;
    this.view = view;
    this.chosen = null;
    this.hover = null;
    this.tip.hidden = true;
    view.camera.reset();
  }

  /** @override */
  draw() {
    const { view } = this;
    const ctx = this.surface.begin();
    const { width, height } = this.surface;
    if (view.camera.auto && view.size > 0) view.camera.follow(view.bounds(), width, height);
    view.draw(ctx, width, height, { chosen: this.chosen, hover: this.hover, only: this.only });
    this.hint.hidden = view.size > 0;
    this.canvas.dataset.nodes = String(view.size);
    this.canvas.dataset.by = view === this.tasks ? "task" : "function";
    this.drawNote();
  }

  drawNote() {
    const { missed } = store;
    const parts = [];
    if (this.view === this.tasks) parts.push(plural(this.tasks.size, "task"));
    else {
      parts.push(plural(this.functions.size, "function"));
      if (!this.tasks.fits) parts.push(`${short(this.tasks.size)} tasks, shown by function above ${whole(MOST_TASKS)}`);
    }
    if (missed.tasks > 0) parts.push(short(missed.tasks) + " only counted");
    setText(this.note, parts.join(", "));
    const counts = this.view.counts();
    this.counts.forEach(({ button, count }, state) => {
      const tasks = counts[state] ?? 0;
      setText(count, short(tasks));
      setStyle(button, "opacity", tasks === 0 && state !== FINISHED ? "0.75" : "1");
    });
  }

  fit() {
    this.view.camera.reset();
    this.painter.now();
  }

  /**
   * Zooms around a point, by default the chosen node or the middle.
   * @param {number} factor
   * @param {{ x: number, y: number }} [point]
   */
  zoom(factor, point) {
    const { camera } = this.view;
    const place = this.chosen === null ? null : this.view.placeOf(this.chosen);
    const { width, height } = this.surface;
    const centre = place ? { x: camera.toX(place.x), y: camera.toY(place.y) } : { x: width / 2, y: height / 2 };
    const { x, y } = point ?? centre;
    camera.zoom(factor, x, y);
    if (place && !point) camera.show(place.x, place.y, width, height);
    this.painter.now();
  }

  /** @param {WheelEvent} event */
  onWheel(event) {
    event.preventDefault();
    if (event.shiftKey) {
      this.view.camera.pan(-(event.deltaX || event.deltaY), 0);
      this.painter.now();
    } else {
      this.zoom(Math.exp(-event.deltaY / 400), this.pointOf(event));
    }
  }

  /** @param {MouseEvent} event */
  pointOf(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  /** @param {PointerEvent} event */
  onPress(event) {
    this.canvas.setPointerCapture(event.pointerId);
    const point = this.pointOf(event);
    this.pointers.set(event.pointerId, point);
    this.dragged = this.pointers.size > 1;
    this.pressedAt = point;
  }

  /** @param {PointerEvent} event */
  onMove(event) {
    const { x, y } = this.pointOf(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.setHover(this.view.at(x, y), x, y);
      return;
    }
    if (!this.dragged && Math.hypot(x - this.pressedAt.x, y - this.pressedAt.y) < DRAG_THRESHOLD) return;
    this.dragged = true;
    this.setHover(null, 0, 0);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      // Two fingers zoom by the change of their distance.
      const previous = Math.hypot(before.x - other.x, before.y - other.y);
      const current = Math.hypot(x - other.x, y - other.y);
      if (previous > 0) this.view.camera.zoom(current / previous, (x + other.x) / 2, (y + other.y) / 2);
    } else {
      this.view.camera.pan(x - before.x, y - before.y);
    }
    this.pointers.set(event.pointerId, { x, y });
    this.painter.now();
  }

  /** @param {PointerEvent} event */
  onRelease(event) {
    if (!this.pointers.delete(event.pointerId) || this.dragged || event.type === "pointercancel") return;
    const { x, y } = this.pointOf(event);
    const found = this.view.at(x, y);
    this.choose(found);
    if (found !== null) this.open(found);
  }

  /**
   * @param {number | null} found
   * @param {number} x
   * @param {number} y
   */
  setHover(found, x, y) {
    if (found === this.hover) return;
    this.hover = found;
    this.canvas.style.cursor = found === null ? "grab" : "pointer";
    this.tip.hidden = true;
    if (found !== null) showTip(this.tip, this.view.describe(found), x, y, this.surface.width);
    this.painter.now();
  }

  /** @param {number | null} found */
  choose(found) {
    this.chosen = found;
    if (found !== null) {
      setText(this.announcement, this.view.describe(found));
      const place = this.view.placeOf(found);
      if (place) this.view.camera.show(place.x, place.y, this.surface.width, this.surface.height);
    }
    this.painter.now();
  }

  /** @param {number} chosen */
  open(chosen) {
    if (this.view === this.tasks) detail.show(chosen);
    else this.navigate("tasks", { name: store.nameOf(chosen) });
  }

  /**
   * Chooses the task that the drawer shows, because its links lead to neighbours.
   * @param {number | null} id
   */
  follow(id) {
    if (this.view === this.tasks && id !== null && id !== this.chosen) this.choose(id);
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (event.key.startsWith("Arrow")) {
      const next = this.view.step(this.chosen, event.key);
      if (next !== null) this.choose(next);
    } else if (event.key === "+" || event.key === "=") this.zoom(ZOOM_STEP);
    else if (event.key === "-") this.zoom(1 / ZOOM_STEP);
    else if (event.key === "0") this.fit();
    else if (event.key === "Enter" && this.chosen !== null) this.open(this.chosen);
    else return;
    event.preventDefault();
  }
}
