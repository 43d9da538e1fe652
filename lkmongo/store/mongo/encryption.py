"""Encryption of what people said: which values are sealed, and by whose cipher.

Readers open what is sealed and take what is plain as it is, so both may be there together. What stays readable is in
docs/encryption.md.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.model import UserScope
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.cipher import KEYLESS, PLAIN, AnyCipher, Place, is_sealed, key_of
from lkmongo.store.mongo.client import Client
from lkmongo.store.mongo.schema import MEMORIES, MEMORY_HISTORY, SESSIONS, TURNS, USERS

if TYPE_CHECKING:
    from lkmongo.store.mongo.key_vault import KeyVault

Document = dict[str, Any]
Found = tuple[MutableMapping[str, Any], str, Place, str]
"""A value that may be sealed: what holds it, under which name, its place, and its path in the document."""

SEALED = (MEMORIES, MEMORY_HISTORY, TURNS, SESSIONS, USERS)
"""The collections with values that are sealed.

Telephone numbers and PINs are hashes under a key that is not in the database: a number has to be found by its hash, and
neither is read again.
"""
MARK = "content_mark"
"""The field of a slot that tells, under the person's key, whether it says the same: the ciphertext cannot."""
_BETWEEN = 2_000
"""Values that are opened, in about 10 ms, before the event loop gets a turn."""
_AT_ONCE = 32
"""Keys that are fetched side by side for a list of many people."""


# ---------------------------------------------------------------- what is sealed


def slot_place(field: str, memory_type: str) -> Place:
    """Of a slot and of all that it was: a former value moves from one to the other on the server."""
    return MEMORIES, field, memory_type


def gist_place() -> Place:
    return USERS, "last_session.gist", ""


def profile_place(path: str) -> Place:
    return USERS, path, ""


def commitment_place(commitment_id: str) -> Place:
    """In the person's document as in the call's."""
    return "commitments", "text", commitment_id


def places(collection: str, document: MutableMapping[str, Any]) -> Iterator[Found]:
    """Every value of a document that is sealed where encryption is on, as far as it is there.

    The document's own key must be among its fields: `memory_type`, `session_id`, `item_id`.
    """
    match collection:
        case "memories" | "memory_history":
            yield from _of_slot(document)
        case "turns":
            key = f"{document.get('session_id')}\0{document.get('item_id')}"
            for name in ("content", "arguments", "output"):
                if name in document:
                    yield document, name, (TURNS, name, key), name
        case "sessions":
            yield from _of_session(document)
        case "users":
            yield from _of_profile(document)


def _of_slot(document: MutableMapping[str, Any]) -> Iterator[Found]:
    label = str(document.get("memory_type"))
    offered = offer if isinstance(offer := document.get("offered"), dict) else {}
    entries = *_listed(document, "former"), *_listed(offered, "former", "offered.")
    for holder, path in ((document, ""), *entries):
        for name in ("content", "dates"):
            if name in holder:
                yield holder, name, (MEMORIES, name, label), path + name


def _of_session(document: MutableMapping[str, Any]) -> Iterator[Found]:
    session_id = str(document.get("session_id"))
    summary, learning = document.get("summary"), document.get("learning")
    if isinstance(summary, dict):
        for name in ("text", "topics"):
            if name in summary:
                path = f"summary.{name}"
                yield summary, name, (SESSIONS, path, session_id), path
        yield from _of_commitments(summary, "summary.")
    if isinstance(learning, dict):
        if "answer" in learning:
            yield learning, "answer", (SESSIONS, "learning.answer", session_id), "learning.answer"
        for proposal, path in _listed(learning, "proposals", "learning."):
            if "content" in proposal:
                yield proposal, "content", ("proposals", "content", str(proposal.get("id"))), f"{path}content"


def _of_commitments(holder: MutableMapping[str, Any], within: str = "") -> Iterator[Found]:
    for each, path in _listed(holder, "commitments", within):
        if "text" in each:
            yield each, "text", commitment_place(str(each.get("id"))), f"{path}text"


def _of_profile(document: MutableMapping[str, Any]) -> Iterator[Found]:
    for name in ("name", "email"):
        if name in document:
            yield document, name, (USERS, name, ""), name
    if isinstance(own := document.get("fields"), dict):
        for name in own:
            yield own, name, (USERS, f"fields.{name}", ""), f"fields.{name}"
    if isinstance(last := document.get("last_session"), dict) and "gist" in last:
        yield last, "gist", gist_place(), "last_session.gist"
    yield from _of_commitments(document)


def _listed(holder: Mapping[str, Any], name: str, within: str = "") -> Iterator[tuple[Document, str]]:
    if isinstance(entries := holder.get(name), list):
        for number, each in enumerate(entries):
            if isinstance(each, dict):
                yield each, f"{within}{name}.{number}."


def sealed(cipher: AnyCipher, collection: str, document: Document) -> Document:
    """Seal the values of a document in place, and return it; see `places`."""
    if cipher is not PLAIN:
        for holder, name, place, _ in list(places(collection, document)):
            holder[name] = cipher.seal(place, holder[name])
    return document


def resealed(cipher: AnyCipher, collection: str, document: Document) -> Document:
    """The paths and values of an opened document as they are stored, as for `$set`."""
    change: Document = {}
    for holder, name, place, path in places(collection, document):
        change[path] = cipher.seal(place, holder[name])
        if path == "content" and collection == MEMORIES and (mark := cipher.mark(place, str(holder[name]))):
            change[MARK] = mark
    return change


# ---------------------------------------------------------------- the encryption of a database


class Encryption:
    """The ciphers of the people of one database; without a key vault, encryption is off."""

    def __init__(self, vault: KeyVault | None = None) -> None:
        """Seal by the keys of `vault`."""
        self.vault = vault

    @staticmethod
    def of(db: AsyncDatabase[Any]) -> Encryption:
        """That of a database: off, unless `use` said otherwise."""
        client = db.client
        return client.encryption.get(db.name, _OFF) if isinstance(client, Client) else _OFF

    def use(self, db: AsyncDatabase[Any]) -> None:
        """Let this be the encryption of a database, in this process."""
        client = db.client
        if not isinstance(client, Client):
            raise TypeError("the database of another client than `create_client` makes cannot be encrypted")
        client.encryption[db.name] = self

    @property
    def is_on(self) -> bool:
        return self.vault is not None

    def known(self, scope: UserScope) -> AnyCipher | None:
        """The person's cipher, if this process has their key already."""
        return PLAIN if self.vault is None else self.vault.known(scope)

    async def cipher(self, scope: UserScope) -> AnyCipher:
        """The person's cipher for writing; they get a key if they have none.

        Raises:
            DatabaseError: the key vault cannot be read.
            EncryptionError: their key cannot be unwrapped.
        """
        return PLAIN if self.vault is None else await self.vault.cipher(scope, make=True) or KEYLESS

    async def reader(self, scope: UserScope, *, fresh: bool = False) -> AnyCipher:
        """The person's cipher for reading; none is made. `fresh` if the known key is not the right one."""
        return PLAIN if self.vault is None else await self.vault.cipher(scope, fresh=fresh) or KEYLESS

    async def read(
        self, collection: str, find: Callable[[], Awaitable[list[Document]]], scope: UserScope | None = None
    ) -> list[Document]:
        """As `operations.read`, with what is sealed in the documents opened.

        The key of `scope` is fetched meanwhile; without one, each document must have the ids of its person.
        """
        if self.vault is None or scope is None or self.vault.known(scope):
            documents = await operations.read(find)
        else:
            documents, _ = await asyncio.gather(operations.read(find), self.reader(scope))
        return await self.open(collection, documents, scope)

    async def read_one(
        self, collection: str, find: Callable[[], Awaitable[Document | None]], scope: UserScope | None = None
    ) -> Document | None:
        """As `read`, of one document or none."""

        async def listed() -> list[Document]:
            return [found] if (found := await find()) is not None else []

        return next(iter(await self.read(collection, listed, scope)), None)

    async def open(self, collection: str, documents: list[Document], scope: UserScope | None = None) -> list[Document]:
        """Open what is sealed in the documents, in place, and return them. Raises EncryptionError."""
        waiting: dict[UserScope, list[Found]] = defaultdict(list)
        for document in documents:
            for found in places(collection, document):
                if is_sealed(found[0][found[1]]):
                    waiting[scope or owner_of(document)].append(found)
        if waiting:
            await self._open(waiting)
        return documents

    async def _open(self, waiting: Mapping[UserScope, Sequence[Found]]) -> None:
        if len(waiting) > 1:
            await self._fetch(waiting)
        for owner, found in waiting.items():
            cipher = await self.reader(owner)
            if any(key_of(holder[name]) != cipher.key_id for holder, name, *_ in found):
                cipher = await self.reader(owner, fresh=True)  # erased, and back since
            for number, (holder, name, place, _) in enumerate(found):
                holder[name] = cipher.open(place, holder[name])
                if number % _BETWEEN == _BETWEEN - 1:
                    await asyncio.sleep(0)

    async def _fetch(self, people: Iterable[UserScope]) -> None:
        free = asyncio.Semaphore(_AT_ONCE)

        async def fetch(scope: UserScope) -> None:
            async with free:
                await self.reader(scope)

        await asyncio.gather(*map(fetch, people))

    def forget(self, scope: UserScope) -> None:
        """Forget the person's key in this process: it may have been destroyed."""
        if self.vault:
            self.vault.forget(scope)

    async def destroy(self, scope: UserScope) -> bool:
        """Destroy the person's key: what is sealed by it is unreadable from now on. Returns whether there was one."""
        return self.vault is not None and await self.vault.destroy(scope)


_OFF = Encryption()


def owner_of(document: Mapping[str, Any]) -> UserScope:
    """Whose a document is; an id that `check_id` would refuse came from MongoDB, not from a caller."""
    scope = object.__new__(UserScope)
    for name in ("tenant_id", "user_id"):
        object.__setattr__(scope, name, str(document.get(name, "")))
    return scope
