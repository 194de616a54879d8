// What a worker's boot spent its time on.

import { el } from "./dom.js";
import { duration, plain, revision } from "./format.js";
import { heading } from "./parts.js";
import { WorkerPicker } from "./picker.js";
import { hash } from "./router.js";
import { waterfall } from "./waterfall.js";

export class BootsView {
  constructor() {
    this.picker = new WorkerPicker({
      id: "worker",
      words: {
        hint: "Choose a worker to see its latest boot, step by step.",
        none: (worker) => `${worker} has not told of a boot.`,
      },
      place: (worker) => hash("boots", [worker].filter(Boolean)),
      some: (boots) => boots.filter((boot) => boot.spans.length),
      panel,
    });
    this.node = el("div", { class: "view" }, heading("Boots"), this.picker.node);
  }

  go({ parts }) {
    this.picker.go(parts[0] ?? "");
  }

  leave() {
    this.picker.leave();
  }

  update({ workers }) {
    this.picker.update(workers);
  }
}

function panel(boot) {
  return el(
    "section",
    { class: "card", "aria-label": `Boot of ${plain(boot.model)}` },
    el("div", { class: "heading" }, el("h2", {}, el("bdi", {}, plain(boot.model))), el("span", { class: "figure" }, duration(boot.total_ms)), boot.revision ? el("code", { title: plain(boot.revision) }, revision(boot.revision)) : ""),
    ...waterfall("Boot", boot.model, boot),
  );
}
