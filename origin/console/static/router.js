// Places on the page: `#/view/part/part?name=value`. Pure but for `go`.

/** The view, its path parts and its parameters, from a location's hash. */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [view, ...parts] = path.split("/").map(decoded);
  return { view, parts, query: Object.fromEntries(new URLSearchParams(query)) };
}

/** The hash of a place; empty parameters are left out. */
export function hash(view, parts = [], query = {}) {
  const path = ["#", view, ...parts.map(encodeURIComponent)].join("/");
  const given = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  const search = new URLSearchParams(given).toString();
  return search ? `${path}?${search}` : path;
}

/** Change the address without a new entry in the history: a filter that is being typed. */
export function rewrite(place) {
  if (location.hash !== place) history.replaceState(null, "", place);
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // somebody's own percent sign
  }
}
