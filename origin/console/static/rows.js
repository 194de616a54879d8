// Which rows of a large table are shown and in which order. Pure.

import { stateOf } from "./states.js";

const haystacks = new WeakMap();
const naturals = new Map();
const MAX_NATURALS = 20_000;

/** A name whose numbers sort as numbers, for `<`; remembered, as names stay. */
export function natural(name) {
  let found = naturals.get(name);
  if (found === undefined) {
    if (naturals.size >= MAX_NATURALS) naturals.clear();
    found = name.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(9, "0"));
    naturals.set(name, found);
  }
  return found;
}

/** All that a filter looks at, of one row; a row is never written to, so it is made once. */
function haystack(key, row) {
  let found = haystacks.get(row);
  if (found === undefined) {
    const words = [key];
    for (const name in row) if (typeof row[name] === "string") words.push(row[name]);
    found = words.join("\n").toLowerCase();
    haystacks.set(row, found);
  }
  return found;
}

/** The keys of rows that hold every word of `words`, in one of `states` (all where it is empty). */
export function filtered(table, { words = "", states = [], region = "" }) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [];
  for (const key in table) {
    const row = table[key];
    if (states.length && !states.includes(row.state)) continue;
    if (region && row.region !== region) continue;
    if (wanted.length && !wanted.every((word) => haystack(key, row).includes(word))) continue;
    found.push(key);
  }
  return found;
}

/** `keys` in the order of `value(row, key)`; what has none comes last, equals go by name. */
export function sorted(keys, table, value, descending = false) {
  const sign = descending ? -1 : 1;
  const decorated = keys.map((key) => ({ key, value: value(table[key], key), name: natural(key) }));
  decorated.sort((a, b) => {
    if (a.value === b.value) return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
    if (a.value === undefined || a.value === null || a.value === "") return 1;
    if (b.value === undefined || b.value === null || b.value === "") return -1;
    return a.value < b.value ? -sign : sign;
  });
  return decorated.map(({ key }) => key);
}

/** The order that stood before, with those gone that are gone and new ones at the end: so rows do
 * not move away under somebody's hand. */
export function held(order, keys) {
  const left = new Set(keys);
  const kept = order.filter((key) => left.delete(key));
  return [...kept, ...left];
}

/** What wants a look first: the state, then skew or a node that is apart. */
export const urgency = (row) => stateOf(row.state).rank - (row.apart || row.fault ? 0.5 : 0);
