// Making elements. Text only ever becomes text here: nothing on these pages parses markup that came with
// data, so a key may contain any.

// element("td", { class: "number" }, "12", other)
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

// Writes a text if it has changed: what stays the same costs no layout.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setStyle(node, property, value) {
  if (node.style.getPropertyValue(property) !== value) node.style.setProperty(property, value);
}

// Brings the children of `parent` in line with `items`: a node per item, made once for each key, updated
// each time, in the order of the items.
export function keyed(parent, items, keyOf, make, update) {
  const known = parent.keyed ?? (parent.keyed = new Map());
  const kept = new Set();
  let place = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    let node = known.get(key);
    if (!node) {
      node = make(item);
      known.set(key, node);
    }
    update(node, item);
    kept.add(key);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
  if (kept.size === known.size) return;
  for (const [key, node] of known) {
    if (kept.has(key)) continue;
    node.remove();
    known.delete(key);
  }
}

// A panel with a heading. `panel.body` is for what it shows, `panel.right` for its controls.
export function panel(title, className = "") {
  const right = element("div", { class: "right" });
  const note = element("span", { class: "quiet" });
  const heading = element("h2", {}, title);
  const node = element("section", { class: "panel " + className, "aria-label": title },
    element("header", {}, heading, note, right));
  return { node, right, note, heading };
}

// Buttons of which one is pressed. `chosen` is told of the value of the one.
export function choices(label, options, initial, chosen) {
  const group = element("div", { class: "choices", role: "group", "aria-label": label });
  const press = (value) => {
    for (const button of group.children) button.setAttribute("aria-pressed", button.value === value);
  };
  for (const [value, text] of options) {
    group.append(element("button", {
      type: "button", value, "aria-pressed": String(value === initial),
      onclick: () => { press(value); chosen(value); },
    }, text));
  }
  return { node: group, press };
}
