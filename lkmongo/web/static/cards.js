/* What is remembered, as cards: a line, a suggestion, a past call. What a card does is up to the panel (memory.js). */

import { $, button, element } from "./dom.js";
import { ask } from "./server.js";
import { duration, has, moment, word } from "./words.js";

/** Where the server has a line. */
export const pathOf = ({ kind, name }) => `api/memories/${kind}/${encodeURIComponent(name)}`;

/** The card of a remembered line; the panel has `edit(card, text)` and `remove(card)`, which the buttons call. */
export function lineCard(line, panel) {
  const text = element("p", { className: "content", textContent: line.content });
  const card = element("li", {}, element("h3", { textContent: line.label }), text);
  Object.assign(card, { line, text });
  Object.assign(card.dataset, { kind: line.kind, name: line.name });
  const acts = element("div", { className: "acts" });
  // A server that does not say what may be edited knows neither edits nor reasons.
  if (line.editable !== undefined) acts.append(whyButton(card));
  if (line.editable) acts.append(act("edit", line.label, () => editing(card, panel)));
  acts.append(act("delete", line.label, () => panel.remove(card)));
  card.append(acts);
  return card;
}

function act(key, label, work) {
  return button(word(key), work, { className: "tiny", label: word(`${key}_what`, { label }) });
}

function editing(card, panel) {
  if (card.querySelector("form")) return;
  const field = element("textarea", { value: card.line.content, rows: 2, maxLength: 2_000, required: true });
  field.setAttribute("aria-label", card.line.label);
  const done = () => {
    form.remove();
    card.classList.remove("edited");
    card.querySelector(".acts button:nth-last-child(2)").focus();
  };
  const save = element("button", { type: "submit", className: "primary tiny", textContent: word("save_edit") });
  const form = element("form", {}, field, element("div", { className: "acts" }, save, button(word("cancel"), done, { className: "tiny" })));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (!text || text === card.line.content) return done();
    save.disabled = true;
    if (await panel.edit(card, text)) done();
    else save.disabled = false;
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") done();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  card.classList.add("edited");
  card.insertBefore(form, card.text.nextSibling);
  field.focus();
  field.select();
}

function whyButton(card) {
  const { label } = card.line;
  const made = act("why", label, async () => {
    const open = card.querySelector(".why");
    open?.remove();
    made.setAttribute("aria-expanded", String(!open));
    if (open) return;
    const answer = element("div", { className: "why" }, element("p", { textContent: word("looking") }));
    answer.setAttribute("role", "status");
    card.append(answer);
    try {
      answer.replaceChildren(...reason(await ask("GET", `${pathOf(card.line)}/why`)));
    } catch (error) {
      answer.replaceChildren(element("p", { textContent: error.status === 404 ? word("why_unknown") : error.message }));
    }
  });
  made.setAttribute("aria-expanded", "false");
  return made;
}

function reason({ said, answer, at, session, by }) {
  const time = at || session?.started_at;
  const key = `why_${by}`;
  const source = has(key) ? word(key, { at: time ? moment(time) : "" }).trim() : time ? moment(time) : "";
  const parts = [element("p", { textContent: source || word("why_unknown") })];
  if (said) parts.push(element("blockquote", { textContent: said }));
  if (answer) parts.push(element("p", { className: "small", textContent: word("why_answer", { answer }) }));
  return parts;
}

/** The card of something that is remembered only if the visitor says so; `decide(answer, note)` is called with it. */
export function suggestionCard({ label, content, ended, of_guest, instead_of }, decide) {
  let text = ended ? word("no_longer", { content }) : content;
  if (of_guest) text = instead_of ? word("of_guest_instead", { text, instead_of }) : word("of_guest", { text });
  const acts = element("div", { className: "acts" });
  for (const [answer, words, note] of [
    ["accept", of_guest ? "keep_this" : "remember", "is_remembered"],
    ["decline", "discard", of_guest ? "stays" : "is_not_remembered"],
  ]) {
    acts.append(button(word(words), () => decide(answer, word(note, { label })), {
      className: "tiny",
      label: `${word(words)} ${label}: ${text}`,
    }));
  }
  return element("li", {}, element("h3", { textContent: label }), element("p", { className: "content", textContent: text }), acts);
}

/** The card of a past call. */
export function callCard({ started_at, ended_at, channel, summary }) {
  const about = [];
  if (ended_at) about.push(duration((new Date(ended_at) - new Date(started_at)) / 1_000));
  if (channel) about.push(has(`channel_${channel}`) ? word(`channel_${channel}`) : channel);
  const head = element("h3", {}, element("time", { textContent: moment(started_at), dateTime: started_at }));
  if (about.length) head.append(element("span", { textContent: ` · ${about.join(" · ")}` }));
  return element("li", {}, head, element("p", { className: "content", textContent: summary || word("no_summary") }));
}

/** Put a card into the list: in the place of the one of the same line, or first. */
export function place(card) {
  const { kind, name } = card.line;
  const known = [...$("lines").children].find((each) => each.line.kind === kind && each.line.name === name);
  if (known) known.replaceWith(card);
  else $("lines").prepend(card);
}
