"""One job of the worker: identify the caller, run the session in the room, and store the record at the end.

LiveKit runs `setup` in a process before a job arrives, `entrypoint` when one does, and `on_session_end` when it is over
for whatever reason.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from livekit.agents import AgentSession, CloseEvent, CloseReason, JobContext, JobProcess
from livekit.agents.voice.room_io import RoomOptions, TextInputEvent, TextInputOptions

from lkmongo import deadlines
from lkmongo.agent.assistant import create_assistant
from lkmongo.agent.caller_session import CallerSession, begin_session
from lkmongo.agent.ending import end_session
from lkmongo.agent.models import check_language_model, choose_speech, create_agent_session
from lkmongo.dispatch import Dispatched, SealError, read_dispatch, unseal
from lkmongo.errors import LkmongoError
from lkmongo.model import MAX_CONTENT, Turn, clean_text, now
from lkmongo.settings import Settings
from lkmongo.worker.prewarm import Prewarm
from lkmongo.worker.resume import chat_context

if TYPE_CHECKING:
    from livekit import rtc

    from lkmongo.agent.models import CallerAgentSession

logger = logging.getLogger(__name__)

CALLER_ATTRIBUTE = "lkmongo.caller"
"""The participant attribute in which a server passes, sealed, the identity of a guest."""
TOO_LONG = "That is too long for me. Please tell me in parts."
"""The answer to typed text that exceeds the limit of an utterance."""
_PREWARM = "lkmongo.prewarm"
_JOB_SESSION = "lkmongo.job_session"
_REASONS = {
    CloseReason.PARTICIPANT_DISCONNECTED: "hang-up",
    CloseReason.ERROR: "error",
    CloseReason.TASK_COMPLETED: "agent",
}


def setup(process: JobProcess, *, dev: bool = False, demo: bool = False) -> None:
    """Prewarm a process for a job; runs without an event loop.

    Raises:
        SettingsError: a setting is wrong, or there is no language model and `demo` is not set.
    """
    settings = Settings.load()
    if not demo:
        check_language_model(settings)
    process.userdata[_PREWARM] = Prewarm(settings, dev=dev)
    # A full collection over all imported modules would stop speech for more than a tenth of a second.
    gc.collect()
    gc.freeze()


async def entrypoint(job: JobContext) -> None:
    """Begin the session of a job; returns while the conversation continues."""
    job_session = JobSession(job, job.proc.userdata[_PREWARM])
    job.proc.userdata[_JOB_SESSION] = job_session
    await job_session.begin()


async def on_session_end(job: JobContext) -> None:
    """Store the record of the session, and close everything."""
    if job_session := job.proc.userdata.pop(_JOB_SESSION, None):
        await job_session.end()


class JobSession:
    """The session of a job, from its beginning to its record."""

    def __init__(self, job: JobContext, prewarm: Prewarm) -> None:
        self._job = job
        self._prewarm = prewarm
        self._secret = prewarm.settings.livekit.api_secret.get_secret_value() if prewarm.settings.livekit else None
        self._dispatched: Dispatched | None = None
        self._caller_session: CallerSession | None = None
        self._agent_session: CallerAgentSession | None = None
        self._stack = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()
        self._began = False
        self._closed: CloseEvent | None = None
        self._room_closed = asyncio.Event()

    async def begin(self) -> None:
        """Identify the caller, load them while joining the room, and start the conversation.

        Raises:
            EmbeddedError: the embedded mongod cannot run here.
            SettingsError: a setting is wrong.
        """
        job, prewarm = self._job, self._prewarm
        settings = prewarm.settings
        self._dispatched = dispatched = read_dispatch(job.job.metadata, room=job.job.room.name, secret=self._secret)
        if dispatched.why:
            logger.warning("the caller is a guest: %s", dispatched.why)
        caller_session = self._caller_session = await self._stack.enter_async_context(
            begin_session(
                settings,
                await prewarm.store(),
                prewarm.embedder,
                dispatched.scope,
                guest=dispatched.guest,
                session_id=job.job.room.sid or job.job.id,
                room_name=job.job.room.name,
                participant_identity=dispatched.participant_identity,
                agent=job.job.agent_name or settings.agent_name,
                agent_participant=_own_identity(job),
                livekit=settings.livekit.host if settings.livekit else None,
            )
        )
        # Before this session writes anything: does it resume one whose worker died?
        earlier_turns = asyncio.create_task(self._read_earlier_turns(caller_session))
        speech = choose_speech(settings, prewarm.vad)
        if speech:
            self._stack.push_async_callback(speech.close)
        session = self._agent_session = create_agent_session(caller_session, prewarm.model, speech)
        session.on("close", self._on_close)
        job.room.on("disconnected", self._on_disconnected)
        job.room.on("participant_connected", self._on_participant)
        job.room.on("participant_attributes_changed", self._on_attributes)
        assistant = create_assistant(settings)
        # Before the session starts: to serve one participant only, the SDK must know the agent's own identity.
        await job.connect()
        if turns := await earlier_turns:
            caller_session.resume_after(turns)
            await assistant.update_chat_ctx(chat_context(turns))
            logger.info("the session resumes after %d turns", len(turns))
        caller_session.attach(session)
        await session.start(
            assistant,
            room=job.room,
            room_options=room_options(dispatched, aloud=speech is not None),
            # Otherwise anyone in the room can query history, tools and settings.
            session_host=prewarm.dev,
            # An erasure could not reach a recording in LiveKit Cloud.
            record=False,
        )
        self._began = True
        for participant in job.room.remote_participants.values():
            self._on_participant(participant)
        logger.info("a session began: %s, %s", caller_session.caller.status, "aloud" if speech else "in text only")

    async def _read_earlier_turns(self, caller_session: CallerSession) -> list[Turn]:
        try:
            sessions = caller_session.store.sessions
            return await caller_session.store.breaker.read(
                lambda: sessions.left_off(caller_session.scope, caller_session.session_id), deadlines.RESUME_READ
            )
        except LkmongoError as error:
            logger.info("it is unknown whether another agent began this session: %s (%s)", error, error.why)
            return []

    def _on_participant(self, participant: rtc.RemoteParticipant) -> None:
        self._on_attributes(dict(participant.attributes), participant)

    def _on_attributes(self, changed: dict[str, str], participant: rtc.Participant) -> None:
        """Identify a guest by the sealed attribute; only the participant who is served."""
        if not changed.get(CALLER_ATTRIBUTE) or self._caller_session is None or not self._caller_session.caller.guest:
            return
        if participant.identity != self._served_identity():
            return
        try:
            sealed = unseal(
                changed[CALLER_ATTRIBUTE],
                room=self._job.job.room.name,
                participant_identity=participant.identity,
                secret=self._secret or "",
            )
        except SealError as error:
            logger.warning("the caller stays a guest: %s", error.message)
            return
        task = asyncio.create_task(self._identify(sealed.scope))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _identify(self, scope: Any) -> None:
        if self._caller_session and await self._caller_session.identify(scope):
            logger.info("the guest is identified now")

    def _served_identity(self) -> str | None:
        if self._dispatched and self._dispatched.participant_identity:
            return self._dispatched.participant_identity
        try:
            linked = self._agent_session.room_io.linked_participant if self._agent_session else None
        except RuntimeError:  # the session has not joined the room yet, or has left it
            return None
        return linked.identity if linked else None

    def _on_disconnected(self, *_: Any) -> None:
        self._room_closed.set()

    def _on_close(self, event: CloseEvent) -> None:
        self._closed = event
        # Otherwise the job would stay in the empty room until LiveKit closes it.
        self._job.shutdown(reason=f"session closed: {event.reason.value}")

    @property
    def reason(self) -> str:
        """Why the session ended, in a word or two."""
        if not self._began:
            return "crash"
        if self._closed and self._closed.reason in _REASONS:
            return _REASONS[self._closed.reason]
        if self._caller_session and self._caller_session.ended_by_agent:
            return "agent"
        # When the job is shut down, the SDK closes the session itself, with one reason for all cases.
        return "room closed" if self._room_closed.is_set() else "shutdown"

    async def end(self) -> None:
        """Store the record; the AgentSession is closed, or never started."""
        ended_at: datetime = now()
        if self.reason == "shutdown":
            # When a room is deleted, LiveKit notifies the worker and the room, and the worker may hear of it first.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._room_closed.wait(), deadlines.ROOM_CLOSED_NEWS)
        for task in list(self._tasks):
            await asyncio.gather(task, return_exceptions=True)
        try:
            if self._caller_session:
                stored = await end_session(
                    self._caller_session, self.reason, self._report, ended_at=ended_at, model=self._prewarm.model
                )
                outcome = "erased" if self._caller_session.recorder.erased else "stored" if stored else "NOT stored"
                level = logging.INFO if stored else logging.WARNING
                logger.log(level, "a session ended: %s; its record is %s", self.reason, outcome)
        finally:
            await self._stack.aclose()
            await self._prewarm.close()

    def _report(self) -> dict[str, Any]:
        if self._agent_session is None or not self._began:
            return {}
        report = self._job.make_session_report(self._agent_session)
        return report.to_dict(include_chat_history=False, include_events=False)


def _own_identity(job: JobContext) -> str | None:
    """The agent's identity in the room, known from its token before it joins."""
    return None if job.is_fake_job() else job.local_participant_identity


def room_options(dispatched: Dispatched, *, aloud: bool) -> RoomOptions:
    """The options of the agent's participation: for the participant it was dispatched for, aloud or in text only."""
    options = RoomOptions(
        audio_input=aloud, audio_output=aloud, text_input=TextInputOptions(text_input_cb=on_typed_text)
    )
    if dispatched.participant_identity:
        options.participant_identity = dispatched.participant_identity
    return options


async def on_typed_text(session: AgentSession[Any], event: TextInputEvent) -> None:
    """Answer typed text: at once if the agent is speaking, else after its pending reply.

    The SDK's default loses messages: the previous one, which it drops unanswered, or this one, if it arrives while a
    tool that cannot be interrupted is running.
    """
    if len(event.text) > MAX_CONTENT:
        session.say(TOO_LONG)
    elif event.text.strip():
        # A model that is asked before the last tool has returned does not see what was just said.
        while session.agent_state != "speaking" and (speech := session.current_speech):
            await speech.wait_for_playout()
        if session.agent_state == "speaking":
            try:
                await session.interrupt()
            except RuntimeError:
                logger.debug("the agent cannot be interrupted; it answers afterwards")
        session.generate_reply(user_input=clean_text(event.text))
