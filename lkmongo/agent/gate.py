"""What may be told to a caller, and changed by them, at the level of trust that is reached: see `lkmongo.trust`.

What is closed is not loaded into the call's memory at all, so no tool, search or briefing can come across it. What was
said in this very call is never closed to the one who said it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lkmongo.model import Fact, FormerFact, Profile, UserScope
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.ticket import Ticket
from lkmongo.trust import Level, Needs, NotTrustedError

if TYPE_CHECKING:
    from livekit.agents import llm

Value = TypeVar("Value", Fact, FormerFact)


class Phone(Protocol):
    """What others need of a `PhoneCaller`, whose file this is not, as it imports theirs."""

    @property
    def level(self) -> Level: ...
    @property
    def number(self) -> PhoneNumber | None: ...
    @property
    def scope_to_verify(self) -> UserScope | None: ...
    @property
    def candidates(self) -> Sequence[object]: ...
    @property
    def denied(self) -> bool: ...
    @property
    def sentence(self) -> str: ...
    @property
    def mark(self) -> str: ...
    def report(self) -> dict[str, Any]: ...
    async def recognised(self) -> None: ...
    async def hear(self, words: str, item_id: str | None = None) -> None: ...
    async def says_name(self, name: str) -> str: ...
    def is_called(self, name: str) -> bool: ...
    async def deny(self) -> None: ...
    def for_model(self, items: Sequence[llm.ChatItem]) -> list[llm.ChatItem]: ...
    async def verified(self, scope: UserScope | None = None, ticket: Ticket | None = None) -> bool: ...


class Gate:
    """Opens with the level; it stands open unless the caller is on the telephone.

    Attributes:
        level: what is known of who is speaking.
        needs: what each slot and tool needs, by the tenant.
        is_new: the person began with this call, so that there is nothing of theirs that they have not said.
    """

    def __init__(self, session_id: str) -> None:
        self.level = Level.VERIFIED
        self.needs = Needs()
        self.is_new = False
        self._session_id = session_id

    def opens(self, label: str) -> bool:
        """Whether a slot or a profile field may be told and changed."""
        return self.is_new or self.level >= self.needs.slot(label)

    @property
    def opens_everything(self) -> bool:
        """Whether what may hold the content of any slot may be told, such as the summary of a call."""
        return self.is_new or self.level >= self.needs.everything

    def check(self, label: str) -> None:
        """Raise NotTrustedError unless a slot or a profile field may be changed."""
        if not self.opens(label):
            raise NotTrustedError(self.needs.slot(label))

    def check_everything(self) -> None:
        """Raise NotTrustedError unless what may hold the content of any slot may be told."""
        if not self.opens_everything:
            raise NotTrustedError(self.needs.everything)

    def check_tool(self, name: str) -> None:
        """Raise NotTrustedError unless a tool may be used."""
        if self.level < self.needs.tool(name):
            raise NotTrustedError(self.needs.tool(name))

    def open_ones(self, values: Iterable[Value]) -> list[Value]:
        """The values that may be told: of open slots, and those said in this call."""
        return [each for each in values if self.opens(each.memory_type) or self._is_of_this_call(each)]

    def open_profile(self, profile: Profile) -> Profile:
        """The profile as far as it may be told."""
        kept = {name: value for name, value in profile.values.items() if self.opens(name)}
        if len(kept) < len(profile.values):
            profile = replace(profile, name=None, email=None, preferred_language=None, timezone=None, own={})
            for name, value in kept.items():
                profile = profile.with_value(name, value)
        return profile if self.opens_everything else replace(profile, last_session=None, commitments=())

    def _is_of_this_call(self, value: Value) -> bool:
        return bool(value.source and value.source.session_id == self._session_id)
