// @ts-check
// Colours for canvases and swatches. A function has the same colour on every page: its hue is its index in
// the record times the golden angle, so that consecutive functions differ.

import { STATES } from "./states.js";

const GOLDEN_ANGLE = 137.508;
const FIRST_HUE = 255;

/**
 * @typedef {object} Theme
 * @property {string} paper
 * @property {string} panel
 * @property {string} sunk
 * @property {string} ink
 * @property {string} quiet
 * @property {string} rule
 * @property {string} strongRule
 * @property {string} accent
 * @property {string} failed
 * @property {readonly string[]} states the colour of each state
 * @property {number} lightness of the colours of functions
 * @property {number} chroma of the colours of functions
 * @property {string[]} functions the colours made so far
 * @property {string} font the font family
 */

/** @type {Theme | null} */
let theme = null;

/**
 * Returns the colours of the current theme, which the style sheet defines.
 * @returns {Theme}
 */
export function colours() {
  if (theme) return theme;
  const style = getComputedStyle(document.body);
  /** @param {string} name */
  const read = (name) => style.getPropertyValue("--" + name).trim();
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
    states: STATES.map(read),
    lightness: Number(read("function-lightness")),
    chroma: Number(read("function-chroma")),
    functions: [],
    font: style.getPropertyValue("font-family") || "sans-serif",
  };
  return theme;
}

/**
 * Calls `changed` whenever the system switches between light and dark.
 * @param {() => void} changed
 */
export function onThemeChange(changed) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    theme = null;
    changed();
  });
}

/**
 * Returns the colour of a function.
 * @param {number} index
 */
export function functionColour(index) {
  const { functions, lightness, chroma } = colours();
  return functions[index] ??= makeFunctionColour(index, lightness, chroma);
}

/**
 * @param {number} index
 * @param {number} lightness
 * @param {number} chroma
 */
export function makeFunctionColour(index, lightness, chroma) {
  const hue = (FIRST_HUE + index * GOLDEN_ANGLE) % 360;
  // Each group of eight hues is a little darker or lighter than the previous one.
  const shift = [0, -0.09, 0.07][Math.floor(index / 8) % 3] ?? 0;
  return `oklch(${(lightness + shift).toFixed(3)} ${chroma} ${hue.toFixed(1)})`;
}
