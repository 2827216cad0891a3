// @ts-check
// The part that all pages share: drawing after each update of the record, until the page is closed.

import { Painter } from "./frames.js";
import { detail } from "./detail.js";
import { store } from "./store.js";

/** @import { Changes } from "./store.js" */

/** @typedef {(page: string, query?: Record<string, string>) => void} Navigate */

export class Page {
  constructor() {
    this.painter = new Painter(() => this.draw());
    /** @type {(() => void)[]} */
    this.cleanups = [() => this.painter.stop()];
    this.onClose(store.listen((changes) => {
      this.update(changes);
      detail.refresh();
    }));
    this.painter.now();
  }

  /**
   * Calls a function when the page is closed.
   * @param {() => void} cleanup
   */
  onClose(cleanup) {
    this.cleanups.push(cleanup);
  }

  close() {
    for (const cleanup of this.cleanups) cleanup();
  }

  /**
   * Handles an update of the record.
   * @param {Changes} _changes
   */
  update(_changes) {
    this.painter.soon();
  }

  /** Draws the page. */
  draw() {}
}
