"""Seals and opens single values under the key of a person.

A sealed value is BinData of a subtype of its own: version, key id, nonce, then AES-256-GCM of the value. What it
belongs to (tenant, user, kind of document, field and the document's own key) is authenticated with it, so that a value
opens nowhere but where it was written.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from functools import lru_cache
from typing import Any, Protocol

import bson
from bson.binary import Binary
from bson.codec_options import CodecOptions
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lkmongo.errors import LkmongoError
from lkmongo.model import UserScope

Place = tuple[str, str, str]
"""Where a value belongs: its kind of document, its field, and the document's own key."""

SUBTYPE = 0x80
"""The first of BinData's subtypes that are the user's own."""
_VERSION = 1
_ID, _NONCE = 16, 12
_HEADER = 1 + _ID + _NONCE
_TEXT, _BSON = b"t", b"b"
_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)


class EncryptionError(LkmongoError):
    """What is stored is encrypted, and cannot be decrypted here."""

    code = "encrypted"


def is_sealed(value: object) -> bool:
    return isinstance(value, Binary) and value.subtype == SUBTYPE


def key_of(sealed: bytes) -> bytes:
    """The id of the key that a value is sealed by."""
    return bytes(sealed[1 : 1 + _ID])


class Cipher:
    """Seals and opens the values of one person."""

    def __init__(self, scope: UserScope, key_id: bytes, secret: bytes) -> None:
        """Use the person's key.

        Args:
            scope: the person; authenticated with each value.
            key_id: 16 bytes that tell this key from an earlier one of the person.
            secret: the key, at least 32 random bytes.
        """
        self.key_id = key_id
        self._aead = AESGCM(_derived(secret, b"values"))
        self._marks = _derived(secret, b"marks")
        self._prefix = bytes([_VERSION]) + key_id
        self._where = lru_cache(32)(lambda kind, field: _joined(scope.tenant_id, scope.user_id, kind, field))

    def seal(self, place: Place, value: Any) -> Any:
        """The sealed value; what is empty stays as it is."""
        if value in (None, "", [], {}) or is_sealed(value):
            return value
        said = _TEXT + value.encode() if isinstance(value, str) else _BSON + bson.encode({"": value})
        nonce = secrets.token_bytes(_NONCE)
        return Binary(self._prefix + nonce + self._aead.encrypt(nonce, said, self._context(place)), SUBTYPE)

    def open(self, place: Place, value: Any) -> Any:
        """What `seal` was given; a value that is not sealed as it is.

        Raises:
            EncryptionError: it was sealed under another key, for another place, or has been changed.
        """
        if not is_sealed(value):
            return value
        if value[0] != _VERSION:
            raise EncryptionError("a value is encrypted in a way that this release does not know", hint="upgrade it")
        if value[1 : 1 + _ID] != self.key_id:
            raise EncryptionError(
                "a value is encrypted under a key that is not there any more",
                why=f"its key is {value[1 : 1 + _ID].hex()}",
                hint="the key was destroyed, or the key vault is not the one of this database",
            )
        try:
            said = self._aead.decrypt(value[1 + _ID : _HEADER], value[_HEADER:], self._context(place))
        except InvalidTag:
            raise EncryptionError(
                f"the {place[1]} of a document of {place[0]} cannot be decrypted",
                why="it was changed, or belongs to another field, document or person",
            ) from None
        return said[1:].decode() if said[:1] == _TEXT else bson.decode(said[1:], _CODEC)[""]

    def mark(self, place: Place, text: str) -> Binary | None:
        """Tells the same text in the same place, and nothing else."""
        here = hmac.digest(self._marks, self._context(place), hashlib.sha256)
        return Binary(hmac.digest(here, text.encode(), hashlib.sha256)[:16])

    def _context(self, place: Place) -> bytes:
        return self._where(place[0], place[1]) + place[2].encode()


class Plain:
    """Seals nothing, and says why it opens nothing that is sealed."""

    key_id = b""

    def __init__(self, message: str, why: str, hint: str) -> None:
        self._error = message, why, hint

    def seal(self, place: Place, value: Any) -> Any:  # noqa: ARG002 - the signature of a cipher
        return value

    def open(self, place: Place, value: Any) -> Any:  # noqa: ARG002
        """The value as it is.

        Raises:
            EncryptionError: it is sealed.
        """
        if is_sealed(value):
            message, why, hint = self._error
            raise EncryptionError(message, why=why, hint=hint)
        return value

    def mark(self, place: Place, text: str) -> None:  # noqa: ARG002
        return None


PLAIN = Plain(
    "what is stored is encrypted, and encryption is off here",
    "LKMONGO_ENCRYPTION is not set",
    "set it as it was when this was stored, and what it needs; see docs/encryption.md",
)


KEYLESS = Plain(
    "what is stored is encrypted, and its person has no key any more",
    "the key was destroyed, or the key vault is not the one of this database",
    "check LKMONGO_KEY_VAULT_URI; what is encrypted under a key that is lost stays unreadable",
)


class AnyCipher(Protocol):
    """A `Cipher`, or `PLAIN` where encryption is off."""

    @property
    def key_id(self) -> bytes: ...
    def seal(self, place: Place, value: Any) -> Any: ...
    def open(self, place: Place, value: Any) -> Any: ...
    def mark(self, place: Place, text: str) -> Binary | None: ...


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hmac.digest(secret, b"lkmongo/" + purpose, hashlib.sha256)


def _joined(*parts: str) -> bytes:
    return b"".join(struct.pack(">I", len(each)) + each for each in map(str.encode, parts))
