"""One job of the worker: identify the caller, run the session in the room, and store the record at the end.

LiveKit runs `setup` in a process before a job arrives, `entrypoint` when one does, and `on_session_end` when it is over
for whatever reason.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from livekit import rtc
from livekit.agents import CloseEvent, JobContext, JobExecutorType, JobProcess
from livekit.agents.voice.room_io import RoomOptions

from lkmongo import deadlines
from lkmongo.agent.assistant import create_assistant
from lkmongo.agent.dialled import tenant_of_call
from lkmongo.agent.models import check_language_model, create_agent_session
from lkmongo.api_secret import silence_pyjwt
from lkmongo.child_process import end_after_parent
from lkmongo.memory.lifetime import CRASH, SHUTDOWN, Lifetime
from lkmongo.settings import Settings
from lkmongo.speech.choose import choose_speech, why_no_speech
from lkmongo.worker import native_log
from lkmongo.worker.failing import FailingSpeech
from lkmongo.worker.outbound import OutboundCall
from lkmongo.worker.prewarm import Prewarm, load_shared
from lkmongo.worker.resume import chat_context

if TYPE_CHECKING:
    from lkmongo.agent.models import CallerAgentSession
    from lkmongo.speech.choose import Speech
    from lkmongo.tenants import TenantPolicy

logger = logging.getLogger(__name__)

_PREWARM = "lkmongo.prewarm"
_JOB_SESSION = "lkmongo.job_session"


def setup(process: JobProcess, *, dev: bool = False, demo: bool = False) -> None:
    """Prewarm a job: in the process that is its own, or in its thread of one that `prepare` was run in.

    Runs without an event loop.

    Raises:
        SettingsError: a setting is wrong, or there is no language model and `demo` is not set.
    """
    if process.executor_type is JobExecutorType.THREAD:
        process.userdata[_PREWARM] = Prewarm(Settings.load(), process, dev=dev)
        return
    # The SDK (1.8.9) ends a job whose worker has died. But if it died while something was being sent to it, closing the
    # socket fails, and the thread that forwards the log, told to stop only after that, keeps the process for good.
    end_after_parent(deadlines.SESSION_END)
    settings = _load(demo=demo)
    process.userdata[_PREWARM] = Prewarm(settings, process, dev=dev)
    _freeze()


def prepare(*, demo: bool = False) -> None:
    """Load what the jobs of a process share, in its main thread; raises SettingsError as `setup` does."""
    _load(demo=demo)
    _freeze()


def _load(*, demo: bool) -> Settings:
    settings = Settings.load()
    native_log.prepare()
    silence_pyjwt()
    if not demo:
        check_language_model(settings)
    load_shared(settings)
    return settings


def _freeze() -> None:
    """Keep what was loaded out of garbage collection.

    A full collection over all imported modules would stop speech for more than a tenth of a second.
    """
    gc.collect()
    gc.freeze()


async def entrypoint(job: JobContext) -> None:
    """Begin the session of a job; returns while the conversation continues."""
    if job.proc.executor_type is JobExecutorType.THREAD:  # of a process of its own the worker knows it
        job.log_context_fields = {"room": job.room.name, "job_id": job.job.id}
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
        self._lifetime: Lifetime | None = None
        self._agent_session: CallerAgentSession | None = None
        self._stack = AsyncExitStack()
        self._began = False

    async def begin(self) -> None:
        """Identify the caller, load them while joining the room, and start the conversation.

        Raises:
            EmbeddedError: the embedded mongod cannot run here.
            SettingsError: a setting is wrong.
        """
        job, prewarm, outbound = self._job, self._prewarm, None
        if not job.is_fake_job():
            native_log.follow(job.room)
        settings = prewarm.settings
        lifetime = self._lifetime = await prewarm.memory.begin(job, find_tenant=self._find_tenant)
        lifetime.model, caller_session = prewarm.model, lifetime.caller
        # Before this session writes anything: does it resume one whose worker died?
        earlier_turns = asyncio.create_task(lifetime.resume())
        policy = caller_session.tenant_policy
        speech = self._choose_speech(policy)
        session = self._agent_session = create_agent_session(caller_session, prewarm.model, speech)
        session.on("close", self._on_close)
        assistant = create_assistant(settings, policy)

        async def speak_as_tenant() -> None:
            """It was not known until now whose caller they are."""
            policy = caller_session.tenant_policy
            if policy.instructions:
                await assistant.update_instructions(policy.instructions)
            if speech:
                self._speak_as(speech, policy)

        caller_session.on_moved = speak_as_tenant
        if lifetime.is_outbound and settings.livekit:
            outbound = OutboundCall(job, lifetime, settings.livekit, prewarm.model)
            outbound.hold(assistant)
        lifetime.listen(job, session)
        # Before the session starts: to serve one participant only, the SDK must know the agent's own identity.
        await self._connect()
        turns = await earlier_turns
        if await lifetime.is_served_by_another():
            logger.warning("another agent serves the caller already: this one leaves")
            job.shutdown(reason="another agent serves the caller")
            return
        if turns:
            await assistant.update_chat_ctx(chat_context(turns))
        caller_session.attach(session)
        if speech:
            FailingSpeech(session, settings)
        await session.start(
            assistant,
            room=job.room,
            room_options=room_options(lifetime.participant_identity, aloud=speech is not None),
            # Otherwise anyone in the room can query history, tools and settings.
            session_host=prewarm.dev,
            # An erasure could not reach a recording in LiveKit Cloud.
            record=False,
        )
        self._began = True
        if outbound:
            outbound.begin(session, aloud=speech is not None)
        logger.info("a session began: %s, %s", caller_session.caller.status, "aloud" if speech else "in text only")

    def _choose_speech(self, policy: TenantPolicy) -> Speech | None:
        settings, prewarm = self._prewarm.settings, self._prewarm
        speech = choose_speech(settings, prewarm.vad, policy)
        if speech:
            self._stack.push_async_callback(speech.close)
        elif prewarm.vad:  # the callers of other tenants can talk
            logger.warning("this caller can only type, because %s", why_no_speech(settings, policy))
        return speech

    def _speak_as(self, speech: Speech, policy: TenantPolicy) -> None:
        """Go on in the tenant's voice and language, or in writing if there are none for it."""
        settings, session = self._prewarm.settings, self._agent_session
        if (why := why_no_speech(settings, policy)) and session:
            logger.warning("from here on this caller can only type, because %s", why)
            session.input.set_audio_enabled(False)
            session.output.set_audio_enabled(False)
        else:
            speech.speak_as(settings, policy)

    async def _connect(self) -> None:
        livekit = self._prewarm.settings.livekit
        await self._job.connect(rtc_config=without_strangers() if livekit and livekit.is_local else None)

    async def _find_tenant(self) -> str | None:
        """The tenant whose number was dialled: it decides who answers, so the agent waits for it."""
        tenants = self._prewarm.settings.tenant_policies()
        if not tenants.by_number:
            return None
        await self._connect()
        return await tenant_of_call(self._job.room, tenants)

    def _on_close(self, event: CloseEvent) -> None:
        # Otherwise the job would stay in the empty room until LiveKit closes it.
        self._job.shutdown(reason=f"session closed: {event.reason.value}")

    async def end(self) -> None:
        """Store the record; the AgentSession is closed, or never started."""
        try:
            if self._lifetime:
                await self._lifetime.stop(SHUTDOWN if self._began else CRASH)
        finally:
            native_log.leave(self._job.room)
            await self._stack.aclose()
            await self._prewarm.close()


def without_strangers() -> rtc.RtcConfiguration:
    """The media connection to a LiveKit server on this machine, for which nobody else has to be asked.

    A server that is given no STUN server names public ones to its clients, by default. The SDK takes an empty list for
    none given, so it is told to ask a port of this machine on which nobody answers.
    """
    return rtc.RtcConfiguration(ice_servers=[rtc.IceServer(urls=["stun:127.0.0.1:9"])])


def room_options(participant_identity: str | None, *, aloud: bool) -> RoomOptions:
    """The options of the agent's participation: for the participant it was dispatched for, aloud or in text only.

    What is typed does not pass through the SDK: see `Lifetime.listen`.
    """
    options = RoomOptions(audio_input=aloud, audio_output=aloud, text_input=False)
    if participant_identity:
        options.participant_identity = participant_identity
    return options
