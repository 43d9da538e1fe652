"""The name that `caller_session` had in 0.1.0: agents that were written for it work for one more minor version."""

from __future__ import annotations

import warnings
from typing import Any


def __getattr__(name: str) -> Any:
    if name != "Call":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lkmongo.agent.caller_session import CallerSession

    warnings.warn(
        "lkmongo.agent.call.Call is now lkmongo.agent.caller_session.CallerSession", DeprecationWarning, stacklevel=2
    )
    return CallerSession
