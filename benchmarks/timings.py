"""How long the store's methods take while something else is measured."""

from __future__ import annotations

import asyncio
import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from benchmarks.measure import percentile


class Timings:
    """How long each method of the store took, in milliseconds."""

    def __init__(self) -> None:
        self.took: dict[str, list[float]] = defaultdict(list)

    def watch(self, part: Any) -> None:
        """Time the public methods of a part of the store, or of all parts of a class."""
        of = (part if isinstance(part, type) else type(part)).__name__.lower()
        for name in dir(part):
            method = getattr(part, name)
            if not name.startswith("_") and asyncio.iscoroutinefunction(method):
                setattr(part, name, self._timed(f"{of}.{name}", method))

    def _timed(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        async def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return await method(*arguments, **named)
            finally:
                self.took[name].append(1e3 * (time.perf_counter() - began))

        return timed

    def table(self) -> dict[str, dict[str, float]]:
        """Count, median and 95th percentile of each."""
        return {
            name: {
                "count": len(all_),
                "p50_ms": round(statistics.median(all_), 1),
                "p95_ms": round(percentile(all_, 95), 1),
            }
            for name, all_ in sorted(self.took.items())
        }
