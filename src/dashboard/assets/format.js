// How numbers and times read.

const WHOLE = new Intl.NumberFormat("en");

// 12345 as 12,345.
export function whole(n) {
  return WHOLE.format(n);
}

// A number in at most five characters: 12.3k.
export function short(n) {
  const units = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
  for (const [size, unit] of units) {
    if (n >= size * (unit === "k" ? 10 : 1)) {
      const scaled = n / size;
      return (scaled >= 100 ? scaled.toFixed(0) : scaled.toFixed(1)) + unit;
    }
  }
  return n >= 100 || Number.isInteger(n) ? WHOLE.format(Math.round(n)) : n.toFixed(1);
}

// A length of time, in the unit that suits it.
export function lasting(seconds) {
  if (!(seconds >= 0)) return "–";
  if (seconds < 1e-3) return Math.round(seconds * 1e6) + " µs";
  if (seconds < 0.1) return (seconds * 1e3).toFixed(1) + " ms";
  if (seconds < 1) return (seconds * 1e3).toFixed(0) + " ms";
  if (seconds < 100) return seconds.toFixed(seconds < 10 ? 2 : 1) + " s";
  const minutes = Math.floor(seconds / 60);
  if (minutes < 100) return minutes + " min " + Math.floor(seconds % 60) + " s";
  return Math.floor(minutes / 60) + " h " + (minutes % 60) + " min";
}

// A moment of the run, as minutes and seconds since it began.
export function clock(seconds, digits = 3) {
  const minutes = Math.floor(seconds / 60);
  const rest = (seconds - minutes * 60).toFixed(digits);
  return minutes + ":" + (rest.indexOf(".") === 1 || rest.length === 1 ? "0" : "") + rest;
}

// The step between two ticks of an axis, about so many of them on so long a span.
export function tickStep(span, about) {
  const rough = span / Math.max(1, about);
  const power = 10 ** Math.floor(Math.log10(rough));
  for (const factor of [1, 2, 5]) {
    if (rough <= factor * power) return factor * power;
  }
  return 10 * power;
}

// What a tick of the axis says.
export function tickText(seconds, step) {
  if (seconds >= 60) return clock(seconds, step < 1 ? 1 : 0);
  const digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(step))));
  return seconds.toFixed(digits) + " s";
}

export function plural(n, word) {
  return whole(n) + " " + word + (n === 1 ? "" : "s");
}
