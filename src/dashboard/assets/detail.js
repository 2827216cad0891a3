// @ts-check
// The drawer with the details of one task: its state and the reason for it, its timeline, its neighbours, and
// the buttons to cancel and retry it.

import { FAILED, FINISHED, StateLabel, hasEnded, stateOf, stateSymbol } from "./states.js";
import { act, canAct, fetchTask, isReport, messageOf } from "./api.js";
import { element, setText } from "./dom.js";
import { clock, duration } from "./format.js";
import { store } from "./store.js";

/** @import { TaskAction, TaskDetails } from "./api.js" */
/** @import { Task } from "./store.js" */

const REFRESH_MS = 1_000;
const MOST_NEIGHBOURS = 12;
const MOST_TIMELINE_ROWS = 100;

class Detail {
  constructor() {
    /** @type {number | null} */
    this.id = null;
    /** @type {TaskDetails | null} */
    this.details = null;
    // The states for which details were last fetched and drawn.
    /** @type {number | undefined} */
    this.fetchedState = undefined;
    /** @type {number | undefined} */
    this.drawnState = undefined;
    this.timer = 0;
    // The element that had the focus before the drawer opened.
    /** @type {Element | null} */
    this.opener = null;
    /** @type {Set<(id: number | null) => void>} */
    this.watchers = new Set();

    this.title = element("h2", { tabindex: "-1" });
    this.state = new StateLabel(0);
    const close = element("button", { type: "button", onclick: () => this.close() }, "Close");
    this.facts = element("dl");
    this.reason = element("div", { class: "reason", hidden: true });
    this.timeline = element("div");
    this.neighbours = element("div");
    this.cancel = element("button", { type: "button", class: "danger", onclick: () => this.act("cancel") }, "Cancel");
    this.retry = element("button", { type: "button", onclick: () => this.act("retry") }, "Retry");
    this.message = element("span", { class: "quiet", role: "status" });
    this.actions = element("div", { class: "actions" }, this.cancel, this.retry, this.message);
    this.node = element("aside", { class: "panel detail", "aria-label": "Task", hidden: true },
      element("header", {}, this.title, this.state.node, element("div", { class: "right" }, close)),
      element("div", { class: "body" }, this.reason, this.facts, this.actions, this.timeline, this.neighbours));
    this.node.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
  }

  /**
   * Shows a task and moves the focus to the drawer. Closing it moves the focus back.
   * @param {number} id
   */
  show(id) {
    if (this.id === null) this.opener = document.activeElement;
    this.id = id;
    this.details = null;
    setText(this.message, "");
    this.timeline.replaceChildren();
    this.reason.hidden = true;
    this.node.hidden = false;
    document.body.classList.add("with-detail");
    this.draw();
    this.title.focus({ preventScroll: true });
    this.notify();
    this.fetch();
  }

  close() {
    if (this.id === null) return;
    this.id = null;
    clearTimeout(this.timer);
    this.node.hidden = true;
    document.body.classList.remove("with-detail");
    if (this.opener instanceof HTMLElement) this.opener.focus({ preventScroll: true });
    this.notify();
  }

  /**
   * Calls `watcher` with the id of the shown task, or null, whenever it changes. Returns a function that removes
   * the watcher.
   * @param {(id: number | null) => void} watcher
   */
  watch(watcher) {
    this.watchers.add(watcher);
    return () => {
      this.watchers.delete(watcher);
    };
  }

  notify() {
    for (const watcher of this.watchers) watcher(this.id);
  }

  shownTask() {
    return this.id === null ? undefined : store.tasks.get(this.id);
  }

  async fetch() {
    clearTimeout(this.timer);
    const { id } = this;
    if (id === null) return;
    try {
      const details = await fetchTask(id);
      if (this.id !== id) return;
      this.details = details;
      this.draw();
    } catch (error) {
      if (this.id === id) setText(this.message, "The request for the details failed: " + messageOf(error));
    }
    if (isReport()) return;
    // The details of an unfinished task change, and those of a finished one are complete after one request.
    const task = store.tasks.get(id);
    const settled = !task || (hasEnded(task.state) && this.details);
    if (!settled || this.fetchedState !== task?.state) {
      this.fetchedState = task?.state;
      this.timer = setTimeout(() => this.fetch(), REFRESH_MS);
    }
  }

  /** Draws a changed state at once, and requests the other details. */
  refresh() {
    const task = this.shownTask();
    if (!task || task.state === this.drawnState) return;
    this.draw();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.fetch(), 100);
  }

  draw() {
    const task = this.shownTask();
    const { details } = this;
    this.drawnState = task?.state;
    setText(this.title, details?.key ?? (task ? store.keyOf(task) : "task " + this.id));
    this.state.node.hidden = !task && !details;
    const state = task ? task.state : stateOf(details?.status);
    if (state >= 0) this.state.set(state);
    this.drawFacts(task);
    this.drawReason(state);
    this.drawTimeline();
    this.drawNeighbours(task);
    this.actions.hidden = isReport();
    this.cancel.hidden = !canAct() || state < 0 || hasEnded(state);
    this.retry.hidden = !canAct() || state !== FAILED;
    if (!canAct() && !isReport() && this.message.textContent === "") {
      setText(this.message, "To cancel or retry the task, open the link with the token.");
    }
  }

  /** @param {Task | undefined} task */
  drawFacts(task) {
    /** @type {[name: string, text: string][]} */
    const facts = [];
    if (task) {
      facts.push(["Function", store.nameOf(task.name)]);
      if (task.attempt > 1) facts.push(["Attempt", String(task.attempt)]);
      if (task.priority !== 0) facts.push(["Priority", String(task.priority)]);
      if (task.worker >= 0) facts.push(["Worker", store.workerLabel(task.worker)]);
      if (task.state === FINISHED) facts.push(["Result", task.held ? "in memory" : "released"]);
    } else {
      facts.push(["Record", "the task has left the record"]);
    }
    if (this.details?.submitted_at) facts.push(["Submitted at", this.details.submitted_at]);
    if (this.details?.error) {
      facts.push([this.details.status === "cancelled" ? "Reason" : "Error", this.details.error]);
    }
    this.facts.replaceChildren(...facts.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]));
  }

  /** @param {number} state */
  drawReason(state) {
    const text = this.details?.explain?.text ?? "";
    this.reason.hidden = text === "";
    this.reason.classList.toggle("wrong", state === FAILED);
    const title = hasEnded(state) ? "Outcome" : "Why the task is unfinished";
    this.reason.replaceChildren(element("h3", {}, title), element("pre", {}, text));
  }

  drawTimeline() {
    const spans = this.details?.timeline?.phases ?? [];
    const first = spans[0];
    if (!first) {
      this.timeline.replaceChildren();
      return;
    }
    const begin = first.at;
    const end = Math.max(...spans.map((span) => span.at + (span.lasted ?? 0)));
    const total = Math.max(1e-9, end - begin);
    const list = element("ol", { class: "timeline" });
    for (const { status, at, lasted, worker } of spans.slice(-MOST_TIMELINE_ROWS)) {
      const state = Math.max(0, stateOf(status.toLowerCase()));
      const bar = element("i", { class: "s" + state });
      bar.style.left = Math.min(99, (100 * (at - begin)) / total) + "%";
      bar.style.width = (100 * (lasted ?? 0)) / total + "%";
      const where = store.workerLabel(worker ?? -1);
      list.append(element("li", { title: "at " + clock(at) + (where && ", " + where) },
        element("span", { class: "lasted number" }, lasted == null ? clock(at) : duration(lasted)),
        new StateLabel(state).node, element("span", { class: "span", "aria-hidden": "true" }, bar)));
    }
    this.timeline.replaceChildren(element("h3", {}, "Timeline, from " + clock(begin)), list);
  }

  /** @param {Task | undefined} task */
  drawNeighbours(task) {
    const parts = [];
    for (const [title, edges] of /** @type {const} */ ([["Inputs", task?.inputs ?? []], ["Dependents", task?.dependents ?? []]])) {
      if (edges.length === 0) continue;
      const list = element("div", { class: "neighbours" });
      for (const { id } of edges.slice(0, MOST_NEIGHBOURS)) {
        const other = store.tasks.get(id);
        if (!other) continue;
        list.append(element("span", { class: "state s" + other.state }, stateSymbol(other.state),
          element("button", { type: "button", class: "key", onclick: () => this.show(id) }, store.keyOf(other))));
      }
      const more = edges.length - MOST_NEIGHBOURS;
      if (more > 0) list.append(element("span", { class: "quiet" }, "and " + more + " more"));
      parts.push(element("h3", {}, title + ": " + edges.length), list);
    }
    this.neighbours.replaceChildren(...parts);
  }

  /** @param {TaskAction} action */
  async act(action) {
    const { id } = this;
    if (id === null) return;
    setText(this.message, await act(id, action));
    if (this.id === id) this.fetch();
  }
}

export const detail = new Detail();
