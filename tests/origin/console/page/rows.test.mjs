import assert from "node:assert/strict";
import test from "node:test";
import { filtered, held, natural, sorted, urgency } from "./rows.js";
import { skew, stateOf, tally } from "./states.js";

const WORKERS = {
  "gpu-10/chat": { state: "ready", region: "eu", busy: 3, revision: "aaaa" },
  "gpu-9/chat": { state: "failed", region: "us", busy: null, revision: "bbbb", reason: "Out of memory" },
  "gpu-2/embed": { state: "ready", region: "eu", busy: 1, revision: "aaaa", apart: "older" },
};

test("a filter wants every word, anywhere in the row", () => {
  assert.deepEqual(filtered(WORKERS, { words: "MEMORY us" }), ["gpu-9/chat"]);
  assert.deepEqual(filtered(WORKERS, { words: "aaaa" }).length, 2);
  assert.deepEqual(filtered(WORKERS, { states: ["failed"] }), ["gpu-9/chat"]);
  assert.deepEqual(filtered(WORKERS, { region: "eu", words: "chat" }), ["gpu-10/chat"]);
  assert.deepEqual(filtered(WORKERS, {}).length, 3);
  assert.deepEqual(filtered(WORKERS, { words: "nothing like it" }), []);
});

test("numbers in names sort as numbers", () => {
  assert.ok(natural("gpu-2") < natural("gpu-10"));
  const keys = Object.keys(WORKERS);
  assert.deepEqual(sorted(keys, WORKERS, () => 0), ["gpu-2/embed", "gpu-9/chat", "gpu-10/chat"]);
});

test("what has no value comes last, both ways", () => {
  const keys = Object.keys(WORKERS);
  const busy = (row) => row.busy;
  assert.deepEqual(sorted(keys, WORKERS, busy), ["gpu-2/embed", "gpu-10/chat", "gpu-9/chat"]);
  assert.deepEqual(sorted(keys, WORKERS, busy, true), ["gpu-10/chat", "gpu-2/embed", "gpu-9/chat"]);
});

test("what is wrong comes first, and who is apart before who is well", () => {
  const keys = Object.keys(WORKERS);
  assert.deepEqual(sorted(keys, WORKERS, urgency), ["gpu-9/chat", "gpu-2/embed", "gpu-10/chat"]);
});

test("an order that is held keeps its rows where they are", () => {
  assert.deepEqual(held(["c", "a", "b"], ["a", "b", "d"]), ["a", "b", "d"]);
  assert.deepEqual(held(["c", "a"], ["a", "b", "c"]), ["c", "a", "b"]);
  assert.deepEqual(held([], ["a"]), ["a"]);
});

test("states are counted, the worst first; one that is not known is said to be so", () => {
  const strange = { a: { state: "constructor" }, b: { state: "ready" } };
  assert.deepEqual(tally(strange, WORKERS), [["failed", 1], ["unknown", 1], ["ready", 3]]);
  assert.equal(stateOf("__proto__").word, "unknown");
});

test("skew is summed over the channels", () => {
  assert.equal(skew({ "a@stable": 2, "b@stable": 1 }), 3);
  assert.equal(skew(undefined), 0);
});
