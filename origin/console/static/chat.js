// One streamed answer: what came, how fast, and what the edge said about it. Pure but for `read`.

import { EventReader } from "./sse.js";

const MAX_SHOWN = 200_000;

/** Server-Timing (W3C) as `[name, milliseconds]`. */
export function timings(header) {
  const found = [];
  for (const part of (header ?? "").split(",").slice(0, 40)) {
    const match = /^\s*([\w.-]+)\s*;.*?\bdur=([\d.]+)/.exec(part);
    if (match) found.push([match[1], Number(match[2])]);
  }
  return found;
}

/** What has been read of an answer. Times are milliseconds of the caller's clock. */
export class Answer {
  text = "";
  pieces = 0;
  usage = null;
  finish = "";
  problem = "";
  done = false;
  firstAt = 0;
  lastAt = 0;

  /** Take one event of the stream. */
  take({ type, data }, now) {
    if (data === "[DONE]") {
      this.done = true;
      return;
    }
    let body;
    try {
      body = JSON.parse(data);
    } catch {
      this.problem = "the answer holds an event that is no JSON";
      return;
    }
    if (type === "error" || body.error) {
      this.problem = String(body.error?.message ?? body.message ?? "the answer broke off").slice(0, 500);
      return;
    }
    this.usage = body.usage ?? this.usage;
    const choice = body.choices?.[0];
    this.finish = choice?.finish_reason ?? this.finish;
    const piece = choice?.delta?.content;
    if (typeof piece !== "string" || piece === "") return;
    if (this.pieces === 0) this.firstAt = now;
    this.pieces += 1;
    this.lastAt = now;
    if (this.text.length < MAX_SHOWN) this.text += piece;
  }

  /** Tokens, by the edge's count or else by the pieces that came. */
  get tokens() {
    return this.usage?.completion_tokens ?? this.pieces;
  }

  /** Tokens a second after the first; null before there are two. */
  get speed() {
    const seconds = (this.lastAt - this.firstAt) / 1000;
    return this.tokens > 1 && seconds > 0 ? (this.tokens - 1) / seconds : null;
  }
}

/** Read a streaming Response into `answer`; `came()` is told of every piece. */
export async function read(response, answer, came) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const events = new EventReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    for (const event of events.feed(value)) answer.take(event, performance.now());
    came();
  }
  if (!answer.done && !answer.problem) answer.problem = "the answer ended without its last event";
}
