/* Microphone and loudspeaker: which one, whether it is on, how loud it is, and talking only while a button is held. */

import { choose, chosen } from "./choices.js";
import { $, element, redraw, write } from "./dom.js";
import { Loudness } from "./visual.js";
import { word } from "./words.js";

const KINDS = { audioinput: "microphone", audiooutput: "speaker" };
const STEPS = 5; // of the level meter on the buttons
const MEASURED = 80; // milliseconds between two readings

export class Devices {
  /** `call()` returns the conversation that is on, or null. */
  constructor(call) {
    this.call = call;
    this.pushes = Boolean(chosen("push")); // whether one talks only while holding
    $("push-to-talk").checked = this.pushes;
    this.loudness = null; // of the microphone
    this.held = false;
    setInterval(() => this.#measure(), MEASURED);
    $("mute").addEventListener("click", () => this.#toggle());
    $("sound-settings").addEventListener("click", () => this.#open());
    $("microphone").addEventListener("change", ({ target }) => this.#choose("audioinput", target.value));
    $("speaker").addEventListener("change", ({ target }) => this.#choose("audiooutput", target.value));
    $("push-to-talk").addEventListener("change", ({ target }) => this.#push(target.checked));
    navigator.mediaDevices?.addEventListener?.("devicechange", () => $("sound-dialog").open && this.#list());
    this.#listenToHolding();
  }

  get isOn() {
    return Boolean(this.call()?.me.isMicrophoneEnabled);
  }

  /** Whether the buttons show what is; called when anything of the microphone changes. */
  show() {
    const call = this.call();
    const there = call && call.isOn && !call.isVoiceless;
    const track = there ? call.microphoneTrack : null;
    if (track?.mediaStreamTrack !== this.measured) {
      this.loudness?.stop();
      this.measured = track?.mediaStreamTrack;
      this.loudness = track ? new Loudness(track) : null;
    }
    const hadFocus = [$("mute"), $("hold")].includes(document.activeElement);
    $("mute").hidden = !there || (this.pushes && Boolean(track));
    $("hold").hidden = !there || !this.pushes || !track;
    $("sound-settings").hidden = !there;
    $("mute").querySelector("span").textContent = word(track ? "mute" : "use_microphone");
    $("hold").querySelector("span").textContent = word(this.isOn ? "holding" : "hold");
    for (const name of ["mute", "hold"]) redraw($(name), track && this.isOn ? "mic" : "mic-off");
    if (track) $("mute").setAttribute("aria-pressed", String(!this.isOn));
    else $("mute").removeAttribute("aria-pressed");
    $("hold").dataset.on = String(this.isOn);
    // Whatever is hidden loses the focus, at once or a moment later.
    const lostFocus = hadFocus && (document.activeElement === document.body || document.activeElement?.hidden);
    if (lostFocus) ($("mute").hidden ? ($("hold").hidden ? $("message") : $("hold")) : $("mute")).focus();
  }

  /** The call is over: the choice between holding and not is kept, the microphone is not. */
  close() {
    this.held = false;
    if ($("sound-dialog").open) $("sound-dialog").close();
    this.show();
  }

  #toggle() {
    const call = this.call();
    if (call) call.useMicrophone(!this.isOn);
  }

  #measure() {
    if (!this.loudness) return;
    const level = this.isOn ? this.loudness.now : 0;
    const steps = String(Math.round(level * STEPS));
    for (const name of ["mute", "hold"]) {
      const bar = $(name).querySelector(".level");
      if (bar.dataset.level !== steps) bar.dataset.level = steps;
    }
    if ($("sound-dialog").open) $("level").value = level;
  }

  // ------------------------------------------------------------------ which device

  async #open() {
    await this.#list();
    $("sound-dialog").showModal();
  }

  async #list() {
    const found = await navigator.mediaDevices.enumerateDevices().catch(() => []);
    const { room } = this.call() || {};
    for (const [kind, id] of Object.entries(KINDS)) {
      const devices = found.filter((each) => each.kind === kind && each.deviceId);
      const options = devices.map(({ deviceId, label }, number) =>
        element("option", { value: deviceId, textContent: label || word(`${id}_number`, { number: number + 1 }) }));
      if (!options.length) options.push(element("option", { value: "", textContent: word("as_system") }));
      $(id).replaceChildren(...options);
      const active = room?.getActiveDevice(kind);
      if (devices.some(({ deviceId }) => deviceId === active)) $(id).value = active;
      $(id).disabled = !devices.length;
    }
    // Browsers that cannot choose a loudspeaker are not asked to.
    $("speaker-choice").hidden = !("setSinkId" in HTMLMediaElement.prototype);
  }

  async #choose(kind, deviceId) {
    try {
      await this.call()?.room.switchActiveDevice(kind, deviceId);
      choose(KINDS[kind], deviceId);
      this.show();
    } catch (error) {
      console.info(`The device cannot be used: ${error.message}`);
      this.call()?.page.microphone(error);
    }
  }

  // ------------------------------------------------------------------ push to talk

  #push(on) {
    this.pushes = on;
    choose("push", on ? "yes" : "");
    if (on && this.isOn) this.call().useMicrophone(false);
    else if (!on && this.call()?.microphoneTrack) this.call().useMicrophone(true);
    this.show();
  }

  #hold(on) {
    if (this.held === on || !this.pushes || $("hold").hidden) return;
    this.held = on;
    this.call().useMicrophone(on);
    write($("spoken"), word(on ? "microphone_on" : "microphone_off"));
  }

  #listenToHolding() {
    const button = $("hold");
    button.addEventListener("pointerdown", (event) => {
      button.setPointerCapture(event.pointerId);
      this.#hold(true);
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(name, () => this.#hold(false));
    button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long press on a phone
    // The space key talks from everywhere where it does not write or press something else.
    const talks = ({ key, target }) =>
      key === " " && this.pushes && (target === button || !target.closest("input, textarea, select, button, a, summary, dialog"));
    document.addEventListener("keydown", (event) => {
      if (!talks(event) || button.hidden) return;
      event.preventDefault();
      if (!event.repeat) this.#hold(true);
    });
    document.addEventListener("keyup", (event) => event.key === " " && this.#hold(false));
    window.addEventListener("blur", () => this.#hold(false));
  }
}
