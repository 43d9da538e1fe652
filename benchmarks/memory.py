"""What is found again of what people told, beside mem0 and recall-livekit: `make bench-memory`.

    python -m benchmarks.memory [--seed N] [--people N] [--only NAME ...] [--no-write]

The same sentences go into each system by its own documented way of writing without a language model, then the same
questions are asked by its own way of searching, in turns, each system in a process of its own. `memory_cases` makes
both from a seed, `memory_judge` says what an answer is worth. mem0 and recall-livekit have environments of their own,
`.bench/mem0` and `.bench/recall-livekit`, made when they are missing. It takes about four minutes on two cores, prints
its table, and writes benchmarks/memory_results.json, of which docs/memory.md is made.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import memory_report
from benchmarks.environments import alone, environment
from benchmarks.measure import machine, tell
from benchmarks.memory_cases import SEED, Cases, make
from benchmarks.memory_judge import Answer
from benchmarks.rival_process import stop_server

HERE = Path(__file__).parent
OURS, MEM0, RECALL = "lkmongo", "mem0", "recall-livekit"
MEM0_PACKAGES = ["mem0ai==2.2.1", "fastembed==0.9.1", "langchain<1", "bm25s", "wordllama"]
RECALL_PACKAGES = ["recall-livekit==0.4.0"]
_BATCH = 20
_TOO_LONG = 600.0
"""Seconds that one answer of a system may take."""


@dataclass(frozen=True, slots=True)
class System:
    """How a system is run: the command, given a folder for its data; what it reads first; what to end afterwards."""

    command: Callable[[], Sequence[str]]
    first: Callable[[Cases], Any] | None = None
    alone: bool = True


def _labels(cases: Cases) -> dict[str, bool]:
    return {each.closed: each.multi for each in cases.told}


SYSTEMS = {
    OURS: System(lambda: [sys.executable, "-m", "benchmarks.memory_ours"], alone=False),
    MEM0: System(lambda: [str(environment(MEM0, MEM0_PACKAGES)), str(HERE / "memory_mem0.py")]),
    RECALL: System(lambda: [str(environment(RECALL, RECALL_PACKAGES)), str(HERE / "memory_recall.py")], _labels),
}


class Running:
    """A system's process, spoken to line by line."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.versions: dict[str, str] = {}
        self._process = process

    async def do(self, what: Any) -> Any:
        """Have something done; returns what came of it."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        await self._process.stdin.drain()
        return await self.read()

    async def read(self) -> Any:
        """The next line that it writes.

        Raises:
            SystemExit: it has ended, or takes too long.
        """
        assert self._process.stdout
        try:
            async with asyncio.timeout(_TOO_LONG):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise SystemExit(f"error: {self.name} has not answered for {_TOO_LONG:g} s") from None
        if not line:
            raise SystemExit(f"error: {self.name} ended; what it said is above")
        return json.loads(line)


@asynccontextmanager
async def running(name: str, cases: Cases, home: Path) -> AsyncIterator[Running]:
    """Run a system; what it starts in the background ends with it."""
    system, pipe = SYSTEMS[name], asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *system.command(),
        str(home),
        stdin=pipe,
        stdout=pipe,
        cwd=HERE.parent,
        env=alone(home.parent) if system.alone else dict(os.environ),
        limit=2**26,
    )
    try:
        it = Running(name, process)
        it.versions = await it.do(system.first(cases)) if system.first else await it.read()
        yield it
    finally:
        if process.stdin:
            process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(20):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await asyncio.to_thread(stop_server, home / "data" / "runtime.json")


async def run(cases: Cases, names: Sequence[str]) -> dict[str, Any]:
    """Tell all systems everything, and ask them everything; returns what memory_results.json holds."""
    began = time.monotonic()

    def note(text: str) -> None:
        tell(f"{time.monotonic() - began:4.0f} s  {text}")

    answers: dict[str, list[Answer]] = {name: [] for name in names}
    writing: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="lkmongo-benchmark-", ignore_cleanup_errors=True) as folder:
        async with AsyncExitStack() as stack:
            systems = [
                await stack.enter_async_context(running(name, cases, Path(folder) / name / "home")) for name in names
            ]
            for system in systems:
                note(f"{system.name}: {len(cases.told)} sentences of {len(cases.people)} people")
                at = time.monotonic()
                for start in range(0, len(cases.told), 100):
                    await system.do(["write", [asdict(each) for each in cases.told[start : start + 100]]])
                writing[system.name] = (time.monotonic() - at) * 1000 / len(cases.told)
            for system in systems:  # what is made when it is first asked is not a search's time
                for person in cases.people:
                    await system.do(["ask", [_first_words(person)]])
            for start in range(0, len(cases.questions), _BATCH):
                if start % 200 == 0:
                    note(f"question {start} of {len(cases.questions)}")
                batch = cases.questions[start : start + _BATCH]
                turn = start // _BATCH % len(systems)
                for system in systems[turn:] + systems[:turn]:
                    found = await system.do(["ask", [asdict(each) for each in batch]])
                    answers[system.name] += [Answer.of(each) for each in found]
            versions = {system.name: system.versions for system in systems}
    note("done")
    return memory_report.results(cases, answers, writing) | {"versions": versions, "machine": machine()}


def _first_words(person: str) -> dict[str, Any]:
    return {"person": person, "text": "good morning", "month": None}


def main() -> None:
    """Measure, print the table, and write the figures and the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED, help="another one makes other people and questions")
    parser.add_argument("--people", type=int, default=8, help="besides one with very many memories")
    parser.add_argument("--only", action="append", choices=list(SYSTEMS), help="a system; as often as one likes")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started ends with it, as after Ctrl-C
    cases = make(options.seed, people=options.people)
    results = asyncio.run(run(cases, options.only or list(SYSTEMS)))
    print(memory_report.text(results))
    if not options.no_write:
        memory_report.RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        from docs import generate

        for path in generate.OF_MEMORY:
            (generate.ROOT / path).write_text(generate.DOCUMENTS[path](), encoding="utf-8")


if __name__ == "__main__":
    main()
