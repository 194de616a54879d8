// The live stream and its state: `connecting`, `live`, `waiting` (for the next try) or `login`.
// What it is given (source, clock, timers) makes it testable without a browser.

import { merge, mergeAll } from "./merge.js";

const LONGEST_MS = 30_000;
export const SILENT_MS = 20_000;
const MOST_PENDING = 250;

/** How long to wait before try `attempt` (0, 1, …): doubling, up to half a minute, spread so that
 * many pages do not come back to a restarted origin at once. `random` is 0..1. */
export const backoff = (attempt, random) =>
  Math.min(LONGEST_MS, 500 * 2 ** Math.min(attempt, 10)) * (0.5 + random / 2);

export class Live {
  status = "connecting";
  /** When the last event came, and when the next try is due (milliseconds of `now`). */
  heardAt = 0;
  retryAt = 0;
  #state = null;
  /** Patches that are not merged yet: they come faster than anybody looks. */
  #pending = [];
  #source = null;
  #timer = 0;
  #attempt = 0;
  #world;
  #changed;

  /** `changed(what)` is told of every new state ("state") and status ("status"). */
  constructor(world, changed) {
    this.#world = world;
    this.#changed = changed;
  }

  /** What is known; null before the first event. */
  get state() {
    if (this.#pending.length) this.#settle();
    return this.#state;
  }

  /** Forget it: somebody else may log in. */
  forget() {
    this.#state = null;
    this.#pending = [];
  }

  start() {
    this.stop();
    this.#become("connecting");
    const source = (this.#source = this.#world.open());
    source.addEventListener("state", (event) => {
      this.#pending = [];
      this.#state = merge(null, JSON.parse(event.data));
      this.#heard();
    });
    source.addEventListener("patch", (event) => {
      if (!this.#state) return;
      this.#pending.push(JSON.parse(event.data));
      if (this.#pending.length >= MOST_PENDING) this.#settle(); // nobody looks: a hidden tab
      this.#heard();
    });
    source.addEventListener("error", () => this.#broke(source));
    this.#watch();
  }

  stop() {
    this.#world.clear(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  /** Try now: the network is back, or somebody looks again. */
  nudge() {
    if (this.status === "waiting") this.start();
  }

  #settle() {
    this.#state = mergeAll(this.#state, this.#pending);
    this.#pending = [];
  }

  #heard() {
    this.heardAt = this.#world.now();
    this.#attempt = 0;
    this.#become("live");
    this.#changed("state");
  }

  /** A stream that says nothing at all for long is as good as broken: a proxy may hold it open. */
  #watch(since = this.#world.now()) {
    const source = this.#source;
    this.#timer = this.#world.after(since + SILENT_MS - this.#world.now(), () => {
      if (this.heardAt > since) this.#watch(this.heardAt);
      else this.#broke(source);
    });
  }

  async #broke(source) {
    if (source !== this.#source) return;
    this.stop();
    const mine = (this.#source = { close() {} });
    const allowed = await this.#world.session().catch(() => true);
    if (mine !== this.#source) return; // started or stopped meanwhile
    this.#source = null;
    if (!allowed) {
      this.#become("login");
      return;
    }
    const wait = backoff(this.#attempt++, this.#world.random());
    this.retryAt = this.#world.now() + wait;
    this.#timer = this.#world.after(wait, () => this.start());
    this.#become("waiting");
  }

  #become(status) {
    if (status === this.status) return;
    this.status = status;
    this.#changed("status");
  }
}
