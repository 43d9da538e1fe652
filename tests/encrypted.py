"""Encryption of a test's database, by a master key of its own, with the keys in a database beside it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.key_vault import KeyVault
from lkmongo.store.mongo.master_keys import MasterKeys


def local_master(*keys: bytes) -> MasterKeys:
    """Master keys as of a file; a new one by default."""
    keys = keys or (secrets.token_bytes(96),)
    providers = {f"local:{hashlib.sha256(key).hexdigest()[:16]}": {"key": key} for key in keys}
    return MasterKeys(providers, next(iter(providers)), where="a test's")


@asynccontextmanager
async def encrypted(db: Any, *, keeper: Any = None, master: MasterKeys | None = None) -> AsyncIterator[KeyVault]:
    """Let what is stored in `db` be encrypted; `keeper` is the client of the key vault, by default that of `db`."""
    client, name = keeper or db.client, f"{db.name}_keys"
    vault = KeyVault(client, name, master or local_master(), apart=keeper is not None)
    Encryption(vault).use(db)
    try:
        yield vault
    finally:
        Encryption().use(db)
        await vault.close()
        await client.drop_database(name)
