/* For pages of other sites, which get no cookie here: they keep who their visitor is themselves, in localStorage.
 *
 *   import { token } from "https://talk.example.com/visitor.js";
 *   const source = TokenSource.custom(token);
 */

const HEADER = "X-Lkmongo-Visitor";
const KEY = "lkmongo-visitor";
const PATIENCE = 15_000;
let kept = null; // where the browser keeps nothing, for as long as the page is open
let last = Promise.resolve();

const read = () => {
  try {
    return localStorage.getItem(KEY) ?? kept;
  } catch {
    return kept;
  }
};

const keep = (value) => {
  kept = value;
  try {
    localStorage.setItem(KEY, value);
  } catch {}
};

/** One after the other, in all tabs: of two who come for the first time at once, the second is the first. */
const inTurn = (task) => navigator.locks?.request(KEY, task) ?? (last = last.then(task, task));

/** As `fetch`, for a path of the server that this file is from, and as this visitor. */
export const ask = (path, options = {}) => {
  const headers = new Headers(options.headers);
  headers.set(HEADER, read() ?? "new");
  return fetch(new URL(path, import.meta.url), { signal: AbortSignal.timeout(PATIENCE), ...options, headers });
};

/** What `TokenSource.custom` takes: a token for the visitor, who is known again. */
export const token = ({ agentName, agentMetadata, deployment, ...asked } = {}) =>
  inTurn(async () => {
    const agent = { agentName, metadata: agentMetadata, deployment };
    const roomConfig = Object.values(agent).some(Boolean) ? { agents: [agent] } : undefined;
    const headers = { "Content-Type": "application/json" };
    const response = await ask("api/token", { method: "POST", headers, body: JSON.stringify({ ...asked, roomConfig }) });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(`no token: ${response.status}, ${answer.message ?? "see the network panel"}`);
    if (answer.visitor_token) keep(answer.visitor_token);
    return answer;
  });

/** Log the visitor out: whoever comes next is somebody new. */
export const logout = () =>
  inTurn(async () => {
    const response = await ask("api/logout", { method: "POST" });
    if (!response.ok) throw new Error(`not logged out: ${response.status}`);
    keep("new");
  });
