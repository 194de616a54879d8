// Is all well? If not: what is not, in words. And the figures that say how much is going on.

import { el, Keyed, shown, text } from "./dom.js";
import { count, duration, many, percent, plain, rate, steady } from "./format.js";
import { badge, bar, cell, heading, meterCell, section, shortTable, tile } from "./parts.js";
import { hash } from "./router.js";
import { rollTone, tally, stateOf } from "./states.js";

const TILES = [
  ["requests_per_s", "Requests", { unit: "/s" }, (t) => count(t.requests_per_s)],
  ["failed_per_s", "Failures", { unit: "/s" }, (t) => count(t.failed_per_s)],
  ["streams", "Streams now", {}, (t) => count(t.streams)],
  ["first_token_p50_ms", "First token, median", {}, (t) => duration(t.first_token_p50_ms)],
  ["first_token_p95_ms", "First token, 95 %", {}, (t) => duration(t.first_token_p95_ms)],
  ["hit_ratio", "Chunks from caches", {}, (t) => percent(t.hit_ratio)],
  ["origin_bytes_per_s", "Out of this origin", {}, (t) => rate(t.origin_bytes_per_s)],
];

const FEW = 6;

export class OverviewView {
  #tiles = new Map();
  #last = {};

  constructor({ history, now, soon }) {
    this.history = history;
    this.now = now;
    this.soon = soon;
    const figures = el("dl", { class: "tiles" });
    for (const [name, title, options] of TILES) {
      const made = tile(title, options);
      this.#tiles.set(name, made);
      figures.append(made.node);
    }
    this.fleet = tile("Nodes ready", { unit: "of 0" });
    figures.append(this.fleet.node);
    const problems = el("ul", { class: "problems" });
    this.problems = new Keyed(problems, problem);
    this.all = el("button", { type: "button", class: "quiet more", on: { click: () => this.#all() } });
    this.troubled = section("What is not well", problems, this.all);
    const rolls = el("ul", { class: "running" });
    this.rolls = new Keyed(rolls, running);
    this.rolling = section("Rolls that run", rolls);
    this.regions = shortTable("Regions", REGION_COLUMNS, "No edge is known, and so no region.");
    this.foot = el("p", { class: "hint" });
    this.node = el(
      "div",
      { class: "view" },
      heading("Overview"),
      figures,
      this.troubled,
      this.rolling,
      section("Regions", this.regions.node),
      this.foot,
    );
  }

  update(state) {
    this.#figures(state);
    const { totals, regions, rolls } = state;
    if (totals !== this.#last.totals) {
      const problems = [...new Set(totals.problems ?? [])];
      this.problems.update(this.long ? problems : problems.slice(0, FEW), (words) => words);
      shown(this.troubled, problems.length > 0);
      shown(this.all, problems.length > FEW);
      text(this.all, this.long ? "Show fewer" : `Show all ${problems.length}`);
    }
    const going = Object.keys(rolls ?? {}).filter((key) => rolls[key].running);
    this.rolls.update(going.sort(), (key) => rolls[key]);
    shown(this.rolling, going.length > 0);
    if (regions !== this.#last.regions)
      this.regions.update(Object.keys(regions ?? {}).sort(), (key) => regions[key]);
    text(this.foot, `Headwater ${plain(state.version)}. Rates are over the last seconds; curves over the last two minutes that this page was open. Trust metadata: ${plain(totals.trust)}.`);
    this.#last = state;
  }

  #all() {
    this.long = !this.long;
    this.#last = {};
    this.soon();
  }

  #figures(state) {
    const { totals } = state;
    const now = this.now() / 1000;
    for (const [name, , , shownAs] of TILES) {
      const made = this.#tiles.get(name);
      const failing = name === "failed_per_s" && totals.failed_per_s > 0;
      const more = failing ? `${percent(totals.failed_per_s / Math.max(totals.requests_per_s, totals.failed_per_s))} of requests` : "";
      made.set(shownAs(totals), more, failing ? "warn" : "");
      made.draw(this.history.of(name), now);
    }
    if (state.edges === this.#last.edges && state.workers === this.#last.workers) return;
    const counts = tally(state.edges, state.workers);
    const all = counts.reduce((sum, [, number]) => sum + number, 0);
    const ready = new Map(counts).get("ready") ?? 0;
    const others = counts.filter(([name]) => name !== "ready");
    text(this.fleet.unit, ` of ${count(all)}`);
    const words = others.slice(0, 2).map(([name, number]) => `${count(number)} ${stateOf(name).word}`).join(", ");
    this.fleet.set(count(ready), words, others.some(([name]) => stateOf(name).tone === "bad") ? "warn" : "");
  }
}

function problem() {
  const words = el("bdi", {});
  const node = el("li", {}, el("span", { class: "sign", "aria-hidden": "true" }, "▲"), words);
  return { node, update: (said) => text(words, plain(said)) };
}

function running(key) {
  const stage = badge();
  const meter = bar("busy");
  const told = el("span", { class: "figure" });
  const link = el("a", { href: hash("rolls", [key]) }, el("bdi", {}, plain(key)));
  return {
    node: el("li", {}, link, stage.node, meter.node, told),
    update(roll) {
      stage.set(rollTone(roll.stage), "▶", plain(roll.stage));
      meter.set(roll.total ? roll.taken / roll.total : 0);
      const canary = roll.percent ? `, canary ${roll.percent} %` : "";
      text(told, `${count(roll.taken)} of ${many(roll.total, "worker")}${canary}`);
    },
  };
}

const whole = (ready, all) => (all ? ready / all : 0);
const lacking = (ready, all) => (ready < all ? "warn" : "ok");

const REGION_COLUMNS = [
  {
    head: "Region",
    cell() {
      const link = el("a", {}, el("bdi", {}));
      return {
        node: link,
        update(_, key) {
          link.setAttribute("href", hash("fleet", ["workers"], { region: key }));
          text(link.firstChild, plain(key) || "no region");
        },
      };
    },
  },
  {
    head: "Edges ready",
    cell: meterCell(
      (r) => whole(r.edges_ready, r.edges),
      (r) => `${count(r.edges_ready)}/${count(r.edges)}`,
      (r) => lacking(r.edges_ready, r.edges),
    ),
  },
  {
    head: "Workers ready",
    cell: meterCell(
      (r) => whole(r.workers_ready, r.workers),
      (r) => `${count(r.workers_ready)}/${count(r.workers)}`,
      (r) => lacking(r.workers_ready, r.workers),
    ),
  },
  {
    head: "Slots busy",
    cell: meterCell((r) => whole(r.busy, r.slots), (r) => `${count(r.busy)}/${count(r.slots)}`, () => "busy"),
  },
  { head: "Queue", kind: "number", cell: cell((r) => count(r.queue)) },
  { head: "Requests/s", kind: "number", cell: cell((r) => steady(r.requests_per_s)) },
  { head: "Cache hits", kind: "number", cell: cell((r) => percent(r.hit_ratio)) },
  { head: "From origin", kind: "number", cell: cell((r) => rate(r.origin_bytes_per_s)) },
];
