// @ts-check
// The bars of one lane of the task stream: polls, ordered by start.

/**
 * A poll of a task.
 * @typedef {object} Bar
 * @property {number} start in seconds
 * @property {number} end in seconds
 * @property {number} name the index of the task's function
 * @property {number} id the task
 * @property {number} outcome 0: pending, 1: finished, 2: failed
 */

export class Bars {
  constructor() {
    /** @type {Bar[]} */
    this.list = [];
    // The bars before this index have been dropped.
    this.first = 0;
  }

  get length() {
    return this.list.length - this.first;
  }

  /**
   * @param {number} index
   * @returns {Bar | undefined}
   */
  at(index) {
    return this.list[this.first + index];
  }

  /** @returns {Bar | undefined} */
  last() {
    return this.list[this.list.length - 1];
  }

  /**
   * Adds a bar. A bar that arrives after a later bar is moved to its position; that's rare, and the distance
   * is short.
   * @param {Bar} bar
   */
  push(bar) {
    const { list } = this;
    let index = list.length;
    list.push(bar);
    for (; index > this.first; index--) {
      const before = list[index - 1];
      if (!before || before.start <= bar.start) break;
      list[index] = before;
    }
    list[index] = bar;
  }

  dropOldest() {
    this.first += 1;
    // Moving the rest takes time in proportion to its length, so it's done only when half is dropped.
    if (this.first * 2 > this.list.length && this.first > 64) {
      this.list.splice(0, this.first);
      this.first = 0;
    }
  }

  /**
   * Returns the index of the first bar that ends at `time` or later. The bars of a lane don't overlap, so
   * their ends are ordered as well.
   * @param {number} time
   */
  after(time) {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.at(middle)?.end ?? Infinity) < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /**
   * Iterates over the bars that overlap an interval.
   * @param {number} from
   * @param {number} to
   */
  *between(from, to) {
    for (let index = this.after(from); index < this.length; index++) {
      const bar = this.at(index);
      if (!bar || bar.start > to) return;
      yield bar;
    }
  }
}
