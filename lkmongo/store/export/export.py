"""Export calls with their turns: whole calls in the order of their `_id`, in constant memory.

The turns of many calls are read with one query. How many depends on how large calls are: a group whose turns are
more than `_HELD` is read again in halves, and the turns of a single call go to the writer as they come. While one
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
from lkmongo.store.mongo.extended_json import READ, decode
from lkmongo.store.mongo.schema import SESSIONS, TURNS
from lkmongo.store.sessions.calls import SessionFilter, of_calls

Document = dict[str, Any]
Key = tuple[str, str, str]
Turns = dict[Key, list[Document]]

_HELD = 4 * 2**20
"""Bytes of BSON that the turns of a group may have; decoded they are about five times that."""
_WANTED = 2**20
"""Bytes of turns that a group is made for."""
_MOST = 500
"""Calls of a group: each is three ids of a query."""
_TURNS_A_REPLY = 1_000
"""Of a group; MongoDB sends no more than 16 MB, which turns of 16 KB come to."""
_TURNS_A_REPLY_OF_ONE = 400
_CALLS_A_REPLY = 500
_AHEAD = 1
"""Groups that are read while one is written."""
_DOCUMENTS_BETWEEN = 100
"""Documents that are written, in about two milliseconds, before the event loop looks after what is read."""
_TURNS_AT_ONCE = 200
"""Turns of a very large call that a format gets at once."""
_FLUSH = 2**18
_FLUSH_WITHIN_A_CALL = 4 * 2**20
_ORDER = [("tenant_id", 1), ("user_id", 1), ("session_id", 1), ("seq", 1)]


class Writer(Protocol):
    """A format. For each call `begin`, `turns` as often as they come, in their order, and `end`; `close` at the end.

    Documents are decoded with `extended_json.READ`: times have no zone and are in UTC.
    """

    def begin(self, session: Document) -> None:
        """Begin a call."""

    def turns(self, turns: Sequence[Document]) -> None:
        """Take the next turns of the call."""

    def end(self) -> None:
        """End the call."""

    def close(self) -> None:
        """Write what stands at the end of the file."""


class Sink:
    """Where a format writes to. It holds what is written until it is flushed.

    Attributes:
        size: bytes that were passed on.
        held: bytes that were not yet.
    """

    def __init__(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Pass on to `write`."""
        self.size = 0
        self.held = 0
        self._write = write
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Hold `data`; returns its length, as a file does."""
        self._parts.append(data)
        self.held += len(data)
        return len(data)

    async def flush(self) -> None:
        """Pass on what is held."""
        data = b"".join(self._parts)
        self._parts.clear()
        self.held = 0
        await self._write(data)
        self.size += len(data)


@dataclass(slots=True)
class Exported:
    """How far an export has come.

    Attributes:
        calls: calls that were written.
        turns: their turns.
        last_id: `_id` of the last one that is out, with everything before it: where another export goes on.
    """

    calls: int = 0
    turns: int = 0
    last_id: Any = None

    @property
    def documents(self) -> int:
        """Documents that were read for it."""
        return self.calls + self.turns


def parse_after(text: str) -> ObjectId:
    """The `_id` that an export goes on after.

    Raises:
        UsageError: it is none.
    """
    if not ObjectId.is_valid(text):
        raise UsageError(
            f"{text!r} is not where an export ended",
            hint="--after takes the 24 hexadecimal digits that the export before printed at its end",
        )
    return ObjectId(text)


class Export:
    """One export."""

    def __init__(
        self,
        db: AsyncDatabase[Document],
        wanted: SessionFilter,
        *,
        after: ObjectId | None = None,
        with_embeddings: bool = False,
    ) -> None:
        """Export the calls of `wanted`, those behind `after` if it is given."""
        self.done = Exported(last_id=after)
        self._sessions = db[SESSIONS].with_options(codec_options=READ)
        self._turns = db[TURNS].with_options(codec_options=READ)
        self._query = wanted.sessions()
        self._fields = None if with_embeddings else {"embedding": 0}
        self._group = 50
        self._newest: Any = after
        self._unheeded = 0

    async def run(self, writer: Writer, sink: Sink, on_progress: Callable[[Exported], None] = lambda _: None) -> None:
        """Write everything. `done` says how far it has come, after an exception too.

        Args:
            writer: the format, which writes to `sink`.
            sink: takes the bytes.
            on_progress: told from time to time how far it is.

        Raises:
            DatabaseUnavailableError: MongoDB cannot be reached.
            DatabaseError: any other answer that is an error.
        """
        with _seldom_collected():
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
        """The calls, in groups that are as large as the calls before them let expect."""
        last = reopened = self.done.last_id
        held: list[Document] = []
        while True:
            after = {} if last is None else {"_id": {"$gt": last}}
            cursor = self._sessions.find_raw_batches(
                self._query | after, self._fields, sort=[("_id", 1)], batch_size=_CALLS_A_REPLY, allow_disk_use=True
            )
            try:
                async with cursor:
                    async for raw in cursor:
                        held += decode(raw)
                        last = held[-1]["_id"]
                        while len(held) >= self._group:
                            group, held = held[: self._group], held[self._group :]
                            yield group
                break
            except ServerSelectionTimeoutError:
                raise
            except (AutoReconnect, CursorNotFound):
                # A reader may hold up the output for longer than a cursor lives, ten minutes.
                if last == reopened:
                    raise
                reopened = last
        while held:
            group, held = held[: self._group], held[self._group :]
            yield group

    async def _turns_of(self, group: Sequence[Document]) -> Turns | None:
        """The turns of a group by call; None when they are too much to be held, or of one call, which may be."""
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
                    _sort_in(found, decode(raw))
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
        """Write a call whose turns may be more than memory should hold."""
        writer.begin(session)
        count = size = 0
        async with self._cursor([session], _TURNS_A_REPLY_OF_ONE) as cursor:
            async for raw in cursor:
                turns = decode(raw)
                for start in range(0, len(turns), _TURNS_AT_ONCE):
                    writer.turns(turns[start : start + _TURNS_AT_ONCE])
                    if sink.held >= _FLUSH_WITHIN_A_CALL:
                        await sink.flush()
                        await _heed()
                count += len(turns)
                size += len(raw)
        self._group = min(_MOST, max(1, _WANTED // max(1, size)))
        await self._end(writer, sink, session, count)

    def _cursor(self, group: Sequence[Document], a_reply: int) -> AsyncRawBatchCursor[Document]:
        query = of_calls([_key(session) for session in group])
        return self._turns.find_raw_batches(query, self._fields, sort=_ORDER, batch_size=a_reply)

    async def _end(self, writer: Writer, sink: Sink, session: Document, turns: int) -> None:
        writer.end()
        self.done.calls += 1
        self.done.turns += turns
        self._newest = session["_id"]
        if sink.held >= _FLUSH:
            await sink.flush()
            self.done.last_id = self._newest
        self._unheeded += 1 + turns
        if self._unheeded >= _DOCUMENTS_BETWEEN:
            self._unheeded = 0
            await _heed()


def _sort_in(found: Turns, turns: Sequence[Document]) -> None:
    """Give each call its turns; those of one call stand together."""
    tenant = user = session = None
    own: list[Document] | None = []
    for turn in turns:
        if turn.get("session_id") != session or turn.get("user_id") != user or turn.get("tenant_id") != tenant:
            tenant, user, session = turn.get("tenant_id"), turn.get("user_id"), turn.get("session_id")
            own = found.get(_key(turn))
        if own is not None:
            own.append(turn)


async def _heed() -> None:
    """Let replies come in and signals be heard, and end here if the export was cancelled."""
    await asyncio.sleep(0)
    task = asyncio.current_task()
    if task and task.cancelling():  # the driver may have taken it for a lost connection, and tried again
        raise asyncio.CancelledError


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Let Python look for cycles less often: documents have none, and looking at them takes a tenth of the time."""
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def _key(document: Document) -> Key:
    """The ids of a call, in a session and in a turn alike; the store writes them as text, and so must who else does."""
    tenant, user, session = (document.get(name) for name in ("tenant_id", "user_id", "session_id"))
    return (str(tenant), str(user), str(session))
