// JSON merge patches (RFC 7396), without writing to what they are given: what no patch touches keeps
// its identity, so a view sees by `===` what it need not draw again.

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** `target` after `patch`. What it makes has no prototype, so `__proto__` is a name like others. */
export const merge = (target, patch) => mergeAll(target, [patch]);

/** `target` after all of `patches`, in order; a table that many of them touch is copied once. */
export function mergeAll(target, patches) {
  const ours = new WeakSet();
  return patches.reduce((before, patch) => merged(before, patch, ours), target);
}

/** `ours`: what was made here, and may be written to. */
function merged(target, patch, ours) {
  if (!isObject(patch)) return patch;
  let into = target;
  if (!ours.has(into)) {
    into = Object.assign(Object.create(null), isObject(target) ? target : null);
    ours.add(into);
  }
  for (const name of Object.keys(patch)) {
    const value = patch[name];
    if (value === null) delete into[name];
    else into[name] = merged(into[name], value, ours);
  }
  return into;
}
