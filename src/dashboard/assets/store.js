// @ts-check
// The record of the run, kept up to date from the stream of updates. Every part of it is bounded.

import { Bars } from "./bars.js";
import { FAILED, hasEnded } from "./states.js";

const MOST_BARS = 60_000;
const MOST_WAITS = 5_000;
const MOST_EVENTS = 1_000;
const MOST_FAILURES = 200;
const MOST_SAMPLES = 600;

/**
 * Data from the server. Times are seconds since the start of the recording, and -1 means "none".
 * @typedef {{ client: string, version: string, began: number }} Hello `began` is a Unix time in milliseconds
 * @typedef {[id: number, name: number, state: number, depth: number, attempt: number, worker: number, held: number, priority: number]} TaskRow
 * @typedef {[time: number, id: number, state: number, worker: number]} EventRow
 * @typedef {[time: number, id: number, text: string]} FailureRow
 * @typedef {[from: number, to: number, count: number]} LinkRow edges between two functions
 * @typedef {[worker: number, start: number, end: number, name: number, id: number, outcome: number]} BarRow
 * @typedef {[worker: number, label: string, alive: number, task: number, since: number]} LaneRow
 * @typedef {{ waiting: number, ready: number, running: number, delayed: number, finished: number, failed: number, cancelled: number }} StateCounts
 * @typedef {StateCounts & { name: string, submitted: number, run_time: number }} FunctionStats
 * @typedef {{ name: string, of: number, used: number, waiting: number }} LimitStats
 * @typedef {{ name: string, n: number, per: number, burst: number, available: number, next: number | null, waiting: number }} RateStats times in seconds
 * @typedef {StateCounts & { workers: number, busy: number, tasks_in_memory: number, functions: FunctionStats[], limits: LimitStats[], rates: RateStats[] }} Stats
 * @typedef {{ tasks: number, moments: number }} Missed tasks that are only counted, and dropped events
 * @typedef {{
 *   t: number, all?: boolean, more?: boolean, stats?: Stats, missed?: Missed,
 *   names?: [index: number, name: string][], tasks?: TaskRow[], gone?: number[], keys?: [id: number, key: string][],
 *   edges?: [from: number, to: number, kind: number][], links?: LinkRow[], lanes?: LaneRow[], bars?: BarRow[],
 *   events?: EventRow[], failures?: FailureRow[],
 * }} Update
 */

/**
 * @typedef {{ id: number, kind: number }} Edge a neighbour; kind 1 is an await, kind 0 an argument
 * @typedef {object} Task
 * @property {number} id
 * @property {number} name the index of the function
 * @property {number} depth
 * @property {string | null} key null if it consists of the name and the id
 * @property {Edge[]} inputs
 * @property {Edge[]} dependents
 * @property {number} state
 * @property {number} attempt
 * @property {number} worker
 * @property {boolean} held whether its result is in memory
 * @property {number} priority
 * @property {boolean} failureReported whether its failure is in `failures`
 * @typedef {object} Lane a worker
 * @property {number} index
 * @property {string} label
 * @property {boolean} alive
 * @property {number} task
 * @property {number} since when `task` started
 * @property {Bars} bars
 * @property {number} busy seconds in polls
 * @typedef {{ lane: number, start: number, name: number, id: number }} OpenWait
 * @typedef {OpenWait & { end: number }} Wait the time between two polls of a task
 * @typedef {{ t: number, ended: number, running: number }} Sample
 * @typedef {{ reset: boolean, tasks: number[], gone: number[] }} Changes
 */

/** @returns {Changes} */
const noChanges = () => ({ reset: false, tasks: [], gone: [] });

export class Store {
  constructor() {
    this.client = "";
    this.version = "";
    this.began = 0;
    // Whether the next update starts a new record.
    this.fresh = false;
    // Grows with every update.
    this.revision = 0;
    /** @type {Set<(changes: Changes) => void>} */
    this.listeners = new Set();

    this.now = 0;
    /** @type {Stats | null} */
    this.stats = null;
    /** @type {string[]} */
    this.names = [];
    /** @type {Map<number, Task>} */
    this.tasks = new Map();
    /** @type {Map<string, LinkRow>} */
    this.links = new Map();
    /** @type {Map<number, Lane>} */
    this.lanes = new Map();
    /** @type {Wait[]} */
    this.waits = [];
    /** @type {Map<number, OpenWait>} */
    this.openWaits = new Map();
    this.bars = 0;
    // The lanes of all bars, oldest first.
    /** @type {number[]} */
    this.barLog = [];
    this.barLogFirst = 0;
    /** @type {EventRow[]} */
    this.events = [];
    /** @type {FailureRow[]} */
    this.failures = [];
    /** @type {Sample[]} */
    this.samples = [];
    /** @type {Missed} */
    this.missed = { tasks: 0, moments: 0 };
    // Changes that the listeners haven't been notified of.
    this.changes = noChanges();
  }

  clear() {
    const { client, version, began, revision, listeners } = this;
    Object.assign(this, new Store(), { client, version, began, revision, listeners });
  }

  /**
   * Handles the first message of a connection. The update that follows is the whole record.
   * @param {Hello} hello
   */
  hello(hello) {
    this.client = hello.client;
    this.version = hello.version;
    this.began = hello.began;
    this.fresh = true;
  }

  /**
   * Calls `listener` after each complete update. Returns a function that removes it.
   * @param {(changes: Changes) => void} listener
   */
  listen(listener) {
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
    };
  }

  /** @param {Update} update */
  apply(update) {
    // The server also sends the whole record to a reader that was too slow to get the changes.
    if (this.fresh || update.all) {
      this.clear();
      this.changes.reset = true;
    }
    this.revision += 1;
    this.now = Math.max(this.now, update.t);
    if (update.stats) this.applyStats(update.t, update.stats);
    for (const [index, name] of update.names ?? []) this.names[index] = name;
    for (const row of update.tasks ?? []) this.applyTask(row);
    for (const [from, to, kind] of update.edges ?? []) this.applyEdge(from, to, kind);
    for (const link of update.links ?? []) this.links.set(link[0] + ">" + link[1], link);
    for (const lane of update.lanes ?? []) this.applyLane(lane);
    for (const bar of update.bars ?? []) this.applyBar(bar);
    for (const id of update.gone ?? []) this.forget(id);
    keepLast(this.events, update.events ?? [], MOST_EVENTS);
    for (const [id, key] of update.keys ?? []) {
      const task = this.tasks.get(id);
      if (task) task.key = key;
    }
    keepLast(this.failures, (update.failures ?? []).filter(([, id]) => this.isNewFailure(id)), MOST_FAILURES);
    if (update.missed) this.missed = update.missed;
    while (this.bars > MOST_BARS) this.dropBar();
    this.notify(update);
  }

  /**
   * Notifies the listeners, unless this is a part of a larger update: the edges of its tasks may be in a later
   * part.
   * @param {Update} update
   */
  notify(update) {
    const { changes } = this;
    for (const [id] of update.tasks ?? []) changes.tasks.push(id);
    for (const id of update.gone ?? []) changes.gone.push(id);
    if (update.more) return;
    this.changes = noChanges();
    for (const listener of this.listeners) listener(changes);
  }

  /**
   * The server sends a failure again whenever its task changes.
   * @param {number} id
   */
  isNewFailure(id) {
    const task = this.tasks.get(id);
    if (!task) return true;
    const isNew = !task.failureReported;
    task.failureReported = true;
    return isNew;
  }

  /**
   * @param {number} t
   * @param {Stats} stats
   */
  applyStats(t, stats) {
    this.stats = stats;
    this.samples.push({ t, ended: stats.finished + stats.failed + stats.cancelled, running: stats.running });
    if (this.samples.length > MOST_SAMPLES) this.samples.splice(0, MOST_SAMPLES / 4);
  }

  /** @param {TaskRow} row */
  applyTask([id, name, state, depth, attempt, worker, held, priority]) {
    const changed = { state, attempt, worker, held: held === 1, priority };
    let task = this.tasks.get(id);
    if (task) Object.assign(task, changed);
    else {
      task = { id, name, depth, key: null, inputs: [], dependents: [], failureReported: false, ...changed };
      this.tasks.set(id, task);
    }
    if (hasEnded(state)) this.openWaits.delete(id);
    if (state !== FAILED) task.failureReported = false;
  }

  /**
   * @param {number} from
   * @param {number} to
   * @param {number} kind
   */
  applyEdge(from, to, kind) {
    const source = this.tasks.get(from);
    const target = this.tasks.get(to);
    if (!source || !target || target.inputs.some((edge) => edge.id === from)) return;
    target.inputs.push({ id: from, kind });
    source.dependents.push({ id: to, kind });
  }

  /** @param {number} index */
  lane(index) {
    let lane = this.lanes.get(index);
    if (!lane) {
      lane = { index, label: "worker " + index, alive: true, task: -1, since: 0, bars: new Bars(), busy: 0 };
      this.lanes.set(index, lane);
    }
    return lane;
  }

  /** @param {LaneRow} row */
  applyLane([index, label, alive, task, since]) {
    Object.assign(this.lane(index), { label, alive: alive === 1, task, since });
  }

  /** @param {BarRow} row */
  applyBar([index, start, end, name, id, outcome]) {
    const lane = this.lane(index);
    lane.bars.push({ start, end, name, id, outcome });
    lane.busy += end - start;
    this.bars += 1;
    this.barLog.push(index);
    // Between two polls the task awaits something, and the task stream shows that as a line.
    const open = this.openWaits.get(id);
    if (open) {
      this.openWaits.delete(id);
      if (start > open.start) {
        this.waits.push({ ...open, end: start });
        if (this.waits.length > MOST_WAITS) this.waits.splice(0, MOST_WAITS / 4);
      }
    }
    const task = this.tasks.get(id);
    if (outcome === 0 && !(task && hasEnded(task.state)) && this.openWaits.size < MOST_WAITS) {
      this.openWaits.set(id, { lane: index, start: end, name, id });
    }
  }

  dropBar() {
    this.lanes.get(this.barLog[this.barLogFirst] ?? -1)?.bars.dropOldest();
    this.barLogFirst += 1;
    this.bars -= 1;
    if (this.barLogFirst > MOST_BARS) {
      this.barLog.splice(0, this.barLogFirst);
      this.barLogFirst = 0;
    }
  }

  /** @param {number} id */
  forget(id) {
    const task = this.tasks.get(id);
    if (!task) return;
    this.tasks.delete(id);
    this.openWaits.delete(id);
    for (const edge of task.inputs) dropEdge(this.tasks.get(edge.id)?.dependents, id);
    for (const edge of task.dependents) dropEdge(this.tasks.get(edge.id)?.inputs, id);
  }

  /** @param {Task} task */
  keyOf(task) {
    return task.key ?? this.nameOf(task.name) + "-" + task.id;
  }

  /**
   * Returns the key of a task that may have left the record.
   * @param {number} id
   * @param {number} name
   */
  keyOfId(id, name) {
    const task = this.tasks.get(id);
    return task ? this.keyOf(task) : this.nameOf(name) + "-" + id;
  }

  /** @param {number} index */
  nameOf(index) {
    return this.names[index] ?? "?";
  }

  /** @param {string} name */
  indexOfName(name) {
    return this.names.indexOf(name);
  }

  /**
   * Returns the label of a worker, or "" for -1.
   * @param {number} index
   */
  workerLabel(index) {
    return index < 0 ? "" : this.lanes.get(index)?.label ?? "worker " + index;
  }

  sortedLanes() {
    return [...this.lanes.values()].sort((a, b) => a.index - b.index);
  }

  /**
   * Returns how many tasks ended per second.
   * @param {number} [over] the length of the interval, in seconds
   */
  rate(over = 3) {
    const { samples } = this;
    const last = samples[samples.length - 1];
    if (!last) return 0;
    let first = last;
    for (let i = samples.length - 2; i >= 0; i--) {
      first = samples[i] ?? last;
      if (last.t - first.t >= over) break;
    }
    const span = last.t - first.t;
    return span > 0 ? (last.ended - first.ended) / span : 0;
  }

  /** Returns whether a task is running or ready. */
  isBusy() {
    if (this.stats && (this.stats.running > 0 || this.stats.ready > 0)) return true;
    for (const lane of this.lanes.values()) if (lane.task >= 0) return true;
    return false;
  }

  /**
   * Returns the share of the last `over` seconds that a worker spent in polls.
   * @param {Lane} lane
   * @param {number} over
   */
  share(lane, over) {
    const from = Math.max(0, this.now - over);
    const span = this.now - from;
    if (span <= 0) return 0;
    let busy = lane.task >= 0 ? this.now - Math.max(from, lane.since) : 0;
    for (const bar of lane.bars.between(from, Infinity)) busy += bar.end - Math.max(from, bar.start);
    return Math.min(1, busy / span);
  }
}

/**
 * @template Item
 * @param {Item[]} list
 * @param {readonly Item[]} more
 * @param {number} most
 */
function keepLast(list, more, most) {
  for (const item of more) list.push(item);
  if (list.length > most) list.splice(0, list.length - most);
}

/**
 * @param {Edge[] | undefined} edges
 * @param {number} id
 */
function dropEdge(edges, id) {
  const at = edges?.findIndex((edge) => edge.id === id) ?? -1;
  if (at >= 0) edges?.splice(at, 1);
}

export const store = new Store();
