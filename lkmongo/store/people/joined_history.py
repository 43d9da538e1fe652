"""Join the former values of two people who are merged: what was true of either was true of the one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.model import UserScope
from lkmongo.store.mongo.schema import MEMORY_HISTORY
from lkmongo.store.people.history import add_former, began_of, former_of

Document = dict[str, Any]


class FormerValues:
    """The steps of a merge that are about `memory_history`; each is repeatable, and raises the driver's errors."""

    def __init__(
        self,
        db: AsyncDatabase[Document],
        guest: UserScope,
        login: UserScope,
        session: AsyncClientSession | None,
        in_time: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._history = db[MEMORY_HISTORY]
        self._guest = guest
        self._login = login
        self._session = session
        self._in_time = in_time

    async def keep(self, dropped: Document, kept: Document) -> None:
        """Keep what a slot that is dropped says, if it differs, and said before: it was true until the other was."""
        former = list(dropped.get("former") or [])
        if dropped["content"] != kept["content"]:
            former.append(former_of(dropped, began_of(kept)))
        for entry in former:
            await self._add(dropped["memory_type"], entry)

    async def move(self) -> None:
        """Join the guest's former values to the login's; where they overlap, `History.former` shows the later one."""
        with self._in_time():
            found = await self._history.find(self._guest.filter, session=self._session).to_list()
        for entry in found:
            await self._add(entry["memory_type"], entry)
            with self._in_time():
                await self._history.delete_one({"_id": entry["_id"]} | self._guest.filter, session=self._session)

    async def _add(self, label: str, entry: Document) -> None:
        with self._in_time():
            await add_former(self._history, self._login, label, entry, self._session)
