"""The summaries of a person's calls, in the sessions' documents, and their open commitments, in the person's document.

So a summary goes with its call, and the open commitments are read with the profile, without a further round trip.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pymongo import UpdateOne
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.model import SessionStatus, UserScope
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.encryption import Encryption, gist_place, sealed
from lkmongo.store.mongo.schema import SESSIONS, USERS
from lkmongo.store.sessions.documents import VECTOR, commitments_of, summary_fields, summary_of
from lkmongo.store.sessions.sessions import NO_SUMMARY
from lkmongo.summary import MAX_OPEN, Commitment, PastCall, Summary, stems

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Document = dict[str, Any]

MAX_CALLS = 2_000
"""How many summaries of one person are read: those of the latest calls."""
_HAS_SUMMARY = {"summary.at": {"$type": "date"}}
_NO_LONGER: Document = {"$unset": {"summary": ""}}
_BATCH = 500


class Summaries:
    """The field `summary` of the collection `sessions`, and `commitments` of `users`."""

    def __init__(self, db: AsyncDatabase[Document]) -> None:
        self._encryption = Encryption.of(db)
        self._sessions = db[SESSIONS]
        self._users = db[USERS]

    async def save(
        self,
        scope: UserScope,
        session_id: str,
        summary: Summary,
        *,
        closed: Collection[str] = (),
        vector: NDArray[np.float32] | None = None,
        model: str | None = None,
    ) -> bool:
        """Store the summary of a call that was stored before, in place of its earlier one.

        The person's open commitments become those of this call, and those of others that were not closed in it; a
        commitment that is closed stays so. Storing it again changes nothing.

        Args:
            scope: whose call it was.
            session_id: the call.
            summary: what it was about.
            closed: ids of commitments of other calls that were kept in this one.
            vector: of `summary.embedded_text`, shape (dimensions,).
            model: the vector's embedding model.

        Returns:
            Whether it was stored; not if the call or the person is gone, of a guest, if something was forgotten since
            the call began, which it might tell, or if it is the caller's own words and a model's is there.
        """
        if scope.is_guest:
            return False
        selector = scope.filter | {"session_id": session_id}
        shown = {"_id": 0, "started_at": 1, "summary.commitments": 1, "summary.by": 1}
        session, person = await asyncio.gather(
            self._encryption.read_one(SESSIONS, lambda: self._sessions.find_one(selector, shown), scope),
            self._encryption.read_one(
                USERS,
                lambda: self._users.find_one(scope.filter, {"_id": 0, "forgotten_at": 1, "commitments": 1}),
                scope,
            ),
        )
        if session is None or person is None:
            return False
        began, before = session.get("started_at") or summary.at, session.get("summary") or {}
        if (person.get("forgotten_at") or datetime.min.replace(tzinfo=began.tzinfo)) >= began:
            return False
        if summary.by == "extract" and before.get("by") == "model":
            return False
        ended = {each.id: each.closed_at for each in commitments_of(before.get("commitments"))}
        kept = [replace(each, closed_at=each.closed_at or ended.get(each.id)) for each in summary.commitments]
        fields = summary_fields(replace(summary, commitments=tuple(kept)))
        cipher = await self._encryption.cipher(scope)
        gist = cipher.seal(gist_place(), fields["text"])
        sealed(cipher, SESSIONS, {"session_id": session_id, "summary": fields})
        if vector is not None and vector.size:
            fields |= _vector_fields(vector, model)
        await operations.write(lambda: self._sessions.update_one(selector, {"$set": {"summary": fields}}))
        expired = await self._expired(scope, commitments_of(person.get("commitments")), session_id)
        if not await self._note(scope, [session_id, *expired], gist, fields["commitments"], closed, began):
            # Something was forgotten meanwhile: whoever did may have looked before this was stored.
            await operations.write(lambda: self._sessions.update_one(selector, _NO_LONGER))
            return False
        if closed:
            await self._mark_closed(scope, closed, summary.at)
        return True

    async def _expired(self, scope: UserScope, open_ones: Iterable[Commitment], session_id: str) -> list[str]:
        """The calls of open commitments whose records are kept no longer: these go as well."""
        names = {each.session_id for each in open_ones if each.session_id} - {session_id}
        if not names:
            return []
        selector = scope.filter | {"session_id": {"$in": list(names)}}
        return list(names - set(await operations.read(lambda: self._sessions.distinct("session_id", selector))))

    async def _note(
        self,
        scope: UserScope,
        replaced: Sequence[str],
        gist: Any,
        commitments: Sequence[Document],
        closed: Collection[str],
        began: datetime,
    ) -> bool:
        """Bring the person's document up to date; returns whether nothing was forgotten since the call began.

        The open commitments of the calls in `replaced`, of which the first is this one, go.
        """
        new = [each for each in commitments if "closed_at" not in each]
        # A person without the time cannot have forgotten anything.
        unforgotten = scope.filter | {"forgotten_at": {"$not": {"$gte": began}}}
        of_this = {"last_session.session_id": replaced[0]}
        requests = [
            UpdateOne(
                unforgotten,
                {
                    "$pull": {
                        "commitments": {"$or": [{"session_id": {"$in": replaced}}, {"id": {"$in": list(closed)}}]}
                    },
                    "$inc": {"memory_version": 1},
                },
            ),
            UpdateOne(
                unforgotten,
                {"$push": {"commitments": {"$each": new, "$sort": {"made_at": 1}, "$slice": -MAX_OPEN}}},
            ),
            UpdateOne(
                unforgotten | of_this,
                {"$set": {"last_session.gist": gist}} if gist else {"$unset": {"last_session": ""}},
            ),
        ]
        result = await operations.write(lambda: self._users.bulk_write(requests))
        return result.matched_count > 0

    async def set_vector(
        self, scope: UserScope, session_id: str, summary: Summary, vector: NDArray[np.float32], model: str
    ) -> bool:
        """Store the vector of a summary, unless another one took its place; returns whether it was stored.

        One of no numbers is not: no search index covers summaries, so that MongoDB would not make another.
        """
        if not vector.size:
            return False
        fields = {f"summary.{name}": value for name, value in _vector_fields(vector, model).items()}
        selector = scope.filter | {"session_id": session_id}
        text: Any = summary_fields(summary)["text"]
        if self._encryption.is_on:  # its ciphertext tells nothing: it is looked for as it was read
            shown = {"_id": 0, "session_id": 1, "summary.text": 1}
            stored = await operations.read(lambda: self._sessions.find_one(selector, shown))
            raw = ((stored or {}).get("summary") or {}).get("text")
            opened = await self._encryption.open(SESSIONS, [stored] if stored else [], scope)
            if not opened or (opened[0].get("summary") or {}).get("text") != text:
                return False
            text = raw
        selector |= {"summary.text": text}
        result = await operations.write(lambda: self._sessions.update_one(selector, {"$set": fields}))
        return result.matched_count == 1

    async def close(self, scope: UserScope, ids: Collection[str], at: datetime) -> int:
        """Close commitments: they were kept at `at`, or are no longer wanted. Returns how many were open."""
        wanted = list(dict.fromkeys(ids))
        there = {each.id for each in await self.open(scope)} & set(wanted)
        change = {"$pull": {"commitments": {"id": {"$in": wanted}}}, "$inc": {"memory_version": 1}}
        if there:
            await operations.write(lambda: self._users.update_one(scope.filter, change))
        return max(len(there), await self._mark_closed(scope, wanted, at))

    async def _mark_closed(self, scope: UserScope, ids: Collection[str], at: datetime) -> int:
        """Note in the calls' summaries that these commitments are closed, unless they were before."""
        is_meant = {"id": {"$in": list(ids)}, "closed_at": {"$exists": False}}
        selector = scope.filter | {"summary.commitments": {"$elemMatch": is_meant}}
        result = await operations.write(
            lambda: self._sessions.update_many(
                selector,
                {"$set": {"summary.commitments.$[one].closed_at": at}},
                array_filters=[{f"one.{name}": value for name, value in is_meant.items()}],
            )
        )
        return result.modified_count

    async def open(self, scope: UserScope) -> tuple[Commitment, ...]:
        """The person's open commitments, the oldest first."""
        shown = {"_id": 0, "commitments": 1}
        document = await self._encryption.read_one(USERS, lambda: self._users.find_one(scope.filter, shown), scope)
        return commitments_of((document or {}).get("commitments"))

    async def of_person(
        self,
        scope: UserScope,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        vectors: bool = False,
        limit: int = MAX_CALLS,
    ) -> list[PastCall]:
        """The person's calls that have a summary with a text, newest first.

        Args:
            scope: the person.
            since: that began at this time or later.
            until: that began before this time.
            vectors: read the summaries' vectors as well.
            limit: at most this many.
        """
        bounds = {name: moment for name, moment in (("$gte", since), ("$lt", until)) if moment is not None}
        selector = scope.filter | _HAS_SUMMARY | ({"started_at": bounds} if bounds else {})
        shown = ("text", "at", "topics", "commitments", "by", *(("embedding", "embedding_model") if vectors else ()))
        fields = {"_id": 0, "session_id": 1, "started_at": 1} | {f"summary.{name}": 1 for name in shown}
        documents = await self._encryption.read(
            SESSIONS,
            lambda: self._sessions.find(selector, fields, sort=[("started_at", -1)], limit=limit).to_list(),
            scope,
        )
        calls = [_past_call(document) for document in documents]
        return [call for call in calls if call and call.summary.text]

    async def forget(self, scope: UserScope, words: Iterable[str] | None, *, before: datetime | None = None) -> int:
        """Delete the summaries, and the open commitments, that share a content word with what is forgotten.

        A call that has not ended stores no summary.

        Args:
            scope: the person.
            words: the texts that are forgotten, such as labels and contents; None deletes all.
            before: keep the summaries of calls that began later, and commitments that were made later.

        Returns:
            How many summaries were deleted.
        """
        gone = None if words is None else stems(words)

        def tells(at: datetime | None, *texts: str) -> bool:
            return (before is None or at is None or at < before) and (gone is None or bool(gone & stems(texts)))

        unended = scope.filter | {"status": {"$ne": SessionStatus.COMPLETE.value}}
        # First, so that a session which ends meanwhile either sees the mark or is among those that are read.
        _, opened = await asyncio.gather(
            operations.write(lambda: self._sessions.update_many(unended, {"$set": {NO_SUMMARY: True}})),
            self.open(scope),
        )
        calls = await self.of_person(scope, limit=0)
        names = [call.session_id for call in calls if tells(call.started_at, call.summary.embedded_text)]
        await self.drop(scope, names)
        ids = [each.id for each in opened if tells(each.made_at, each.text)]
        if ids:
            change = {"$pull": {"commitments": {"id": {"$in": ids}}}, "$inc": {"memory_version": 1}}
            await operations.write(lambda: self._users.update_one(scope.filter, change))
        return len(names)

    async def drop(self, scope: UserScope, session_ids: Sequence[str]) -> None:
        """Delete the summaries of these calls; their records stay."""
        for start in range(0, len(session_ids), _BATCH):
            selector = scope.filter | {"session_id": {"$in": list(session_ids[start : start + _BATCH])}}
            await operations.write(functools.partial(self._sessions.update_many, selector, _NO_LONGER))

    async def drop_commitment(self, scope: UserScope, name: str) -> bool:
        """Delete an open commitment wherever it is; returns whether there was one of that id."""
        change = {"$pull": {"commitments": {"id": name}}, "$inc": {"memory_version": 1}}
        found = await operations.write(lambda: self._users.update_one(scope.filter | {"commitments.id": name}, change))
        told = scope.filter | {"summary.commitments.id": name}
        # With the vector, which was made of it, too.
        changes: Document = {
            "$pull": {"summary.commitments": {"id": name}},
            "$unset": dict.fromkeys(VECTOR, ""),
        }
        await operations.write(lambda: self._sessions.update_many(told, changes))
        return found.matched_count == 1


def _vector_fields(vector: NDArray[np.float32], model: str | None) -> Document:
    from lkmongo.embed.vectors import to_bson

    return {"embedding": to_bson(vector), "embedding_model": model}


def _past_call(document: Document) -> PastCall | None:
    found = document["summary"]
    summary = summary_of(found, at=document.get("started_at"))
    if summary is None:
        return None
    return PastCall(
        str(document.get("session_id", "")),
        document.get("started_at"),
        summary,
        found.get("embedding"),
        found.get("embedding_model"),
    )
