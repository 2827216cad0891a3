// Where the tasks of a graph are drawn: the column is the depth, the row is near those of its inputs. A
// task keeps its place for as long as it's there, so nothing moves when others come.

class Column {
  constructor() {
    this.taken = new Set();
    this.next = 0;
  }

  // The free row nearest to the wanted one, or the first that nobody had.
  take(wanted) {
    let row = wanted == null ? this.next : Math.max(0, Math.round(wanted));
    for (let away = 0; this.taken.has(row); away++) {
      const below = row + away;
      if (!this.taken.has(below)) {
        row = below;
        break;
      }
      const above = row - away;
      if (above >= 0 && !this.taken.has(above)) {
        row = above;
        break;
      }
    }
    this.taken.add(row);
    this.next = Math.max(this.next, row + 1);
    return row;
  }
}

export class Layout {
  constructor() {
    this.columns = new Map();
    this.places = new Map();
  }

  // Places a task, if it has no place yet.
  add(task) {
    if (this.places.has(task.id)) return;
    let sum = 0;
    let count = 0;
    for (const { id } of task.ins) {
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

  remove(id) {
    const place = this.places.get(id);
    if (!place) return;
    this.places.delete(id);
    const column = this.columns.get(place.column);
    column.taken.delete(place.row);
    if (column.taken.size === 0) this.columns.delete(place.column);
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

  // The task nearest to a place, if it's within so many columns and rows.
  nearest(x, y, reachX, reachY) {
    let best = null;
    let least = Infinity;
    for (const [id, { column, row }] of this.places) {
      const offX = Math.abs(column - x);
      const offY = Math.abs(row - y);
      if (offX > reachX || offY > reachY) continue;
      const off = offX / reachX + offY / reachY;
      if (off < least) {
        least = off;
        best = id;
      }
    }
    return best;
  }

  // The next one in the same column, above (-1) or below (1).
  neighbour(id, direction) {
    const from = this.places.get(id);
    let best = null;
    let least = Infinity;
    for (const [other, { column, row }] of this.places) {
      const away = (row - from.row) * direction;
      if (column === from.column && away > 0 && away < least) {
        least = away;
        best = other;
      }
    }
    return best;
  }
}
