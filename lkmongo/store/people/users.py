"""Profiles: one document a person, created when they are first seen; and which web visitor's browser is whose.

A browser is known by the hash of a secret that only its cookie holds.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import available_timezones

from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.confidential import holds_secret, without_secrets
from lkmongo.errors import InvalidTextError, SecretError
from lkmongo.model import PROFILE_FIELDS, LastSession, Profile, TenantScope, UserScope, clean_text, now
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import USERS, VISITORS
from lkmongo.store.people.tombstones import Tombstones

_PATHS = {
    "name": "name",
    "email": "email",
    "preferred_language": "preferences.language",
    "timezone": "preferences.timezone",
}
_MAX_FIELD = 200
COUNTED = 10_000
"""People that a list counts; of more it says that there are more, so that its first page does not take ever longer."""


def check_profile_value(field: str, value: object) -> str:
    """Return `value` as it is stored in a profile's `field`.

    Raises:
        InvalidTextError: the field is not one of `PROFILE_FIELDS`, or the value cannot be one of its kind; the
            message can be read out to the caller.
        SecretError: the value tells a secret.
    """
    if field not in PROFILE_FIELDS:
        raise InvalidTextError(f"{field!r} is not a profile field; these are: {', '.join(PROFILE_FIELDS)}")
    if not isinstance(value, str):
        raise InvalidTextError(f"the {field} must be text")
    text = " ".join(clean_text(value).split())
    if not text:
        raise InvalidTextError(f"the {field} is empty")
    if len(text) > _MAX_FIELD:
        raise InvalidTextError(f"the {field} has {len(text)} characters; {_MAX_FIELD} are allowed")
    if not text.isprintable():
        raise InvalidTextError(f"the {field} holds control characters")
    if holds_secret(text):
        raise SecretError
    if field == "email":
        return _email(text)
    if field == "timezone":
        return _timezone(text)
    return text


def _email(text: str) -> str:
    if not re.fullmatch(r"[^\s@<>\"',;()]+@[^\s@<>\"',;()]+\.[^\s@<>\"',;().]{2,}", text):
        raise InvalidTextError(f"{text} does not look like an e-mail address")
    return text


@functools.cache
def _zones() -> dict[str, str]:
    """Every IANA zone by its name and by its city, in small letters; reading them takes tens of milliseconds."""
    names = sorted(available_timezones())
    return {name.rpartition("/")[2].casefold(): name for name in reversed(names)} | {n.casefold(): n for n in names}


def _timezone(text: str) -> str:
    zone = _zones().get(text.casefold().replace(" ", "_"))
    if zone:
        return zone
    raise InvalidTextError(f"{text} is not a time zone I know; one looks like Europe/Berlin")


def _not_after(path: str, at: datetime) -> dict[str, Any]:
    return {"$or": [{path: {"$exists": False}}, {path: {"$lte": at}}]}


def _told(value: str | None) -> str | None:
    """A field as it may be told: a secret that was stored when it was not refused yet is left out."""
    return None if value and holds_secret(value) else value


def _forgetting(at: datetime) -> dict[str, Any]:
    return {"$unset": {"last_session": True}, "$max": {"forgotten_at": at}, "$inc": {"memory_version": 1}}


def _profile(scope: UserScope, document: dict[str, Any] | None) -> Profile:
    document = document or {}
    preferences = document.get("preferences") or {}
    last = document.get("last_session") or {}
    gist = without_secrets(last.get("gist") or "")
    return Profile(
        scope,
        name=_told(document.get("name")),
        email=_told(document.get("email")),
        preferred_language=_told(preferences.get("language")),
        timezone=preferences.get("timezone"),
        created_at=document.get("created_at"),
        last_seen_at=document.get("last_seen_at"),
        last_session=LastSession(last["at"], gist) if last.get("at") and gist else None,
        memory_version=document.get("memory_version", 0),
    )


class Users:
    """The collection `users`, one person at a time."""

    def __init__(self, db: AsyncDatabase[dict[str, Any]]) -> None:
        """Work on `db`."""
        self._users = db[USERS]
        self._tombstones = Tombstones(db)

    async def seen(self, scope: UserScope) -> Profile:
        """Note that the person is here, make their document when it is missing, and return the profile."""
        moment = now()
        update = {"$set": {"last_seen_at": moment}}

        async def note() -> dict[str, Any] | None:
            return await self._users.find_one_and_update(scope.filter, update, return_document=ReturnDocument.AFTER)

        document = await operations.write(note)
        if document is None:
            await self._make(scope, update | {"$setOnInsert": {"created_at": moment, "memory_version": 0}})
            document = await operations.write(note)
        return _profile(scope, document)

    async def get(self, scope: UserScope) -> Profile | None:
        """Return the profile, or None for somebody who was never here."""
        document = await operations.read(lambda: self._users.find_one(scope.filter))
        return _profile(scope, document) if document else None

    async def page(
        self, tenant: TenantScope | None = None, *, after: str | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Ids, names, addresses and times of people in the order of their ids, from after the id `after`.

        Args:
            tenant: whose people; None for all, tenant by tenant.
            after: an id of that tenant.
            limit: how many at most.
        """
        selector: dict[str, Any] = dict(tenant.filter) if tenant else {}
        if after is not None:
            selector["user_id"] = {"$gt": after}
        shown = {"_id": 0, "user_id": 1, "tenant_id": 1, "name": 1, "email": 1, "created_at": 1, "last_seen_at": 1}

        async def find() -> list[dict[str, Any]]:
            cursor = self._users.find(selector, shown).sort([("tenant_id", 1), ("user_id", 1)]).limit(limit)
            return [document async for document in cursor]

        people = await operations.read(find)
        return [
            {name: _told(value) if name in PROFILE_FIELDS else value for name, value in each.items()} for each in people
        ]

    async def count(self, tenant: TenantScope | None = None) -> int:
        """How many people of the tenant, or of all tenants, have a profile; the count stops after `COUNTED` and one."""
        selector = tenant.filter if tenant else {}
        return await operations.read(lambda: self._users.count_documents(selector, limit=COUNTED + 1))

    async def tenants(self) -> list[str]:
        """The ids of the tenants whose people have profiles."""
        return sorted(await operations.read(lambda: self._users.distinct("tenant_id")))

    async def set_field(self, scope: UserScope, field: str, value: object) -> str:
        """Write one profile field and return the value as it is stored.

        Raises:
            InvalidTextError: see `check_profile_value`.
        """
        text = check_profile_value(field, value)
        await self._set(scope, field, text, now())
        return text

    async def set_field_if_newer(self, scope: UserScope, field: str, value: object, at: datetime) -> bool:
        """Write one profile field as it was told at the time `at`, unless it was changed or forgotten since.

        Raises:
            InvalidTextError: see `check_profile_value`.
        """
        text = check_profile_value(field, value)
        newer = _not_after(f"changed_at.{field}", at), _not_after("forgotten_at", at)
        return await self._set(scope, field, text, at, *newer, said_at=at)

    async def fill_field(self, scope: UserScope, field: str, value: object, at: datetime) -> bool:
        """Write one profile field that is empty, and was not forgotten since the time `at`.

        Raises:
            InvalidTextError: see `check_profile_value`.
        """
        text = check_profile_value(field, value)
        is_empty = {_PATHS[field]: {"$exists": False}}
        return await self._set(scope, field, text, at, is_empty, _not_after("forgotten_at", at), said_at=at)

    async def _set(
        self,
        scope: UserScope,
        field: str,
        text: str,
        at: datetime,
        *conditions: dict[str, Any],
        said_at: datetime | None = None,
    ) -> bool:
        update = {
            "$set": {_PATHS[field]: text, f"changed_at.{field}": at},
            "$max": {"last_seen_at": at},
            "$setOnInsert": {"created_at": at},
            "$inc": {"memory_version": 1},
        }
        return await self._change(scope, update, *conditions, said_at=said_at)

    async def _change(
        self, scope: UserScope, update: dict[str, Any], *conditions: dict[str, Any], said_at: datetime | None = None
    ) -> bool:
        """Change the person's document where the conditions hold, and make it where there is none.

        Args:
            scope: the person.
            update: what is changed, with what a new document begins with.
            conditions: queries over the document; without one they hold.
            said_at: when it was said: no document is made where something was forgotten after that.

        Returns:
            Whether that was done.
        """
        selector = scope.filter | ({"$and": list(conditions)} if conditions else {})
        changed = await operations.write(lambda: self._users.update_one(selector, update))
        return bool(changed.matched_count) or await self._make(scope, update, *conditions, said_at=said_at)

    async def _make(
        self, scope: UserScope, update: dict[str, Any], *conditions: dict[str, Any], said_at: datetime | None = None
    ) -> bool:
        """Make the person's document, with the time at which something was forgotten of them before; see `_change`."""
        selector = scope.filter | ({"$and": list(conditions)} if conditions else {})
        forgotten_at = await self._tombstones.forgotten_at(scope)
        if forgotten_at and said_at and forgotten_at >= said_at:
            return False
        if forgotten_at:
            update = update | {"$setOnInsert": update.get("$setOnInsert", {}) | {"forgotten_at": forgotten_at}}

        async def make() -> bool:
            await self._users.update_one(selector, update, upsert=True)
            return True

        made = await operations.upsert(make)
        # Who forgets what this is about did not see it made, and noted that, perhaps after the look above.
        later = await self._tombstones.forgotten_at(scope)
        if later and later != forgotten_at:
            forgetting = _forgetting(later)
            await operations.write(lambda: self._users.update_one(scope.filter, forgetting))
        return made

    async def forgot_after(self, scope: UserScope, at: datetime) -> bool:
        """Whether something of the person was forgotten after the time `at`."""
        document = await operations.read(lambda: self._users.find_one(scope.filter, {"_id": 0, "forgotten_at": 1}))
        if document is None:
            forgotten_at = await self._tombstones.forgotten_at(scope)
        else:
            forgotten_at = document.get("forgotten_at")
        return forgotten_at is not None and forgotten_at > at

    async def memory_version(self, scope: UserScope) -> int:
        """A number that grows with every change of the person's slots and profile."""
        document = await operations.read(lambda: self._users.find_one(scope.filter, {"_id": 0, "memory_version": 1}))
        return int((document or {}).get("memory_version", 0))

    async def touch_memories(self, scope: UserScope) -> None:
        """Tell other processes that the slots changed."""
        await self._change(scope, {"$inc": {"memory_version": 1}, "$setOnInsert": {"created_at": now()}})

    async def forget_profile(self, scope: UserScope, fields: Sequence[str] | None = None) -> list[str]:
        """Delete what the profile tells of the person, and return the fields that it had.

        Args:
            scope: the person.
            fields: of `PROFILE_FIELDS`, those to delete; None for all, and the last call's gist.
        """
        profile = await self.get(scope)
        if profile is None:
            return []
        # The gist goes in any case: what is forgotten could come back through it.
        paths = ["name", "email", "preferences"] if fields is None else [_PATHS[field] for field in fields]
        await operations.write(
            lambda: self._users.update_one(
                scope.filter,
                {
                    "$unset": dict.fromkeys([*paths, "last_session"], ""),
                    "$set": {"forgotten_at": now()},
                    "$inc": {"memory_version": 1},
                },
            )
        )
        return [field for field in fields or PROFILE_FIELDS if getattr(profile, field)]

    async def note_forgotten(self, scope: UserScope, at: datetime) -> None:
        """Take the last call's gist away, and keep calls that are going on from writing theirs.

        Of somebody who has no document none is made, and what they said before is kept from being stored all the same:
        it may wait on the disk of a worker that could not reach MongoDB yet.

        Args:
            scope: the person.
            at: when something was forgotten.
        """
        update = _forgetting(at)
        if (await operations.write(lambda: self._users.update_one(scope.filter, update))).matched_count:
            return
        await self._tombstones.note_forgotten(scope, at)
        await operations.write(lambda: self._users.update_one(scope.filter, update))  # it may have been made meanwhile

    async def forget_last_session(self, scope: UserScope) -> bool:
        """Do as `note_forgotten` does, and return whether there was a gist."""
        moment = now()
        before = await operations.write(
            lambda: self._users.find_one_and_update(scope.filter, _forgetting(moment), projection={"last_session": 1})
        )
        if before is None:
            await self.note_forgotten(scope, moment)
        return bool(before and before.get("last_session"))

    async def set_last_session(self, scope: UserScope, last: LastSession, *, started_at: datetime) -> bool:
        """Store what the next call may know of this one.

        What tells a secret is left out of it. Nothing is stored when nothing else is in it, when something was forgotten
        since the call began, for the gist could hold it, or when a later call has left its own. The profile is made when it is missing: a first call may be over before it is, or may be
        recovered from the disk of a worker that could not reach MongoDB.

        Returns:
            Whether it was stored.
        """
        gist = clean_text(without_secrets(last.gist))
        if not gist:
            return False
        update = {
            "$set": {"last_session": {"at": last.at, "gist": gist}},
            "$max": {"last_seen_at": last.at},
            "$setOnInsert": {"created_at": started_at, "memory_version": 0},
        }
        nothing_forgotten = {"$or": [{"forgotten_at": {"$exists": False}}, {"forgotten_at": {"$lt": started_at}}]}
        no_later_call = _not_after("last_session.at", last.at)
        return await self._change(scope, update, nothing_forgotten, no_later_call, said_at=started_at)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whose browser it is; `ended` when its cookie is good no more."""

    scope: UserScope
    ended: bool


class Visitors:
    """The collection `visitors`, one browser at a time; `key` is the hash of its secret."""

    def __init__(self, db: AsyncDatabase[dict[str, Any]]) -> None:
        """Work on `db`."""
        self._visitors = db[VISITORS]

    async def get(self, key: str) -> Visitor | None:
        """Return whose browser it is, or None when it is not known."""
        return _visitor(await operations.read(lambda: self._visitors.find_one({"_id": key})))

    async def seen(self, key: str) -> Visitor | None:
        """Note that the browser is here, and return whose it is; None, and nothing noted, when it is not known."""
        change = {"$set": {"last_seen_at": now()}}
        return _visitor(
            await operations.write(
                lambda: self._visitors.find_one_and_update({"_id": key}, change, return_document=ReturnDocument.AFTER)
            )
        )

    async def add(self, key: str, scope: UserScope) -> None:
        """Make the browser known as this person's, unless it is known already."""
        moment = now()
        fields = dict(scope.filter) | {"created_at": moment, "last_seen_at": moment}
        await operations.write(lambda: self._visitors.update_one({"_id": key}, {"$setOnInsert": fields}, upsert=True))

    async def end(self, key: str) -> None:
        """Let the browser's cookie be good no more, also where it was copied."""
        change = {"$set": {"ended_at": now()}}
        await operations.write(lambda: self._visitors.update_one({"_id": key}, change))


def _visitor(document: dict[str, Any] | None) -> Visitor | None:
    if document is None:
        return None
    return Visitor(
        UserScope(tenant_id=document["tenant_id"], user_id=document["user_id"]), document.get("ended_at") is not None
    )
