// What the stages of the gateway cost, and where requests went and why.

import { attribute, el, Keyed, shown, svg, text } from "./dom.js";
import { count, duration, percent, plain } from "./format.js";
import { cell, heading, meterCell, named, section, shortTable } from "./parts.js";

const LEAST = 1e-3;

export class GatewayView {
  #last = {};

  constructor() {
    this.scale = { low: LEAST, high: 1 };
    this.stages = shortTable("Stages of the gateway", this.#stageColumns(), "No edge has told of a request yet.");
    this.key = el("p", { class: "hint scale" });
    this.strip = el("div", { class: "strip tall", "aria-hidden": "true" });
    this.targets = new Keyed(this.strip, stripPart);
    this.shares = el("ul", { class: "legend" });
    this.legend = new Keyed(this.shares, legendPart);
    this.routes = shortTable("Routes and their reasons", ROUTE_COLUMNS, "No request has been routed yet.");
    this.node = el(
      "div",
      { class: "view" },
      heading("Gateway"),
      section("What each stage takes", this.key, this.stages.node),
      section("Where requests went, and why", this.strip, this.shares, this.routes.node),
    );
  }

  update({ stages = {}, routes = {} }) {
    if (stages !== this.#last.stages) {
      this.#measure(stages);
      const order = Object.keys(stages).sort((a, b) => stages[a].order - stages[b].order);
      // Rows whose own figures stand are drawn again as well: the scale may have changed.
      this.stages.update(order, (key) => ({ ...stages[key] }));
    }
    if (routes !== this.#last.routes) this.#routes(routes);
    this.#last = { stages, routes };
  }

  /** A common logarithmic scale over whole decades: stages lie far apart. */
  #measure(stages) {
    const known = Object.values(stages).filter((row) => row.count);
    shown(this.key, known.length > 0);
    shown(this.strip, known.length > 0);
    if (!known.length) return;
    const low = Math.min(1, ...known.map((row) => Math.max(LEAST, row.p50_ms)));
    const high = Math.max(0.01, ...known.map((row) => row.p99_ms));
    this.scale = { low: 10 ** Math.floor(Math.log10(low)), high: 10 ** Math.ceil(Math.log10(high)) };
    text(this.key, `From the median (dot) to the 99th percentile (end), on a logarithmic scale from ${duration(this.scale.low)} to ${duration(this.scale.high)}; a line for each tenfold.`);
  }

  #at(ms) {
    const { low, high } = this.scale;
    const share = Math.log10(Math.max(ms, low) / low) / Math.max(1, Math.log10(high / low));
    return 4 + 232 * Math.min(1, share);
  }

  #stageColumns() {
    return [
      { head: "Stage", kind: "name", cell: named((_, key) => key) },
      { head: "Median to 99th percentile", kind: "ranges", cell: () => this.#range() },
      { head: "Median", kind: "number", cell: cell((row) => duration(row.p50_ms)) },
      { head: "99 %", kind: "number", cell: cell((row) => duration(row.p99_ms)) },
      { head: "Mean", kind: "number", cell: cell((row) => duration(row.mean_ms)) },
      { head: "Requests", kind: "number", cell: cell((row) => count(row.count)) },
    ];
  }

  #range() {
    const grid = svg("path", { class: "grid" });
    const line = svg("path", { class: "line" });
    const dot = svg("circle", { class: "dot", r: "4", cy: "11" });
    const node = svg("svg", { class: "range", viewBox: "0 0 240 22", "aria-hidden": "true", focusable: "false" }, grid, line, dot);
    return {
      node,
      update: (row) => {
        const { low, high } = this.scale;
        let lines = "";
        for (let at = low; at <= high * 1.001; at *= 10) lines += `M${this.#at(at).toFixed(1)} 0V22`;
        attribute(grid, "d", lines);
        const from = this.#at(row.p50_ms).toFixed(1);
        attribute(line, "d", `M${from} 11H${this.#at(row.p99_ms).toFixed(1)}`);
        attribute(dot, "cx", from);
      },
    };
  }

  #routes(routes) {
    const keys = Object.keys(routes).sort((a, b) => routes[b].share - routes[a].share || (a < b ? -1 : 1));
    this.routes.update(keys, (key) => routes[key]);
    const targets = new Map();
    for (const key of keys) {
      const { target, share } = routes[key];
      targets.set(target, (targets.get(target) ?? 0) + share);
    }
    const names = [...targets.keys()];
    const valueOf = (name) => ({ name, share: targets.get(name), shade: `shade${names.indexOf(name) % 5}` });
    this.targets.update(names, valueOf);
    this.legend.update(names, valueOf);
  }
}

function stripPart() {
  const node = el("span", {});
  return {
    node,
    update({ share, shade }) {
      node.style.width = `${(share * 100).toFixed(2)}%`;
      attribute(node, "class", shade);
    },
  };
}

function legendPart() {
  const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
  const name = el("bdi", {});
  const figure = el("strong", {});
  return {
    node: el("li", {}, swatch, name, " ", figure),
    update({ name: words, share, shade }) {
      attribute(swatch, "class", `swatch ${shade}`);
      text(name, plain(words));
      text(figure, percent(share));
    },
  };
}

const ROUTE_COLUMNS = [
  { head: "To", kind: "name", cell: named((row) => row.target) },
  { head: "Because", kind: "because", cell: named((row) => row.reason) },
  { head: "Share", kind: "meters", cell: meterCell((row) => row.share, (row) => percent(row.share), () => "busy") },
  { head: "Requests", kind: "number", cell: cell((row) => count(row.count)) },
];
