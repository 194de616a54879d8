// Server-sent events out of pieces of text, as they come (WHATWG HTML, 9.2.6). Pure.
// The live state comes by EventSource; this is for answers to POST, which that cannot do.

const MAX_HELD = 1_000_000;

export class EventReader {
  #held = "";
  #data = [];
  #type = "";

  /** The events that `piece` completes: `{type, data}`. Throws where a line has no end. */
  feed(piece) {
    const events = [];
    // A CR at the end may be half of a CRLF: it waits for what follows.
    const lines = (this.#held + piece).split(/\r\n|\n|\r(?!$)/);
    this.#held = lines.pop();
    if (this.#held.length > MAX_HELD) throw new Error("a line of the answer has no end");
    for (const line of lines) this.#line(line, events);
    return events;
  }

  #line(line, events) {
    if (line === "") {
      if (this.#data.length)
        events.push({ type: this.#type || "message", data: this.#data.join("\n") });
      this.#data = [];
      this.#type = "";
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#type = value;
  }
}
