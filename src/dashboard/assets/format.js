// @ts-check
// Formatting of numbers and times as text.

const WHOLE = new Intl.NumberFormat("en");

/**
 * Formats 12345 as "12,345".
 * @param {number} n
 */
export function whole(n) {
  return WHOLE.format(n);
}

/**
 * Formats a number in at most six characters, such as "12.3k".
 * @param {number} n
 */
export function short(n) {
  for (const [size, unit, from] of /** @type {const} */ ([[1e9, "G", 1e9], [1e6, "M", 1e6], [1e3, "k", 1e4]])) {
    if (n >= from) {
      const scaled = n / size;
      return (scaled >= 100 ? scaled.toFixed(0) : scaled.toFixed(1)) + unit;
    }
  }
  return n >= 100 || Number.isInteger(n) ? WHOLE.format(Math.round(n)) : n.toFixed(1);
}

/**
 * Formats a duration in a suitable unit.
 * @param {number} seconds
 */
export function duration(seconds) {
  if (!(seconds >= 0)) return "–";
  if (seconds < 1e-3) return Math.round(seconds * 1e6) + " µs";
  if (seconds < 0.1) return (seconds * 1e3).toFixed(1) + " ms";
  if (seconds < 1) return (seconds * 1e3).toFixed(0) + " ms";
  if (seconds < 100) return seconds.toFixed(seconds < 10 ? 2 : 1) + " s";
  const minutes = Math.floor(seconds / 60);
  if (minutes < 100) return minutes + " min " + Math.floor(seconds % 60) + " s";
  return Math.floor(minutes / 60) + " h " + (minutes % 60) + " min";
}

/**
 * Formats a time since the start of the recording as minutes and seconds.
 * @param {number} seconds
 * @param {number} [digits] the number of decimal places
 */
export function clock(seconds, digits = 3) {
  const minutes = Math.floor(seconds / 60);
  const rest = (seconds - minutes * 60).toFixed(digits);
  return minutes + ":" + (rest.indexOf(".") === 1 || rest.length === 1 ? "0" : "") + rest;
}

/**
 * Returns the step of an axis: 1, 2 or 5 times a power of ten.
 * @param {number} span the length of the axis
 * @param {number} count the approximate number of ticks
 */
export function tickStep(span, count) {
  const rough = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  for (const factor of [1, 2, 5]) {
    if (rough <= factor * power) return factor * power;
  }
  return 10 * power;
}

/**
 * Formats the label of a tick.
 * @param {number} seconds
 * @param {number} step
 */
export function tickText(seconds, step) {
  if (seconds >= 60) return clock(seconds, step < 1 ? 1 : 0);
  const digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(step))));
  return seconds.toFixed(digits) + " s";
}

/**
 * Formats a number and a noun, in the plural unless the number is 1.
 * @param {number} n
 * @param {string} noun
 */
export function plural(n, noun) {
  return whole(n) + " " + noun + (n === 1 ? "" : "s");
}
