"""A call that the agent makes: it dials, finds out who or what has answered, and only then says a word.

The agent dials, not whoever has ordered the call, and only when its session runs: models that cannot be reached, or a
worker without speech, are found out before anybody's telephone rings. Nothing that is heard is recorded before it is
known that a person is speaking, and if none does, the record is that of an attempt to reach somebody, without a word.

Machines are told from people by the SDK's detection, which asks the language model. Without one, and wherever it is in
doubt, it was a machine: to hang up on a person is a nuisance, to talk to a machine as if it was one gives things away.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from livekit.agents.utils.participant import wait_for_participant, wait_for_participant_attribute
from livekit.agents.voice.amd import AMD, AMDCategory

from lkmongo.errors import LkmongoError
from lkmongo.livekit_api import remove_participant
from lkmongo.outbound import Answer, Outcome, dial, tell
from lkmongo.phone_numbers import masked

if TYPE_CHECKING:
    from livekit.agents import AgentSession, JobContext

    from lkmongo.agent.assistant import Assistant
    from lkmongo.agent.models import ModelChoice
    from lkmongo.dispatch import Outbound
    from lkmongo.memory.lifetime import Lifetime
    from lkmongo.settings import LiveKitCredentials

logger = logging.getLogger(__name__)

_LAST_NEWS = 2.0
"""Seconds that the end waits for what the telephone network says: it says so about when the participant leaves."""
_LAST_WORD = 0.5
"""Seconds that the greeting waits for the transcript of what the person said, who waits for it."""
_MESSAGE = 15.0
"""Seconds within which a machine is told its sentence."""
_NO_MESSAGE = frozenset({AMDCategory.MACHINE_IVR, AMDCategory.MACHINE_UNAVAILABLE})
"""What cannot take one."""
_BY_REASON = {
    "USER_REJECTED": Outcome.REFUSED,
    "USER_UNAVAILABLE": Outcome.NO_ANSWER,
}
"""By why the telephone's participant has left, where nothing else is known."""


class OutboundCall:
    """The one call of a job: `hold` the agent, start its session, `begin`."""

    def __init__(
        self, job: JobContext, lifetime: Lifetime, credentials: LiveKitCredentials, model: ModelChoice
    ) -> None:
        """Record nothing of what is heard until somebody has answered.

        Args:
            job: LiveKit's, whose room the telephone joins.
            lifetime: of the session, which ends as the call does.
            credentials: for LiveKit's API.
            model: tells machines from people, unless it is the demo responder.
        """
        self._job = job
        self._lifetime = lifetime
        self._credentials = credentials
        self._model = model
        self._assistant: Assistant | None = None
        self._session: AgentSession[Any] | None = None
        self._is_person: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._answer: Answer | None = None
        self._calling: asyncio.Task[None] | None = None
        self._is_dialled = False
        self._left_by: str | None = None
        recorder = lifetime.caller.recorder
        recorder.hold_turns()
        earlier = recorder.facts.get("phone", lambda: None)
        recorder.facts["phone"] = lambda: {**(earlier() or {}), **self._report()}
        lifetime.outcome = self._finish
        job.room.on("participant_disconnected", self._on_left)

    def hold(self, assistant: Assistant) -> None:
        """Let the agent enter only when a person has answered; it greets them as somebody who calls."""
        self._assistant = assistant
        enter = assistant.on_enter

        async def on_enter() -> None:
            if await asyncio.shield(self._is_person):
                await enter()

        vars(assistant)["on_enter"] = on_enter
        vars(assistant)["greeting"] = assistant.calling

    def begin(self, session: AgentSession[Any], *, aloud: bool) -> None:
        """Call, in the background; the session runs by now, and can speak if it is `aloud`."""
        self._session = session
        self._calling = asyncio.create_task(self._call(session, aloud=aloud))

    async def _call(self, session: AgentSession[Any], *, aloud: bool) -> None:
        try:
            answer = await self._reach(session, aloud=aloud)
        except Exception as error:  # noqa: BLE001 - whatever it is, who ordered the call is told
            # Masked, since a part of the telephone network may have said which number it could not reach.
            logger.error("the call failed: %s", masked("".join(format_exception(error))))  # noqa: TRY400
            answer = Answer(Outcome.FAILED, why=type(error).__name__)
        await self._decide(answer)
        if answer.outcome is Outcome.ANSWERED:
            return
        await self._hang_up()
        session.shutdown(drain=False)

    async def _decide(self, answer: Answer) -> None:
        """Let the agent speak, or not at all; and tell whoever has ordered the call."""
        if self._answer:
            return
        self._answer = answer
        is_person = answer.outcome is Outcome.ANSWERED
        logger.info("the call: %s%s", answer.outcome, f" ({answer.why})" if answer.why else "")
        if is_person:
            self._lifetime.caller.recorder.take_turns()
        self._is_person.set_result(is_person)
        try:
            await tell(self._credentials, self._job.room.name, answer)
        except LkmongoError as error:
            logger.warning("who ordered the call is not told of its outcome: %s (%s)", error.message, error.why)

    # ---------------------------------------------------------------- who or what answers

    async def _reach(self, session: AgentSession[Any], *, aloud: bool) -> Answer:
        call, identity = self._lifetime.outbound, self._lifetime.participant_identity
        if call is None or identity is None:
            return Answer(Outcome.FAILED, why="the order of the call does not open, or is too old")
        if not aloud:
            return Answer(Outcome.FAILED, why="this worker cannot speak: LiveKit Inference is not set up")
        self._is_dialled = True
        room = self._job.room
        there = identity in room.remote_participants  # dialled by a worker that has died since: it rings, or waits
        ringing = self._rings(identity, call) if there else dial(self._credentials, call, room.name, identity)
        dialling = asyncio.create_task(ringing)
        try:
            return await self._listen(session, dialling, identity)
        finally:
            dialling.cancel()

    async def _listen(self, session: AgentSession[Any], dialling: asyncio.Task[Answer], identity: str) -> Answer:
        if self._model.is_responder:
            answer = await dialling
            return await self._leave_message(session) if answer.outcome is Outcome.ANSWERED else answer
        joining = asyncio.create_task(self._joined(identity))
        try:
            # The detection must listen before the telephone is answered, but gives up on whoever does not join soon.
            await asyncio.wait({dialling, joining}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            joining.cancel()
        if dialling.done() and dialling.result().outcome is not Outcome.ANSWERED:
            return dialling.result()
        detection = AMD(
            session,
            llm=self._model.llm,
            stt=None,
            ivr_detection=False,
            participant_identity=identity,
            suppress_compatibility_warning=True,
        )
        async with detection as detector:
            answer = await dialling
            if answer.outcome is not Outcome.ANSWERED:
                return answer
            try:
                verdict = (await detector.execute()).category
            except RuntimeError:  # the session was closed meanwhile
                verdict = AMDCategory.UNCERTAIN
            if verdict is AMDCategory.HUMAN:
                # The model knows of the "Hello?", but does not answer it as well: the agent introduces itself.
                await session.interrupt(force=True)
                await session.commit_user_turn(transcript_timeout=_LAST_WORD, skip_reply=True)
                return answer
        if verdict in _NO_MESSAGE:
            return Answer(Outcome.VOICEMAIL)
        return await self._leave_message(session)

    async def _rings(self, identity: str, call: Outbound) -> Answer:
        """Wait until a telephone that rings already is answered."""
        try:
            async with asyncio.timeout(call.ringing.total_seconds()):
                await wait_for_participant_attribute(
                    self._job.room, identity=identity, attribute="sip.callStatus", value="active"
                )
        except TimeoutError:
            return Answer(Outcome.NO_ANSWER)
        except RuntimeError:  # it has left
            return Answer(_BY_REASON.get(self._left_by or "", Outcome.FAILED), why="the telephone has left the room")
        return Answer(Outcome.ANSWERED)

    async def _joined(self, identity: str) -> None:
        await wait_for_participant(self._job.room, identity=identity)

    async def _leave_message(self, session: AgentSession[Any]) -> Answer:
        """Tell a machine a sentence without anything personal in it."""
        words = self._assistant.voicemail if self._assistant else ""
        if words and self._left_by is None:
            with suppress(TimeoutError, RuntimeError):  # the session was closed meanwhile
                async with asyncio.timeout(_MESSAGE):
                    await session.say(words, allow_interruptions=False, add_to_chat_ctx=False)
        return Answer(Outcome.VOICEMAIL)

    # ---------------------------------------------------------------- the end

    def _on_left(self, participant: Any) -> None:
        if participant.identity != self._lifetime.participant_identity:
            return
        from livekit import rtc

        try:
            self._left_by = rtc.DisconnectReason.Name(participant.disconnect_reason)
        except (TypeError, ValueError):
            self._left_by = ""

    async def _finish(self) -> str | None:
        """Before the end is stored: find out what became of the call, and whose record it is."""
        if self._answer is None and self._calling:
            await asyncio.wait({self._calling}, timeout=_LAST_NEWS)
        if self._answer is None:  # the worker stops, or the telephone has left without a word of why
            if self._calling:
                self._calling.cancel()
                await asyncio.gather(self._calling, return_exceptions=True)
            outcome = _BY_REASON.get(self._left_by or "", Outcome.FAILED)
            await self._decide(self._answer or Answer(outcome, why="the agent's session has ended"))
            await self._hang_up()
        answer = self._answer
        if answer is None or answer.outcome is Outcome.ANSWERED:
            return None
        recorder, call = self._lifetime.caller.recorder, self._lifetime.outbound
        if call and not recorder.erased and not recorder.is_held:
            await recorder.attempted(call.scope)
        return answer.outcome.value

    async def _hang_up(self) -> None:
        """Let no telephone ring, or be held to an ear, for which there is no agent."""
        identity = self._lifetime.participant_identity
        if not self._is_dialled or identity is None or self._left_by is not None:
            return
        try:
            await remove_participant(self._credentials, self._job.room.name, identity)
        except LkmongoError as error:
            logger.warning("the telephone could not be hung up: %s (%s)", error.message, error.why)

    def _report(self) -> dict[str, Any]:
        answer = self._answer
        return {
            "direction": "outbound",
            "outcome": answer.outcome.value if answer else None,
            "sip_status": answer.sip_status if answer else None,
        }
