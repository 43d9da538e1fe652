"""The session of a caller: who they are, the store, the search and the record. It outlives a handoff between agents."""

from __future__ import annotations

import asyncio
import functools
import logging
import warnings
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, Self

from lkmongo import deadlines, telemetry
from lkmongo.agent.attachment import Attachment
from lkmongo.agent.briefing import brief
from lkmongo.agent.caller import Caller
from lkmongo.agent.consent import consent_tools
from lkmongo.agent.keypad import Keypad, KeypadError
from lkmongo.agent.phone_tools import offered, phone_tools
from lkmongo.agent.recorder import Recorder
from lkmongo.agent.speculation import LIMIT, Speculation
from lkmongo.agent.status_line import StatusLines
from lkmongo.agent.turns import secrets_of
from lkmongo.errors import AttachmentError
from lkmongo.model import (
    Fact,
    FormerFact,
    Order,
    Passage,
    Profile,
    SessionEnd,
    Turn,
    UserScope,
)
from lkmongo.outbox.outbox import Saved
from lkmongo.outbox.webhook import Endpoint
from lkmongo.search.strategy import SearchResult, SearchStrategy
from lkmongo.store.open import Store
from lkmongo.store.people.own import OwnDocuments
from lkmongo.summary import PastCall, Summary
from lkmongo.ticket import Ticket
from lkmongo.trust import Level, NotTrustedError

if TYPE_CHECKING:
    from livekit.agents import AgentSession, llm
    from livekit.agents.llm import FunctionTool, RawFunctionTool

    from lkmongo.tenants import TenantPolicy


logger = logging.getLogger(__name__)

_ATTACHED = "_lkmongo_caller_session"
"""The attribute of an AgentSession for what is attached to it: unlike a table's entry, it goes when they go."""

FORGET_TOOL = "forget_detail"
"""The tool that forgets: a session in which it was called leaves no gist for the next one."""

EndCallback = Callable[[SessionEnd], Awaitable[object] | object]
"""What `CallerSession.on_end` calls."""


async def _nothing() -> None: ...


class Lifetime(Protocol):
    """What ends a session: see `lkmongo.memory.lifetime`."""

    def attached(self, session: AgentSession[Any]) -> None: ...
    async def caller_is_there(self) -> None: ...
    async def end(self, reason: str | None = None) -> bool: ...
    async def leave(self, *, failed: bool) -> None: ...


@dataclass(slots=True)
class CallerSession:
    """The session of one caller: attach it to an AgentSession, and give its agents the tools."""

    session_id: str
    room_name: str
    caller: Caller
    store: Store
    search: SearchStrategy
    recorder: Recorder
    speculation: Speculation | None = None
    status_lines: StatusLines = field(default_factory=StatusLines)
    before: tuple[Turn, ...] = ()
    """The turns with an earlier agent, whose worker died."""
    resumed: bool = False
    ended_by_agent: bool = False
    ending: bool = False
    summary: Summary | None = None
    """What it was about, at its end, unless that must not be known."""
    lifetime: Lifetime | None = None
    webhook: Endpoint | None = None
    end_callbacks: list[EndCallback] = field(default_factory=list)
    on_moved: Callable[[], Awaitable[object]] = _nothing
    """Called when the caller belongs to another tenant from now on."""
    keypad: Keypad | None = None
    """The keys of the caller's telephone, while an AgentSession of a LiveKit job is attached."""
    _attachment: Attachment | None = field(default=None, init=False, repr=False)
    identifying: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)
    """Held while it changes whose session it is; internal."""

    def __post_init__(self) -> None:
        self.caller.spoken_secrets = lambda: secrets_of(self.said)
        self.recorder.facts["limits"] = self.caller.allowance.report
        self.recorder.facts["phone"] = lambda: self.caller.phone.report() if self.caller.phone else None
        self.recorder.facts["consent"] = lambda: self.caller.consent.report() if self.caller.consent.asks else None
        self.caller.last_words = lambda: next(
            (turn.item_id for turn in reversed(self.recorder.turns) if turn.role == "user"), None
        )

    async def agree(self) -> None:
        """The caller agrees that something is kept, where the tenant asks; what they said so far is stored now."""
        await self.caller.consent.agree("program")

    async def refuse(self) -> None:
        """The caller declines, or withdraws what they agreed to: nothing is stored from now on."""
        await self.caller.consent.refuse("program")

    @property
    def said(self) -> list[Turn]:
        """The conversation so far, including that with an earlier agent."""
        return [*self.before, *self.recorder.turns]

    @staticmethod
    def of(agent_session: AgentSession[Any]) -> CallerSession:
        """The caller session that is attached to an AgentSession.

        Raises:
            AttachmentError: none is attached.
        """
        caller_session: CallerSession | None = getattr(agent_session, _ATTACHED, None)
        if caller_session is None:
            raise AttachmentError(
                "no caller session is attached to this AgentSession: call caller_session.attach(agent_session) "
                "before agent_session.start(...)"
            )
        return caller_session

    def attach(self, agent_session: AgentSession[Any]) -> None:
        """Record each turn of an AgentSession, brief the models of its agents, and search while the caller speaks.

        It does not matter what the `userdata` is, which agents run, and how many hand over to each other. What was said
        before is recorded too, but a realtime model whose instructions cannot be changed is only briefed if this is
        called before the session starts.

        Raises:
            AttachmentError: this session is attached already, or another one is attached to the AgentSession.
        """
        if self._attachment:
            raise AttachmentError(
                "this caller session is attached to an AgentSession already: begin one of its own for each AgentSession"
            )
        if hasattr(agent_session, _ATTACHED):
            raise AttachmentError("another caller session is attached to this AgentSession already")
        setattr(agent_session, _ATTACHED, self)
        telemetry.share_with_livekit()
        self.recorder.attach(agent_session)
        is_there = self.lifetime.caller_is_there if self.lifetime else _nothing
        self._attachment = Attachment(agent_session, self.caller, is_there)
        if self.caller.consent.may_ask:
            self.offer(consent_tools(self.caller.consent), self.caller.consent.offered)
        if self.caller.may_phone:
            self.offer(phone_tools(self.caller), functools.partial(offered, self.caller))
        if self.speculation:
            self.speculation.attach(agent_session)
            self.recorder.facts["speculation"] = self.speculation.report
        if self.lifetime:
            self.lifetime.attached(agent_session)

    def offer(self, tools: Sequence[llm.Tool], fitting: Callable[[list[llm.Tool]], list[llm.Tool]]) -> None:
        """Give tools to all agents of the AgentSession, in each request those that `fitting` leaves; internal."""
        if self._attachment:
            self._attachment.offer(tools, fitting)

    async def keypad_digits(self, digits: int | None = None, timeout: float = deadlines.KEYPAD_ENTRY) -> str:  # noqa: ASYNC109
        """What the caller types next on their telephone, for a tool of yours: see `Keypad.ask`. It becomes no turn.

        What nobody may see, such as a code that you have sent them, is asked for by `keypad.ask_secret`.

        Raises:
            KeypadError: nothing was typed, something else waits for keys, or the session is in no LiveKit room.
        """
        if self.keypad is None:
            raise KeypadError("this session has no keypad", why="it is in no LiveKit room, or attached to nothing yet")
        return await self.keypad.ask(digits, timeout)

    async def end(self, reason: str | None = None) -> bool:
        """End the session and store its record, unless that is done or under way; at most ten seconds.

        A session that is attached ends by itself when its AgentSession closes or its job is shut down.

        Args:
            reason: why, in a word or two, as `lkmongo sessions list` shows it; "ended" by default.

        Returns:
            Whether everything is in MongoDB; if not, it is on this machine, and will be stored later.
        """
        return self.lifetime is None or await self.lifetime.end(reason)

    def on_end(self, callback: EndCallback) -> None:
        """Call `callback`, a function or a coroutine function, when this session has ended.

        Once, after its record was completed, with a `SessionEnd` that says where the record is. It has five seconds
        at most, and must not block: several run side by side. If it fails, that is logged. A process that is killed
        calls nothing; the webhook tells of that as well (docs/webhook.md).
        """
        self.end_callbacks.append(callback)

    async def __aenter__(self) -> Self:
        """Use the session in a block; leaving the block ends a session that is not attached."""
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if self.lifetime:
            await self.lifetime.leave(failed=kind is not None)

    def tools(
        self, *, include: Collection[str] | None = None, exclude: Collection[str] = ()
    ) -> list[FunctionTool[..., Any] | RawFunctionTool[..., Any]]:
        """The tools over this caller's data, for `Agent(tools=...)`; a `MemoryAgent` has them already.

        Args:
            include: names of the tools to give; all by default.
            exclude: names of tools to leave out.

        Raises:
            TypeError: a name is given instead of a list.
            ValueError: there is no tool with such a name; the message lists those there are.
        """
        from livekit.agents.llm import find_function_tools

        from lkmongo.agent.tools import BoundTools

        tools = {tool.id: tool for tool in find_function_tools(BoundTools(self))}
        for names in (include or (), exclude):
            if isinstance(names, str):
                raise TypeError(f"the tools are named in a list, not in the text {names!r}")
            if unknown := set(names) - tools.keys():
                raise ValueError(f"there is no tool {', '.join(sorted(unknown))}; the tools are {', '.join(tools)}")
        return [tool for name, tool in tools.items() if (include is None or name in include) and name not in exclude]

    @property
    def is_attached(self) -> bool:
        """Whether an AgentSession is attached."""
        return self._attachment is not None

    @property
    def scope(self) -> UserScope:
        """Whose data this session may read and write; a guest's changes when they are identified."""
        return self.caller.scope

    @property
    def tenant_policy(self) -> TenantPolicy:
        """What LKMONGO_TENANTS says of the caller's tenant: instructions, greeting, voice, language and the rest."""
        return self.caller.policy

    @property
    def identity(self) -> UserScope:
        """The name that `scope` had in 0.1.0."""
        warnings.warn("CallerSession.identity is now CallerSession.scope", DeprecationWarning, stacklevel=2)
        return self.scope

    @property
    def trust(self) -> Level:
        """How sure it is who speaks; always `verified`, unless the caller is on the telephone (docs/phone.md)."""
        return self.caller.gate.level

    def require(self, level: Level) -> None:
        """Let a tool of your own go on only at this level of trust or above.

        Raises:
            ToolError: LiveKit's: it is less sure who speaks; the model gets a sentence for the caller.
        """
        if self.trust < level:
            from livekit.agents import ToolError

            raise ToolError(NotTrustedError(level).sentence)

    async def verify(self, user_id: str | None = None) -> bool:
        """A caller by telephone has proven who they are, such as by a code that you have sent them.

        Args:
            user_id: who they are; by default whom they are taken for.

        Returns:
            Whether they are verified now; False if nobody is named, and nobody or several people are possible.
        """
        scope = UserScope(tenant_id=self.scope.tenant_id, user_id=user_id) if user_id else None
        return self.caller.phone is None or await self.caller.phone.verified(scope)

    @property
    def profile(self) -> Profile:
        """The caller's profile as it is known now: empty until it is loaded, and for a guest."""
        return self.caller.profile

    @property
    def facts(self) -> dict[str, Fact]:
        """What is remembered about the caller, by label, newest first, as it may be told: secrets are withheld."""
        return {label: memory.told for label, memory in self.caller.slots.items()}

    @property
    def saved(self) -> Saved:
        """How durable what was changed is: "stored" in MongoDB, "kept" on disk to be stored later, or "not saved"."""
        return self.caller.saved

    def briefing(self) -> str:
        """What the model is told about the caller, newest facts first; at most 4,800 characters."""
        return brief(self.caller)

    async def remember(self, label: str, content: str, *, valid_from: datetime | None = None) -> Fact:
        """Remember a fact under a label; an existing label gets the new value, and the old one becomes a former one.

        `saved` says how durably. Waits for MongoDB half a second at most; what is late is stored later, if need be by
        another process.

        Args:
            label: at most 64 characters; it is normalised to snake_case.
            content: at most 4,000 characters; relative dates, such as "next Friday", are resolved.
            valid_from: since when it is true; by default since now, or since when the text says.

        Raises:
            InvalidTextError: the label or the content is invalid; or, a LimitError, it is more than the caller may.
            SecretError: it is a secret, such as a password, which must not be remembered.
        """
        return await self.caller.remember(label, content, valid_from=valid_from)

    def recall(self, label: str) -> Fact | None:
        """The fact with this label, or another spelling of it, as it may be told; None if there is none.

        Raises:
            InvalidTextError: the label is invalid.
        """
        return self.caller.recall(label)

    def former(self, label: str) -> list[FormerFact]:
        """What the fact with this label was before, newest first; empty until that is read, soon after the beginning.

        Raises:
            InvalidTextError: the label is invalid.
        """
        return self.caller.former(label)

    async def forget(self, label: str) -> str:
        """Forget a fact and what it was before for good, and what this session and the last one were about.

        `saved` says how durably. Waits as `remember` does.

        Returns:
            The fact's label as it was stored.

        Raises:
            InvalidTextError: the label is invalid.
            NotFoundError: nothing is remembered under it.
        """
        return await self.caller.forget(label)

    async def update_profile(self, field: str, value: str) -> str:
        """Store a field of the profile: name, email, preferred_language or timezone. `saved` says how durably.

        Waits as `remember` does.

        Returns:
            The value as it is stored, such as an e-mail address in lower case.

        Raises:
            InvalidTextError: there is no such field, or the value does not fit it.
            SecretError: it is a secret, which must not be remembered.
        """
        return await self.caller.set_profile(field, value)

    def resume_after(self, turns: Sequence[Turn]) -> None:
        """Resume a session that was interrupted after these turns."""
        self.resumed = True
        self.before = tuple(turns)
        self.recorder.resume_after(turns)
        if any(turn.name == FORGET_TOOL and not turn.is_error for turn in turns):
            self.caller.forgot_something = True

    async def _admitted(self) -> None:
        """Wait a moment until it is known that the caller's seal is valid. Raises DatabaseUnavailableError."""
        if not self.recorder.lease.is_admitted:
            await self.caller.preload()
        self.recorder.lease.check_admitted()

    def _own_scope(self) -> UserScope:
        self.recorder.lease.check_admitted()
        # Of an identified guest, that of the record changes first, with the lease.
        return self.scope if self.recorder.erased else self.recorder.record.scope

    async def order(self, order_id: str) -> Order | None:
        """One of the caller's own orders, or None.

        Raises:
            DatabaseError: it could not be read.
            InvalidIdError: that is not a valid order number.
            NotTrustedError: it is not sure enough who speaks.
        """
        self.caller.gate.check_tool("lookup_order")
        await self._admitted()
        return await self.store.breaker.read(lambda: self.store.orders.get(self.scope, order_id))

    async def latest_orders(self, limit: int) -> list[Order]:
        """The caller's own latest orders.

        Raises:
            DatabaseError: they could not be read.
            NotTrustedError: it is not sure enough who speaks.
        """
        self.caller.gate.check_tool("lookup_order")
        await self._admitted()
        return await self.store.breaker.read(lambda: self.store.orders.latest(self.scope, limit))

    def collection(self, name: str) -> OwnDocuments:
        """The caller's documents in a collection of your own; see `OwnDocuments`.

        Raises:
            NotFoundError: this process has not declared it.
        """
        return OwnDocuments(
            self.store.db, name, self._own_scope, breaker=self.store.breaker, writing=self.recorder.writing
        )

    async def search_knowledge(self, query: str) -> SearchResult[Passage]:
        """Search the tenant's knowledge for the three passages that fit best.

        A search that was started while the caller spoke is used again.

        Returns:
            The `hits`, best first, each with its `item` and `score`; `degraded` says why the search was not the best.

        Raises:
            DatabaseError: it could not be searched.
        """

        async def search() -> SearchResult[Passage]:
            if self.speculation and (early := await self.speculation.knowledge(query)):
                return early
            return await self.search.knowledge(self.scope.tenant, query, limit=LIMIT)

        return await self.store.breaker.watch(search, self.store.ping)

    async def search_memories(self, query: str) -> list[Fact]:
        """The five facts about the caller that fit best by words and meaning, as they may be told, best first.

        A vector that was made while they spoke is used again. If there is none within a deadline, words decide alone.
        """
        return await self.caller.search(
            query, vector_of=self.speculation.similar_query(query) if self.speculation else None
        )

    async def search_past_calls(
        self, query: str = "", *, since: datetime | None = None, until: datetime | None = None
    ) -> list[PastCall]:
        """The three earlier calls of this caller that fit best, each with its summary; a guest has none.

        Args:
            query: what it was about; empty for the newest calls. "in October" in it narrows the time.
            since: that began at this time or later; with a time zone.
            until: that began before this time.

        Raises:
            DatabaseError: they could not be read.
        """
        await self._admitted()
        return await self.store.breaker.read(
            lambda: self.caller.past_calls(query, since=since, until=until, without=self.session_id),
            deadlines.PAST_CALLS,
        )

    async def identify(self, scope: UserScope, ticket: Ticket | None = None) -> bool:
        """Turn a guest into the person they turned out to be, who gets the conversation so far as well.

        `ticket` is that of the seal which said so.

        Returns:
            False if the caller is no guest, was erased, or the session is ending and its record is being completed.
        """
        async with self.identifying:  # two requests may arrive at once
            if self.ending or not self.caller.guest or self.recorder.erased:
                return False
            self.caller.consent.before_identified(scope)
            phone = self.caller.phone
            await self.recorder.change_scope(scope, ticket, phone.mark if phone else None)
            has_moved = scope.tenant_id != self.scope.tenant_id
            self.caller.identify(scope)
            self.recorder.start()
            if has_moved:
                await self.on_moved()
            return True
