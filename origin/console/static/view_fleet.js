// Every node: as squares to see where it burns, as a table to see what and why.

import { attribute, el, Keyed, shown, text } from "./dom.js";
import { bytes, count, many, percent, plain, revision, steady } from "./format.js";
import { Heat } from "./heat.js";
import { badge, cell, heading, meterCell, named, section, stateCell } from "./parts.js";
import { hash, rewrite } from "./router.js";
import { filtered, held, sorted, urgency } from "./rows.js";
import { skew, stateOf, tally } from "./states.js";
import { LongTable } from "./table.js";

const SORT_EVERY_MS = 2000;
const COMPARABLE = ["words", "state", "region", "sort", "down"];

export class FleetView {
  #kind = "workers";
  #query = {};
  #state = null;
  #shownAs = "";
  #order = [];
  #sortedAt = 0;

  constructor({ soon }) {
    this.soon = soon;
    this.heat = new Heat((kind, key) => this.#open(kind, key));
    this.tabs = new Map(
      ["workers", "edges"].map((kind) => [kind, el("a", { href: `#/fleet/${kind}` })]),
    );
    this.#filters();
    this.tables = new Map([
      ["workers", this.#table("Workers", "workers", WORKER_COLUMNS)],
      ["edges", this.#table("Edges", "edges", EDGE_COLUMNS)],
    ]);
    this.details = new Details(() => this.#close());
    this.place = el("div", { class: "place" });
    this.tally = el("p", { class: "hint", role: "status" });
    this.regions = section("All nodes by region", this.heat.node);
    this.node = el(
      "div",
      { class: "view" },
      heading("Fleet"),
      this.regions,
      el(
        "section",
        { "aria-label": "Nodes in a table" },
        el("nav", { class: "tabs", "aria-label": "Kinds of nodes" }, ...this.tabs.values()),
        this.filters,
        this.tally,
        el("div", { class: "beside" }, this.place, this.details.node),
      ),
    );
  }

  go({ parts, query }) {
    this.#kind = this.tables.has(parts[0]) ? parts[0] : "workers";
    this.#query = query;
    this.open = parts[1] ?? "";
    for (const [kind, tab] of this.tabs) {
      attribute(tab, "href", hash("fleet", [kind], query.region ? { region: query.region } : {}));
      attribute(tab, "aria-current", kind === this.#kind ? "true" : null);
    }
    if (this.box.value.trim() !== (query.words ?? "")) this.box.value = query.words ?? "";
    this.place.replaceChildren(this.tables.get(this.#kind).node);
    this.#shownAs = "";
  }

  update(state) {
    const last = this.#state;
    this.#state = state;
    shown(this.regions, some(state.edges) || some(state.workers)); // what is hidden has no width
    if (state.edges !== last?.edges || state.workers !== last?.workers || this.#look !== this.look) {
      this.look = this.#look;
      this.heat.update(state.edges ?? {}, state.workers ?? {});
    }
    for (const [kind, tab] of this.tabs) {
      const name = kind === "edges" ? "Edges" : "Workers";
      text(tab, `${name} ${count(Object.keys(state[kind] ?? {}).length)}`);
    }
    const rows = state[this.#kind] ?? {};
    if (rows !== last?.[this.#kind] || !this.#shownAs) this.#arrange(rows);
    this.tables.get(this.#kind).paint();
    this.details.update(this.open, this.#kind, rows[this.open]);
  }

  get #look() {
    return `${innerWidth} ${getComputedStyle(document.documentElement).getPropertyValue("--surface")}`;
  }

  #arrange(rows) {
    const { words = "", state = "", region = "", sort = "state", down = "" } = this.#query;
    const keys = filtered(rows, { words, region, states: state ? state.split(" ") : [] });
    const table = this.tables.get(this.#kind);
    const asked = JSON.stringify([this.#kind, ...COMPARABLE.map((name) => this.#query[name])]);
    const rest = performance.now() - this.#sortedAt < SORT_EVERY_MS || table.inUse;
    if (asked === this.#shownAs && rest) this.#order = held(this.#order, keys);
    else {
      const columns = this.#kind === "edges" ? EDGE_COLUMNS : WORKER_COLUMNS;
      const column = columns.find(({ name }) => name === sort) ?? columns[1];
      this.#order = sorted(keys, rows, column.sort, Boolean(down));
      this.#sortedAt = performance.now();
      this.#shownAs = asked;
      table.order(column.name, Boolean(down));
    }
    table.set(this.#order, rows);
    this.#chips(rows, state);
    const all = Object.keys(rows).length;
    const kind = this.#kind.slice(0, -1);
    text(this.tally, keys.length === all ? `${all > 1 ? "All " : ""}${many(all, kind)}.` : `${count(keys.length)} of ${many(all, kind)} fit.`);
    shown(this.clear, Boolean(words || state || region));
    shown(this.where, Boolean(region));
    text(this.where, `in ${plain(region)}`);
  }

  #chips(rows, chosen) {
    const counts = new Map(tally(rows));
    for (const name of chosen ? chosen.split(" ") : []) if (!counts.has(name)) counts.set(name, 0);
    this.chips.update([...counts.keys()], (name) => ({
      number: counts.get(name),
      pressed: chosen.split(" ").includes(name),
    }));
  }

  #filters() {
    const typed = () => this.#ask({ words: this.box.value.trim() });
    this.box = el("input", {
      type: "search",
      id: "filter",
      placeholder: "name, model, region, revision, reason …",
      autocomplete: "off",
      spellcheck: "false",
      on: { input: typed },
    });
    const chips = el("ul", { class: "chips", "aria-label": "States" });
    this.chips = new Keyed(chips, (name) => chip(name, () => this.#toggle(name)));
    this.where = el("span", { class: "badge idle", hidden: true });
    this.clear = el(
      "button",
      { type: "button", class: "quiet", hidden: true, on: { click: () => this.#ask({ words: "", state: "", region: "" }) } },
      "Show all",
    );
    this.filters = el(
      "form",
      { class: "filters", role: "search", on: { submit: (event) => event.preventDefault() } },
      el("label", { for: "filter" }, "Filter"),
      this.box,
      chips,
      this.where,
      this.clear,
    );
  }

  #toggle(name) {
    const chosen = new Set((this.#query.state ?? "").split(" ").filter(Boolean));
    if (!chosen.delete(name)) chosen.add(name);
    this.#ask({ state: [...chosen].join(" ") });
  }

  /** Change the filter or the order; the address keeps it. */
  #ask(change) {
    this.#query = { ...this.#query, ...change };
    if ("words" in change && !change.words) this.box.value = "";
    rewrite(hash("fleet", [this.#kind, this.open].filter(Boolean), this.#query));
    this.#shownAs = "";
    this.soon();
  }

  #table(label, kind, columns) {
    return new LongTable({
      label,
      columns: columns.map((column, number) => (number ? column : { ...column, cell: linkCell(kind, () => this.#query) })),
      sorted: (name) => {
        const again = (this.#query.sort ?? "state") === name;
        this.#ask({ sort: name, down: again && !this.#query.down ? "1" : "" });
      },
      scrolled: () => this.soon(),
    });
  }

  #open(kind, key) {
    location.hash = hash("fleet", [kind, key], kind === this.#kind ? this.#query : {});
  }

  #close() {
    location.hash = hash("fleet", [this.#kind], this.#query);
    this.tables.get(this.#kind).scroller.focus({ preventScroll: true });
  }
}

function chip(name, toggle) {
  const { word, sign, tone } = stateOf(name);
  const number = el("span", { class: "figure" });
  const mark = el("span", { class: "sign", "aria-hidden": "true" }, sign);
  const button = el("button", { type: "button", class: `chip ${tone}`, on: { click: toggle } }, mark, `${word} `, number);
  return {
    node: el("li", {}, button),
    update(value) {
      text(number, count(value.number));
      attribute(button, "aria-pressed", value.pressed);
    },
  };
}

/** The name, and below it (shown on a phone, where the other columns are not) what matters most. */
const linkCell = (kind, query) => () => {
  const name = el("bdi", {});
  const link = el("a", {}, name);
  const below = el("bdi", { class: "below" });
  return {
    node: el("span", {}, link, below),
    update(row, key) {
      attribute(link, "href", hash("fleet", [kind, key], query()));
      text(name, plain(key));
      attribute(link, "title", plain(key));
      text(below, why(row) ? plain(why(row)) : doing(row) || plain(row.region));
    },
  };
};

function some(table) {
  for (const _ in table) return true;
  return false;
}

const percentOf = (part, whole) => (whole ? part / whole : 0);

/** The revision, where it is going, and whether it is a canary's. */
const revisionCell = () => {
  const now = el("code", {});
  const next = el("code", {});
  const mark = el("span", { class: "tag", hidden: true }, "canary");
  const arrow = el("span", { class: "to" }, " → ", next);
  return {
    node: el("span", {}, now, arrow, mark),
    update(row) {
      text(now, revision(row.revision));
      text(next, revision(row.target));
      shown(arrow, Boolean(row.target && row.target !== row.revision));
      shown(mark, Boolean(row.canary));
      attribute(now, "title", plain(row.revision));
    },
  };
};

const why = (row) => [row.fault, row.apart, row.reason].filter(Boolean).join(": ");
const doing = (row) =>
  row.phase ? `${plain(row.phase)}${row.missing_bytes ? `, ${bytes(row.missing_bytes)} to come` : ""}` : "";
const busyShare = (row) => percentOf(row.busy, row.slots);

const WORKER_COLUMNS = [
  { name: "name", head: "Worker", kind: "name", sort: () => 0 },
  { name: "state", head: "State", kind: "state", sort: urgency, cell: stateCell },
  { name: "region", head: "Region", kind: "p3 region", sort: (row) => row.region, cell: named((row) => row.region) },
  { name: "revision", head: "Revision", kind: "p2 revision", sort: (row) => row.revision, cell: revisionCell },
  { name: "channel", head: "Channel", kind: "p4 short-text", sort: (row) => row.channel, cell: named((row) => row.channel) },
  {
    name: "busy",
    head: "Slots busy",
    kind: "p2 meters",
    sort: (row) => -busyShare(row),
    cell: meterCell(busyShare, (row) => `${count(row.busy)}/${count(row.slots)}`, () => "busy"),
  },
  { name: "queue", head: "Queue", kind: "p3 number", sort: (row) => -row.queue, cell: cell((row) => count(row.queue)) },
  { name: "variant", head: "Variant", kind: "p4 short-text", sort: (row) => row.variant, cell: named((row) => row.variant) },
  {
    name: "why",
    head: "Doing, or why not",
    kind: "p2 why",
    sort: (row) => why(row) || row.phase,
    cell: named((row) => [doing(row), why(row)].filter(Boolean).join("; ")),
  },
];

const EDGE_COLUMNS = [
  { name: "name", head: "Edge", kind: "name", sort: () => 0 },
  { name: "state", head: "State", kind: "state", sort: urgency, cell: stateCell },
  { name: "region", head: "Region", kind: "p3 region", sort: (row) => row.region, cell: named((row) => row.region) },
  { name: "workers", head: "Workers", kind: "p4 number", sort: (row) => -row.workers, cell: cell((row) => count(row.workers)) },
  { name: "requests", head: "Requests/s", kind: "p2 number", sort: (row) => -row.requests_per_s, cell: cell((row) => steady(row.requests_per_s)) },
  { name: "streams", head: "Streams", kind: "p3 number", sort: (row) => -row.streams, cell: cell((row) => count(row.streams)) },
  { name: "hits", head: "Cache hits", kind: "p2 number", sort: (row) => row.hit_ratio, cell: cell((row) => percent(row.hit_ratio)) },
  {
    name: "cache",
    head: "Cache full",
    kind: "p3 meters",
    sort: (row) => -percentOf(row.cache_used, row.cache_capacity),
    cell: meterCell(
      (row) => percentOf(row.cache_used, row.cache_capacity),
      (row) => bytes(row.cache_used),
    ),
  },
  { name: "above", head: "From above", kind: "p4 number", title: "Bytes that its cache brought from above", sort: (row) => -row.origin_bytes, cell: cell((row) => bytes(row.origin_bytes)) },
  { name: "skew", head: "Skew", kind: "p2 number", title: "Rolls that it does not know yet", sort: (row) => -skew(row.behind), cell: cell((row) => count(skew(row.behind))) },
  { name: "why", head: "Why", kind: "p2 why", sort: why, cell: named(why) },
];

/** All that is known of one node. */
class Details {
  #key;
  #last;

  constructor(close) {
    this.name = el("bdi", {});
    this.state = badge();
    this.list = el("dl", { class: "facts" });
    this.boots = el("a", { class: "button" }, "Its boots");
    this.rolls = el("a", { class: "button" }, "Its roll");
    const button = el("button", { type: "button", class: "quiet", on: { click: close } }, "Close");
    this.node = el(
      "aside",
      { class: "card details", "aria-label": "One node", hidden: true },
      el("div", { class: "heading" }, el("h2", {}, this.name), button),
      this.state.node,
      this.list,
      el("div", { class: "buttons" }, this.boots, this.rolls),
    );
  }

  update(key, kind, row) {
    shown(this.node, Boolean(key));
    if (!key || (key === this.#key && row === this.#last)) return;
    this.#key = key;
    this.#last = row;
    text(this.name, plain(key));
    if (row) this.state.state(row.state);
    else this.state.set("warn", "?", "not in the fleet");
    shown(this.boots, kind === "workers" && Boolean(row));
    shown(this.rolls, kind === "workers" && Boolean(row));
    attribute(this.boots, "href", hash("boots", [key.split("/")[0]]));
    attribute(this.rolls, "href", hash("rolls", [], { worker: key.split("/")[0] }));
    const facts = row ? (kind === "edges" ? edgeFacts(row) : workerFacts(row)) : [];
    this.list.replaceChildren(
      ...facts.filter(([, value]) => value !== "").flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, el("bdi", {}, value))]),
    );
  }
}

const edgeFacts = (row) => [
  ["Region", plain(row.region)],
  ["Why", plain(row.reason)],
  ["Workers", count(row.workers)],
  ["Requests", `${count(row.requests_per_s)}/s`],
  ["Streams now", count(row.streams)],
  ["Cache hits", percent(row.hit_ratio)],
  ["Cache", `${bytes(row.cache_used)} of ${bytes(row.cache_capacity)}`],
  ["From above", bytes(row.origin_bytes)],
  ["Trust", plain(row.trust)],
  ["Behind", Object.keys(row.behind ?? {}).map((name) => `${plain(name)}: ${row.behind[name]}`).join(", ")],
];

const workerFacts = (row) => [
  ["Region", plain(row.region)],
  ["Channel", `${plain(row.model)}@${plain(row.channel)}`],
  ["Revision", plain(row.revision)],
  ["On its way to", row.target && row.target !== row.revision ? plain(row.target) : ""],
  ["Canary", row.canary ? "yes" : ""],
  ["Doing", doing(row)],
  ["Slots busy", `${count(row.busy)} of ${count(row.slots)}`],
  ["Queue", count(row.queue)],
  ["Variant", plain(row.variant)],
  ["Apart", plain(row.apart)],
  ["Fault", plain(row.fault)],
  ["Why", plain(row.reason)],
];
