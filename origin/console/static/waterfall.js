// A boot or a roll as bars over time, and the same as a table.

import { el, svg } from "./dom.js";
import { duration, plain } from "./format.js";

const WIDE = { width: 900, left: 190, right: 84, letters: 24, ticks: 6 };
const NARROW = { width: 400, left: 112, right: 66, letters: 14, ticks: 3 };
const NARROW_PX = 560;
const ROW = 24;
const TOP = 30;
const MOST = 200;
const PART = ": ";

/** Round moments from 0 to at most `whole`, in steps of 1, 2 or 5 times a power of ten. */
export function ticks(whole, most = 6) {
  if (!(whole > 0)) return [0];
  const rough = whole / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const moments = [];
  for (let number = 0; number * step <= whole * 1.0001; number++) moments.push(number * step);
  return moments;
}

/** The spans as rows: each step followed by its parts (`outer: inner`), in order of their start. */
export function rowsOf(spans) {
  const known = spans.slice(0, MOST);
  const outer = known.filter(({ name }) => !name.includes(PART));
  const names = new Set(outer.map(({ name }) => name));
  const orphans = known.filter(({ name }) => name.includes(PART) && !names.has(name.split(PART)[0]));
  const byStart = (a, b) => a.start_ms - b.start_ms || b.length_ms - a.length_ms;
  const rows = [];
  for (const span of [...outer, ...orphans].sort(byStart)) {
    rows.push({ ...span, inner: false, label: span.name });
    if (!names.delete(span.name)) continue; // the parts stand under the first of its name
    const parts = known.filter(({ name }) => name.startsWith(span.name + PART)).sort(byStart);
    for (const part of parts)
      rows.push({ ...part, inner: true, label: part.name.slice(span.name.length + PART.length) });
  }
  return rows;
}

/** Both. `what` it is (a boot or a roll), of which model. */
export const waterfall = (what, model, told) => {
  const region = (name, content) =>
    el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": `${name} of ${plain(model)}, scrolls` }, content);
  return [
    region(`Waterfall of the ${what.toLowerCase()}`, drawing(what, model, told)),
    el("details", {}, el("summary", {}, "As a table"), region(`Table of the ${what.toLowerCase()}`, asTable(what, model, told))),
  ];
};

/** The drawing. It is told in words by the table, so here it has a name only. */
function drawing(what, model, boot) {
  const narrow = innerWidth < NARROW_PX;
  const { width: WIDTH, left: LEFT, right: RIGHT, letters, ticks: most } = narrow ? NARROW : WIDE;
  const rows = rowsOf(boot.spans);
  const whole = Math.max(boot.total_ms, ...rows.map((row) => row.start_ms + row.length_ms), 0.001);
  const high = TOP + rows.length * ROW + 8;
  const x = (ms) => LEFT + ((WIDTH - LEFT - RIGHT) * ms) / whole;
  const grid = ticks(whole, most).flatMap((ms) => [
    svg("path", { class: "grid", d: `M${x(ms)} ${TOP - 6}V${high - 6}` }),
    svg("text", { class: "tick", x: x(ms), y: TOP - 12, "text-anchor": "middle" }, duration(ms)),
  ]);
  const bars = rows.flatMap((row, number) => {
    const y = TOP + number * ROW;
    const told = `${plain(row.name)}: from ${duration(row.start_ms)}, for ${duration(row.length_ms)}`;
    const long = Math.max(1.5, x(row.start_ms + row.length_ms) - x(row.start_ms));
    const label = plain(row.label.replaceAll("_", " "));
    const cut = label.length > letters ? `${label.slice(0, letters - 1)}…` : label;
    const kind = row.name === boot.step ? " now" : "";
    return [
      svg("text", { class: row.inner ? "inner" : "", x: row.inner ? 18 : 4, y: y + 16 }, cut),
      svg("rect", { class: (row.inner ? "part" : "bar") + kind, x: x(row.start_ms), y: y + 4, width: long, height: ROW - 8, rx: 2 }, svg("title", {}, told)),
      svg("text", { class: "took", x: WIDTH - 4, y: y + 16, "text-anchor": "end" }, duration(row.length_ms)),
    ];
  });
  const name = `${what} of ${plain(model)}, ${duration(boot.total_ms)}; its steps stand in the table below`;
  return svg("svg", { class: narrow ? "waterfall narrow" : "waterfall", viewBox: `0 0 ${WIDTH} ${high}`, role: "img", "aria-label": name }, ...grid, ...bars);
}

/** The same as a table. */
function asTable(what, model, boot) {
  const rows = rowsOf(boot.spans).map((row) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", class: row.inner ? "inner" : "" }, el("bdi", {}, plain(row.name.replaceAll("_", " ")))),
      el("td", { class: "number" }, duration(row.start_ms)),
      el("td", { class: "number" }, duration(row.length_ms)),
      el("td", { class: "number" }, boot.total_ms ? `${Math.round((row.length_ms / boot.total_ms) * 100)} %` : "–"),
    ),
  );
  const heads = ["Step", "Starts at", "Takes", "Of the whole"].map((words, number) =>
    el("th", { scope: "col", class: number ? "number" : "" }, words),
  );
  return el(
    "table",
    { class: "short", "aria-label": `Steps of the ${what.toLowerCase()} of ${plain(model)}` },
    el("thead", {}, el("tr", {}, ...heads)),
    el("tbody", {}, ...rows),
  );
}
