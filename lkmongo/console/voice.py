"""A spoken conversation in the console: microphone and loudspeaker instead of a room, with typing in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from livekit.agents import (
    AgentStateChangedEvent,
    APIError,
    APIStatusError,
    CloseEvent,
    CloseReason,
    ConversationItemAddedEvent,
    ErrorEvent,
    FunctionToolsExecutedEvent,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
)
from livekit.agents.voice import TranscriptSynchronizer, io

from lkmongo.console.lines import Line, Switch, first_line, tool_call, tool_output
from lkmongo.errors import AuthenticationError, LkmongoError

if TYPE_CHECKING:
    from lkmongo.agent.assistant import Assistant
    from lkmongo.agent.models import CallerAgentSession
    from lkmongo.console.lines import Listener, Outcome
    from lkmongo.console.sound import Sound

_PARTS = {"stt_error": "speech recognition", "tts_error": "the voice", "llm_error": "the language model"}


class SpeechFailedError(LkmongoError):
    """The session ended after too many failures of speech recognition, the voice or the language model."""

    code = "speech_failed"


class SpeechRefusedError(AuthenticationError):
    """The credentials for speech were refused."""

    code = "speech_refused"


async def talk(
    session: CallerAgentSession,
    assistant: Assistant,
    sound: Sound,
    lines: AsyncIterator[Line | Switch],
    listener: Listener,
    outcome: Outcome,
) -> str:
    """Talk until one side hangs up.

    Args:
        session: an AgentSession with speech that has not started.
        assistant: the agent.
        sound: microphone and loudspeaker.
        lines: typed lines and switches between typing and talking; the session ends with them.
        listener: shows the conversation.
        outcome: where failures are noted.

    Returns:
        Why it ended, in a word or two.
    """
    talking = _VoiceConversation(session, sound, listener, outcome)
    try:
        return await talking.until_hang_up(assistant, lines)
    finally:
        await talking.close()


class _VoiceConversation:
    def __init__(self, session: CallerAgentSession, sound: Sound, listener: Listener, outcome: Outcome) -> None:
        self._session = session
        self._listener = listener
        self._outcome = outcome
        self._final_transcripts: list[str] = []
        self._warned: set[str] = set()
        self._over = asyncio.Event()
        self._closed: CloseEvent | None = None
        self._error: BaseException | None = None
        self._greeting: asyncio.Task[Any] | None = None
        self._synchronizer = TranscriptSynchronizer(
            next_in_chain_audio=sound.loudspeaker, next_in_chain_text=_SpokenText(listener)
        )
        session.input.audio = sound.microphone
        session.output.audio = self._synchronizer.audio_output
        session.output.transcription = self._synchronizer.text_output
        session.on("user_input_transcribed", self._on_heard)
        session.on("conversation_item_added", self._on_item)
        session.on("function_tools_executed", self._on_tools)
        session.on("agent_state_changed", self._on_state)
        session.on("user_state_changed", self._on_user_state)
        session.on("error", self._on_error)
        session.on("close", self._on_close)

    async def until_hang_up(self, assistant: Assistant, lines: AsyncIterator[Line | Switch]) -> str:
        # Completes with the greeting; meanwhile the caller may interrupt, type or hang up.
        start = self._session.start(assistant, capture_run=True, record=False)
        self._greeting = asyncio.create_task(start)
        self._greeting.add_done_callback(self._on_greeted)
        over = asyncio.create_task(self._over.wait())
        try:
            while True:
                upcoming = asyncio.create_task(_next(lines))
                try:
                    await asyncio.wait({upcoming, over}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not upcoming.done():
                        upcoming.cancel()
                        await asyncio.gather(upcoming, return_exceptions=True)
                if over.done():
                    return self._close_reason()
                item = upcoming.result()
                if isinstance(item, KeyboardInterrupt):
                    raise item
                if item is None:  # the piped input has ended, but the last answer is still to be heard
                    await self._greeted()
                if item is None or item is Switch.HANG_UP:
                    return self._close_reason()
                await self._handle(item)
        finally:
            over.cancel()

    async def close(self) -> None:
        if self._greeting and not self._greeting.done():
            self._greeting.cancel()
            await asyncio.gather(self._greeting, return_exceptions=True)
        await self._session.aclose()
        await self._synchronizer.aclose()

    async def _handle(self, item: Line | Switch) -> None:
        if isinstance(item, Switch):
            await self._switch(aloud=item is Switch.TALK)
        elif item.refused:
            self._outcome.refused += 1
            self._listener.refuse(item.refused)
        elif item.text:
            await self._greeted()
            try:
                await self._session.generate_reply(user_input=item.text)
            except RuntimeError:
                if not self._session_is_over():
                    raise

    async def _switch(self, *, aloud: bool) -> None:
        session = self._session
        if not aloud:
            try:
                await session.interrupt(force=True)
                session.clear_user_turn()
            except RuntimeError:  # the session has not started yet, or has ended
                pass
            self._final_transcripts.clear()
        session.input.set_audio_enabled(aloud)
        session.output.set_audio_enabled(aloud)
        self._listener.live("state", session.agent_state if aloud else "")

    async def _greeted(self) -> None:
        if self._greeting:
            await asyncio.wait({self._greeting})

    def _on_greeted(self, greeting: asyncio.Task[Any]) -> None:
        if greeting.cancelled():
            return
        error = greeting.exception()
        # A failure of the model was already reported by the session's error event.
        if error is not None and not isinstance(error, APIError) and not self._session_is_over():
            self._error = error
            self._over.set()

    def _on_heard(self, event: UserInputTranscribedEvent) -> None:
        if not event.transcript or not self._session.input.audio_enabled:
            return
        self._listener.live("user", " ".join([*self._final_transcripts, event.transcript]))
        if event.is_final:
            self._final_transcripts.append(event.transcript)

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        item = event.item
        if item.type != "message" or item.role not in {"user", "assistant"}:
            return
        if item.role == "user":
            self._final_transcripts.clear()
        shown = {"type": "message", "role": item.role, "text": item.text_content or ""}
        self._show(shown | ({"interrupted": True} if item.interrupted else {}))

    def _on_tools(self, event: FunctionToolsExecutedEvent) -> None:
        for call, output in event.zipped():
            self._show(tool_call(call))
            if output:
                self._show(tool_output(output, call.name))

    def _show(self, event: dict[str, Any]) -> None:
        try:
            self._listener.event(event)
        except (BrokenPipeError, LkmongoError) as error:  # the session would log it, and go on unseen
            self._error = error
            self._over.set()

    def _on_state(self, event: AgentStateChangedEvent) -> None:
        if self._session.input.audio_enabled:
            self._listener.live("state", event.new_state)

    def _on_user_state(self, event: UserStateChangedEvent) -> None:
        self._listener.live("user_state", event.new_state)

    def _on_error(self, event: ErrorEvent) -> None:
        error = event.error
        if getattr(error, "recoverable", True):
            return
        if error.type == "llm_error":
            self._outcome.unanswered += 1
        cause = error.error.__cause__ or error.error
        part = _PARTS.get(error.type, "a part of the conversation")
        warning = f"{part} does not answer: {first_line(cause)}"
        if warning not in self._warned:  # it is retried several times
            self._warned.add(warning)
            self._listener.warn(warning)

    def _on_close(self, event: CloseEvent) -> None:
        self._closed = event
        self._over.set()

    def _session_is_over(self) -> bool:
        return self._closed is not None

    def _close_reason(self) -> str:
        if self._error:
            raise self._error
        if self._closed and self._closed.reason is CloseReason.ERROR:
            self._outcome.failure = _failure(self._closed.error)
            return "error"
        return "agent" if self._session.userdata.ended_by_agent else "hang-up"


class _SpokenText(io.TextOutput):
    """Shows what the agent says at the pace at which it is heard."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(label="transcript", next_in_chain=None)
        self._listener = listener
        self._text = ""

    async def capture_text(self, text: str) -> None:
        self._text += text
        self._listener.live("assistant", self._text)

    def flush(self) -> None:
        self._text = ""


async def _next(lines: AsyncIterator[Line | Switch]) -> Line | Switch | KeyboardInterrupt | None:
    """The next of `lines`, None at their end; Ctrl-C is returned, because it must not be raised in a task."""
    try:
        return await anext(lines, None)
    except KeyboardInterrupt as interrupt:
        return interrupt


def _failure(error: Any) -> LkmongoError:
    cause = getattr(error, "error", None)
    part = _PARTS.get(getattr(error, "type", ""), "the conversation")
    if isinstance(cause, APIStatusError) and cause.status_code in {401, 403}:
        return SpeechRefusedError(
            f"{part} refuses the credentials",
            why=first_line(cause),
            hint="check LIVEKIT_API_KEY and LIVEKIT_API_SECRET, LIVEKIT_INFERENCE_API_KEY and its secret, or "
            "LKMONGO_STT_API_KEY and LKMONGO_TTS_API_KEY; lkmongo agent console without --voice needs none",
        )
    return SpeechFailedError(
        f"{part} failed too often",
        why=first_line(cause) if cause else None,
        hint="try again later, or leave out --voice to talk in text",
    )
