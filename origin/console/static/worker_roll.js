// One worker's roll: from the pull of a new revision to the end of the engine before it.

import { el } from "./dom.js";
import { duration, plain, revision } from "./format.js";
import { badge } from "./parts.js";
import { WorkerPicker } from "./picker.js";
import { hash } from "./router.js";
import { waterfall } from "./waterfall.js";

const OUTCOMES = new Map([
  ["running", ["busy", "▶", "under way"]],
  ["serves", ["ok", "✓", "serves"]],
  ["failed", ["bad", "✕", "failed"]],
]);

/** Chooses a worker and shows its roll. */
export const rollPicker = () =>
  new WorkerPicker({
    id: "rolled",
    words: {
      hint: "Choose a worker to see its latest roll, step by step: what it pulled, loaded and proved, and how long the old engine drained.",
      none: (worker) => `${worker} has not rolled since it booted.`,
    },
    place: (worker) => hash("rolls", [], { worker }),
    some: (boots) => boots.filter((boot) => boot.roll),
    goesOn: ({ roll }) => roll.outcome === "running" || Boolean(roll.step),
    panel,
  });

function panel({ model, roll }) {
  const mark = badge();
  const [tone, sign, word] = OUTCOMES.get(roll.outcome) ?? ["warn", "?", "unknown"];
  const step = plain((roll.step ?? "").replaceAll("_", " "));
  const drains = roll.outcome === "serves" && step === "drain";
  mark.set(tone, sign, drains ? "serves; the old one drains" : step ? `${word}: ${step}` : word);
  const from = roll.previous ? revision(roll.previous) : "nothing";
  const same = roll.previous === roll.revision;
  return el(
    "section",
    { class: "card", "aria-label": `Roll of ${plain(model)}` },
    el(
      "div",
      { class: "heading" },
      el("h3", {}, el("bdi", {}, plain(model))),
      mark.node,
      el("span", { class: "figure" }, duration(roll.total_ms)),
      roll.began ? el("span", { class: "hint" }, `began ${moment(roll.began)}`) : "",
    ),
    el("p", { class: "revisions" }, el("code", { title: plain(roll.previous) }, from), el("span", { class: "to" }, " → "), el("code", { title: plain(roll.revision) }, revision(roll.revision)), same ? el("span", { class: "tag" }, "restart") : ""),
    roll.reason ? el("p", { class: "reason" }, el("bdi", {}, plain(roll.reason))) : "",
    ...(roll.spans.length ? waterfall("Roll", model, roll) : []),
  );
}

const moment = (seconds) =>
  new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
