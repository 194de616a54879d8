// Where each channel points, who serves what, and the latest roll of each, live.

import { attribute, el, Keyed, shown, text } from "./dom.js";
import { ago, count, duration, many, percent, plain, revision } from "./format.js";
import { badge, cell, heading, section, shortTable } from "./parts.js";
import { hash } from "./router.js";
import { ROLL_STAGES, rollTone } from "./states.js";
import { rollPicker } from "./worker_roll.js";

const SHADES = 5;
const MOST_NAMED = 6;

export class RollsView {
  #rolls;
  #channels;
  #workers;
  #moving = new Map();

  constructor() {
    this.rolls = new Keyed(el("ul", { class: "rolls" }), rollCard);
    this.none = el("p", { class: "note" }, "No roll yet. A channel that was moved in one step, as a first publication is, has none: see below where it points.");
    this.channels = shortTable("Channels", CHANNEL_COLUMNS, "Nothing is published yet; the command headwater publish does it.");
    this.picker = rollPicker();
    this.one = section("One worker’s roll", this.picker.node);
    this.node = el(
      "div",
      { class: "view" },
      heading("Rolls"),
      section("Latest roll of each channel", this.none, this.rolls.parent),
      this.one,
      el("div", { class: "channels" }, section("Channels", this.channels.node)),
    );
  }

  go({ parts, query }) {
    this.asked = parts[0];
    this.picker.go(query.worker ?? "");
    this.sought = Boolean(query.worker);
  }

  leave() {
    this.picker.leave();
  }

  update({ at, rolls = {}, channels = {}, workers = {} }) {
    this.picker.update(workers);
    if (workers !== this.#workers) this.#moving = movingOf(workers);
    this.#workers = workers;
    const order = Object.keys(rolls).sort(
      (a, b) => rolls[b].running - rolls[a].running || rolls[b].since - rolls[a].since || (a < b ? -1 : 1),
    );
    this.rolls.update(order, (key) => ({ roll: rolls[key], at, moving: this.#moving.get(key) ?? [] }));
    shown(this.none, order.length === 0);
    if (channels !== this.#channels)
      this.channels.update(Object.keys(channels).sort(), (key) => channels[key]);
    this.#rolls = rolls;
    this.#channels = channels;
    if (this.asked && rolls[this.asked]) {
      const card = this.rolls.parent.children[order.indexOf(this.asked)];
      card.scrollIntoView({ block: "nearest" });
      this.asked = null;
    }
    if (this.sought && this.picker.settled) {
      this.one.scrollIntoView({ block: "start" });
      this.sought = false;
    }
  }
}

/** Channel → the workers that bring another revision now, by name. */
function movingOf(workers) {
  const found = new Map();
  for (const key in workers) {
    const { model, channel, phase, state } = workers[key];
    if (!phase || state === "missing" || state === "left") continue;
    const name = `${model}@${channel}`;
    if (!found.has(name)) found.set(name, []);
    found.get(name).push([key.split("/")[0], phase]);
  }
  return found;
}

/** Links to the rolls of some workers, and how many more there are. */
function movers() {
  const list = new Keyed(el("ul", { class: "movers", "aria-label": "Workers on their way" }), (name) => {
    const link = el("a", { href: hash("rolls", [], { worker: name }) }, el("bdi", {}, plain(name)));
    const phase = el("span", { class: "hint" });
    return { node: el("li", {}, link, " ", phase), update: (words) => text(phase, plain(words).replaceAll("_", " ")) };
  });
  const more = el("span", { class: "hint" });
  const node = el("div", { class: "moving" }, el("span", { class: "hint" }, "On their way:"), list.parent, more);
  return {
    node,
    update(moving) {
      shown(node, moving.length > 0);
      const some = new Map(moving.slice(0, MOST_NAMED));
      list.update([...some.keys()], (name) => some.get(name));
      text(more, moving.length > MOST_NAMED ? `and ${count(moving.length - MOST_NAMED)} more` : "");
    },
  };
}

function rollCard(key) {
  const stage = badge();
  const since = el("span", { class: "hint" });
  const from = el("code", {});
  const to = el("code", {});
  const steps = ROLL_STAGES.map((name) => el("li", {}, name));
  const fill = el("span", { class: "fill" });
  const told = `Workers of ${plain(key)} that serve the new revision`;
  const progress = el("div", { class: "progress", role: "progressbar", "aria-label": told, "aria-valuemin": "0" }, fill);
  const taken = el("span", { class: "figure" });
  const facts = el("span", { class: "hint" });
  const reason = el("bdi", {});
  const why = el("p", { class: "reason" }, reason);
  const going = movers();
  const node = el(
    "li",
    { class: "card roll" },
    el("div", { class: "heading" }, el("h3", {}, el("bdi", {}, plain(key))), stage.node, since),
    el("p", { class: "revisions" }, from, el("span", { class: "to" }, " → "), to),
    el("ol", { class: "steps", "aria-label": "Stages" }, ...steps),
    el("div", { class: "progressed" }, progress, taken),
    facts,
    why,
    going.node,
  );
  return {
    node,
    update({ roll, at, moving }) {
      going.update(moving);
      stage.set(rollTone(roll.stage), roll.running ? "▶" : roll.stage === "done" ? "✓" : "■", plain(roll.stage));
      const age = ago(at - roll.since); // by the origin's clock: this one may be wrong
      text(since, roll.since ? (roll.running ? `for ${age}` : `${age} ago`) : "");
      text(from, revision(roll.previous) === "–" ? "new" : revision(roll.previous));
      text(to, revision(roll.revision));
      attribute(to, "title", plain(roll.revision));
      stepsOf(roll).forEach((kind, number) => {
        attribute(steps[number], "class", kind);
        attribute(steps[number], "aria-current", kind === "now" ? "step" : null);
      });
      attribute(progress, "aria-valuemax", roll.total || 1);
      attribute(progress, "aria-valuenow", roll.taken);
      attribute(progress, "aria-valuetext", `${roll.taken} of ${many(roll.total, "worker")}`);
      attribute(progress, "class", `progress ${rollTone(roll.stage)}`);
      const share = roll.total ? roll.taken / roll.total : 0;
      fill.style.width = `${(share * 100).toFixed(1)}%`;
      text(taken, `${count(roll.taken)} of ${many(roll.total, "worker")} (${percent(share)})`);
      text(facts, factsOf(roll));
      text(reason, plain(roll.reason));
      shown(why, Boolean(roll.reason));
    },
  };
}

/** Which stages lie behind, and which is now; of a roll that ended early, none is now. */
function stepsOf(roll) {
  const at = ROLL_STAGES.indexOf(roll.stage);
  return ROLL_STAGES.map((_, number) => {
    if (number === at) return roll.stage === "done" ? "past" : "now";
    return number < at ? "past" : "";
  });
}

function factsOf(roll) {
  const facts = [];
  if (roll.percent) facts.push(`canary of ${roll.percent} %`);
  if (typeof roll.failed_ratio === "number") facts.push(`${percent(roll.failed_ratio)} of its answers failed`);
  if (typeof roll.first_token_p95_ms === "number") facts.push(`first token within ${duration(roll.first_token_p95_ms)} for 95 %`);
  return facts.join(" · ");
}

/** The revisions that are served, as one bar in parts and in words. */
const spreadCell = () => {
  const strip = el("span", { class: "strip", "aria-hidden": "true" });
  const list = el("span", { class: "spread" });
  const parts = new Keyed(strip, () => {
    const node = el("span", {});
    return {
      node,
      update({ share, shade }) {
        node.style.width = `${(share * 100).toFixed(2)}%`;
        attribute(node, "class", shade);
      },
    };
  });
  return {
    node: el("span", { class: "spreads" }, strip, list),
    update(row) {
      const serving = row.serving ?? {};
      const keys = Object.keys(serving).sort((a, b) => serving[b] - serving[a]);
      const all = keys.reduce((sum, key) => sum + serving[key], 0);
      const shade = (key) =>
        key === row.revision ? "signed" : key === row.canary_revision ? "canary" : `other${keys.indexOf(key) % SHADES}`;
      parts.update(keys, (key) => ({ share: all ? serving[key] / all : 0, shade: shade(key) }));
      const words = keys.slice(0, 6).map((key) => `${revision(key)} ${count(serving[key])}`);
      if (keys.length > 6) words.push(`${keys.length - 6} more`);
      text(list, words.join(" · ") || "no worker serves it");
    },
  };
};

const consistentCell = () => {
  const made = badge();
  return {
    node: made.node,
    update: (row) =>
      row.consistent ? made.set("ok", "●", "consistent") : made.set("warn", "▲", "not consistent"),
  };
};

const CHANNEL_COLUMNS = [
  {
    head: "Channel",
    kind: "name",
    cell() {
      const name = el("bdi", {});
      const link = el("a", {}, name);
      return {
        node: link,
        update(_, key) {
          text(name, plain(key));
          const [model, channel] = key.split("@");
          attribute(link, "href", hash("fleet", ["workers"], { words: `${model} ${channel ?? ""}`.trim() }));
        },
      };
    },
  },
  { head: "Signed revision", cell: cell((row) => revision(row.revision), "code") },
  { head: "Sequence", kind: "number", cell: cell((row) => count(row.sequence)) },
  {
    head: "Canary",
    cell: cell((row) => (row.canary_revision ? `${revision(row.canary_revision)}, ${row.canary_percent} %` : "none")),
  },
  { head: "Workers by revision", cell: spreadCell },
  { head: "State", cell: consistentCell },
];
