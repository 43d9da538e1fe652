"""A call's leave to write for its person: shown in the database while it is held, lost when the person is erased.

The call writes only while it holds a lease, on its session document, that others can see. Before a lease is taken or
renewed the person's tombstone is looked up, and once more after it is taken. So an erasure either sees the call and
waits for it, or the call sees the erasure and writes nothing. A process that stood still between its look and its write
finds the tombstone at the next look, and sweeps behind itself.

An agent that is sent into the room while another one seems to be dead takes the lease from it. Should the other live
after all, it finds that at its next renewal, and writes nothing more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from lkmongo import deadlines
from lkmongo.errors import DatabaseUnavailableError, LkmongoError
from lkmongo.model import SessionRecord, now
from lkmongo.store.open import Store
from lkmongo.store.people.erase import sweep_behind
from lkmongo.store.people.tombstones import ErasedError, Tombstones
from lkmongo.store.sessions.documents import lease_owner

logger = logging.getLogger(__name__)

# On Linux the monotonic clock stands still while a laptop sleeps; this one goes on. On macOS the monotonic one does.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SupersededError(LkmongoError):
    """Another agent goes on with this call."""

    code = "superseded"


class Lease:
    """The lease of one call; every write for its person goes through `writing`.

    `lost` says that the person was erased, `superseded` that another agent goes on with the call, `continues` that
    there were traces of this call before it, `ended` that the call's end is written and the lease to be given up.
    """

    def __init__(self, store: Store, record: SessionRecord) -> None:
        """Nothing is written before `start` or the first `writing`."""
        self.lost = False
        self.superseded = False
        self.continues = False
        self.ended = False
        self.owner = lease_owner()
        self._db = store.db
        self._sessions = store.sessions
        self._breaker = store.breaker
        self._tombstones = Tombstones(store.db)
        self._record = record
        self._call_began = record.started_at or now()
        self._began = _now()
        self._renewed: float | None = None
        self._opened = False
        self._lock = asyncio.Lock()
        self._writers = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_doubt_until = 0.0
        self._when_held: list[Callable[[], None]] = []
        self._when_lost: list[Callable[[], None]] = []
        self._released = False
        self._holding: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None

    @property
    def call_began(self) -> datetime:
        """When the call began, with whichever agent."""
        return self._call_began

    def said_since(self, moment: datetime | None) -> None:
        """Have the call begun at `moment`, if that is earlier: what was said to an agent before this one is part of it."""
        if moment is not None:
            self._call_began = min(self._call_began, moment)

    def when_held(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the lease is held for the first time."""
        self._when_held.append(callback)

    def when_lost(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the person is erased, before any later write is refused."""
        self._when_lost.append(callback)

    def start(self) -> None:
        """Take the lease and renew it in the background, until `release`."""
        if self._holding is None:
            self._holding = asyncio.create_task(self._hold())

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write inside this block; takes the lease first where it is not held.

        Raises:
            ErasedError: the person was erased since the call began.
            SupersededError: another agent goes on with the call.
            DatabaseError: the lease could not be taken.
        """
        if not self._is_trusted():
            async with self._lock:
                if not self._is_trusted():
                    await self._renew()
        if self.lost:
            raise ErasedError
        self._writers += 1
        self._idle.clear()
        try:
            yield
        except BaseException:
            # It failed or was given up, and may arrive all the same.
            self._in_doubt_until = _now() + deadlines.LEASE
            raise
        finally:
            self._writers -= 1
            if not self._writers:
                self._idle.set()

    async def check(self) -> None:
        """See that the lease is held still, for something was found that another one has written. Raises as `writing`."""
        async with self._lock:
            await self._renew()

    async def release(self, deadline: float = deadlines.ERASED_END) -> None:
        """Stop renewing, and give up the lease of a call that has ended.

        Of one that was erased, wait until its own traces are gone, `deadline` seconds at most.
        """
        self._released = True  # a cancellation alone does not do: the driver may report it as a lost connection
        if self._holding:
            self._holding.cancel()
            await asyncio.gather(self._holding, return_exceptions=True)
        if self.ended and not self.lost:
            await self._let_go()
        if self._leaving:
            patience = deadlines.AWAY if self._breaker.is_open else deadlines.ERASED_END
            await asyncio.wait({self._leaving}, timeout=max(0.0, min(deadline, patience)))
            self._leaving.cancel()

    async def _let_go(self) -> None:
        """Have it be nobody's, after the last write of a call that is complete; else it runs out."""
        self.ended = False
        try:
            async with asyncio.timeout(deadlines.AWAY):
                await self._sessions.let_go(self._record.scope, self._record.session_id, self.owner)
        except (LkmongoError, TimeoutError) as error:
            logger.debug("the lease of the call is left to run out: %s", error)

    def _is_trusted(self) -> bool:
        held = not (self.lost or self.superseded)
        return held and self._renewed is not None and _now() - self._renewed < deadlines.LEASE_TRUSTED

    async def _hold(self) -> None:
        while not self._released:
            try:
                async with self._lock:
                    await self._renew()
            except ErasedError:
                return
            except SupersededError:
                pass  # an erasure is still to be seen
            except LkmongoError as error:
                logger.debug("the lease of the call is not renewed: %s (%s)", error.message, error.why)
            except Exception:
                logger.exception("the lease of the call is not renewed")
            if not self._released:
                await asyncio.sleep(deadlines.LEASE_RENEWAL_EVERY)

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(deadlines.LEASE_RENEWAL):
                await self._take()
        except TimeoutError as error:
            self._breaker.failed()
            raise DatabaseUnavailableError(why="it does not answer") from error
        except DatabaseUnavailableError:
            self._breaker.failed()
            raise
        self._breaker.answered()

    async def _take(self) -> None:
        if self.lost:
            raise ErasedError
        asked = _now()
        await self._obey()
        if self.superseded:
            raise SupersededError
        scope, session_id = self._record.scope, self._record.session_id
        state = await self._sessions.renew(scope, session_id, self.owner) if self._opened else "missing"
        if state in {"another's", "complete"}:
            self.superseded = True
            logger.warning("another agent goes on with this call: what is said to this one is not recorded any more")
            raise SupersededError
        if state == "missing":
            is_new = await self._sessions.open(self._record, self.owner)
            self.continues = self.continues or not (is_new or self._opened)
            self._opened = True
            await self._obey()
        self._renewed = asked
        while self._when_held:
            self._when_held.pop(0)()

    async def _obey(self) -> None:
        if await self._tombstones.bars(self._record.scope, timedelta(seconds=_now() - self._began)):
            self._lose()
            raise ErasedError

    def _lose(self) -> None:
        if self.lost:
            return
        self.lost = True
        logger.info("the caller was erased: the call goes on as a guest's, and is not stored")
        for callback in self._when_lost:
            callback()
        self._leaving = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        """Take away what the call has left, which is how an erasure that waits learns that no write will follow."""
        await self._idle.wait()
        await asyncio.sleep(max(0.0, self._in_doubt_until - _now()))
        try:
            await sweep_behind(self._db, self._record.scope, self._record.session_id)
        except LkmongoError as error:  # the erasure does it when the lease has run out
            logger.info("the erased call could not be deleted: %s (%s)", error.message, error.why)


def _now() -> float:
    return time.clock_gettime(_CLOCK)
