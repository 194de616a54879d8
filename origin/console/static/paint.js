// When to draw: at most four times a second, in an animation frame (so never in a hidden tab), and
// only after something has changed.

const EVERY_MS = 250;

export class Painter {
  #draw;
  #last = -Infinity;
  #waits = false;

  constructor(draw) {
    this.#draw = draw;
  }

  /** Something has changed. */
  soon() {
    if (this.#waits) return;
    this.#waits = true;
    const wait = Math.max(0, this.#last + EVERY_MS - performance.now());
    if (wait > 4) setTimeout(() => requestAnimationFrame(() => this.now()), wait);
    else requestAnimationFrame(() => this.now());
  }

  /** Draw at once: somebody pressed something. */
  now() {
    this.#waits = false;
    this.#last = performance.now();
    this.#draw();
  }
}
