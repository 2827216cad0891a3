// @ts-check
// The entry point: the connection, the pages, and navigation between them without reloading.

import { isReport, takeToken, useRecorded } from "./api.js";
import { EventsPage } from "./events.js";
import { GraphPage } from "./graph.js";
import { StatusPage } from "./status.js";
import { TasksPage } from "./tasks.js";
import { WorkersPage } from "./workers.js";
import { clock } from "./format.js";
import { connect } from "./stream.js";
import { detail } from "./detail.js";
import { onThemeChange } from "./colour.js";
import { setText } from "./dom.js";
import { store } from "./store.js";

/** @import { TaskDetails } from "./api.js" */
/** @import { Navigate, Page } from "./page.js" */
/** @import { Hello, Update } from "./store.js" */

/**
 * @typedef {{ query: URLSearchParams, navigate: Navigate }} PageOptions
 * @typedef {{ title: string, Page: new (root: HTMLElement, options: PageOptions) => Page }} PageEntry
 */

/** @type {PageEntry} */
const STATUS = { title: "Status", Page: StatusPage };

/** @type {Map<string, PageEntry>} */
const PAGES = new Map([
  ["", STATUS],
  ["graph", { title: "Graph", Page: GraphPage }],
  ["tasks", { title: "Tasks", Page: TasksPage }],
  ["workers", { title: "Workers", Page: WorkersPage }],
  ["events", { title: "Events", Page: EventsPage }],
]);

/** @param {string} id */
function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element \`${id}\``);
  return found;
}

/** @type {Page | null} */
let page = null;
let pageTitle = STATUS.title;

/**
 * Returns the page and the query in the address. A report is one file, so its page is in the fragment.
 * @returns {[name: string, query: URLSearchParams]}
 */
function requestedPage() {
  const [path, search] = isReport() ? location.hash.slice(1).split("?") : [location.pathname.split("/").pop(), location.search];
  return [path && PAGES.has(path) ? path : "", new URLSearchParams(search ?? "")];
}

/** @returns {NodeListOf<HTMLAnchorElement>} */
function navigationLinks() {
  return document.querySelectorAll("#nav a");
}

function documentTitle() {
  return `${pageTitle} · ${store.client || "ensue"}`;
}

function openPage() {
  const [name, query] = requestedPage();
  const { title, Page } = PAGES.get(name) ?? STATUS;
  const root = byId("page");
  page?.close();
  root.replaceChildren();
  root.className = "page-" + (name || "status");
  pageTitle = title;
  document.title = documentTitle();
  for (const link of navigationLinks()) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  page = new Page(root, { query, navigate });
}

/** @type {Navigate} */
function navigate(name, query = {}) {
  const search = new URLSearchParams(query).toString();
  const address = (isReport() ? "#" + name : name || "./") + (search ? "?" + search : "");
  history.pushState(null, "", address);
  openPage();
}

function followLinks() {
  byId("nav").addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a[data-page]") : null;
    // With a modifier key the browser opens another tab or window.
    if (!(link instanceof HTMLElement) || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    navigate(link.dataset.page ?? "");
    byId("page").focus({ preventScroll: true });
  });
  addEventListener("popstate", openPage);
}

/** @param {"live" | "lost"} state */
function showConnection(state) {
  const notice = byId("notice");
  byId("link").className = "link " + state;
  notice.hidden = state === "live";
  if (state === "live") return;
  setText(byId("link-text"), "connection lost");
  setText(notice, store.revision > 0
    ? "The connection to the program is lost; the program may have exited. The pages show the last known state. Reconnecting…"
    : "The program can't be reached. Reconnecting…");
}

function showHead() {
  setText(byId("client"), store.client || "ensue");
  setText(byId("version"), store.version ? "ensue " + store.version : "");
  if (byId("link").classList.contains("live")) setText(byId("link-text"), "live, " + clock(store.now, 0));
  const title = documentTitle();
  if (document.title !== title) document.title = title;
}

/** Reads the record of a report. Returns false if this isn't a report. */
function readReport() {
  const record = document.getElementById("record");
  if (!record) return false;
  /** @type {{ hello: Hello, updates: Update[], details: Record<string, TaskDetails> }} */
  const { hello, updates, details } = JSON.parse(record.textContent ?? "");
  useRecorded(details);
  store.hello(hello);
  for (const update of updates) store.apply(update);
  byId("save").remove();
  byId("link").className = "link report";
  setText(byId("link-text"), `report of ${new Date(hello.began).toLocaleString()}, duration ${clock(store.now, 1)}`);
  for (const link of navigationLinks()) link.setAttribute("href", "#" + link.dataset.page);
  return true;
}

function start() {
  document.body.append(detail.node);
  followLinks();
  onThemeChange(openPage);
  if (readReport()) {
    showHead();
    openPage();
    return;
  }
  takeToken();
  openPage();
  let shownSecond = -1;
  store.listen(() => {
    const second = Math.floor(store.now);
    if (second !== shownSecond) showHead();
    shownSecond = second;
  });
  connect(showConnection);
}

start();
