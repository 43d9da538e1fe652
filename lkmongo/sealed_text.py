"""Text that only the holder of LIVEKIT_API_SECRET can make or read: Fernet, under a key of its own for each use."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

CALLER_KEY, CALL_KEY = b"lkmongo sealed caller 1", b"lkmongo sealed call 1"
"""What the keys are derived for: what is sealed as one thing cannot be opened as the other."""


def sealed_text(content: dict[str, Any], secret: str, made: datetime, use: bytes) -> str:
    """Seal what can be JSON; when it was made can be read."""
    return str(fernet(secret, use).encrypt_at_time(compact(content).encode(), int(made.timestamp())).decode())


def opened_text(text: str, secrets: Sequence[str], use: bytes) -> tuple[bytes, int]:
    """The content, and when it was sealed in seconds since the epoch; raises ValueError."""
    from cryptography.fernet import InvalidToken

    for secret in filter(None, secrets):
        try:
            data: bytes = fernet(secret, use).decrypt(text.encode())
        except InvalidToken:
            continue
        return data, int.from_bytes(base64.urlsafe_b64decode(text)[1:9], "big")
    raise ValueError("none of the secrets has made it")


def compact(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def fernet(secret: str, use: bytes = CALLER_KEY) -> Any:
    """A cipher with a derived key, so that seals reveal nothing about the secret that signs tokens."""
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=use).derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(key))
