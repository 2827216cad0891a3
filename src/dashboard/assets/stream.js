// The one connection to the server. It comes back by itself, whatever ended it.

import { store } from "./store.js";

const SLOWEST_RETRY_MS = 10_000;
// The server says something at least every few seconds. Without a word for so long, the connection is
// dead even if nobody has told the browser, as after a laptop's sleep.
const SILENCE_MS = 20_000;

// Connects and stays connected. `told` hears "live" and "lost".
export function connect(told) {
  let source = null;
  let wait = 500;
  let retry = 0;
  let heard = 0;

  const open = () => {
    clearTimeout(retry);
    retry = 0;
    source?.close();
    heard = Date.now();
    source = new EventSource("stream");
    source.addEventListener("hello", (event) => {
      store.hello(JSON.parse(event.data));
      wait = 500;
      heard = Date.now();
      told("live");
    });
    source.addEventListener("update", (event) => {
      heard = Date.now();
      store.apply(JSON.parse(event.data));
    });
    source.onerror = lose;
  };

  // The browser would try again by itself, but not after an answer such as 503, and not slower and slower.
  const lose = () => {
    source?.close();
    source = null;
    told("lost");
    if (!retry) retry = setTimeout(open, wait);
    wait = Math.min(SLOWEST_RETRY_MS, wait * 1.6);
  };

  setInterval(() => {
    if (source && Date.now() - heard > SILENCE_MS) lose();
  }, 2_000);
  addEventListener("online", open);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !source) open();
  });
  open();
}
