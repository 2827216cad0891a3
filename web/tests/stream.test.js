import "./support/browser.js";

import assert from "node:assert/strict";
import test from "node:test";

import { connect } from "../../src/dashboard/assets/stream.js";
import { store } from "../../src/dashboard/assets/store.js";

class FakeEventSource extends EventTarget {
  static opened = [];

  constructor(url) {
    super();
    this.url = url;
    this.closed = false;
    FakeEventSource.opened.push(this);
  }

  close() {
    this.closed = true;
  }

  send(type, data) {
    this.dispatchEvent(Object.assign(new Event(type), { data: JSON.stringify(data) }));
  }
}

test("a lost connection is opened again, more and more slowly", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  const { tick } = context.mock.timers;
  const wait = tick.bind(context.mock.timers);
  globalThis.EventSource = FakeEventSource;
  const { opened } = FakeEventSource;
  const states = [];
  connect((state) => states.push(state));

  assert.equal(opened[0].url, "stream");
  opened[0].send("hello", { client: "c", version: "1", began: 0 });
  opened[0].send("update", { t: 3 });
  assert.deepEqual([states, store.client, store.now], [["live"], "c", 3]);

  opened[0].onerror();
  assert.deepEqual([states.at(-1), opened[0].closed], ["lost", true]);
  wait(499);
  assert.equal(opened.length, 1);
  wait(1);
  assert.equal(opened.length, 2);
  opened[1].onerror();
  wait(500);
  assert.equal(opened.length, 2);
  wait(300);
  assert.equal(opened.length, 3);

  // Silence is a failure as well.
  opened[2].send("hello", { client: "c", version: "1", began: 0 });
  wait(19_000);
  assert.equal(states.at(-1), "live");
  wait(4_000);
  assert.equal(states.at(-1), "lost");
});
