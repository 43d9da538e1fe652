"""What drives recall-livekit, run by the Python of its own environment: one piece of work per line of standard input.

    .bench/recall-livekit/bin/python benchmarks/rival_runner.py '{"backend": "mongodb", "backend_url": "mongodb://..."}'
    .bench/recall-livekit/bin/python benchmarks/rival_runner.py '{"local_dir": "..."}'

The argument is what its `RecallMemory.open` is given. Each line is `["load"]`, `["remember", kind, value]`,
`["forget", kind, value]` or `["search", words]`; the answer is a line `{"ms": ..., "found": ...}`. It knows nothing of
lkmongo, and takes its time itself: the way of a line to here and back is not its fault.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from recall_livekit import VOICE_REGISTRY, RecallMemory  # type: ignore[import-not-found]

PATIENT = {"read_timeout": 30, "write_timeout": 30}
"""Seconds. By default it gives up a read after 0.5 and goes on without the facts: that would be no time to compare."""


async def main() -> None:
    """Open the memory as its README does, and serve standard input until it ends."""
    memory = RecallMemory.open(predicates=VOICE_REGISTRY, **json.loads(sys.argv[1]))
    try:
        subject = memory.for_subject("caller-1", **PATIENT)
        _say({"ready": True})
        while line := await asyncio.to_thread(sys.stdin.readline):
            _say(await _do(memory, subject, *json.loads(line)))
    finally:
        memory.close()


async def _do(memory: Any, subject: Any, what: str, *given: Any) -> dict[str, Any]:
    began = time.perf_counter()
    found: Any = None
    match what:
        case "load":  # a call begins: a new view of the caller, as an entrypoint makes one
            found = len(await memory.for_subject("caller-1", **PATIENT).load())
        case "remember":
            found = not (await subject.remember(*given)).already_known
        case "forget":
            found = await subject.forget(*given)
        case "search":
            found = len(await subject.search(*given))
    return {"ms": (time.perf_counter() - began) * 1000, "found": found}


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
