"""Hold one call of a scenario, in this process or in one that is killed, and note what was said and done."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from livekit.agents import llm

from lkmongo.agent.briefing import DATA_ID
from lkmongo.agent.models import choose_model
from lkmongo.console.lines import Line, Listener
from lkmongo.console.text import converse
from lkmongo.declarations import declare_agent
from lkmongo.demo.llm import demo_model
from lkmongo.errors import LkmongoError
from lkmongo.outbox import journal
from lkmongo.scenarios.days import filled
from lkmongo.scenarios.models import scripted_model, watched
from lkmongo.settings import Settings
from lkmongo.worker.resume import chat_context

if TYPE_CHECKING:
    from lkmongo.agent.assistant import Assistant
    from lkmongo.agent.caller_session import CallerSession
    from lkmongo.scenarios.scenario import Call, Step

Answers = Literal["script", "demo", "configured"]
"""Who answers the callers."""
_KEPT_WITHIN = 10.0
"""Seconds that a call which is to be killed waits at most for its last turn to be journaled."""


@dataclass(slots=True)
class Heard:
    """What came of one thing that was said."""

    said: str = ""
    """Empty for the greeting."""
    answers: list[str] = field(default_factory=list)
    tools: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Name and arguments of each tool call."""
    outputs: list[tuple[str, str]] = field(default_factory=list)
    """Name and output of each."""
    told: list[str] = field(default_factory=list)
    """Of each request to the model, what it is told: instructions and briefing."""
    history: list[str] = field(default_factory=list)
    """The conversation in the first request to the model."""
    troubles: list[str] = field(default_factory=list)

    @property
    def answer(self) -> str:
        """All that the agent said."""
        return " ".join(self.answers)

    def note_request(self, context: llm.ChatContext) -> None:
        """Note what the model is told."""
        messages = [item for item in context.items if isinstance(item, llm.ChatMessage)]
        told = [message.role in {"system", "developer"} or message.id == DATA_ID for message in messages]
        texts = [message.text_content or "" for message in messages]
        self.told += [text for text, is_told in zip(texts, told, strict=True) if is_told]
        self.history = self.history or [text for text, is_told in zip(texts, told, strict=True) if not is_told]

    def note_event(self, event: dict[str, Any]) -> None:
        """Note an event of the console."""
        if event["type"] == "message":
            self.answers.append(event["text"])
        elif event["type"] == "tool_call":
            self.tools.append((event["name"], event["arguments"]))
        else:
            self.outputs.append((event["name"], event["output"]))


async def hold(settings: Settings, call: Call, session_id: str, answers: Answers) -> list[Heard]:
    """Hold a call from greeting to hang-up.

    Args:
        settings: of the scenario's own database.
        call: who calls, and what they say.
        session_id: the session's id; that of the killed call if this one resumes it.
        answers: who answers.

    Returns:
        What came of the greeting, and of each thing that was said.

    Raises:
        SettingsError: the agent or the model cannot be used.
        EmbeddedError: the embedded mongod cannot run here.
    """
    return await _Conversation(settings, call, session_id, answers).hold()


Ending = Callable[["CallerSession", list[Heard]], Awaitable[None]]


class _Conversation:
    """A call under way."""

    def __init__(
        self, settings: Settings, call: Call, session_id: str, answers: Answers, at_end: Ending | None = None
    ) -> None:
        """`at_end` is called before the caller hangs up."""
        self._settings = settings
        self._call = call
        self._session_id = session_id
        self._answers = answers
        self._at_end = at_end
        self._heard = [Heard()]
        self._begin_turn: Callable[[Sequence[Step]], None] | None = None
        self._session: CallerSession | None = None

    async def hold(self) -> list[Heard]:
        if self._answers == "script":
            model, self._begin_turn = scripted_model(self._warn, self._call.learned)
        else:
            model = (choose_model(self._settings) if self._answers == "configured" else None) or demo_model()
        outcome = await converse(
            self._settings,
            self._call.scope,
            self._lines(),
            Listener(
                event=self._show,
                note=lambda _text: None,
                warn=self._warn,
                refuse=lambda error: self._warn(error.message),
            ),
            guest=self._call.guest,
            session_id=self._session_id,
            model=watched(model, self._note_request),
            before=self._resume,
            furnished=True,
        )
        if outcome.failure:
            self._warn(f"the session ended: {outcome.failure.why or outcome.failure.message}")
        return self._heard

    async def _resume(self, session: CallerSession, assistant: Assistant) -> None:
        self._session = session
        if not self._call.resumes:
            return
        if turns := await session.store.sessions.left_off(self._call.scope, self._session_id):
            session.resume_after(turns)
            await assistant.update_chat_ctx(chat_context(turns))

    async def _lines(self) -> AsyncIterator[Line]:
        for number, said in enumerate(self._call.says, 1):
            if self._begin_turn:
                self._begin_turn(said.model)
            yield Line(number, filled(said.say))
        if self._at_end and self._session:
            await self._at_end(self._session, self._heard)

    def _show(self, event: dict[str, Any]) -> None:
        if event.get("role") == "user":
            self._heard.append(Heard(event["text"]))
        else:
            self._heard[-1].note_event(event)

    def _note_request(self, context: llm.ChatContext) -> None:
        self._heard[-1].note_request(context)

    def _warn(self, text: str) -> None:
        self._heard[-1].troubles.append(text)


async def hold_and_kill(settings: Settings, call: Call, session_id: str, answers: Answers) -> list[Heard]:
    """Hold a call, as `hold` does, in a process of its own, which is killed (SIGKILL) after the last answer.

    Raises:
        LkmongoError: as `hold` does, or the process failed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from lkmongo.scenarios.calls import hold_and_die; hold_and_die()",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        written, errors = await process.communicate(pickle.dumps((settings, call, session_id, answers)))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    result: list[Heard] | LkmongoError | None = pickle.loads(written) if written else None  # noqa: S301 - our own
    if isinstance(result, list):
        return result
    why = errors.decode(errors="replace").strip().rpartition("\n")[2][:300]
    raise result or LkmongoError("the process of a call that was to be killed has failed", why=why or None)


def hold_and_die() -> None:
    """The process of `hold_and_kill`: reads the call from stdin, and writes what came of it to stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
    settings, call, session_id, answers = pickle.load(sys.stdin.buffer)  # noqa: S301 - from hold_and_kill
    stdout = os.dup(1)
    os.dup2(2, 1)  # an agent may print

    def tell(result: list[Heard] | LkmongoError) -> None:
        with os.fdopen(stdout, "wb") as pipe:
            pickle.dump(result, pipe)

    async def die(session: CallerSession, heard: list[Heard]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_KEPT_WITHIN):
                while not await _is_kept(settings, session):  # noqa: ASYNC110 - the database and the disk bring it about
                    await asyncio.sleep(0.02)
        tell(heard)
        os.kill(os.getpid(), signal.SIGKILL)

    try:
        declare_agent(settings.agent)
        tell(asyncio.run(_Conversation(settings, call, session_id, answers, die).hold()))  # it ended before its time
    except LkmongoError as error:
        tell(error)


async def _is_kept(settings: Settings, session: CallerSession) -> bool:
    """Whether every turn is journaled or stored: of a killed process, the turn being spoken may be lost."""
    stored = await session.store.sessions.turns(session.scope, session.session_id)
    known = {turn.item_id for turn in stored}
    files = journal.files(journal.journal_folder(settings.data_home))
    journaled = b"".join(path.read_bytes() for path in files)
    return all(turn.item_id in known or turn.item_id.encode() in journaled for turn in session.said)
