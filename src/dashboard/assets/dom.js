// @ts-check
// Creating and updating elements. No text is ever parsed as markup, so keys and errors may contain any
// characters.

/**
 * @typedef {{
 *   class?: string, type?: string, hidden?: boolean, role?: string, title?: string, value?: string | number,
 *   href?: string, download?: string, placeholder?: string, scope?: string, tabindex?: string,
 * }} PlainAttributes
 * @typedef {{ [name: `aria-${string}` | `data-${string}`]: string }} PrefixedAttributes
 * @typedef {{ [Name in keyof HTMLElementEventMap as `on${Name}`]?: (event: HTMLElementEventMap[Name]) => void }} Listeners
 * @typedef {PlainAttributes & PrefixedAttributes & Listeners} Attributes
 */

/**
 * Creates an element, for example `element("td", { class: "number" }, "12")`.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, String(value));
  }
  made.append(...children);
  return made;
}

/**
 * Sets a text if it differs, because every change of a node costs a layout.
 * @param {Element} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Sets a style property if it differs.
 * @param {HTMLElement} node
 * @param {string} property
 * @param {string} value
 */
export function setStyle(node, property, value) {
  if (node.style.getPropertyValue(property) !== value) node.style.setProperty(property, value);
}

/**
 * @param {Element} button
 * @param {boolean} pressed
 */
export function setPressed(button, pressed) {
  button.setAttribute("aria-pressed", String(pressed));
}

/**
 * The children of an element, one row per item. A row is made once per key and updated on every draw.
 * @template Item
 * @template {{ node: Element }} Row
 */
export class KeyedRows {
  /**
   * @param {Element} parent
   * @param {(item: Item) => string | number} keyOf
   * @param {(item: Item) => Row} make
   * @param {(row: Row, item: Item) => void} update
   */
  constructor(parent, keyOf, make, update) {
    this.parent = parent;
    this.keyOf = keyOf;
    this.make = make;
    this.update = update;
    /** @type {Map<string | number, Row>} */
    this.rows = new Map();
  }

  /**
   * Shows the items, in their order.
   * @param {Iterable<Item>} items
   */
  draw(items) {
    const kept = new Set();
    let next = this.parent.firstChild;
    for (const item of items) {
      const key = this.keyOf(item);
      let row = this.rows.get(key);
      if (!row) {
        row = this.make(item);
        this.rows.set(key, row);
      }
      this.update(row, item);
      kept.add(key);
      if (row.node === next) next = next.nextSibling;
      else this.parent.insertBefore(row.node, next);
    }
    if (kept.size === this.rows.size) return;
    for (const [key, { node }] of this.rows) {
      if (kept.has(key)) continue;
      node.remove();
      this.rows.delete(key);
    }
  }
}

/**
 * Creates a panel with a heading, a note beside it, and a place for controls at the right.
 * @param {string} title
 * @param {string} [className]
 */
export function panel(title, className = "") {
  const right = element("div", { class: "right" });
  const note = element("span", { class: "quiet" });
  const node = element("section", { class: "panel " + className, "aria-label": title },
    element("header", {}, element("h2", {}, title), note, right));
  return { node, right, note };
}

/**
 * Creates a table without rows. The cells of column 2 have the class `prefix + 2`.
 * @param {string} caption read by screen readers only
 * @param {string} prefix
 * @param {readonly { text: string, number?: boolean, unseen?: boolean }[]} columns
 */
export function table(caption, prefix, columns) {
  const body = element("tbody");
  const head = columns.map(({ text, number, unseen }, i) => element("th",
    { scope: "col", class: prefix + i + (number ? " number" : "") },
    unseen ? element("span", { class: "unseen" }, text) : text));
  const node = element("table", {}, element("caption", { class: "unseen" }, caption),
    element("thead", {}, element("tr", {}, ...head)), body);
  return { node, body };
}

/**
 * Creates a group of buttons of which one is pressed. Pressing a button calls `onChange` with its value.
 * @template {string} Value
 * @param {string} label
 * @param {readonly (readonly [Value, string])[]} options values and texts
 * @param {Value} initial
 * @param {(value: Value) => void} onChange
 */
export function choices(label, options, initial, onChange) {
  const node = element("div", { class: "choices", role: "group", "aria-label": label });
  /** @type {Map<string, Element>} */
  const buttons = new Map();
  // With a value of no button, none is pressed.
  /** @param {string} value */
  const press = (value) => {
    for (const [each, button] of buttons) setPressed(button, each === value);
  };
  for (const [value, text] of options) {
    const button = element("button", {
      type: "button", value, "aria-pressed": String(value === initial),
      onclick: () => {
        press(value);
        onChange(value);
      },
    }, text);
    buttons.set(value, button);
    node.append(button);
  }
  return { node, press };
}

/**
 * Returns the chosen number of a menu, or -1 for its entry without a value.
 * @param {HTMLSelectElement} menu
 */
export function chosenNumber(menu) {
  return menu.value === "" ? -1 : Number(menu.value);
}

/**
 * Shows a tooltip next to a point of a plot of this width.
 * @param {HTMLElement} tip
 * @param {string} text
 * @param {number} x
 * @param {number} y
 * @param {number} width
 */
export function showTip(tip, text, x, y, width) {
  tip.hidden = false;
  tip.textContent = text;
  const atLeft = x > width / 2;
  tip.style.left = atLeft ? "auto" : x + 14 + "px";
  tip.style.right = atLeft ? width - x + 14 + "px" : "auto";
  tip.style.top = y + 13 + "px";
}
