"""Whether the caller of a session agrees that something of them is kept, where their tenant asks.

Until they agree, everything that the session would write waits in its outbox in memory: neither the database nor the
journal on disk has any of it, so a process that dies leaves nothing. If they agree, it is stored; if they decline, or
hang up without an answer, it is gone. They answer aloud, by the tools of `consent_tools`, or on the talk page.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lkmongo import deadlines
from lkmongo.aio import poll
from lkmongo.consent import QUESTION, WITHDRAWN, By, Consent
from lkmongo.errors import LkmongoError
from lkmongo.model import Profile, UserScope, now
from lkmongo.outbox.operations import NoteConsent
from lkmongo.store.people.consent import refuse
from lkmongo.store.people.forget import forget

if TYPE_CHECKING:
    from datetime import datetime

    from livekit.agents import llm

    from lkmongo.outbox.outbox import Outbox
    from lkmongo.store.open import Store
    from lkmongo.tenants import Tenants

logger = logging.getLogger(__name__)

State = Literal["assumed", "unknown", "asked", "agreed", "refused"]
"""The tenant does not ask; what they answered before is not loaded yet; they are asked now; or they have answered."""

_ASKING = (
    "This caller has not agreed that anything is kept of them. In your first words after a short greeting, ask them: "
    f'"{QUESTION}" If they clearly agree, call give_consent; if they say no, call decline_consent. Ask once only, and '
    "help them whatever they answer."
)
_SENTENCES: dict[State, str] = {
    "asked": _ASKING,
    "agreed": "If the caller wants nothing to be kept any more, call withdraw_consent.",
    "refused": (
        "The caller does not want anything to be kept: nothing of this call is. Do not ask again; if they change their "
        "mind, call give_consent."
    ),
}
_TOOLS: dict[State, frozenset[str]] = {
    "asked": frozenset({"give_consent", "decline_consent"}),
    "agreed": frozenset({"withdraw_consent"}),
    "refused": frozenset({"give_consent"}),
}
CONSENT_TOOLS = frozenset(name for names in _TOOLS.values() for name in names)


class Asked(Protocol):
    """What is needed of a `Caller`."""

    scope: UserScope
    guest: bool
    on_change: Callable[[], None]


class CallerConsent:
    """The caller's answer, and what follows from it for the outbox."""

    def __init__(self, caller: Asked, outbox: Outbox, store: Store, tenants: Tenants) -> None:
        """Hold the outbox if the caller's tenant asks."""
        self._caller = caller
        self._outbox = outbox
        self._store = store
        self._polling: asyncio.Task[Any] | None = None
        self.answer: Consent | None = None
        """The latest, given in this session or before."""
        self.state: State = "assumed"
        self._tenants = tenants
        if tenants.asks(caller.scope.tenant_id):
            self.state = "asked" if caller.guest else "unknown"
            outbox.hold()

    @property
    def asks(self) -> bool:
        return self.state != "assumed"

    @property
    def may_ask(self) -> bool:
        """Whether they are asked, or may be once it is known who the guest is."""
        return self.asks or (self._caller.guest and self._tenants.some_ask)

    @property
    def is_missing(self) -> bool:
        """Whether nothing may be kept of the caller."""
        return self.state not in {"assumed", "agreed"}

    @property
    def sentence(self) -> str:
        """What the model is told."""
        return _SENTENCES.get(self.state, "")

    @property
    def thanks(self) -> str:
        """What the agent says to who agrees."""
        return AGREED_AS_GUEST if self._caller.guest else AGREED

    def offered(self, tools: list[llm.Tool]) -> list[llm.Tool]:
        """The tools without those of consent that do not fit now."""
        wanted = _TOOLS.get(self.state, frozenset())
        return [tool for tool in tools if tool.id not in CONSENT_TOOLS or tool.id in wanted]

    def report(self) -> dict[str, Any]:
        """What the record of the session says of it."""
        return self.answer.fields if self.answer else {"state": "unanswered"}

    def loaded(self, profile: Profile) -> None:
        """Take the answer of an earlier session; without one the caller is asked now."""
        if not self.asks:
            return
        self._take(profile.consent)
        if self.state == "unknown":
            self.state = "asked"
        if self._polling is None:
            failing = "the caller's consent could not be looked up"
            self._polling = asyncio.create_task(poll(self._look, deadlines.CONSENT_NEWS, failing))

    async def _look(self) -> None:
        """Learn what they answered on the page meanwhile, or with staff.

        And, while there is no lease that would tell, whether the visitor has logged out.
        """
        if self._outbox.is_held:
            await self._outbox.lease.confirm()
        scope = self._caller.scope
        if not self._caller.guest and (found := await self._store.users.consent(scope)) and scope == self._caller.scope:
            self._take(found)

    def _take(self, found: Consent | None) -> None:
        if found is None or (self.answer and found.at <= self.answer.at):
            return
        self.answer = found
        if found.allows:
            self._open()
        else:
            self._shut()

    async def agree(self, by: By = "voice") -> None:
        """They agree: what was said in this session so far is stored, unless they declined or withdrew before."""
        if not self.is_missing:
            return
        self.answer = Consent("agreed", now(), by)
        self._open(NoteConsent(self.answer))
        await self._outbox.settle("memory", deadlines.ACKNOWLEDGED)

    async def refuse(self, by: By = "voice") -> None:
        """They decline, or withdraw what they agreed to: nothing that is said is stored from now on."""
        if not self.asks or self.state == "refused":
            return
        withdraws = self.state == "agreed"
        self.answer = Consent("withdrawn" if withdraws else "declined", now(), by)
        if withdraws and self._outbox.is_shown:
            self._shut(NoteConsent(self.answer))
            await self._outbox.settle("memory", deadlines.ACKNOWLEDGED)
            return
        self._shut()
        if self._caller.guest or self._outbox.holds_back:  # it is not sure whose answer it would be
            return
        try:
            async with asyncio.timeout(deadlines.MONGODB_WRITE):
                await refuse(self._store, self._caller.scope, by)
        except (LkmongoError, TimeoutError) as error:
            logger.warning("that a caller declined or withdrew their consent could not be stored: %s", error)

    def before_identified(self, scope: UserScope) -> None:
        """The guest is about to become this person, whose tenant may ask though the guest's did not."""
        if not self.asks and self._tenants.asks(scope.tenant_id):
            self.state = "unknown"
            self._outbox.hold()

    def before_moved(self, guest: UserScope) -> None:
        """The guest is about to become one of another tenant, which may ask though theirs did not."""
        if not self.asks and self._tenants.asks(guest.tenant_id):
            self.state = "asked"
            self._outbox.hold()

    def before_step_back(self) -> None:
        """The person is about to become a guest again: what the person has agreed to is not what the guest has."""
        if self.asks and not (self.answer and self.answer.at >= self._outbox.lease.session_began):
            self.answer, self.state = None, "asked"
            self._outbox.hold()

    def identified(self, scope: UserScope) -> None:
        """The guest turned out to be this person: what they answered in this session holds."""
        if not self.asks:
            return
        if self.answer is None:
            self.state = "unknown"
        elif self.state == "agreed" and not scope.is_guest:
            self._outbox.add(NoteConsent(self.answer))

    async def forget(self, label: str, at: datetime) -> None:
        """Delete a slot at once: that needs no consent, and what is held may never be stored. Raises DatabaseError."""
        if self.is_missing:
            await forget(self._store, self._caller.scope, [label], at=at)

    def end(self) -> None:
        """Listen for no other answer."""
        if self._polling:
            self._polling.cancel()

    def _open(self, first: NoteConsent | None = None) -> None:
        self.state = "agreed"
        self._outbox.open(first)
        self._caller.on_change()

    def _shut(self, last: NoteConsent | None = None) -> None:
        self.state = "refused"
        self._outbox.shut(last)
        self._caller.on_change()


AGREED = "Thank you. I will remember this conversation and what you tell me."
AGREED_AS_GUEST = "Thank you. A record of this conversation will be kept."
DECLINED = "All right. Nothing of this conversation will be kept."


def consent_tools(consent: CallerConsent) -> list[llm.FunctionTool[..., Any] | llm.RawFunctionTool[..., Any]]:
    """The tools by which a caller answers aloud; `CallerConsent.offered` says which of them fit."""
    from livekit.agents import ToolError, function_tool

    def check(name: str) -> None:
        if name not in _TOOLS.get(consent.state, frozenset()):
            raise ToolError("That is not asked at the moment.")

    @function_tool
    async def give_consent() -> str:
        """The caller clearly agrees, in their own words, that a record is kept and that they are remembered."""
        check("give_consent")
        await consent.agree()
        return consent.thanks

    @function_tool
    async def decline_consent() -> str:
        """The caller does not agree that anything is kept of them."""
        check("decline_consent")
        await consent.refuse()
        return DECLINED

    @function_tool
    async def withdraw_consent() -> str:
        """The caller withdraws what they agreed to: nothing of them shall be kept from now on."""
        check("withdraw_consent")
        await consent.refuse()
        return WITHDRAWN

    return [give_consent, decline_consent, withdraw_consent]
