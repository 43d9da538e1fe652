"""What of a person is outside of the database's collections: journals on disks, and MongoDB's operation log.

The journals of this machine are swept when a person is erased. One of a session that goes on is unlinked, too: the
session learns of the erasure by the tombstone within two seconds and stores nothing more, and what it has written is
gone with it. The journals of other machines cannot be seen from here: their agents delete them when they find them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import LkmongoError
from lkmongo.model import SessionStatus, UserScope
from lkmongo.outbox import journal
from lkmongo.outbox.journal import JournalContents, JournalError, database_id, journal_folder
from lkmongo.outbox.operations import MoveGuest
from lkmongo.settings import Settings
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import SESSIONS
from lkmongo.store.people.erase import Remains
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.sessions.documents import host_name

_OPLOG_MAX_TIME_MS = 2_000


class Elsewhere:
    """What of one person is elsewhere, for `erase`."""

    def __init__(self, settings: Settings, db: AsyncDatabase[dict[str, Any]], scope: UserScope) -> None:
        self._db = db
        self._scope = scope
        self._folder = journal_folder(settings.data_home)
        self._database = database_id(settings)

    async def count(self) -> int:
        """How many journals on this machine hold words of the person or their id. Raises JournalError."""
        return len(await asyncio.to_thread(lambda: list(self._journals())))

    async def sweep(self) -> int:
        """Remove the person from this machine's journals, but for what a session of theirs says after the erasure.

        Returns:
            How many journals were removed or rewritten.

        Raises:
            JournalError: the disk failed.
            DatabaseError: MongoDB could not be asked when the person was erased.
        """
        tombstones, swept = Tombstones(self._db), 0
        for path, contents in await asyncio.to_thread(lambda: list(self._journals())):
            if contents.record.scope != self._scope:
                swept += await asyncio.to_thread(journal.rewrite, path, lambda entry: not self._is_guest(entry))
            elif await tombstones.bars_session(contents.record):
                await asyncio.to_thread(journal.remove, path)
                swept += 1
        return swept

    async def remains(self) -> Remains:
        """Which other machines may hold journals, and since when MongoDB's operation log holds what was written."""
        return Remains(tuple(await self._hosts()), await _oplog_since(self._db))

    def _journals(self) -> Iterator[tuple[Path, JournalContents]]:
        for path in journal.files(self._folder, damaged=True):
            try:
                contents = journal.read(path)
            except JournalError:
                if path.exists() and self._is_named_in(path):  # else its session has just ended
                    raise
                continue
            ours = contents.database == self._database
            if ours and (contents.record.scope == self._scope or any(map(self._is_guest, contents.entries))):
                yield path, contents

    def _is_named_in(self, path: Path) -> bool:
        """Whether the id stands in a file that cannot be read as a journal."""
        try:
            return json.dumps(self._scope.user_id)[1:-1].encode() in path.read_bytes()
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def _is_guest(self, entry: dict[str, Any]) -> bool:
        """Whether an entry says that the session's person was this one before they logged in."""
        return entry["op"] == MoveGuest.op and (entry.get("tenant_id"), entry.get("user_id")) == (
            self._scope.tenant_id,
            self._scope.user_id,
        )

    async def _hosts(self) -> list[str]:
        active = {"status": SessionStatus.ACTIVE}
        owners = await operations.read(lambda: self._db[SESSIONS].distinct("lease.owner", active))
        others = (str(each) for each in owners if each and not str(each).startswith(f"{host_name()}/"))
        return sorted({each.partition("/")[0] for each in others})


async def _oplog_since(db: AsyncDatabase[dict[str, Any]]) -> Any:
    """The time of the oldest entry of the operation log; None without one, or without the right to read it."""
    oplog = db.client["local"]["oplog.rs"]
    oldest = [("$natural", 1)]
    try:
        found = await operations.read(
            lambda: oplog.find_one({}, {"ts": 1}, sort=oldest, max_time_ms=_OPLOG_MAX_TIME_MS)
        )
    except LkmongoError:
        return None
    return found["ts"].as_datetime() if found else None
