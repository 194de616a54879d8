// A worker is chosen by its name, and what the origin tells of its waterfalls is shown: that of its
// boot in one view, that of its latest roll in another.

import { boots } from "./api.js";
import { attribute, el, text } from "./dom.js";
import { plain } from "./format.js";
import { natural } from "./rows.js";

const MOST_OFFERED = 500;
const ANEW_MS = 2000;

export class WorkerPicker {
  #worker = "";
  #workers = null;
  #asked = 0;
  #askedAt = 0;
  #goesOn = false;
  #id;
  #found = [];
  #drawn = "[]";

  /** `words` say what is shown: `{hint, none(worker)}`. `place(worker)` is its address, `some` keeps
   * what is to be shown of the list, `goesOn` whether it will change, `panel` draws one. */
  constructor({ id, words, place, some, panel, goesOn = () => false }) {
    Object.assign(this, { words, some, panel, goesOn });
    this.#id = id;
    this.options = el("datalist", { id: `${id}-known` });
    this.box = el("input", {
      id,
      class: "worker",
      list: `${id}-known`,
      autocomplete: "off",
      spellcheck: "false",
      placeholder: "name of a worker",
    });
    const submit = (event) => {
      event.preventDefault();
      const there = place(this.box.value.trim());
      if (location.hash === there) this.#load(false);
      else location.hash = there;
    };
    this.told = el("p", { class: "note", role: "status" });
    this.shown = el("div", { class: "panels" });
    this.node = el(
      "div",
      { class: "picker" },
      el(
        "form",
        { class: "filters", on: { submit } },
        el("label", { for: id }, "Worker"),
        this.box,
        this.options,
        el("button", { type: "submit" }, "Show"),
      ),
      this.told,
      this.shown,
    );
  }

  /** Whether what was asked for is there, or is known not to be. */
  get settled() {
    return !this.node.hasAttribute("aria-busy");
  }

  go(worker) {
    this.#worker = worker;
    this.box.value = worker;
    this.#load(false);
  }

  /** Nobody looks. */
  leave() {
    this.#goesOn = false;
    this.#asked++;
  }

  update(workers = {}) {
    const names = new Set(Object.keys(workers).map((key) => key.split("/")[0]));
    const known = [...names].sort((a, b) => (natural(a) < natural(b) ? -1 : 1)).slice(0, MOST_OFFERED);
    const joined = known.join("\n");
    if (joined !== this.#workers) {
      this.#workers = joined;
      this.options.replaceChildren(...known.map((name) => el("option", { value: name })));
      if (!this.#worker) text(this.told, names.size ? this.words.hint : "No worker is known.");
    }
    this.#draw();
    if (this.#goesOn && performance.now() - this.#askedAt > ANEW_MS) this.#load(true);
  }

  /** `again`: what is shown stays until there is something new. */
  async #load(again) {
    const asked = ++this.#asked;
    this.#goesOn = false;
    this.#askedAt = performance.now();
    if (!again) {
      this.#found = [];
      this.#drawn = "[]";
      this.shown.replaceChildren();
      text(this.told, this.#worker ? "Loading …" : this.words.hint);
      attribute(this.node, "aria-busy", this.#worker ? "true" : null);
    }
    if (!this.#worker) return;
    let found = [];
    let problem = "";
    try {
      found = this.some(await boots(this.#worker));
    } catch (error) {
      problem = plain(error.message);
    }
    if (asked !== this.#asked) return;
    attribute(this.node, "aria-busy", null);
    // What goes on is asked for again, also where this time nobody answered.
    this.#goesOn = again && problem ? true : found.some(this.goesOn);
    text(this.told, problem || (found.length ? "" : this.words.none(plain(this.#worker))));
    if (!problem) this.#found = found;
    this.#draw();
  }

  /** What somebody has the focus in stays as it is until they leave it. */
  #draw() {
    const told = JSON.stringify(this.#found);
    if (told === this.#drawn || this.shown.contains(document.activeElement)) return;
    this.#drawn = told;
    const open = [...this.shown.querySelectorAll("details")].map((details) => details.open);
    this.shown.replaceChildren(...this.#found.map((one) => this.panel(one, this.#id)));
    this.shown.querySelectorAll("details").forEach((details, number) => {
      details.open = Boolean(open[number]);
    });
  }
}
