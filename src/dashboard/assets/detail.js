// The drawer with everything about one task: how it stands and why, its story, its neighbours, and what
// can be done with it.

import { FAILED, FINISHED, STATES, hasEnded, setState, stateLabel } from "./states.js";
import { act, askTask, canAct, isReport } from "./api.js";
import { element, say } from "./dom.js";
import { clock, lasting } from "./format.js";
import { store } from "./store.js";

const REFRESH_MS = 1_000;
const MOST_NEAR = 12;

class Detail {
  constructor() {
    this.id = null;
    this.watchers = new Set();
    this.build();
  }

  build() {
    this.title = element("h2", { tabindex: "-1" });
    this.state = stateLabel(0);
    const close = element("button", { type: "button", onclick: () => this.close() }, "Close");
    this.facts = element("dl");
    this.why = element("div", { class: "why", hidden: true });
    this.story = element("div");
    this.near = element("div");
    this.cancel = element("button", { type: "button", class: "danger", onclick: () => this.do("cancel") }, "Cancel");
    this.retry = element("button", { type: "button", onclick: () => this.do("retry") }, "Retry");
    this.said = element("span", { class: "quiet", role: "status" });
    this.actions = element("div", { class: "actions" }, this.cancel, this.retry, this.said);
    this.node = element("aside", { class: "panel detail", "aria-label": "Task", hidden: true },
      element("header", {}, this.title, this.state, element("div", { class: "right" }, close)),
      element("div", { class: "body" }, this.why, this.facts, this.actions, this.story, this.near));
    this.node.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
  }

  // Shows a task. The focus goes to the drawer and comes back when it's closed.
  show(id) {
    if (this.id === null) this.before = document.activeElement;
    this.id = id;
    this.answer = null;
    say(this.said, "");
    this.story.replaceChildren();
    this.why.hidden = true;
    this.node.hidden = false;
    document.body.classList.add("with-detail");
    this.paint();
    this.title.focus({ preventScroll: true });
    this.tell();
    this.ask();
  }

  close() {
    if (this.id === null) return;
    this.id = null;
    clearTimeout(this.timer);
    this.node.hidden = true;
    document.body.classList.remove("with-detail");
    this.before?.focus?.({ preventScroll: true });
    this.tell();
  }

  // Calls back with the id of the task that's shown, or null.
  watch(watcher) {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  }

  tell() {
    for (const watcher of this.watchers) watcher(this.id);
  }

  async ask() {
    clearTimeout(this.timer);
    const { id } = this;
    try {
      const answer = await askTask(id);
      if (this.id !== id) return;
      this.answer = answer;
      this.paint();
    } catch (error) {
      if (this.id === id) say(this.said, "The server doesn't answer: " + error.message);
    }
    const task = store.tasks.get(id);
    const settled = isReport() || !task || (hasEnded(task.state) && this.answer);
    if (!settled || this.asked !== task?.state) {
      this.asked = task?.state;
      if (!isReport()) this.timer = setTimeout(() => this.ask(), REFRESH_MS);
    }
  }

  // The state may have changed in the record: shows it at once, and asks for the rest.
  refresh() {
    const task = store.tasks.get(this.id);
    if (this.id === null || !task || task.state === this.painted) return;
    this.paint();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), 100);
  }

  paint() {
    const task = store.tasks.get(this.id);
    const { answer } = this;
    this.painted = task?.state;
    say(this.title, answer?.key ?? (task ? store.keyOf(task) : "task " + this.id));
    this.state.hidden = !task && !answer;
    const state = task ? task.state : STATES.indexOf(answer?.status);
    if (state >= 0) setState(this.state, state);
    const facts = [];
    if (task) {
      facts.push(["Function", store.nameOf(task.name)]);
      if (task.attempt > 1) facts.push(["Attempt", String(task.attempt)]);
      if (task.priority !== 0) facts.push(["Priority", String(task.priority)]);
      if (task.worker >= 0) facts.push(["Worker", store.lanes.get(task.worker)?.label ?? String(task.worker)]);
      if (task.state === FINISHED) facts.push(["Result", task.held ? "held in memory" : "released"]);
    } else {
      facts.push(["Record", "this task has left the record"]);
    }
    if (answer?.error) facts.push(["Error", answer.error]);
    this.facts.replaceChildren(...facts.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]));
    this.paintWhy(answer, state);
    this.paintStory(answer?.story);
    this.paintNear(task);
    this.actions.hidden = isReport();
    this.cancel.hidden = !canAct() || state < 0 || hasEnded(state);
    this.retry.hidden = !canAct() || state !== FAILED;
    if (!canAct() && !isReport() && this.said.textContent === "") {
      say(this.said, "Open the link with the token to cancel or retry.");
    }
  }

  paintWhy(answer, state) {
    const text = answer?.explain?.text ?? "";
    this.why.hidden = text === "";
    this.why.className = state === FAILED ? "wrong" : "why";
    this.why.replaceChildren(element("h3", {}, hasEnded(state) ? "How it ended" : "Why it isn't finished"), element("pre", {}, text));
  }

  paintStory(story) {
    const chapters = story?.chapters ?? [];
    if (chapters.length === 0) {
      this.story.replaceChildren();
      return;
    }
    const begin = chapters[0].at;
    const last = chapters[chapters.length - 1];
    const end = Math.max(last.at + (last.lasted ?? 0), ...chapters.map((each) => each.at + (each.lasted ?? 0)));
    const span = Math.max(1e-9, end - begin);
    const list = element("ol", { class: "story" });
    for (const { status, at, lasted, worker } of chapters.slice(-100)) {
      const state = Math.max(0, STATES.indexOf(String(status).toLowerCase()));
      const bar = element("i", { class: "s" + state });
      bar.style.left = Math.min(99, (100 * (at - begin)) / span) + "%";
      bar.style.width = (100 * (lasted ?? 0)) / span + "%";
      const where = worker != null && worker >= 0 ? ", " + (store.lanes.get(worker)?.label ?? worker) : "";
      list.append(element("li", { title: "at " + clock(at) + where },
        element("span", { class: "lasted number" }, lasted == null ? clock(at) : lasting(lasted)),
        stateLabel(state), element("span", { class: "span", "aria-hidden": "true" }, bar)));
    }
    this.story.replaceChildren(element("h3", {}, "Story, since " + clock(begin)), list);
  }

  paintNear(task) {
    const parts = [];
    for (const [title, edges] of [["Takes or awaits", task?.ins ?? []], ["Is taken or awaited by", task?.outs ?? []]]) {
      if (edges.length === 0) continue;
      const list = element("div", { class: "near" });
      for (const { id } of edges.slice(0, MOST_NEAR)) {
        const other = store.tasks.get(id);
        if (!other) continue;
        list.append(element("span", { class: "state s" + other.state }, stateLabel(other.state).firstChild,
          element("button", { type: "button", class: "key", onclick: () => this.show(id) }, store.keyOf(other))));
      }
      const more = edges.length - MOST_NEAR;
      if (more > 0) list.append(element("span", { class: "quiet" }, "and " + more + " more"));
      parts.push(element("h3", {}, title + " " + edges.length), list);
    }
    this.near.replaceChildren(...parts);
  }

  async do(verb) {
    const { id } = this;
    try {
      say(this.said, await act(id, verb));
    } catch (error) {
      say(this.said, error.message);
    }
    if (this.id === id) this.ask();
  }
}

export const detail = new Detail();
