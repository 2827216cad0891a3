// @ts-check
// The positions of tasks in the graph: the column is the depth, the row is close to those of the inputs. A
// task keeps its position while it's in the graph, so new tasks move no others.

/** @typedef {{ column: number, row: number }} Cell */

class Column {
  constructor() {
    /** @type {Set<number>} */
    this.taken = new Set();
    // The first row that has never been taken.
    this.next = 0;
  }

  /**
   * Takes the free row nearest to the wanted one, or the first row that has never been taken.
   * @param {number | null} wanted
   */
  take(wanted) {
    let row = wanted === null ? this.next : Math.max(0, Math.round(wanted));
    const start = row;
    for (let distance = 1; this.taken.has(row); distance++) {
      row = start + distance;
      if (this.taken.has(row) && start >= distance) row = start - distance;
    }
    this.taken.add(row);
    this.next = Math.max(this.next, row + 1);
    return row;
  }
}

export class Layout {
  constructor() {
    /** @type {Map<number, Column>} */
    this.columns = new Map();
    /** @type {Map<number, Cell>} */
    this.places = new Map();
  }

  /**
   * Places a task, unless it has a place. Inputs without a place don't count.
   * @param {{ id: number, depth: number, inputs: readonly { id: number }[] }} task
   */
  add(task) {
    if (this.places.has(task.id)) return;
    let sum = 0;
    let count = 0;
    for (const { id } of task.inputs) {
      const place = this.places.get(id);
      if (!place) continue;
      sum += place.row;
      count += 1;
    }
    let column = this.columns.get(task.depth);
    if (!column) {
      column = new Column();
      this.columns.set(task.depth, column);
    }
    const row = column.take(count > 0 ? sum / count : null);
    this.places.set(task.id, { column: task.depth, row });
  }

  /** @param {number} id */
  remove(id) {
    const place = this.places.get(id);
    if (!place) return;
    this.places.delete(id);
    const column = this.columns.get(place.column);
    column?.taken.delete(place.row);
    if (column?.taken.size === 0) this.columns.delete(place.column);
  }

  bounds() {
    let left = Infinity, right = -Infinity, top = Infinity, bottom = -Infinity;
    for (const [depth, { taken }] of this.columns) {
      left = Math.min(left, depth);
      right = Math.max(right, depth);
      for (const row of taken) {
        top = Math.min(top, row);
        bottom = Math.max(bottom, row);
      }
    }
    if (left === Infinity) return { left: 0, right: 1, top: 0, bottom: 1 };
    return { left: left - 0.6, right: right + 0.6, top: top - 0.9, bottom: bottom + 0.9 };
  }

  /**
   * Returns the task nearest to a point within a reach, or null.
   * @param {number} x
   * @param {number} y
   * @param {number} reachX in columns
   * @param {number} reachY in rows
   * @returns {number | null}
   */
  nearest(x, y, reachX, reachY) {
    let best = null;
    let least = Infinity;
    for (const [id, { column, row }] of this.places) {
      const byX = Math.abs(column - x);
      const byY = Math.abs(row - y);
      if (byX > reachX || byY > reachY) continue;
      const distance = byX / reachX + byY / reachY;
      if (distance < least) {
        least = distance;
        best = id;
      }
    }
    return best;
  }

  /**
   * Returns the next task in the same column, or null.
   * @param {number} id
   * @param {1 | -1} direction 1 is down
   * @returns {number | null}
   */
  neighbour(id, direction) {
    const from = this.places.get(id);
    if (!from) return null;
    let best = null;
    let least = Infinity;
    for (const [other, { column, row }] of this.places) {
      const distance = (row - from.row) * direction;
      if (column === from.column && distance > 0 && distance < least) {
        least = distance;
        best = other;
      }
    }
    return best;
  }
}
