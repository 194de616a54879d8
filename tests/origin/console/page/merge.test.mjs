import assert from "node:assert/strict";
import test from "node:test";
import { merge, mergeAll } from "./merge.js";

const same = (found, wanted) => assert.deepEqual(JSON.parse(JSON.stringify(found)), wanted);

// RFC 7396, appendix A.
const EXAMPLES = [
  [{ a: "b" }, { a: "c" }, { a: "c" }],
  [{ a: "b" }, { b: "c" }, { a: "b", b: "c" }],
  [{ a: "b" }, { a: null }, {}],
  [{ a: "b", b: "c" }, { a: null }, { b: "c" }],
  [{ a: ["b"] }, { a: "c" }, { a: "c" }],
  [{ a: "c" }, { a: ["b"] }, { a: ["b"] }],
  [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }],
  [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
  [["a", "b"], ["c", "d"], ["c", "d"]],
  [{ a: "b" }, ["c"], ["c"]],
  [{ a: "foo" }, null, null],
  [{ a: "foo" }, "bar", "bar"],
  [{ e: null }, { a: 1 }, { e: null, a: 1 }],
  [[1, 2], { a: "b", c: null }, { a: "b" }],
  [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
];

test("the examples of the RFC", () => {
  for (const [target, patch, wanted] of EXAMPLES) same(merge(target, patch), wanted);
});

test("what a patch does not touch keeps its identity, and nothing is written to", () => {
  const before = merge(null, { edges: { a: { n: 1 }, b: { n: 2 } }, workers: { c: { n: 3 } } });
  const after = merge(before, { edges: { a: { n: 9 } } });
  assert.equal(after.workers, before.workers);
  assert.equal(after.edges.b, before.edges.b);
  assert.notEqual(after.edges, before.edges);
  assert.equal(before.edges.a.n, 1);
  assert.equal(after.edges.a.n, 9);
});

test("many patches at once are as one after another, and copy no more than once", () => {
  const before = merge(null, { edges: { a: { n: 1 }, b: { n: 2 } } });
  const patches = [{ edges: { a: { n: 2 } } }, { edges: { a: null, c: { n: 1 } } }, { edges: { a: { m: 3 } } }];
  same(mergeAll(before, patches), { edges: { a: { m: 3 }, b: { n: 2 }, c: { n: 1 } } });
  same(before, { edges: { a: { n: 1 }, b: { n: 2 } } });
  same(patches, [{ edges: { a: { n: 2 } } }, { edges: { a: null, c: { n: 1 } } }, { edges: { a: { m: 3 } } }]);
  assert.equal(mergeAll(before, []), before);
});

test("a name such as __proto__ is a name like others", () => {
  const patch = JSON.parse('{"edges": {"__proto__": {"bad": 1}, "constructor": {"n": 2}}}');
  const state = merge(null, patch);
  assert.deepEqual(Object.keys(state.edges), ["__proto__", "constructor"]);
  assert.equal({}.bad, undefined);
  const gone = merge(state, JSON.parse('{"edges": {"__proto__": null}}'));
  assert.deepEqual(Object.keys(gone.edges), ["constructor"]);
});
