"""Take back what a session has stored for a person who turns out not to be the one who spoke.

What it wrote of a slot goes, also where somebody has written since, and what was true before it is true again as if it
had never been written; what other sessions wrote stays. For each value names the session it is from.

What leaves no trace cannot be taken back: a slot that was deleted, a field of the profile that was replaced. An outbox
holds that back as long as it may have to be (`Outbox.hold_back`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from lkmongo.model import Fact, Profile, Turn, TurnKind, UserScope, now
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.encryption import MARK, Encryption, gist_place, slot_place
from lkmongo.store.mongo.schema import MEMORIES, MEMORY_HISTORY, SESSIONS, STAMP, USERS
from lkmongo.store.people.history import MOMENT, content_fields, fact_of
from lkmongo.store.people.person import People

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """What was known of a person before a session wrote anything.

    Attributes:
        slots: by label.
        profile: with the last session's gist, and what they answered when asked for their consent.
    """

    slots: Mapping[str, Fact]
    profile: Profile


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken back.

    Attributes:
        gone: labels of slots that there are no longer.
        back: labels of slots that have the value again which they had before.
        former: how many former values went.
        offers: how many offers of what a guest had told went.
        gist: whether the last session's gist was this session's.
        commitments: how many open commitments were made in it.
    """

    gone: Sequence[str] = ()
    back: Sequence[str] = ()
    former: int = 0
    offers: int = 0
    gist: bool = False
    commitments: int = 0

    def __bool__(self) -> bool:
        return bool(self.gone or self.back or self.former or self.offers or self.gist or self.commitments)


async def known_of(people: People, scope: UserScope) -> Known:
    """What is known of the person now, to be kept until it may be needed."""
    slots = await people.memories.contents(scope)
    return Known({each.memory_type: each for each in slots}, await people.users.get(scope) or Profile(scope))


def without_data(turn: Turn) -> Turn:
    """The turn without what a tool was given and has returned: the data of somebody who was not the one who spoke."""
    return turn if turn.kind is not TurnKind.TOOL else replace(turn, arguments=None, output=None)


async def take_back(people: People, scope: UserScope, session_id: str, before: Known | None = None) -> Taken:
    """Undo what a session has stored for a person; what others have stored meanwhile stays.

    It can be repeated, also after it was interrupted. It creates no document, so that it may run beside an erasure.

    Args:
        people: the store.
        scope: for whom the session has stored it.
        session_id: the session, which writes nothing for them any more.
        before: what was known when it began; without it, an earlier gist does not come back.

    Raises:
        DatabaseError: MongoDB failed; some of it may be taken back.
    """
    work = _Work(people, scope, session_id, before)
    for label in await work.labels():
        while not await work.slot(label):
            pass  # somebody wrote it meanwhile
    offers, gist, commitments = await work.offers(), await work.gist(), await work.commitments()
    await work.record()
    taken = Taken(tuple(work.gone), tuple(work.back), work.former, offers, gist, commitments)
    if taken or work.changed:
        await operations.write(lambda: people.db[USERS].update_one(scope.filter, {"$inc": {"memory_version": 1}}))
    return taken


@dataclass(slots=True)
class _Version:
    """A value that a slot has, or had, and how it is to be; `document` is it as it was read."""

    document: Document
    began: datetime
    until: datetime | None
    source: Document | None
    again: Document | None
    updated_at: datetime | None
    dates: Any
    ended_at: datetime | None = None

    @classmethod
    def of(cls, document: Document) -> _Version:
        updated_at = document.get("updated_at")
        began = document.get("valid_from") or updated_at or now()
        until, source, again = (document.get(name) for name in ("valid_to", "source", "again"))
        return cls(document, began, until, source, again, updated_at, document.get("dates"), document.get("ended_at"))

    @property
    def content(self) -> Any:
        return self.document["content"]

    def is_double_of(self, slot: _Version) -> bool:
        """Whether it is the same value, which was the slot's again when it had not gone yet."""
        is_same = self.updated_at == slot.updated_at or self.began >= slot.began
        return is_same and self.content == slot.content

    @property
    def stored(self) -> Document:
        """The fields that may have changed; None are those to be removed."""
        return {
            "valid_from": self.began,
            "source": self.source,
            "again": self.again,
            "updated_at": self.updated_at,
            "dates": self.dates,
        }


@dataclass(slots=True)
class _Plan:
    """What becomes of a label: who has the slot, which former values change, which go."""

    slot: _Version | None = None
    former: list[_Version] = field(default_factory=list)
    gone: list[_Version] = field(default_factory=list)
    changes: bool = False


class _Work:
    """One run of `take_back`."""

    def __init__(self, people: People, scope: UserScope, session_id: str, before: Known | None) -> None:
        self.gone: list[str] = []
        self.back: list[str] = []
        self.former = 0
        self.changed = False
        self._people = people
        self._scope = scope
        self._session_id = session_id
        self._before = before
        self._encryption = Encryption.of(people.db)
        self._memories = people.db[MEMORIES]
        self._history = people.db[MEMORY_HISTORY]
        self._users = people.db[USERS]

    async def labels(self) -> list[str]:
        """Of the slots, and of what is true no longer, that the session has written or said again."""
        own = [{f"{name}.session_id": self._session_id} for name in ("source", "again", "former.source")]
        here = self._scope.filter | {"$or": own}
        found = await operations.read(lambda: self._memories.distinct("memory_type", here))
        once = here | {"valid_to": {"$exists": True}}
        return sorted({*found, *await operations.read(lambda: self._history.distinct("memory_type", once))})

    async def slot(self, label: str) -> bool:
        """Take back what was written of one slot; False if it changed meanwhile."""
        await self._people.history.settle(self._scope, label)
        selector = self._scope.filter | {"memory_type": label}
        slot = await self._encryption.read_one(
            MEMORIES, lambda: self._memories.find_one(selector, {"embedding": 0}), self._scope
        )
        once = selector | {"valid_to": {"$exists": True}}
        former = await self._encryption.read(
            MEMORY_HISTORY, lambda: self._history.find(once).sort("valid_from", 1).to_list(), self._scope
        )
        if slot is not None and slot.get("former"):
            return False
        plan = self._plan(label, slot, former)
        if not plan.changes:
            return True
        if slot is not None and not await self._write_slot(slot, plan):
            return False
        for version in plan.former:
            await self._write_former(version)
        ids = [each.document["_id"] for each in plan.gone if "valid_to" in each.document]
        if ids:
            of_these = self._scope.filter | {"_id": {"$in": ids}}
            self.former += (await operations.write(lambda: self._history.delete_many(of_these))).deleted_count
        if plan.slot is not None:
            # The mark of a slot that is being taken back, so that it is found again until all of it is.
            mark = selector | {"again.session_id": self._session_id}
            kept = {"$set": {"again": plan.slot.again}} if plan.slot.again is not None else {"$unset": {"again": ""}}
            await operations.write(lambda: self._memories.update_one(mark, kept))
        self.changed = True
        return True

    # ---------------------------------------------------------------- what becomes of a label

    def _plan(self, label: str, slot: Document | None, former: Sequence[Document]) -> _Plan:
        plan, known = _Plan(), self._before.slots.get(label) if self._before else None
        versions = [_Version.of(each) for each in former]
        if slot is not None:
            now_true = _Version.of(slot)
            # A run that was interrupted has made it the slot's value already.
            doubles = [each for each in versions if each.is_double_of(now_true)]
            plan.gone += doubles
            versions = [*(each for each in versions if each not in doubles), now_true]
        plan.changes = bool(plan.gone)
        last: _Version | None = None
        """The last value that stays."""
        reaches: datetime | None = None
        """Until when nothing else was true than that, and what goes."""
        follows: list[_Version] = []
        """What goes behind it, without a gap."""
        for version in versions:
            began = version.began
            is_adjacent = last is not None and reaches == began
            if self._is_own(version):
                plan.gone.append(version)
                if is_adjacent:
                    follows.append(version)
                    reaches = version.until
                continue
            self._restore(version)
            if last is not None and is_adjacent:
                last.until = version.began
            if last is not None and follows:
                self._close_gap(plan, last, follows, version if is_adjacent else None, known)
            plan.former.append(version)
            last, reaches, follows = version, version.until, []
        if last is not None and follows:
            self._close_gap(plan, last, follows, None, known)
        if last is not None and last.until is None:
            plan.slot = plan.former.pop()
        own = [each for each in (*plan.former, plan.slot) if each and each.stored != _Version.of(each.document).stored]
        plan.changes = plan.changes or bool(plan.gone or own)
        return plan

    def _close_gap(
        self, plan: _Plan, last: _Version, follows: Sequence[_Version], then: _Version | None, known: Fact | None
    ) -> None:
        """Let a value last until `then`, or until what `follows` it and goes had ended."""
        self._widen(last, follows, known)
        last.until = then.began if then else follows[-1].until
        last.ended_at = None if then else follows[-1].ended_at
        if then is not None and last.content == then.content:
            # Without what was between, it was only said again.
            then.again = last.again or (then.source or {}) | {"at": then.began}
            then.source, then.began = last.source, last.began
            if then.until is not None:  # two former values cannot have begun at once, not even in between
                then.document, last.document = last.document, then.document
            plan.former.remove(last)
            plan.gone.append(last)

    def _is_own(self, version: _Version) -> bool:
        """Whether a value is this session's; what somebody else has said again is theirs from then on."""
        if not _is_of(version.source, self._session_id) or _is_of(version.again, self._session_id):
            return False  # with both, it was stored without a source, and got that of who said it again
        if version.again is None:
            return True
        version.began = version.again.get("at", version.began)
        version.source, version.again = (
            {name: each for name, each in version.again.items() if name not in {"at", "was"}} or None,
            None,
        )
        return False

    def _restore(self, version: _Version) -> None:
        """Undo what saying a value again has changed of it."""
        if version.again is None or not _is_of(version.again, self._session_id):
            return
        was, version.again = version.again.get("was"), None
        if _is_of(version.source, self._session_id):
            version.source = None
        if was is not None:
            version.began, version.updated_at = was["valid_from"], was.get("updated_at")

    def _widen(self, version: _Version, follows: Sequence[_Version], known: Fact | None) -> None:
        """Give a value the beginning back that it lost to one said to be true since before it."""
        if version.updated_at and follows[0].began <= version.began + MOMENT and version.updated_at > version.began:
            is_known = known is not None and known.content == version.content
            began = known.valid_from if is_known and known is not None else None
            version.began = began or version.updated_at

    # ---------------------------------------------------------------- how it is stored

    async def _write_slot(self, slot: Document, plan: _Plan) -> bool:
        as_read = self._scope.filter | {
            "_id": slot["_id"],
            "updated_at": slot.get("updated_at", {"$exists": False}),
            "again": slot.get("again", {"$exists": False}),
        }
        label, version = slot["memory_type"], plan.slot
        if version is None:
            deleted = await operations.write(lambda: self._memories.delete_one(as_read))
            self.gone += [label] if deleted.deleted_count else []
            return bool(deleted.deleted_count)
        fields = {name: value for name, value in version.stored.items() if value is not None}
        fields |= {"again": {"session_id": self._session_id}, "updated_at": version.updated_at or version.began}
        before = max((each.until for each in plan.former if each.until), default=None)
        fields |= {"former_until": before} if before else {}
        gone = {"source", "dates", "former_until"} - fields.keys()
        is_back = version.document is not slot
        if "dates" in fields:
            fields["dates"] = await self._sealed(label, fields["dates"])
        if is_back:
            fact = fact_of(version.document | {"memory_type": label})
            told = content_fields(fact, await self._encryption.cipher(self._scope))
            fields |= {"content": told["content"]} | ({MARK: told[MARK]} if MARK in told else {}) | STAMP
            gone |= {"embedding", "embedding_model", MARK} - fields.keys()
        change = {"$set": fields} | ({"$unset": dict.fromkeys(gone, "")} if gone else {})
        result = await operations.write(lambda: self._memories.update_one(as_read, change))
        if result.matched_count and is_back:
            self.back.append(label)
            plan.gone.append(version)
        return bool(result.matched_count)

    async def _write_former(self, version: _Version) -> None:
        there = version.document
        fields = version.stored | {"valid_to": version.until, "ended_at": version.ended_at}
        changed = {name: value for name, value in fields.items() if value != there.get(name)}
        if not changed:
            return
        if changed.get("dates"):
            changed["dates"] = await self._sealed(there["memory_type"], changed["dates"])
        change = {
            "$set": {name: value for name, value in changed.items() if value is not None},
            "$unset": {name: "" for name, value in changed.items() if value is None},
        }
        used = {operator: each for operator, each in change.items() if each}
        this = self._scope.filter | {"_id": there["_id"]}
        await operations.write(lambda: self._history.update_one(this, used))

    async def _sealed(self, label: str, dates: Any) -> Any:
        return (await self._encryption.cipher(self._scope)).seal(slot_place("dates", label), dates)

    # ---------------------------------------------------------------- what else it has stored

    async def offers(self) -> int:
        """Delete what a guest told in it and is offered to the person."""
        told = self._scope.filter | {"offered.from": self._session_id}
        return (await operations.write(lambda: self._history.delete_many(told))).deleted_count

    async def gist(self) -> bool:
        """Put the gist of the session before in the place of this one's."""
        of_this = self._scope.filter | {"last_session.session_id": self._session_id}
        last = self._before.profile.last_session if self._before else None
        change: Document = {"$unset": {"last_session": ""}}
        if last:
            told = (await self._encryption.cipher(self._scope)).seal(gist_place(), last.gist)
            name = {"session_id": last.session_id} if last.session_id else {}
            change = {"$set": {"last_session": {"at": last.at, "gist": told} | name}}
        return bool((await operations.write(lambda: self._users.update_one(of_this, change))).matched_count)

    async def commitments(self) -> int:
        """Delete the open commitments that were made in it."""
        made = {"commitments": {"session_id": self._session_id}}
        opened = [
            each for each in await self._people.summaries.open(self._scope) if each.session_id == self._session_id
        ]
        if opened:
            await operations.write(lambda: self._users.update_one(self._scope.filter, {"$pull": made}))
        return len(opened)

    async def record(self) -> None:
        """Drop the summary from the session's record, and what it teaches, as far as it is still theirs."""
        this = self._scope.filter | {"session_id": self._session_id}
        change = {"$unset": {"summary": "", "learning": ""}}
        await operations.write(lambda: self._people.db[SESSIONS].update_one(this, change))


def _is_of(source: Document | None, session_id: str) -> bool:
    return bool(source) and (source or {}).get("session_id") == session_id
