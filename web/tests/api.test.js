import "./support/browser.js";

import assert from "node:assert/strict";
import test from "node:test";

import { act, canAct, fetchTask, isReport, takeToken, useRecorded } from "../../src/dashboard/assets/api.js";

function respond(status, text) {
  const requests = [];
  globalThis.fetch = async (url, options) => {
    requests.push([url, options]);
    return new Response(text, { status });
  };
  return requests;
}

test("the token moves from the address into the session", () => {
  assert.equal(canAct(), false);
  globalThis.location.hash = "#token=a%2Fb";
  takeToken();
  assert.equal(canAct(), true);
  assert.equal(globalThis.location.hash, "");
  assert.equal(globalThis.sessionStorage.getItem("ensue-token"), "a/b");
});

test("an action sends the token and resolves to the server's text", async () => {
  const requests = respond(200, "Cancelled.");
  assert.equal(await act(7, "cancel"), "Cancelled.");
  assert.deepEqual(requests, [["api/task/7/cancel", { method: "POST", headers: { "X-Ensue-Token": "a/b" } }]]);
  respond(409, "The task has already ended.\n");
  assert.equal(await act(7, "cancel"), "The task has already ended.\n");
  globalThis.fetch = async () => {
    throw new TypeError("Failed to fetch");
  };
  assert.equal(await act(7, "retry"), "Failed to fetch");
});

test("details of unknown tasks are null, and other errors are thrown", async () => {
  respond(200, "{\"key\":\"a\"}");
  assert.deepEqual(await fetchTask(1), { key: "a" });
  respond(404, "Not found.");
  assert.equal(await fetchTask(1), null);
  respond(500, "broken");
  await assert.rejects(fetchTask(1), /broken/);
});

test("a report has details and no actions", async () => {
  useRecorded({ 3: { key: "c", status: "finished", error: null } });
  assert.equal(isReport(), true);
  assert.equal(canAct(), false);
  assert.equal((await fetchTask(3)).key, "c");
  assert.equal(await fetchTask(4), null);
});
