/* The panel beside the conversation: what is remembered, past calls, and the visitor's own data (rights.js). */

import { callCard, lineCard, pathOf, place, suggestionCard } from "./cards.js";
import { $, write } from "./dom.js";
import { ask } from "./server.js";
import { counted, word } from "./words.js";

const TABS = ["lines", "calls", "data"];

export class Memory {
  /** `rights` is asked to look again whenever the panel does. */
  constructor(rights) {
    this.rights = rights;
    rights.panel = this;
    this.more = null; // where the next page of lines begins
    this.moreCalls = null;
    this.count = 0;
    this.unseen = 0; // learned while the panel was closed
    $("hide-memory").addEventListener("click", () => this.toggle(false));
    $("memory").addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.target.closest("form")) this.toggle(false);
    });
    for (const name of TABS) $(`tab-${name}`).addEventListener("click", () => this.#show(name));
    document.querySelector(".tabs").addEventListener("keydown", (event) => this.#walk(event));
    $("more").addEventListener("click", () => this.#more());
    $("more-calls").addEventListener("click", () => this.#calls(this.moreCalls));
    $("undo").addEventListener("click", () => this.#undo());
    $("delete-all").addEventListener("click", () => $("sure").showModal());
    $("sure").addEventListener("close", () => {
      if ($("sure").returnValue === "delete") this.change("DELETE", "api/memories", undefined, word("all_deleted"));
      $("sure").returnValue = "";
    });
    $("leave").addEventListener("click", () => this.change("POST", "api/logout", {}, word("left_browser")));
  }

  get isOpen() {
    return !$("memory").hidden;
  }

  toggle(on) {
    $("memory").hidden = !on;
    document.body.dataset.memory = on ? "open" : "closed";
    $("show-memory").setAttribute("aria-expanded", String(on));
    if (on) {
      this.unseen = 0;
      this.#badge();
      this.load();
      $("memory-title").focus();
    } else {
      this.#offerUndo(null);
      $("show-memory").focus();
    }
  }

  say(text) {
    write($("memory-status"), text);
  }

  // ------------------------------------------------------------------ tabs

  #show(name) {
    for (const each of TABS) {
      const on = each === name;
      $(`panel-${each}`).hidden = !on;
      $(`tab-${each}`).setAttribute("aria-selected", String(on));
      $(`tab-${each}`).tabIndex = on ? 0 : -1;
    }
    this.#offerUndo(null);
    if (name === "calls") this.#calls(null);
    else this.say(name === "lines" ? this.#told() : "");
  }

  #walk(event) {
    const at = TABS.findIndex((name) => $(`tab-${name}`).getAttribute("aria-selected") === "true");
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: TABS.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const name = TABS.at(to % TABS.length);
    this.#show(name);
    $(`tab-${name}`).focus();
  }

  // ------------------------------------------------------------------ what is remembered

  #told() {
    return this.count ? counted("lines", this.count) : word("nothing");
  }

  async load(note = "") {
    this.say(note || word("looking"));
    this.rights.load();
    try {
      const found = await ask("GET", "api/memories");
      const { known, logged_in, lines, suggestions, count } = found;
      $("suggestions").replaceChildren(...suggestions.map((each) => suggestionCard(each, (answer, told) =>
        this.change("POST", `api/suggestions/${encodeURIComponent(each.id)}/${answer}`, {}, told))));
      $("suggested").hidden = !suggestions.length;
      const hadGist = $("lines").querySelector("[data-name=last_call]");
      $("lines").replaceChildren(...lines.map((line) => lineCard(line, this)));
      this.#following(found.more);
      if (note && hadGist && lines.length && !$("lines").querySelector("[data-name=last_call]")) note += ` ${word("summary_went")}`;
      $("delete-all").hidden = !lines.length;
      $("leave").hidden = !known || logged_in;
      this.rights.show(known);
      this.count = count;
      this.say([note, this.#told()].filter(Boolean).join(" "));
    } catch (error) {
      $("lines").replaceChildren();
      this.#following(null);
      $("suggested").hidden = $("delete-all").hidden = $("leave").hidden = true;
      this.say(error.message);
    }
  }

  async #more() {
    const start = this.more;
    try {
      const found = await ask("GET", `api/memories?after=${encodeURIComponent(start)}`);
      if (start !== this.more) return; // the list has begun anew meanwhile
      const added = found.lines.map((line) => lineCard(line, this));
      $("lines").append(...added);
      this.#following(found.more);
      added[0]?.querySelector("button").focus();
    } catch (error) {
      this.say(error.message);
    }
  }

  #following(start) {
    this.more = start;
    $("more").hidden = !start;
  }

  /** Change something, tell the note, and show what is remembered then; returns whether it could be. */
  async change(method, path, body, note) {
    try {
      await ask(method, path, body);
    } catch (error) {
      this.say(error.message);
      return false;
    }
    this.#offerUndo(null);
    await this.load(note);
    $("memory-title").focus();
    return true;
  }

  async remove(card) {
    const { line } = card;
    const next = card.nextElementSibling || card.previousElementSibling;
    const at = next ? [...card.parentElement.children].indexOf(next) - (next === card.nextElementSibling ? 1 : 0) : -1;
    try {
      await ask("DELETE", pathOf(line));
    } catch (error) {
      return this.say(error.message);
    }
    card.remove();
    await this.load(word("is_deleted", { label: line.label }));
    this.#offerUndo(line.editable ? { line, note: word("is_back", { label: line.label }) } : null);
    ($("lines").children[at]?.querySelector(".acts button:last-child") || $("memory-title")).focus();
  }

  /** Store another text; returns whether it could be. */
  async edit(card, text) {
    const { line } = card;
    let stored;
    try {
      stored = await ask("PUT", pathOf(line), { content: text });
    } catch (error) {
      this.say(error.message);
      return false;
    }
    card.line = { ...line, ...stored };
    write(card.text, card.line.content);
    this.say(word("is_changed", { label: line.label }));
    this.#offerUndo({ line, note: word("is_as_before", { label: line.label }) });
    return true;
  }

  #offerUndo(last) {
    this.last = last;
    $("undo").hidden = !last;
  }

  async #undo() {
    const { line, note } = this.last;
    await this.change("PUT", pathOf(line), { content: line.content }, note);
  }

  // ------------------------------------------------------------------ what is learned in the conversation

  /** A card appears, changes or goes in the moment in which the agent's write is acknowledged. */
  learned({ kind, name, label, content, at, change }) {
    if (!this.isOpen) {
      this.unseen += change === "forgotten" ? 0 : 1;
      return this.#badge();
    }
    const known = [...$("lines").children].find(({ line }) => line.kind === kind && line.name === name);
    if (change === "forgotten") known?.remove();
    else {
      const card = lineCard({ kind, name, label, content, at, editable: known?.line.editable ?? true }, this);
      card.classList.add("new");
      place(card);
      $("delete-all").hidden = false;
    }
    this.count += change === "forgotten" ? -Number(Boolean(known)) : Number(!known);
    if (!$("panel-lines").hidden) this.say(this.#told());
  }

  /** Take back what was learned; returns whether it could be. */
  async forget({ kind, name }) {
    try {
      await ask("DELETE", pathOf({ kind, name }));
    } catch (error) {
      if (error.status !== 404) return false; // what is gone is forgotten
    }
    if (this.isOpen) this.load();
    return true;
  }

  #badge() {
    $("learned").hidden = !this.unseen;
    $("learned").textContent = this.unseen ? String(this.unseen) : "";
    if (this.unseen) $("learned").setAttribute("aria-label", counted("learned", this.unseen));
  }

  // ------------------------------------------------------------------ past calls

  async #calls(after) {
    this.say(word("looking"));
    try {
      const { sessions, more } = await ask("GET", after ? `api/sessions?after=${encodeURIComponent(after)}` : "api/sessions");
      const cards = sessions.map(callCard);
      if (after) $("calls").append(...cards);
      else $("calls").replaceChildren(...cards);
      this.moreCalls = more;
      $("more-calls").hidden = !more;
      if (!$("panel-calls").hidden) this.say($("calls").childElementCount ? "" : word("no_calls"));
    } catch (error) {
      if (!$("panel-calls").hidden) this.say(error.status === 404 ? word("no_calls") : error.message);
    }
  }
}
