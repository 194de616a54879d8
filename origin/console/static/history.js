// The last minutes of a few figures, for the small curves beside them.

const WINDOW_S = 150;
const EVERY_S = 1;

export class History {
  #points = new Map();
  #last = -Infinity;

  /** Remember `values` at `now` (seconds), at most once a second. Returns whether it did. */
  sample(now, values) {
    if (now - this.#last < EVERY_S * 0.9) return false;
    this.#last = now;
    for (const name in values) this.#add(name, now, values[name]);
    return true;
  }

  /** `[seconds, value]` of the last minutes, oldest first. */
  of(name) {
    return this.#points.get(name) ?? [];
  }

  #add(name, now, value) {
    if (typeof value !== "number") return;
    let points = this.#points.get(name);
    if (!points) this.#points.set(name, (points = []));
    points.push([now, value]);
    while (points[0][0] < now - WINDOW_S) points.shift();
  }
}

/** The curve of `points` as the `d` of an SVG path in `width` × `height`; time runs to the right. */
export function curve(points, width, height, now) {
  if (points.length < 2) return "";
  let most = 0;
  for (const [, value] of points) most = Math.max(most, value);
  const top = most > 0 ? most * 1.1 : 1;
  const begin = Math.min(points[0][0], now - 30);
  const scale = width / Math.max(now - begin, 1);
  const at = ([moment, value]) =>
    `${((moment - begin) * scale).toFixed(1)} ${(height - 1 - (value / top) * (height - 2)).toFixed(1)}`;
  return `M${points.map(at).join("L")}`;
}
