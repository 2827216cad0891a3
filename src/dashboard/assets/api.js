// What is asked of the server beside the stream: about one task, and to cancel or retry it.

const TOKEN_PLACE = "ensue-token";

// The report has the answers in the page itself, and nobody to ask.
let recorded = null;

// Takes the token out of the link that opened the page, and out of sight.
export function takeToken() {
  const found = /[#&]token=([^&]+)/.exec(location.hash);
  if (!found) return;
  keep(decodeURIComponent(found[1]));
  history.replaceState(null, "", location.pathname + location.search);
}

let token = null;

function keep(value) {
  token = value;
  try {
    sessionStorage.setItem(TOKEN_PLACE, value);
  } catch {
    // Where storage is forbidden, the token lives as long as the page.
  }
}

function readToken() {
  if (token != null) return token;
  try {
    token = sessionStorage.getItem(TOKEN_PLACE);
  } catch {
    token = null;
  }
  return token;
}

export function canAct() {
  return recorded === null && Boolean(readToken());
}

export function isReport() {
  return recorded !== null;
}

export function useRecorded(details) {
  recorded = details;
}

// Everything about a task. Resolves to null if the client no longer knows it.
export async function askTask(id) {
  if (recorded) return recorded[id] ?? null;
  const answer = await fetch("api/task/" + id);
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

// Cancels or retries. Resolves to what the server says of it.
export async function act(id, verb) {
  const headers = { "X-Ensue-Token": readToken() ?? "" };
  const answer = await fetch("api/task/" + id + "/" + verb, { method: "POST", headers });
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  return text;
}
