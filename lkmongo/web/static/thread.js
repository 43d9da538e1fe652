/* The thread: what is said, what is typed, what the assistant did meanwhile and what it learned, in one order. */

import { $, button, element, icon, write } from "./dom.js";
import { has, moment, word } from "./words.js";

const NEAR = 90; // pixels from the end within which the thread follows what is new
const TOLD_BY_CARDS = ["remember_detail", "update_profile", "forget_detail"]; // tools that show as what was learned
const MARKS = { pending: "pending", sending: "sending", failed: "failed" };

export class Thread {
  constructor() {
    this.partial = new Map(); // segment: the line of what is being said
    this.record = []; // { at, who, text } of what the file of the transcript holds
    this.answered = 0; // times that the visitor said or typed something
    this.activities = null; // the element that gathers what the assistant is doing
    this.begun = new Map(); // tools that are at work
    $("newest").addEventListener("click", () => {
      this.#toEnd();
      $("scroll").focus();
    });
    $("scroll").addEventListener("scroll", () => ($("newest").hidden = this.#isAtEnd), { passive: true });
    // A smaller window, a keyboard on a phone or an open panel hides no new line.
    let [wasAtEnd, before] = [true, ""];
    const size = () => `${$("scroll").clientWidth} x ${$("scroll").clientHeight}`;
    // A new size scrolls as well, which is not the visitor's doing.
    $("scroll").addEventListener("scroll", () => {
      if (size() === before) wasAtEnd = this.#isAtEnd;
    }, { passive: true });
    if (window.ResizeObserver) {
      new ResizeObserver(() => {
        before = size();
        if (wasAtEnd) this.#toEnd();
      }).observe($("scroll"));
    }
  }

  get isEmpty() {
    return !$("transcript").childElementCount && !this.partial.size;
  }

  // ------------------------------------------------------------------ what is said

  /** What is being said so far. */
  interim({ segment, who, text }) {
    let line = this.partial.get(segment);
    if (!line) {
      line = this.#line(who);
      line.said = this.answered;
      this.partial.set(segment, line);
      this.#add($("partial"), line);
      if (who === "me") this.answered++;
    }
    write(line.words, text);
    this.#follow();
  }

  /** What was said in the end. */
  final({ segment, who, text, brokenOff }) {
    const line = this.partial.get(segment);
    this.partial.delete(segment);
    line?.remove();
    if (!text) return;
    // LiveKit says nothing of interruptions: whoever is cut short stops within a sentence, as the visitor begins.
    const cut = who === "assistant" && line && this.answered > line.said && !/[.!?…:)"”»]\s*$/.test(text);
    this.#say(who, text, brokenOff ? "broken_off" : cut ? "interrupted" : "");
  }

  /** Nobody goes on with what was being said: the call is over. */
  close() {
    for (const [segment, line] of [...this.partial]) {
      this.final({ segment, who: line.who, text: line.words.textContent.trim(), brokenOff: line.who === "assistant" });
    }
    this.activities = null;
  }

  #line(who, text = "") {
    const line = element("div", { className: `said ${who === "me" ? "mine" : ""}`.trim() });
    const words = element("span", { textContent: text });
    line.append(element("b", { textContent: word(`who_${who}`) }), words);
    return Object.assign(line, { who, words });
  }

  #say(who, text, mark = "") {
    const line = this.#line(who, text);
    line.title = moment(new Date());
    if (mark) {
      line.dataset.mark = mark;
      line.append(element("i", { className: "mark", textContent: word(mark) }));
    }
    this.record.push({ at: new Date(), who, text, mark });
    this.activities = null;
    this.#add($("transcript"), line);
    return line;
  }

  // ------------------------------------------------------------------ what is typed

  /** Show a message; returns what Call.send takes. `again(text)` is called when it is to be sent again. */
  message(text, again) {
    this.answered++;
    const line = this.#say("me", text);
    const entry = this.record.at(-1);
    const mark = element("i", { className: "mark" });
    line.append(mark);
    this.#toEnd();
    const becomes = (state) => {
      if (line.dataset.state === state) return;
      line.dataset.state = entry.mark = state;
      mark.textContent = MARKS[state] ? word(MARKS[state]) : "";
      line.querySelector("button")?.remove();
      if (state === "failed") {
        line.append(button(word("again"), () => {
          line.remove();
          this.record.splice(this.record.indexOf(entry), 1);
          again(text);
        }, { className: "tiny", label: word("again_what", { text }) }));
      }
      this.#follow();
    };
    becomes("pending");
    return { text, becomes };
  }

  // ------------------------------------------------------------------ what the assistant does and learns

  /** A tool that the assistant uses; several in a row become one line that can be opened. */
  activity({ tool, label, state }) {
    if (TOLD_BY_CARDS.includes(tool) && state !== "failed") return;
    const about = label || (has(`${tool}_label`) ? word(`${tool}_label`) : "");
    if (!about) return; // that something is going on shows in the figure
    const text = word([`${tool}_${state}`, `tool_${state}`].find(has) || "tool_done", { label: about });
    const key = `${tool} ${label}`;
    const begun = this.begun.get(key); // of a tool that was started, its line, wherever it is
    const list = begun?.parentElement ?? this.#activities().lastChild;
    const item = begun ?? element("li");
    item.textContent = text;
    if (!begun) list.append(item);
    if (state === "started") this.begun.set(key, item);
    else this.begun.delete(key);
    const group = list.parentElement;
    const more = list.childElementCount - 1;
    group.firstChild.lastChild.textContent = more ? word("activity_more", { text: list.lastChild.textContent, more }) : text;
    group.classList.toggle("single", !more);
    group.dataset.state = state;
    this.#follow();
  }

  #activities() {
    if (!this.activities) {
      this.activities = element("details", { className: "activity" });
      this.activities.append(element("summary", {}, icon("tool"), element("span")), element("ul"));
      this.#add($("transcript"), this.activities);
    }
    return this.activities;
  }

  /** What the assistant has just learned; `forget` may take it back, and returns whether it did. */
  learned({ label, content, change }, forget) {
    const card = element("div", { className: "learned" });
    const text = element("p", {}, element("b", { textContent: word(`memory_${change}`, { label }) }));
    if (content && change !== "forgotten") text.append(element("span", { textContent: content }));
    card.append(icon("memory"), text);
    if (change !== "forgotten") {
      const undo = button(word("forget"), async () => {
        undo.disabled = true;
        if (!(await forget())) return void (undo.disabled = false);
        undo.remove();
        card.classList.add("gone");
        text.firstChild.textContent = word("memory_forgotten", { label });
      }, { className: "tiny", label: word("forget_what", { label }) });
      card.append(undo);
    }
    this.activities = null;
    this.#add($("transcript"), card);
  }

  /** Where another conversation begins. */
  divide() {
    if (!this.isEmpty) this.#add($("transcript"), element("p", { className: "divider", textContent: word("new_conversation") }));
  }

  clear() {
    $("transcript").replaceChildren();
    $("partial").replaceChildren();
    this.partial.clear();
    this.record = [];
    this.activities = null;
    document.body.dataset.thread = "empty";
  }

  /** The transcript as text. */
  asText(title) {
    const lines = this.record
      .filter(({ mark }) => mark !== "failed")
      .map(({ at, who, text, mark }) => `[${moment(at)}] ${word(`who_${who}`)}: ${text}${has(mark) && !MARKS[mark] ? ` (${word(mark)})` : ""}`);
    return `${title}\n\n${lines.join("\n")}\n`;
  }

  // ------------------------------------------------------------------ the end of the thread

  get #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = $("scroll");
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  #toEnd() {
    $("scroll").scrollTop = $("scroll").scrollHeight;
  }

  #add(place, line) {
    const follows = this.#isAtEnd;
    const last = place.lastChild;
    if (line.who && last?.who === line.who) line.classList.add("goes-on");
    place.append(line);
    document.body.dataset.thread = "lines";
    if (follows) this.#toEnd();
    else $("newest").hidden = false;
  }

  #follow() {
    if (this.#isAtEnd) this.#toEnd();
  }
}
