// A table of thousands of rows that has only those in its document that are in sight. It is a real
// table; `aria-rowcount` and `aria-rowindex` say what is not there. Arrow keys walk its links.

import { attribute, el, text } from "./dom.js";

const SPARE = 6;
const STEPS = new Map([["ArrowDown", 1], ["ArrowUp", -1], ["PageDown", 12], ["PageUp", -12]]);

export class LongTable {
  #columns;
  #keys = [];
  #rows = {};
  #slots = [];
  #active = 0;
  #rowHeight = 32;
  #heads = new Map();

  /** `columns`: `{name, head, title, kind, sort, cell() → {node, update(row, key)}}`; the first
   * one's cell is or holds the row's link. `sorted(name)` hears that a head was pressed. */
  constructor({ label, columns, sorted, scrolled }) {
    this.#columns = columns;
    this.top = el("tr", { class: "spacer", "aria-hidden": "true" }, el("td", {}));
    this.bottom = el("tr", { class: "spacer", "aria-hidden": "true" }, el("td", {}));
    this.body = el("tbody", {}, this.top, this.bottom);
    this.table = el("table", { class: "long", "aria-label": label }, this.#head(sorted), this.body);
    this.scroller = el(
      "div",
      {
        class: "scroller",
        tabindex: "0",
        role: "region",
        "aria-label": `${label}, scrolls`,
        on: { scroll: scrolled, keydown: (event) => this.#key(event) },
      },
      this.table,
    );
    this.none = el("p", { class: "note", hidden: true });
    this.node = el("div", {}, this.scroller, this.none);
  }

  /** Whether somebody is in it with the focus or the pointer: then rows should not move. */
  get inUse() {
    return this.scroller.matches(":hover") || this.body.contains(document.activeElement);
  }

  set(keys, rows) {
    this.#keys = keys;
    this.#rows = rows;
    this.#active = Math.min(this.#active, Math.max(0, keys.length - 1));
    attribute(this.table, "aria-rowcount", keys.length + 1);
    this.none.hidden = keys.length > 0;
    this.scroller.hidden = keys.length === 0;
    text(this.none, Object.keys(rows).length ? "Nothing fits this filter." : "None is known yet.");
  }

  /** Say at the heads what the rows are sorted by. */
  order(name, descending) {
    for (const [column, { head, sign }] of this.#heads) {
      const mine = column === name;
      attribute(head, "aria-sort", mine ? (descending ? "descending" : "ascending") : null);
      text(sign, mine ? (descending ? "▾" : "▴") : "");
    }
  }

  paint() {
    const height = this.scroller.clientHeight || 480;
    const scrolled = this.scroller.scrollTop;
    const measured = this.#slots[0]?.tr.offsetHeight;
    if (measured) this.#rowHeight = measured;
    const total = this.#keys.length;
    const most = Math.min(total, Math.ceil(height / this.#rowHeight) + 2 * SPARE);
    const first = Math.max(
      0,
      Math.min(Math.floor(scrolled / this.#rowHeight) - SPARE, total - most),
    );
    this.#grow(most);
    this.#pad(this.top, first * this.#rowHeight);
    this.#pad(this.bottom, (total - first - most) * this.#rowHeight);
    this.#leave(first, most);
    this.#slots.forEach((slot, number) => this.#fill(slot, first + number));
  }

  #head(sorted) {
    const heads = this.#columns.map(({ name, head, title, kind = "", sort }) => {
      if (!sort) return el("th", { scope: "col", class: kind, title }, head);
      const sign = el("span", { class: "sign", "aria-hidden": "true" });
      const press = { type: "button", title, on: { click: () => sorted(name) } };
      const th = el("th", { scope: "col", class: kind }, el("button", press, head, sign));
      this.#heads.set(name, { head: th, sign });
      return th;
    });
    return el("thead", {}, el("tr", { "aria-rowindex": "1" }, ...heads));
  }

  #grow(most) {
    while (this.#slots.length > most) this.#slots.pop().tr.remove();
    while (this.#slots.length < most) {
      const cells = this.#columns.map((column) => column.cell());
      const tr = el("tr", {});
      cells.forEach(({ node }, number) => {
        const { kind = "" } = this.#columns[number];
        const tag = number ? el("td", { class: kind }) : el("th", { scope: "row", class: kind });
        tag.append(node);
        tr.append(tag);
      });
      this.#slots.push({ tr, cells, link: tr.querySelector("a"), index: -1, key: null, row: null });
      this.body.insertBefore(tr, this.bottom);
    }
  }

  #fill(slot, index) {
    const key = this.#keys[index];
    const row = this.#rows[key];
    slot.link.tabIndex = index === this.#active ? 0 : -1;
    if (slot.index !== index) {
      slot.index = index;
      slot.tr.setAttribute("aria-rowindex", index + 2);
      slot.tr.classList.toggle("odd", index % 2 === 1);
    }
    if (slot.key === key && slot.row === row) return;
    slot.key = key;
    slot.row = row;
    for (const cell of slot.cells) cell.update(row, key);
  }

  /** Where the row with the focus scrolls out of sight, the focus goes to the table. */
  #leave(first, most) {
    const out = this.#active < first || this.#active >= first + most;
    if (out && this.body.contains(document.activeElement))
      this.scroller.focus({ preventScroll: true });
    if (out && !this.scroller.contains(document.activeElement)) this.#active = first;
  }

  #pad(spacer, pixels) {
    const height = `${Math.max(0, pixels)}px`;
    const cell = spacer.firstChild;
    if (cell.style.height !== height) cell.style.height = height;
    spacer.hidden = pixels <= 0;
  }

  #key(event) {
    const inRows = this.body.contains(event.target);
    let wanted;
    if (event.key === "Home") wanted = 0;
    else if (event.key === "End") wanted = this.#keys.length - 1;
    else if (STEPS.has(event.key) && inRows) wanted = this.#active + STEPS.get(event.key);
    else return;
    if (event.ctrlKey || event.metaKey || event.altKey || !inRows) return;
    event.preventDefault();
    this.#go(Math.max(0, Math.min(this.#keys.length - 1, wanted)));
  }

  #go(index) {
    this.#active = index;
    const head = this.table.tHead.offsetHeight;
    const room = this.scroller.clientHeight - head - this.#rowHeight;
    const top = index * this.#rowHeight;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    else if (top > this.scroller.scrollTop + room) this.scroller.scrollTop = top - room;
    this.paint();
    this.#slots.find((slot) => slot.index === index)?.link.focus({ preventScroll: true });
  }
}
