// Runs the talk page's script without a browser: reads participants and what each sends, prints who is named for it.
"use strict";
const fs = require("fs");
const vm = require("vm");

class Element {
  constructor() {
    Object.assign(this, { children: [], dataset: {}, textContent: "", value: "", hidden: false, listeners: {} });
  }
  get childElementCount() { return this.children.length; }
  get lastChild() { return this.children.at(-1); }
  append(...made) { for (const each of made) { this.children.push(each); each.parent = this; } }
  replaceChildren(...made) { this.children = []; this.append(...made); }
  remove() { this.parent.children = this.parent.children.filter((each) => each !== this); }
  addEventListener(name, work) { this.listeners[name] = work; }
  setAttribute() {}
  removeAttribute() {}
  focus() {}
  contains() { return false; }
}

const { participants, streams } = JSON.parse(fs.readFileSync(0, "utf8"));
const elements = {};
const handlers = {};
const names = new Proxy({}, { get: (_, name) => name });

class Room {
  constructor() {
    this.localParticipant = { identity: "me", setMicrophoneEnabled: async () => {}, getTrackPublication: () => null };
    this.remoteParticipants = new Map(
      participants.map((each) => [each.identity, { attributes: {}, audioTrackPublications: new Map(), ...each }]));
    this.canPlaybackAudio = true;
  }
  on() { return this; }
  registerTextStreamHandler(topic, handler) { handlers[topic] = handler; }
  async connect() {}
  async disconnect() {}
}

const document = {
  title: "Talk",
  body: new Element(),
  createElement: () => new Element(),
  getElementById: (id) => (elements[id] ??= new Element()),
};
const window = {
  addEventListener() {},
  LivekitClient: {
    Room, RoomEvent: names, Track: { Kind: names, Source: names }, ParticipantKind: { STANDARD: 0, AGENT: 4 },
  },
};
const fetch = async () => ({ ok: true, status: 201, json: async () => ({ server_url: "", participant_token: "" }) });
vm.runInNewContext(fs.readFileSync(process.argv[2], "utf8"), {
  document, window, fetch, AbortSignal, console, setTimeout: () => 0, clearTimeout() {},
});

(async () => {
  await elements["start-typing"].listeners.click();
  await new Promise((done) => setImmediate(done));
  for (const [number, { identity, text, segment = String(number), goesOn }] of streams.entries()) {
    const attributes = { "lk.segment_id": segment, "lk.transcription_final": "true" };
    async function* pieces() {
      yield text;
      if (goesOn) await new Promise(() => {});
    }
    const reader = { info: { id: String(number), attributes }, [Symbol.asyncIterator]: pieces };
    handlers["lk.transcription"](reader, { identity });
    await new Promise((done) => setImmediate(done));
  }
  const $ = document.getElementById;
  const of = (lines) => lines.children.map((line) => line.children.map((each) => each.textContent));
  const [said, partial] = [of($("transcript")), of($("partial"))];
  console.log(JSON.stringify({ said, partial, state: document.body.dataset.agent, status: $("status").textContent }));
})();
