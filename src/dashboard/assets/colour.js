// Colours, for canvases and for swatches. A function has the same colour on every page: its hue comes from
// its index in the record, by steps of the golden angle, so that neighbours differ.

const GOLDEN = 137.508;
const FIRST_HUE = 255;

let theme = null;

// The colours of the theme in use, read from the style sheet.
export function colours() {
  if (theme) return theme;
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue("--" + name).trim();
  const states = ["waiting", "ready", "running", "delayed", "finished", "failed", "cancelled"];
  theme = {
    paper: read("paper"),
    panel: read("panel"),
    sunk: read("sunk"),
    ink: read("ink"),
    quiet: read("quiet"),
    rule: read("rule"),
    strongRule: read("strong-rule"),
    accent: read("accent"),
    failed: read("failed"),
    states: states.map(read),
    light: Number(read("function-light")),
    strong: Number(read("function-strong")),
    functions: [],
    text: style.getPropertyValue("font-family") || "sans-serif",
  };
  return theme;
}

// Calls back when the reader changes between light and dark.
export function onTheme(changed) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    theme = null;
    changed();
  });
}

export function functionColour(index) {
  const { functions, light, strong } = colours();
  if (!functions[index]) {
    const hue = (FIRST_HUE + index * GOLDEN) % 360;
    // Each round of eight hues is a little darker or lighter than the one before.
    const shift = [0, -0.09, 0.07][Math.floor(index / 8) % 3];
    functions[index] = `oklch(${(light + shift).toFixed(3)} ${strong} ${hue.toFixed(1)})`;
  }
  return functions[index];
}
