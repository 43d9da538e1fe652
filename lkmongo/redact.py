"""Keep secrets out of every message, log line and table."""

from __future__ import annotations

import re
from collections.abc import Iterable

URI_CREDENTIALS = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/\s@]*@", re.IGNORECASE)
JWT = re.compile(r"\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` without credentials in addresses, tokens, and the given secrets.

    Values shorter than four characters are left alone: replacing them would garble the text and they
    protect nothing.
    """
    for secret in sorted((value for value in secrets if len(value) >= 4), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = URI_CREDENTIALS.sub(r"\1***@", text)
    text = JWT.sub("eyJ***", text)
    return _BEARER.sub(r"\1 ***", text)


def mask(secret: str) -> str:
    """Show enough of a key to tell two apart, and no more."""
    return f"{secret[:4]}***{secret[-2:]}" if len(secret) >= 16 else "***"
