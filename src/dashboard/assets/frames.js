// When to draw: in animation frames, for new data at most ten times a second, and only while the page is
// visible. What the reader does is drawn at the next frame.

const BETWEEN_MS = 100;

const painters = new Set();
let asked = false;
let last = 0;
let timer = 0;

// How long drawing took, for whoever measures: the number of rounds, their time, and the longest.
export const drawn = { rounds: 0, ms: 0, longest: 0 };

function round(now) {
  asked = false;
  const start = performance.now();
  last = now;
  for (const painter of painters) {
    if (!painter.wanted) continue;
    painter.wanted = false;
    painter.paint();
  }
  const took = performance.now() - start;
  drawn.rounds += 1;
  drawn.ms += took;
  drawn.longest = Math.max(drawn.longest, took);
}

function askFrame() {
  clearTimeout(timer);
  timer = 0;
  if (!asked) {
    asked = true;
    requestAnimationFrame(round);
  }
}

// Something to draw from time to time. `soon` asks for it because of new data, `now` because of the
// reader.
export class Painter {
  constructor(paint) {
    this.paint = paint;
    this.wanted = false;
    painters.add(this);
  }

  soon() {
    this.wanted = true;
    if (asked || timer) return;
    const wait = last + BETWEEN_MS - performance.now();
    if (wait <= 0) askFrame();
    else timer = setTimeout(askFrame, wait);
  }

  now() {
    this.wanted = true;
    askFrame();
  }

  stop() {
    painters.delete(this);
  }
}

// A canvas whose pixels are those of the screen. `size()` gives its width and height in CSS pixels, and a
// pen that's scaled to them.
export class Sheet {
  constructor(canvas, resized) {
    this.canvas = canvas;
    this.width = 0;
    this.height = 0;
    this.watch = new ResizeObserver(resized);
    this.watch.observe(canvas);
  }

  begin() {
    const { canvas } = this;
    const ratio = Math.min(3, window.devicePixelRatio || 1);
    const { width, height } = canvas.getBoundingClientRect();
    const across = Math.max(1, Math.round(width * ratio));
    const down = Math.max(1, Math.round(height * ratio));
    if (canvas.width !== across || canvas.height !== down) {
      canvas.width = across;
      canvas.height = down;
    }
    this.width = width;
    this.height = height;
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    return pen;
  }

  stop() {
    this.watch.disconnect();
  }
}
