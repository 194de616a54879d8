// What a worker's boot spent its time on.

import { boots } from "./api.js";
import { attribute, el, text } from "./dom.js";
import { duration, plain, revision } from "./format.js";
import { heading } from "./parts.js";
import { hash } from "./router.js";
import { natural } from "./rows.js";
import { asTable, drawing } from "./waterfall.js";

const MOST_OFFERED = 500;

export class BootsView {
  #worker = "";
  #workers = null;
  #asked = 0;

  constructor() {
    this.options = el("datalist", { id: "workers" });
    this.box = el("input", {
      id: "worker",
      list: "workers",
      autocomplete: "off",
      spellcheck: "false",
      placeholder: "name of a worker",
    });
    const submit = (event) => {
      event.preventDefault();
      const place = hash("boots", [this.box.value.trim()].filter(Boolean));
      if (location.hash === place) this.#load();
      else location.hash = place;
    };
    const form = el(
      "form",
      { class: "filters", on: { submit } },
      el("label", { for: "worker" }, "Worker"),
      this.box,
      this.options,
      el("button", { type: "submit" }, "Show"),
    );
    this.told = el("p", { class: "note", role: "status" });
    this.boots = el("div", {});
    this.node = el("div", { class: "view" }, heading("Boots"), form, this.told, this.boots);
  }

  go({ parts }) {
    this.#worker = parts[0] ?? "";
    this.box.value = this.#worker;
    this.#load();
  }

  update({ workers = {} }) {
    const names = new Set(Object.keys(workers).map((key) => key.split("/")[0]));
    const known = [...names].sort((a, b) => (natural(a) < natural(b) ? -1 : 1)).slice(0, MOST_OFFERED);
    const joined = known.join("\n");
    if (joined === this.#workers) return;
    this.#workers = joined;
    this.options.replaceChildren(...known.map((name) => el("option", { value: name })));
    if (!this.#worker) text(this.told, names.size ? "Choose a worker to see its latest boot, step by step." : "No worker is known.");
  }

  async #load() {
    const asked = ++this.#asked;
    this.boots.replaceChildren();
    if (!this.#worker) {
      text(this.told, "Choose a worker to see its latest boot, step by step.");
      return;
    }
    text(this.told, "Loading …");
    attribute(this.node, "aria-busy", "true");
    let found = [];
    let problem = "";
    try {
      found = await boots(this.#worker);
    } catch (error) {
      problem = plain(error.message);
    }
    if (asked !== this.#asked) return;
    attribute(this.node, "aria-busy", null);
    const some = found.filter((boot) => boot.spans.length);
    text(this.told, problem || (some.length ? "" : `${plain(this.#worker)} has not told of a boot.`));
    this.boots.replaceChildren(...some.map(panel));
  }
}

function panel(boot) {
  return el(
    "section",
    { class: "card", "aria-label": `Boot of ${plain(boot.model)}` },
    el("div", { class: "heading" }, el("h2", {}, el("bdi", {}, plain(boot.model))), el("span", { class: "figure" }, duration(boot.total_ms)), boot.revision ? el("code", { title: plain(boot.revision) }, revision(boot.revision)) : ""),
    el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": `Waterfall of ${plain(boot.model)}, scrolls` }, drawing(boot)),
    el("details", {}, el("summary", {}, "As a table"), el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": `Table of ${plain(boot.model)}, scrolls` }, asTable(boot))),
  );
}
