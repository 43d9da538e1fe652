"""Calls that the agent makes: ordering one, dialling it by LiveKit's SIP API, and how it ended.

Whoever orders a call makes a room and sends the agent there; the agent dials, once it is in the room and ready to
speak. So nobody's telephone rings before there is somebody to talk to them, and a call goes on whatever becomes of the
program that ordered it. What became of the call is told in the room's metadata, which outlive the agent's stay.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lkmongo.dispatch import Outbound, Room, call_metadata
from lkmongo.errors import LkmongoError, NotFoundError, NotReadyError, NotSupportedError, UnreachableError
from lkmongo.livekit_api import PATIENCE, JobFailedError, livekit_client, send_agent
from lkmongo.phone_numbers import masked

if TYPE_CHECKING:
    from livekit.api import LiveKitAPI, ServerError

    from lkmongo.settings import LiveKitCredentials

logger = logging.getLogger(__name__)

AGENT_ARRIVES = timedelta(seconds=20)
"""How long an agent may take to join the room, before the call is called off."""
VERDICT = timedelta(seconds=60)
"""How long after the ringing it may take until it is known whether a person or a machine has answered."""
SHORTEST_RINGING = timedelta(seconds=5)
LONGEST_RINGING = timedelta(seconds=80)
"""LiveKit's own limit."""
_POLL = 0.5
"""Seconds between two looks at what became of the call."""
_GONE = 4
"""How many looks in a row the agent must be missing before it counts as gone."""
_DIAL_MARGIN = 5.0
"""Seconds beyond the ringing within which LiveKit says how it ended."""
_ROOM_KEPT = 60
"""Seconds for which an empty room is kept: until the agent joins, and until the outcome is read."""


class Outcome(StrEnum):
    """How an attempt to reach somebody ended."""

    ANSWERED = "answered"
    BUSY = "busy"
    NO_ANSWER = "no answer"
    VOICEMAIL = "voicemail"
    REFUSED = "refused"
    FAILED = "failed"


_BY_STATUS = {
    486: Outcome.BUSY,
    600: Outcome.BUSY,
    408: Outcome.NO_ANSWER,
    480: Outcome.NO_ANSWER,
    487: Outcome.NO_ANSWER,
    403: Outcome.REFUSED,
    603: Outcome.REFUSED,
    607: Outcome.REFUSED,
    608: Outcome.REFUSED,
}
"""By the status that the telephone network answers with (RFC 3261, 8197, 8688); all others mean that it failed."""
_NOT_ANSWERED = frozenset({"canceled", "deadline_exceeded"})
"""LiveKit's own errors for a telephone that rang for as long as it may."""


def outcome_of_status(status: int) -> Outcome:
    """What a SIP status means for a call."""
    if 200 <= status < 300:
        return Outcome.ANSWERED
    return _BY_STATUS.get(status, Outcome.FAILED)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call.

    Attributes:
        outcome: how it ended, or that a person has answered.
        sip_status: the telephone network's own answer, if that was one.
        why: of a call that failed; without the number.
    """

    outcome: Outcome
    sip_status: int | None = None
    why: str | None = None

    @property
    def text(self) -> str:
        """As the room's metadata."""
        return json.dumps({"call": self.outcome.value, "sip_status": self.sip_status, "why": self.why})

    @classmethod
    def of(cls, text: str) -> Answer | None:
        """The answer in a room's metadata, if there is one."""
        try:
            found = json.loads(text)
            return cls(Outcome(found["call"]), found["sip_status"], found["why"])
        except (ValueError, KeyError, TypeError):
            return None


# ---------------------------------------------------------------------- the agent's part


async def dial(credentials: LiveKitCredentials, call: Outbound, room: str, identity: str) -> Answer:
    """Let a telephone ring, and return when it is answered, or will not be.

    What fails is an answer, too: nothing is raised.

    Args:
        credentials: the LiveKit project.
        call: whom to reach.
        room: the room's name.
        identity: of the participant that the telephone becomes there; others in the room do not see the number.
    """
    from google.protobuf.duration_pb2 import Duration
    from livekit import api

    seconds = int(call.ringing.total_seconds())
    request = api.CreateSIPParticipantRequest(
        sip_trunk_id=call.trunk,
        sip_call_to=call.number.text,
        room_name=room,
        participant_identity=identity,
        hide_phone_number=True,
        wait_until_answered=True,
        ringing_timeout=Duration(seconds=seconds),
    )
    try:
        async with livekit_client(credentials) as client, asyncio.timeout(seconds + _DIAL_MARGIN):
            try:
                await client.sip.create_sip_participant(request)
            except api.ServerError as error:
                return _answer_of(error)
    except LkmongoError as error:
        return Answer(Outcome.FAILED, why=masked(f"{error.message}: {error.why}"))
    return Answer(Outcome.ANSWERED)


def _answer_of(error: ServerError) -> Answer:
    from livekit import api

    status = error.sip_status_code if isinstance(error, api.SipCallError) else None
    if status is not None and not 200 <= status < 300:
        outcome = outcome_of_status(status)
        why = error.metadata.get("sip_status") or None
    else:
        outcome = Outcome.NO_ANSWER if error.code in _NOT_ANSWERED else Outcome.FAILED
        why = error.message or error.code
    return Answer(outcome, status, masked(why) if why and outcome is Outcome.FAILED else None)


async def tell(credentials: LiveKitCredentials, room: str, answer: Answer) -> None:
    """Tell whoever has ordered the call what became of it. Raises as `call_livekit` does."""
    from livekit import api

    async with livekit_client(credentials) as client, asyncio.timeout(PATIENCE):
        await client.room.update_room_metadata(api.UpdateRoomMetadataRequest(room=room, metadata=answer.text))


# ---------------------------------------------------------------------- whoever orders a call


@dataclass(frozen=True, slots=True)
class Placed:
    """A call that was ordered; `answer` is None if it was not waited for."""

    room: str
    session_id: str
    answer: Answer | None


async def place_call(
    credentials: LiveKitCredentials,
    call: Outbound,
    *,
    agent_name: str,
    wait: bool = True,
    on_status: Callable[[str], None] = logger.info,
) -> Placed:
    """Have an agent call somebody, and wait until a person talks with it, or nobody will.

    If this is cancelled once the agent is sent, the call goes on.

    Args:
        credentials: the LiveKit project.
        call: whom to reach.
        agent_name: the name that the worker registered with.
        wait: for the outcome; otherwise return as soon as the call is ordered.
        on_status: called with a sentence about what it waits for.

    Raises:
        NotFoundError: there is no such outbound trunk.
        NotSupportedError: this LiveKit server has no telephony.
        NotReadyError: no agent has come; the call is called off.
        JobFailedError: the agent has gone without saying what became of the call.
        UnreachableError, AuthenticationError: as `call_livekit` raises them.
    """
    from livekit import api

    await check_trunk(credentials, call.trunk)
    name, identity = f"call-{secrets.token_hex(8)}", f"callee-{secrets.token_hex(8)}"
    async with livekit_client(credentials) as client, asyncio.timeout(PATIENCE):
        made = await client.room.create_room(
            api.CreateRoomRequest(name=name, empty_timeout=_ROOM_KEPT, departure_timeout=_ROOM_KEPT)
        )
    metadata = call_metadata(
        call,
        room=Room(name, made.sid),
        participant_identity=identity,
        secret=credentials.api_secret.get_secret_value(),
    )
    on_status(f"sending {agent_name} into {name}")
    try:
        arrives = AGENT_ARRIVES if wait else timedelta(0)
        await send_agent(credentials, room=name, agent_name=agent_name, metadata=metadata, wait=arrives)
    except LkmongoError as error:
        if not (isinstance(error, NotReadyError | JobFailedError) and (answer := await _answer(credentials, name))):
            await _call_off(credentials, name)
            raise
        return Placed(name, made.sid, answer)
    if not wait:
        return Placed(name, made.sid, None)
    on_status(f"{agent_name} is in the room, and dials")
    return Placed(name, made.sid, await _outcome(credentials, name, call.ringing + VERDICT))


async def check_trunk(credentials: LiveKitCredentials, trunk: str) -> None:
    """Raise NotFoundError if there is no such outbound trunk; and as `place_call` does."""
    from livekit import api

    async with livekit_client(credentials) as client, asyncio.timeout(PATIENCE):
        try:
            found = await client.sip.list_outbound_trunk(api.ListSIPOutboundTrunkRequest(trunk_ids=[trunk]))
        except api.ServerError as error:
            if error.status in {401, 403}:
                raise
            raise _no_telephony(error) from error
    if trunk not in {each.sip_trunk_id for each in found.items}:
        raise NotFoundError(
            f"LiveKit has no outbound trunk {trunk}",
            hint="lkmongo phone setup shows what there is; name another with --trunk, or set LKMONGO_SIP_TRUNK",
        )


def _no_telephony(error: ServerError) -> NotSupportedError:
    return NotSupportedError(
        "this LiveKit server cannot make telephone calls",
        why=masked(error.message) or error.code,
        hint="a server of your own needs Redis and livekit-sip; see docs/phone.md",
    )


async def _outcome(credentials: LiveKitCredentials, room: str, within: timedelta) -> Answer:
    """Wait until the agent says what became of the call, which goes on while LiveKit does not answer us."""
    loop = asyncio.get_running_loop()
    until, missing = loop.time() + within.total_seconds(), 0
    failed: UnreachableError | None = None
    while loop.time() < until and missing < _GONE:
        try:
            async with livekit_client(credentials) as client:
                if answer := await _told(client, room):
                    return answer
                missing = 0 if await _has_agent(client, room) else missing + 1
            failed = None
        except UnreachableError as error:
            failed = error
        await asyncio.sleep(_POLL)
    if failed:
        raise failed
    raise JobFailedError(
        f"it is not known what became of the call in {room}",
        why="the agent has left without saying so" if missing else f"it takes longer than {within.total_seconds():g} s",
        hint="check the worker's log, and lkmongo sessions list",
    )


async def _answer(credentials: LiveKitCredentials, room: str) -> Answer | None:
    async with livekit_client(credentials) as client:
        return await _told(client, room)


async def _told(client: LiveKitAPI, room: str) -> Answer | None:
    from livekit import api

    async with asyncio.timeout(PATIENCE):
        found = await client.room.list_rooms(api.ListRoomsRequest(names=[room]))
    return next((Answer.of(each.metadata) for each in found.rooms), None)


async def _has_agent(client: LiveKitAPI, room: str) -> bool:
    from livekit import api

    try:
        async with asyncio.timeout(PATIENCE):
            present: Any = await client.room.list_participants(api.ListParticipantsRequest(room=room))
    except api.ServerError as error:
        if error.code != api.ServerErrorCode.NOT_FOUND:
            raise
        return False
    return any(each.kind == api.ParticipantInfo.Kind.AGENT for each in present.participants)


async def _call_off(credentials: LiveKitCredentials, room: str) -> None:
    """Delete the room, so that no agent that comes late dials; what fails is left to the life of the seal."""
    from livekit import api

    try:
        async with livekit_client(credentials) as client, asyncio.timeout(PATIENCE):
            await client.room.delete_room(api.DeleteRoomRequest(room=room))
    except LkmongoError as error:
        logger.info("the room %s could not be deleted: %s", room, error.message)
