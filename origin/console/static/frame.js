// What stands around every view: the places to go, how fresh the picture is, and whether all is well.

import { attribute, el, shown, text } from "./dom.js";
import { ago, many, plain } from "./format.js";
import { badge } from "./parts.js";

const SPEAK_EVERY_MS = 10_000;
const LATE_MS = 5000;
const OLD_MS = 3000;
const QUIET_MS = 15_000;
const THEMES = new Map([
  ["", ["◐", "Colours: as the system"]],
  ["light", ["☀", "Colours: light"]],
  ["dark", ["☾", "Colours: dark"]],
]);

export class Frame {
  #links = new Map();
  #spokenAt = -Infinity;
  #said = "";
  #lost = false;
  #mark = badge();
  #health = badge();
  #first = el("bdi", { class: "first" });
  #more = el("a", { href: "#/overview" });
  #old = badge();
  #version = null;

  /** `views`: name → title. `logout` is called by the button. */
  constructor(views, logout) {
    this.nav = document.getElementById("nav");
    for (const [name, title] of views) {
      const link = el("a", { href: `#/${name}` }, title);
      this.#links.set(name, link);
      this.nav.append(link);
    }
    this.spoken = document.getElementById("spoken");
    this.out = document.getElementById("logout");
    this.out.addEventListener("click", logout);
    this.logins = document.getElementById("logins");
    this.#links.set("logins", this.logins);
    document.getElementById("connection").append(this.#mark.node);
    this.newer = document.getElementById("newer");
    document.getElementById("reload").addEventListener("click", (event) => {
      event.preventDefault(); // the place stays
      location.reload();
    });
    this.trouble = document.getElementById("trouble");
    this.health = document.getElementById("health");
    this.health.append(this.#old.node, this.#health.node, this.#first, this.#more);
    theme(document.getElementById("theme"));
    document.querySelector(".skip").addEventListener("click", (event) => {
      event.preventDefault();
      document.getElementById("main").focus();
    });
  }

  /** Which view is shown; null: nobody is logged in. */
  place(view) {
    const inside = view !== null;
    shown(this.nav, inside);
    shown(this.out, inside);
    shown(this.logins, inside);
    this.refused("");
    shown(this.#mark.node, inside);
    if (!inside) shown(this.health, false);
    for (const [name, link] of this.#links)
      attribute(link, "aria-current", name === view ? "page" : null);
  }

  /** Why what was asked for at the top was not done; empty takes it away. */
  refused(words) {
    text(this.trouble, words);
    shown(this.trouble, Boolean(words));
  }

  /** Whether the origin's version is another one than when this page came. */
  version(now) {
    this.#version ??= now;
    shown(this.newer, now !== this.#version);
  }

  /** The stream's state and the age of what is shown; `now` in milliseconds. */
  connection(live, now) {
    const age = live.heardAt ? now - live.heardAt : 0;
    if (live.status === "live" && age < LATE_MS) this.#mark.set("ok", "●", "Live");
    else if (live.status === "live") this.#mark.set("warn", "◐", `Quiet for ${ago(age / 1000)}`);
    else if (live.status === "waiting") {
      const wait = Math.max(0, Math.ceil((live.retryAt - now) / 1000));
      const words = age > 60_000 || !live.heardAt ? "Lost" : "Reconnecting";
      this.#mark.set(words === "Lost" ? "bad" : "warn", words === "Lost" ? "✕" : "◐", `${words}: next try in ${wait} s`);
    } else this.#mark.set("warn", "◔", "Connecting");
    const old = Boolean(live.heardAt) && age > (live.status === "live" ? QUIET_MS : OLD_MS);
    shown(this.#old.node, old);
    if (old) this.#old.set("warn", "◐", `This picture is ${ago(age / 1000)} old`);
    this.#announce(live.status, old, now);
  }

  #announce(status, old, now) {
    if (old && !this.#lost) this.say("The connection is lost; this picture grows old.", now);
    if (!old && this.#lost && status === "live") this.say("The connection is back.", now);
    this.#lost = old;
  }

  /** The line of health, and the same spoken, though not again and again. */
  healthy(totals, now) {
    const { problems = [], healthy } = totals;
    shown(this.health, true);
    attribute(this.health, "class", `health ${healthy ? "ok" : "bad"}`);
    if (healthy) this.#health.set("ok", "●", "All is well");
    else this.#health.set("bad", "▲", many(problems.length, "problem"));
    text(this.#first, healthy ? "" : plain(problems[0] ?? "not healthy"));
    shown(this.#more, problems.length > 1); // without words it is no link
    text(this.#more, `and ${problems.length - 1} more`);
    const words = healthy ? "All is well." : `${many(problems.length, "problem")}: ${problems.map(plain).join("; ")}`;
    this.say(words, now);
  }

  /** Speak `words` to who listens, if they are new and the last ones are a while ago. */
  say(words, now) {
    if (words === this.#said || now - this.#spokenAt < SPEAK_EVERY_MS) return;
    this.#said = words;
    this.#spokenAt = now;
    text(this.spoken, words);
  }
}

/** The switch of colours: system, light, dark. */
function theme(button) {
  const root = document.documentElement;
  const order = [...THEMES.keys()];
  const label = () => {
    const [sign, words] = THEMES.get(root.dataset.theme ?? "");
    text(button, sign);
    attribute(button, "aria-label", words);
    attribute(button, "title", words);
  };
  button.addEventListener("click", () => {
    const next = order[(order.indexOf(root.dataset.theme ?? "") + 1) % order.length];
    if (next) root.dataset.theme = next;
    else delete root.dataset.theme;
    try {
      localStorage.setItem("headwater-theme", next);
    } catch {
      // Storage is switched off: chosen for this visit.
    }
    label();
    dispatchEvent(new Event("themechange"));
  });
  label();
}
