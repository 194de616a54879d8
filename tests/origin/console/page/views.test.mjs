import assert from "node:assert/strict";
import test from "node:test";
import { byRegion, inWords, sideFor } from "./heat.js";
import { curve, History } from "./history.js";
import { hash, parse } from "./router.js";
import { rowsOf, ticks } from "./waterfall.js";

test("places survive their address, whatever a name holds", () => {
  for (const name of ["gpu-1/chat", "a b", "ü?&=#/%", "<img>", "__proto__"]) {
    const place = parse(hash("fleet", ["workers", name], { words: name, state: "" }));
    assert.deepEqual(place, { view: "fleet", parts: ["workers", name], query: { words: name } });
  }
});

test("an address that somebody typed does not throw", () => {
  assert.deepEqual(parse(""), { view: "", parts: [], query: {} });
  assert.equal(parse("#/fleet/%zz").parts[0], "%zz");
  assert.equal(parse("#/a?b?c").view, "a");
});

test("a history keeps a few minutes and one point a second", () => {
  const history = new History();
  assert.ok(history.sample(0, { a: 1, name: "x" }));
  assert.ok(!history.sample(0.5, { a: 2 }));
  for (let second = 1; second < 1000; second++) history.sample(second, { a: second });
  assert.ok(history.of("a").length <= 152);
  assert.equal(history.of("a").at(-1)[1], 999);
  assert.deepEqual(history.of("name"), []);
});

test("a curve stays inside its box", () => {
  assert.equal(curve([], 120, 28, 0), "");
  assert.equal(curve([[1, 1]], 120, 28, 1), "");
  const points = [[0, 0], [50, 5], [100, 10]];
  const numbers = curve(points, 120, 28, 100).match(/[\d.]+/g).map(Number);
  assert.deepEqual(numbers, [0, 27, 60, 15.2, 120, 3.4]);
  assert.ok(!curve([[0, 0], [1, 0]], 120, 28, 1).includes("NaN"));
});

test("ticks are round and within the whole", () => {
  assert.deepEqual(ticks(2811), [0, 500, 1000, 1500, 2000, 2500]);
  assert.deepEqual(ticks(0), [0]);
  assert.deepEqual(ticks(NaN), [0]);
  for (const whole of [0.003, 1, 7, 59, 1e7]) {
    const found = ticks(whole);
    assert.ok(found.length >= 2 && found.length <= 8 && found.at(-1) <= whole * 1.001, `${whole}: ${found}`);
  }
});

test("parts stand under their step, once; a part without its step stands alone", () => {
  const span = (name, start_ms, length_ms = 1) => ({ name, start_ms, length_ms });
  const spans = [span("pull: trust", 3), span("load", 9), span("pull", 2, 5), span("probe: x", 20), span("pull: chunks", 4)];
  assert.deepEqual(rowsOf(spans).map(({ label, inner }) => [label, inner]), [
    ["pull", false], ["trust", true], ["chunks", true], ["load", false], ["probe: x", false],
  ]);
  const twice = [span("load", 0), span("load", 5), span("load: map", 1)];
  assert.deepEqual(rowsOf(twice).map(({ label }) => label), ["load", "map", "load"]);
  assert.equal(rowsOf(Array.from({ length: 5000 }, (_, n) => span(`s${n}`, n))).length, 200);
});

test("nodes are grouped by region, edges first, and told in words", () => {
  const edges = { e: { region: "eu", state: "ready" } };
  const workers = { w: { region: "eu", state: "failed" }, v: { region: "us", state: "ready" } };
  const found = byRegion(edges, workers);
  assert.deepEqual([...found.keys()], ["eu", "us"]);
  assert.deepEqual(found.get("eu").map(([kind, key]) => [kind, key]), [["edges", "e"], ["workers", "w"]]);
  assert.equal(inWords(edges, workers), "1 failed, 2 ready");
  assert.ok(sideFor(5000) < sideFor(100));
});
