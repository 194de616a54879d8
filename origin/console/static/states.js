// The states of nodes: a word, a sign that needs no colour, a tone, and how soon they want a look.

const STATES = new Map([
  ["failed", { word: "failed", sign: "✕", tone: "bad", rank: 0 }],
  ["missing", { word: "missing", sign: "✕", tone: "bad", rank: 1 }],
  ["not_ready", { word: "not ready", sign: "▲", tone: "warn", rank: 2 }],
  ["unheard", { word: "unheard", sign: "?", tone: "warn", rank: 3 }],
  ["draining", { word: "draining", sign: "◐", tone: "busy", rank: 4 }],
  ["booting", { word: "booting", sign: "◔", tone: "busy", rank: 5 }],
  ["left", { word: "left", sign: "○", tone: "idle", rank: 6 }],
  ["asleep", { word: "asleep", sign: "◌", tone: "idle", rank: 7 }],
  ["ready", { word: "ready", sign: "●", tone: "ok", rank: 8 }],
]);
const UNKNOWN = { word: "unknown", sign: "?", tone: "warn", rank: 3 };

/** What is shown of a state; a state that this page does not know is shown as such. */
export const stateOf = (name) => STATES.get(name) ?? UNKNOWN;

/** Of several rows, how many are in which state; the worst state first. */
export function tally(...tables) {
  const counts = new Map();
  for (const table of tables)
    for (const key in table) {
      const state = STATES.has(table[key].state) ? table[key].state : "unknown";
      counts.set(state, (counts.get(state) ?? 0) + 1);
    }
  return [...counts].sort((a, b) => stateOf(a[0]).rank - stateOf(b[0]).rank);
}

/** The skew of an edge: how many sequences its pointers are behind, summed up. */
export function skew(behind) {
  let sum = 0;
  for (const channel in behind) sum += behind[channel];
  return sum;
}

/** The stages of a roll, in order; `aborting`, `aborted` and `superseded` end it early. */
export const ROLL_STAGES = ["preheating", "canary", "observing", "promoting", "rolling", "done"];

/** The tone of a roll's stage. */
export function rollTone(stage) {
  if (stage === "done") return "ok";
  if (stage === "aborting" || stage === "aborted") return "bad";
  return stage === "superseded" ? "idle" : "busy";
}
