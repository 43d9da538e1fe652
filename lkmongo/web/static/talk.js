/* The talk page: a conversation with the agent by voice and in writing, and what is remembered of the visitor.
   Here the parts meet: the call (call.js), the thread (thread.js), the figure of the voices (visual.js), microphone and
   loudspeaker (devices.js), and the panel (memory.js, rights.js). */

import { Call } from "./call.js";
import { choose, chosen } from "./choices.js";
import { Devices } from "./devices.js";
import { $, button, element, write } from "./dom.js";
import { Rights } from "./rights.js";
import { Refusal } from "./server.js";
import { Thread } from "./thread.js";
import { Loudness, Visual } from "./visual.js";
import { counted, duration, has, PAGE, word } from "./words.js";

const TITLE = document.title;
const FIGURES = { initializing: "connecting", idle: "listening", listening: "listening", thinking: "thinking", speaking: "speaking" };
const QUALITIES = ["excellent", "good", "poor", "lost"];
const MICROPHONE = { NotAllowedError: "not_allowed", NotFoundError: "no_microphone", NotReadableError: "in_use" };

let call = null; // the current conversation
let learned = 0; // what the assistant has learned in it
let loudness = null; // of the assistant's voice
const now = () => (call && !call.ended ? call : null);
const devices = new Devices(now);
export const thread = new Thread();
const visual = new Visual($("visual"), () => ({
  assistant: loudness?.now ?? 0,
  me: devices.isOn ? devices.loudness?.now ?? 0 : null,
}));
const rights = new Rights({ say, erased });

let loading; // the panel, whose scripts come last
const panel = () => (loading ??= import("./memory.js").then(({ Memory }) => new Memory(rights)));

// ------------------------------------------------------------------ words to the visitor

/** The state of the connection, which is read out. What the assistant is doing is only shown: it changes all the time. */
function say(text) {
  write($("status"), text);
  document.title = text ? `${text} - ${TITLE}` : TITLE;
}

const alerts = new Map();

/** Something is wrong, and the visitor can do something about it; without a text it is over. */
function warn(kind, text = "") {
  if ((alerts.get(kind) ?? "") === text) return;
  if (text) alerts.set(kind, text);
  else alerts.delete(kind);
  $("alert").replaceChildren(...[...alerts.values()].map((each) => element("p", { textContent: each })));
}

function quiet() {
  alerts.clear();
  $("alert").replaceChildren();
  write($("note"), "");
}

// ------------------------------------------------------------------ the conversation

function start({ aloud, first = "" }) {
  if (now()) return;
  quiet();
  if (!window.LivekitClient) return warn("start", word("no_client"));
  thread.divide();
  learned = 0;
  call = new Call(window.LivekitClient, page, { aloud, holds: devices.pushes });
  show("call");
  $("conversation").focus(); // the button that had the focus is gone
  const begun = call.begin(() => rights.bring());
  if (first) type(first);
  return begun;
}

/** What the call tells. */
const page = {
  connecting(again) {
    document.body.dataset.call = "connecting";
    visual.show("connecting");
    say(word(again ? "trying_again" : "connecting"));
  },
  on() {
    document.body.dataset.call = "on";
    show("call");
    devices.show();
    say(word("waiting"));
    (call.aloud && !$("mute").hidden ? $("mute") : $("message")).focus();
  },
  agent(state) {
    document.body.dataset.agent = state;
    visual.show(FIGURES[state] || "connecting");
    write($("state"), has(`agent_${state}`) ? word(`agent_${state}`) : "");
    say(state === "away" ? word("left") : "");
    if (state !== "away") warn("agent");
  },
  late: () => warn("agent", word("late")),
  left: () => warn("agent", word("left_alert")),
  /** The agent answers in writing: that is nothing to be alarmed of. */
  mute() {
    warn("microphone");
    write($("note"), word("no_voice"));
    devices.show();
  },
  interrupted() {
    document.body.dataset.call = "connecting";
    visual.show("connecting");
    say(word("interrupted_connection"));
  },
  back() {
    document.body.dataset.call = "on";
    say(call.agent ? "" : word("waiting"));
  },
  track(track) {
    $("sound").append(track.attach());
    loudness?.stop();
    loudness = new Loudness(track);
  },
  noTrack(track) {
    for (const each of track.detach()) each.remove();
  },
  playback(allowed) {
    $("start-audio").hidden = allowed;
    warn("sound", allowed ? "" : word("sound_off"));
  },
  microphone(error) {
    const why = error && (MICROPHONE[error.name] ? word(MICROPHONE[error.name]) : word("no_sound_in", { why: error.message }));
    warn("microphone", why ? `${why} ${word("type_meanwhile")}` : "");
    devices.show();
  },
  quality(quality) {
    const known = QUALITIES.includes(quality);
    $("quality").hidden = !known;
    $("quality").dataset.quality = quality;
    write($("quality").querySelector("span"), known ? word(`quality_${quality}`) : "");
  },
  interim(line) {
    thread.interim(line);
    if (line.who === "me") used();
  },
  final(line) {
    thread.final(line);
    if (line.who === "me") used();
    else if (!$("consent").hidden) rights.load(); // they may have answered aloud
  },
  activity: (what) => thread.activity(what),
  memory(what) {
    learned += what.change === "forgotten" ? 0 : 1;
    thread.learned(what, async () => (await panel()).forget(what));
    panel().then((memory) => memory.learned(what));
  },
  over(why, error) {
    const { startedAt } = call;
    const focused = document.activeElement === document.body || $("conversation").contains(document.activeElement);
    thread.close();
    quiet();
    $("sound").replaceChildren();
    loudness?.stop();
    loudness = null;
    document.body.dataset.call = "none";
    document.body.dataset.agent = "away";
    write($("state"), "");
    show(startedAt || !thread.isEmpty ? "ended" : "start");
    say(startedAt ? word("ended") : "");
    if (startedAt) {
      const facts = [duration((Date.now() - startedAt) / 1_000)];
      if (learned) facts.push(counted("learned", learned));
      $("summary").textContent = facts.join(" · ");
      $("summary").hidden = false;
    }
    if (has(`over_${why}`)) warn("start", error instanceof Refusal && error.status ? error.message : word(`over_${why}`));
    devices.close();
    if (focused) $("start").focus();
    if (!$("memory").hidden) panel().then((memory) => memory.load());
  },
};

function end() {
  now()?.end("asked");
}

/** Everything of the visitor is being erased, and so is what the page shows of it. */
function erased() {
  end();
  thread.clear();
  $("summary").hidden = true;
  show("start");
  say("");
}

/** Show the page as it is before, in and after a conversation. */
function show(view) {
  document.body.dataset.view = view;
  const inCall = view === "call";
  const isOn = inCall && call.isOn;
  $("greeting").hidden = view !== "start";
  $("fine").hidden = view !== "start";
  $("summary").hidden = true;
  $("examples").hidden = view === "ended" || (inCall && thread.answered > 0);
  $("start").hidden = $("start-typing").hidden = inCall;
  $("start").querySelector("span").textContent = word(view === "ended" ? "start_again" : "start");
  $("save").hidden = view !== "ended" || !thread.record.length;
  $("end").hidden = !inCall;
  $("typing").hidden = !isOn;
  if (!inCall) {
    $("start-audio").hidden = $("quality").hidden = true;
    visual.show("rest");
  }
}

// ------------------------------------------------------------------ what is typed

/** Put a message into the thread, and send it as soon as it can be; without a conversation, begin one with it. */
function type(text) {
  if (!now()) return start({ aloud: false, first: text });
  call.send(thread.message(text, type));
  used();
}

/** The visitor knows how to begin: the examples go. */
function used() {
  $("examples").hidden = true;
}

function save() {
  const file = new Blob([thread.asText(TITLE)], { type: "text/plain;charset=utf-8" });
  const link = element("a", { href: URL.createObjectURL(file), download: `${word("file_name")}-${new Date().toISOString().slice(0, 10)}.txt` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// ------------------------------------------------------------------ the controls

$("show-memory").addEventListener("click", async () => {
  try {
    (await panel()).toggle($("memory").hidden);
  } catch {
    warn("start", word("no_client"));
  }
});
// After the first paint, and not when it is needed first: the server may be away then.
window.addEventListener("load", () => panel().catch((error) => console.info(`The panel could not be loaded: ${error.message}`)));
$("start").addEventListener("click", () => start({ aloud: true }));
$("start-typing").addEventListener("click", () => start({ aloud: false }));
$("end").addEventListener("click", end);
$("save").addEventListener("click", save);
$("start-audio").addEventListener("click", () => now()?.room.startAudio());
$("typing").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("message").value.trim();
  if (!text || !now()) return;
  $("message").value = "";
  type(text);
});
window.addEventListener("pagehide", () => now()?.room.disconnect());

const examples = PAGE.examples?.length ? PAGE.examples : ["example_1", "example_2", "example_3"].map((key) => word(key));
$("examples").append(...examples.map((text) => element("li", {}, button(text, () => {
  type(text);
  $("message").focus();
}, { className: "chip" }))));
if (PAGE.logo) {
  Object.assign($("logo"), { src: PAGE.logo === true ? "logo" : PAGE.logo, hidden: false });
  document.body.dataset.logo = "own";
}
$("theme").value = chosen("theme");
$("theme").addEventListener("change", ({ target }) => {
  choose("theme", target.value);
  window.dispatchEvent(new Event("theme-chosen"));
});
rights.load();
show("start");
