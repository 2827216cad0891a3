// @ts-check
// Queries of the record, for the tables.

/** @import { EventRow, FailureRow, Store, Task } from "./store.js" */

/**
 * @typedef {{ t: number, id: number, state: number, worker: number, key: string, row: string }} EventItem
 *   `row` identifies the event in the table
 * @typedef {{ kind: string, t: number, id: number, text: string, count: number }} FailureGroup
 */

/**
 * Finds tasks by state and function (-1 for any) and by a part of the key. Returns their number and the newest
 * of them.
 * @param {Store} store
 * @param {{ state: number, name: number, key: string }} filter
 * @param {number} most
 * @returns {{ newest: Task[], count: number }}
 */
export function findTasks(store, { state, name, key }, most) {
  const part = key.trim().toLowerCase();
  const found = [];
  for (const task of store.tasks.values()) {
    if (state >= 0 && task.state !== state) continue;
    if (name >= 0 && task.name !== name) continue;
    if (part && !store.keyOf(task).toLowerCase().includes(part)) continue;
    found.push(task);
  }
  // Tasks arrive almost in the order of their ids, so the newest are among the last.
  return { newest: found.slice(-most).sort((a, b) => b.id - a.id), count: found.length };
}

/**
 * Finds events by state (-1 for any) and by a part of the task's key, the newest first.
 * @param {Store} store
 * @param {readonly EventRow[]} events
 * @param {{ state: number, key: string }} filter
 * @param {number} most
 * @returns {EventItem[]}
 */
export function findEvents(store, events, filter, most) {
  const part = filter.key.trim().toLowerCase();
  /** @type {EventItem[]} */
  const items = [];
  /** @type {Map<string, number>} */
  const seen = new Map();
  for (let i = events.length - 1; i >= 0 && items.length < most; i--) {
    const event = events[i];
    if (!event) continue;
    const [t, id, state, worker] = event;
    if (filter.state >= 0 && state !== filter.state) continue;
    const task = store.tasks.get(id);
    const key = task ? store.keyOf(task) : "task " + id;
    if (part && !key.toLowerCase().includes(part)) continue;
    // Two events can be equal, and each needs a row of its own.
    const plain = t + ":" + id + ":" + state;
    const repeats = seen.get(plain) ?? 0;
    seen.set(plain, repeats + 1);
    items.push({ t, id, state, worker, key, row: plain + ":" + repeats });
  }
  return items;
}

/**
 * Groups failures whose texts differ only in the number of the task, the newest first.
 * @param {readonly FailureRow[]} failures
 * @param {number} most
 * @returns {FailureGroup[]}
 */
export function groupFailures(failures, most) {
  /** @type {Map<string, FailureGroup>} */
  const groups = new Map();
  for (let i = failures.length - 1; i >= 0; i--) {
    const failure = failures[i];
    if (!failure) continue;
    const [t, id, text] = failure;
    const kind = text.replace(/-\d+`/, "`");
    const group = groups.get(kind);
    if (group) group.count += 1;
    else if (groups.size < most) groups.set(kind, { kind, t, id, text, count: 1 });
  }
  return [...groups.values()];
}
