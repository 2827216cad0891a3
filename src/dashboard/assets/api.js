// @ts-check
// Requests to the server besides the stream: the details of a task, and cancelling and retrying it.

const TOKEN_KEY = "ensue-token";

/**
 * @typedef {{ status: string, at: number, lasted: number | null, worker?: number | null }} Phase
 * @typedef {{
 *   key: string, submitted_at: string | null, status: string, error: string | null,
 *   explain?: { text: string }, timeline?: { phases: Phase[] },
 * }} TaskDetails
 * @typedef {"cancel" | "retry"} TaskAction
 */

/**
 * The details in a report, which has no server.
 * @type {Record<string, TaskDetails> | null}
 */
let recorded = null;

/** @type {string | null} */
let token = null;

/** Moves the token from the page's address into the session, so that it isn't visible. */
export function takeToken() {
  const found = /[#&]token=([^&]+)/.exec(location.hash)?.[1];
  if (!found) return;
  saveToken(decodeURIComponent(found));
  history.replaceState(null, "", location.pathname + location.search);
}

/** @param {string} value */
function saveToken(value) {
  token = value;
  try {
    sessionStorage.setItem(TOKEN_KEY, value);
  } catch {
    // Without storage the token is kept until the page is left.
  }
}

function readToken() {
  if (token !== null) return token;
  try {
    token = sessionStorage.getItem(TOKEN_KEY);
  } catch {
    token = null;
  }
  return token;
}

/** Returns whether tasks can be cancelled and retried. */
export function canAct() {
  return recorded === null && Boolean(readToken());
}

export function isReport() {
  return recorded !== null;
}

/** @param {Record<string, TaskDetails>} details */
export function useRecorded(details) {
  recorded = details;
}

/**
 * Resolves to the details of a task, or to null if it has left the record.
 * @param {number} id
 * @returns {Promise<TaskDetails | null>}
 */
export async function fetchTask(id) {
  if (recorded) return recorded[id] ?? null;
  const response = await fetch("api/task/" + id);
  if (response.status === 404) return null;
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

/**
 * Cancels or retries a task. Resolves to the server's text about the outcome, also after a failure.
 * @param {number} id
 * @param {TaskAction} action
 */
export async function act(id, action) {
  const headers = { "X-Ensue-Token": readToken() ?? "" };
  try {
    const response = await fetch("api/task/" + id + "/" + action, { method: "POST", headers });
    return await response.text();
  } catch (error) {
    return messageOf(error);
  }
}

/** @param {unknown} error */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}
