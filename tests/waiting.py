"""Waiting for something to become true, for tests that cannot be told when it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE = 300.0
"""Seconds: the machine that runs the tests may be busy."""
_STEP = 0.02


async def until(true: Callable[[], object]) -> None:
    """Wait until `true()` is, an awaitable's result likewise."""
    for _ in range(int(PATIENCE / _STEP)):
        found = true()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        await asyncio.sleep(_STEP)
    raise AssertionError(f"still not true after {PATIENCE:g} s")
