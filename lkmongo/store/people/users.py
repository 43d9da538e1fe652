"""Profiles, one document per person; and which browser belongs to whom, by the hash of its cookie's secret."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import available_timezones

from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.confidential import holds_secret, without_secrets
from lkmongo.consent import Consent, consent_of
from lkmongo.declarations import MAX_FIELD, ProfileField, declared
from lkmongo.errors import InvalidTextError, NewerVersionError, SecretError
from lkmongo.model import PROFILE_FIELDS, LastSession, Profile, TenantScope, UserScope, clean_text, now
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.encryption import Encryption, gist_place, profile_place
from lkmongo.store.mongo.schema import STAMP, USERS, VISITORS, is_newer
from lkmongo.store.people.admission import Admission
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.sessions.documents import commitments_of
from lkmongo.ticket import VISITOR_PREFIX, Ticket

PROFILE_PATHS = {
    "name": "name",
    "email": "email",
    "preferred_language": "preferences.language",
    "timezone": "preferences.timezone",
}
"""Where each field of `PROFILE_FIELDS` is stored; see `profile_path` for those of one's own."""
_OWN = "fields"
COUNTED = 10_000
"""Where counting people stops, so that the first page of a list does not get slower as they grow in number."""


def profile_path(field: str) -> str:
    """Where a field is stored in the person's document."""
    return PROFILE_PATHS.get(field, f"{_OWN}.{field}")


def check_profile_value(field: str, value: object, own: Mapping[str, ProfileField] | None = None) -> str:
    """Normalise `value` for a profile's `field`; `own` are the declared fields, by default those of this process.

    Raises:
        InvalidTextError: there is no such field, or an unsuitable value; the message can be read out to the caller.
        SecretError: the value contains a secret.
    """
    own = declared().fields if own is None else own
    if field not in PROFILE_FIELDS and field not in own:
        raise InvalidTextError(f"{field!r} is not a profile field; these are: {', '.join((*PROFILE_FIELDS, *own))}")
    text = _check_text(field, value)
    if field == "email":
        return _email(text)
    if field == "timezone":
        return _timezone(text)
    return own[field].accept(text) if field in own else text


def kept_profile_value(field: str, text: str, redact: Callable[[str, str], str]) -> str:
    """A checked value of a field as it may be stored, which `redact` says by name and text.

    Raises:
        SecretError: nothing is left of it that the field takes.
    """
    kept = redact(field, text)
    if kept == text:
        return text
    try:
        return check_profile_value(field, kept)
    except InvalidTextError:
        raise SecretError from None


def _as_stored(field: str, value: object) -> str:
    """As `check_profile_value`, but a field that only another process declares takes any text: that one checked it."""
    if field in PROFILE_FIELDS or field in declared().fields or not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", field):
        return check_profile_value(field, value)
    return _check_text(field, value)


def _check_text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidTextError(f"the {field} must be text")
    text = " ".join(clean_text(value).split())
    if not text:
        raise InvalidTextError(f"the {field} is empty")
    if len(text) > MAX_FIELD:
        raise InvalidTextError(f"the {field} has {len(text)} characters; {MAX_FIELD} are allowed")
    if not text.isprintable():
        raise InvalidTextError(f"the {field} holds control characters")
    if holds_secret(text):
        raise SecretError
    return text


def _email(text: str) -> str:
    if not re.fullmatch(r"[^\s@<>\"',;()]+@[^\s@<>\"',;()]+\.[^\s@<>\"',;().]{2,}", text):
        raise InvalidTextError(f"{text} does not look like an e-mail address")
    return text


@functools.cache
def _zones() -> dict[str, str]:
    """Every IANA zone by its name and its city, lowercased; reading them takes tens of milliseconds."""
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
    """The value, or None for a secret that was stored before secrets were refused."""
    return None if value and holds_secret(value) else value


def _forgetting(at: datetime, paths: Sequence[str] = ()) -> dict[str, Any]:
    unset = dict.fromkeys(["last_session", *paths], True)
    return {"$unset": unset, "$max": {"forgotten_at": at}, "$inc": {"memory_version": 1}}


def _at(document: dict[str, Any], path: str) -> Any:
    outer, _, name = path.rpartition(".")
    return ((document.get(outer) or {}) if outer else document).get(name)


def _profile(scope: UserScope, document: dict[str, Any] | None = None) -> Profile:
    document = document or {}
    if is_newer(document):
        raise NewerVersionError
    last = document.get("last_session") or {}
    gist = without_secrets(last.get("gist") or "")
    return Profile(
        scope,
        **{field: _told(_at(document, path)) for field, path in PROFILE_PATHS.items()},
        created_at=document.get("created_at"),
        last_seen_at=document.get("last_seen_at"),
        last_session=LastSession(last["at"], gist, last.get("session_id")) if last.get("at") and gist else None,
        memory_version=document.get("memory_version", 0),
        own=_own_values(document),
        commitments=commitments_of(document.get("commitments")),
        consent=consent_of(document.get("consent")),
    )


def _own_values(document: dict[str, Any]) -> dict[str, str]:
    """Those of declared fields, in their order, then those that this process has not declared."""
    there = document.get(_OWN)
    if not isinstance(there, dict):
        return {}
    names = dict.fromkeys([*(name for name in declared().fields if name in there), *there])
    return {name: value for name in names if isinstance(value := there[name], str) and _told(value)}


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of people, how many there are (see `Users.count`), and, if there are none, tenants that have some."""

    people: list[dict[str, Any]]
    total: int
    other_tenants: list[str]


class Users:
    """The collection `users`."""

    def __init__(self, db: AsyncDatabase[dict[str, Any]]) -> None:
        self._users = db[USERS]
        self._visitors = Visitors(db)
        self._encryption = Encryption.of(db)
        self._tombstones = Tombstones(db)

    async def seen(self, scope: UserScope, ticket: Ticket | None = None) -> Profile:
        """Update `last_seen_at`, creating the profile if it is missing; and register the browser of a web visitor."""
        moment = now()
        update = {"$set": {"last_seen_at": moment}}

        async def note() -> dict[str, Any] | None:
            return await self._users.find_one_and_update(scope.filter, update, return_document=ReturnDocument.AFTER)

        document = await operations.write(note)
        if document is None:
            await self._make(scope, update | {"$setOnInsert": {"created_at": moment, "memory_version": 0}})
            document = await operations.write(note)
        if ticket:
            await self._visitors.begin(ticket, scope)
        return _profile(scope, *await self._encryption.open(USERS, [document] if document else [], scope))

    async def get(self, scope: UserScope) -> Profile | None:
        """The profile; None for somebody who was never here."""
        document = await self._encryption.read_one(USERS, lambda: self._users.find_one(scope.filter), scope)
        return _profile(scope, document) if document else None

    async def get_admitted(self, scope: UserScope, admission: Admission | None) -> Profile | None:
        """As `get`, and by the same read whether the person is admitted. Raises NotAdmittedError."""
        if admission is None or admission.is_given:
            return await self.get(scope)
        pipeline = [{"$match": scope.filter}, *admission.stages]

        async def find() -> dict[str, Any] | None:
            found = admission.judge(await (await self._users.aggregate(pipeline)).to_list())
            return found[0] if found else None

        document = await self._encryption.read_one(USERS, find, scope)
        return _profile(scope, document) if document else None

    async def page(
        self, tenant: TenantScope | None = None, *, after: str | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Ids, names, e-mail addresses and times of people, ordered by id.

        Args:
            tenant: whose people; None for all, tenant by tenant.
            after: start after this id of that tenant.
            limit: how many at most.
        """
        selector: dict[str, Any] = dict(tenant.filter) if tenant else {}
        if after is not None:
            selector["user_id"] = {"$gt": after}
        shown = {"_id": 0, "user_id": 1, "tenant_id": 1, "name": 1, "email": 1, "created_at": 1, "last_seen_at": 1}

        async def find() -> list[dict[str, Any]]:
            cursor = self._users.find(selector, shown).sort([("tenant_id", 1), ("user_id", 1)]).limit(limit)
            return [document async for document in cursor]

        people = await self._encryption.read(USERS, find)
        return [
            {name: _told(value) if name in PROFILE_FIELDS else value for name, value in each.items()} for each in people
        ]

    async def listing(self, tenant: TenantScope | None, *, after: str | None, limit: int) -> Listing:
        """As `page`, with what puts it into context."""
        people = await self.page(tenant, after=after, limit=limit)
        is_part = not people or len(people) == limit
        total = await self.count(tenant) if is_part else len(people)
        return Listing(people, total, await self.tenants() if tenant and not total else [])

    async def count(self, tenant: TenantScope | None = None) -> int:
        """How many people of the tenant, or of all, have a profile; at most `COUNTED` + 1."""
        selector = tenant.filter if tenant else {}
        return await operations.read(lambda: self._users.count_documents(selector, limit=COUNTED + 1))

    async def tenants(self) -> list[str]:
        """The ids of tenants with profiles."""
        return sorted(await operations.read(lambda: self._users.distinct("tenant_id")))

    async def set_field(self, scope: UserScope, field: str, value: object) -> str:
        """Write one profile field and return the stored value; raises as `check_profile_value` does."""
        text = check_profile_value(field, value)
        await self._set(scope, field, text, now())
        return text

    async def set_field_if_newer(self, scope: UserScope, field: str, value: object, at: datetime) -> bool:
        """Write a profile field stated at `at`, unless it was changed, or anything forgotten, since."""
        text = _as_stored(field, value)
        newer = _not_after(f"changed_at.{field}", at), _not_after("forgotten_at", at)
        return await self._set(scope, field, text, at, *newer, said_at=at)

    async def changed_at(self, scope: UserScope, field: str) -> datetime | None:
        """When a field of the profile was last set, as far as is known."""
        shown = {"_id": 0, f"changed_at.{field}": 1}
        document = await operations.read(lambda: self._users.find_one(scope.filter, shown))
        found = _at(document or {}, f"changed_at.{field}")
        return found if isinstance(found, datetime) else None

    async def fill_field(self, scope: UserScope, field: str, value: object, at: datetime) -> bool:
        """Write a profile field stated at `at` if it is empty and nothing was forgotten since."""
        text = _as_stored(field, value)
        is_empty = {profile_path(field): {"$exists": False}}
        return await self._set(scope, field, text, at, is_empty, _not_after("forgotten_at", at), said_at=at)

    async def consent(self, scope: UserScope) -> Consent | None:
        """What they answered last; None if they were never asked, or are not known."""
        document = await operations.read(lambda: self._users.find_one(scope.filter, {"_id": 0, "consent": 1}))
        return consent_of((document or {}).get("consent"))

    async def set_consent(self, scope: UserScope, consent: Consent) -> bool:
        """Note their answer, unless there is a later one; creates the profile if it is missing."""
        update = {
            "$set": {"consent": consent.fields},
            "$max": {"last_seen_at": consent.at},
            "$setOnInsert": {"created_at": consent.at},
            "$inc": {"memory_version": 1},
        }
        return await self._change(scope, update, _not_after("consent.at", consent.at))

    async def _set(
        self,
        scope: UserScope,
        field: str,
        text: str,
        at: datetime,
        *conditions: dict[str, Any],
        said_at: datetime | None = None,
    ) -> bool:
        path, cipher = profile_path(field), await self._encryption.cipher(scope)
        value = text if path.startswith("preferences.") else cipher.seal(profile_place(path), text)
        update = {
            "$set": {path: value, f"changed_at.{field}": at},
            "$max": {"last_seen_at": at},
            "$setOnInsert": {"created_at": at},
            "$inc": {"memory_version": 1},
        }
        return await self._change(scope, update, *conditions, said_at=said_at)

    async def _change(
        self, scope: UserScope, update: dict[str, Any], *conditions: dict[str, Any], said_at: datetime | None = None
    ) -> bool:
        """Update the person's document if it meets the conditions; create it if it is missing.

        Nothing is created if something was forgotten at or after `said_at`.

        Returns:
            Whether anything was written.
        """
        selector = scope.filter | ({"$and": list(conditions)} if conditions else {})
        changed = await operations.write(lambda: self._users.update_one(selector, update))
        return bool(changed.matched_count) or await self._make(scope, update, *conditions, said_at=said_at)

    async def _make(
        self, scope: UserScope, update: dict[str, Any], *conditions: dict[str, Any], said_at: datetime | None = None
    ) -> bool:
        """Create the person's document, carrying over when something of theirs was last forgotten; see `_change`."""
        selector = scope.filter | ({"$and": list(conditions)} if conditions else {})
        forgotten_at = await self._tombstones.forgotten_at(scope)
        if forgotten_at and said_at and forgotten_at >= said_at:
            return False
        carried = {"forgotten_at": forgotten_at} if forgotten_at else {}
        update = update | {"$setOnInsert": update.get("$setOnInsert", {}) | carried | STAMP}

        async def make() -> bool:
            await self._users.update_one(selector, update, upsert=True)
            return True

        made = await operations.upsert(make)
        # A concurrent `forget` that found no document may have left its note after the look above.
        later = await self._tombstones.forgotten_at(scope)
        if later and later != forgotten_at:
            forgetting = _forgetting(later)
            await operations.write(lambda: self._users.update_one(scope.filter, forgetting))
        return made

    async def forgot_after(self, scope: UserScope, at: datetime) -> bool:
        """Whether anything of the person was forgotten after `at`."""
        document = await operations.read(lambda: self._users.find_one(scope.filter, {"_id": 0, "forgotten_at": 1}))
        if document is None:
            forgotten_at = await self._tombstones.forgotten_at(scope)
        else:
            forgotten_at = document.get("forgotten_at")
        return forgotten_at is not None and forgotten_at > at

    async def memory_version(self, scope: UserScope) -> int:
        """Increases with every change of the person's slots and profile."""
        document = await operations.read(lambda: self._users.find_one(scope.filter, {"_id": 0, "memory_version": 1}))
        return int((document or {}).get("memory_version", 0))

    async def touch_memories(self, scope: UserScope) -> None:
        """Increase `memory_version` because a slot changed."""
        await self._change(scope, {"$inc": {"memory_version": 1}, "$setOnInsert": {"created_at": now()}})

    async def forget(self, scope: UserScope, fields: Sequence[str] = (), *, at: datetime) -> None:
        """Delete the last session's gist and these profile fields; nothing said before `at` is stored any more.

        With all of `PROFILE_FIELDS`, those of one's own go, too, whether this process declares them or not. The gist
        always goes, since what is forgotten could come back through it. For somebody without a profile none is created,
        but the time is noted: what they said may still wait on the disk of a worker that cannot reach MongoDB.
        """
        is_all = set(fields) >= set(PROFILE_FIELDS)
        paths = [profile_path(field) for field in fields]
        whole = sorted({path.partition(".")[0] for path in (*PROFILE_PATHS.values(), _OWN)})
        update = _forgetting(at, whole if is_all else paths)
        if (await operations.write(lambda: self._users.update_one(scope.filter, update))).matched_count:
            return
        await self._tombstones.note_forgotten(scope, at)
        # It may have been created meanwhile.
        await operations.write(lambda: self._users.update_one(scope.filter, update))

    async def drop_gist(self, scope: UserScope, last: LastSession) -> None:
        """Delete the last session's gist unless there is a later one; nothing else is forgotten by that."""
        selector = scope.filter | {"last_session.at": last.at}
        update = {"$unset": {"last_session": True}, "$inc": {"memory_version": 1}}
        await operations.write(lambda: self._users.update_one(selector, update))

    async def set_last_session(self, scope: UserScope, last: LastSession, *, started_at: datetime) -> bool:
        """Store what the next session may know of this one, without secrets.

        Not stored if nothing else remains, if something was forgotten since the session began (the gist could contain
        it), or if a later session has stored its own. A missing profile is created: a first session may end before that
        happens, or be recovered from the disk of a worker that could not reach MongoDB.

        Returns:
            Whether it was stored.
        """
        gist, name = clean_text(without_secrets(last.gist)), last.session_id
        if not gist:
            return False
        told = (await self._encryption.cipher(scope)).seal(gist_place(), gist)
        update = {
            "$set": {"last_session": {"at": last.at, "gist": told} | ({"session_id": name} if name else {})},
            "$max": {"last_seen_at": last.at},
            "$setOnInsert": {"created_at": started_at, "memory_version": 0},
        }
        nothing_forgotten = {"$or": [{"forgotten_at": {"$exists": False}}, {"forgotten_at": {"$lt": started_at}}]}
        no_later_call = _not_after("last_session.at", last.at)
        return await self._change(scope, update, nothing_forgotten, no_later_call, said_at=started_at)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whose browser it is; `ended` when its cookie is no longer valid."""

    scope: UserScope
    ended: bool


class Visitors:
    """The collection `visitors`; `key` is the hash of a browser's secret."""

    def __init__(self, db: AsyncDatabase[dict[str, Any]]) -> None:
        self._visitors = db[VISITORS]
        self._tombstones = Tombstones(db)

    async def get(self, key: str) -> Visitor | None:
        return _visitor(await operations.read(lambda: self._visitors.find_one({"_id": key})))

    async def seen(self, key: str) -> Visitor | None:
        """Update `last_seen_at` of a known browser; None for an unknown one."""
        change = {"$set": {"last_seen_at": now()}}
        return _visitor(
            await operations.write(
                lambda: self._visitors.find_one_and_update({"_id": key}, change, return_document=ReturnDocument.AFTER)
            )
        )

    async def add(self, key: str, scope: UserScope) -> None:
        """Register the browser as this person's, unless it is known already."""
        moment = now()
        fields = scope.filter | {"created_at": moment, "last_seen_at": moment} | STAMP
        await operations.write(lambda: self._visitors.update_one({"_id": key}, {"$setOnInsert": fields}, upsert=True))

    async def begin(self, ticket: Ticket, scope: UserScope) -> None:
        """Register the browser with which a session begins, if it is a guest's who has not been erased since."""
        if ticket.visitor and scope.user_id.startswith(VISITOR_PREFIX) and not await self._tombstones.get(scope):
            await self.add(ticket.visitor, scope)

    async def end(self, key: str, scope: UserScope) -> None:
        """Invalidate the browser's cookie and every copy of it, and the seals that were made for it.

        Of one that is not known, too, as this person's: seals may have been made for it that nobody has used.
        """
        moment = now()
        change = {
            "$set": {"ended_at": moment},
            "$setOnInsert": scope.filter | {"created_at": moment, "last_seen_at": moment} | STAMP,
        }
        await operations.write(lambda: self._visitors.update_one({"_id": key}, change, upsert=True))

    async def end_login(self, key: str, scope: UserScope) -> None:
        """Invalidate the seals that were made for a login until now; it may begin anew."""
        moment = now()
        change = {
            "$set": {"ended_at": moment, "last_seen_at": moment, "login": True},
            "$setOnInsert": scope.filter | {"created_at": moment} | STAMP,
        }
        await operations.write(lambda: self._visitors.update_one({"_id": key}, change, upsert=True))


def _visitor(document: dict[str, Any] | None) -> Visitor | None:
    if document is None:
        return None
    return Visitor(
        UserScope(tenant_id=document["tenant_id"], user_id=document["user_id"]), document.get("ended_at") is not None
    )
