"""Whether LIVEKIT_API_SECRET can be guessed: whoever knows it joins any room, and is whoever they like there."""

from __future__ import annotations

import re
import warnings

from lkmongo.errors import SettingsError

SHORTEST_SECRET = 32
"""Minimum bytes of a key for HMAC-SHA256 (RFC 7518, section 3.2)."""
_WELL_KNOWN = re.compile(r"change.?me|your.?(api|livekit|secret)|(dev)?secret.?key|<.*>", re.IGNORECASE)
"""What stands in examples; livekit-server's own for development is too short anyway."""
_FEWEST_CHARACTERS = 8
"""Different ones; of 32 random hexadecimal digits, one in 28 million has no more than seven."""

HINT = f"give the LiveKit server {SHORTEST_SECRET} random bytes or more: openssl rand -hex 32"
"""Without the word for what it is, which is a common value of it, and would be redacted."""


def weakness(secret: str) -> str | None:
    """Why a secret could be guessed, as what follows its name in a sentence; None for one that could not."""
    if (length := len(secret.encode())) < SHORTEST_SECRET:
        return f"has only {length} bytes and could be guessed"
    if _WELL_KNOWN.search(secret):
        return "is that of an example, which anybody would try"
    if len(set(secret)) < _FEWEST_CHARACTERS or re.fullmatch(r"(.{1,15}?)\1+.{0,14}", secret, re.DOTALL):
        return "repeats itself and could be guessed"
    return None


def check_secret(secret: str, *, permitted: bool) -> str | None:
    """Refuse a secret that could be guessed, unless this is for development, or nobody else reaches the LiveKit server.

    Args:
        secret: LIVEKIT_API_SECRET.
        permitted: one that could be guessed is only warned of.

    Returns:
        The warning that is due all the same; None if the secret is good.

    Raises:
        SettingsError: it could be guessed.
    """
    why = weakness(secret)
    if why is None:
        return None
    if not permitted:
        raise SettingsError(
            f"LIVEKIT_API_SECRET {why}",
            why="whoever knows it can join every room and be recognised as anybody",
            hint=f"{HINT}; for development, --dev permits it",
        )
    return f"LIVEKIT_API_SECRET {why}: only for development; {HINT}"


def silence_pyjwt() -> None:
    """Keep PyJWT from warning of a short secret with each token: `check_secret` has done so once."""
    warnings.filterwarnings("ignore", message=r"The HMAC key is \d+ bytes")
