"""What was true of a person and no longer is: the collection `memory_history`.

A value that is replaced stays on its slot, in `former`, by the same write that replaces it: nobody waits for a second
one, and a process that dies in between loses nothing. `settle` moves it to the collection afterwards. Readers look at
both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.model import (
    DateMention,
    Fact,
    FormerFact,
    Source,
    SourceKind,
    UserScope,
    clean_text,
    now,
    slot_name,
    slot_words,
)
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.cipher import PLAIN, AnyCipher
from lkmongo.store.mongo.encryption import MARK, Encryption, sealed, slot_place
from lkmongo.store.mongo.schema import MEMORIES, MEMORY_HISTORY, STAMP
from lkmongo.store.people.users import Users

Document = dict[str, Any]

MOMENT = timedelta(milliseconds=1)
"""The least that a value was true: from a time that is not known to just before the next."""
WAITING: Document = {"former.0": {"$exists": True}}
"""Slots that still hold former values."""
OFFERED: Document = {"offered": {"$exists": True}}
"""Entries that were never true of the person: see `offers`. They have no `valid_to`."""
FIELD = "profile."
"""Before the label of an offer that is a field of the profile: no slot has such a one."""
_TRUE_ONCE: Document = {"valid_to": {"$exists": True}}
MOST = 1_000
"""Former values of one person that are read."""


def history_fields(valid_from: datetime | None, source: Source | None, dates: Sequence[DateMention]) -> Document:
    """What a value carries besides its content, in documents and in journals; what is unknown is left out."""
    found: Document = {"valid_from": valid_from} if valid_from else {}
    if source:
        values = {"how": source.how, "session_id": source.session_id, "item_id": source.item_id}
        found["source"] = {name: clean_text(value) for name, value in values.items() if value is not None}
    if dates:
        found["dates"] = [
            {"words": clean_text(each.words)} | ({"day": each.day.isoformat()} if each.day else {}) for each in dates
        ]
    return found


def source_of(value: Any) -> Source | None:
    """The source in a document or a journal; None for anything else."""
    if not isinstance(value, Mapping) or value.get("how") not in get_args(SourceKind):
        return None
    session_id, item_id = (each if isinstance(each := value.get(name), str) else None for name in _IDS)
    return Source(value["how"], session_id, item_id)


_IDS = ("session_id", "item_id")
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_NONE = {"$eq": ["$former", []]}


def dates_of(value: Any) -> tuple[DateMention, ...]:
    """The dates in a document or a journal, without those that cannot be read."""
    if not isinstance(value, list | tuple):
        return ()
    entries = [each for each in value if isinstance(each, Mapping) and isinstance(each.get("words"), str)]
    return tuple(DateMention(each["words"], _day(each.get("day"))) for each in entries)


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        return None


def utc(moment: datetime | None) -> datetime | None:
    """A time as read without its zone, which is UTC: five times as fast as `replace`."""
    return datetime.combine(moment, moment.time(), UTC) if moment else None


def replacing(fact: Fact, cipher: AnyCipher, *, stated: bool) -> list[Document]:
    """The pipeline of an update that writes a slot, and keeps another value that was there in `former`.

    Intervals never overlap: a value that is said to be true since before the one it replaces was known begins then,
    but not before the last former value ended; what it replaces was true just before.

    Args:
        fact: the slot; `updated_at` is when it was said.
        cipher: the person's; its mark tells whether the slot says the same.
        stated: whether `valid_from` was said; else it is true since it was said, or as long as the same value is.
    """
    began, ended, replaces = "$_lk.began", "$former_until", {"$eq": ["$_lk.is", "changed"]}
    is_same = {"$eq": ["$_lk.is", "same"]}
    mark = cipher.mark(slot_place("content", fact.memory_type), fact.content)
    is_told = {"$eq": ["$content", {"$literal": fact.content}]}
    told_before = {"$or": [is_told, {"$eq": [f"${MARK}", mark]}]} if mark else is_told
    kind = {
        "$switch": {
            "branches": [
                {"case": {"$eq": [{"$type": "$content"}, "missing"]}, "then": "new"},
                {"case": told_before, "then": "same"},
            ],
            "default": "changed",
        }
    }
    if stated:
        # A missing `former_until` is null, which `$max` ignores.
        start: Any = {"$max": [fact.valid_from, {"$add": [ended, {"$cond": [replaces, 1, 0]}]}]}
    else:
        later = {"$max": [fact.updated_at, {"$add": [began, 1]}]}
        start = {"$switch": {"branches": [{"case": replaces, "then": later}, {"case": is_same, "then": began}],
                             "default": fact.updated_at}}  # fmt: skip
    kept = {name: f"${name}" for name in ("content", "updated_at", "source", "dates", "again")}
    former = kept | {"valid_from": {"$min": [began, {"$subtract": ["$_lk.start", 1]}]}, "valid_to": "$_lk.start"}
    fields = content_fields(fact, cipher)
    # By whom it was said first, but not by another attempt to store the same.
    session_id = {"$literal": fact.source.session_id} if fact.source else None
    is_another = {"$and": [{"$ne": ["$source.session_id", session_id]}, {"$lt": ["$updated_at", fact.updated_at]}]}
    was = {"at": fact.updated_at, "was": {"valid_from": began, "updated_at": "$updated_at"}}
    again = {"$cond": [is_another, {"$mergeObjects": ["$_lk.by", was]}, "$$REMOVE"]}
    return [
        {
            "$set": {
                "_lk": {
                    "is": kind,
                    "began": {"$ifNull": ["$valid_from", {"$ifNull": ["$updated_at", fact.updated_at]}]},
                    "by": {"$literal": fields["source"]} if fact.source else "$$REMOVE",
                }
            }
        },
        {"$set": {"_lk.start": start}},
        {
            "$set": {
                "former": {"$cond": [replaces, {"$concatArrays": [{"$ifNull": ["$former", []]}, [former]]}, "$former"]},
                "former_until": {"$cond": [replaces, "$_lk.start", "$former_until"]},
                "content": {"$literal": fields["content"]},
                MARK: fields.get(MARK, "$$REMOVE"),
                "label_words": slot_words(fact.memory_type),
                "valid_from": "$_lk.start",
                "updated_at": fact.updated_at,
                "created_at": {"$ifNull": ["$created_at", fact.updated_at]},
                # Said again, it is still known from where it was first.
                "source": {"$cond": [is_same, {"$ifNull": ["$source", "$_lk.by"]}, "$_lk.by"]},
                # By whom, as it stays if the first turns out to have been somebody else: see `take_back`.
                "again": {"$cond": [is_same, {"$ifNull": ["$again", again]}, "$$REMOVE"]},
                "dates": {"$literal": fields["dates"]} if fact.dates else "$$REMOVE",
                # The old vector would find what it no longer says.
                "embedding": {"$cond": [is_same, "$embedding", "$$REMOVE"]},
                "embedding_model": {"$cond": [is_same, "$embedding_model", "$$REMOVE"]},
            }
            | STAMP
        },
        {"$unset": "_lk"},
    ]


def content_fields(fact: Fact, cipher: AnyCipher) -> Document:
    """What a slot says, as it is stored, without its times."""
    place = slot_place("content", fact.memory_type)
    fields = {"content": fact.content} | history_fields(None, fact.source, fact.dates)
    mark = cipher.mark(place, fact.content)
    return sealed(cipher, MEMORIES, fields | {"memory_type": fact.memory_type}) | ({MARK: mark} if mark else {})


@dataclass(frozen=True, slots=True)
class Undone:
    """The value that is true again, and the one that was instead, if any."""

    fact: Fact
    instead_of: Fact | None


class History:
    """The collection `memory_history`, and the former values that slots still hold."""

    def __init__(self, db: AsyncDatabase[Document]) -> None:
        self._history = db[MEMORY_HISTORY]
        self._memories = db[MEMORIES]
        self._encryption = Encryption.of(db)
        self._users = Users(db)

    async def former(self, scope: UserScope, label: str | None = None) -> list[FormerFact]:
        """The values that are no longer true, as stored, newest first; of two intervals that overlap, the later wins.

        Raises:
            InvalidTextError: not a valid label.
        """
        return (await self.read(scope, label))[0]

    async def read(self, scope: UserScope, label: str | None = None) -> tuple[list[FormerFact], bool]:
        """As `former`, and whether slots still hold some; one request."""
        selector = scope.filter | ({"memory_type": slot_name(label)} if label is not None else {})
        # The slots first: what moves meanwhile is then seen twice rather than not at all.
        moved: list[Document] = [{"$match": selector | _TRUE_ONCE}, {"$sort": {"valid_to": -1}}, {"$limit": MOST}]
        pipeline: list[Document] = [
            {"$match": selector | WAITING},
            {"$project": {"_id": 0, "memory_type": 1, "former": 1}},
            {"$unionWith": {"coll": MEMORY_HISTORY, "pipeline": moved}},
        ]

        async def find() -> list[Document]:
            return await (await self._memories.aggregate(pipeline)).to_list()

        documents = await self._encryption.read(MEMORIES, find, scope)
        slots = [each for each in documents if "former" in each]
        return joined([*(each for each in documents if "former" not in each), *_waiting(slots)]), bool(slots)

    async def settle(self, scope: UserScope, label: str | None = None) -> int:
        """Move the former values that slots still hold, of one slot or all; returns how many.

        It can be repeated, and run by several at once. A session runs it under its lease, as it creates documents.
        """
        selector = scope.filter | ({"memory_type": slot_name(label)} if label is not None else {})
        shown = {"memory_type": 1, "former": 1}
        slots = await operations.read(lambda: self._memories.find(selector | WAITING, shown).to_list())
        moved = 0
        for slot in slots:
            for entry in slot["former"]:
                moved += await self._move(scope, slot, entry)
        if label is not None:
            await self._keep_apart(selector)
        return moved

    async def _move(self, scope: UserScope, slot: Document, entry: Document) -> bool:
        key = scope.filter | {"memory_type": slot["memory_type"], "valid_from": entry["valid_from"]}
        stored = await self._put(key, entry)
        this = {"_id": slot["_id"], "former.valid_from": entry["valid_from"]} | scope.filter
        others: Document = {
            "$filter": {"input": "$former", "cond": {"$ne": ["$$this.valid_from", entry["valid_from"]]}}
        }
        taken: list[Document] = [
            {"$set": {"former": others}},
            {"$set": {"former": {"$cond": [_NONE, "$$REMOVE", "$former"]}}},
        ]
        if (await operations.write(lambda: self._memories.update_one(this, taken))).modified_count:
            return True
        if stored.upserted_id is not None:
            # Nobody had moved it, and the slot no longer holds it: it was forgotten, or its person became another.
            await operations.write(lambda: self._history.delete_one({"_id": stored.upserted_id}))
        return False

    async def _put(self, key: Document, entry: Document) -> Any:
        fields = {name: value for name, value in entry.items() if name not in key} | STAMP

        async def put() -> Any:
            return await self._history.update_one(key, {"$set": fields}, upsert=True)

        return await operations.upsert(put)

    async def _keep_apart(self, selector: Document) -> None:
        """Let a slot that was written anew after its fact had ended begin when that had."""
        newest = await operations.read(
            lambda: self._history.find_one(selector | _TRUE_ONCE, {"valid_to": 1}, sort=[("valid_to", -1)])
        )
        if newest:
            until = newest["valid_to"]
            change = [{"$set": {"valid_from": {"$max": ["$valid_from", until]}, "former_until": until}}]
            unknown = selector | {"former_until": {"$exists": False}, "valid_from": {"$exists": True}}
            await operations.write(lambda: self._memories.update_one(unknown, change))

    async def end(self, scope: UserScope, label: str, at: datetime, valid_to: datetime | None = None) -> bool:
        """Move a slot whose fact is no longer true, unless it was written after `at`.

        Args:
            scope: the person.
            label: of the slot.
            at: when that was said.
            valid_to: since when it is not true; by default `at`.

        Returns:
            Whether there was such a slot.

        Raises:
            InvalidTextError: not a valid label.
        """
        selector = scope.filter | {"memory_type": slot_name(label)}
        not_newer = {"$or": [{"updated_at": {"$exists": False}}, {"updated_at": {"$lte": at}}]}
        slot = await operations.read(lambda: self._memories.find_one(selector | not_newer, {"embedding": 0}))
        if slot is None:
            return False
        for entry in slot.get("former") or []:
            await self._put(selector | {"valid_from": entry["valid_from"]}, entry)
        until = min(valid_to, at) if valid_to else at
        if (ended_before := slot.get("former_until")) is not None:
            until = max(until, ended_before + MOMENT)
        entry = former_of(slot, until)
        await self._put(selector | {"valid_from": entry["valid_from"]}, entry | {"ended_at": at})
        as_read = scope.filter | {"_id": slot["_id"], "updated_at": slot.get("updated_at")}
        deleted = await operations.write(lambda: self._memories.delete_one(as_read))
        await self._users.touch_memories(scope)
        return bool(deleted.deleted_count)

    async def add(self, scope: UserScope, former: FormerFact) -> None:
        """Add a former value that was never a slot here, unless it is there."""
        entry = {"content": former.content, "updated_at": former.updated_at, "valid_to": former.valid_to}
        entry |= history_fields(former.valid_from, former.source, former.dates)
        cipher = await self._encryption.cipher(scope)
        await operations.write(lambda: add_former(self._history, scope, former.memory_type, entry, cipher))
        await self.settle(scope, former.memory_type)
        await self._users.touch_memories(scope)

    async def ended_after(self, scope: UserScope, label: str, at: datetime) -> bool:
        """Whether the fact with this label ended after `at`: what was said before must not come back as true."""
        selector = scope.filter | {"memory_type": slot_name(label), "ended_at": {"$gt": at}}
        return await operations.read(lambda: self._history.find_one(selector, {"_id": 1})) is not None

    async def undo(self, scope: UserScope, label: str) -> Undone | None:
        """Make the last former value of a label the current one again, in place of what replaced it.

        What replaced it was wrong, so it does not become a former value.

        Returns:
            None if there is no former value.

        Raises:
            InvalidTextError: not a valid label.
        """
        selector = scope.filter | {"memory_type": slot_name(label)}
        while True:
            await self.settle(scope, label)
            slot = await self._encryption.read_one(
                MEMORIES, lambda: self._memories.find_one(selector, {"embedding": 0}), scope
            )
            found = await self._newest(scope, selector)
            if slot and found and found[0]["valid_from"] >= slot.get("valid_from", found[0]["valid_to"]):
                # An undo that was interrupted had brought it back already.
                await self._delete_one(found[0])
                continue
            if not found:
                return None
            last, *before = found
            fact = fact_of(last | {"updated_at": now()})
            if await self._bring_back(scope, slot, fact, before):
                await self._delete_one(last)
                await self._users.touch_memories(scope)
                return Undone(fact, fact_of(slot) if slot else None)

    async def _newest(self, scope: UserScope, selector: Document) -> list[Document]:
        """The last two former values."""
        entries = selector | _TRUE_ONCE
        return await self._encryption.read(
            MEMORY_HISTORY, lambda: self._history.find(entries).sort("valid_from", -1).limit(2).to_list(), scope
        )

    async def _delete_one(self, entry: Document) -> None:
        await operations.write(lambda: self._history.delete_one({"_id": entry["_id"]}))

    async def _bring_back(
        self, scope: UserScope, slot: Document | None, fact: Fact, before: Sequence[Document]
    ) -> bool:
        """Write a former value to its slot unless that changed since it was read."""
        fields = content_fields(fact, await self._encryption.cipher(scope)) | STAMP
        selector = scope.filter | {"memory_type": fields.pop("memory_type")}
        fields |= {"label_words": slot_words(fact.memory_type), "updated_at": fact.updated_at}
        fields |= history_fields(fact.valid_from, None, ())
        # As `Memories.remember` keeps them.
        fields |= {"former_until": before[0]["valid_to"]} if before else {}
        gone = {"embedding", "embedding_model", "source", "dates", "again", "former_until", MARK} - fields.keys()
        change = {"$set": fields, "$unset": dict.fromkeys(gone, ""), "$setOnInsert": {"created_at": fact.updated_at}}
        as_read = selector | {"updated_at": slot["updated_at"] if slot and "updated_at" in slot else {"$exists": False}}

        async def write() -> bool:
            result = await self._memories.update_one(as_read, change, upsert=slot is None)
            return bool(result.matched_count) or result.upserted_id is not None

        return await operations.upsert(write)

    async def withdraw(
        self, scope: UserScope, labels: Sequence[str] | None = None, *, not_after: datetime | None = None
    ) -> None:
        """Delete the former values that slots still hold, before `delete`: `settle` then moves none that it has read.

        The arguments are those of `delete`.
        """
        said = _said(not_after)
        selector = _of_labels(scope, labels) | WAITING
        await operations.write(lambda: self._memories.update_many(selector, {"$pull": {"former": said}}))

    async def delete_offered_fields(self, scope: UserScope, fields: Sequence[str], *, not_after: datetime) -> None:
        """Delete what is offered as the value of these fields of the profile; see `delete`."""
        labels = {"memory_type": {"$in": [f"{FIELD}{field}" for field in fields]}}
        selector = scope.filter | labels | OFFERED | _said(not_after)
        await operations.write(lambda: self._history.delete_many(selector))

    async def delete(
        self, scope: UserScope, labels: Sequence[str] | None = None, *, not_after: datetime | None = None
    ) -> int:
        """Delete the history of slots, and what is offered as their value.

        Args:
            scope: the person.
            labels: of which slots; None for all.
            not_after: keep what was said after this time.

        Returns:
            How many former values were deleted.
        """
        selector = _of_labels(scope, labels) | _said(not_after)
        return (await operations.write(lambda: self._history.delete_many(selector))).deleted_count


async def add_former(
    history: AsyncCollection[Document],
    scope: UserScope,
    label: str,
    entry: Document,
    cipher: AnyCipher = PLAIN,
    session: AsyncClientSession | None = None,
) -> None:
    """Add a former value, a moment later if there is another one since the same time. Raises the driver's errors.

    `entry` is opened; `cipher` is that of `scope`.
    """
    began, place = entry["valid_from"], slot_place("content", label)
    kept = sealed(cipher, MEMORY_HISTORY, entry | STAMP | {"memory_type": label})
    while True:
        key = scope.filter | {"memory_type": label, "valid_from": began}
        new = {name: value for name, value in kept.items() if name not in key and name != "_id"}
        there = await history.find_one_and_update(key, {"$setOnInsert": new}, upsert=True, session=session)
        if there is None or cipher.open(place, there.get("content")) == entry["content"]:
            return
        began += MOMENT


def _of_labels(scope: UserScope, labels: Sequence[str] | None) -> Document:
    if labels is None:
        return dict(scope.filter)
    names = [slot_name(label) for label in labels]
    return scope.filter | {"memory_type": names[0] if len(names) == 1 else {"$in": names}}


def _said(not_after: datetime | None) -> Document:
    return {"updated_at": {"$not": {"$gt": not_after}}} if not_after else {}


def began_of(slot: Document) -> datetime:
    """Since when a slot is true, as far as is known."""
    began: datetime = slot.get("valid_from") or slot.get("updated_at") or _LONG_AGO
    return began


def former_of(slot: Document, until: datetime) -> Document:
    """The former value that a slot becomes which was true until then."""
    entry = {name: slot[name] for name in ("content", "updated_at", "source", "dates", "again") if name in slot}
    return entry | {"valid_from": min(began_of(slot), until - MOMENT), "valid_to": until}


def fact_of(document: Document) -> Fact:
    """The slot of a document with aware times."""
    return Fact(
        document["memory_type"],
        document["content"],
        document.get("created_at"),
        document.get("updated_at"),
        document.get("valid_from"),
        source_of(document.get("source")),
        dates_of(document.get("dates")),
    )


def joined(documents: Iterable[Document]) -> list[FormerFact]:
    """Former values, newest first: each once, and ended where a later one of its label begins."""
    by_label: dict[str, dict[datetime, Document]] = defaultdict(dict)
    for each in documents:
        if isinstance(each.get("content"), str) and each.get("valid_from") and each.get("valid_to"):
            by_label[each["memory_type"]][each["valid_from"]] = each
    found = []
    for label, entries in by_label.items():
        later = None
        for began in sorted(entries, reverse=True):
            each = entries[began]
            until = min(each["valid_to"], later) if later else each["valid_to"]
            later = began
            source, dates = source_of(each.get("source")), dates_of(each.get("dates"))
            found.append(FormerFact(label, each["content"], began, until, source, each.get("updated_at"), dates))
    return sorted(found, key=lambda former: former.valid_to, reverse=True)


def _waiting(slots: Iterable[Document]) -> Iterator[Document]:
    for slot in slots:
        for entry in slot["former"]:
            yield entry | {"memory_type": slot["memory_type"]}
