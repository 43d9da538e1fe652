"""Time as the stand-in sees it: real seconds that can be skipped, or seconds that pass only when told."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class Clock:
    """Seconds since the start. A virtual clock stands still until `advance`; a real one runs and can be moved on."""

    def __init__(self, *, virtual: bool = False) -> None:
        self.virtual = virtual
        self._skipped = 0.0
        self._origin = time.monotonic()
        self._date = datetime.now(UTC)

    def now(self) -> float:
        """Seconds since the start."""
        return self._skipped + (0.0 if self.virtual else time.monotonic() - self._origin)

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`."""
        if seconds < 0:
            raise ValueError(f"time does not run backwards: {seconds}")
        self._skipped += seconds

    def date(self, at: float) -> datetime:
        """The date of a moment of this clock."""
        return self._date + timedelta(seconds=at)
