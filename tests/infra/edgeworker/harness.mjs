// Runs an EdgeWorker's main.js under the documented API, and refuses everything that is not in it:
// techdocs.akamai.com/edgeworkers (request, response and cacheKey objects, limits).
// Input on stdin: {"module": path, "cases": [request], "rounds": n}. Output: what each case did, and
// the CPU time of one call in microseconds.
import { pathToFileURL } from "node:url";

const MAX_BODY_CHARS = 2000;

function strict(object, name) {
  return new Proxy(object, {
    get(target, key) {
      if (!(key in target)) throw new TypeError(`${name}.${String(key)} is not documented`);
      return target[key];
    },
    set(_, key) {
      throw new TypeError(`${name}.${String(key)} is read-only`);
    },
  });
}

function headersOf(given) {
  const held = new Map(Object.entries(given ?? {}).map(([k, v]) => [k.toLowerCase(), [v].flat()]));
  return {
    held,
    api: {
      getHeader: (name) => held.get(name.toLowerCase()),
      getHeaders: () => Object.fromEntries(held),
      setHeader: (name, value) => void held.set(name.toLowerCase(), [value].flat().map(String)),
      addHeader: (name, value) => {
        const before = held.get(name.toLowerCase()) ?? [];
        held.set(name.toLowerCase(), [...before, ...[value].flat()]);
      },
      removeHeader: (name) => void held.delete(name.toLowerCase()),
    },
  };
}

function cacheKeyOf(log) {
  const names = [
    "excludeQueryString", "includeQueryString", "includeQueryArgument",
    "includeCookie", "includeHeader", "includeVariable",
  ];
  return strict(
    Object.fromEntries(names.map((name) => [name, (...args) => void log.push([name, ...args])])),
    "cacheKey",
  );
}

function requestOf(given, seen) {
  const { held, api } = headersOf(given.headers);
  seen.headers = held;
  const path = given.path ?? "/";
  const query = given.query ?? "";
  const variables = given.variables ?? {};
  return strict({
    ...api,
    host: "cdn.example",
    method: given.method ?? "GET",
    scheme: "https",
    path,
    query,
    url: query ? `${path}?${query}` : path,
    cpCode: 12345,
    clientIp: "192.0.2.1",
    device: undefined,
    userLocation: given.location,
    cacheKey: cacheKeyOf(seen.cacheKey),
    getVariable: (name) => variables[name],
    setVariable(name, value) {
      if (!name.startsWith("PMUSER_")) throw new Error("variables begin with PMUSER_");
      variables[name] = value;
    },
    route: (to) => void (seen.route = to),
    wasTerminated: () => seen.answer !== null,
    respondWith(status, headers, body, reason) {
      if (!Number.isInteger(status)) throw new TypeError("status must be an integer");
      if (body.length > MAX_BODY_CHARS) throw new RangeError("body over 2000 characters");
      for (const [name, value] of Object.entries(headers)) {
        if (name.toLowerCase() === "set-cookie") throw new Error("no Set-Cookie in respondWith");
        if (!Array.isArray(value)) throw new TypeError(`${name}: values are arrays`);
      }
      if (reason !== undefined && status !== 403) throw new Error("a reason is for 403");
      seen.answer = { status, headers, body };
    },
  }, "request");
}

function handle(worker, given) {
  const seen = { cacheKey: [], answer: null, route: null };
  const request = requestOf(given, seen);
  const returned = worker.onClientRequest(request);
  if (returned !== undefined) throw new TypeError("onClientRequest returns nothing, or a promise");
  let response = null;
  if (given.response && seen.answer === null) {
    const { held, api } = headersOf(given.response);
    worker.onClientResponse(request, strict({ ...api, status: 200 }, "response"));
    response = Object.fromEntries(held);
  }
  return {
    answer: seen.answer,
    cacheKey: seen.cacheKey,
    forwarded: Object.fromEntries(seen.headers),
    response,
  };
}

let text = "";
for await (const chunk of process.stdin) text += chunk;
const { module, cases, rounds } = JSON.parse(text);
const before = process.cpuUsage();
const worker = await import(pathToFileURL(module));
const loaded = process.cpuUsage(before);
const results = cases.map((one) => handle(worker, one));
const timing = cases.map((one) => {
  for (let i = 0; i < rounds; i++) handle(worker, one);
  globalThis.gc?.();
  const heap = process.memoryUsage().heapUsed;
  const start = process.cpuUsage();
  for (let i = 0; i < rounds; i++) handle(worker, one);
  const { user, system } = process.cpuUsage(start);
  return {
    us: (user + system) / rounds,
    bytes: Math.max(0, process.memoryUsage().heapUsed - heap) / rounds,
  };
});
const load_us = loaded.user + loaded.system;
console.log(JSON.stringify({ results, timing, load_us, exports: Object.keys(worker) }));
