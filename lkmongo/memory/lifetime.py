"""The session of a caller from its beginning to its record, whoever ends it.

LiveKit's entrypoint returns while its job runs on, so an attached session ends with no block: it ends when its
AgentSession closes or the job shuts down, whichever comes first, and only once.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lkmongo import deadlines
from lkmongo.agent.activity import Activity
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.ending import end_session, tell_end
from lkmongo.agent.limits import CallWatch
from lkmongo.agent.typed_text import TypedText
from lkmongo.dispatch import CALLER_ATTRIBUTE, Room, Sealed, SealError, unseal
from lkmongo.errors import LkmongoError
from lkmongo.livekit_api import remove_participant
from lkmongo.memory.other_agents import OtherAgents, Served, session_mark
from lkmongo.memory.phone_line import PhoneLine
from lkmongo.memory.presence import Presence
from lkmongo.memory.return_mark import ReturnMark
from lkmongo.model import Turn, now
from lkmongo.phone_numbers import masked

if TYPE_CHECKING:
    from livekit import rtc
    from livekit.agents import AgentSession, CloseEvent, JobContext

    from lkmongo.agent.learning import Learner
    from lkmongo.agent.models import ModelChoice
    from lkmongo.dispatch import Outbound
    from lkmongo.settings import LiveKitCredentials

logger = logging.getLogger(__name__)

SHUTDOWN, CRASH = "shutdown", "crash"
"""Close reasons of a session whose job or process stops."""
_REASONS = {"participant_disconnected": "hang-up", "error": "error", "task_completed": "agent"}
"""Close reasons by those of an AgentSession; of the others it says the same in several cases."""
_LEFT = {
    "CLIENT_INITIATED": "hang-up",
    "USER_REJECTED": "hang-up",
    "ROOM_DELETED": "room deleted",
    "PARTICIPANT_REMOVED": "removed",
    "DUPLICATE_IDENTITY": "moved",
    "MIGRATION": "moved",
}
"""Close reasons by why the caller, or the agent, is not in the room any more (LiveKit's DisconnectReason)."""
REUSED, LOGGED_OUT = "token used twice", "logged out"
"""Close reasons of sessions whose participant was removed."""
LOST = "connection lost"
"""The close reason for all others: the caller's client died, or its network."""


class Lifetime:
    """What ends the session of one caller; `end` may be called any number of times, by anybody."""

    def __init__(
        self,
        caller: CallerSession,
        stack: AsyncExitStack,
        *,
        job: JobContext | None = None,
        participant_identity: str | None = None,
        secret: str | Sequence[str] | None = None,
        livekit: LiveKitCredentials | None = None,
        phone_line: PhoneLine | None = None,
        learner_of: Callable[[ModelChoice], Learner | None] | None = None,
        has_model: bool = False,
        on_ended: Callable[[Lifetime], None] = lambda _: None,
    ) -> None:
        """Watch over `caller`.

        Args:
            caller: the session.
            stack: what is to be closed after the session.
            job: LiveKit's job that the session belongs to; its room is listened to.
            participant_identity: of the participant who is served; None for whomever the AgentSession is linked to.
            secret: LIVEKIT_API_SECRET, to open the sealed identity of a guest; or several, the earlier ones as well.
            livekit: to remove who may not stay in the room.
            phone_line: finds out what the number of a caller by telephone says of them.
            learner_of: makes what learns from the session by a model; None if nothing does.
            has_model: a language model is set up, for which the session can be due.
            on_ended: called when everything is closed.
        """
        self.caller = caller
        caller.lifetime = self
        self._stack = stack
        self._job = job
        self._reporting = job
        self.participant_identity = participant_identity
        self.typed = TypedText()
        """What the caller types on their telephone, and in the room after `listen`."""
        self.model: ModelChoice | None = None
        """What answers the caller, if it is not the AgentSession's own language model."""
        self.ends_on_close = True
        """Whether the session ends when its AgentSession closes; otherwise `end` is called with the reason."""
        self.outbound: Outbound | None = None
        """The call that the agent makes itself, if it does."""
        self.is_outbound = False
        """Whether nobody is in the room unless the agent calls them, also if it may not."""
        self.outcome: Callable[[], Awaitable[str | None]] | None = None
        """Of a call that the agent makes, awaited before its end is stored: the reason, if nobody was talked to."""
        self._secret = secret
        self._livekit = livekit
        self._phone_line = phone_line
        self._learner_of = learner_of
        self._has_model = has_model
        self._on_ended = on_ended
        self._agent_session: AgentSession[Any] | None = None
        self._reason: str | None = None
        self._stopped_by: str | None = None
        self._closed: CloseEvent | None = None
        self._started = False
        self._room_closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._left: tuple[str, datetime] | None = None
        self._presence = Presence()
        self._identifying: set[asyncio.Task[None]] = set()
        self._removing: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[bool] | None = None
        self._others: OtherAgents | None = None
        self._watch: CallWatch | None = None
        self._activity: Activity | None = None
        self._has_closed = asyncio.Event()
        self._has_record = job is not None
        caller.recorder.on_acquired(self._begin_record)
        caller.recorder.on_logged_out(functools.partial(self._cut_off, LOGGED_OUT))
        if job:
            job.add_shutdown_callback(self._on_job_shutdown)
            job.room.on("disconnected", self._on_room_closed)
            job.room.on("participant_disconnected", self._on_left)
            job.room.on("connection_quality_changed", self._on_quality)
            job.room.on("participant_connected", self._on_participant)
            job.room.on("participant_attributes_changed", self._on_attributes)

    def calls(self, call: Outbound | None) -> None:
        """Nobody is in the room unless the agent calls them; None if it may not."""
        self.outbound, self.is_outbound = call, True
        if call and self._phone_line:
            self._phone_line.expect(call.scope, call.number)

    def _begin_record(self) -> None:
        """Keep the record of a session that has no AgentSession, since it has something to store."""
        self._has_record = True
        self.caller.recorder.start()

    def attached(self, session: AgentSession[Any]) -> None:
        """Let the session of the caller end with this AgentSession."""
        self._agent_session = session
        self._has_record = True
        self._look_around()
        if self._reporting is None:
            from livekit.agents import get_job_context

            self._reporting = get_job_context(required=False)
        session.on("agent_state_changed", self._on_started)
        session.on("close", self._on_close)
        if self._job:
            from lkmongo.agent.verification import connect_keypad

            connect_keypad(self.caller, session, self._job.room, self._served_identity, self.typed)
            if not self._job.is_fake_job():
                self._activity = Activity(self.caller, session, self._job.room, self._served_identity)
            allowance, recorder = self.caller.caller.allowance, self.caller.recorder
            allowance.is_call = True
            lease, limits = (lambda: recorder.lease), allowance.limits
            self._watch = CallWatch(session, self.caller.store, lease, limits, self._finish)

    async def caller_is_there(self) -> None:
        """Wait until the caller's client is told what the agent says."""
        if self._job and self._agent_session and not self._job.is_fake_job():
            await self._presence.until_there(self._job.room, self._agent_session, self._served_identity)

    def listen(self, job: JobContext, session: AgentSession[Any]) -> None:
        """Have the AgentSession answer what the caller types in the room of the job; before that is joined."""
        self.typed.listen(job.room, session, self._served_identity)

    async def resume(self) -> list[Turn]:
        """Continue a session whose worker died; to be awaited before it writes anything.

        Returns:
            The turns with the earlier agent, none if there was no other.
        """
        caller = self.caller
        try:
            turns = await caller.store.breaker.read(
                lambda: caller.store.sessions.left_off(caller.scope, caller.session_id), deadlines.RESUME_READ
            )
        except LkmongoError as error:
            logger.info("it is unknown whether another agent began this session: %s (%s)", error, error.why)
            return []
        if turns and not caller.recorder.lease.is_admitted:
            await caller.caller.preload()
        if caller.recorder.erased or not caller.recorder.lease.is_admitted:
            return []
        if turns:
            caller.resume_after(turns)
            logger.info("the session resumes after %d turns", len(turns))
        return turns

    async def is_served_by_another(self) -> bool:
        """Whether another agent serves the caller already, in the room that this one has just joined.

        If so, there is nothing to record. To be asked before an AgentSession is attached.
        """
        if self._job is None or self._job.is_fake_job() or not await self._join(self._job).serve():
            return False
        self._has_record = False
        return True

    def _join(self, job: JobContext) -> OtherAgents:
        if self._others is None:
            caller = self.caller
            served = Served(
                job.job.agent_name,
                self._served_identity,
                lambda: session_mark(caller.scope, caller.session_id, self._secret),
                lambda: caller.recorder.lease.is_taken_over(),  # noqa: PLW0108 - a guest who is known has another lease
            )
            self._others = OtherAgents(job.room, served, self._leave)
        return self._others

    async def end(self, reason: str | None = None) -> bool:
        """Store the record and close everything, unless that is done or under way.

        Args:
            reason: why the session ended, in a word or two; by default what LiveKit says.

        Returns:
            Whether everything that must be stored is in MongoDB.
        """
        if self._ending is None:
            self._reason = reason
        return await asyncio.shield(self._begin_end())

    async def stop(self, reason: str = SHUTDOWN) -> bool:
        """As `end`, because the job or the process stops; LiveKit may know more about why."""
        if self._stopped_by in {None, SHUTDOWN}:
            self._stopped_by = reason
        return await asyncio.shield(self._begin_end())

    async def leave(self, *, failed: bool) -> None:
        """End the session with the block that it stood in, unless an AgentSession is attached that goes on."""
        if self._agent_session is None:
            await self.end("error" if failed else None)
        elif self._ending:
            await asyncio.shield(self._ending)

    def _finish(self, reason: str) -> None:
        """Close the AgentSession, and take the caller out of the room, where nobody answers them any more."""
        if self._agent_session and self._ending is None and self._removing is None:
            self._reason = reason
            self._removing = asyncio.create_task(self._remove_afterwards(self._served_identity()))
            self._agent_session.shutdown()

    async def _remove_afterwards(self, identity: str | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(deadlines.LAST_WORDS):
                await self._has_closed.wait()
        await asyncio.sleep(deadlines.ON_ITS_WAY)
        await self._remove(identity)

    def _begin_end(self) -> asyncio.Task[bool]:
        if self._watch:
            self._watch.stop()
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        return self._ending

    async def _end(self) -> bool:
        began = ended_at = now()
        stored, reason, learner = False, "error", None
        try:
            reason = (await self.outcome() if self.outcome else None) or await self._find_reason()
            if self._left and self._left[0] == reason:
                ended_at = self._left[1]
            await asyncio.gather(*self._identifying, return_exceptions=True)
            if not self._has_record and self.caller.saved == "stored":
                await self.caller.caller.flush(deadlines.SETTLE)
                stored = True
                return True
            learner, learns = self._learner()
            stored = await end_session(self.caller, reason, self._report, ended_at=ended_at, learns=learns)
            recorder = self.caller.recorder
            where = "on this machine, and will be stored later" if recorder.is_journaled else "stored nowhere"
            outcome = "erased" if recorder.erased else "stored" if stored else where
            outcome = "stored nowhere" if recorder.lease.refused else outcome
            level = logging.INFO if stored or recorder.is_journaled else logging.WARNING
            logger.log(level, "a session ended: %s; its record is %s", reason, outcome)
        except Exception:
            logger.exception("the end of a session could not be stored")
        finally:
            self.caller.ending = True
            self._presence.close()
            if self._others:
                self._others.close()
            if self._phone_line:
                self._phone_line.close()
            if self._removing:
                await asyncio.gather(self._removing, return_exceptions=True)
            await tell_end(self.caller, reason, ended_at, began=began, stored=stored, learner=learner)
            await self._stack.aclose()
            self._on_ended(self)
        return stored

    async def _find_reason(self) -> str:
        if self._reason:
            return self._reason
        if self._closed and (told := _REASONS.get(self._closed.reason.value)):
            return self._left[0] if told == "hang-up" and self._left else told
        if self.caller.ended_by_agent:
            return "agent"
        if self._job:
            # LiveKit closes the AgentSession before it says that the job is shut down; and when a room is deleted, it
            # notifies the worker and the room, and the worker may hear of it first.
            await asyncio.wait({self._room_closed}, timeout=deadlines.ROOM_CLOSED_NEWS)
        if self._stopped_by == CRASH or (self._job and self._agent_session and not self._started):
            return CRASH
        if self._left or self._room_closed.done():
            return self._left[0] if self._left else self._room_closed.result()
        return self._stopped_by or ("agent" if self._agent_session else "ended")

    def _learner(self) -> tuple[Learner | None, bool]:
        """What learns from the session after its end, and whether anything does, if only another process.

        It is what answers the caller, if that is a language model that can be asked in text, and else the one that is
        set up, in whichever process finds that the session is due.
        """
        if self._learner_of is None or (self.model is None and self._agent_session is None):
            return None, False
        model = self.model
        if model is None:
            from livekit.agents import llm

            from lkmongo.agent.models import ModelChoice

            own = self._agent_session.llm if self._agent_session else None
            if not isinstance(own, llm.LLM):
                return None, self._has_model
            model = ModelChoice(own, "the session's language model")
        learner = self._learner_of(model)
        return learner, learner is not None

    def _report(self) -> dict[str, Any]:
        if self._reporting is None or self._agent_session is None or not self._started:
            return {}
        report = self._reporting.make_session_report(self._agent_session)
        told = report.to_dict(include_chat_history=False, include_events=False)
        # A room is named by the number of a caller by telephone, unless the dispatch rule says otherwise.
        return {name: masked(value) if isinstance(value, str) else value for name, value in told.items()}

    # ---------------------------------------------------------------- what LiveKit says

    def _on_close(self, event: CloseEvent) -> None:
        self._closed = event
        self._has_closed.set()
        if self.ends_on_close:
            self._begin_end()

    async def _on_job_shutdown(self, reason: str) -> None:
        await self.stop(CRASH if reason == "job crashed" else SHUTDOWN)

    def _on_room_closed(self, why: Any = None) -> None:
        reason = _left_by(why)
        if not self._room_closed.done() and reason != "hang-up":  # which is the agent's own
            self._room_closed.set_result("room deleted" if reason == "room deleted" else "room closed")

    def _on_left(self, participant: rtc.RemoteParticipant) -> None:
        """The caller is not in the room any more; a client that lost its connection may come back."""
        if participant.identity != self._served_identity():
            return
        reason = _left_by(participant.disconnect_reason)
        self._presence.left(participant.disconnect_reason)
        self._left = reason, (self._presence.silent_since if reason == LOST else None) or now()

    def _on_quality(self, participant: rtc.Participant, quality: Any) -> None:
        if participant.identity == self._served_identity():
            self._presence.quality(quality)

    def _on_started(self, *_: Any) -> None:
        """The AgentSession has joined the room: whoever was there first is told by no event."""
        self._started = True
        if self._job and not self._job.is_fake_job():
            if not self._job.room.isconnected():
                return  # it thinks of its first words while it joins, and is in another state when it has
            mark = ReturnMark(self._livekit, self.caller.room_name) if self._livekit else None
            self._presence.ask(self._job.room, self._served_identity, mark)
            self._join(self._job).begin()
        self._look_around()

    def _look_around(self) -> None:
        """Take those who are in the room already: no event tells of them."""
        if self._job and (self.caller.caller.guest or self.caller.caller.phone):
            for participant in list(self._job.room.remote_participants.values()):
                self._on_participant(participant)

    # ---------------------------------------------------------------- who may not stay

    def _cut_off(self, reason: str) -> None:
        """End the session at once, and remove the participant: whoever is there now may hear nothing more of it."""
        if self._removing or self._ending:
            return
        logger.warning("the session is cut off: %s", reason)
        self._reason = reason
        self._removing = asyncio.create_task(self._remove(self._served_identity()))
        if self._agent_session:
            self._agent_session.shutdown(drain=False)
        if not (self._started and self.ends_on_close):
            self._begin_end()

    async def _remove(self, identity: str | None) -> None:
        if self._livekit is None or identity is None:
            return
        try:
            await remove_participant(self._livekit, self.caller.room_name, identity)
        except LkmongoError as error:
            logger.warning("the participant could not be removed: %s (%s)", error.message, error.why)

    def _leave(self, reason: str) -> None:
        """Close the AgentSession: the caller is not here any more, or another agent serves them."""
        if self._agent_session and self._ending is None:
            logger.warning("the session ends: %s", reason)
            self._reason = self._reason or reason
            self._agent_session.shutdown(drain=False)

    # ---------------------------------------------------------------- a guest becomes a person

    def _on_participant(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity == self._served_identity():
            if self._presence.came(participant):
                self._cut_off(REUSED)
            self._left = None
        self._on_attributes(dict(participant.attributes), participant)

    def _on_attributes(self, changed: dict[str, str], participant: rtc.Participant) -> None:
        """Know a caller by telephone by their number, and a guest by the sealed attribute; only who is served."""
        if self._job is None or not self._is_served(participant):
            return
        is_phone = self._phone_line is not None and self._phone_line.take(participant)
        if not (self.caller.caller.guest or is_phone) or not changed.get(CALLER_ATTRIBUTE):
            return
        try:
            sealed = unseal(
                changed[CALLER_ATTRIBUTE],
                room=replace(Room.of(self._job.job.room), began=None),  # they are identified while it goes on
                participant_identity=participant.identity,
                secret=self._secret or "",
            )
        except SealError as error:
            logger.warning("the caller stays a guest: %s", error.message)
            return
        task = asyncio.create_task(self._identify(sealed))
        self._identifying.add(task)
        task.add_done_callback(self._identifying.discard)

    async def _identify(self, sealed: Sealed) -> None:
        phone = self.caller.caller.phone
        known = phone.verified if phone else self.caller.identify
        if await known(sealed.scope, sealed.ticket):
            logger.info("the guest is identified now")

    def _is_served(self, participant: rtc.Participant) -> bool:
        """Whether it is the caller; before it is said who is served, whoever is alone with the agent."""
        served = self._served_identity()
        if served is not None or self._job is None:
            return participant.identity == served
        from livekit import rtc

        agent = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        callers = [each.identity for each in self._job.room.remote_participants.values() if each.kind != agent]
        return callers == [participant.identity]

    def _served_identity(self) -> str | None:
        if self.participant_identity:
            return self.participant_identity
        try:
            linked = self._agent_session.room_io.linked_participant if self._agent_session else None
        except RuntimeError:  # the session has not joined the room yet, or has left it
            return None
        return linked.identity if linked else None


def _left_by(why: Any) -> str:
    """The close reason for a `DisconnectReason`, which is a number."""
    from livekit import rtc

    try:
        return _LEFT.get(rtc.DisconnectReason.Name(why), LOST)
    except (TypeError, ValueError):  # none is known
        return LOST
