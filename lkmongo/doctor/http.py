"""What every look at a service over HTTP has in common."""

from __future__ import annotations

from lkmongo.errors import LkmongoError

PATIENCE = 3.0
"""Seconds for one answer."""


class UnreachableError(LkmongoError):
    """A service cannot be reached."""

    code = "unreachable"


def reason(error: BaseException, seconds: float) -> str:
    """What to say of a connection that came to nothing."""
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:g} s"
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
