"""The keyed hash of a person's id: what tombstones, receipts and the audit trail hold in its place.

It is HMAC-SHA256 over tenant and user under a secret in the collection `keys`, and over that once more under the
erasure key, which the database does not hold: whoever has the database, a dump or its oplog can confirm no guess. A
database that began without an erasure key has hashes of the first form only, until `lkmongo db upgrade` seals them.
Meanwhile both forms are looked for, so that processes may get the key one after the other.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from lkmongo.errors import InvalidTextError, SettingsError
from lkmongo.model import UserScope, clean_text
from lkmongo.phone_numbers import masked
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.client import Client
from lkmongo.store.mongo.erasure_key import ErasureKey
from lkmongo.store.mongo.schema import KEYS

SECRET = "person-hash"  # noqa: S105 - the name of a document
_MAX_NOTE = 200
KEY_ID = "erasure_key"
"""Its field with the id of the key under which hashes are sealed; missing if they are not."""
IN_DATABASE = "database"
"""What stands for the id of the key while that is the secret in the database."""


class WrongKeyError(SettingsError):
    """This machine does not have the key of this database's erased people."""

    code = "wrong_erasure_key"


@dataclass(frozen=True, slots=True)
class Hashing:
    """How people are hashed: with the secret of the database, and the erasure key if this process has one."""

    secret: bytes
    key: ErasureKey | None
    is_sealed: bool

    def forms(self, scope: UserScope) -> tuple[str, ...]:
        """The hashes under which something may be stored; the first is the one to store under."""
        person = json.dumps([scope.tenant_id, scope.user_id]).encode()
        inner = hmac.new(self.secret, person, hashlib.sha256).hexdigest()
        if self.key is None:
            return (inner,)
        outer = seal(self.key, inner)
        return (outer, inner) if self.is_sealed else (inner, outer)

    @property
    def key_id(self) -> str:
        """The id of the key that seals the audit trail, or `IN_DATABASE`."""
        return self.key.id if self.key and self.is_sealed else IN_DATABASE

    def sign(self, key_id: str, use: str, data: bytes) -> str:
        """Sign with the key of that id; empty if this process does not have it."""
        if key_id == IN_DATABASE:
            return ErasureKey(self.secret).sign(use, data)
        return self.key.sign(use, data) if self.key and self.key.id == key_id else ""


def seal(key: ErasureKey, inner: str) -> str:
    """The hash that the database cannot confirm: the id of the key, and 64 hexadecimal digits."""
    return f"{key.id}.{key.sign('person', inner.encode())}"


def is_sealed(person: str) -> bool:
    """Whether a hash is of that form."""
    return "." in person


def check_note(what: str, text: str, scope: UserScope | None = None) -> str:
    """Normalise a text that stands beside a person's hash; `what` names it in errors, such as "reason".

    Of a telephone number with its country, the last two digits stay.

    Raises:
        InvalidTextError: it is empty or too long, or contains the person's id, which would undo the hash.
    """
    text = masked(" ".join(clean_text(text).split()))
    if not text:
        raise InvalidTextError(f"the {what} is empty", hint="give a text, or omit the option")
    if len(text) > _MAX_NOTE:
        raise InvalidTextError(f"the {what} has {len(text)} characters; {_MAX_NOTE} are allowed", hint="name a ticket")
    if scope and re.search(rf"(?<!\w){re.escape(scope.user_id)}(?!\w)", text, re.IGNORECASE):
        raise InvalidTextError(
            f"the {what} contains the person's id, which is kept as a hash only", hint="put it differently"
        )
    return text


class PersonHashes:
    """The hashes of people in one database."""

    def __init__(self, db: AsyncDatabase[dict[str, Any]]) -> None:
        """Use the erasure key of the database's client."""
        self._keys = db[KEYS]
        self._key = db.client.erasure_key if isinstance(db.client, Client) else None
        self._hashing: Hashing | None = None

    async def known(self) -> Hashing | None:
        """How people are hashed; None while there is no secret because nobody was ever erased or looked at.

        Raises:
            WrongKeyError: hashes are sealed under a key that this process does not have.
        """
        if self._hashing is None:
            document = await operations.read(lambda: self._keys.find_one({"_id": SECRET}))
            self._hashing = self._read(document) if document else None
        return self._hashing

    async def made(self) -> Hashing:
        """As `known`; the first time, the secret is made. Never remembered from before: the key may be new."""
        new: dict[str, Any] = {"key": secrets.token_bytes(32)}
        if self._key and self._key.is_set:
            new[KEY_ID] = self._key.id

        async def make() -> dict[str, Any]:
            try:
                await self._keys.insert_one({"_id": SECRET} | new)
            except DuplicateKeyError:  # another process made it meanwhile
                return dict(await self._keys.find_one({"_id": SECRET}) or {})
            return new

        self._hashing = None
        if (found := await self.known()) is None:
            found = self._hashing = self._read(await operations.write(make))
        return found

    def _read(self, document: dict[str, Any]) -> Hashing:
        needed = document.get(KEY_ID)
        if needed is None:
            return Hashing(bytes(document["key"]), self._key, is_sealed=False)
        if self._key is None or self._key.id != needed:
            has = f"the key of this machine has the id {self._key.id}" if self._key else "this machine has no key"
            raise WrongKeyError(
                f"LKMONGO_ERASURE_KEY is not {'that of this database' if self._key else 'set'}",
                why=f"the ids of erased people are hidden by the key with the id {needed}; {has}",
                hint="set LKMONGO_ERASURE_KEY to the same key on every machine",
            )
        return Hashing(bytes(document["key"]), self._key, is_sealed=True)
