// Every node of a region as one small square, drawn on a canvas: thousands are seen at once. Form as
// well as colour tells the state; in words the canvas says how many are in which, and the table
// below has everything. Only squares that change are drawn again.

import { attribute, el, Keyed, text } from "./dom.js";
import { count, plain } from "./format.js";
import { stateOf, tally } from "./states.js";

const TONES = ["ok", "busy", "warn", "bad", "idle"];
const KEY =
  "Round: an edge. Square: a worker. With a cross: failed or missing. With a stroke: not ready, unheard, or apart from its channel. With a frame: draining or booting. Hollow: asleep or left.";

/** The side of a square in pixels, so that many still fit and few are not lost. */
export const sideFor = (nodes) => (nodes > 2500 ? 7 : nodes > 900 ? 9 : nodes > 200 ? 12 : 15);

/** The nodes of each region: region → `[kind, key, row]`, in the order they came. */
export function byRegion(edges, workers) {
  const regions = new Map();
  const add = (kind, table) => {
    for (const key in table) {
      const row = table[key];
      const into = regions.get(row.region);
      if (into) into.push([kind, key, row]);
      else regions.set(row.region, [[kind, key, row]]);
    }
  };
  add("edges", edges);
  add("workers", workers);
  return regions;
}

/** How many are in which state, in words. */
export const inWords = (...tables) =>
  tally(...tables)
    .map(([state, number]) => `${count(number)} ${stateOf(state).word}`)
    .join(", ");

export class Heat {
  #regions = new Map();
  #keyed;
  #chosen;

  /** `chosen(kind, key)` hears that a square was pressed. */
  constructor(chosen) {
    this.#chosen = chosen;
    this.told = el("p", { class: "told", "aria-hidden": "true" }, KEY);
    const list = el("ul", { class: "regions" });
    this.#keyed = new Keyed(list, (region) => new Patch(region, this.told, this.#chosen));
    this.node = el("div", { class: "heat" }, list, this.told);
  }

  update(edges, workers) {
    this.#regions = byRegion(edges, workers);
    let nodes = 0;
    for (const of of this.#regions.values()) nodes += of.length;
    const side = sideFor(nodes);
    const names = [...this.#regions.keys()].sort();
    this.#keyed.update(names, (name) => ({ nodes: this.#regions.get(name), side }));
  }
}

class Patch {
  #nodes = [];
  #drawn = [];
  #colours = null;
  #look = "";
  #side = 9;
  #across = 1;

  constructor(region, told, chosen) {
    this.label = el("span", { class: "name" });
    this.counts = el("span", { class: "counts" });
    this.canvas = el("canvas", {
      role: "img",
      on: {
        pointermove: (event) => this.#point(event, told),
        pointerleave: () => text(told, KEY),
        click: (event) => this.#press(event, chosen),
      },
    });
    this.node = el("li", {}, el("p", {}, this.label, " ", this.counts), this.canvas);
    text(this.label, plain(region) || "no region");
  }

  update({ nodes, side }) {
    this.#nodes = nodes;
    const states = {};
    nodes.forEach(([, , row], number) => (states[number] = row));
    const words = inWords(states);
    text(this.counts, words);
    attribute(this.canvas, "aria-label", `${this.label.textContent}: ${words}`);
    this.#draw(side);
  }

  #draw(side) {
    const style = getComputedStyle(this.canvas);
    const wide = Math.max(side * 4, this.node.clientWidth || 240);
    const across = Math.max(1, Math.floor((wide + 2) / (side + 2)));
    const look = [side, across, this.#nodes.length, devicePixelRatio, style.getPropertyValue("--surface")].join();
    const context = this.canvas.getContext("2d");
    if (look !== this.#look) {
      this.#look = look;
      this.#side = side;
      this.#across = across;
      this.#drawn = [];
      this.#colours = new Map(TONES.map((tone) => [tone, style.getPropertyValue(`--heat-${tone}`)]));
      this.#colours.set("ground", style.getPropertyValue("--surface"));
      this.#size(context);
    }
    this.#nodes.forEach(([kind, , row], number) => {
      const form = kind + row.state + (row.apart ? "!" : "");
      if (this.#drawn[number] === form) return;
      this.#drawn[number] = form;
      const step = this.#side + 2;
      const x = (number % this.#across) * step;
      const y = Math.floor(number / this.#across) * step;
      square(context, x, y, this.#side, row, kind, this.#colours);
    });
  }

  #size(context) {
    const step = this.#side + 2;
    const wide = this.#across * step - 2;
    const high = Math.max(1, Math.ceil(this.#nodes.length / this.#across)) * step - 2;
    this.canvas.width = wide * devicePixelRatio;
    this.canvas.height = high * devicePixelRatio;
    this.canvas.style.width = `${wide}px`;
    this.canvas.style.height = `${high}px`;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  }

  #at(event) {
    const step = this.#side + 2;
    const column = Math.floor(event.offsetX / step);
    const index = Math.floor(event.offsetY / step) * this.#across + column;
    return column < this.#across ? this.#nodes[index] : undefined;
  }

  #point(event, told) {
    const found = this.#at(event);
    if (!found) return;
    const [kind, key, row] = found;
    const why = row.reason || row.fault || row.apart;
    const words = [plain(key), kind.slice(0, -1), stateOf(row.state).word, why && plain(why)];
    text(told, words.filter(Boolean).join(" · "));
  }

  #press(event, chosen) {
    const found = this.#at(event);
    if (found) chosen(found[0], found[1]);
  }
}

function square(context, x, y, side, row, kind, colours) {
  const { tone: its } = stateOf(row.state);
  const tone = row.apart && its === "ok" ? "warn" : its;
  context.clearRect(x - 0.5, y - 0.5, side + 1, side + 1);
  context.fillStyle = context.strokeStyle = colours.get(tone);
  context.lineWidth = Math.max(1, side / 8);
  const half = context.lineWidth / 2;
  context.beginPath();
  if (kind === "edges") context.arc(x + side / 2, y + side / 2, side / 2 - half, 0, 7);
  else context.rect(x + half, y + half, side - 2 * half, side - 2 * half);
  if (tone !== "idle" && tone !== "busy") context.fill();
  context.stroke();
  if (tone === "busy") context.fillRect(x + side * 0.25, y + side * 0.25, side / 2, side / 2);
  if (tone === "bad" || tone === "warn") mark(context, x, y, side, tone, colours.get("ground"));
}

/** A cross for what is bad, a stroke for what wants a look. */
function mark(context, x, y, side, tone, colour) {
  const inset = side * 0.22;
  context.strokeStyle = colour;
  context.lineWidth = Math.max(1.2, side / 7);
  context.beginPath();
  context.moveTo(x + inset, y + side - inset);
  context.lineTo(x + side - inset, y + inset);
  if (tone === "bad") {
    context.moveTo(x + inset, y + inset);
    context.lineTo(x + side - inset, y + side - inset);
  }
  context.stroke();
}
