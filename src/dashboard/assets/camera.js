// From places in a drawing to points on a canvas, and back. The two axes have scales of their own.

export class Camera {
  constructor({ most, least, uniform }) {
    this.most = most;
    this.least = least;
    this.uniform = uniform;
    this.x = 0;
    this.y = 0;
    this.scaleX = 1;
    this.scaleY = 1;
    // Whether it keeps everything in sight by itself, until the reader moves it.
    this.auto = true;
  }

  toX(x) {
    return (x - this.x) * this.scaleX;
  }

  toY(y) {
    return (y - this.y) * this.scaleY;
  }

  fromX(x) {
    return x / this.scaleX + this.x;
  }

  fromY(y) {
    return y / this.scaleY + this.y;
  }

  pan(byX, byY) {
    this.auto = false;
    this.x -= byX / this.scaleX;
    this.y -= byY / this.scaleY;
  }

  // What's at the point (x, y) stays there.
  zoom(factor, x, y) {
    this.auto = false;
    const placeX = this.fromX(x);
    const placeY = this.fromY(y);
    this.scaleX = between(this.least[0], this.scaleX * factor, this.most[0] * 3);
    this.scaleY = between(this.least[1], this.scaleY * factor, this.most[1] * 3);
    if (this.uniform) this.scaleY = this.scaleX;
    this.x = placeX - x / this.scaleX;
    this.y = placeY - y / this.scaleY;
  }

  fit(bounds, width, height) {
    const spanX = Math.max(1e-6, bounds.right - bounds.left);
    const spanY = Math.max(1e-6, bounds.bottom - bounds.top);
    this.scaleX = between(this.least[0], width / spanX, this.most[0]);
    this.scaleY = between(this.least[1], height / spanY, this.most[1]);
    if (this.uniform) this.scaleX = this.scaleY = Math.min(this.scaleX, this.scaleY);
    // What is small sits in the middle, what grows from the left begins there.
    this.x = bounds.left - Math.max(0, width / this.scaleX - spanX) / 2;
    this.y = bounds.top - Math.max(0, height / this.scaleY - spanY) / 2;
    this.fitted = { ...bounds, width, height };
  }

  // Follows a drawing that grows, by leaps: it moves when something is out of sight, and then makes room
  // for half as much again, so that what's shown mostly stays where it is.
  follow(bounds, width, height) {
    const { fitted } = this;
    const inside = fitted && fitted.width === width && fitted.height === height &&
      bounds.left >= fitted.left && bounds.right <= fitted.right &&
      bounds.top >= fitted.top && bounds.bottom <= fitted.bottom;
    const filled = inside && (bounds.right - bounds.left) * 2.2 >= fitted.right - fitted.left &&
      (bounds.bottom - bounds.top) * 2.2 >= fitted.bottom - fitted.top;
    if (filled) return;
    const grown = fitted && fitted.width === width && !inside;
    const room = (span) => (grown ? span * 0.3 : 0);
    this.fit({
      left: bounds.left,
      top: bounds.top,
      right: bounds.right + (grown && bounds.right > fitted.right ? room(bounds.right - bounds.left) : 0),
      bottom: bounds.bottom + (grown && bounds.bottom > fitted.bottom ? room(bounds.bottom - bounds.top) : 0),
    }, width, height);
  }

  // Brings a place into sight, and moves no more than that takes.
  show(x, y, width, height) {
    const off = (at, size) => (at < 0 ? at - size * 0.15 : at > size ? at - size * 0.85 : 0);
    const offX = off(this.toX(x), width);
    const offY = off(this.toY(y), height);
    if (offX !== 0 || offY !== 0) this.pan(-offX, -offY);
  }
}

function between(low, x, high) {
  return Math.min(high, Math.max(low, x));
}
