"""Secrets: redacted from messages, logs and tables."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable

URI_CREDENTIALS = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/\s@]*@", re.IGNORECASE)
JWT = re.compile(r"\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Redact credentials in addresses, tokens, and the given secrets.

    Secrets shorter than four characters are left alone: replacing them would garble the text and protect nothing.
    """
    for secret in sorted((value for value in secrets if len(value) >= 4), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = URI_CREDENTIALS.sub(r"\1***@", text)
    text = JWT.sub("eyJ***", text)
    return _BEARER.sub(r"\1 ***", text)


def mask(secret: str) -> str:
    """Show just enough of a key to tell two apart."""
    return f"{secret[:4]}***{secret[-2:]}" if len(secret) >= 16 else "***"


class RedactingFormatter(logging.Formatter):
    """Redacts log records, tracebacks included; a subclass overrides `write` for another layout."""

    def __init__(self, template: str | None = None, *, secrets: Collection[str]) -> None:
        super().__init__(template)
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return redact(self.write(record), self._secrets)

    def write(self, record: logging.LogRecord) -> str:
        return super().format(record)
