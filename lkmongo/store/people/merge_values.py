"""What a merge does with values: the account's stay, and what the guest had besides is moved, filled in, or offered.

A slot or a profile field that both have with different contents stays as the account has it. What the guest had is
offered (see `offers`), and so is whatever reads as an instruction to the assistant: whoever used the browser before
must not speak to the assistant in the name of the person who logs in.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from lkmongo.confidential import holds_secret
from lkmongo.errors import LkmongoError
from lkmongo.instructions import gives_orders, reads_as_instruction
from lkmongo.model import MAX_SLOTS, Fact, now
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.encryption import profile_place, sealed
from lkmongo.store.mongo.schema import MEMORIES, MEMORY_HISTORY, SCHEMA_VERSION, USERS, VERSION
from lkmongo.store.people.history import add_former
from lkmongo.store.people.merge_steps import BATCH, Steps, time_of
from lkmongo.store.people.offers import Kind, Why, keep_aside
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.people.users import PROFILE_PATHS
from lkmongo.summary import MAX_OPEN

Document = dict[str, Any]

_DUPLICATE = 11000
_OF_THE_ACCOUNT = frozenset(
    {"_id", "tenant_id", "user_id", "created_at", "last_seen_at", "last_session", "forgotten_at"}
    | {"memory_version", VERSION, "commitments", "consent"}
)
"""Fields of a profile that are not filled from the guest's, or in a way of their own."""
_NOT_DECISIVE = frozenset({"_id", "tenant_id", "user_id", "created_at", "last_seen_at", "memory_version", VERSION})
"""Fields of the account's profile that a merge need not have read as they are: they only grow, or never change."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What the guest had and is offered to the account instead of being merged.

    Attributes:
        kind: a memory, or a field of the profile.
        label: of the slot, or the field.
        content: what the guest had, as it may be told.
        kept: what the account has, and keeps; None if it has nothing there.
        why: the account has another value, or it reads as an instruction to the assistant.
    """

    kind: Kind
    label: str
    content: str
    kept: str | None
    why: Why


class FormerValues:
    """The steps of a merge that are about `memory_history`; each is repeatable, and raises the driver's errors.

    Slots are given opened.
    """

    def __init__(self, steps: Steps) -> None:
        self._encryption = steps.encryption
        self._history = steps.db[MEMORY_HISTORY]
        self._guest = steps.guest
        self._login = steps.login
        self._session = steps.session
        self._in_time = steps.in_time

    async def keep(self, slot: Document) -> None:
        """Keep what a slot of the guest said before, which goes because the login's says the same."""
        for entry in slot.get("former") or []:
            await self._add(slot["memory_type"], entry)

    async def take(self, slot: Document) -> list[Document]:
        """What a slot of the guest said before, the oldest first: it goes with the slot into an offer."""
        selector = self._guest.filter | {"memory_type": slot["memory_type"], "valid_to": {"$exists": True}}
        with self._in_time():
            moved = await self._history.find(selector, session=self._session).sort("valid_from", 1).to_list()
        await self._encryption.open(MEMORY_HISTORY, moved, self._guest)
        fields = ("content", "updated_at", "source", "dates", "valid_from", "valid_to")
        former = [*moved, *(slot.get("former") or [])]
        return [{name: each[name] for name in fields if name in each} for each in former]

    async def drop(self, label: str) -> None:
        """Delete what `take` has taken from the collection."""
        with self._in_time():
            await self._history.delete_many(self._guest.filter | {"memory_type": label}, session=self._session)

    async def move(self) -> None:
        """Join the guest's former values to the login's; where they overlap, `History.former` shows the later one.

        One that reads as an instruction to the assistant is deleted: the guest has said something else since.
        """
        with self._in_time():
            found = await self._history.find(self._guest.filter, session=self._session).to_list()
        await self._encryption.open(MEMORY_HISTORY, found, self._guest)
        for entry in found:
            await self._add(entry["memory_type"], entry)
            with self._in_time():
                await self._history.delete_one({"_id": entry["_id"]} | self._guest.filter, session=self._session)

    async def _add(self, label: str, entry: Document) -> None:
        if "offered" not in entry and reads_as_instruction(label, entry["content"]):
            return
        cipher = await self._encryption.cipher(self._login)
        with self._in_time():
            await add_former(self._history, self._login, label, entry, cipher, self._session)


class Values:
    """The steps of a merge that are about slots and profiles; each is repeatable."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.former = FormerValues(steps)
        self.offered: dict[tuple[Kind, str], Offered] = {}
        """What is offered so far, by kind and label."""

    async def settle_slots(self) -> int:
        """Offer or delete the slots of the guest that do not become the login's; returns how many there were.

        Raises:
            LkmongoError: together they have too many.
        """
        shown = {"embedding": 0}
        guest, login = self._steps.guest, self._steps.login
        ours = {slot["memory_type"]: slot async for slot in self._steps.find(MEMORIES, guest, shown)}
        theirs = {slot["memory_type"]: slot async for slot in self._steps.find(MEMORIES, login, shown)}
        await self._steps.encryption.open(MEMORIES, list(ours.values()), guest)
        await self._steps.encryption.open(MEMORIES, list(theirs.values()), login)
        if len(ours.keys() | theirs.keys()) > MAX_SLOTS:
            raise LkmongoError(
                f"together they have {len(ours.keys() | theirs.keys())} memories; {MAX_SLOTS} are allowed",
                hint=f"forget some first: lkmongo memory forget {guest.user_id} --type LABEL",
            )
        gone = []
        for name in sorted(ours):
            slot, kept = ours[name], theirs.get(name)
            if kept and kept["content"] == slot["content"]:
                if not self._steps.dry_run:
                    await self.former.keep(slot)
            elif kept or reads_as_instruction(name, slot["content"]):
                await self._offer("memory", slot, kept["content"] if kept else None)
            else:
                continue
            gone.append(slot)
        return len(gone) if self._steps.dry_run else await self._delete_slots(gone)

    async def _offer(self, kind: Kind, value: Document, kept: str | None) -> None:
        label, content = value["memory_type"], value["content"]
        why: Why = "instruction" if reads_as_instruction(label, content) else "conflict"
        told, still = (each and Fact(label, each).told.content for each in (content, kept))
        self.offered[kind, label] = Offered(kind, label, told or "", still, why)
        if self._steps.dry_run:
            return
        steps = self._steps
        former = await self.former.take(value) if kind == "memory" else []
        await keep_aside(
            steps.db, steps.login, steps.guest.user_id, kind, value, why, former, steps.session, steps.in_time
        )
        if kind == "memory":
            await self.former.drop(label)

    async def _delete_slots(self, slots: Sequence[Document]) -> int:
        """Delete slots unless they changed since they were read: what a session writes meanwhile is newer."""
        deleted = 0
        for batch in operations.batches(slots, BATCH):
            as_read = [{"_id": slot["_id"], "updated_at": slot.get("updated_at")} for slot in batch]
            with self._steps.in_time():
                result = await self._steps.db[MEMORIES].delete_many({"$or": as_read}, session=self._steps.session)
            deleted += result.deleted_count
        return deleted

    async def move_slots(self) -> bool:
        """Move the guest's slots; False if the login has one of the same label by now."""
        if self._steps.session or self._steps.dry_run:
            await self._steps.move(MEMORIES)
            return True
        ids = [slot["_id"] async for slot in self._steps.find(MEMORIES, self._steps.guest, {"_id": 1})]
        change = {"$set": {"user_id": self._steps.login.user_id}}
        for batch in operations.batches(ids, BATCH):
            one_by_one = [UpdateOne(self._steps.guest.filter | {"_id": each}, change) for each in batch]
            try:
                if self._steps.encryption.is_on:
                    await self._steps.move_sealed(MEMORIES, batch)
                    continue
                with self._steps.in_time():
                    await self._steps.db[MEMORIES].bulk_write(one_by_one, ordered=False)
            except BulkWriteError as error:
                if any(each["code"] != _DUPLICATE for each in error.details["writeErrors"]):
                    raise
                return False
        return True

    async def merge_profiles(self) -> list[str]:
        """Fill gaps in the login's profile and delete the guest's; returns the fields that were filled."""
        users, tombstones = self._steps.db[USERS], Tombstones(self._steps.db)
        # Before the profiles, which must not change between being read and written.
        noted = [await tombstones.forgotten_at(person) for person in (self._steps.guest, self._steps.login)]
        guest = await users.find_one(self._steps.guest.filter, session=self._steps.session) or {}
        login = await users.find_one(self._steps.login.filter, session=self._steps.session) or {}
        # What the update is decided by; not the version, which every slot that a session stores increments.
        as_read = self._steps.login.filter | {
            name: deepcopy(login[name]) if name in login else {"$exists": False}
            for name in sorted({*guest, *login, "commitments", "last_session", "forgotten_at"} - _NOT_DECISIVE)
        }
        encryption = self._steps.encryption
        await encryption.open(USERS, [guest], self._steps.guest)
        await encryption.open(USERS, [login], self._steps.login)
        ours, theirs = _flat(guest), _flat(login)
        left_out = await self._offer_fields(ours, theirs, guest.get("changed_at") or {})
        filled = sorted(
            path
            for path in ours
            if path.partition(".")[0] not in _OF_THE_ACCOUNT
            and ours[path]
            and not theirs.get(path)
            and path not in left_out
        )
        change: Document = {path: ours[path] for path in filled}
        # As old as the older of the two, so that an upgrade looks at what was filled.
        change[VERSION] = min((each.get(VERSION, 0) for each in (guest, login) if each), default=SCHEMA_VERSION)
        promised = [each for each in guest.get("commitments") or [] if not _orders(each.get("text"))]
        if both := [*(login.get("commitments") or []), *promised]:
            change["commitments"] = sorted(both, key=lambda each: time_of(each, "made_at"))[-MAX_OPEN:]
        calls = [each.get("last_session") or {} for each in (guest, login)]
        if last := [each for each in calls if each.get("at") and not (each is calls[0] and _orders(each.get("gist")))]:
            change["last_session"] = max(last, key=lambda session: session["at"])
        forgotten = [moment for moment in (guest.get("forgotten_at"), *noted) if moment]
        latest = {"last_seen_at": guest.get("last_seen_at"), "forgotten_at": max(forgotten, default=None)}
        update = {
            "$set": change,
            "$min": {"created_at": guest.get("created_at") or login.get("created_at") or now()},
            "$max": {name: moment for name, moment in latest.items() if moment},
            "$inc": {"memory_version": int(guest.get("memory_version", 0)) + 1},
        }
        if not self._steps.dry_run:
            cipher = await encryption.cipher(self._steps.login)
            sealed(cipher, USERS, change)
            change |= {path: cipher.seal(profile_place(path), change[path]) for path in filled if "fields." in path}
            used = {operator: fields for operator, fields in update.items() if fields}
            with self._steps.in_time():
                # Unless it changed since it was read: a session may have forgotten something; then it is all redone.
                await users.update_one(as_read, used, upsert=True, session=self._steps.session)
                await users.delete_one(self._steps.guest.filter, session=self._steps.session)
        return [path for path in filled if not path.startswith("changed_at")]

    async def _offer_fields(self, ours: Document, theirs: Document, told_at: Document) -> list[str]:
        """Offer the fields of the profile that both have with different contents; returns those to leave empty."""
        instructions = []
        for path, content in ours.items():
            field = _FIELDS.get(path, path.removeprefix("fields.") if path.startswith("fields.") else None)
            kept = theirs.get(path)
            if field is None or not isinstance(content, str) or not content or kept == content or holds_secret(content):
                continue
            is_instruction = reads_as_instruction(field, content)
            if kept or is_instruction:
                value = {"memory_type": field, "content": content, "updated_at": told_at.get(field)}
                await self._offer("profile", value, kept if isinstance(kept, str) else None)
            if is_instruction:
                instructions.append(path)
        return instructions


_FIELDS = {path: field for field, path in PROFILE_PATHS.items()}


def _orders(text: object) -> bool:
    return isinstance(text, str) and gives_orders(text)


def _flat(document: Document) -> Document:
    """A profile's fields by path; `preferences` and `fields` are nested."""
    nested = ("preferences", "fields")
    rest = {name: value for name, value in document.items() if name not in nested}
    for outer in nested:
        rest |= {f"{outer}.{name}": value for name, value in (document.get(outer) or {}).items()}
    return rest
