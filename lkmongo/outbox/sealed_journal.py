"""The entries of a journal as they are on the disk: sealed by the person's key, where encryption is on.

While that key is not known, as MongoDB is away from the start, they are sealed by a key of this machine, beside the
folder of the journals: nothing is lost then, and a copy of the journals alone tells nothing. What an entry is called
stays readable, for those who count what waits.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from lkmongo.errors import LkmongoError
from lkmongo.files import secret_file
from lkmongo.model import UserScope, clean
from lkmongo.outbox.journal import JournalError
from lkmongo.outbox.operations import Entry, MoveGuest
from lkmongo.store.mongo.cipher import PLAIN, AnyCipher, Cipher, EncryptionError, Place, is_sealed, key_of
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.extended_json import dumps, loads

_FIELD = "sealed"
_BYTES = 32


def _place(session_id: str, entry: Entry) -> Place:
    return "journal", str(entry.get("op")), session_id


class Seal:
    """Seals the entries of one session's journal."""

    def __init__(self, encryption: Encryption, scope: UserScope, session_id: str) -> None:
        """Seal for this person."""
        self._encryption = encryption
        self._scope = scope
        self._session_id = session_id

    async def __call__(self, journal: Path, entries: list[Entry], *, patience: float) -> list[Entry]:
        """The entries as they are written; waits for the person's key for at most `patience` seconds.

        Raises:
            JournalError: the machine's own key is needed, and cannot be read or made.
        """
        cipher = self._encryption.known(self._scope) or await self._fetched(patience)
        if cipher is PLAIN:
            return entries
        if cipher is None:
            try:
                cipher = await asyncio.to_thread(machine_cipher, journal.parent, self._scope)
            except OSError as error:
                raise JournalError(f"the key of this machine cannot be read: {error.strerror}") from error
        return [self._sealed(cipher, entry) for entry in entries]

    async def _fetched(self, patience: float) -> AnyCipher | None:
        with suppress(LkmongoError, TimeoutError):
            async with asyncio.timeout(patience):
                return await self._encryption.cipher(self._scope)
        return None

    def _sealed(self, cipher: AnyCipher, entry: Entry) -> Entry:
        if entry["op"] == MoveGuest.op:  # ids alone, by which an erasure finds it
            return entry
        line = dumps(clean(entry)).decode()
        return {"op": entry["op"], _FIELD: cipher.seal(_place(self._session_id, entry), line)}


async def opened(
    encryption: Encryption, scope: UserScope, session_id: str, folder: Path, entries: list[Entry]
) -> tuple[list[Entry], int]:
    """The entries of a journal as they were made, and how many are damaged.

    Raises:
        EncryptionError: the key of some is not there.
        DatabaseError: the key vault cannot be read.
    """
    found: list[Entry] = []
    damaged = 0
    ciphers: dict[bytes, AnyCipher] = {}
    for entry in entries:
        value: Any = entry.get(_FIELD)
        if not is_sealed(value):
            found.append(entry)
            continue
        key = key_of(value)
        if key not in ciphers:
            ciphers[key] = await _by_key(encryption, scope, folder, key)
        try:
            found.append(loads(ciphers[key].open(_place(session_id, entry), value)))
        except (EncryptionError, ValueError):
            damaged += 1
    return found, damaged


async def _by_key(encryption: Encryption, scope: UserScope, folder: Path, key: bytes) -> AnyCipher:
    with suppress(OSError):
        if (machine := machine_cipher(folder, scope, make=False)).key_id == key:
            return machine
    for fresh in (False, True):
        if (cipher := await encryption.reader(scope, fresh=fresh)).key_id == key:
            return cipher
    raise EncryptionError(
        "a journal is encrypted under a key that is not there",
        why="encryption is off here, or the key was destroyed",
        hint="set LKMONGO_ENCRYPTION and what it needs, as it was when this was written",
    )


def machine_cipher(folder: Path, scope: UserScope, *, make: bool = True) -> Cipher:
    """A person's cipher by the key of this machine, which is made if it is missing.

    Raises:
        OSError: it cannot be read or made.
    """
    path = folder.parent / "spool.key"
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        if not make:
            raise
        secret_file(path, secrets.token_hex(_BYTES))
        secret = path.read_bytes()  # another process may have been faster
    return Cipher(scope, hashlib.sha256(secret).digest()[:16], secret)
