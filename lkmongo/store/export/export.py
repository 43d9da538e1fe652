"""Export sessions with their turns: whole sessions in the order of their `_id`, in constant memory.

One query reads the turns of a group of sessions, whose number depends on how large sessions are: a group whose turns
exceed `_HELD` is read again in halves, and the turns of a single session go to the writer as they arrive. While one
group is written, MongoDB reads the next.
"""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from bson.objectid import ObjectId
from pymongo.asynchronous.cursor import AsyncRawBatchCursor
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import AutoReconnect, CursorNotFound, PyMongoError, ServerSelectionTimeoutError

from lkmongo.errors import UsageError
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.extended_json import READ, decode
from lkmongo.store.mongo.schema import SESSIONS, TURNS
from lkmongo.store.sessions.documents import VECTOR
from lkmongo.store.sessions.listing import Key, SessionFilter, turns_query

Document = dict[str, Any]
Turns = dict[Key, list[Document]]

_HELD = 4 * 2**20
"""Bytes of BSON that the turns of a group may have; decoded they take about five times that."""
_WANTED = 2**20
"""Bytes of turns that a group aims at."""
_MOST = 500
"""Sessions of a group: each adds three ids to the query."""
_TURNS_A_REPLY = 1_000
"""Of a group; MongoDB sends at most 16 MB, so this many turns of up to 16 KB each."""
_TURNS_A_REPLY_OF_ONE = 400
_SESSIONS_A_REPLY = 500
_AHEAD = 1
"""Groups that are read ahead while one is written."""
_DOCUMENTS_BETWEEN = 100
"""Documents that are written, in about 2 ms, before the event loop gets a turn to read."""
_TURNS_AT_ONCE = 200
"""Turns of a very large session that a writer gets at once."""
_FLUSH = 2**18
_FLUSH_WITHIN_A_SESSION = 4 * 2**20
_ORDER = [("tenant_id", 1), ("user_id", 1), ("session_id", 1), ("seq", 1)]


class Writer(Protocol):
    """A format: for each session `begin`, `turns` any number of times and in order, `end`; finally `close`.

    Documents are decoded with `extended_json.READ`: times have no zone and are in UTC.
    """

    def begin(self, session: Document) -> None: ...

    def turns(self, turns: Sequence[Document]) -> None: ...

    def end(self) -> None: ...

    def close(self) -> None: ...


class Sink:
    """Collects what a format writes until it is flushed.

    Attributes:
        size: bytes that were flushed.
        held: bytes that were not.
    """

    def __init__(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Flush to `write`."""
        self.size = 0
        self.held = 0
        self._write = write
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Collect `data`; returns its length, as a file does."""
        self._parts.append(data)
        self.held += len(data)
        return len(data)

    async def flush(self) -> None:
        """Write out what was collected."""
        data = b"".join(self._parts)
        self._parts.clear()
        self.held = 0
        await self._write(data)
        self.size += len(data)


@dataclass(slots=True)
class Exported:
    """How far an export has come.

    Attributes:
        sessions: sessions that were written.
        turns: their turns.
        last_id: `_id` of the last session that was flushed, with all before it: another export can continue after it.
    """

    sessions: int = 0
    turns: int = 0
    last_id: Any = None

    @property
    def documents(self) -> int:
        """Documents that were read."""
        return self.sessions + self.turns


def parse_after(text: str) -> ObjectId:
    """The `_id` after which an export continues.

    Raises:
        UsageError: it is not an ObjectId.
    """
    if not ObjectId.is_valid(text):
        raise UsageError(
            f"{text!r} is not where an export ended",
            hint="--after takes the 24 hexadecimal digits that the previous export printed at its end",
        )
    return ObjectId(text)


class Export:
    """One export of the sessions that match a filter."""

    def __init__(
        self,
        db: AsyncDatabase[Document],
        wanted: SessionFilter,
        *,
        after: ObjectId | None = None,
        with_embeddings: bool = False,
    ) -> None:
        """Export what `wanted` matches, from behind `after` on if that is given."""
        self.done = Exported(last_id=after)
        self._encryption = Encryption.of(db)
        self._sessions = db[SESSIONS].with_options(codec_options=READ)
        self._turns = db[TURNS].with_options(codec_options=READ)
        self._query = wanted.sessions()
        self._fields = None if with_embeddings else dict.fromkeys(("embedding", *VECTOR), 0)
        self._group = 50
        self._newest: Any = after
        self._since_yield = 0

    async def run(self, writer: Writer, sink: Sink, on_progress: Callable[[Exported], None] = lambda _: None) -> None:
        """Write everything. `done` says how far it came, also after an exception.

        Args:
            writer: the format, which writes to `sink`.
            sink: takes the bytes.
            on_progress: called after each group.

        Raises:
            DatabaseUnavailableError: MongoDB cannot be reached.
            DatabaseError: MongoDB answered with an error.
        """
        with _rare_collection():
            try:
                await self._run(writer, sink, on_progress)
            except PyMongoError as error:
                raise operations.explain(error) from error

    async def _run(self, writer: Writer, sink: Sink, on_progress: Callable[[Exported], None]) -> None:
        waiting: deque[tuple[list[Document], asyncio.Task[Turns | None]]] = deque()
        try:
            async with aclosing(self._groups()) as groups:
                async for group in groups:
                    waiting.append((group, asyncio.create_task(self._turns_of(group))))
                    if len(waiting) > _AHEAD:
                        await self._write(writer, sink, *waiting.popleft())
                        on_progress(self.done)
            while waiting:
                await self._write(writer, sink, *waiting.popleft())
                on_progress(self.done)
        finally:
            for _, task in waiting:
                task.cancel()
            await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)
        writer.close()
        await sink.flush()
        self.done.last_id = self._newest

    async def _groups(self) -> AsyncGenerator[list[Document]]:
        """The sessions, in groups sized by the sessions before them."""
        last = reopened = self.done.last_id
        held: list[Document] = []
        while True:
            after = {} if last is None else {"_id": {"$gt": last}}
            cursor = self._sessions.find_raw_batches(
                self._query | after, self._fields, sort=[("_id", 1)], batch_size=_SESSIONS_A_REPLY, allow_disk_use=True
            )
            try:
                async with cursor:
                    async for raw in cursor:
                        held += await self._encryption.open(SESSIONS, decode(raw))
                        last = held[-1]["_id"]
                        while len(held) >= self._group:
                            group, held = held[: self._group], held[self._group :]
                            yield group
                break
            except ServerSelectionTimeoutError:
                raise
            except (AutoReconnect, CursorNotFound):
                # The reader of the output may stall for longer than a cursor lives, which is ten minutes.
                if last == reopened:
                    raise
                reopened = last
        while held:
            group, held = held[: self._group], held[self._group :]
            yield group

    async def _turns_of(self, group: Sequence[Document]) -> Turns | None:
        """The turns of a group by session; None if they exceed `_HELD`, or may, being of a single session."""
        if len(group) == 1:
            return None

        async def read() -> Turns | None:
            found: Turns = {_key(session): [] for session in group}
            size = 0
            async with self._cursor(group, _TURNS_A_REPLY) as cursor:
                async for raw in cursor:
                    size += len(raw)
                    if size > _HELD:
                        return None
                    _sort_in(found, await self._encryption.open(TURNS, decode(raw)))
            self._group = min(_MOST, max(1, _WANTED * len(group) // max(1, size)))
            return found

        return await operations.read(read)

    async def _write(
        self, writer: Writer, sink: Sink, group: list[Document], reading: asyncio.Task[Turns | None]
    ) -> None:
        turns = await reading
        if turns is not None:
            for session in group:
                own = turns.pop(_key(session), [])
                writer.begin(session)
                writer.turns(own)
                await self._end(writer, sink, session, len(own))
            return
        self._group = max(1, len(group) // 2)
        if len(group) == 1:
            await self._write_one(writer, sink, group[0])
            return
        for half in (group[: self._group], group[self._group :]):
            await self._write(writer, sink, half, asyncio.create_task(self._turns_of(half)))

    async def _write_one(self, writer: Writer, sink: Sink, session: Document) -> None:
        """Write a session whose turns may be more than memory should hold."""
        writer.begin(session)
        count = size = 0
        async with self._cursor([session], _TURNS_A_REPLY_OF_ONE) as cursor:
            async for raw in cursor:
                turns = await self._encryption.open(TURNS, decode(raw))
                for start in range(0, len(turns), _TURNS_AT_ONCE):
                    writer.turns(turns[start : start + _TURNS_AT_ONCE])
                    if sink.held >= _FLUSH_WITHIN_A_SESSION:
                        await sink.flush()
                        await _yield()
                count += len(turns)
                size += len(raw)
        self._group = min(_MOST, max(1, _WANTED // max(1, size)))
        await self._end(writer, sink, session, count)

    def _cursor(self, group: Sequence[Document], a_reply: int) -> AsyncRawBatchCursor[Document]:
        query = turns_query([_key(session) for session in group])
        return self._turns.find_raw_batches(query, self._fields, sort=_ORDER, batch_size=a_reply)

    async def _end(self, writer: Writer, sink: Sink, session: Document, turns: int) -> None:
        writer.end()
        self.done.sessions += 1
        self.done.turns += turns
        self._newest = session["_id"]
        if sink.held >= _FLUSH:
            await sink.flush()
            self.done.last_id = self._newest
        self._since_yield += 1 + turns
        if self._since_yield >= _DOCUMENTS_BETWEEN:
            self._since_yield = 0
            await _yield()


def _sort_in(found: Turns, turns: Sequence[Document]) -> None:
    """Add turns to their sessions; those of one session are adjacent."""
    tenant = user = session = None
    own: list[Document] | None = []
    for turn in turns:
        if turn.get("session_id") != session or turn.get("user_id") != user or turn.get("tenant_id") != tenant:
            tenant, user, session = turn.get("tenant_id"), turn.get("user_id"), turn.get("session_id")
            own = found.get(_key(turn))
        if own is not None:
            own.append(turn)


async def _yield() -> None:
    """Let the event loop receive replies and signals, and stop here if the export was cancelled."""
    await asyncio.sleep(0)
    task = asyncio.current_task()
    if task and task.cancelling():  # the driver may have mistaken it for a lost connection and retried
        raise asyncio.CancelledError


@contextmanager
def _rare_collection() -> Iterator[None]:
    """Run the garbage collector less often: documents have no cycles, and checking them takes a tenth of the time."""
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def _key(document: Document) -> Key:
    """The ids of a session, from its own document or a turn's."""
    tenant, user, session = (document.get(name) for name in ("tenant_id", "user_id", "session_id"))
    return (str(tenant), str(user), str(session))
