// @ts-check
// Scheduling of drawing, and canvases. Drawing happens in animation frames: for new data at most ten times a
// second, for input at the next frame, and not at all while the page is hidden.

const UPDATE_INTERVAL_MS = 100;

/** @type {Set<Painter>} */
const painters = new Set();
let frameRequested = false;
let lastFrame = 0;
let timer = 0;

/** Statistics of drawing, for benchmarks: the number of frames, their total time, and the longest. */
export const drawn = { frames: 0, ms: 0, longest: 0 };

/** @param {number} now */
function drawFrame(now) {
  frameRequested = false;
  const start = performance.now();
  lastFrame = now;
  for (const painter of painters) {
    if (!painter.wanted) continue;
    painter.wanted = false;
    painter.paint();
  }
  const elapsed = performance.now() - start;
  drawn.frames += 1;
  drawn.ms += elapsed;
  drawn.longest = Math.max(drawn.longest, elapsed);
}

function requestFrame() {
  clearTimeout(timer);
  timer = 0;
  if (frameRequested) return;
  frameRequested = true;
  requestAnimationFrame(drawFrame);
}

/** A function that is called to draw. */
export class Painter {
  /** @param {() => void} paint */
  constructor(paint) {
    this.paint = paint;
    this.wanted = false;
    painters.add(this);
  }

  /** Requests drawing for new data. */
  soon() {
    this.wanted = true;
    if (frameRequested || timer) return;
    const wait = lastFrame + UPDATE_INTERVAL_MS - performance.now();
    if (wait <= 0) requestFrame();
    else timer = setTimeout(requestFrame, wait);
  }

  /** Requests drawing at the next frame, for input. */
  now() {
    this.wanted = true;
    requestFrame();
  }

  stop() {
    painters.delete(this);
  }
}

/** A canvas with one pixel per device pixel. Its width and height are in CSS pixels. */
export class Surface {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {() => void} resized
   */
  constructor(canvas, resized) {
    const ctx = canvas.getContext("2d");
    if (!ctx) throw new Error("the browser has no 2D canvas");
    this.canvas = canvas;
    this.ctx = ctx;
    this.width = 0;
    this.height = 0;
    this.observer = new ResizeObserver(resized);
    this.observer.observe(canvas);
  }

  /** Clears the canvas and returns its context, scaled to CSS pixels. */
  begin() {
    const { canvas, ctx } = this;
    const ratio = Math.min(3, window.devicePixelRatio || 1);
    const { width, height } = canvas.getBoundingClientRect();
    const pixelWidth = Math.max(1, Math.round(width * ratio));
    const pixelHeight = Math.max(1, Math.round(height * ratio));
    if (canvas.width !== pixelWidth || canvas.height !== pixelHeight) {
      canvas.width = pixelWidth;
      canvas.height = pixelHeight;
    }
    this.width = width;
    this.height = height;
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, height);
    return ctx;
  }

  stop() {
    this.observer.disconnect();
  }
}

/**
 * Shortens a text to a width, with an ellipsis. Returns "" if not even one character fits.
 * @param {Pick<CanvasRenderingContext2D, "measureText">} ctx
 * @param {string} text
 * @param {number} width
 */
export function clipText(ctx, text, width) {
  const full = ctx.measureText(text).width;
  if (full <= width) return text;
  let length = Math.floor((text.length * width) / full) - 1;
  while (length > 0 && ctx.measureText(text.slice(0, length) + "…").width > width) length -= 1;
  return length > 0 ? text.slice(0, length) + "…" : "";
}
