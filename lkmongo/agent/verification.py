"""A caller by telephone confirms who they are with a PIN on the keypad, and sets it: by code, whatever a model says.

`verify_caller` asks for the PIN and waits for it. Who knows the way types it before they are asked. So, as long as it
is not confirmed who is calling from a known number, keys that nobody waits for are taken for a PIN:

- four to eight digits with `#` behind them, or at any time after the agent's last words asked for a PIN: they are
  compared, and the turn says how that ended, without the digits;
- four to eight digits without `#`: they may be a PIN, so the turn does not say them; it says that `#` is missing;
- any other number of digits, but one, after the agent asked for a PIN: a piece of it, which the turn does not say;
- anything else is a turn like any other. So is all of that if the person has no PIN, or has confirmed it.

A number of as many digits that is no PIN counts as a wrong one. A tool that asks for such a number by
`CallerSession.keypad_digits` gets it: what is waited for is not taken for a PIN.

A spoken PIN confirms nothing, as others can hear it. It is masked in the record and for the model: see
`Conversation.await_pin`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from livekit.agents import RunContext, ToolError, function_tool

from lkmongo import deadlines
from lkmongo.agent.gate import Phone
from lkmongo.agent.keypad import Keypad, KeypadError, Secret, in_words
from lkmongo.agent.limits import begin_to_tell
from lkmongo.agent.status_line import language_code, languages
from lkmongo.agent.tools import or_tool_error, with_deadline
from lkmongo.confidential import asks_for_pin
from lkmongo.errors import LkmongoError
from lkmongo.model import UserScope
from lkmongo.store.people.pins import PinResult, check_pin
from lkmongo.trust import Level

if TYPE_CHECKING:
    from livekit import rtc
    from livekit.agents import AgentSession, llm

    from lkmongo.agent.caller_session import CallerSession
    from lkmongo.agent.typed_text import TypedText
    from lkmongo.phone_numbers import PhoneNumber

logger = logging.getLogger(__name__)

T = TypeVar("T")

DIGITS = range(4, 9)
"""How many digits a PIN has."""
RIGHT = "Thank you. It is confirmed now who you are."
CONFIRMED = "It is confirmed already who is calling."
WRONG = "That PIN is not right. You may try again on the keypad."
LOCKED = "There were too many wrong PINs, so none is taken for now. Our staff can help you."
NO_PIN = "No PIN has been set so far. Our staff can set one."
NOT_A_PIN = "A PIN has four to eight digits. Please type it again, then the hash key."
NOTHING = "No PIN was typed. Please use the keypad: a PIN that is said aloud does not count."
NOT_CHECKED = "I could not check the PIN just now."
WHO = "Before that, please tell me your name."
IN_USE = "I am waiting for the keypad already: please type the PIN, then the hash key."
NOT_SAME = "That was not the same PIN twice, so it was not set."
SET = "Your PIN is set. You can confirm with it who you are when you call."
NOT_OFFERED = "That is not possible in this call at the moment."
_CHANGED = "It has changed who is calling, so the PIN was not used."

_SENTENCES: dict[PinResult, str] = {"right": RIGHT, "wrong": WRONG, "locked": LOCKED, "none": NO_PIN}
_TURN = "typed a PIN on the keypad"
_TURNS = {
    RIGHT: f"{_TURN}, and it is right",
    CONFIRMED: f"{_TURN}, but it is confirmed already who is calling",
    WRONG: f"{_TURN}, and it is not right",
    LOCKED: f"{_TURN}, but after too many wrong ones none is taken for now",
    NOT_CHECKED: f"{_TURN}, but it could not be checked",
    WHO: f"{_TURN} before it is known who is calling",
    _CHANGED: f"{_TURN}, but then turned out to be somebody else",
}
"""What a turn says of a PIN that nobody asked for."""
_UNENDED = f"{_TURN}, but not the hash key after it"
_PIECE = f"{_TURN} that has not four to eight digits"

VERIFY, SET_PIN = "verify_caller", "set_pin"


class PinStore(Protocol):
    """The PINs of persons: see `lkmongo.store.people.pins`."""

    async def has(self, scope: UserScope) -> bool: ...
    async def set(self, scope: UserScope, pin: str, *, by: Literal["call"]) -> None: ...
    async def verify(self, scope: UserScope, number: PhoneNumber | None, pin: str) -> PinResult: ...


class AwaitPin(Protocol):
    """`Recorder.await_pin`."""

    def __call__(self, awaited: bool, *, settled: bool = False) -> None: ...


class Verification:
    """Confirms who is calling; what takes the keys of a keypad that may be a PIN."""

    def __init__(
        self,
        keypad: Keypad,
        pins: PinStore,
        phone: Callable[[], Phone | None],
        *,
        scope: Callable[[], UserScope],
        writing: Callable[[], AbstractAsyncContextManager[None]],
        say: Callable[[str], object],
        was_asked: Callable[[], bool],
        await_pin: AwaitPin,
        language: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Take the keys of `keypad` from now on.

        Args:
            keypad: of the caller.
            pins: the PINs of all persons.
            phone: the caller, if they are on the telephone.
            scope: whose session it is.
            writing: holds the lease for what is stored of them.
            say: takes a turn of the caller.
            was_asked: whether the agent's last words asked for a PIN.
            await_pin: is told whether a PIN is waited for: what is said meanwhile may be one.
            language: of the caller, as their profile has it.
        """
        self._keypad = keypad
        self._pins = pins
        self._phone = phone
        self._scope = scope
        self._writing = writing
        self._say = say
        self._was_asked = was_asked
        self._await_pin = await_pin
        self._language = language
        self._comparing = asyncio.Lock()
        """One after the other, in the order in which they were typed."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._looked_up: dict[UserScope, bool | None] = {}
        """Whether people of this call have a PIN; None while that is being looked up."""
        keypad.claimant = self

    # ---------------------------------------------------------------- keys that nobody waits for

    @property
    def is_careful(self) -> bool:
        """Whether keys that are pressed now can be a PIN."""
        phone = self._phone()
        if phone is None or phone.level >= Level.VERIFIED:
            return False
        scope = phone.scope_to_verify
        return phone.number is not None if scope is None else self._looked_up.get(scope) is not False

    async def _look_up(self, scope: UserScope) -> None:
        self._looked_up[scope] = await _or_none(self._pins.has(scope))

    def pause(self, keys: int) -> float:
        """One key may be a choice of a menu; several can be the beginning of a PIN, of which no piece may be a turn."""
        phone = self._phone()
        scope = phone.scope_to_verify if phone else None
        if scope and self.is_careful and scope not in self._looked_up:
            self._looked_up[scope] = None
            self._looking = asyncio.create_task(self._look_up(scope))
        may_go_on = self.is_careful and (keys > 1 or self._was_asked())
        return deadlines.KEYPAD_ENTRY_PAUSE if may_go_on else deadlines.KEYPAD_PAUSE

    def takes(self, keys: Secret, *, ended: bool) -> bool:
        """Whether these keys, `ended` by `#` or not, may be a PIN: then they are no turn, but what became of it is."""
        if self.is_careful and keys.is_number:
            asked = self._was_asked()
            if len(keys) in DIGITS:
                self._begin(self._compare if ended or asked else self._withhold, keys)
                return True
            if asked and len(keys) > 1:
                self._begin(self._leave_out, keys)
                return True
        if self._tasks:  # what was typed before comes first
            self._begin(self._pass_on, keys)
            return True
        return False

    def _begin(self, work: Callable[[Secret], Coroutine[Any, Any, None]], keys: Secret) -> None:
        async def in_order() -> None:
            async with self._comparing:
                await work(keys)

        task = asyncio.create_task(in_order())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compare(self, keys: Secret) -> None:
        outcome = await self._outcome(keys)
        self._say(in_words(keys.reveal()) if outcome == NO_PIN else _TURNS[outcome])

    async def _withhold(self, keys: Secret) -> None:
        scope, outcome = await self._whose()
        if scope and await _or_none(self._pins.has(scope)) is False:
            outcome = NO_PIN
        self._say(in_words(keys.reveal()) if outcome == NO_PIN else _UNENDED)

    async def _whose(self) -> tuple[UserScope | None, str]:
        """Whose PIN it would be; without one, a sentence about why nobody's."""
        phone = self._phone()
        if phone is None or phone.level >= Level.VERIFIED:
            return None, CONFIRMED
        await phone.recognised()
        scope = phone.scope_to_verify
        return scope, "" if scope else WHO if phone.candidates else NO_PIN

    async def _leave_out(self, _: Secret) -> None:
        self._say(_PIECE)

    async def _pass_on(self, keys: Secret) -> None:
        self._say(in_words(keys.reveal()))

    async def _outcome(self, pin: Secret) -> str:
        """Compare a PIN and raise the level if it is right; a sentence about how that ended."""
        scope, why = await self._whose()
        phone = self._phone()
        if scope is None or phone is None:
            return why
        result = await _or_none(self._pins.verify(scope, phone.number, pin.reveal()))
        if result is None:
            return NOT_CHECKED
        if result == "right" and (phone.scope_to_verify != scope or not await phone.verified(scope)):
            return _CHANGED  # "I'm not Robin", said meanwhile
        return _SENTENCES[result]

    # ---------------------------------------------------------------- tools

    def offered(self, tools: list[llm.Tool]) -> list[llm.Tool]:
        """The tools without those of this that do not fit now."""
        return [tool for tool in tools if tool.id not in {VERIFY, SET_PIN} or self._fits(tool.id)]

    def _fits(self, name: str) -> bool:
        phone = self._phone()
        return phone is not None and (phone.level < Level.VERIFIED) == (name == VERIFY)

    def tools(self) -> list[llm.FunctionTool[..., Any] | llm.RawFunctionTool[..., Any]]:
        """The tools; `offered` says which of them fit."""

        @function_tool
        async def verify_caller(context: RunContext[Any]) -> str:
            """Let the caller confirm who they are, when a tool says that it needs that, or they offer their PIN.

            This asks them to type their PIN on the keypad, waits for it, and says only whether it is right. Do not ask
            for it yourself, and never have it said aloud: a spoken PIN confirms nothing.
            """
            return await self._verify(context.session)

        @function_tool
        async def set_pin(context: RunContext[Any]) -> str:
            """Let the caller set or change the PIN with which they confirm who they are, if they want to.

            This asks them to type it on the keypad, twice. Do not ask for it yourself, and never have it said aloud.
            """
            return await self._set(context.session)

        return [verify_caller, set_pin]

    async def _verify(self, session: AgentSession[Any]) -> str:
        async with self._comparing:  # which may be that of this caller, who was faster
            if not self._fits(VERIFY):
                return self._confirmed()
        scope, why = await self._whose()
        if scope is None:
            raise ToolError(why)
        if not await with_deadline(deadlines.TOOL_READ, self._pins.has(scope), "check the PIN"):
            raise ToolError(NO_PIN)
        pin = await self._read(session, "pin")
        async with self._comparing:
            outcome = await self._outcome(pin)
        if outcome not in {RIGHT, CONFIRMED}:
            raise ToolError(outcome)
        self._await_pin(False, settled=True)
        return outcome

    def _confirmed(self) -> str:
        if self._phone() is None:
            raise ToolError(NOT_OFFERED)
        return CONFIRMED

    async def _set(self, session: AgentSession[Any]) -> str:
        self._check_may_set()
        scope = self._scope()
        first = await self._read(session, "new_pin")
        or_tool_error(check_pin, first.reveal())
        second = await self._read(session, "pin_again")
        if first.reveal() != second.reveal():
            raise ToolError(NOT_SAME)

        async def store() -> None:
            async with self._writing():
                self._check_may_set()
                if self._scope() != scope:
                    raise ToolError(NOT_OFFERED)
                await self._pins.set(scope, first.reveal(), by="call")

        await with_deadline(deadlines.TOOL_CHANGE, store(), "set the PIN")
        self._await_pin(False, settled=True)
        return SET

    def _check_may_set(self) -> None:
        if not self._fits(SET_PIN) or self._scope().is_guest:
            raise ToolError(NOT_OFFERED)

    async def _read(self, session: AgentSession[Any], prompt: Literal["pin", "new_pin", "pin_again"]) -> Secret:
        """Ask for a PIN aloud and wait until it is typed; what the agent says meanwhile, and hears, goes on.

        Raises:
            ToolError: none was typed, or what was typed is none.
        """
        self._await_pin(True)
        asking = begin_to_tell(session, getattr(languages()[language_code(self._language())], prompt))
        try:
            pin = await self._keypad.ask_secret()
        except KeypadError as error:
            logger.info("no PIN was typed: %s (%s)", error.message, error.why)
            raise ToolError(IN_USE if error.why else NOTHING) from None
        finally:
            self._await_pin(False)
            if asking and not asking.done():
                asking.interrupt(force=True)
        if not pin.is_number or len(pin) not in DIGITS:
            raise ToolError(NOT_A_PIN)
        return pin


async def _or_none(work: Awaitable[T]) -> T | None:
    """What the database says of a PIN; None if it does not, which is logged without what an error may hold."""
    try:
        async with asyncio.timeout(deadlines.TOOL_CHANGE):
            return await work
    except Exception as error:  # noqa: BLE001 - the keys must become a turn of some kind
        why = error.message if isinstance(error, LkmongoError) else type(error).__name__
        logger.warning("a PIN could not be checked: %s", why)
        return None


def connect_keypad(
    caller: CallerSession,
    session: AgentSession[Any],
    room: rtc.Room,
    served: Callable[[], str | None],
    typed: TypedText,
) -> None:
    """Listen to the keypad of a caller from now on, until the AgentSession closes; give its agents the tools.

    Args:
        caller: the session, attached to `session`.
        session: answers them.
        room: where they are.
        served: the identity of the participant who is served.
        typed: takes what they press, in the order of what they type.
    """

    def agent() -> object:
        try:
            return session.current_agent
        except RuntimeError:  # none is running
            return None

    def was_asked() -> bool:
        said = (turn.content for turn in reversed(caller.recorder.turns) if turn.role == "assistant")
        return asks_for_pin(next(said, None) or "")

    typed.begin(session)  # first, so that its end is not after the keypad's
    say = functools.partial(typed.say, session)
    caller.keypad = Keypad(room, served, say, agent=agent)
    verification = Verification(
        caller.keypad,
        caller.store.pins,
        lambda: caller.caller.phone,
        scope=lambda: caller.scope,
        writing=caller.recorder.writing,
        say=say,
        was_asked=was_asked,
        await_pin=caller.recorder.await_pin,
        language=lambda: caller.profile.preferred_language,
    )
    if caller.caller.may_phone:
        caller.offer(verification.tools(), verification.offered)
    session.on("close", caller.keypad.close)
