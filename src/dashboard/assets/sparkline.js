// @ts-check
// Small column charts.

import { colours } from "./colour.js";

/** @import { Bars } from "./bars.js" */
/** @import { Surface } from "./frames.js" */
/** @import { Sample } from "./store.js" */

const COLUMN_WIDTH = 3;

/**
 * Returns the number of columns that fit into a width.
 * @param {number} width
 */
export function columnCount(width) {
  return Math.max(1, Math.floor(width / COLUMN_WIDTH));
}

/**
 * Returns how many tasks ended in each column of the last `span` seconds.
 * @param {readonly Sample[]} samples
 * @param {number} span
 * @param {number} columns
 */
export function endedPerColumn(samples, span, columns) {
  const ended = new Float64Array(columns);
  const last = samples[samples.length - 1]?.t ?? 0;
  const from = Math.max(samples[0]?.t ?? 0, last - span);
  const step = Math.max(0.2, (last - from) / columns);
  let before = samples[0];
  for (const sample of samples) {
    const column = Math.floor((sample.t - from) / step);
    if (column >= 0 && column < columns) ended[column] = (ended[column] ?? 0) + sample.ended - (before?.ended ?? 0);
    before = sample;
  }
  return ended;
}

/**
 * Returns the share of time that a worker spent in polls, for each column of an interval.
 * @param {Bars} bars
 * @param {number} from
 * @param {number} span
 * @param {number} columns
 */
export function busyPerColumn(bars, from, span, columns) {
  const busy = new Float64Array(columns);
  const step = span / columns;
  for (const bar of bars.between(from, Infinity)) {
    // A long poll covers several columns.
    for (let column = Math.max(0, Math.floor((bar.start - from) / step)); column < columns; column++) {
      const left = from + column * step;
      if (left >= bar.end) break;
      const share = (Math.min(bar.end, left + step) - Math.max(bar.start, left)) / step;
      busy[column] = Math.min(1, (busy[column] ?? 0) + share);
    }
  }
  return busy;
}

/**
 * Draws a chart. `columnsOf` returns the heights of a number of columns, as shares of the whole height.
 * @param {Surface} surface
 * @param {(columns: number) => Float64Array} columnsOf
 */
export function drawSparkline(surface, columnsOf) {
  const ctx = surface.begin();
  const { width, height } = surface;
  ctx.fillStyle = colours().rule;
  ctx.fillRect(0, height - 1, width, 1);
  ctx.fillStyle = colours().accent;
  columnsOf(columnCount(width)).forEach((share, column) => {
    const tall = share * (height - 1);
    if (tall > 0) ctx.fillRect(column * COLUMN_WIDTH, height - 1 - tall, COLUMN_WIDTH - 1, Math.max(1, tall));
  });
}
