// Runs the talk page's modules without a browser: reads who takes part and what happens, prints what the page shows then.
// The first argument is a folder with the modules and a package.json that says that they are modules.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

class Element {
  constructor(name = "") {
    Object.assign(this, { name, children: [], dataset: {}, value: "", hidden: false, listeners: {}, attributes: {}, found: {}, own: "" });
    this.classList = { add() {}, remove() {}, toggle() {} };
    this.style = { setProperty() {} };
  }
  get textContent() { return this.own + this.children.map((each) => each.textContent ?? each).join(""); }
  set textContent(text) { this.children = []; this.own = text; }
  get childElementCount() { return this.children.length; }
  get firstChild() { return this.children[0]; }
  get lastChild() { return this.children.at(-1); }
  append(...made) { for (const each of made) { this.children.push(each); each.parent = each.parentElement = this; } }
  prepend(...made) { this.children.unshift(...made); }
  replaceChildren(...made) { this.children = []; this.own = ""; this.append(...made); }
  remove() { if (this.parent) this.parent.children = this.parent.children.filter((each) => each !== this); }
  addEventListener(name, work) { this.listeners[name] = work; }
  setAttribute(name, value) { this.attributes[name] = value; }
  removeAttribute(name) { delete this.attributes[name]; }
  getAttribute(name) { return this.attributes[name]; }
  querySelector(selector) {
    const there = this.children.find((each) => each.name === selector);
    return there ?? (selector === "button" ? null : (this.found[selector] ??= new Element()));
  }
  focus() { document.activeElement = this; }
  contains() { return false; }
  closest() { return null; }
  click() {}
  getContext() { return null; }
}

const [folder] = process.argv.slice(2);
const { participants, steps, language = "en", page = {} } = JSON.parse(readFileSync(0, "utf8"));
const words = JSON.parse(readFileSync(join(folder, "words.json"), "utf8"))[language];
const elements = {};
const names = new Proxy({}, { get: (_, name) => name });
const sent = [];
const timers = [];
const server = { away: false, connects: 0, slow: null };
let room;

class Room {
  constructor() {
    room = this;
    this.handlers = {};
    this.events = {};
    this.state = "connected";
    this.localParticipant = {
      identity: "me",
      isMicrophoneEnabled: false,
      setMicrophoneEnabled: async (on) => void (this.localParticipant.isMicrophoneEnabled = on),
      getTrackPublication: () => null,
      sendText: async (text) => {
        if (server.away) throw new Error("no connection");
        await server.slow;
        sent.push(text);
      },
    };
    this.remoteParticipants = new Map(
      participants.map((each) => [each.identity, { attributes: {}, audioTrackPublications: new Map(), ...each }]));
    this.canPlaybackAudio = true;
  }
  on(name, work) { (this.events[name] ??= []).push(work); return this; }
  emit(name, ...told) { for (const work of this.events[name] ?? []) work(...told); }
  registerTextStreamHandler(topic, handler) { this.handlers[topic] = handler; }
  async connect() {
    server.connects++;
    if (server.away) throw new Error("could not establish a connection");
  }
  async disconnect() {}
}

const $ = (id) => (elements[id] ??= new Element());
Object.assign($("words"), { own: JSON.stringify(words) });
Object.assign($("page"), { own: JSON.stringify(page) });
globalThis.document = {
  title: words.name,
  body: new Element(),
  documentElement: { lang: language },
  activeElement: null,
  createElement: (name) => new Element(name),
  createElementNS: (_, name) => new Element(name),
  getElementById: $,
  querySelector: (selector) => $(selector),
  addEventListener() {},
};
globalThis.window = {
  addEventListener() {},
  matchMedia: () => ({ matches: false, addEventListener() {} }),
  LivekitClient: {
    Room, RoomEvent: names, DisconnectReason: names, Track: { Kind: names, Source: names }, ParticipantKind: { STANDARD: 0, AGENT: 4 },
  },
};
Object.defineProperty(globalThis, "navigator", { value: {} });
globalThis.fetch = async () => ({ ok: true, status: 201, json: async () => ({ server_url: "", participant_token: "" }) });
globalThis.setTimeout = (work, time) => timers.push({ work, time });
globalThis.clearTimeout = (number) => { if (timers[number - 1]) timers[number - 1].work = () => {}; };
globalThis.setInterval = () => 0;
console.info = () => {};
const settled = async () => { for (let turn = 0; turn < 5; turn++) await new Promise((done) => setImmediate(done)); };

const DO = {
  press: async (id) => void $(id).listeners.click({ target: $(id), currentTarget: $(id) }),
  check: async ([id, checked]) => void $(id).listeners.change({ target: { checked } }),
  example: async (number) => void $("examples").children[number].children[0].listeners.click(),
  type: async (text) => {
    $("message").value = text;
    $("typing").listeners.submit({ preventDefault() {} });
  },
  again: async () => void $("transcript").children.at(-1).children.at(-1).listeners.click(),
  hear: async ({ identity, text, segment = "", goesOn, isFinal = true }, number) => {
    const attributes = { "lk.segment_id": segment || String(number), "lk.transcription_final": String(isFinal) };
    async function* pieces() {
      yield text;
      if (goesOn) await new Promise(() => {});
    }
    const reader = { info: { id: String(number), attributes }, [Symbol.asyncIterator]: pieces };
    room.handlers["lk.transcription"](reader, { identity });
  },
  data: async ({ topic, identity, content }) => room.handlers[topic]({ readAll: async () => content }, { identity }),
  arrive: async (who) => {
    room.remoteParticipants.set(who.identity, { attributes: {}, audioTrackPublications: new Map(), ...who });
    room.emit("ParticipantConnected", room.remoteParticipants.get(who.identity));
  },
  agent: async (state) => {
    const [agent] = room.remoteParticipants.values();
    agent.attributes = { "lk.agent.state": state };
    room.emit("ParticipantAttributesChanged", {}, agent);
  },
  emit: async ([name, state, ...told]) => {
    room.state = state;
    room.emit(name, ...told);
  },
  away: async (away) => void (server.away = away),
  /** From here on what is sent is on its way, until it arrives; what is sent after that arrives at once. */
  slow: async () => void (server.slow = new Promise((done) => (server.arrive = done))),
  arrival: async () => {
    server.slow = null;
    server.arrive();
  },
  /** Let the timers of so many milliseconds run out, as often as there are any. */
  pass: async (time) => {
    for (const timer of timers) {
      if (timer.time !== time) continue;
      timer.time = 0;
      timer.work();
      await settled();
    }
  },
};

await import(pathToFileURL(join(folder, "talk.js")));
for (const [number, [name, what]] of steps.entries()) {
  await DO[name](what, number);
  await settled();
}
const texts = (line) => line.children.map((each) => each.textContent);
const { thread } = await import(pathToFileURL(join(folder, "talk.js")));
console.log(JSON.stringify({
  said: $("transcript").children.map(texts),
  marks: $("transcript").children.map((line) => line.dataset.state ?? line.dataset.mark ?? ""),
  partial: $("partial").children.map(texts),
  agent: document.body.dataset.agent,
  view: document.body.dataset.view,
  call: document.body.dataset.call,
  status: $("status").textContent,
  state: $("state").textContent,
  alert: $("alert").textContent,
  note: $("note").textContent,
  connects: server.connects,
  microphone: room?.localParticipant.isMicrophoneEnabled,
  file: thread.asText("Talk"),
  sent,
}));
process.exit(0);
