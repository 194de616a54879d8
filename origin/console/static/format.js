// Values as an operator reads them. Pure; what is not known is a dash.

export const NONE = "–";
const KNOWN = (value) => typeof value === "number" && Number.isFinite(value);
const MAX_NAME = 160;
// Control, zero-width, bidirectional and tag characters, and lone surrogates: what a name could lie with.
const HIDDEN =
  /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u115F\u1160\u3164\uFFA0\u2800]/gu;

/** Text of somebody else, made safe to read: what does not show is shown by its number. */
export function plain(text) {
  const whole = String(text ?? "");
  const shown = whole.length > MAX_NAME ? `${whole.slice(0, MAX_NAME)}…` : whole;
  return shown.replace(HIDDEN, (hidden) => `‹${hidden.codePointAt(0).toString(16)}›`);
}

/** `1,234` or `12.3` or `0.4`: three figures where it is small. */
export function count(value) {
  if (!KNOWN(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e6) return `${scaled(value / 1e6)} M`;
  if (size >= 1e4) return `${scaled(value / 1e3)} k`;
  if (size >= 100 || Number.isInteger(value)) return grouped(Math.round(value));
  return value.toFixed(size >= 10 ? 1 : 2).replace(/\.?0+$/, "") || "0";
}

/** The same of a rate in a column: with its tenth, also where that is 0, so that points align. */
export const steady = (value) => (KNOWN(value) && Math.abs(value) < 99.95 ? value.toFixed(1) : count(value));

/** A share, 0..1, as percent. */
export function percent(value) {
  if (!KNOWN(value)) return NONE;
  const hundred = value * 100;
  if (hundred > 0 && hundred < 0.1) return "<0.1 %";
  if (hundred > 99.9 && hundred < 100) return ">99.9 %";
  return `${Number(hundred.toFixed(1))} %`;
}

/** Bytes with decimal units. */
export function bytes(value) {
  if (!KNOWN(value)) return NONE;
  let rest = value;
  for (const unit of ["B", "kB", "MB", "GB", "TB"]) {
    if (Math.abs(rest) < 999.5) return `${unit === "B" ? Math.round(rest) : scaled(rest)} ${unit}`;
    rest /= 1000;
  }
  return `${scaled(rest)} PB`;
}

/** A rate of bytes. */
export const rate = (value) => (KNOWN(value) ? `${bytes(value)}/s` : NONE);

/** A duration that is given in milliseconds. */
export function duration(ms) {
  if (!KNOWN(ms)) return NONE;
  if (ms < 0.001 && ms > 0) return "<1 µs";
  if (ms < 1) return ms === 0 ? "0 ms" : `${Math.round(ms * 1000)} µs`;
  if (ms < 999.5) return `${scaled(ms)} ms`;
  if (ms < 60_000) return `${scaled(ms / 1000)} s`;
  return ago(ms / 1000);
}

/** A long time that is given in seconds: `42 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`. */
export function ago(seconds) {
  if (!KNOWN(seconds)) return NONE;
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return pair(whole, 60, "min", 1, "s");
  if (whole < 86_400) return pair(whole, 3600, "h", 60, "min");
  return pair(whole, 86_400, "d", 3600, "h");
}

/** A revision as far as an eye compares it. */
export const revision = (text) => (text ? plain(text).slice(0, 8) : NONE);

/** `1 worker`, `2 workers`. */
export const many = (number, one, more = `${one}s`) =>
  `${count(number)} ${number === 1 ? one : more}`;

function pair(whole, unit, name, part, partName) {
  const rest = Math.floor((whole % unit) / part);
  return `${Math.floor(whole / unit)} ${name}${rest ? ` ${rest} ${partName}` : ""}`;
}

function scaled(value) {
  const size = Math.abs(value);
  return size >= 99.95 ? grouped(Math.round(value)) : value.toFixed(size >= 9.995 ? 1 : 2).replace(/\.?0+$/, "");
}

function grouped(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}
