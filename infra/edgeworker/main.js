// The part of a Headwater edge that runs inside Akamai (EdgeWorkers, event handlers onClientRequest
// and onClientResponse).
//
// - Token pre-check: what needs a token and has none of a possible form is refused here. A form is
//   no proof: signature, revocation and scope are checked by the edge, as without this file.
// - Cache keys: a query that changes nothing does not split the cache; what is asked for with a token
//   never shares an entry with what is asked for without.
// - Region: tells the edge where the client is, and lets nobody else tell it.
//
// No sub-request, no storage, no state between requests. docs/how-to/cdn.md tells how to install it.

const REGION_HEADER = "X-Headwater-Region";
const CHECKED_HEADER = "X-Headwater-Precheck";
// Property Manager: "all" where every model is private, so that no artifact is public.
const PRIVATE_VARIABLE = "PMUSER_HEADWATER_PRIVATE";

const MAX_TOKEN_CHARS = 4096;
const CLOCK_SKEW_S = 60;
const DIGEST = /^[0-9a-f]{64}$/;
const API_KEY = /^hw-[a-z0-9]{4,32}-[A-Za-z0-9]{27,64}$/;
const OPAQUE = /^[A-Za-z0-9._~+/=-]{20,}$/;
const BASIC = /^[A-Za-z0-9+/]{8,}={0,2}$/;
const JWT = /^([A-Za-z0-9_-]{2,1024})\.([A-Za-z0-9_-]{2,4000})\.([A-Za-z0-9_-]{2,1024})$/;
// Escaped separators and dots, so that two spellings are never two things.
const CLIMBS = /(^|\/)\.\.?(\/|$)|\\|%(2e|2f|5c|00)/i;
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

export function onClientRequest(request) {
  const path = request.path;
  setRegion(request);
  request.removeHeader(CHECKED_HEADER);
  if (path.startsWith("/v1/")) {
    return checkPrompt(request);
  }
  if (path.startsWith("/artifacts/")) {
    return checkArtifact(request, path);
  }
  return undefined;
}

export function onClientResponse(request, response) {
  // Which caches hold what is nobody's business outside.
  response.removeHeader("Surrogate-Key");
  response.removeHeader("Cache-Tag");
  // RFC 9111 section 5.2.2: one more guard where a property is set to cache in spite of the origin.
  const caching = first(response.getHeader("Cache-Control"));
  if (caching.includes("private") && !caching.includes("no-store")) {
    response.setHeader("Cache-Control", "private, no-store");
  }
}

function checkPrompt(request) {
  const token = bearer(request);
  if (token === "" || !(API_KEY.test(token) || isLiveJwt(token))) {
    return refuse(request, openAiError());
  }
  request.setHeader(CHECKED_HEADER, "form");
  return undefined;
}

function checkArtifact(request, path) {
  if (CLIMBS.test(path)) {
    return badName(request, "a path of artifacts does not climb");
  }
  const [, , kind, name] = path.split("/", 4);
  if ((kind === "chunks" || kind === "manifests" || kind === "files") && !DIGEST.test(name)) {
    return badName(request, "an id is 64 lower-case hexadecimal digits");
  }
  const needsToken = request.getVariable(PRIVATE_VARIABLE) === "all" && kind !== "trust";
  const authorization = first(request.getHeader("Authorization"));
  if (needsToken && !isPullCredential(authorization)) {
    return refuse(request, problem(401, "unauthorized", "a pull token is needed"));
  }
  return setCacheKey(request, path, kind, authorization);
}

function setCacheKey(request, path, kind, authorization) {
  const key = request.cacheKey;
  if (path === "/artifacts/trust/bundle") {
    key.includeQueryArgument("root");
  } else if (path === "/artifacts/takedowns") {
    key.includeQueryArgument("since");
  } else {
    key.excludeQueryString();
  }
  if (authorization !== "" && (kind === "manifests" || kind === "files")) {
    key.includeHeader("Authorization");
  }
}

function setRegion(request) {
  const place = request.userLocation;
  const parts = place ? [place.continent, place.country, place.region] : [];
  const known = parts.filter((part) => typeof part === "string" && /^[A-Za-z0-9]{2,3}$/.test(part));
  if (known.length > 0) {
    request.setHeader(REGION_HEADER, known.join("-").toUpperCase());
  } else {
    request.removeHeader(REGION_HEADER);
  }
}

// A pull token comes as Bearer, or as the password of Basic for clients that know nothing else.
function isPullCredential(authorization) {
  if (authorization.length > MAX_TOKEN_CHARS) {
    return false;
  }
  const [scheme, token] = halves(authorization);
  return (scheme === "bearer" && OPAQUE.test(token)) || (scheme === "basic" && BASIC.test(token));
}

function bearer(request) {
  const authorization = first(request.getHeader("Authorization"));
  if (authorization.length > MAX_TOKEN_CHARS) {
    return "";
  }
  const [scheme, token] = halves(authorization);
  return scheme === "bearer" ? token : "";
}

function halves(authorization) {
  const at = authorization.indexOf(" ");
  return [authorization.slice(0, at).toLowerCase(), authorization.slice(at + 1).trim()];
}

// The documentation says undefined, the type definitions say null.
function first(values) {
  return values && values.length > 0 ? values[0] : "";
}

// A JSON Web Token whose time is not over (RFC 7519 section 4.1.4). "alg": "none" is none.
function isLiveJwt(token) {
  const match = JWT.exec(token);
  if (match === null) {
    return false;
  }
  const header = decodeJson(match[1]);
  const claims = decodeJson(match[2]);
  if (header === null || claims === null) {
    return false;
  }
  if (typeof header.alg !== "string" || header.alg.toLowerCase() === "none") {
    return false;
  }
  return typeof claims.exp === "number" && claims.exp + CLOCK_SKEW_S > Date.now() / 1000;
}

function decodeJson(text) {
  try {
    const value = JSON.parse(decodeBase64Url(text));
    return typeof value === "object" ? value : null;
  } catch (error) {
    return null;
  }
}

// Base64url without padding to Latin-1 (RFC 4648 section 5): claims that matter here are ASCII.
function decodeBase64Url(text) {
  let bits = 0;
  let held = 0;
  let out = "";
  for (const letter of text) {
    held = (held << 6) | LETTERS.indexOf(letter);
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out += String.fromCharCode((held >> bits) & 0xff);
      held &= (1 << bits) - 1;
    }
  }
  return out;
}

function refuse(request, body) {
  const headers = {
    "Content-Type": ["application/json"],
    "Cache-Control": ["no-store"],
    "WWW-Authenticate": ['Bearer realm="headwater"'],
  };
  request.respondWith(401, headers, body);
}

function badName(request, detail) {
  const headers = {
    "Content-Type": ["application/problem+json"],
    "Cache-Control": ["no-store"],
  };
  request.respondWith(400, headers, problem(400, "name_invalid", detail));
}

function problem(status, code, detail) {
  return JSON.stringify({ status, code, detail });
}

function openAiError() {
  const message = "no API key of a possible form: send it as 'Authorization: Bearer hw-...'";
  const error = { message, type: "invalid_request_error", param: null, code: "invalid_api_key" };
  return JSON.stringify({ error });
}
