// Who is logged in to the console, and how to end it: one login, or all but this one.

import { endLogins, logins } from "./api.js";
import { attribute, el, Keyed, shown, text } from "./dom.js";
import { ago, many, plain } from "./format.js";
import { heading } from "./parts.js";

const ANEW_MS = 10_000;

export class LoginsView {
  #rows = [];
  #at = 0;
  #asked = 0;
  #askedAt = -Infinity;
  #here = false;
  /** Whether what is told is that nothing came yet. */
  #waiting = false;
  #leave;
  #now;

  /** `leave(words)` is called where this very login was ended. */
  constructor({ leave, now }) {
    this.#leave = leave;
    this.#now = now;
    this.told = el("p", { class: "note", role: "status" });
    this.problem = el("p", { class: "problem", role: "alert" });
    this.list = new Keyed(el("ul", { class: "logins" }), (id) => card(id, (row) => this.#end(row)));
    this.others = el("button", { type: "button", on: { click: () => this.#end(null) } }, "Sign out everywhere else");
    this.head = heading("Logins", this.others);
    this.node = el(
      "div",
      { class: "view" },
      this.head,
      el("p", { class: "hint" }, "Browsers that exchanged the administrator’s token for a login. One that is signed out needs the token again; a new token ends all of them."),
      this.told,
      this.problem,
      this.list.parent,
    );
  }

  go() {
    this.#here = true;
    text(this.problem, "");
    text(this.told, this.#rows.length ? "" : "Loading …");
    this.#waiting = true;
    this.#load();
  }

  leave() {
    this.#here = false;
  }

  /** Nothing of one login is shown to the next. */
  forget() {
    this.#rows = [];
    this.#asked++;
  }

  update({ at }) {
    this.#at = at;
    if (this.#now() - this.#askedAt > ANEW_MS) this.#load();
    this.#draw();
  }

  async #load() {
    const asked = ++this.#asked;
    this.#askedAt = this.#now();
    let rows = this.#rows;
    let problem = "";
    try {
      rows = await logins();
    } catch (error) {
      problem = plain(error.message);
    }
    if (asked !== this.#asked) return;
    this.#rows = rows.sort((a, b) => b.mine - a.mine || b.seen - a.seen);
    if (problem || this.#waiting) text(this.told, problem);
    this.#waiting = Boolean(problem);
    this.#draw();
  }

  #draw() {
    const at = this.#at || this.#now() / 1000;
    const rows = new Map(this.#rows.map((row) => [row.id, row]));
    this.list.update([...rows.keys()], (id) => ({ row: rows.get(id), at }));
    shown(this.others, this.#rows.some((row) => !row.mine));
  }

  /** End a login; null: all but this one. The button that was pressed goes, so the focus moves. */
  async #end(row) {
    text(this.problem, "");
    const others = this.#rows.filter((one) => !one.mine).length;
    let untold;
    try {
      untold = await endLogins(row?.id);
    } catch (error) {
      if (row === null || error.status !== 404) {
        text(this.problem, plain(error.message));
        return;
      }
      untold = ""; // it is over already, which was wanted
    }
    if (row?.mine) {
      this.#leave(untold);
      return;
    }
    this.#waiting = false;
    text(this.told, row ? `${plain(row.browser)} is signed out.` : `${many(others, "other login")} signed out.`);
    text(this.problem, untold && `For now ${plain(untold)}.`);
    this.#rows = this.#rows.filter((one) => (row ? one.id !== row.id : one.mine));
    this.#draw();
    if (this.#here) this.head.querySelector("h1").focus({ preventScroll: true });
    this.#load();
  }
}

function card(id, end) {
  let row = null;
  const browser = el("bdi", {});
  const mine = el("span", { class: "tag", hidden: true }, "this browser");
  const facts = ["From", "Used", "Since", "Ends"].map((name) => [el("dt", {}, name), el("dd", {})]);
  const button = el("button", { type: "button", on: { click: () => end(row) } }, "Sign out");
  const node = el(
    "li",
    { class: "card one-login" },
    el("div", {}, el("h2", {}, browser, mine), el("dl", { class: "facts" }, ...facts.map((pair) => el("div", {}, ...pair)))),
    button,
  );
  return {
    node,
    update({ row: now, at }) {
      row = now;
      text(browser, plain(row.browser));
      shown(mine, Boolean(row.mine));
      const words = [plain(row.address) || "nobody knows where", row.mine ? "now" : lately(at - row.seen), moment(row.made), `in ${ago(row.until - at)}`];
      facts.forEach(([, value], number) => text(value, words[number]));
      attribute(button, "aria-label", `Sign out ${row.mine ? "this browser" : `${plain(row.browser)}, ${words[0]}, since ${words[2]}`}`);
    },
  };
}

/** To about a minute, as the origin knows it. */
const lately = (seconds) => (seconds < 120 ? "within two minutes" : `${ago(seconds - (seconds % 60))} ago`);

const moment = (seconds) =>
  new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
