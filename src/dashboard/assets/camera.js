// @ts-check
// The mapping between the coordinates of a drawing and the pixels of its canvas. Each axis has its own scale.

/**
 * @typedef {{ left: number, right: number, top: number, bottom: number }} Bounds
 */

export class Camera {
  /**
   * @param {object} options
   * @param {readonly [number, number]} options.most the largest scales that fitting uses
   * @param {readonly [number, number]} options.least the smallest scales
   * @param {boolean} options.uniform whether both axes have the same scale
   */
  constructor({ most, least, uniform }) {
    this.most = most;
    this.least = least;
    this.uniform = uniform;
    this.x = 0;
    this.y = 0;
    this.scaleX = 1;
    this.scaleY = 1;
    // Whether it follows the drawing. Panning and zooming turn that off.
    this.auto = true;
    /** @type {(Bounds & { width: number, height: number }) | null} */
    this.fitted = null;
  }

  /** @param {number} x */
  toX(x) {
    return (x - this.x) * this.scaleX;
  }

  /** @param {number} y */
  toY(y) {
    return (y - this.y) * this.scaleY;
  }

  /** @param {number} x */
  fromX(x) {
    return x / this.scaleX + this.x;
  }

  /** @param {number} y */
  fromY(y) {
    return y / this.scaleY + this.y;
  }

  /**
   * Moves the drawing by a number of pixels.
   * @param {number} byX
   * @param {number} byY
   */
  pan(byX, byY) {
    this.auto = false;
    this.x -= byX / this.scaleX;
    this.y -= byY / this.scaleY;
  }

  /**
   * Changes the scale. The point (x, y) of the canvas keeps its position.
   * @param {number} factor
   * @param {number} x
   * @param {number} y
   */
  zoom(factor, x, y) {
    this.auto = false;
    const fixedX = this.fromX(x);
    const fixedY = this.fromY(y);
    this.scaleX = clamp(this.least[0], this.scaleX * factor, this.most[0] * 3);
    this.scaleY = clamp(this.least[1], this.scaleY * factor, this.most[1] * 3);
    if (this.uniform) this.scaleY = this.scaleX;
    this.x = fixedX - x / this.scaleX;
    this.y = fixedY - y / this.scaleY;
  }

  /** Follows the drawing again, and fits it at the next frame. */
  reset() {
    this.auto = true;
    this.fitted = null;
  }

  /**
   * Fits a drawing into the canvas.
   * @param {Bounds} bounds
   * @param {number} width
   * @param {number} height
   */
  fit(bounds, width, height) {
    const spanX = Math.max(1e-6, bounds.right - bounds.left);
    const spanY = Math.max(1e-6, bounds.bottom - bounds.top);
    this.scaleX = clamp(this.least[0], width / spanX, this.most[0]);
    this.scaleY = clamp(this.least[1], height / spanY, this.most[1]);
    if (this.uniform) this.scaleX = this.scaleY = Math.min(this.scaleX, this.scaleY);
    // A drawing that is smaller than the canvas is centred, a larger one starts at the left and the top.
    this.x = bounds.left - Math.max(0, width / this.scaleX - spanX) / 2;
    this.y = bounds.top - Math.max(0, height / this.scaleY - spanY) / 2;
    this.fitted = { ...bounds, width, height };
  }

  /**
   * Follows a growing drawing. The camera moves only when something is out of sight, and then leaves room for
   * further growth, so that most of the drawing keeps its position.
   * @param {Bounds} bounds
   * @param {number} width
   * @param {number} height
   */
  follow(bounds, width, height) {
    const { fitted } = this;
    const spanX = bounds.right - bounds.left;
    const spanY = bounds.bottom - bounds.top;
    const inside = fitted !== null && fitted.width === width && fitted.height === height &&
      bounds.left >= fitted.left && bounds.right <= fitted.right &&
      bounds.top >= fitted.top && bounds.bottom <= fitted.bottom;
    const filled = inside && spanX * 2.2 >= fitted.right - fitted.left && spanY * 2.2 >= fitted.bottom - fitted.top;
    if (filled) return;
    const grown = fitted !== null && fitted.width === width && !inside;
    this.fit({
      left: bounds.left,
      top: bounds.top,
      right: bounds.right + (grown && bounds.right > fitted.right ? spanX * 0.3 : 0),
      bottom: bounds.bottom + (grown && bounds.bottom > fitted.bottom ? spanY * 0.3 : 0),
    }, width, height);
  }

  /**
   * Brings a point of the drawing into sight with the smallest movement.
   * @param {number} x
   * @param {number} y
   * @param {number} width
   * @param {number} height
   */
  show(x, y, width, height) {
    /**
     * @param {number} at
     * @param {number} size
     */
    const overshoot = (at, size) => (at < 0 ? at - size * 0.15 : at > size ? at - size * 0.85 : 0);
    const byX = overshoot(this.toX(x), width);
    const byY = overshoot(this.toY(y), height);
    if (byX !== 0 || byY !== 0) this.pan(-byX, -byY);
  }
}

/**
 * @param {number} low
 * @param {number} x
 * @param {number} high
 */
function clamp(low, x, high) {
  return Math.min(high, Math.max(low, x));
}
