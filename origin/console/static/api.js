// Every request that the page makes of its origin, but the live stream.

const API = "/console/api";

/** An answer that is not 2xx; `status` 0: there was none. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Whether this browser is logged in. Throws ApiError where nobody answers. */
export async function session() {
  return Boolean((await (await asked("/session")).json()).logged_in);
}

export const login = (token) => posted("/login", JSON.stringify({ token }));
/** Ends the login; gives what the origin says of those that do not know yet, or "". */
export const logout = async () => problemOf(await posted("/logout", "{}"));
export const logins = async () => (await asked("/logins")).json();
/** End one login, or, without an id, all but this one; gives as `logout`. */
export const endLogins = async (id = "") =>
  problemOf(
    await asked(`/logins${id && `/${encodeURIComponent(id)}`}`, { method: "DELETE", headers: OWN }),
  );
export const boots = async (worker) => (await asked(`/boots/${encodeURIComponent(worker)}`)).json();
/** The edges that may be asked, and what each offers to this key. */
export async function playground(key) {
  const headers = key ? { "X-Headwater-Api-Key": key } : {};
  return (await asked("/playground", { headers })).json();
}
export const LIVE = `${API}/live`;

/** Send a prompt to an edge; gives the Response, whose body streams. */
export function chat(body, { edge, key, signal }) {
  const headers = { "X-Headwater-Api-Key": key };
  if (edge) headers["X-Headwater-Edge"] = edge;
  return posted("/chat", JSON.stringify(body), headers, signal);
}

const OWN = { "X-Headwater-Console": "1" };

const problemOf = async (answer) => (await answer.json()).problem ?? "";

const posted = (path, body, headers = {}, signal = undefined) =>
  asked(path, {
    method: "POST",
    body,
    signal,
    headers: { "Content-Type": "application/json", ...OWN, ...headers },
  });

async function asked(path, options = {}) {
  let answer;
  try {
    answer = await fetch(API + path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The origin does not answer.");
  }
  if (answer.ok) return answer;
  throw new ApiError(answer.status, await reason(answer));
}

/** What the origin or the edge says went wrong, in their error forms, at most a few lines. */
async function reason(answer) {
  const body = (await answer.text().catch(() => "")).slice(0, 4000);
  let said = body;
  try {
    const parsed = JSON.parse(body);
    said = parsed.error?.message ?? parsed.detail ?? parsed.title ?? body;
  } catch {
    // It is not JSON: shown as it is.
  }
  const words = typeof said === "string" ? said.trim().slice(0, 500) : "";
  return words || `The origin answered ${answer.status}.`;
}
