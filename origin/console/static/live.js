// The live stream and its state: `connecting`, `live`, `waiting` (for the next try) or `login`.
// What it is given (source, clock, timers) makes it testable without a browser.

import { merge } from "./merge.js";

const LONGEST_MS = 30_000;
export const SILENT_MS = 20_000;

/** How long to wait before try `attempt` (0, 1, …): doubling, up to half a minute, spread so that
 * many pages do not come back to a restarted origin at once. `random` is 0..1. */
export const backoff = (attempt, random) =>
  Math.min(LONGEST_MS, 500 * 2 ** Math.min(attempt, 10)) * (0.5 + random / 2);

export class Live {
  state = null;
  status = "connecting";
  /** When the last event came, and when the next try is due (milliseconds of `now`). */
  heardAt = 0;
  retryAt = 0;
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

  start() {
    this.stop();
    this.#become("connecting");
    const source = (this.#source = this.#world.open());
    source.addEventListener("state", (event) => this.#heard(merge(null, JSON.parse(event.data))));
    source.addEventListener("patch", (event) => {
      if (this.state) this.#heard(merge(this.state, JSON.parse(event.data)));
    });
    source.addEventListener("ping", () => this.#heard(this.state));
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

  #heard(state) {
    this.state = state;
    this.heardAt = this.#world.now();
    this.#attempt = 0;
    this.#watch();
    this.#become("live");
    this.#changed("state");
  }

  /** A stream that says nothing at all for long is as good as broken: a proxy may hold it open. */
  #watch() {
    const source = this.#source;
    this.#world.clear(this.#timer);
    this.#timer = this.#world.after(SILENT_MS, () => this.#broke(source));
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
