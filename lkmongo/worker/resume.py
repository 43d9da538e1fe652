"""Resuming sessions whose worker died: another agent is dispatched, reads the turns so far and continues after them.

LiveKit Cloud dispatches the job again by itself. A self-hosted server never does, so every worker polls for sessions
whose lease has expired, claims one by compare-and-set, checks that the caller is still in the room, and dispatches.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from lkmongo.aio import poll
from lkmongo.dispatch import Room, plain_metadata, resuming_metadata, sealed_metadata
from lkmongo.errors import LkmongoError
from lkmongo.model import SessionRecord, Turn, TurnKind, now
from lkmongo.phone_numbers import MASK, masked
from lkmongo.store.sessions.documents import LOOKING, lease_owner
from lkmongo.store.sessions.sessions import LOST

if TYPE_CHECKING:
    from livekit.agents import llm
    from livekit.protocol.agent_dispatch import AgentDispatchState

    from lkmongo.settings import LiveKitCredentials
    from lkmongo.store.open import Store

logger = logging.getLogger(__name__)

POLL_INTERVAL = 2.0
"""Seconds between two searches for sessions whose lease has expired."""
DISPATCH_TIMEOUT = 15.0
"""Seconds within which a dispatched agent joins the room, if it comes at all."""
_MAX_TURNS = 200
"""How many of the last turns the model gets."""


def chat_context(turns: Iterable[Turn]) -> llm.ChatContext:
    """The conversation so far as a chat context: messages, tool calls and their outputs."""
    from livekit.agents import llm

    context = llm.ChatContext.empty()
    for turn in list(turns)[-_MAX_TURNS:]:
        moment = turn.created_at.timestamp()
        if turn.kind is TurnKind.MESSAGE and turn.role in {"user", "assistant"}:
            context.items.append(
                llm.ChatMessage(
                    id=turn.item_id,
                    role="user" if turn.role == "user" else "assistant",
                    content=[turn.content or ""],
                    interrupted=turn.interrupted,
                    created_at=moment,
                )
            )
        elif turn.kind is TurnKind.TOOL and turn.name and turn.output is not None:
            call = llm.FunctionCall(
                id=turn.item_id,
                call_id=turn.item_id,
                name=turn.name,
                arguments=turn.arguments or "{}",
                created_at=moment,
            )
            output = llm.FunctionCallOutput(
                call_id=turn.item_id, name=turn.name, output=turn.output, is_error=turn.is_error, created_at=moment
            )
            context.items += [call, output]
    return context


async def resume_lost_sessions(store: Store, credentials: LiveKitCredentials, agent_name: str) -> None:
    """Poll for sessions whose worker died, and dispatch an agent to each whose caller still waits; never returns."""

    async def look() -> None:
        failed: LkmongoError | None = None
        lost = [(record, None) for record in await store.sessions.expired(agent_name, credentials.host)]
        for record, dead in [*await store.sessions.orphaned(agent_name, credentials.host), *lost]:
            try:
                await resume(store, credentials, agent_name, record, dead=dead)
            except LkmongoError as error:
                failed = error
        if failed:
            raise failed

    await poll(look, POLL_INTERVAL, "lost sessions could not be resumed")


async def resume(
    store: Store,
    credentials: LiveKitCredentials,
    agent_name: str,
    record: SessionRecord,
    *,
    dead: str | None = None,
) -> bool:
    """Dispatch an agent to a session whose lease has expired, unless another worker does or nobody waits.

    LiveKit takes some 20 seconds to notice a killed process, so a dead agent's participant is removed first. Only if it
    is known to be dead: otherwise it may be alive and merely unable to reach MongoDB.

    Args:
        store: the database.
        credentials: the LiveKit project.
        agent_name: the agent to dispatch.
        record: the session.
        dead: the owner of its lease, if known to be dead.

    Returns:
        Whether an agent was dispatched.

    Raises:
        DatabaseError: MongoDB answered with an error.
        UnreachableError: LiveKit does not answer.
        AuthenticationError: one of the two refuses the credentials.
    """
    if record.room_name is None or record.started_at is None:
        return False  # not recorded by an agent
    # One worker wins the claim. Its lease expires again if no agent comes.
    if not await store.sessions.claim(record, lease_owner() + LOOKING, instead_of=dead or "", make=False):
        return False
    state, room, participant = await _inspect_room(credentials, record, is_dead=dead is not None)
    match state:
        case "agent":
            return False  # alive but unable to reach MongoDB, or its participant is not gone yet
        case "nobody":
            await store.sessions.interrupt(record.scope, record.session_id, LOST, for_good=True)
            return False
        case "waiting":
            pass
    from lkmongo.livekit_api import send_agent

    if record.scope.is_guest:
        metadata = resuming_metadata(record.scope, participant)
    elif record.ticket and participant:
        metadata = sealed_metadata(
            record.scope,
            room=Room(room, record.session_id),
            participant_identity=participant,
            secret=credentials.api_secret.get_secret_value(),
            visitor=record.ticket.visitor,
            made_at=record.ticket.made_at,
        )
    else:
        metadata = plain_metadata(record.scope, participant, trust=record.trust)
    logger.warning("session %s lost its agent: dispatching another one to resume it", record.session_id)
    await send_agent(credentials, room=room, agent_name=agent_name, metadata=metadata, wait=timedelta(0))
    return True


async def _inspect_room(
    credentials: LiveKitCredentials, record: SessionRecord, *, is_dead: bool
) -> tuple[Literal["agent", "nobody", "waiting"], str, str | None]:
    """Look who is in the room: an agent (or one on its way), only the caller (waiting), or nobody.

    With the names of the room and of the participant who is served: a record does not have them where they hold a
    telephone number.
    """
    from livekit import api

    from lkmongo.livekit_api import PATIENCE, livekit_client

    room, began, who = record.room_name or "", record.started_at or now(), record.participant_identity
    async with livekit_client(credentials) as client, asyncio.timeout(PATIENCE):
        names = [] if MASK in room else [room]
        rooms = (await client.room.list_rooms(api.ListRoomsRequest(names=names))).rooms
        room = next((each.name for each in rooms if each.sid == record.session_id), "")
        if not room:
            return "nobody", room, who
        present = (await client.room.list_participants(api.ListParticipantsRequest(room=room))).participants
        dispatches = await client.agent_dispatch.list_dispatch(room)
        agents = {each.identity for each in present if each.kind == api.ParticipantInfo.Kind.AGENT}
        if record.agent_participant:
            agents &= {record.agent_participant}  # other agents do other work
        callers = {each.identity for each in present if each.kind != api.ParticipantInfo.Kind.AGENT}
        who = next((each for each in callers if masked(each) == who), who)
        if not callers or (who and who not in callers):
            return "nobody", room, who
        if any(_is_on_its_way(dispatch.state, began) for dispatch in dispatches):
            return "agent", room, who
        if agents and is_dead and record.agent_participant:
            dead = api.RoomParticipantIdentity(room=room, identity=record.agent_participant)
            await client.room.remove_participant(dead)
            return "waiting", room, who
        return ("agent" if agents else "waiting"), room, who


def _is_on_its_way(dispatch: AgentDispatchState, session_began: datetime) -> bool:
    """Whether a dispatched agent may still come: a server does not report that no worker took the job."""
    from livekit.protocol.agent import JobStatus

    over = {JobStatus.JS_SUCCESS, JobStatus.JS_FAILED, JobStatus.JS_CANCELLED}
    sent = dispatch.created_at / 1e9
    if sent < session_began.timestamp() or dispatch.deleted_at or time.time() - sent > DISPATCH_TIMEOUT:
        return False
    return not dispatch.jobs or any(job.state.status not in over for job in dispatch.jobs)
