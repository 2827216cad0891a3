// The parts of a browser that the scripts need, without layout and drawing. Importing this defines them as
// globals, so it has to come before the scripts that are tested.

class FakeStyle {
  constructor() {
    this.values = new Map();
  }

  getPropertyValue(name) {
    return this.values.get(name) ?? "";
  }

  setProperty(name, value) {
    this.values.set(name, value);
  }
}

class FakeClassList {
  constructor(owner) {
    this.owner = owner;
  }

  get names() {
    return new Set(this.owner.className.split(" ").filter(Boolean));
  }

  contains(name) {
    return this.names.has(name);
  }

  toggle(name, on) {
    const { names } = this;
    if (on) names.add(name);
    else names.delete(name);
    this.owner.className = [...names].join(" ");
  }

  add(name) {
    this.toggle(name, true);
  }

  remove(name) {
    this.toggle(name, false);
  }
}

/** A canvas context that only records the texts and rectangles. */
class FakeContext {
  constructor() {
    this.texts = [];
    this.rectangles = 0;
    for (const name of ["save", "restore", "translate", "scale", "setTransform", "setLineDash", "beginPath", "moveTo", "bezierCurveTo", "stroke", "fill", "strokeRect"]) {
      this[name] = () => {};
    }
  }

  clearRect() {
    this.texts = [];
    this.rectangles = 0;
  }

  fillRect(...numbers) {
    if (!numbers.every(Number.isFinite)) throw new Error(`a rectangle at ${numbers}`);
    this.rectangles += 1;
  }

  fillText(text, ...point) {
    if (!point.every(Number.isFinite)) throw new Error(`a text at ${point}`);
    this.texts.push(text);
  }

  measureText(text) {
    return { width: text.length * 7 };
  }
}

export class FakeNode extends EventTarget {
  constructor(tag, text = "") {
    super();
    this.tag = tag;
    this.text = text;
    this.parent = null;
    this.childNodes = [];
    this.attributes = new Map();
    this.className = "";
    this.classList = new FakeClassList(this);
    this.style = new FakeStyle();
    this.dataset = {};
    this.hidden = false;
    this.value = "";
    // How often the children were changed.
    this.changes = 0;
  }

  get firstChild() {
    return this.childNodes[0] ?? null;
  }

  get nextSibling() {
    const siblings = this.parent?.childNodes ?? [];
    return siblings[siblings.indexOf(this) + 1] ?? null;
  }

  get options() {
    return this.childNodes.filter((child) => child.tag === "option");
  }

  get textContent() {
    return this.text + this.childNodes.map((child) => child.textContent).join("");
  }

  set textContent(text) {
    this.replaceChildren();
    this.text = text;
  }

  setAttribute(name, value) {
    this.attributes.set(name, value);
    if (name === "class") this.className = value;
    if (name === "hidden") this.hidden = true;
    if (name === "value") this.value = value;
  }

  getAttribute(name) {
    return this.attributes.get(name) ?? null;
  }

  append(...children) {
    for (const child of children) this.insertBefore(typeof child === "string" ? new FakeNode("#text", child) : child, null);
  }

  insertBefore(child, next) {
    child.remove();
    const at = next === null ? this.childNodes.length : this.childNodes.indexOf(next);
    this.childNodes.splice(at, 0, child);
    child.parent = this;
    this.changes += 1;
  }

  replaceChildren(...children) {
    for (const child of [...this.childNodes]) child.remove();
    this.text = "";
    this.append(...children);
  }

  remove() {
    if (!this.parent) return;
    const { childNodes } = this.parent;
    childNodes.splice(childNodes.indexOf(this), 1);
    this.parent.changes += 1;
    this.parent = null;
  }

  getBoundingClientRect() {
    return { left: 0, top: 0, width: 640, height: 400 };
  }

  get clientWidth() {
    return 640;
  }

  setPointerCapture() {}

  getContext() {
    this.context ??= new FakeContext();
    return this.context;
  }

  focus() {
    document.activeElement = this;
  }

  click() {
    this.dispatchEvent(new Event("click"));
  }

  /** Returns all descendants with this tag. */
  all(tag) {
    return this.childNodes.flatMap((child) => [...(child.tag === tag ? [child] : []), ...child.all(tag)]);
  }
}

const body = new FakeNode("body");

/** The functions that wait for the next animation frame. */
export const frames = [];

/** Runs the requested animation frames. */
export function runFrames(now = performance.now()) {
  for (const frame of frames.splice(0)) frame(now);
}

class MemoryStorage {
  constructor() {
    this.items = new Map();
  }

  getItem(key) {
    return this.items.get(key) ?? null;
  }

  setItem(key, value) {
    this.items.set(key, value);
  }
}

Object.assign(globalThis, {
  window: globalThis,
  innerHeight: 900,
  ResizeObserver: class {
    observe() {}

    disconnect() {}
  },
  Path2D: class {
    moveTo() {}

    bezierCurveTo() {}
  },
  HTMLElement: FakeNode,
  document: Object.assign(new EventTarget(), {
    body,
    activeElement: body,
    hidden: false,
    createElement: (tag) => new FakeNode(tag),
    createElementNS: (_, tag) => new FakeNode(tag),
  }),
  location: { hash: "", pathname: "/tasks", search: "" },
  history: { replaceState: (_state, _title, address) => { globalThis.location.hash = address.includes("#") ? address.slice(address.indexOf("#")) : ""; } },
  sessionStorage: new MemoryStorage(),
  requestAnimationFrame: (frame) => frames.push(frame),
  addEventListener: () => {},
  getComputedStyle: () => ({ getPropertyValue: () => "" }),
});
