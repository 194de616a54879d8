import assert from "node:assert/strict";
import test from "node:test";
import { ago, bytes, count, duration, many, percent, plain, rate, revision } from "./format.js";

const table = (tell, cases) => {
  for (const [value, wanted] of cases) assert.equal(tell(value), wanted, String(value));
};

test("counts", () =>
  table(count, [
    [0, "0"], [0.04, "0.04"], [0.001, "0"], [1.5, "1.5"], [12.34, "12.3"], [999, "999"], [1234, "1,234"],
    [12_345, "12.3 k"], [9_120_331, "9.12 M"], [null, "–"], [undefined, "–"], [NaN, "–"],
  ]));

test("shares", () =>
  table(percent, [
    [0, "0 %"], [1, "100 %"], [0.9871, "98.7 %"], [0.58, "58 %"], [0.0004, "<0.1 %"], [0.9999, ">99.9 %"], [null, "–"],
  ]));

test("bytes", () =>
  table(bytes, [[0, "0 B"], [999, "999 B"], [1000, "1 kB"], [20_900_000, "20.9 MB"], [2e11, "200 GB"], [3e16, "30 PB"], [null, "–"]]));

test("rates", () => table(rate, [[3.1e6, "3.1 MB/s"], [null, "–"]]));

test("durations", () =>
  table(duration, [
    [0, "0 ms"], [0.0001, "<1 µs"], [0.021, "21 µs"], [1.5, "1.5 ms"], [88.4, "88.4 ms"], [142.4, "142 ms"], [999.7, "1 s"],
    [2811, "2.81 s"], [61_000, "1 min 1 s"], [null, "–"],
  ]));

test("long times", () =>
  table(ago, [[0.9, "0 s"], [59, "59 s"], [60, "1 min"], [185, "3 min 5 s"], [5400, "1 h 30 min"], [190_800, "2 d 5 h"], [-3, "0 s"]]));

test("numbers of things", () => {
  assert.equal(many(1, "worker"), "1 worker");
  assert.equal(many(2, "worker"), "2 workers");
});

test("a revision is cut, an empty one is a dash", () => {
  assert.equal(revision("914a8b985f25"), "914a8b98");
  assert.equal(revision(""), "–");
});

test("what does not show is shown", () => {
  assert.equal(plain("gpu-7"), "gpu-7");
  assert.equal(plain("\u202egpj.exe"), "‹202e›gpj.exe");
  assert.equal(plain("a\u200bb\u0000"), "a‹200b›b‹0›");
  assert.equal(plain("\u{e0041}"), "‹e0041›");
  assert.equal(plain("\ud800"), "‹d800›");
  assert.equal(plain("日本 é"), "日本 é");
  assert.equal(plain("x".repeat(400)).length, 161);
  assert.equal(plain(undefined), "");
});
