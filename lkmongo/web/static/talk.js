/* The talk page: a LiveKit room with the agent, by voice and in writing, and what is remembered of the caller.
   Everything that was said or is remembered comes into the page as text, never as markup. */
(() => {
  "use strict";

  const AGENT_PATIENCE = 6_000; // milliseconds for the agent to join, before the visitor is asked to wait
  const LAST_PATIENCE = 300_000; // milliseconds for which workers look for callers to whom nobody has come
  const VOICE_PATIENCE = 4_000; // milliseconds for an agent with a voice to publish its track
  const TITLE = document.title;
  const STATES = {
    initializing: "The assistant is getting ready",
    idle: "The assistant is here",
    listening: "The assistant is listening",
    thinking: "The assistant is thinking",
    speaking: "The assistant is speaking",
  };

  const $ = (id) => document.getElementById(id);
  let call = null; // the current conversation: { room, agent, ended, ... }

  // ------------------------------------------------------------------ words to the user

  function say(text) {
    if ($("status").textContent !== text) $("status").textContent = text;
    document.title = call ? `${text} - ${TITLE}` : TITLE;
  }

  const alerts = new Map();

  function warn(kind, text) {
    if (alerts.get(kind) === text) return;
    if (text) alerts.set(kind, text);
    else alerts.delete(kind);
    $("alert").replaceChildren(
      ...[...alerts.values()].map((each) => Object.assign(document.createElement("p"), { textContent: each })),
    );
  }

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // ------------------------------------------------------------------ the server

  async function ask(method, path, body, patience = 15_000) {
    const options = { method, credentials: "same-origin", signal: AbortSignal.timeout(patience) };
    if (body !== undefined) {
      options.headers = { "Content-Type": "application/json" };
      options.body = JSON.stringify(body);
    }
    let response;
    try {
      response = await fetch(path, options);
    } catch {
      throw new Error("The server cannot be reached. Check your connection, then try again.");
    }
    if (response.ok) return response.status === 204 ? null : response.json();
    const why = await response.json().catch(() => ({}));
    if (response.status === 429) {
      throw new Error(`Too many requests. Try again in ${response.headers.get("Retry-After") || "some"} seconds.`);
    }
    throw new Error(`The server refused: ${why.message || response.status}.`);
  }

  // ------------------------------------------------------------------ the conversation

  async function start({ aloud }) {
    if (call) return;
    const client = window.LivekitClient;
    if (!client) {
      warn("start", "LiveKit's browser client could not be loaded. Check your connection and content blockers, then reload.");
      return;
    }
    const room = new client.Room();
    const mine = (call = { room, agent: null, ended: false, aloud, client, partial: new Map() });
    alerts.clear();
    warn("start", "");
    show("connecting");
    say("Connecting");
    $("conversation").focus(); // the button that had the focus is gone
    listen(mine);
    try {
      const { server_url, participant_token } = await ask("POST", "api/token", {});
      if (mine.ended) return;
      if (agreed) await ask("POST", "api/consent", { agree: true });
      agreed = false;
      await room.connect(server_url, participant_token);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      over(mine, "Not in a conversation");
      warn("start", text.startsWith("The server") || text.startsWith("Too many")
        ? text
        : `The conversation could not begin: ${text}. Is the LiveKit server running?`);
      return;
    }
    if (mine.ended) return;
    show("on");
    if (!mine.agent) {
      say("Waiting for the assistant");
      mine.lateAgent = setTimeout(() => {
        warn("agent", "This takes longer than usual. Please wait: you will be connected as soon as an assistant is free.");
        mine.lateAgent = setTimeout(() => {
          over(mine, "Not in a conversation");
          warn("start", "No assistant was free. Please try again later.");
        }, LAST_PATIENCE - AGENT_PATIENCE);
      }, AGENT_PATIENCE);
    }
    for (const participant of room.remoteParticipants.values()) arrive(mine, participant);
    if (aloud) await microphone(mine, true);
    if (mine.ended) return;
    (mine.aloud ? $("mute") : $("message")).focus();
  }

  function listen(mine) {
    const { room, client } = mine;
    const Event = client.RoomEvent;
    room
      .on(Event.ParticipantConnected, (participant) => arrive(mine, participant))
      .on(Event.ParticipantDisconnected, (participant) => {
        if (participant !== mine.agent) return;
        mine.agent = null;
        agentState(mine, "away");
        if (!mine.ended) {
          warn("agent", "The assistant has left the conversation. End it, and start another.");
          say("The assistant has left");
        }
      })
      .on(Event.ParticipantAttributesChanged, (_, participant) => {
        if (participant === mine.agent) agentState(mine, participant.attributes["lk.agent.state"]);
      })
      .on(Event.TrackSubscribed, (track) => {
        if (track.kind === client.Track.Kind.Audio) $("sound").append(track.attach());
      })
      .on(Event.TrackUnsubscribed, (track) => track.detach().forEach((each) => each.remove()))
      .on(Event.AudioPlaybackStatusChanged, () => {
        $("start-audio").hidden = room.canPlaybackAudio;
        warn("sound", room.canPlaybackAudio ? "" : "Your browser keeps the sound off until you turn it on.");
      })
      .on(Event.LocalTrackUnpublished, () => showMicrophone(mine))
      .on(Event.TrackMuted, () => showMicrophone(mine))
      .on(Event.TrackUnmuted, () => showMicrophone(mine))
      .on(Event.SignalReconnecting, () => interrupted(mine))
      .on(Event.Reconnecting, () => interrupted(mine))
      .on(Event.Reconnected, () => {
        if (mine.ended) return;
        document.body.dataset.call = "on";
        if (mine.agent) agentState(mine, mine.agent.attributes["lk.agent.state"]);
        else say("Waiting for the assistant");
      })
      .on(Event.Disconnected, () => {
        if (mine.ended) return;
        over(mine, "The conversation has ended");
        warn("connection", "The connection to the conversation was closed. You can start another.");
      });
    room.registerTextStreamHandler("lk.transcription", (reader, sender) => heard(mine, reader, sender.identity));
  }

  function interrupted(mine) {
    if (mine.ended) return;
    say("The connection is interrupted; trying again");
    document.body.dataset.call = "connecting";
  }

  // Only LiveKit's server makes a participant an agent; others may be allowed to say that they are one.
  function isAgent(mine, participant) {
    return participant?.kind === mine.client.ParticipantKind.AGENT;
  }

  function speaker(mine, identity) {
    if (identity === mine.room.localParticipant.identity) return "You";
    return isAgent(mine, mine.room.remoteParticipants.get(identity)) ? "Assistant" : "Somebody else";
  }

  function arrive(mine, participant) {
    if (!isAgent(mine, participant) || mine.agent) return;
    mine.agent = participant;
    clearTimeout(mine.lateAgent);
    warn("agent", "");
    agentState(mine, participant.attributes["lk.agent.state"] || "initializing");
    mine.lateVoice = setTimeout(() => {
      if (mine.ended || participant.audioTrackPublications.size) return;
      mine.aloud = false;
      mine.room.localParticipant.setMicrophoneEnabled(false).catch(() => {});
      warn("microphone", "");
      warn("voice", "The assistant has no voice here: type, and it answers in writing.");
      const onButton = document.activeElement === $("mute"); // which is hidden next
      showMicrophone(mine);
      if (onButton) $("message").focus();
    }, VOICE_PATIENCE);
  }

  function agentState(mine, state) {
    if (mine.ended) return;
    document.body.dataset.agent = state || "away";
    if (STATES[state]) say(STATES[state]);
  }

  async function microphone(mine, on) {
    try {
      await mine.room.localParticipant.setMicrophoneEnabled(on);
      warn("microphone", "");
    } catch (error) {
      const why = {
        NotAllowedError: "The microphone is not allowed. Allow it in the site settings of your browser, then press Use microphone.",
        NotFoundError: "There is no microphone. Connect one, then press Use microphone.",
        NotReadableError: "The microphone is in use by another program. Close that, then press Use microphone.",
      }[error.name] || `The microphone does not work: ${error.message}.`;
      if (!mine.ended) warn("microphone", `${why} You can type meanwhile.`);
    }
    showMicrophone(mine);
  }

  function showMicrophone(mine) {
    if (mine.ended) return;
    const me = mine.room.localParticipant;
    const there = me.getTrackPublication(mine.client.Track.Source.Microphone);
    const button = $("mute");
    button.hidden = alerts.has("voice");
    button.textContent = there ? "Mute microphone" : "Use microphone";
    if (there) button.setAttribute("aria-pressed", String(!me.isMicrophoneEnabled));
    else button.removeAttribute("aria-pressed");
  }

  function show(state) {
    document.body.dataset.call = state;
    const on = state === "on";
    const none = state === "none";
    $("welcome").hidden = !none || Boolean($("transcript").childElementCount);
    $("start").hidden = $("start-typing").hidden = !none;
    $("end").hidden = none;
    $("typing").hidden = !on;
    $("transcript").hidden = none && !$("transcript").childElementCount;
    if (none) {
      $("mute").hidden = $("start-audio").hidden = $("partial").hidden = true;
    } else if (on) {
      showMicrophone(call);
    }
  }

  function over(mine, text) {
    if (mine.ended) return;
    mine.ended = true;
    clearTimeout(mine.lateAgent);
    clearTimeout(mine.lateVoice);
    mine.room.disconnect().catch(() => {});
    const focused = document.activeElement === document.body || $("conversation").contains(document.activeElement);
    call = null;
    alerts.clear();
    warn("none", "");
    $("partial").replaceChildren();
    $("sound").replaceChildren();
    document.body.dataset.agent = "away";
    show("none");
    say(text);
    if (focused) $("start").focus();
    if (!$("memory").hidden) remembered();
  }

  // ------------------------------------------------------------------ what is said

  async function heard(mine, reader, identity) {
    const who = speaker(mine, identity);
    const segment = `${identity} ${reader.info.attributes?.["lk.segment_id"] || reader.info.id}`;
    const number = (mine.streams = (mine.streams || 0) + 1);
    let text = "";
    try {
      for await (const piece of reader) {
        text += piece;
        if (!mine.ended) interim(mine, segment, number, who, text);
      }
    } catch (error) {
      console.info(`A transcript broke off: ${error.message}`); // what arrived so far is shown
    }
    if (mine.ended) return;
    // The caller's words arrive whole with each update; the agent's arrive once, in pieces.
    if (who !== "You" || reader.info.attributes?.["lk.transcription_final"] === "true") final(mine, segment, who, text);
  }

  function interim(mine, segment, number, who, text) {
    const known = mine.partial.get(segment);
    if (known && known.number > number) return;
    const line = known ? known.line : spoken(who, "");
    mine.partial.set(segment, { line, number });
    line.lastChild.textContent = text;
    if (!known) $("partial").append(line);
    $("partial").hidden = false;
  }

  function final(mine, segment, who, text) {
    mine.partial.get(segment)?.line.remove();
    mine.partial.delete(segment);
    $("partial").hidden = !$("partial").childElementCount;
    if (text.trim()) write(who, text.trim());
  }

  function spoken(who, text) {
    const line = element("div", { className: who === "You" ? "said mine" : "said" });
    line.append(element("b", { textContent: who }), element("span", { textContent: text }));
    return line;
  }

  function write(who, text) {
    const log = $("transcript");
    const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    log.append(spoken(who, text));
    if (who !== "You" && !$("consent").hidden) rights(); // they may have answered aloud
    if (follows || who === "You") log.scrollTop = log.scrollHeight;
  }

  async function send(event) {
    event.preventDefault();
    const text = $("message").value.trim();
    if (!text || !call) return;
    const mine = call;
    $("message").value = "";
    try {
      await mine.room.localParticipant.sendText(text, { topic: "lk.chat" });
      if (!mine.ended) write("You", text);
      warn("typing", "");
    } catch {
      if (!$("message").value) $("message").value = text;
      warn("typing", "The message could not be sent. Try again.");
    }
  }

  // ------------------------------------------------------------------ what is remembered

  let more = null; // gets the next page of what is remembered

  async function remembered(note = "") {
    $("memory-status").textContent = note || "Looking";
    rights();
    try {
      const found = await ask("GET", "api/memories");
      const { known, logged_in, lines, suggestions, count } = found;
      $("suggestions").replaceChildren(...suggestions.map(suggestionOf));
      $("suggested").hidden = !suggestions.length;
      const hadGist = $("lines").querySelector("[data-name=last_call]");
      $("lines").replaceChildren(...lines.map(lineOf));
      following(found.more);
      if (note && hadGist && lines.length && !$("lines").querySelector("[data-name=last_call]")) {
        note += " The summary of the last conversation went with it, for it may have told the same.";
      }
      $("delete-all").hidden = !lines.length;
      $("leave").hidden = !known || logged_in;
      $("export").hidden = $("erase").hidden = !known;
      const told = count === 1 ? "1 line" : `${count} lines`;
      $("memory-status").textContent = [note, count ? told : "Nothing is remembered."].filter(Boolean).join(" ");
    } catch (error) {
      $("lines").replaceChildren();
      following(null);
      $("suggested").hidden = $("delete-all").hidden = $("leave").hidden = true;
      $("memory-status").textContent = error.message;
    }
  }

  async function remembersMore() {
    const place = more;
    try {
      const found = await ask("GET", `api/memories?after=${encodeURIComponent(place)}`);
      if (place !== more) return; // the list has begun anew meanwhile
      const added = found.lines.map(lineOf);
      $("lines").append(...added);
      following(found.more);
      added[0]?.querySelector("button").focus();
    } catch (error) {
      $("memory-status").textContent = error.message;
    }
  }

  function following(place) {
    more = place;
    $("more").hidden = !more;
  }

  function lineOf({ kind, name, label, content }) {
    const button = element("button", { type: "button", textContent: "Delete" });
    button.setAttribute("aria-label", `Delete ${label}`);
    const item = element("li", {}, element("div", {}, element("b", { textContent: label }), content), button);
    item.dataset.name = name;
    button.addEventListener("click", () => remove(item, label, `api/memories/${kind}/${encodeURIComponent(name)}`));
    return item;
  }

  function suggestionOf({ id, label, content, ended, of_guest, instead_of }) {
    let text = ended ? `No longer true: ${content}` : content;
    if (of_guest) text += instead_of ? ` (said before you logged in, instead of: ${instead_of})` : " (said before you logged in)";
    const item = element("li", {}, element("div", {}, element("b", { textContent: label }), text));
    for (const [answer, words, note] of [
      ["accept", of_guest ? "Keep this" : "Remember", `${label} is remembered.`],
      ["decline", "Discard", of_guest ? `${label} stays as it is.` : `${label} is not remembered.`],
    ]) {
      const button = element("button", { type: "button", textContent: words });
      button.setAttribute("aria-label", `${words} ${label}: ${text}`);
      button.addEventListener("click", () => change("POST", `api/suggestions/${encodeURIComponent(id)}/${answer}`, {}, note));
      item.append(button);
    }
    return item;
  }

  async function remove(item, label, path) {
    const next = item.nextElementSibling || item.previousElementSibling;
    const place = next ? [...item.parentElement.children].indexOf(next) - (next === item.nextElementSibling ? 1 : 0) : -1;
    try {
      await ask("DELETE", path);
    } catch (error) {
      $("memory-status").textContent = error.message;
      return;
    }
    item.remove();
    await remembered(`${label} is deleted.`);
    ($("lines").children[place]?.querySelector("button") || $("memory-title")).focus();
  }

  async function change(method, path, body, note) {
    try {
      await ask(method, path, body);
    } catch (error) {
      $("memory-status").textContent = error.message;
      return;
    }
    await remembered(note);
    $("memory-title").focus();
  }

  // ------------------------------------------------------------------ the caller's own rights

  let agreed = false; // before the first conversation, when the server does not know this browser yet

  async function rights() {
    try {
      const { asks, question, consent, access } = await ask("GET", "api/rights");
      const agrees = consent?.state === "agreed";
      $("consent-question").textContent = question;
      $("consent").hidden = !asks || Boolean(consent) || agreed || $("consent").dataset.answered === "no";
      $("consent-state").hidden = !asks || !consent;
      if (consent) $("consent-state").textContent = `You ${consent.state === "agreed" ? "agreed" : `have ${consent.state}`} on ${new Date(consent.at).toLocaleString()}.`;
      $("withdraw").hidden = !asks || !consent;
      $("withdraw").textContent = agrees ? "Keep nothing more" : "Remember me again";
      $("withdraw").dataset.agree = String(!agrees);
      $("access").hidden = access === null;
      $("looks").replaceChildren(
        ...(access?.length ? access : [{ action: "nobody so far" }]).map(({ at, action }) =>
          element("li", { textContent: at ? `${new Date(at).toLocaleString()}: ${action}` : action })),
      );
    } catch (error) {
      console.info(`What you may ask for could not be loaded: ${error.message}`);
    }
  }

  async function consent(agree, status) {
    try {
      const { consent: noted } = await ask("POST", "api/consent", { agree });
      if (!noted) $("consent").dataset.answered = "no";
      status(agree ? "You are remembered from now on." : "Nothing more is kept from now on. What was kept before stays until you erase it.");
    } catch (error) {
      // Before the first conversation the server does not know this browser: it is told when one begins.
      if (!error.message.includes("begin a conversation")) return status(error.message);
      agreed = agree;
      $("consent").dataset.answered = agree ? "yes" : "no";
      status(agree ? "Thank you. Start when you like." : "Nothing will be kept. Start when you like.");
    }
    await rights();
  }

  async function erasing() {
    try {
      const { erased, orders_kept } = await ask("POST", "api/erase", {});
      const found = Object.entries(erased).filter(([, count]) => count).map(([name, count]) => `${count} in ${name}`);
      $("erasing-what").textContent = `This deletes ${found.join(", ") || "what is kept"}.${orders_kept ? ` ${orders_kept} orders stay, as business records.` : ""}`;
      $("erasing").showModal();
    } catch (error) {
      $("memory-status").textContent = error.message;
    }
  }

  async function erase() {
    if (call) over(call, "The conversation has ended");
    $("memory-status").textContent = "Erasing";
    try {
      const { receipt, erased_at } = await ask("POST", "api/erase", { confirm: "erase" }, 40_000);
      $("transcript").replaceChildren();
      await remembered(receipt
        ? `Everything was erased on ${new Date(erased_at).toLocaleString()}. Your receipt: ${receipt}.`
        : "It is being erased; that takes a minute.");
    } catch (error) {
      $("memory-status").textContent = error.message;
    }
    $("memory-title").focus();
  }

  function confirmed(dialog, then) {
    $(dialog).addEventListener("close", () => {
      const is_sure = $(dialog).returnValue === "erase";
      $(dialog).returnValue = "";
      if (is_sure) then();
    });
  }

  function showMemory(on) {
    $("memory").hidden = !on;
    $("show-memory").setAttribute("aria-expanded", String(on));
    if (on) {
      remembered();
      $("memory-title").focus();
    } else {
      $("show-memory").focus();
    }
  }

  // ------------------------------------------------------------------ the controls

  $("start").addEventListener("click", () => start({ aloud: true }));
  $("start-typing").addEventListener("click", () => start({ aloud: false }));
  $("end").addEventListener("click", () => call && over(call, "The conversation has ended"));
  $("mute").addEventListener("click", () => call && microphone(call, !call.room.localParticipant.isMicrophoneEnabled));
  $("start-audio").addEventListener("click", () => call && call.room.startAudio());
  $("typing").addEventListener("submit", send);
  $("show-memory").addEventListener("click", () => showMemory($("memory").hidden));
  $("hide-memory").addEventListener("click", () => showMemory(false));
  $("more").addEventListener("click", remembersMore);
  $("delete-all").addEventListener("click", () => $("sure").showModal());
  $("sure").addEventListener("close", () => {
    if ($("sure").returnValue === "delete") change("DELETE", "api/memories", undefined, "All is deleted.");
    $("sure").returnValue = "";
  });
  $("agree").addEventListener("click", () => consent(true, say));
  $("decline").addEventListener("click", () => consent(false, say));
  $("withdraw").addEventListener("click", ({ target }) =>
    consent(target.dataset.agree === "true", (text) => ($("memory-status").textContent = text)));
  $("erase").addEventListener("click", erasing);
  confirmed("erasing", () => $("really").showModal());
  confirmed("really", erase);
  rights();
  $("leave").addEventListener("click", () =>
    change("POST", "api/logout", {}, "This browser is not known any more; the next conversation is a stranger's."));
  window.addEventListener("pagehide", () => call && call.room.disconnect());
})();
