import assert from "node:assert/strict";
import test from "node:test";
import { Answer, read, timings } from "./chat.js";
import { passing } from "./clock.js";
import { backoff, Live, SILENT_MS } from "./live.js";
import { EventReader } from "./sse.js";

const STREAM = ': hello\r\ndata: {"a":1}\n\nevent: error\rdata: x\r\rdata: one\ndata:two\n\nid: 7\n\ndata: [DONE]\n\n';
const EVENTS = [
  { type: "message", data: '{"a":1}' },
  { type: "error", data: "x" },
  { type: "message", data: "one\ntwo" },
  { type: "message", data: "[DONE]" },
];

test("events are the same wherever the stream is cut", () => {
  for (let at = 0; at <= STREAM.length; at++) {
    const reader = new EventReader();
    const found = [...reader.feed(STREAM.slice(0, at)), ...reader.feed(STREAM.slice(at))];
    assert.deepEqual(found, EVENTS, `cut at ${at}`);
  }
  const reader = new EventReader();
  assert.deepEqual([...STREAM].flatMap((letter) => reader.feed(letter)), EVENTS);
});

test("a line without an end is not held for ever", () => {
  const reader = new EventReader();
  assert.throws(() => reader.feed("x".repeat(1_000_001)), /no end/);
});

const piece = (content) => ({ type: "message", data: JSON.stringify({ choices: [{ delta: { content } }] }) });

test("an answer counts its tokens and their speed", () => {
  const answer = new Answer();
  answer.take(piece("Par"), 1000);
  answer.take(piece("is"), 1500);
  answer.take(piece("."), 2000);
  assert.equal(answer.text, "Paris.");
  assert.equal(answer.speed, 2);
  answer.take({ type: "message", data: '{"usage":{"completion_tokens":11},"choices":[]}' }, 2100);
  assert.equal(answer.tokens, 11);
  assert.equal(answer.speed, 10);
  answer.take({ type: "message", data: "[DONE]" }, 2200);
  assert.ok(answer.done);
});

test("an error in the stream is told, and so is nonsense", () => {
  const answer = new Answer();
  answer.take({ type: "error", data: '{"error":{"message":"the worker left"}}' }, 0);
  assert.equal(answer.problem, "the worker left");
  const other = new Answer();
  other.take({ type: "message", data: "{" }, 0);
  assert.match(other.problem, /no JSON/);
});

test("a stream that just ends is told", async () => {
  const answer = new Answer();
  await read(new Response(`data: ${piece("Hi").data}\n\n`), answer, () => {});
  assert.equal(answer.text, "Hi");
  assert.match(answer.problem, /without its last event/);
});

test("Server-Timing is read", () => {
  assert.deepEqual(timings('auth;dur=0.021, first;desc="a b";dur=88.4, broken, x;dur=z'), [["auth", 0.021], ["first", 88.4]]);
  assert.deepEqual(timings(null), []);
});

test("tries are spread, further and further apart, and never rarer than half a minute", () => {
  assert.equal(backoff(0, 1), 500);
  assert.equal(backoff(0, 0), 250);
  assert.equal(backoff(3, 1), 4000);
  for (const attempt of [7, 50, 1e9]) assert.equal(backoff(attempt, 1), 30_000);
});

/** A browser with a clock that stands still until it is moved. */
class World {
  clock = 0;
  timers = new Map();
  sources = [];
  loggedIn = true;
  #number = 0;
  now = () => this.clock;
  random = () => 1;
  session = async () => this.loggedIn;
  clear = (timer) => this.timers.delete(timer);
  after = (ms, then) => {
    this.timers.set(++this.#number, { at: this.clock + ms, then });
    return this.#number;
  };
  open = () => {
    const source = new EventTarget();
    source.close = () => (source.closed = true);
    source.send = (type, body) => source.dispatchEvent(Object.assign(new Event(type), { data: JSON.stringify(body) }));
    this.sources.push(source);
    return source;
  };
  async pass(ms) {
    this.clock += ms;
    for (const [timer, { at, then }] of [...this.timers])
      if (at <= this.clock && this.timers.delete(timer)) then();
    await new Promise(setImmediate);
  }
  get source() {
    return this.sources.at(-1);
  }
}

const started = () => {
  const world = new World();
  const told = [];
  const live = new Live(world, (what) => told.push(what));
  live.start();
  return { world, live, told };
};

test("a state, then patches; a patch before any state is not believed", () => {
  const { world, live } = started();
  world.source.send("patch", { a: 1 });
  assert.equal(live.state, null);
  world.source.send("state", { edges: { a: { n: 1 } } });
  world.source.send("patch", { edges: { a: null, b: { n: 2 } } });
  assert.deepEqual(JSON.parse(JSON.stringify(live.state)), { edges: { b: { n: 2 } } });
  assert.equal(live.status, "live");
});

test("a broken stream is tried again, later each time, until it is back", async () => {
  const { world, live } = started();
  world.source.send("state", {});
  world.source.dispatchEvent(new Event("error"));
  await world.pass(0);
  assert.equal(live.status, "waiting");
  assert.ok(world.sources[0].closed);
  await world.pass(500);
  assert.equal(world.sources.length, 2);
  world.source.dispatchEvent(new Event("error"));
  await world.pass(0);
  assert.equal(live.retryAt - world.clock, 1000);
  assert.ok(live.state, "what was known stays on the page");
  await world.pass(1000);
  world.source.send("state", {});
  assert.equal(live.status, "live");
});

test("a stream that is silent for long is given up", async () => {
  const { world, live } = started();
  world.source.send("state", {});
  await world.pass(SILENT_MS - 1);
  assert.equal(live.status, "live");
  await world.pass(1);
  assert.equal(live.status, "waiting");
});

test("where the session has ended, a login is asked for", async () => {
  const { world, live } = started();
  world.loggedIn = false;
  world.source.dispatchEvent(new Event("error"));
  await world.pass(0);
  assert.equal(live.status, "login");
  await world.pass(60_000);
  assert.equal(world.sources.length, 1);
});

test("a network that is back is tried at once; one that works is left alone", async () => {
  const { world, live } = started();
  live.nudge();
  assert.equal(world.sources.length, 1);
  world.source.dispatchEvent(new Event("error"));
  await world.pass(0);
  live.nudge();
  assert.equal(world.sources.length, 2);
});

test("the error of an older stream does not end the newer one", async () => {
  const { world, live } = started();
  const [first] = world.sources;
  live.start();
  first.dispatchEvent(new Event("error"));
  await world.pass(0);
  assert.ok(!world.source.closed);
  assert.equal(live.status, "connecting");
});

test("time only passes: over a sleep, and however the clock is set", () => {
  const at = { wall: 5_000, steady: 0 };
  const now = passing(() => at.wall, () => at.steady);
  assert.equal(now(), 5_000);
  Object.assign(at, { wall: 6_000, steady: 1_000 });
  assert.equal(now(), 6_000);
  Object.assign(at, { wall: 6_000 - 3_600_000, steady: 2_000 }); // set back by an hour
  assert.equal(now(), 7_000);
  Object.assign(at, { wall: at.wall + 60_000, steady: 2_010 }); // a minute of sleep
  assert.equal(now(), 67_000);
  assert.equal(now(), 67_000);
});
