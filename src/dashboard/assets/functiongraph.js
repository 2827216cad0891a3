// The graph with one node for all tasks of a function: what is shown when there are too many to show them
// one by one. Nodes say how many tasks they stand for and how those are, edges how many links.

import { CANCELLED, FAILED, FINISHED, READY, RUNNING, WAITING, DELAYED } from "./states.js";
import { colours, functionColour } from "./colour.js";
import { lasting, plural, short } from "./format.js";
import { Camera } from "./camera.js";
import { store } from "./store.js";

const CELL_X = 230;
const CELL_Y = 104;
const WIDE = 158;
const TALL = 58;
const PARTS = [["finished", FINISHED], ["failed", FAILED], ["cancelled", CANCELLED], ["running", RUNNING], ["ready", READY], ["delayed", DELAYED], ["waiting", WAITING]];

export class FunctionGraph {
  constructor() {
    this.camera = new Camera({ most: [1.25, 1.25], least: [0.1, 0.1], uniform: true });
    this.clear();
  }

  clear() {
    this.places = new Map();
    this.taken = new Set();
  }

  // Gives places to functions that have none. One that has one keeps it.
  update() {
    const functions = store.stats?.functions ?? [];
    const links = [...store.links.values()];
    for (const { name } of functions) {
      const index = store.indexOfName(name);
      if (index < 0 || this.places.has(index)) continue;
      let column = 0;
      let sum = 0;
      let count = 0;
      for (const [from, to] of links) {
        const place = this.places.get(from);
        if (to !== index || from === index || !place) continue;
        column = Math.max(column, place.column + 1);
        sum += place.row;
        count += 1;
      }
      let row = count > 0 ? Math.round(sum / count) : 0;
      for (let away = 0; this.taken.has(column + ":" + row); away++) row += away % 2 === 0 ? away + 1 : -(away + 1);
      this.taken.add(column + ":" + row);
      this.places.set(index, { column, row });
    }
  }

  get size() {
    return this.places.size;
  }

  bounds() {
    let left = 0, right = 0, top = 0, bottom = 0;
    for (const { column, row } of this.places.values()) {
      right = Math.max(right, column);
      top = Math.min(top, row);
      bottom = Math.max(bottom, row);
    }
    return { left: left * CELL_X - 110, right: right * CELL_X + 110, top: top * CELL_Y - 62, bottom: bottom * CELL_Y + 52 };
  }

  draw(pen, width, height, { chosen, hover, only }) {
    const { camera } = this;
    const byName = new Map((store.stats?.functions ?? []).map((each) => [each.name, each]));
    pen.save();
    pen.scale(camera.scaleX, camera.scaleY);
    pen.translate(-camera.x, -camera.y);
    // No line goes through a count.
    const labels = [...store.links.values()].map((link) => this.link(pen, link, chosen));
    for (const label of labels) if (label) this.label(pen, label);
    for (const [index, { column, row }] of this.places) {
      const stats = byName.get(store.nameOf(index));
      if (stats) this.node(pen, index, stats, column * CELL_X, row * CELL_Y, only);
      if (index === chosen || index === hover) {
        pen.strokeStyle = index === chosen ? colours().accent : colours().ink;
        pen.lineWidth = index === chosen ? 2.5 : 1.5;
        pen.strokeRect(column * CELL_X - WIDE / 2 - 3, row * CELL_Y - TALL / 2 - 3, WIDE + 6, TALL + 6);
      }
    }
    pen.restore();
  }

  node(pen, index, stats, x, y, only) {
    const { panel, ink, quiet, strongRule, states, sunk, text } = colours();
    const left = x - WIDE / 2;
    const top = y - TALL / 2;
    pen.fillStyle = panel;
    pen.fillRect(left, top, WIDE, TALL);
    pen.strokeStyle = strongRule;
    pen.lineWidth = 1;
    pen.strokeRect(left + 0.5, top + 0.5, WIDE - 1, TALL - 1);
    pen.fillStyle = functionColour(index);
    pen.fillRect(left, top, 5, TALL);
    pen.textBaseline = "alphabetic";
    pen.textAlign = "left";
    pen.fillStyle = ink;
    pen.font = "600 13px " + text;
    pen.fillText(cut(pen, stats.name, WIDE - 78), left + 13, top + 20);
    pen.textAlign = "right";
    pen.fillText(short(stats.submitted), left + WIDE - 9, top + 20);
    pen.font = "11px " + text;
    pen.fillStyle = quiet;
    const under = stats.failed > 0 ? short(stats.failed) + " failed" : stats.running > 0 ? short(stats.running) + " running" : "";
    pen.fillText(under, left + WIDE - 9, top + 51);
    pen.textAlign = "left";
    pen.fillText(lasting(stats.run_time) + " in all", left + 13, top + 51);
    const room = WIDE - 22;
    pen.fillStyle = sunk;
    pen.fillRect(left + 13, top + 28, room, 9);
    let at = left + 13;
    for (const [part, state] of PARTS) {
      const across = (room * stats[part]) / Math.max(1, stats.submitted);
      if (across <= 0) continue;
      pen.globalAlpha = only >= 0 && only !== state ? 0.15 : state === WAITING ? 0.35 : 1;
      pen.fillStyle = states[state];
      // What hasn't ended is lower than what has, for those who don't see the colours.
      const tall = state >= FINISHED ? 9 : state === RUNNING ? 9 : 4;
      pen.fillRect(at, top + 28 + (9 - tall), Math.max(1, across), tall);
      at += across;
    }
    pen.globalAlpha = 1;
  }

  // Draws the line, and returns where its count is to stand.
  link(pen, [from, to, count], chosen) {
    const a = this.places.get(from);
    const b = this.places.get(to);
    if (!a || !b) return null;
    const { strongRule, accent } = colours();
    const strong = from === chosen || to === chosen;
    pen.strokeStyle = strong ? accent : strongRule;
    pen.lineWidth = 1 + Math.min(5, Math.log10(count + 1));
    const startX = a.column * CELL_X + WIDE / 2;
    const startY = a.row * CELL_Y;
    const endX = b.column * CELL_X - WIDE / 2;
    const endY = b.row * CELL_Y;
    let labelX = (startX + endX) / 2;
    let labelY = (startY + endY) / 2;
    pen.beginPath();
    if (from === to) {
      // To itself: over the top.
      labelX = a.column * CELL_X;
      labelY = startY - TALL / 2 - 17;
      pen.moveTo(startX - 12, startY - TALL / 2);
      pen.bezierCurveTo(startX - 8, labelY - 6, endX + 8, labelY - 6, endX + 12, startY - TALL / 2);
    } else if (endX < startX) {
      // Back, or to the same column: around below.
      labelY = Math.max(startY, endY) + TALL / 2 + 12;
      pen.moveTo(startX, startY + 10);
      pen.bezierCurveTo(startX + 60, labelY + 10, endX - 60, labelY + 10, endX, endY + 10);
    } else {
      const bend = (endX - startX) / 2;
      pen.moveTo(startX, startY);
      pen.bezierCurveTo(startX + bend, startY, endX - bend, endY, endX, endY);
    }
    pen.stroke();
    return { count, strong, x: labelX, y: labelY };
  }

  label(pen, { count, strong, x, y }) {
    const { accent, quiet, paper, text } = colours();
    pen.font = "11px " + text;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    const label = short(count);
    const room = pen.measureText(label).width + 8;
    pen.fillStyle = paper;
    pen.fillRect(x - room / 2, y - 8, room, 16);
    pen.fillStyle = strong ? accent : quiet;
    pen.fillText(label, x, y + 0.5);
  }

  at(x, y) {
    const placeX = this.camera.fromX(x);
    const placeY = this.camera.fromY(y);
    for (const [index, { column, row }] of this.places) {
      if (Math.abs(column * CELL_X - placeX) <= WIDE / 2 && Math.abs(row * CELL_Y - placeY) <= TALL / 2) return index;
    }
    return null;
  }

  placeOf(index) {
    const place = this.places.get(index);
    return place ? { x: place.column * CELL_X, y: place.row * CELL_Y } : null;
  }

  describe(index) {
    const stats = store.stats?.functions.find((each) => each.name === store.nameOf(index));
    if (!stats) return "";
    const parts = PARTS.filter(([part]) => stats[part] > 0).map(([part]) => short(stats[part]) + " " + part);
    return `${stats.name}: ${plural(stats.submitted, "task")}, ${parts.join(", ")}`;
  }

  step(index, key) {
    const here = this.places.get(index);
    if (!here) return this.places.keys().next().value ?? null;
    const [byX, byY] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    let best = null;
    let least = Infinity;
    for (const [other, { column, row }] of this.places) {
      const ahead = (column - here.column) * byX + (row - here.row) * byY;
      const aside = Math.abs((column - here.column) * byY) + Math.abs((row - here.row) * byX);
      if (ahead <= 0 || ahead + aside * 3 >= least) continue;
      least = ahead + aside * 3;
      best = other;
    }
    return best;
  }
}

function cut(pen, text, room) {
  let length = text.length;
  while (length > 1 && pen.measureText(text.slice(0, length) + (length < text.length ? "…" : "")).width > room) length -= 1;
  return length < text.length ? text.slice(0, length) + "…" : text;
}
