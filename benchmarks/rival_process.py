"""recall-livekit in its own environment and process, driven line by line; `rival_runner.py` is the other end.

The environment is `.bench/recall-livekit`, made with pip when it is missing: it has its own LiveKit SDK, and a database
server of its own that its local mode starts.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.environments import alone, environment

RIVAL = "recall-livekit"
VERSION = "0.4.0"
PACKAGES = [f"{RIVAL}=={VERSION}"]


class Rival:
    """The runner's process, spoken to line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Speak to a process that is ready."""
        self._process = process

    async def ask(self, *work: object) -> tuple[float, Any]:
        """Have one piece of work done; returns its milliseconds, and what came of it."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(work).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {RIVAL} ended at {work[0]}; what it said is above")
        answer = json.loads(line)
        return float(answer["ms"]), answer["found"]


@asynccontextmanager
async def rival(options: Mapping[str, object], folder: Path) -> AsyncIterator[Rival]:
    """Run recall-livekit with these options of `RecallMemory.open`; what it starts in the background ends with it."""
    python = environment(RIVAL, PACKAGES)
    command = [str(python), str(Path(__file__).with_name("rival_runner.py")), json.dumps(options)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=alone(folder))
    try:
        assert process.stdin
        assert process.stdout
        if not await process.stdout.readline():
            raise SystemExit(f"error: {RIVAL} does not open {options}; what it said is above")
        yield Rival(process)
    finally:
        if process.stdin:
            process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(20):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        if "local_dir" in options:
            await asyncio.to_thread(stop_server, Path(str(options["local_dir"])) / "runtime.json")


def stop_server(runtime: Path) -> None:
    """End the server that the local mode leaves running."""
    with suppress(FileNotFoundError, ProcessLookupError):
        pid = json.loads(runtime.read_text(encoding="utf-8"))["pid"]
        os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            os.kill(pid, 0)
            time.sleep(0.05)
