"""The cookie: a random handle that identifies a browser, signed so that nobody can invent another.

It contains no user id. The database holds a hash of it, and the guest's id is another one: neither allows forging the
cookie, and a guest is known before the database answers. A page that gets no cookie keeps it as a visitor token.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass

from lkmongo.errors import SettingsError
from lkmongo.files import kept_secret
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from lkmongo.ticket import VISITOR_PREFIX

MAX_AGE = 365 * 24 * 3600
"""Seconds for which a cookie is valid; it is renewed for those who come back."""
RENEW_AFTER = 7 * 24 * 3600
"""Age in seconds from which a cookie is renewed."""

_FORM = re.compile(r"([\w-]{43})\.([0-9a-f]{8})\.([0-9a-f]{64})", re.ASCII)
_KEY_FILE = "web-keys"


@dataclass(frozen=True, slots=True)
class Handle:
    """Identifies a browser: 32 random bytes, and when its cookie was made (seconds since the epoch)."""

    secret: str
    made_at: int

    @classmethod
    def new(cls) -> Handle:
        return cls(secrets.token_urlsafe(32), int(time.time()))

    def key(self, tenant_id: str) -> str:
        """The browser's `_id` in the database, a hash of 64 hexadecimal digits."""
        return self._hash("visitor", tenant_id)

    def guest(self, tenant_id: str) -> UserScope:
        """The guest that this browser stands for, always the same."""
        return UserScope(tenant_id=tenant_id, user_id=VISITOR_PREFIX + self._hash("guest", tenant_id)[:32])

    def renewed(self) -> Handle:
        """The same handle, made now."""
        return Handle(self.secret, int(time.time()))

    def _hash(self, use: str, tenant_id: str) -> str:
        return hashlib.sha256(f"lkmongo {use} 1\n{tenant_id}\n{self.secret}".encode()).hexdigest()


def login_key(login: UserScope) -> str:
    """The `_id` in the database of somebody who logs in, as `Handle.key` is of a browser."""
    return hashlib.sha256(f"lkmongo login 1\n{login.tenant_id}\n{login.user_id}".encode()).hexdigest()


class CookieKeys:
    """Signs with the first key, and accepts signatures of any."""

    def __init__(self, keys: list[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def write(self, handle: Handle) -> str:
        """The value of the cookie, signed with HMAC-SHA256."""
        signed = f"{handle.secret}.{handle.made_at:08x}"
        return f"{signed}.{_signature(self._keys[0], signed)}"

    def read(self, value: str) -> tuple[Handle, bool] | None:
        """The handle, and whether its cookie should be renewed; None if it is forged, damaged or too old."""
        if not (form := _FORM.fullmatch(value)):
            return None
        secret, made, signature = form.groups()
        matches = [hmac.compare_digest(_signature(key, f"{secret}.{made}"), signature) for key in self._keys]
        age = time.time() - int(made, 16)
        if not any(matches) or age > MAX_AGE:
            return None
        return Handle(secret, int(made, 16)), age > RENEW_AFTER or not matches[0]


def load_keys(settings: Settings) -> CookieKeys:
    """The keys from the settings, or from a file in the data folder, which is created if missing.

    Raises:
        SettingsError: the file cannot be created or read, others can read it, or it contains no valid keys.
    """
    if settings.web_keys:
        return CookieKeys(settings.web_keys.get_secret_value().split(","))
    file = settings.data_home / _KEY_FILE
    what = "the keys that sign cookies"
    keys = kept_secret(file, name="keys", what=what, setting="LKMONGO_WEB_KEYS").split()
    if not keys or any(len(key) < 32 for key in keys):
        raise SettingsError(
            f"{file} does not contain keys of at least 32 characters",
            hint="delete it: a new one is created, and returning visitors become new guests",
        )
    return CookieKeys(keys)


def _signature(key: bytes, text: str) -> str:
    return hmac.new(key, f"lkmongo visitor 1\n{text}".encode(), hashlib.sha256).hexdigest()
