/* What visitors may ask for themselves: their consent, a file of what is kept, its erasure, and who looked at it. */

import { $, element, write } from "./dom.js";
import { ask } from "./server.js";
import { moment, word } from "./words.js";

export class Rights {
  /** `page` has `say(text)` for the conversation and `erased()`, called before everything is erased and after it. */
  constructor(page) {
    this.page = page;
    this.agreed = false; // before the first conversation, when the server does not know this browser yet
    this.panel = null; // memory.js
    $("agree").addEventListener("click", () => this.#answer(true, page.say));
    $("decline").addEventListener("click", () => this.#answer(false, page.say));
    $("withdraw").addEventListener("click", ({ currentTarget }) =>
      this.#answer(currentTarget.dataset.agree === "true", (text) => this.panel.say(text)));
    $("erase").addEventListener("click", () => this.#ask());
    this.#confirmed("erasing", () => $("really").showModal());
    this.#confirmed("really", () => this.#erase());
  }

  /** Tell the server what was answered before it knew this browser. */
  async bring() {
    if (this.agreed) await ask("POST", "api/consent", { agree: true });
    this.agreed = false;
  }

  async load() {
    try {
      const { asks, question, consent, access } = await ask("GET", "api/rights");
      const agrees = consent?.state === "agreed";
      write($("consent-question"), word("consent_question", { question }));
      $("consent").hidden = !asks || Boolean(consent) || this.agreed || $("consent").dataset.answered === "no";
      $("consent-state").hidden = $("withdraw").hidden = !asks || !consent;
      if (consent) $("consent-state").textContent = word(`consent_${consent.state}`, { at: moment(consent.at) });
      $("withdraw").textContent = word(agrees ? "withdraw" : "remember_again");
      $("withdraw").dataset.agree = String(!agrees);
      $("access").hidden = access === null;
      $("looks").replaceChildren(
        ...(access?.length ? access : [{ action: word("nobody_looked") }]).map(({ at, action }) =>
          element("li", { textContent: at ? `${moment(at)}: ${action}` : action })));
    } catch (error) {
      console.info(`What you may ask for could not be loaded: ${error.message}`);
    }
  }

  /** Whether there is anything to download or to erase. */
  show(known) {
    $("export").hidden = $("erase").hidden = !known;
  }

  async #answer(agree, say) {
    try {
      const { consent } = await ask("POST", "api/consent", { agree });
      if (!consent) $("consent").dataset.answered = "no";
      say(word(agree ? "consent_yes" : "consent_no"));
    } catch (error) {
      // Before the first conversation the server does not know this browser: it is told when one begins.
      if (error.status !== 404) return say(error.message);
      this.agreed = agree;
      $("consent").dataset.answered = agree ? "yes" : "no";
      say(word(agree ? "consent_yes_start" : "consent_no_start"));
    }
    await this.load();
  }

  async #ask() {
    try {
      const { erased, orders_kept } = await ask("POST", "api/erase", {});
      const found = Object.entries(erased).filter(([, count]) => count).map(([name, count]) => word("count_in", { name, count }));
      const orders = orders_kept ? ` ${word("orders_stay", { count: orders_kept })}` : "";
      $("erasing-what").textContent = word("erasing_what", { what: found.join(", ") || word("what_is_kept") }) + orders;
      $("erasing").showModal();
    } catch (error) {
      this.panel.say(error.message);
    }
  }

  async #erase() {
    this.page.erased();
    this.panel.say(word("erasing"));
    try {
      const { receipt, erased_at } = await ask("POST", "api/erase", { confirm: "erase" }, 40_000);
      this.page.erased();
      await this.panel.load(receipt ? word("erased", { at: moment(erased_at), receipt }) : word("erasing_takes"));
    } catch (error) {
      this.panel.say(error.message);
    }
    $("memory-title").focus();
  }

  #confirmed(dialog, then) {
    $(dialog).addEventListener("close", () => {
      const isSure = $(dialog).returnValue === "erase";
      $(dialog).returnValue = "";
      if (isSure) then();
    });
  }
}
