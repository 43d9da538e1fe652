"""The key that hides erased people's ids, and seals the audit trail: it is kept outside of the database.

LKMONGO_ERASURE_KEY, the same on every machine; for the embedded mongod, which is on one machine, a file in the data
folder that is made by itself. The file is also tried for a database whose hashes were made with it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from lkmongo.errors import SettingsError
from lkmongo.files import kept_secret
from lkmongo.settings import Settings

_FILE = "erasure-key"


@dataclass(frozen=True, slots=True)
class ErasureKey:
    """A secret of at least 32 characters.

    Attributes:
        secret: the key.
        is_set: whether it is meant for this database: set by hand, or of the embedded mongod.
    """

    secret: bytes
    is_set: bool = True

    @property
    def id(self) -> str:
        """Eight hexadecimal digits that tell two keys apart and nothing about them."""
        return self.sign("id", b"")[:8]

    def sign(self, use: str, data: bytes) -> str:
        """HMAC-SHA256 in hexadecimal; a signature for one `use` is none for another."""
        return hmac.new(self.secret, f"lkmongo {use} 1\n".encode() + data, hashlib.sha256).hexdigest()


def load_erasure_key(settings: Settings, *, embedded: bool) -> ErasureKey | None:
    """The key of these settings; for the embedded mongod the file is created if missing.

    Raises:
        SettingsError: the file cannot be created or read, others can read it, or it holds no key.
    """
    if settings.erasure_key:
        return ErasureKey(settings.erasure_key.get_secret_value().encode())
    file = settings.data_home / _FILE
    if not embedded and not file.exists():
        return None
    return ErasureKey(_read(file).encode(), is_set=embedded)


def _read(file: Path) -> str:
    what = "the key that hides erased people's ids"
    text = kept_secret(file, name="key", what=what, setting="LKMONGO_ERASURE_KEY").strip()
    if len(text) < 32:
        raise SettingsError(
            f"{file} does not hold a key of at least 32 characters", hint="put it back from where you keep a copy"
        )
    return text
