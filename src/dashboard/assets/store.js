// What the pages know of the run: one record, kept up to date from the stream. Everything in it is
// bounded, whatever the run does.

import { Bars } from "./bars.js";
import { FAILED, hasEnded } from "./states.js";

const MOST_BARS = 60_000;
const MOST_WAITS = 5_000;
const MOST_EVENTS = 1_000;
const MOST_FAILURES = 200;
const MOST_SAMPLES = 600;

class Store {
  constructor() {
    this.client = "";
    this.version = "";
    this.began = 0;
    this.listeners = new Set();
    this.clear();
  }

  clear() {
    this.now = 0;
    this.stats = null;
    this.names = [];
    this.tasks = new Map();
    this.links = new Map();
    this.lanes = new Map();
    this.waits = [];
    this.openWaits = new Map();
    this.bars = 0;
    this.barLog = [];
    this.barLogFirst = 0;
    this.events = [];
    this.failures = [];
    this.samples = [];
    this.missed = { tasks: 0, moments: 0 };
    // What the pages haven't heard of yet.
    this.changed = { reset: false, tasks: [], gone: [] };
    // Grows with every update, so that a page can tell whether there's anything new.
    this.revision = 0;
  }

  // The server says hello at the start of every connection, and what follows is the whole record.
  hello(hello) {
    this.client = hello.client;
    this.version = hello.version;
    this.began = hello.began;
    this.fresh = true;
  }

  listen(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  apply(update) {
    // Everything comes anew after a hello, and to a reader who was so slow that it can't be told what changed.
    if (this.fresh || update.all) {
      const { revision } = this;
      this.clear();
      this.revision = revision;
      this.fresh = false;
      this.changed = { reset: true, tasks: [], gone: [] };
    }
    this.revision += 1;
    this.now = Math.max(this.now, update.t);
    if (update.stats) this.applyStats(update.t, update.stats);
    for (const [index, name] of update.names ?? []) this.names[index] = name;
    for (const row of update.tasks ?? []) this.applyTask(row);
    for (const [from, to, kind] of update.edges ?? []) this.applyEdge(from, to, kind);
    for (const [from, to, count] of update.links ?? []) this.links.set(from + ">" + to, [from, to, count]);
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
    this.tell(update);
  }

  // A large update comes in parts. The pages hear of it when all of them are there, since a part has tasks
  // whose edges are in the next.
  tell(update) {
    const { changed } = this;
    for (const [id] of update.tasks ?? []) changed.tasks.push(id);
    for (const id of update.gone ?? []) changed.gone.push(id);
    if (update.more) return;
    this.changed = { reset: false, tasks: [], gone: [] };
    for (const listener of this.listeners) listener(changed);
  }

  // A failure is told again whenever its task changes.
  isNewFailure(id) {
    const task = this.tasks.get(id);
    if (!task) return true;
    const isNew = !task.failureTold;
    task.failureTold = true;
    return isNew;
  }

  applyStats(t, stats) {
    this.stats = stats;
    this.samples.push({ t, ended: stats.finished + stats.failed + stats.cancelled, running: stats.running });
    if (this.samples.length > MOST_SAMPLES) this.samples.splice(0, MOST_SAMPLES / 4);
  }

  applyTask([id, name, state, depth, attempt, worker, held, priority]) {
    let task = this.tasks.get(id);
    if (!task) {
      task = { id, name, depth, key: null, ins: [], outs: [] };
      this.tasks.set(id, task);
    }
    task.state = state;
    task.attempt = attempt;
    task.worker = worker;
    task.held = held === 1;
    task.priority = priority;
    if (hasEnded(state)) this.openWaits.delete(id);
    if (state !== FAILED) task.failureTold = false;
  }

  applyEdge(from, to, kind) {
    const source = this.tasks.get(from);
    const target = this.tasks.get(to);
    if (!source || !target || target.ins.some((edge) => edge.id === from)) return;
    target.ins.push({ id: from, kind });
    source.outs.push({ id: to, kind });
  }

  lane(index) {
    let lane = this.lanes.get(index);
    if (!lane) {
      lane = { index, label: "worker " + index, alive: true, task: -1, since: 0, bars: new Bars(), busy: 0 };
      this.lanes.set(index, lane);
    }
    return lane;
  }

  applyLane([index, label, alive, task, since]) {
    const lane = this.lane(index);
    lane.label = label;
    lane.alive = alive === 1;
    lane.task = task;
    lane.since = since;
  }

  applyBar([index, start, end, name, id, outcome]) {
    const lane = this.lane(index);
    lane.bars.push({ start, end, name, id, outcome });
    lane.busy += end - start;
    this.bars += 1;
    this.barLog.push(index);
    // Between two polls of a task it waits for something: that's the line between two bars.
    const open = this.openWaits.get(id);
    if (open) {
      this.openWaits.delete(id);
      if (start > open.start) {
        this.waits.push({ lane: open.lane, start: open.start, end: start, name, id });
        if (this.waits.length > MOST_WAITS) this.waits.splice(0, MOST_WAITS / 4);
      }
    }
    const task = this.tasks.get(id);
    if (outcome === 0 && !(task && hasEnded(task.state)) && this.openWaits.size < MOST_WAITS) {
      this.openWaits.set(id, { lane: index, start: end, name, id });
    }
  }

  dropBar() {
    this.lanes.get(this.barLog[this.barLogFirst])?.bars.dropOldest();
    this.barLogFirst += 1;
    this.bars -= 1;
    if (this.barLogFirst > MOST_BARS) {
      this.barLog.splice(0, this.barLogFirst);
      this.barLogFirst = 0;
    }
  }

  forget(id) {
    const task = this.tasks.get(id);
    if (!task) return;
    this.tasks.delete(id);
    this.openWaits.delete(id);
    for (const edge of task.ins) dropEdge(this.tasks.get(edge.id)?.outs, id);
    for (const edge of task.outs) dropEdge(this.tasks.get(edge.id)?.ins, id);
  }

  // The text of a task's key.
  keyOf(task) {
    return task.key ?? this.nameOf(task.name) + "-" + task.id;
  }

  keyOfId(id, name) {
    const task = this.tasks.get(id);
    return task ? this.keyOf(task) : this.nameOf(name) + "-" + id;
  }

  nameOf(index) {
    return this.names[index] ?? "?";
  }

  indexOfName(name) {
    return this.names.indexOf(name);
  }

  // Tasks that ended in a second, over the last few.
  rate(over = 3) {
    const { samples } = this;
    if (samples.length < 2) return 0;
    const last = samples[samples.length - 1];
    let i = samples.length - 2;
    while (i > 0 && last.t - samples[i].t < over) i--;
    const span = last.t - samples[i].t;
    return span > 0 ? (last.ended - samples[i].ended) / span : 0;
  }

  // Whether anything is under way or could be.
  isBusy() {
    if (this.stats && (this.stats.running > 0 || this.stats.ready > 0)) return true;
    for (const lane of this.lanes.values()) if (lane.task >= 0) return true;
    return false;
  }

  // What share of the last `over` seconds a lane has spent in polls.
  share(lane, over) {
    const from = Math.max(0, this.now - over);
    const span = this.now - from;
    if (span <= 0) return 0;
    let busy = lane.task >= 0 ? this.now - Math.max(from, lane.since) : 0;
    for (let i = lane.bars.length - 1; i >= 0; i--) {
      const bar = lane.bars.at(i);
      if (bar.end <= from) break;
      busy += bar.end - Math.max(from, bar.start);
    }
    return Math.min(1, busy / span);
  }

}

function keepLast(list, more, most) {
  for (const item of more) list.push(item);
  if (list.length > most) list.splice(0, list.length - most);
}

function dropEdge(edges, id) {
  const at = edges?.findIndex((edge) => edge.id === id) ?? -1;
  if (at >= 0) edges.splice(at, 1);
}

export const store = new Store();
