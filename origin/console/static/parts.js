// Small pieces that several views are made of. Each is made once and updated with values.

import { attribute, el, Keyed, shown, svg, text, width } from "./dom.js";
import { plain } from "./format.js";
import { curve } from "./history.js";
import { stateOf } from "./states.js";

/** The head of a view; it takes the focus when somebody comes to the view. */
export const heading = (words, ...beside) =>
  el("div", { class: "heading" }, el("h1", { tabindex: "-1" }, words), ...beside);

/** A part of a view with a head of its own. */
export function section(words, ...content) {
  const name = `part-${words.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  const head = el("h2", { id: name }, words);
  return el("section", { "aria-labelledby": name }, head, ...content);
}

/** A tone with its sign and its word, never by colour alone. */
export function badge() {
  const sign = el("span", { class: "sign", "aria-hidden": "true" });
  const word = el("span", {});
  const node = el("span", { class: "badge" }, sign, word);
  return {
    node,
    set(tone, glyph, words) {
      attribute(node, "class", `badge ${tone}`);
      text(sign, glyph);
      text(word, words);
    },
    state(name) {
      const { tone, sign: glyph, word: words } = stateOf(name);
      this.set(tone, glyph, words);
    },
  };
}

/** A bar that a text beside it says as well. */
export function bar(kind = "") {
  const fill = el("span", { class: "fill" });
  return { node: el("span", { class: `meter ${kind}`, "aria-hidden": "true" }, fill), set: (share) => width(fill, share) };
}

/** A figure with its curve. */
export function tile(name, { unit = "" } = {}) {
  const value = el("span", { class: "value" });
  const more = el("span", { class: "more" });
  const kind = el("span", { class: "unit" }, unit);
  const path = svg("path", { class: "line" });
  const area = svg("path", { class: "area" });
  const spark = svg(
    "svg",
    { class: "spark", viewBox: "0 0 120 28", preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" },
    area,
    path,
  );
  const node = el(
    "div",
    { class: "tile" },
    el("dt", {}, name),
    el("dd", {}, value, kind, more),
    el("dd", { class: "behind", "aria-hidden": "true" }, spark),
  );
  return {
    node,
    unit: kind,
    set(shown, told = "", tone = "") {
      text(value, shown);
      text(more, told);
      attribute(node, "class", `tile ${tone}`);
    },
    draw(points, now) {
      const line = curve(points, 120, 28, now);
      attribute(path, "d", line);
      attribute(area, "d", line && `${line}V28H${line.slice(1, line.indexOf(" "))}Z`);
    },
  };
}

/** A plain table of few rows: `columns` as of LongTable, without sorting. `none` is what it says
 * where there are no rows. */
export function shortTable(label, columns, none) {
  const body = el("tbody", {});
  const head = el(
    "tr",
    {},
    ...columns.map(({ head: words, kind = "", title }) =>
      el("th", { scope: "col", class: kind, title }, words),
    ),
  );
  const table = el("table", { class: "short", "aria-label": label }, el("thead", {}, head), body);
  const node = el(
    "div",
    { class: "wide", tabindex: "0", role: "region", "aria-label": `${label}, scrolls` },
    table,
  );
  const empty = el("p", { class: "note" }, none);
  node.append(empty);
  const rows = new Keyed(body, () => {
    const cells = columns.map((column) => column.cell());
    const tr = el("tr", {});
    cells.forEach((cell, number) => {
      const { kind = "" } = columns[number];
      const tag = number ? el("td", { class: kind }) : el("th", { scope: "row", class: kind });
      tag.append(cell.node);
      tr.append(tag);
    });
    let last;
    return {
      node: tr,
      update(row, key) {
        if (row === last) return;
        last = row;
        for (const cell of cells) cell.update(row, key);
      },
    };
  });
  return {
    node,
    update(keys, valueOf) {
      shown(empty, keys.length === 0);
      rows.update(keys, valueOf);
    },
  };
}

/** A cell with a text of ours or, `said` true, of somebody else's. */
export const cell = (value, kind = "") => () => {
  const node = el("span", { class: kind });
  return { node, update: (row, key) => text(node, value(row, key)) };
};

/** The name of a thing, isolated, so that its direction stays its own. */
export const named = (value) => () => {
  const node = el("bdi", {});
  return {
    node,
    update(row, key) {
      const words = plain(value(row, key));
      text(node, words);
      attribute(node, "title", words);
    },
  };
};

/** A state's badge. */
export const stateCell = () => {
  const made = badge();
  return { node: made.node, update: (row) => made.state(row.state) };
};

/** A bar with its figure. */
export const meterCell = (share, words, tone = () => "") => () => {
  const made = bar();
  const label = el("span", { class: "figure" });
  const node = el("span", { class: "metered" }, made.node, label);
  return {
    node,
    update(row, key) {
      made.set(share(row, key));
      text(label, words(row, key));
      attribute(node, "class", `metered ${tone(row, key)}`);
    },
  };
};
