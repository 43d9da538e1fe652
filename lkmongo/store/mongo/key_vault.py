"""The key of each person, in MongoDB's key vault: wrapped by a master key that is in a file or in a KMS.

A person's key is a data key of MongoDB's client-side encryption under the alternate name that is a keyed hash of their
tenant and id. Its bytes never leave the library, so the key that values are sealed by is derived with it: the library's
deterministic encryption of a constant is a secret that nobody has without the data key. The names are hashed under a
key of the same kind, so that nobody without the master key can tell whose key is whose.

The collection may be in a database of its own, apart from the backups of the data: see docs/encryption.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from bson.binary import Binary
from bson.codec_options import CodecOptions
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.errors import EncryptionError as DriverEncryptionError

from lkmongo import imports
from lkmongo.errors import DatabaseError
from lkmongo.model import UserScope
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.cipher import Cipher, EncryptionError
from lkmongo.store.mongo.client import Client, run_on_client_loop
from lkmongo.store.mongo.master_keys import MasterKeys

if TYPE_CHECKING:
    from pymongo.asynchronous.encryption import AsyncClientEncryption

Document = dict[str, Any]
T = TypeVar("T")

KEY_VAULT = "key_vault"
_NAMES = "lkmongo/names"
"""The alternate name of the key that people's names are hashed under."""
_CONSTANT = b"lkmongo/person"
_DETERMINISTIC = "AEAD_AES_256_CBC_HMAC_SHA_512-Deterministic"
_HEADER = 18
"""Bytes of an encrypted value before its ciphertext: the algorithm, the key's id and the type."""
_MOST = 4_096
"""Ciphers that a process keeps."""
_FRESH = 60.0
"""Seconds for which a key is taken as known: somebody erased elsewhere may have another one when they come back."""
_CACHED = 1
"""Milliseconds for which the library keeps a key after fetching it. 0 would mean for good."""
_NO_KEY = "not all keys requested were satisfied"
_BATCH = 500
"""Keys that are wrapped anew at a time."""


class KeyVault:
    """The collection `key_vault`."""

    def __init__(self, client: Client, database: str, master: MasterKeys, *, apart: bool = False) -> None:
        """Use the collection of `client`; connects to nothing yet.

        Args:
            client: of the deployment that has the vault.
            database: the name of its database.
            master: what wraps the keys.
            apart: it is not in the database of what it encrypts.

        Raises:
            MissingExtraError: the library is not installed.
            EncryptionError: the library refuses the master key.
        """
        with imports.extra("encryption", "encryption"):  # noqa: S610 - nothing of Django
            import pymongocrypt  # type: ignore[import-untyped]  # noqa: F401 - the driver says it less clearly
            from pymongo.asynchronous.encryption import AsyncClientEncryption
        self.apart = apart
        self.master = master
        self._keys = client[database][KEY_VAULT]
        self._known: OrderedDict[UserScope, tuple[Cipher, float]] = OrderedDict()
        self._fetching: dict[UserScope, asyncio.Task[Cipher | None]] = {}
        self._names: bytes | None = None
        try:
            self._library: AsyncClientEncryption[Any] = AsyncClientEncryption(
                master.providers,
                f"{database}.{KEY_VAULT}",
                client,
                CodecOptions(),
                kms_tls_options=master.tls or None,
                key_expiration_ms=_CACHED,  # a key that was destroyed must be gone; ciphers are kept here instead
            )
        except (PyMongoError, TypeError, ValueError, OSError) as error:
            raise EncryptionError(
                "the master key cannot be used", why=operations.server_words(error), hint="see docs/encryption.md"
            ) from error

    async def close(self) -> None:
        await run_on_client_loop(self._library.close)

    # ---------------------------------------------------------------- people

    def known(self, scope: UserScope) -> Cipher | None:
        """The person's cipher, if this process has fetched it, however long ago."""
        entry = self._known.get(scope)
        return entry[0] if entry else None

    async def cipher(self, scope: UserScope, *, make: bool = False, fresh: bool = False) -> Cipher | None:
        """The person's cipher; None if they have no key and none is to be made.

        Args:
            scope: the person.
            make: make a key for somebody who has none.
            fresh: ask the vault in any case.

        Raises:
            DatabaseError: the vault cannot be read; not while a key is known.
            EncryptionError: the key cannot be unwrapped, or a master key made elsewhere wrapped it.
        """
        entry = self._known.get(scope)
        if entry and not fresh and time.monotonic() - entry[1] < _FRESH:
            return entry[0]
        try:
            found = await self._fetch_once(scope)
        except DatabaseError:
            if entry is None or fresh:
                raise
            return entry[0]
        return found if found or not make else await self._make(scope)

    async def _fetch_once(self, scope: UserScope) -> Cipher | None:
        """Fetch the key; whoever asks meanwhile, on whichever loop, waits for the same answer."""

        async def fetch() -> Cipher | None:
            if (task := self._fetching.get(scope)) is None:
                task = self._fetching[scope] = asyncio.create_task(self._fetch(scope))
                task.add_done_callback(lambda done: self._fetched(scope, done))
            return await asyncio.shield(task)

        return await run_on_client_loop(fetch)

    def _fetched(self, scope: UserScope, task: asyncio.Task[Cipher | None]) -> None:
        self._fetching.pop(scope, None)
        if not task.cancelled():
            task.exception()  # retrieved, else asyncio would warn if nobody waits any more

    async def _fetch(self, scope: UserScope) -> Cipher | None:
        name = await self._name(scope)
        found = await self._secret(name) if name else None
        if found is None:
            self.forget(scope)
            return None
        return self._keep(scope, *found)

    async def _make(self, scope: UserScope) -> Cipher:
        name = await self._name(scope, make=True)
        await self._create(name)
        found = await self._secret(name)
        if found is None:
            raise EncryptionError("a new key is gone already", hint="try again: the person was just erased")
        return self._keep(scope, *found)

    def _keep(self, scope: UserScope, key_id: bytes, secret: bytes) -> Cipher:
        before = self._known.pop(scope, None)
        cipher = before[0] if before and before[0].key_id == key_id else Cipher(scope, key_id, secret)
        self._known[scope] = cipher, time.monotonic()
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return cipher

    def forget(self, scope: UserScope) -> None:
        """Forget the person's key in this process."""
        self._known.pop(scope, None)

    async def destroy(self, scope: UserScope) -> bool:
        """Delete the person's key for good; returns whether there was one. Raises DatabaseError."""
        self.forget(scope)
        if not (name := await self._name(scope)):
            return False
        result = await operations.write(lambda: self._keys.delete_one({"keyAltNames": name}))
        await asyncio.sleep(5 * _CACHED / 1000)  # the library may have fetched it just now
        self.forget(scope)  # somebody who asked meanwhile may have been given it
        return result.deleted_count > 0

    # ---------------------------------------------------------------- the vault

    async def warm(self) -> None:
        """Fetch what does not depend on a person, so that nobody waits for it. Raises as `cipher` does."""
        await self._name(UserScope.guest())

    async def count(self) -> int:
        """How many people have a key. Raises DatabaseError."""
        return await operations.read(lambda: self._keys.count_documents({"keyAltNames": {"$ne": _NAMES}}))

    async def check(self) -> None:
        """Make sure that the master key opens the vault, and make the vault if there is none; raises as `cipher`."""
        await self._name(UserScope.guest(), make=True)

    async def to_rewrap(self) -> int:
        """How many keys another master key wraps than the one that wraps new ones. Raises DatabaseError."""
        return await operations.read(lambda: self._keys.count_documents(self._foreign))

    @property
    def _foreign(self) -> Document:
        wanted = {"masterKey.provider": self.master.wraps} | {
            f"masterKey.{name}": value for name, value in (self.master.key or {}).items() if name != "endpoint"
        }
        return {"$nor": [wanted]}

    async def rewrap(self, on_progress: Callable[[int], None] = lambda _: None) -> int:
        """Wrap every key anew that another master key wraps; values stay as they are. It can be repeated.

        Returns:
            How many were wrapped.

        Raises:
            DatabaseError: the vault cannot be read or written.
            EncryptionError: a key cannot be unwrapped; those before it are done.
        """
        done = 0
        while True:
            ids = await operations.read(lambda: self._keys.find(self._foreign, {"_id": 1}).limit(_BATCH).to_list())
            if not ids:
                return done
            chosen = {"_id": {"$in": [each["_id"] for each in ids]}}
            await self._run(
                lambda chosen=chosen: self._library.rewrap_many_data_key(chosen, self.master.wraps, self.master.key)  # type: ignore[misc]
            )
            done += len(ids)
            on_progress(done)

    async def _name(self, scope: UserScope, *, make: bool = False) -> str:
        """The alternate name of the person's key; empty while the vault has no key at all."""
        if self._names is None:
            found = await self._secret(_NAMES)
            if found is None and make:
                await self._create(_NAMES)
                found = await self._secret(_NAMES)
            if found is None:
                return ""
            self._names = found[1]
        person = json.dumps([scope.tenant_id, scope.user_id]).encode()
        return hmac.new(self._names, person, hashlib.sha256).hexdigest()

    async def _secret(self, name: str) -> tuple[bytes, bytes] | None:
        """The id of a key, and what only its holder can compute; None if there is no such key."""

        async def derive() -> Binary:
            return await self._library.encrypt(_CONSTANT, _DETERMINISTIC, key_alt_name=name)

        try:
            found = await self._run(derive)
        except EncryptionError as error:
            if _NO_KEY in str(error.why):
                return None
            raise
        return bytes(found[1 : 1 + 16]), bytes(found[_HEADER:])

    async def _create(self, name: str) -> None:
        """Create a key of this name, unless another process is faster."""
        if name == _NAMES:  # the first of all; later ones may be made by whoever may make no index
            await self._run(
                lambda: self._keys.create_index(
                    "keyAltNames", unique=True, partialFilterExpression={"keyAltNames": {"$exists": True}}
                )
            )

        async def create() -> None:
            try:
                await self._library.create_data_key(self.master.wraps, self.master.key, key_alt_names=[name])
            except DriverEncryptionError as error:
                if not isinstance(error.cause, DuplicateKeyError):
                    raise

        await self._run(create)

    async def _run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a call of the library on the client loop, with errors that say what to do."""
        try:
            return await operations.read(lambda: _unwrapped(work))
        except _LibraryError as error:
            raise EncryptionError(
                "a key of the key vault cannot be used",
                why=str(error),
                hint=f"check the master key: {self.master.where}",
            ) from error


class _LibraryError(Exception):
    """The library failed, not MongoDB."""


async def _unwrapped(work: Callable[[], Awaitable[T]]) -> T:
    """Await `work`, with MongoDB's own error instead of the library's around it."""
    try:
        return await work()
    except DriverEncryptionError as error:
        if isinstance(error.cause, PyMongoError) and not isinstance(error.cause, DriverEncryptionError):
            raise error.cause from error
        raise _LibraryError(operations.server_words(error)) from error
