"""A caller on the telephone: whose number it is, and how sure it is who speaks.

Until it is known who speaks, the session is a guest's. The people whose number it is are candidates: what is open to
the number alone is lent to the guest, and nothing that is said becomes anybody's. Only code raises the level, by the
caller's own words or keys: what a model says of it counts for nothing.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from lkmongo import deadlines
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.identified import Lent
from lkmongo.agent.other_guest import step_back
from lkmongo.agent.phone_tools import NOT_THIS_PERSON
from lkmongo.aio import level_of
from lkmongo.backoff import retry_pause
from lkmongo.errors import LkmongoError, SettingsError
from lkmongo.model import UserScope, now
from lkmongo.naming import claimed, denies, name_said
from lkmongo.outbox.operations import LinkPhone, UnlinkPhone
from lkmongo.phone_numbers import MASK, WITHHELD, PhoneNumber, Withheld
from lkmongo.store.people.phones import phone_hash, phone_key
from lkmongo.store.people.take_back import Known, known_of
from lkmongo.trust import BEGAN_HERE, Level

if TYPE_CHECKING:
    from livekit.agents import llm

    from lkmongo.tenants import Tenants
    from lkmongo.ticket import Ticket

logger = logging.getLogger(__name__)

NEW_PERSON = "phone-"
"""What the id of a person begins with who is known by a call alone."""
_LOOK_AGAIN = 0.02
"""Seconds between two looks whether a turn is over."""
_RECENT = 3
"""The caller's last turns in which a name is looked for that the model says they gave."""

Answer = Literal["named", "new", "ambiguous", "not said", "too late"]
"""What became of a name: it is a candidate's, nobody's, several people's, or was not said at all."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of those whose number it is, and all that was known of them before the call."""

    scope: UserScope
    known: Known

    @property
    def name(self) -> str | None:
        """The one that they have given themselves, or that staff have entered."""
        return self.known.profile.name


class PhoneCaller:
    """Who a caller by telephone is, as far as that is known.

    Attributes:
        number: what they call from; None if it is withheld or not known yet.
        candidates: those whose number it is, or who was called, while it is open which of them speaks.
        denied: they have said that they are not who the number stands for.
    """

    def __init__(self, session: CallerSession, tenants: Tenants) -> None:
        """Know nothing yet; everything that is not open to a number alone is closed from now on.

        Args:
            session: the caller's, a guest's.
            tenants: say which level each slot and tool needs, and when an unused number counts as somebody else's.
        """
        self._session = session
        self._tenants = tenants
        self.number: PhoneNumber | None = None
        self.candidates: tuple[Candidate, ...] = ()
        self.denied = False
        self._denied_at = 0.0
        self._before: Known | None = None
        self._is_unknown = False
        self._looking: asyncio.Task[None] | None = None
        self._known = asyncio.Event()
        self._began = asyncio.get_running_loop().time()
        self._lock = asyncio.Lock()
        gate = session.caller.gate
        gate.level, gate.is_new = Level.RECOGNISED, True
        self.tenant_is(session.caller.scope.tenant_id)

    @property
    def level(self) -> Level:
        return self._session.caller.gate.level

    @property
    def state(self) -> str:
        """The level in a word, as the record says it; `guest` while it is nobody's call."""
        caller = self._session.caller
        return "guest" if caller.guest and not self.candidates else str(self.level)

    @property
    def scope_to_verify(self) -> UserScope | None:
        """Whose PIN it must be: the person's, or that of the only one whose number it is."""
        if not self._session.caller.guest:
            return self._session.caller.scope
        return self.candidates[0].scope if len(self.candidates) == 1 else None

    @property
    def mark(self) -> str:
        """What an agent needs to know that resumes this session."""
        return BEGAN_HERE if self._session.caller.gate.is_new else str(min(self.level, Level.NAMED))

    def resume(self, mark: str) -> None:
        """Go on with the person of an earlier agent at the level of its `mark`."""
        gate = self._session.caller.gate
        gate.is_new = mark == BEGAN_HERE
        gate.level = Level.NAMED if mark == str(Level.NAMED) else Level.RECOGNISED

    def tenant_is(self, tenant_id: str) -> None:
        """Let what this tenant says of slots and tools hold."""
        self._session.caller.gate.needs = self._tenants.needs(tenant_id)

    def report(self) -> dict[str, Any]:
        """What the record of the session says of the caller's telephone."""
        number = {"number": f"{MASK}{self.number.last_digits}"} if self.number else {}
        return {"level": self.state, **number} | ({"denied": True} if self._denied_at else {})

    # ---------------------------------------------------------------- whose number it is

    def calls_from(self, number: PhoneNumber | Withheld) -> None:
        """The number is known now: find out whose it is, in the background."""
        if self._looking is None and self.number is None:
            if number == WITHHELD:
                self._known.set()
                return
            self.number = number
            self._looking = asyncio.create_task(self._look_up(number))

    def expect(self, person: UserScope, number: PhoneNumber) -> None:
        """This person was called at this number: whoever answers may be them."""
        self.number = number
        self._looking = asyncio.create_task(self._consider([person]))

    async def recognised(self) -> None:
        """Wait a moment until it is known whose number it is."""
        left = self._began + deadlines.RECOGNITION - asyncio.get_running_loop().time()
        if left > 0 and not self._known.is_set():
            try:
                async with asyncio.timeout(left):
                    await self._known.wait()
            except TimeoutError:
                logger.info("it is not known yet whose telephone number it is")

    def close(self) -> None:
        """Look nobody up any more."""
        if self._looking:
            self._looking.cancel()

    async def _look_up(self, number: PhoneNumber) -> None:
        try:
            links = await self._until_read(lambda: self._session.store.phones.of_number(self._tenant, number))
        except SettingsError as error:
            logger.warning("the caller is a guest: %s (%s)", error.message, error.why)
            self._known.set()
            return
        recycled_after = self._tenants.policy(self._tenant).phone.recycled_after
        current = [each for each in links if not each.lapsed(recycled_after, now())]
        self._is_unknown = not current
        await self._consider([each.scope for each in current])

    async def _consider(self, people: Sequence[UserScope]) -> None:
        store, caller = self._session.store, self._session.caller
        found = [Candidate(each, await self._until_read(functools.partial(known_of, store, each))) for each in people]
        if caller.guest and not self.denied:
            self.candidates = tuple(found)
            caller.gate.is_new = not found
            if len(found) == 1:
                known = found[0].known
                lent = {each.memory_type: each for each in caller.gate.open_ones(known.slots.values())}
                lent = {label: each for label, each in lent.items() if not each.is_unread}
                caller.lend(Lent(caller.gate.open_profile(known.profile).values, lent))
            caller.on_change()
        self._known.set()

    async def _until_read(self, read: Callable[[], Any]) -> Any:
        attempt = 0
        while True:
            try:
                return await read()
            except SettingsError:
                raise
            except LkmongoError as error:
                if not attempt:
                    logger.log(level_of(error), "whose number it is could not be looked up: %s", error.message)
                attempt += 1
            await asyncio.sleep(retry_pause(attempt))

    # ---------------------------------------------------------------- what they say

    async def hear(self, words: str, item_id: str | None = None) -> None:
        """Take what the caller has said, before anybody answers it: whether they say who they are, or are not.

        Args:
            words: of one turn.
            item_id: of the turn, if it may be the beginning of one only, to which an answer is prepared: "this is
                Robin" names nobody while it may become "this is Robin's wife".
        """
        await self.recognised()
        if not (self._session.caller.guest or self._before):
            await self._session.caller.preload()  # by whose name they may be denied
        if item_id and self._says_who(words) and not await self._is_said(words, item_id):
            return
        async with self._lock:
            # Whoever has proven who they are may call from anybody's telephone.
            if denies(words, self._names) and not (self.level == Level.VERIFIED and denies(words, [])):
                await self._deny()
            elif not self._session.caller.guest or self.denied:
                return
            elif self.candidates:
                which = claimed(words, self._names)
                if which is not None:
                    await self._be_named(self.candidates[which])
            elif self._is_unknown and words.strip():
                await self._begin_person()

    def _says_who(self, words: str) -> bool:
        return denies(words, self._names) or claimed(words, self._names) is not None

    async def _is_said(self, words: str, item_id: str) -> bool:
        """Wait until the turn is over, and is one; whoever waits is cancelled if it goes on."""
        session = self._session
        with suppress(TimeoutError):
            async with asyncio.timeout(deadlines.TURN_OVER):
                while session.is_attached and not session.recorder.has_heard(item_id):
                    if any(item_id == each.item_id or words == each.content for each in session.said):
                        break
                    await asyncio.sleep(_LOOK_AGAIN)
                return True
        return False

    async def says_name(self, name: str) -> Answer:
        """The caller gives a name, as the model or the agent understands it; it must be in their own words."""
        async with self._lock:
            await self.recognised()
            if not self._session.caller.guest or self.denied:
                return "too late"
            if not any(name_said(words, name) for words in self._last_words()):
                return "not said"
            which = claimed(name, self._names)
            if which is not None:
                await self._be_named(self.candidates[which])
                return "named"
            given = {word.casefold() for word in name.split()}
            if any(given & {word.casefold() for word in each.split()} for each in self._names):
                return "ambiguous"
            if len(self.candidates) == 1 and not self.candidates[0].name:
                # Nobody else calls from there, and they have not said their name before.
                await self._be_named(self.candidates[0])
            elif self.candidates or self._is_unknown:
                await self._begin_person()
            await self._session.caller.set_profile("name", name)
            return "new"

    def is_called(self, name: str) -> bool:
        """Whether this is the name, or a part of it, by which the person was known before the call."""
        known = [each for each in self._names if len(each) >= len(name)]  # a longer one is more than was known
        return not self._session.caller.guest and claimed(name, known) is not None

    async def deny(self) -> None:
        """The caller is not the one whose number it is, or for whom they were taken: they are a guest from now on."""
        async with self._lock:
            await self._deny()

    async def verified(self, scope: UserScope | None = None, ticket: Ticket | None = None) -> bool:
        """It is proven who speaks: by default the person, or the only one whose number it is.

        Returns:
            False if it is open whom that would be.
        """
        async with self._lock:
            caller, scope = self._session.caller, scope or self.scope_to_verify
            if scope is None:
                return False
            if not caller.guest and caller.scope != scope:
                await self._step_back()
            await self._become(scope, Level.VERIFIED, ticket)
            self.denied = self.denied and caller.guest
            return not caller.guest and caller.scope == scope

    async def _be_named(self, candidate: Candidate) -> None:
        self._before = candidate.known
        await self._become(candidate.scope, Level.NAMED)

    async def _become(self, scope: UserScope, level: Level, ticket: Ticket | None = None) -> None:
        caller = self._session.caller
        before = caller.gate.level, caller.gate.is_new
        caller.gate.level = max(level, caller.gate.level)
        if caller.gate.level < Level.VERIFIED:
            # They may still say that they are somebody else: what could not be taken back then waits until it is sure.
            caller.outbox.hold_back()
        else:
            caller.outbox.release()
        if caller.scope != scope:
            caller.gate.is_new = False
            if not await self._session.identify(scope, ticket):  # they were erased meanwhile, or the call is over
                caller.gate.level, caller.gate.is_new = before
                return
        else:
            caller.reload()
        self.candidates = ()
        self._use_number()
        logger.info("a caller by telephone is %s now", level)

    async def _begin_person(self) -> None:
        if self._session.caller.consent.state == "refused":
            return
        scope = UserScope(tenant_id=self._tenant, user_id=f"{NEW_PERSON}{uuid4().hex}")
        self._session.caller.gate.is_new = True
        if await self._session.identify(scope):
            self.candidates = ()
            self._use_number()

    def _use_number(self) -> None:
        """Note that the person calls from this number, so that it is known the next time."""
        if (hashed := self._hash) and not self._denied_at:  # they have said that it is not theirs
            self._session.caller.outbox.add(LinkPhone(now(), hashed[0], hashed[1]))

    async def _deny(self) -> None:
        if self.denied:
            return
        logger.info("a caller by telephone is not whom their number stands for: they are a guest")
        self.denied, self._denied_at = True, time.time()
        await self._step_back()

    async def _step_back(self) -> None:
        caller = self._session.caller
        self.candidates = ()
        began_here = caller.gate.is_new and not caller.guest
        before, self._before = self._before or caller.known, None
        caller.gate.level, caller.gate.is_new = Level.RECOGNISED, True
        if caller.guest:
            caller.lend(Lent())
            return
        hashed = self._hash
        unlink = [UnlinkPhone(caller.scope.tenant_id, caller.scope.user_id, hashed[0])] if began_here and hashed else []
        await step_back(self._session, before, *unlink)

    def for_model(self, items: Sequence[llm.ChatItem]) -> list[llm.ChatItem]:
        """What a model may have of the conversation: no PIN, and nothing of the one for whom the caller was taken."""
        others = {
            each.call_id
            for each in items
            if each.type in {"function_call", "function_call_output"}
            and each.created_at <= self._denied_at
            and each.name != NOT_THIS_PERSON
        }
        return [
            self._without_pin(each)
            for each in items
            if each.type not in {"function_call", "function_call_output"} or each.call_id not in others
        ]

    def _without_pin(self, item: llm.ChatItem) -> llm.ChatItem:
        if item.type != "message" or item.role != "user" or not (words := item.text_content):
            return item
        masked = self._session.recorder.for_model(item.id, words)
        return item if masked == words else item.model_copy(update={"content": [masked]})

    # ---------------------------------------------------------------- details

    @property
    def _tenant(self) -> str:
        return self._session.caller.scope.tenant_id

    @property
    def _names(self) -> list[str]:
        """Those by whom the caller is, or may be, known."""
        caller = self._session.caller
        if caller.guest:
            return [each.name or "" for each in self.candidates]
        if caller.gate.is_new:
            return []
        # Whatever of it is loaded yet, open to them, or has been changed by them.
        known = [caller.profile, caller.known.profile, *([self._before.profile] if self._before else [])]
        return list({each.name for each in known if each.name})

    @property
    def _hash(self) -> tuple[str, str] | None:
        """The keyed hash of the number, and its last digits; None without a number or a key."""
        if self.number is None:
            return None
        try:
            key = phone_key(self._session.store.db)
        except SettingsError:  # reported when the number was looked up
            return None
        return phone_hash(key, self._session.caller.scope.tenant, self.number), self.number.last_digits

    def _last_words(self) -> Iterable[str]:
        return [turn.content or "" for turn in self._session.said if turn.role == "user"][-_RECENT:]

    # ---------------------------------------------------------------- what the model is told

    @property
    def sentence(self) -> str:
        """What the model is told of how sure it is who speaks."""
        caller = self._session.caller
        if self.denied:
            return _DENIED
        if len(self.candidates) > 1:
            return f"{_SHARED} {_ASK}"
        if self.candidates:
            return f"{_RECOGNISED} {_ASK}"
        if caller.guest or caller.gate.level == Level.VERIFIED:
            return ""
        return _NEW if caller.gate.is_new else _NAMED


_ASK = (
    "Greet them without a name, and in your first words ask who is speaking, without offering or guessing a name. When "
    "they say it, call caller_says_name. Until then say nothing about anybody of whom you may know."
)
_RECOGNISED = "The caller's telephone number is known, but not who is speaking."
_SHARED = "Several people call from this telephone number; it is not known which of them is speaking."
_NEW = "Nobody has called from this telephone number before: ask for the caller's name when it fits."
_NAMED = (
    "The caller has said who they are, which is no proof: what a tool keeps closed stays closed until they have typed "
    "their PIN. If they say that they are somebody else, call not_this_person."
)
_DENIED = "The caller is not the one whose telephone number this is: they are a guest. Say nothing about anybody else."
