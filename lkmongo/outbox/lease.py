"""The lease that lets a session write for its person: visible in the database, lost when the person is erased.

A session writes only while it holds a lease on its session document. The person's tombstone is checked before the lease
is acquired or renewed, and again after it is acquired. So either an erasure sees the session and waits for it, or the
session sees the erasure and writes nothing. A process that was suspended between its check and its write finds the
tombstone at the next check, and deletes what it wrote.

Who came with a seal must still be admitted, which is looked up together with the tombstone. If they never were, the
session goes on as a guest's, and is not stored. Who logs out during the session ends it, and its record is completed.

An agent that replaces one that seems dead takes over its lease. If the first one is alive after all, it notices at its
next renewal, and writes nothing more. The recovery of an earlier agent's journal takes a lease that has run out, too:
an agent that is alive waits for its end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta

from lkmongo import deadlines
from lkmongo.errors import DatabaseUnavailableError, LkmongoError
from lkmongo.model import SessionRecord, UserScope, now
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.open import Store
from lkmongo.store.people.admission import Admission, LoggedOutError, NotAdmittedError
from lkmongo.store.people.erase import sweep_behind
from lkmongo.store.people.tombstones import ErasedError, Tombstones
from lkmongo.store.sessions.documents import lease_owner

logger = logging.getLogger(__name__)

# On Linux the monotonic clock stops while a laptop sleeps; this one does not. On macOS CLOCK_MONOTONIC does not either.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_LOOK_AGAIN = 0.1
"""Seconds after which it is seen whether the recovery of an earlier agent's journal is done."""


class SupersededError(LkmongoError):
    """Another agent has taken over this session."""

    code = "superseded"


class Lease:
    """The lease of one session; every write for its person goes through `writing`.

    Attributes:
        lost: the person was erased, or their seal is `refused`.
        refused: why the seal was not valid when the session began; None if it was, or if that is not known yet.
        admission: what MongoDB says of the seal; None without one.
        superseded: another agent has taken over the session.
        continues: the session document existed before.
        ended: the end of the session is written, so `release` gives up the lease.
    """

    def __init__(self, store: Store, record: SessionRecord) -> None:
        """Nothing is written before `start` or the first `writing`."""
        self.lost = False
        self.refused: NotAdmittedError | None = None
        self.admission = Admission(store.db, record.ticket, record.started_at or now()) if record.ticket else None
        self.superseded = False
        self.continues = False
        self.ended = False
        self.owner = lease_owner()
        self._db = store.db
        self._sessions = store.sessions
        self._breaker = store.breaker
        self._tombstones = Tombstones(store.db)
        self._record = record
        self._session_began = record.started_at or now()
        self._began = _now()
        self._renewed: float | None = None
        self._opened = False
        self._lock = asyncio.Lock()
        self._writers = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_doubt_until = 0.0
        self._on_acquired: list[Callable[[], None]] = []
        self._on_lost: list[Callable[[], None]] = []
        self._on_logged_out: list[Callable[[], None]] = []
        self._released = False
        self._renewing: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    @property
    def scope(self) -> UserScope:
        """Whose session it is."""
        return self._record.scope

    @property
    def session_id(self) -> str:
        return self._record.session_id

    @property
    def is_admitted(self) -> bool:
        """Whether the person's data may be read: with a seal, not before it is known to be valid."""
        return self.lost or self.admission is None or self.admission.is_given

    def check_admitted(self) -> None:
        """Raise DatabaseUnavailableError unless the person's data may be read."""
        if not self.is_admitted:
            raise DatabaseUnavailableError(why="it is not known yet whether the caller's token is valid")

    @property
    def session_began(self) -> datetime:
        """When the session began, with whichever agent."""
        return self._session_began

    def backdate(self, moment: datetime | None) -> None:
        """Move `session_began` back to `moment`, to include what was said to an earlier agent."""
        if moment is not None:
            self._session_began = min(self._session_began, moment)

    def on_acquired(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the lease is first acquired."""
        self._on_acquired.append(callback)

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the person is erased or refused, before any later write is refused."""
        self._on_lost.append(callback)

    def on_logged_out(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the visitor logs out during the session."""
        self._on_logged_out.append(callback)

    def not_admitted(self, error: NotAdmittedError) -> None:
        """Tell who must know; and write nothing if the seal was not valid when the session began."""
        if isinstance(error, LoggedOutError):
            while self._on_logged_out:
                self._on_logged_out.pop(0)()
        elif not self.lost:
            self.refused = error
            logger.warning("the caller is a guest: %s", error.message)
            self._lose()

    def start(self) -> None:
        """Acquire the lease and renew it in the background until `release`."""
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew_periodically())

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Hold the lease for the writes inside this block, acquiring it first if necessary.

        Raises:
            ErasedError: the person was erased since the session began.
            SupersededError: another agent has taken over the session.
            DatabaseError: the lease could not be acquired.
        """
        if not self._is_valid():
            async with self._lock:
                if not self._is_valid():
                    await self._renew()
        if self.lost:
            raise ErasedError
        self._writers += 1
        self._idle.clear()
        try:
            yield
        except BaseException:
            # The write failed or was cancelled, and may reach the server all the same.
            self._in_doubt_until = _now() + deadlines.LEASE
            raise
        finally:
            self._writers -= 1
            if not self._writers:
                self._idle.set()

    async def check(self) -> None:
        """Renew the lease now, because there are signs of another writer. Raises as `writing` does."""
        async with self._lock:
            await self._renew()

    async def is_taken_over(self) -> bool:
        """Whether another agent has taken over the session; False if MongoDB cannot tell, or nothing is written yet."""
        if self._opened:  # else the check would write: of a caller who has not agreed to that yet, too
            with suppress(LkmongoError):
                await self.check()
        return self.superseded

    async def release(self, deadline: float = deadlines.ERASED_END) -> None:
        """Stop renewing, and give up the lease of a session that has ended.

        If the person was erased, wait at most `deadline` seconds until the session's own writes are deleted.
        """
        self._released = True  # cancelling is not enough: the driver may report it as a lost connection
        if self._renewing:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        if self.ended and not self.lost:
            await self._give_up()
        if self._sweeping:
            patience = deadlines.AWAY if self._breaker.is_open else deadlines.ERASED_END
            await asyncio.wait({self._sweeping}, timeout=max(0.0, min(deadline, patience)))
            self._sweeping.cancel()

    async def _give_up(self) -> None:
        self.ended = False
        try:
            async with asyncio.timeout(deadlines.AWAY):
                await self._sessions.let_go(self._record.scope, self._record.session_id, self.owner)
        except (LkmongoError, TimeoutError) as error:
            logger.debug("the lease could not be given up, and will expire: %s", error)

    def _is_valid(self) -> bool:
        held = not (self.lost or self.superseded)
        return held and self._renewed is not None and _now() - self._renewed < deadlines.LEASE_TRUSTED

    async def _renew_periodically(self) -> None:
        while not self._released:
            try:
                async with self._lock:
                    await self._renew()
            except ErasedError:
                return
            except SupersededError:
                pass  # an erasure must still be noticed
            except LkmongoError as error:
                logger.debug("the lease could not be renewed: %s (%s)", error.message, error.why)
            except Exception:
                logger.exception("the lease could not be renewed")
            if not self._released:
                await asyncio.sleep(deadlines.LEASE_RENEWAL_EVERY)

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(deadlines.LEASE_RENEWAL):
                await self._acquire()
        except TimeoutError as error:
            self._breaker.failed()
            raise DatabaseUnavailableError(why="it does not answer") from error
        except DatabaseUnavailableError:
            self._breaker.failed()
            raise
        self._breaker.answered()

    async def _acquire(self) -> None:
        if self.lost:
            raise ErasedError
        asked = _now()
        await asyncio.gather(self._check_tombstone(), self._check_admission())
        if self.superseded:
            raise SupersededError
        scope, session_id = self._record.scope, self._record.session_id
        state = await self._sessions.renew(scope, session_id, self.owner) if self._opened else "missing"
        while state == "recovering":  # it ran out while MongoDB was away, and an earlier agent's journal came first
            await asyncio.sleep(_LOOK_AGAIN)
            state = await self._sessions.renew(scope, session_id, self.owner)
        if state in {"another's", "complete"}:
            self.superseded = True
            logger.warning("another agent has taken over this session: this one records nothing more")
            raise SupersededError
        if state == "missing":
            is_new = await self._sessions.open(self._record, self.owner)
            self.continues = self.continues or not (is_new or self._opened)
            self._opened = True
            await self._check_tombstone()
        self._renewed = asked
        while self._on_acquired:
            self._on_acquired.pop(0)()

    async def _check_tombstone(self) -> None:
        if await self._tombstones.bars(self._record.scope, timedelta(seconds=_now() - self._began)):
            self._on_erased()
            raise ErasedError

    async def confirm(self) -> None:
        """Bind the seal of a session that may write nothing, too."""
        with suppress(ErasedError):
            await self._check_admission()

    async def _check_admission(self) -> None:
        if self.admission is None:
            return
        try:
            await self.admission.confirm()
        except NotAdmittedError as error:
            self.not_admitted(error)
            if self.lost:
                raise ErasedError from error

    def _lose(self) -> None:
        self.lost = True
        Encryption.of(self._db).forget(self._record.scope)
        for callback in self._on_lost:
            callback()

    def _on_erased(self) -> None:
        if self.lost:
            return
        logger.info("the caller was erased: the session continues as a guest's, and is not stored")
        self._lose()
        self._sweeping = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        """Delete what the session wrote, which tells a waiting erasure that no more writes will follow."""
        await self._idle.wait()
        await asyncio.sleep(max(0.0, self._in_doubt_until - _now()))
        try:
            await sweep_behind(self._db, self._record.scope, self._record.session_id)
        except LkmongoError as error:  # the erasure does it when the lease has expired
            logger.info("the erased session could not be deleted: %s (%s)", error.message, error.why)


def _now() -> float:
    return time.clock_gettime(_CLOCK)
