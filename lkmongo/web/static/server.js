/* Questions to this page's own server. */

import { word } from "./words.js";

/** The server could not be reached (status 0), or refused; the message is for the visitor. */
export class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The answer's JSON, null without one; `patience` in milliseconds. Raises Refusal. */
export async function ask(method, path, body, patience = 15_000) {
  const options = { method, credentials: "same-origin", signal: AbortSignal.timeout(patience) };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refusal(word("unreachable"), 0);
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  const why = await response.json().catch(() => ({}));
  if (response.status === 429) {
    const seconds = response.headers.get("Retry-After");
    throw new Refusal(seconds ? word("too_many", { seconds }) : word("too_many_some"), 429);
  }
  throw new Refusal(word("refused", { why: why.message || response.status }), response.status);
}
