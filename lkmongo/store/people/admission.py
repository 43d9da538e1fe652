"""Whether a seal still holds: it was used in no other room, and its visitor has not logged out.

A seal is bound to the first room it is used in, by an upsert in the collection `used_seals`. LiveKit has one room of a
name at a time, so the next one begins when the first has ended; its session then finds the seal bound. The documents
hold no ids of people, and expire when the seal could not be used anyway.

Nothing of the person is shown or written before this is known. It costs no round trip of its own: the session's first
read asks for it as well, and so does each renewal of its lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from lkmongo.errors import LkmongoError
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import USED_SEALS, VISITORS
from lkmongo.ticket import Ticket

Document = dict[str, Any]

LATEST = timedelta(minutes=10)
"""After the end of a seal, how late its first use can be known: a caller may have waited for an agent."""
_KEPT = timedelta(days=1)
"""After the end of a seal, how long its room is kept: until then its agent may be sent into that room again."""
_ABOUT = "_about"


class NotAdmittedError(LkmongoError):
    """This seal is not valid any more."""

    code = "not_admitted"


class LoggedOutError(NotAdmittedError):
    """The visitor has logged out since the session began: what was said is theirs, and nothing more is."""


class Admission:
    """What MongoDB says of the seal that a session began with, as of its beginning: it may have been away since.

    Attributes:
        is_given: whether the seal is valid; False until that is known.
    """

    def __init__(self, db: AsyncDatabase[Document], ticket: Ticket, began: datetime) -> None:
        self.is_given = False
        self._began = began
        self._is_bound = ticket.seal is None
        self._ticket = ticket
        self._visitors = db[VISITORS]
        self._used_seals = db[USED_SEALS]

    @property
    def stages(self) -> list[Document]:
        """Stages of an aggregation over any collection, which append what `judge` takes out again."""
        found = []
        for collection, key, fields in (
            (VISITORS, self._ticket.visitor, ("ended_at", "login")),
            (USED_SEALS, self._ticket.seal, ("room",)),
        ):
            if key:
                shown = dict.fromkeys(fields, 1) | {_ABOUT: {"$literal": collection}}
                pipeline = [{"$match": {"_id": key}}, {"$project": shown}]
                found.append({"$unionWith": {"coll": collection, "pipeline": pipeline}})
        return found

    def judge(self, documents: Sequence[Document]) -> list[Document]:
        """Return the documents without what `stages` appended; raises as `confirm` does."""
        about = {each[_ABOUT]: each for each in documents if _ABOUT in each}
        self._check_room(about.get(USED_SEALS))
        self._check_visitor(about.get(VISITORS))
        self.is_given = True
        return [each for each in documents if _ABOUT not in each]

    async def confirm(self) -> None:
        """Bind the seal to its room, unless that is done, and look whether the visitor has logged out.

        Raises:
            NotAdmittedError: it is bound to another room, or they had before the session began.
            LoggedOutError: they have since.
            DatabaseError: that could not be read.
        """
        if not self._is_bound:
            self._check_room(await self._bind())
            self._is_bound = True
        self._check_visitor(await self._visitor())
        self.is_given = True

    async def _bind(self) -> Document | None:
        ticket, selector = self._ticket, {"_id": self._ticket.seal}
        if self._is_too_late:
            return await operations.read(lambda: self._used_seals.find_one(selector))
        fields = {"room": ticket.room, "expires_at": ticket.until + _KEPT}

        async def bind() -> Document | None:
            update = {"$setOnInsert": fields}
            return await self._used_seals.find_one_and_update(
                selector, update, upsert=True, return_document=ReturnDocument.AFTER
            )

        async def once_more() -> Document | None:
            try:
                return await bind()
            except DuplicateKeyError:  # another room's session has bound it meanwhile
                return await bind()

        return await operations.write(once_more)

    async def _visitor(self) -> Document | None:
        key = self._ticket.visitor
        if key is None:
            return None
        return await operations.read(lambda: self._visitors.find_one({"_id": key}, {"ended_at": 1, "login": 1}))

    @property
    def _is_too_late(self) -> bool:
        return self._began > self._ticket.until + LATEST

    def _check_room(self, bound: Document | None) -> None:
        if self._ticket.seal is None:
            return
        if bound is None and self._is_too_late:
            raise NotAdmittedError("the sealed caller is too old")
        if bound is not None and bound["room"] != self._ticket.room:
            raise NotAdmittedError("the sealed caller was used in another room before")

    def _check_visitor(self, visitor: Document | None) -> None:
        ended_at = (visitor or {}).get("ended_at")
        if ended_at is None or visitor is None:
            return
        # A browser gets another cookie when it comes again. A login is the same again.
        if not visitor.get("login") or self._ticket.made_at <= ended_at:
            if ended_at > self._began:
                raise LoggedOutError
            raise NotAdmittedError("the visitor has logged out")
