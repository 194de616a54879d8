// The page's start: who may see it, what is shown, and when it is drawn.

import * as api from "./api.js";
import { passing } from "./clock.js";
import { el, text } from "./dom.js";
import { Frame } from "./frame.js";
import { History } from "./history.js";
import { backoff, Live } from "./live.js";
import { Painter } from "./paint.js";
import { parse } from "./router.js";
import { BootsView } from "./view_boots.js";
import { FleetView } from "./view_fleet.js";
import { GatewayView } from "./view_gateway.js";
import { LoginsView } from "./view_logins.js";
import { OverviewView } from "./view_overview.js";
import { PlaygroundView } from "./view_playground.js";
import { RollsView } from "./view_rolls.js";

const VIEWS = new Map([
  ["overview", ["Overview", OverviewView]],
  ["fleet", ["Fleet", FleetView]],
  ["rolls", ["Rolls", RollsView]],
  ["boots", ["Boots", BootsView]],
  ["gateway", ["Gateway", GatewayView]],
  ["playground", ["Playground", PlaygroundView]],
  ["logins", ["Logins", LoginsView]],
]);
const BESIDE = new Set(["logins"]); // has a link of its own, beside the views

class Page {
  #view = null;
  #name = null;
  #inside = false;
  #main = document.getElementById("main");
  #history = new History();
  #kept = new Map();
  #now = passing(() => Date.now(), () => performance.now());

  constructor() {
    const titles = [...VIEWS].filter(([name]) => !BESIDE.has(name)).map(([name, [title]]) => [name, title]);
    this.frame = new Frame(titles, () => this.#leave());
    this.painter = new Painter(() => this.#draw());
    this.live = new Live(world(this.#now), (what) => this.#heard(what));
    addEventListener("hashchange", () => this.#go(true));
    addEventListener("online", () => this.live.nudge());
    // A page that the browser kept and shows again has a stream that is none any more.
    addEventListener("pageshow", (event) => {
      if (event.persisted && this.#inside) this.live.start();
    });
    addEventListener("themechange", () => this.painter.soon());
    addEventListener("resize", () => this.painter.soon());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.live.nudge();
      this.painter.soon();
    });
    setInterval(() => this.#tick(), 1000);
  }

  /** Asks until somebody answers; the page itself may be gone from an origin that is away. */
  async start(attempt = 0) {
    try {
      if (await api.session()) this.#enter();
      else this.#ask();
    } catch (error) {
      text(document.getElementById("starting"), `${error.message} Trying again.`);
      setTimeout(() => this.start(attempt + 1), backoff(attempt, Math.random()));
    }
  }

  #enter() {
    this.#inside = true;
    this.#go(false);
    this.live.start();
  }

  #ask(told = "") {
    this.#inside = false;
    this.live.stop();
    this.live.forget();
    this.#view?.leave?.();
    this.#view = null;
    this.#name = null;
    for (const kept of this.#kept.values()) kept.forget?.();
    this.#kept.clear();
    this.frame.place(null);
    document.title = "Log in · Headwater";
    this.#main.replaceChildren(loginForm(told, () => this.#enter()));
    this.#main.querySelector("input").focus();
  }

  async #leave() {
    try {
      this.#out(await api.logout());
    } catch (error) {
      // Without an answer the login may hold; one that is over already is what was wanted.
      if (error.status === 401) this.#out("");
      else this.frame.refused(`You are still logged in: ${error.message}`);
    }
  }

  #out(untold) {
    this.#ask(untold ? `You are logged out. For now ${untold}.` : "You are logged out.");
  }

  #go(moved) {
    if (!this.#inside) return; // the login form stays; it leads to the place that was asked for
    const place = parse(location.hash);
    const name = VIEWS.has(place.view) ? place.view : "overview";
    if (name !== this.#name) this.#show(name, moved);
    this.#view.go?.(place);
    this.painter.now();
  }

  #show(name, moved) {
    const [title, View] = VIEWS.get(name);
    this.#view?.leave?.();
    if (!this.#kept.has(name)) this.#kept.set(name, new View({ history: this.#history, now: this.#now, soon: () => this.painter.soon(), leave: (untold) => this.#out(untold) }));
    this.#view = this.#kept.get(name);
    this.#name = name;
    document.title = `${title} · Headwater`;
    this.frame.place(name);
    this.#main.replaceChildren(this.#view.node);
    scrollTo(0, 0);
    if (moved) this.#main.querySelector("h1").focus({ preventScroll: true });
  }

  #heard(what) {
    if (what === "status" && this.live.status === "login")
      this.#ask("Your session has ended: log in again.");
    else this.painter.soon();
  }

  #tick() {
    if (this.#view === null || document.hidden) return;
    const { state, status } = this.live;
    if (status === "live" && state) this.#history.sample(this.#now() / 1000, state.totals);
    this.painter.soon();
  }

  #draw() {
    if (this.#view === null) return;
    const { live } = this;
    const now = this.#now();
    this.frame.connection(live, now);
    if (!live.state) return;
    this.frame.healthy(live.state.totals, now);
    this.frame.version(live.state.version);
    this.#view.update(live.state);
  }
}

const world = (now) => ({
  open: () => new EventSource(api.LIVE),
  session: api.session,
  now,
  random: Math.random,
  after: (ms, then) => setTimeout(then, ms),
  clear: (timer) => clearTimeout(timer),
});

function loginForm(told, entered) {
  const input = el("input", {
    type: "password",
    id: "token",
    name: "token",
    autocomplete: "current-password",
    required: true,
    spellcheck: "false",
    "aria-describedby": "login-told token-told",
  });
  const button = el("button", { type: "submit", class: "primary" }, "Log in");
  const problem = el("p", { class: "problem", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await api.login(input.value.trim());
      input.value = "";
      entered();
    } catch (error) {
      const refused = error.status === 401 || error.status === 403;
      text(problem, refused ? "This token is not an administrator's." : error.message);
      input.select();
    } finally {
      button.disabled = false;
    }
  };
  return el(
    "form",
    { class: "login card", on: { submit } },
    el("h1", { tabindex: "-1" }, "Headwater console"),
    el("p", { class: "note", id: "login-told" }, told),
    el("label", { for: "token" }, "Administrator’s token"),
    input,
    el("p", { id: "token-told", class: "hint" }, "It is exchanged for a cookie of this browser and not kept by the page."),
    problem,
    button,
  );
}

new Page().start();
