// JSON merge patch (RFC 7396), without writing to what it is given: what a patch does not touch
// keeps its identity, so a view sees by `===` what it need not draw again.

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** `target` after `patch`. What it makes has no prototype, so `__proto__` is a name like others. */
export function merge(target, patch) {
  if (!isObject(patch)) return patch;
  const merged = Object.assign(Object.create(null), isObject(target) ? target : null);
  for (const name of Object.keys(patch)) {
    const value = patch[name];
    if (value === null) delete merged[name];
    else merged[name] = merge(merged[name], value);
  }
  return merged;
}
