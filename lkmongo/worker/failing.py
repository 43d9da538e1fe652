"""Speech that fails in a call: the log says what and what to do, the caller what is left to them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from livekit.agents import APIStatusError

from lkmongo.speech.servers import failure, stt_server, tts_server

if TYPE_CHECKING:
    from livekit.agents import AgentSession, ErrorEvent, UserInputTranscribedEvent

    from lkmongo.agent.caller_session import CallerSession
    from lkmongo.settings import Settings

logger = logging.getLogger(__name__)

DEAF = "I cannot hear you at the moment. Please write to me instead."
MUTE = "I have lost my voice for the moment. Please read what I write."


class FailingSpeech:
    """Listens to the errors of a session: the SDK has repeated a request several times before one counts."""

    def __init__(self, session: AgentSession[CallerSession], settings: Settings) -> None:
        """Begin to listen.

        Args:
            session: of the call; the SDK ends it after some failures in a row.
            settings: name the servers.
        """
        self._session = session
        self._settings = settings
        self._told: set[str] = set()
        session.on("error", self._on_error)
        session.on("user_input_transcribed", self._on_heard)

    def _on_heard(self, event: UserInputTranscribedEvent) -> None:
        if event.is_final:
            self._told.discard("stt_error")

    def _on_error(self, event: ErrorEvent) -> None:
        error = event.error
        kind = str(getattr(error, "type", ""))
        if getattr(error, "recoverable", True) or kind not in {"stt_error", "tts_error"}:
            return
        server = stt_server(self._settings) if kind == "stt_error" else tts_server(self._settings)
        if server:
            cause = error.error
            status = cause.status_code if isinstance(cause, APIStatusError) else None
            # What a server answers may quote what was said, so only a failed connection is told in its own words.
            why = str(cause.__cause__ or cause).partition("\n")[0][:200] if status is None else ""
            failed = failure(server, status=status, why=why)
            logger.error("%s (%s); %s", failed.message, failed.why, failed.hint)
        if kind not in self._told and not self._session.userdata.caller.phone:  # by telephone, nothing can be read
            self._told.add(kind)
            if kind == "tts_error":  # from here on in writing: the session goes on
                self._session.output.set_audio_enabled(False)
            self._say(MUTE if kind == "tts_error" else DEAF)

    def _say(self, sentence: str) -> None:
        try:
            self._session.say(sentence, add_to_chat_ctx=False)
        except RuntimeError:
            logger.debug("the session is closing: it says no more")
