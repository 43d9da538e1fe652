"""A conversation in text through a real AgentSession: the same agent, tools and record as in a room."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lkmongo.agent.lines import Line
from lkmongo.errors import InvalidTextError, LkmongoError
from lkmongo.model import Identity, LastSession, now
from lkmongo.settings import Settings

if TYPE_CHECKING:
    from lkmongo.agent.call import Call

logger = logging.getLogger(__name__)

Show = Callable[[dict[str, Any]], None]
"""Takes one event: a message, a tool_call or a tool_output."""


@dataclass(slots=True)
class Outcome:
    """How the conversation went."""

    session_id: str
    refused: int = 0
    unanswered: int = 0
    stored: bool = True
    failure: LkmongoError | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """Where the conversation is shown."""

    event: Show
    note: Callable[[str], None]
    warn: Callable[[str], None]
    refuse: Callable[[InvalidTextError], None]


async def converse(
    settings: Settings, identity: Identity, lines: AsyncIterator[Line], listener: Listener, *, guest: bool = False
) -> Outcome:
    """Hold one call from greeting to hang-up and store its record, however it ends.

    Args:
        settings: which database, embedder, mind and agent.
        identity: who is talking.
        lines: what they say; the call ends when they end.
        listener: told of everything that is to be shown.
        guest: remember the caller for this call only.

    Raises:
        SettingsError: a setting does not fit.
        EmbeddedError: the embedded mongod cannot run here.
    """
    # The SDK takes seconds to import: that is done beside the start of the database.
    importing = asyncio.create_task(asyncio.to_thread(importlib.import_module, "lkmongo.agent.loading"))
    outcome = Outcome(session_id=f"console-{uuid4()}")
    await asyncio.sleep(0)
    from lkmongo.agent.call import open_call

    async with open_call(
        settings,
        identity,
        guest=guest,
        session_id=outcome.session_id,
        room_name="console",
        on_status=listener.note,
    ) as call:
        await importing
        if not call.caller.loaded:
            error = call.caller.load_error
            listener.warn(
                f"{f'{error.message}: {error.why}' if error else 'MongoDB does not answer'}. "
                "The call goes on without memory, and is recorded only if that changes"
            )
        await _hold(settings, call, lines, listener, outcome)
    return outcome


async def _hold(
    settings: Settings, call: Call, lines: AsyncIterator[Line], listener: Listener, outcome: Outcome
) -> None:
    from livekit.agents import AgentSession, utils
    from livekit.agents.testing import fake_job_context

    from lkmongo.agent.loading import create_assistant
    from lkmongo.agent.pipeline import choose_mind

    assistant = create_assistant(settings)
    mind = choose_mind(settings)
    listener.note(f"You are talking to {mind.description}.")
    reason = "error"
    async with utils.http_context.open():
        with fake_job_context(job_id=call.session_id) as job:
            session: AgentSession[Call] = AgentSession(
                llm=mind.llm, userdata=call, vad=None, turn_handling={"turn_detection": None}
            )
            call.recorder.attach(session)
            try:
                await _show_run(session.start(assistant, capture_run=True, record=False), listener, outcome)
                async for line in lines:
                    if line.refused:
                        outcome.refused += 1
                        listener.refuse(line.refused)
                    elif line.text:
                        listener.event({"type": "message", "role": "user", "text": line.text})
                        await _show_run(session.run(user_input=line.text), listener, outcome)
                reason = "hang-up"
            except (asyncio.CancelledError, KeyboardInterrupt):
                reason = "interrupted"
                raise
            except _SessionEndedError as error:
                outcome.failure = error
            finally:
                await session.aclose()
                await mind.llm.aclose()
                ended_at = now()
                await _leave_gist(call)
                await call.caller.settle(deadline=2.0)
                outcome.stored = await call.recorder.close(
                    reason,
                    lambda: job.make_session_report(session).to_dict(include_chat_history=False, include_events=False),
                    ended_at=ended_at,
                )
                if call.recorder.erased:
                    listener.note("What was kept of this caller was erased during the call; nothing of it is stored.")
                elif not outcome.stored and call.caller.loaded:
                    listener.warn("this call could not be stored")


class _SessionEndedError(LkmongoError):
    """The conversation ended after too many failures of the language model."""

    code = "session_ended"


async def _show_run(run: Awaitable[Any], listener: Listener, outcome: Outcome) -> None:
    """Wait for what the agent does, and show it; a language model that does not answer is told, and the call goes on."""
    from livekit.agents import APIError

    try:
        result = await run
    except APIError as error:
        outcome.unanswered += 1
        listener.warn(f"the language model did not answer: {_cause(error)}")
        return
    except RuntimeError as error:
        raise _SessionEndedError(why=str(error)) from error
    show = listener.event
    names: dict[str, str] = {}
    for event in result.events if result else []:
        item = event.item
        if event.type == "message" and item.role == "assistant":
            show({"type": "message", "role": "assistant", "text": item.text_content or ""})
        elif event.type == "function_call":
            names[item.call_id] = item.name
            show({"type": "tool_call", "name": item.name, "arguments": _arguments(item.arguments)})
        elif event.type == "function_call_output":
            show(
                {
                    "type": "tool_output",
                    "name": item.name or names.get(item.call_id, ""),
                    "output": item.output,
                    "is_error": item.is_error,
                }
            )


def _arguments(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text or "{}")
    except ValueError:
        return {"text": text}
    return parsed if isinstance(parsed, dict) else {"value": parsed}


def _cause(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0][:200]}"


async def _leave_gist(call: Call) -> None:
    """Let the next call know what this one was about, unless something was forgotten in it."""
    gist = call.recorder.gist()
    if call.caller.guest or call.caller.forgot_something or not gist:
        return
    try:
        async with asyncio.timeout(2.0), call.recorder.lease.writing():
            await call.store.users.set_last_session(
                call.identity, LastSession(now(), gist), started_at=call.recorder.record.started_at
            )
    except (LkmongoError, TimeoutError) as error:
        logger.info("the gist of the call is not stored: %s", error)
