"""A console conversation through a real AgentSession: the same agent, tools and record as in a room."""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lkmongo.console.lines import Line, Listener, OpenSound, Outcome, Switch, first_line, tool_call, tool_output
from lkmongo.errors import LkmongoError, SettingsError
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from lkmongo.store.sessions.sessions import CONSOLE

if TYPE_CHECKING:
    from lkmongo.agent.assistant import Assistant
    from lkmongo.agent.caller_session import CallerSession
    from lkmongo.agent.models import CallerAgentSession, ModelChoice
    from lkmongo.agent.recorder import Recorder
    from lkmongo.memory.lifetime import Lifetime
    from lkmongo.speech.choose import Speech
    from lkmongo.store.open import Store
    from lkmongo.tenants import TenantPolicy

logger = logging.getLogger(__name__)


async def converse(
    settings: Settings,
    scope: UserScope,
    lines: AsyncIterator[Line | Switch],
    listener: Listener,
    *,
    guest: bool = False,
    aloud: OpenSound | None = None,
    session_id: str | None = None,
    model: ModelChoice | None = None,
    before: Callable[[CallerSession, Assistant], Awaitable[None]] | None = None,
    furnished: bool = False,
) -> Outcome:
    """Run one session from greeting to hang-up, and store its record however it ends.

    Args:
        settings: choose the database, embedder, models and agent.
        scope: the caller.
        lines: what they say; the session ends with them.
        listener: shows the conversation.
        guest: remember the caller for this session only.
        aloud: opens microphone and loudspeaker; None for text.
        session_id: of a session to continue; a new one by default.
        model: answers; by default what the settings choose, else the demo responder. It is closed afterwards.
        before: called before the conversation begins.
        furnished: an embedded database has its indexes and its data already.

    Raises:
        AudioError: the microphone or the loudspeaker cannot be opened; nothing was recorded.
        SettingsError: a setting is wrong, or there is no speech recognition for a spoken conversation.
        EmbeddedError: the embedded mongod cannot run here.
    """
    # Imported before the thread starts: PyMongo's circular imports fail when two threads import them at once.
    from lkmongo.memory.memory import Memory
    from lkmongo.store.seed.seeding import prepare

    # Importing the SDK takes seconds, so it runs while the database starts.
    importing = asyncio.create_task(asyncio.to_thread(importlib.import_module, "lkmongo.agent.assistant"))
    outcome = Outcome(session_id=session_id or f"console-{uuid4()}")
    await asyncio.sleep(0)
    memory = Memory(settings, on_status=listener.note)
    customer = None if guest else scope

    async def furnish(store: Store) -> None:
        if not furnished:
            await prepare(store.db, memory.embedder, on_status=listener.note, customer=customer)

    memory.furnish = furnish
    async with memory:
        lifetime = await memory.begin_without_job(scope, guest=guest, session_id=outcome.session_id, room_name=CONSOLE)
        lifetime.ends_on_close = False  # why it ends is known after that
        await importing
        caller = lifetime.caller.caller
        if not caller.loaded:
            error = caller.load_error
            kept = "it is kept on this machine until MongoDB is available"
            if caller.consent.is_missing:
                kept = "nothing of it is kept, as nobody can tell whether the caller agreed to that"
            listener.warn(
                f"{f'{error.message}: {error.why}' if error else 'MongoDB does not answer'}. "
                f"The session continues without memory; {kept}"
            )
        await _run_session(settings, lifetime, lines, listener, outcome, aloud, model, before)
    return outcome


async def _run_session(
    settings: Settings,
    lifetime: Lifetime,
    lines: AsyncIterator[Line | Switch],
    listener: Listener,
    outcome: Outcome,
    aloud: OpenSound | None,
    model: ModelChoice | None,
    before: Callable[[CallerSession, Assistant], Awaitable[None]] | None,
) -> None:
    from livekit.agents import utils
    from livekit.agents.testing import fake_job_context

    from lkmongo.agent.assistant import create_assistant
    from lkmongo.agent.models import create_agent_session

    caller_session = lifetime.caller
    assistant = create_assistant(settings, caller_session.tenant_policy)
    model = lifetime.model = model or _choose_model(settings, type(assistant), listener)
    reason = "error"
    async with utils.http_context.open(), AsyncExitStack() as stack:
        stack.push_async_callback(model.close)
        with fake_job_context(job_id=caller_session.session_id):
            speech = _speech(settings, listener, caller_session.tenant_policy) if aloud else None
            if speech:
                stack.push_async_callback(speech.close)
            sound = await stack.enter_async_context(aloud()) if aloud else None
            session = create_agent_session(caller_session, model, speech)
            if before:
                await before(caller_session, assistant)
            caller_session.attach(session)
            try:
                if sound:
                    from lkmongo.console.voice import talk

                    reason = await talk(session, assistant, sound, lines, listener, outcome)
                else:
                    await _talk_in_text(caller_session.recorder, session, assistant, lines, listener, outcome)
                    reason = "hang-up"
            except (asyncio.CancelledError, KeyboardInterrupt):
                reason = "interrupted"
                raise
            except BrokenPipeError:
                reason = "hang-up"  # the reader of our output has left
                raise
            except _SessionEndedError as error:
                outcome.failure = error
            finally:
                await session.aclose()
                outcome.stored = await lifetime.end(reason)
                if caller_session.recorder.erased:
                    listener.note("This caller was erased during the session; nothing of it is stored.")
                elif caller_session.recorder.is_journaled:
                    listener.note(
                        "MongoDB has not stored this session: it is kept on this machine, and will be stored by the "
                        "next session or by lkmongo sessions recover."
                    )
                elif not outcome.stored:
                    listener.warn("this session could not be stored, neither in MongoDB nor on this machine")


async def _talk_in_text(
    recorder: Recorder,
    session: CallerAgentSession,
    assistant: Assistant,
    lines: AsyncIterator[Line | Switch],
    listener: Listener,
    outcome: Outcome,
) -> None:
    await _show_run(partial(session.start, assistant, capture_run=True, record=False), listener, outcome)
    async for line in lines:
        if isinstance(line, Switch):
            continue  # only a spoken conversation can switch
        if line.refused:
            outcome.refused += 1
            listener.refuse(line.refused)
        elif line.text:
            listener.event({"type": "message", "role": "user", "text": line.text})
            recorder.typed(line.text, time.time())
            await _show_run(partial(session.run, user_input=line.text), listener, outcome)


def _choose_model(settings: Settings, agent: type[Assistant], listener: Listener) -> ModelChoice:
    from lkmongo.agent.assistant import unused_tools_warning
    from lkmongo.agent.models import choose_model

    model = choose_model(settings)
    unused = ""
    if model is None:
        from lkmongo.demo.llm import demo_model

        model, unused = demo_model(), unused_tools_warning(agent)
    listener.note(f"You are talking to {model.description}.")
    if unused:
        listener.note(unused)
    return model


def _speech(settings: Settings, listener: Listener, policy: TenantPolicy) -> Speech:
    from lkmongo.speech.choose import choose_speech, why_no_speech

    if settings.turn_detection == "multilingual":
        listener.note("The console uses the bundled turn detector: the multilingual one works only in a worker.")
        settings = settings.model_copy(update={"turn_detection": "bundled"})
    speech = choose_speech(settings, policy=policy)
    if speech is None:
        raise NoSpeechError(settings, why_no_speech(settings, policy))
    listener.note(f"Speech recognition and voice: {speech.description}.")
    return speech


class NoSpeechError(SettingsError):
    """Speech is not available."""

    code = "no_speech"

    def __init__(self, settings: Settings, why: str | None) -> None:
        """Say why, with what `why_no_speech` found."""
        from lkmongo.speech.local import HOW_TO_INSTALL, why_not_local, why_not_on_this_platform

        hint = (
            "set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET of a LiveKit Cloud project, "
            "LIVEKIT_INFERENCE_URL and its keys, or LKMONGO_STT_BASE_URL and LKMONGO_TTS_BASE_URL"
        )
        if settings.speech == "off":
            hint = "unset LKMONGO_SPEECH"
        elif why_not_local() and not why_not_on_this_platform():
            hint = f"{HOW_TO_INSTALL}, or {hint}"
        super().__init__("speech is not available", why=why, hint=hint)


class _SessionEndedError(LkmongoError):
    """The session ended after too many failures of the language model."""

    code = "session_ended"


async def _show_run(run: Callable[[], Awaitable[Any]], listener: Listener, outcome: Outcome) -> None:
    """Await a reply and show it; if the language model fails, warn and let the session continue.

    Raises:
        _SessionEndedError: the session has ended; `run` says so when it is called, or when it is awaited.
    """
    from livekit.agents import APIError

    try:
        result = await run()
    except APIError as error:
        outcome.unanswered += 1
        listener.warn(f"the language model did not answer: {first_line(error.__cause__ or error)}")
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
            show(tool_call(item))
        elif event.type == "function_call_output":
            show(tool_output(item, names.get(item.call_id, "")))
