// @ts-check
// The connection to the server. It's opened again after every failure.
//
// | state | timer | next state |
// |---|---|---|
// | open | the check for silence | lost after an error or `SILENCE_MS` without a message |
// | lost | the retry | open when the retry is due, the network is back, or the page becomes visible |

import { store } from "./store.js";

const FIRST_RETRY_MS = 500;
const SLOWEST_RETRY_MS = 10_000;
// The server sends a message at least every few seconds. After a longer silence the connection is dead, even if
// the browser hasn't noticed, for example after a laptop was suspended.
const SILENCE_MS = 20_000;

/**
 * Connects and stays connected. Reports each change of the connection's state to `onState`.
 * @param {(state: "live" | "lost") => void} onState
 */
export function connect(onState) {
  /** @type {EventSource | null} */
  let source = null;
  let wait = FIRST_RETRY_MS;
  let retry = 0;
  let lastMessage = 0;

  const open = () => {
    clearTimeout(retry);
    retry = 0;
    source?.close();
    lastMessage = Date.now();
    source = new EventSource("stream");
    source.addEventListener("hello", (event) => {
      store.hello(JSON.parse(event.data));
      wait = FIRST_RETRY_MS;
      lastMessage = Date.now();
      onState("live");
    });
    source.addEventListener("update", (event) => {
      lastMessage = Date.now();
      store.apply(JSON.parse(event.data));
    });
    source.onerror = lose;
  };

  // The browser's own retry stops at responses such as 503, and doesn't slow down.
  const lose = () => {
    source?.close();
    source = null;
    onState("lost");
    if (!retry) retry = setTimeout(open, wait);
    wait = Math.min(SLOWEST_RETRY_MS, wait * 1.6);
  };

  setInterval(() => {
    if (source && Date.now() - lastMessage > SILENCE_MS) lose();
  }, 2_000);
  addEventListener("online", open);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !source) open();
  });
  open();
}
