/* One conversation: a LiveKit room with the agent. It knows nothing of the page, which it tells what happens. */

import { chosen } from "./choices.js";
import { ask } from "./server.js";

const AGENT_PATIENCE = 6_000; // milliseconds for the agent to join, before the visitor is asked to wait
const LAST_PATIENCE = 300_000; // milliseconds for which workers look for callers to whom nobody has come
const VOICE_PATIENCE = 4_000; // milliseconds for an agent with a voice to publish its track
const CONFIRMED_AFTER = 20_000; // milliseconds after which a lost connection would have been noticed
const RETRIES = [1_000, 2_000, 4_000, 8_000]; // milliseconds between attempts to begin
const TRIES = 3; // attempts to send one message
const KNOWN_WITHIN = 2_000; // milliseconds for LiveKit to tell who somebody is who has already sent something
const DATA = { "lkmongo.activity": "activity", "lkmongo.memory": "memory" };

// A server that is given no STUN server names public ones. Nobody else has to be asked for the way to one on this machine.
const isHere = (url) => /^wss?:\/\/(localhost|127\.[\d.]+|\[::1\])([:/]|$)/.test(url);

/** The device that was chosen, if it is still there; else the system's. */
function device(kind) {
  const deviceId = chosen(kind);
  return deviceId ? { deviceId } : {};
}

/**
 * What a call tells, by the name of the method of `page`: `connecting(again)`, `on()`, `agent(state)`, `late()`, `left()`,
 * `mute()` (the agent has no voice), `interrupted()`, `back()`, `over(why, error)`, `track(track)`, `noTrack(track)`,
 * `playback(allowed)`, `microphone(error)`, `quality(quality)`, `interim(line)`, `final(line)`, `activity(what)`,
 * `memory(what)`. A line is { segment, who, text, brokenOff }, with `who` of me, assistant and other.
 */
export class Call {
  constructor(client, page, { aloud, holds = false }) {
    Object.assign(this, { client, page, aloud, holds, agent: null, ended: false, isOn: false, isVoiceless: false, startedAt: null });
    this.room = new client.Room({
      audioCaptureDefaults: device("microphone"),
      audioOutput: device("speaker"),
      publishDefaults: { preConnectBuffer: true }, // what is said before the agent is there is brought to it
    });
    this.timers = new Set();
    this.streams = 0;
    this.newest = new Map(); // segment: the number of its newest stream
    this.waiting = []; // messages that are not sent
    this.unconfirmed = []; // messages that are sent, and that a break of the connection may still lose
    this.#listen();
  }

  get me() {
    return this.room.localParticipant;
  }

  get microphoneTrack() {
    return this.me.getTrackPublication(this.client.Track.Source.Microphone)?.track;
  }

  // ------------------------------------------------------------------ begin and end

  async begin(beforehand) {
    for (let attempt = 0; !this.ended; attempt++) {
      this.page.connecting(attempt > 0);
      try {
        const { server_url, participant_token } = await ask("POST", "api/token", {});
        if (this.ended) return;
        await beforehand();
        await this.room.connect(server_url, participant_token, isHere(server_url) ? { rtcConfig: { iceServers: [] } } : {});
        break;
      } catch (error) {
        // A server that refuses does so again; one that is away may come back.
        if (error.status || attempt >= RETRIES.length) return this.end("not_begun", error);
        await new Promise((done) => this.#later(done, RETRIES[attempt]));
      }
    }
    if (this.ended) return void this.room.disconnect();
    this.isOn = true;
    this.startedAt = Date.now();
    this.page.on();
    for (const participant of this.room.remoteParticipants.values()) this.#arrive(participant);
    if (!this.agent) this.#wait();
    if (this.aloud) await this.useMicrophone(true);
    if (this.aloud && this.holds) await this.useMicrophone(false); // it is there, and waits for being held
  }

  /** End it; `why` names the reason for the page. */
  end(why, error) {
    if (this.ended) return;
    this.ended = true;
    this.isOn = false;
    for (const timer of this.timers) clearTimeout(timer);
    this.room.disconnect().catch(() => {});
    for (const message of [...this.unconfirmed, ...this.waiting]) message.becomes("failed");
    this.page.over(why, error);
  }

  #later(work, time) {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      work();
    }, time);
    this.timers.add(timer);
    return timer;
  }

  #wait() {
    this.lateAgent = this.#later(() => {
      this.page.late();
      this.lateAgent = this.#later(() => this.end("nobody"), LAST_PATIENCE - AGENT_PATIENCE);
    }, AGENT_PATIENCE);
  }

  // ------------------------------------------------------------------ what LiveKit tells

  #listen() {
    const { RoomEvent: Event, Track, DisconnectReason: Reason = {} } = this.client;
    let isNew = false; // whether a connection that is coming back is a new one, on which nothing is sent again by itself
    const whileOn = (work) => (...told) => this.isOn && work(...told);
    const interrupted = whileOn(() => this.page.interrupted());
    this.room
      .on(Event.ParticipantConnected, (participant) => this.#arrive(participant))
      .on(Event.ParticipantDisconnected, (participant) => {
        if (participant !== this.agent) return;
        this.agent = null;
        if (this.ended) return;
        this.page.agent("away");
        this.lateAgent = this.#later(() => this.page.left(), AGENT_PATIENCE);
      })
      .on(Event.ParticipantAttributesChanged, (_, participant) => participant === this.agent && this.#agentState())
      .on(Event.TrackSubscribed, (track) => track.kind === Track.Kind.Audio && this.page.track(track))
      .on(Event.TrackUnsubscribed, (track) => this.page.noTrack(track))
      .on(Event.AudioPlaybackStatusChanged, () => this.page.playback(this.room.canPlaybackAudio))
      .on(Event.LocalTrackPublished, whileOn(() => this.page.microphone()))
      .on(Event.LocalTrackUnpublished, whileOn(() => this.page.microphone()))
      .on(Event.TrackMuted, whileOn(() => this.page.microphone()))
      .on(Event.TrackUnmuted, whileOn(() => this.page.microphone()))
      .on(Event.ConnectionQualityChanged, whileOn((quality, who) => who === this.me && this.page.quality(quality)))
      .on(Event.SignalReconnecting, interrupted)
      .on(Event.Reconnecting, () => {
        isNew = true;
        interrupted();
      })
      .on(Event.Reconnected, whileOn(() => {
        if (isNew) {
          for (const message of this.unconfirmed) message.becomes("pending");
          this.waiting.unshift(...this.unconfirmed.splice(0));
        }
        isNew = false;
        this.page.back();
        if (this.agent) this.#agentState();
        this.#pump();
      }))
      .on(Event.Disconnected, whileOn((reason) => {
        const meant = [Reason.ROOM_DELETED, Reason.ROOM_CLOSED, Reason.PARTICIPANT_REMOVED].includes(reason);
        this.end(meant ? "closed" : "lost");
      }));
    this.room.registerTextStreamHandler("lk.transcription", (reader, sender) => this.#heard(reader, sender.identity));
    for (const [topic, name] of Object.entries(DATA)) {
      this.room.registerTextStreamHandler(topic, (reader, sender) => this.#data(reader, sender.identity, name));
    }
  }

  // Only LiveKit's server makes a participant an agent; others may be allowed to say that they are one.
  #isAgent(participant) {
    return participant?.kind === this.client.ParticipantKind.AGENT;
  }

  // What somebody sends may come before LiveKit has told that they are there.
  async #speaker(identity) {
    if (identity === this.me.identity) return "me";
    if (!this.room.remoteParticipants.has(identity)) {
      await new Promise((done) => {
        const known = (participant) => participant.identity === identity && done();
        this.room.on(this.client.RoomEvent.ParticipantConnected, known);
        this.#later(done, KNOWN_WITHIN);
      });
    }
    return this.#isAgent(this.room.remoteParticipants.get(identity)) ? "assistant" : "other";
  }

  #arrive(participant) {
    if (!this.#isAgent(participant) || this.agent || this.ended) return;
    this.agent = participant;
    clearTimeout(this.lateAgent);
    this.#agentState();
    this.#later(() => {
      if (participant !== this.agent || participant.audioTrackPublications.size) return;
      this.isVoiceless = true;
      this.aloud = false;
      this.me.setMicrophoneEnabled(false).catch(() => {});
      this.page.mute();
    }, VOICE_PATIENCE);
  }

  #agentState() {
    if (this.ended) return;
    const state = this.agent.attributes["lk.agent.state"] || "initializing";
    if (state === "thinking" || state === "speaking") this.#confirm();
    this.page.agent(state);
    this.#pump();
  }

  /** Turn the microphone on or off; of two wishes in a row the later one holds. */
  useMicrophone(on) {
    this.switching = (this.switching || Promise.resolve()).then(async () => {
      let failure;
      try {
        if (!this.ended) await this.me.setMicrophoneEnabled(on);
      } catch (error) {
        failure = error;
      }
      if (!this.ended) this.page.microphone(failure);
    });
    return this.switching;
  }

  // ------------------------------------------------------------------ what is said and told

  async #heard(reader, identity) {
    const who = await this.#speaker(identity);
    const attributes = reader.info.attributes || {};
    const segment = `${identity} ${attributes["lk.segment_id"] || reader.info.id}`;
    const number = ++this.streams;
    if (who === "assistant") this.#confirm();
    let text = "";
    let brokenOff = false;
    try {
      for await (const piece of reader) {
        text += piece;
        if (this.ended || (this.newest.get(segment) || 0) > number) continue;
        this.newest.set(segment, number);
        this.page.interim({ segment, who, text });
      }
    } catch (error) {
      brokenOff = true; // what arrived so far is shown
      console.info(`A transcript broke off: ${error.message}`);
    }
    // The caller's words arrive whole with each update; the agent's arrive once, in pieces.
    if (this.ended || (who === "me" && attributes["lk.transcription_final"] !== "true")) return;
    this.page.final({ segment, who, text: text.trim(), brokenOff });
  }

  /** What the agent does and learns; from anybody else it counts for nothing. */
  async #data(reader, identity, name) {
    try {
      const told = JSON.parse(await reader.readAll());
      if ((await this.#speaker(identity)) === "assistant" && !this.ended) this.page[name](told);
    } catch (error) {
      console.info(`${name} could not be read: ${error.message}`);
    }
  }

  // ------------------------------------------------------------------ what is typed

  /** Send a message when it can be; its `becomes` is told "sending", "sent", "pending" (again) or "failed". */
  send(message) {
    message.tries = 0;
    this.waiting.push(message);
    this.#pump();
  }

  get #isReady() {
    const there = this.agent && this.agent.attributes["lk.agent.state"] !== "initializing";
    return this.isOn && there && this.room.state !== "reconnecting" && this.room.state !== "signalReconnecting";
  }

  // One at a time, in the order in which they were typed.
  async #pump() {
    if (this.pumping) return;
    this.pumping = true;
    while (this.waiting.length && this.#isReady) {
      const message = this.waiting[0];
      message.becomes("sending");
      try {
        await this.me.sendText(message.text, { topic: "lk.chat" });
      } catch (error) {
        console.info(`A message could not be sent: ${error.message}`);
        if (this.ended) break;
        if (!this.#isReady) message.becomes("pending"); // it is sent when the connection is back
        else if (++message.tries < TRIES) await new Promise((done) => this.#later(done, 1_000));
        else {
          this.#take(message);
          message.becomes("failed");
        }
        continue;
      }
      if (this.ended) break;
      this.#take(message);
      this.unconfirmed.push(message);
      this.#later(() => this.#isReady && this.#confirm(message), CONFIRMED_AFTER);
    }
    this.pumping = false;
  }

  // While it was on its way, those that a break may have lost may have got before it.
  #take(message) {
    this.waiting.splice(this.waiting.indexOf(message), 1);
  }

  // LiveKit takes a message before it knows that the connection is gone. That the agent reacts shows that it arrived.
  #confirm(last = this.unconfirmed.at(-1)) {
    const count = this.unconfirmed.indexOf(last) + 1;
    for (const message of this.unconfirmed.splice(0, count)) message.becomes("sent");
  }
}
