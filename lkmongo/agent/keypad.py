"""The keys that the caller presses on their telephone (DTMF): a turn, or what a tool waits for.

Keys within a short pause, or up to `#`, become one turn, "pressed 1 2 3", which goes the way of typed text. While
something waits for digits they are no turn. Of a secret, such as a PIN, they go from here to whoever compares them and
nowhere else: they are in no turn, log, record, report, request to a model, attribute of a trace or exception, and
`Secret` shows them to nobody who does not ask.

LiveKit's own `GetDtmfTask` is for numbers that everybody may know. A PIN must not go through it: it logs all digits so
far with each key (`lk.pii.dtmf_inputs`), puts them into the conversation when it asks for confirmation, and offers the
model a tool to give it digits that were said, so that a spoken PIN, or one that a model makes up, would count as typed.
While it runs, nothing here listens. LiveKit's client library and server log no keys, not even with LIVEKIT_RTC_DEBUG.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, Protocol

from lkmongo import deadlines
from lkmongo.errors import LkmongoError

if TYPE_CHECKING:
    from livekit import rtc

logger = logging.getLogger(__name__)

KEYS = frozenset("0123456789*#ABCD")
"""What a keypad has; a participant who is no telephone can send any text for one."""
END, CLEAR = "#", "*"
MOST_KEYS = 50
"""Keys of one turn, or of what a tool waits for: whoever presses more begins another one."""


class KeypadError(LkmongoError):
    """The keypad cannot be read."""

    code = "keypad"


class Secret:
    """Digits that show themselves to nobody: a future, a traceback or a log that holds one has none of them."""

    __slots__ = ("_keys",)

    def __init__(self, keys: list[str]) -> None:
        self._keys = "".join(keys)

    def reveal(self) -> str:
        """The digits."""
        return self._keys

    @property
    def is_number(self) -> bool:
        """Whether there are digits only, without `*` and letters."""
        return self._keys.isdecimal()

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return "Secret()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not copied to elsewhere")


class Claimant(Protocol):
    """Who may take keys that nobody waits for, since they can be a PIN: see `lkmongo.agent.verification`."""

    @property
    def is_careful(self) -> bool:
        """Whether keys that are pressed now can be a PIN."""

    def pause(self, keys: int) -> float:
        """Seconds after which so many keys are complete."""

    def takes(self, keys: Secret, *, ended: bool) -> bool:
        """Whether these keys, `ended` by `#` or not, become no turn."""


class Keypad:
    """The keypad of the one participant who is served."""

    def __init__(
        self,
        room: rtc.Room,
        served: Callable[[], str | None],
        say: Callable[[str], object],
        *,
        agent: Callable[[], object] = lambda: None,
    ) -> None:
        """Listen from now on, until `close`.

        Args:
            room: the participant is in.
            served: the identity of the participant whose keys count; None while there is nobody.
            say: takes a turn of the caller, as `TypedText.say` does.
            agent: the agent that is talking to them.
        """
        self._room = room
        self._served = served
        self._say = say
        self._agent = agent
        self._keys: list[str] = []
        """Pressed, and not a turn yet."""
        self._timer: asyncio.TimerHandle | None = None
        self._entry: _Entry | None = None
        self._late = _Late()
        self._closed = False
        self.claimant: Claimant | None = None
        room.on("sip_dtmf_received", self._on_key)

    def close(self, *_: object) -> None:
        """Listen no more. What was pressed last is a turn without an answer, unless it may be the half of a PIN."""
        if not self._closed:
            self._closed = True
            self._room.off("sip_dtmf_received", self._on_key)
            if self.claimant and self.claimant.is_careful:
                self._take()
            self._complete()

    async def ask(self, digits: int | None = None, timeout: float = deadlines.KEYPAD_ENTRY) -> str:  # noqa: ASYNC109
        """What the caller types next, for a tool; it becomes no turn.

        It is complete with `#`, with so many `digits`, or after four seconds without a key, and may then be shorter, or
        empty. Keys that were pressed just before and are no turn yet belong to it.

        Args:
            digits: how many, if that is known; the caller then needs no `#`.
            timeout: seconds for all of it.

        Raises:
            KeypadError: nothing was typed, somebody else is waiting for keys, or the session is over.
        """
        return "".join(await self._read(_Entry(digits, is_secret=False), timeout))

    async def ask_secret(self, timeout: float = deadlines.KEYPAD_ENTRY) -> Secret:  # noqa: ASYNC109
        """As `ask`, for what nobody may see: it ends with `#` or a pause, and begins anew after `*`.

        Keys that come late, after it was given up, are dropped as well. Say nothing of the `Secret`, and compare it in
        code: whatever a tool returns is in the record and is read by a model.

        Raises:
            KeypadError: as `ask`.
        """
        return Secret(await self._read(_Entry(None, is_secret=True), timeout))

    async def _read(self, entry: _Entry, timeout: float) -> list[str]:  # noqa: ASYNC109
        if self._closed:
            raise KeypadError("the keypad is not there any more", why="the session is over")
        if self._entry or self._is_livekits:
            who = "LiveKit's GetDtmfTask" if self._is_livekits else "something else"
            raise KeypadError("the keypad is in use", why=f"{who} waits for keys already", hint="ask one after another")
        self._entry = entry
        for key in self._take():
            entry.press(key)
        try:
            async with asyncio.timeout(timeout):
                await entry.complete.wait()
        except TimeoutError:
            if not entry.keys:
                # Without the TimeoutError, as everywhere here: what nobody raised has no context to show.
                raise KeypadError(f"nothing was typed within {timeout:g} seconds") from None
        finally:
            entry.stop()
            self._entry = None
            if not entry.ended:
                self._late.begin(every_key=entry.is_secret)
        return entry.keys

    @property
    def _is_livekits(self) -> bool:
        """Whether LiveKit's own task reads the keypad; where its module was never imported, none does."""
        module = sys.modules.get("livekit.agents.beta.workflows.dtmf_inputs")
        return module is not None and isinstance(self._agent(), module.GetDtmfTask)

    def _on_key(self, event: rtc.SipDTMF) -> None:
        """Take a key; nothing is raised, as the SDK logs what its callbacks raise."""
        who, key = event.participant, event.digit
        if who is None or who.identity != self._served() or key not in KEYS:
            return
        if self._is_livekits:
            self._take()
        elif self._entry:
            self._entry.press(key)
        elif self._late.drops(key, follows=bool(self._keys)):
            return
        elif key == END and self._keys:
            self._complete(ended=True)
        else:
            self._keys.append(key)
            if key == END or len(self._keys) >= MOST_KEYS:
                self._complete(ended=key == END)
            else:
                self._restart()

    def _restart(self) -> None:
        if self._timer:
            self._timer.cancel()
        count = len(self._keys)
        pause = self.claimant.pause(count) if self.claimant else deadlines.KEYPAD_PAUSE
        self._timer = asyncio.get_running_loop().call_later(pause, self._complete)

    def _take(self) -> list[str]:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        keys, self._keys = self._keys, []
        return keys

    def _complete(self, *, ended: bool = False) -> None:
        """Make a turn of the keys, unless they are taken for a PIN."""
        if not (keys := self._take()):
            return
        if self.claimant and self.claimant.takes(Secret(keys), ended=ended):
            return
        self._say(in_words(keys))


def in_words(keys: list[str] | str) -> str:
    """The turn of these keys."""
    return f"pressed {' '.join(keys)}"


class _Entry:
    """What is typed for whoever waits."""

    def __init__(self, digits: int | None, *, is_secret: bool) -> None:
        self.is_secret = is_secret
        self.keys: list[str] = []
        self.complete = asyncio.Event()
        self.ended = False
        """By `#`: nothing more belongs to it."""
        self._digits = digits
        self._timer: asyncio.TimerHandle | None = None

    def press(self, key: str) -> None:
        if self.complete.is_set():
            self.ended = self.ended or key == END
            return
        self.stop()
        if key == END:
            self.ended = True
            self.complete.set()
        elif key == CLEAR and self.is_secret:
            self.keys.clear()
        else:
            self.keys.append(key)
            if len(self.keys) == (self._digits or MOST_KEYS):
                self.complete.set()
            else:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(deadlines.KEYPAD_ENTRY_PAUSE, self.complete.set)

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


class _Late:
    """Keys that come after what they belong to was complete: the `#` that nobody needed, the rest of a secret."""

    def __init__(self) -> None:
        self._until = 0.0
        self._every_key = False

    def begin(self, *, every_key: bool) -> None:
        self._every_key = every_key
        self._until = asyncio.get_running_loop().time() + deadlines.KEYPAD_ENTRY_PAUSE

    def drops(self, key: str, *, follows: bool) -> bool:
        """Whether to drop a key, which `follows` others that are no turn yet."""
        if asyncio.get_running_loop().time() >= self._until:
            return False
        if key == END and not follows:
            self._until = 0.0
            return True
        if self._every_key:
            self.begin(every_key=True)
        else:
            self._until = 0.0
        return self._every_key
