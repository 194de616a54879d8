// Ask the fleet something, and see which way it went and why. The API key stays in its input: it is
// written nowhere, and is gone with the page.

import { chat, playground } from "./api.js";
import { Answer, read, timings } from "./chat.js";
import { el, shown, text } from "./dom.js";
import { count, duration, plain } from "./format.js";
import { bar, heading } from "./parts.js";
import { Painter } from "./paint.js";

export class PlaygroundView {
  #stop = null;
  #answer = new Answer();
  #began = 0;
  #offered = new Map();

  constructor() {
    this.painter = new Painter(() => this.#show());
    this.#form();
    this.none = el("p", { class: "note" }, "The answer appears here, with the way that it went and why.");
    this.out = el("div", { class: "answer", tabindex: "0", role: "region", "aria-label": "Text of the answer" });
    this.status = el("p", { class: "hint", role: "status" });
    this.problem = el("p", { class: "problem", role: "alert" });
    this.facts = el("dl", { class: "facts" });
    this.stages = el("dl", { class: "timings", "aria-label": "Stages of the edge" });
    const told = el("div", { class: "told-of" }, this.facts, this.stages);
    this.said = el("section", { class: "card", "aria-label": "The answer" }, this.status, this.problem, this.none, this.out, told);
    shown(this.out, false);
    this.node = el("div", { class: "view" }, heading("Playground"), el("div", { class: "halves" }, this.form, this.said));
  }

  go() {
    this.#choices();
  }

  update() {}

  /** Forget the key and the answer: somebody logged out. */
  forget() {
    this.#stop?.abort();
    this.key.value = "";
  }

  /** Which edges there are, and what they offer to the key that was typed. */
  async #choices() {
    let offered = [];
    let problem = "";
    try {
      offered = (await playground(this.key.value)).edges;
      if (!offered.length) problem = "No edge is configured that could be asked.";
    } catch (error) {
      problem = error.message;
    }
    this.#offered = new Map(offered.map((edge) => [edge.url, edge]));
    const had = this.edge.value;
    const names = [...this.#offered.keys()];
    this.edge.replaceChildren(...names.map((name) => el("option", { value: name }, plain(name))));
    if (names.includes(had)) this.edge.value = had;
    this.send.disabled = !names.length;
    this.#models(problem);
  }

  #models(problem) {
    const { models = [], problem: refused = "" } = this.#offered.get(this.edge.value) ?? {};
    const names = ["auto", ...models.filter((name) => name !== "auto")];
    this.models.replaceChildren(...names.map((name) => el("option", { value: name })));
    text(this.problem, plain(problem || refused));
  }

  #form() {
    this.edge = el("select", { id: "edge", on: { change: () => this.#models("") } });
    this.model = el("input", { id: "model", list: "models", value: "auto", required: true, autocomplete: "off", spellcheck: "false" });
    this.models = el("datalist", { id: "models" });
    this.key = el("input", { id: "key", type: "password", required: true, autocomplete: "off", spellcheck: "false", "aria-describedby": "key-told", on: { change: () => this.#choices() } });
    this.prompt = el("textarea", { id: "prompt", rows: "6", required: true, on: { keydown: (event) => this.#keyed(event) } });
    this.most = el("input", { id: "most", type: "number", min: "1", max: "100000", value: "256", inputmode: "numeric" });
    this.send = el("button", { type: "submit", class: "primary" }, "Send");
    this.halt = el("button", { type: "button", hidden: true, on: { click: () => this.#stop?.abort() } }, "Stop");
    const field = (id, words, input, ...more) => el("p", { class: "field" }, el("label", { for: id }, words), input, ...more);
    const submit = (event) => {
      event.preventDefault();
      this.#ask();
    };
    this.form = el(
      "form",
      { class: "card ask", on: { submit } },
      field("edge", "Edge", this.edge),
      field("model", "Model", this.model, this.models),
      field("key", "API key", this.key, el("span", { class: "hint", id: "key-told" }, "Kept in this page only, until it closes.")),
      field("most", "Tokens at most", this.most),
      field("prompt", "Prompt", this.prompt),
      el("p", { class: "buttons" }, this.send, this.halt, el("span", { class: "hint" }, "Ctrl + Enter sends.")),
    );
  }

  #keyed(event) {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    this.form.requestSubmit();
  }

  async #ask() {
    if (this.#stop) return;
    const stop = (this.#stop = new AbortController());
    const answer = (this.#answer = new Answer());
    this.#began = performance.now();
    shown(this.none, false);
    shown(this.out, true);
    this.#running(true);
    let ended = "";
    try {
      const response = await chat(this.#body(), { edge: this.edge.value, key: this.key.value, signal: stop.signal });
      this.#told(response.headers);
      await read(response, answer, () => this.painter.soon());
      ended = answer.problem ? "Broke off." : "Done.";
    } catch (error) {
      if (error.name === "AbortError") ended = "Stopped.";
      else answer.problem = error.message;
    }
    this.#stop = null;
    this.#running(false);
    this.painter.now();
    text(this.status, [ended, this.#figures()].filter(Boolean).join(" "));
  }

  #body() {
    return {
      model: this.model.value,
      messages: [{ role: "user", content: this.prompt.value }],
      max_tokens: Number(this.most.value) || 256,
      stream: true,
      stream_options: { include_usage: true },
    };
  }

  #running(whether) {
    shown(this.halt, whether);
    this.send.disabled = whether;
    if (!whether) return;
    text(this.status, "Waiting for the first token …");
    text(this.problem, "");
    this.out.replaceChildren();
    this.facts.replaceChildren();
    this.stages.replaceChildren();
  }

  #show() {
    const answer = this.#answer;
    text(this.out, answer.text);
    this.out.scrollTop = this.out.scrollHeight;
    text(this.problem, plain(answer.problem));
    if (answer.pieces && this.#stop) text(this.status, "Answering …");
  }

  #figures() {
    const { pieces, firstAt, tokens, speed, finish } = this.#answer;
    if (!pieces) return "";
    const facts = [`First token after ${duration(firstAt - this.#began)}`, `${count(tokens)} tokens`];
    if (speed) facts.push(`${count(speed)} tokens/s`);
    if (finish) facts.push(`ended by ${plain(finish)}`);
    return `${facts.join(" · ")}.`;
  }

  #told(headers) {
    const facts = [
      ["Route", headers.get("x-headwater-route")],
      ["Worker", headers.get("x-headwater-worker")],
      ["Why", headers.get("x-headwater-plan")],
      ["Revision", headers.get("x-model-digest")],
      ["Request", headers.get("x-request-id")],
    ];
    this.facts.replaceChildren(
      ...facts.filter(([, value]) => value).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, el("bdi", {}, plainLong(value)))]),
    );
    const stages = timings(headers.get("server-timing"));
    const most = Math.max(0.001, ...stages.map(([, ms]) => ms));
    this.stages.replaceChildren(
      ...stages.flatMap(([name, ms]) => {
        const meter = bar("busy");
        meter.set(ms / most);
        return [el("dt", {}, name), el("dd", {}, meter.node, el("span", { class: "figure" }, duration(ms)))];
      }),
    );
  }
}

/** A header's text, which may be longer than a name. */
const plainLong = (value) => value.match(/[^]{1,150}/g).map(plain).join("");
