// Starts everything: the connection, the pages, and going from one page to another without losing either.

import { isReport, takeToken, useRecorded } from "./api.js";
import { EventsPage } from "./events.js";
import { GraphPage } from "./graph.js";
import { StatusPage } from "./status.js";
import { TasksPage } from "./tasks.js";
import { WorkersPage } from "./workers.js";
import { clock } from "./format.js";
import { connect } from "./stream.js";
import { detail } from "./detail.js";
import { onTheme } from "./colour.js";
import { say } from "./dom.js";
import { store } from "./store.js";

const PAGES = {
  "": ["Status", StatusPage],
  graph: ["Graph", GraphPage],
  tasks: ["Tasks", TasksPage],
  workers: ["Workers", WorkersPage],
  events: ["Events", EventsPage],
};

const root = document.getElementById("page");
let page = null;
let shownName = null;

// The page that the address asks for. In a report, which is one file, that's in the part after `#`.
function wanted() {
  const hash = location.hash.slice(1);
  const [path, search] = isReport() ? hash.split("?") : [location.pathname.split("/").pop(), location.search];
  return [path in PAGES ? path : "", new URLSearchParams(search ?? "")];
}

function open() {
  const [name, query] = wanted();
  const [title, Page] = PAGES[name];
  page?.close();
  root.replaceChildren();
  root.className = "page-" + (name || "status");
  document.title = `${title} · ${store.client || "ensue"}`;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  page = new Page(root, { query, navigate });
  shownName = title;
}

function navigate(name, query = {}) {
  const search = new URLSearchParams(query).toString();
  const address = (isReport() ? "#" + name : name || "./") + (search ? "?" + search : "");
  history.pushState(null, "", address);
  open();
}

function followLinks() {
  document.getElementById("nav").addEventListener("click", (event) => {
    const link = event.target.closest("a[data-page]");
    // With a modifier the reader wants another tab or window.
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    navigate(link.dataset.page);
    root.focus({ preventScroll: true });
  });
  addEventListener("popstate", open);
}

function showConnection(state) {
  const link = document.getElementById("link");
  const notice = document.getElementById("notice");
  link.className = "link " + state;
  if (state === "live") {
    notice.hidden = true;
    return;
  }
  say(document.getElementById("link-text"), "connection lost");
  if (store.revision > 0) say(notice, "The connection to the program is lost: it may have ended. What you see is the last that came. Trying again.");
  else say(notice, "The program can't be reached. Trying again.");
  notice.hidden = false;
}

function showHead() {
  say(document.getElementById("client"), store.client || "ensue");
  say(document.getElementById("version"), store.version ? "ensue " + store.version : "");
  if (document.getElementById("link").classList.contains("live")) say(document.getElementById("link-text"), "live, " + clock(store.now, 0));
  const title = `${shownName} · ${store.client || "ensue"}`;
  if (document.title !== title) document.title = title;
}

// A report carries its record with it.
function readReport() {
  const record = document.getElementById("record");
  if (!record) return false;
  const { hello, updates, details } = JSON.parse(record.textContent);
  useRecorded(details);
  store.hello(hello);
  for (const update of updates) store.apply(update);
  document.getElementById("keep").remove();
  document.getElementById("link").className = "link report";
  const when = new Date(hello.began).toLocaleString();
  say(document.getElementById("link-text"), `report of ${when}, ${clock(store.now, 1)} long`);
  for (const link of document.querySelectorAll("#nav a")) link.setAttribute("href", "#" + link.dataset.page);
  return true;
}

function start() {
  document.body.append(detail.node);
  followLinks();
  onTheme(open);
  if (readReport()) {
    showHead();
    open();
    return;
  }
  takeToken();
  open();
  let head = -1;
  store.listen(() => {
    const second = Math.floor(store.now);
    if (second !== head) showHead();
    head = second;
  });
  connect(showConnection);
}

start();
