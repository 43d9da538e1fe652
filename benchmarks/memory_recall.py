"""What drives recall-livekit in its own environment: a line of JSON to do on standard input, what came of it back.

    .bench/recall-livekit/bin/python benchmarks/memory_recall.py FOLDER

It is used as its documentation says: a registry of labels of its own, of which most hold one value and some several,
its local mode with its own server and search by words, and the statements dated as those of an imported conversation.
A question on a month is asked with its `as_of`, which the agent's code would have to pass; each belief comes with what
it replaced. This knows nothing of lkmongo, and takes its time itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from recall_livekit import RecallMemory  # type: ignore[import-not-found]
from recall_livekit.render import render_beliefs  # type: ignore[import-not-found]

LIMIT = 5
PATIENT = {"read_timeout": 30, "write_timeout": 30}
"""Seconds. By default it gives up a read after 0.5 and goes on without the facts: that would be no time to compare."""


async def write(memory: Any, told: list[dict[str, Any]]) -> int:
    for each in told:
        await asyncio.to_thread(
            memory.client.remember, each["person"], each["closed"], each["text"], observed_at=each["at"]
        )
    return len(told)


async def ask(memory: Any, question: dict[str, Any]) -> dict[str, Any]:
    person, words = question["person"], question["text"]
    subject = memory.for_subject(person, **PATIENT)
    began = time.perf_counter()
    if question["month"]:
        # The end of the month: somebody who asks about March means what was true in it.
        end = datetime.fromisoformat(question["month"]) + timedelta(days=27)
        found = await asyncio.to_thread(memory.client.recall, person, query=words, as_of=end, limit=LIMIT)
    else:
        found = await subject.search(words, k=LIMIT)
    ms = (time.perf_counter() - began) * 1000
    hits: list[dict[str, Any]] = []
    for each in found:
        until = None if not question["month"] else (end + timedelta(days=1)).isoformat()
        hits.append({"text": str(each.value), "since": each.observed_at, "until": until})
        hits += [
            {"text": str(old.value), "since": old.observed_at, "until": each.observed_at, "former": True}
            for old in each.replaced
        ]
    told = render_beliefs(found, registry=subject.registry, remember_tool=False)
    # As its agent does: with more beliefs than it loads, it adds what it finds for each thing that is said.
    block, is_more = await briefing(subject)
    return {"ms": ms, "hits": hits, "told": told, "briefed": block + told if is_more else block}


_BLOCKS: dict[str, tuple[str, bool]] = {}


async def briefing(subject: Any) -> tuple[str, bool]:
    """The block in its agent's instructions, loaded once for a call, and whether there is more than it holds."""
    if subject.subject not in _BLOCKS:
        block = str(render_beliefs(await subject.load(), registry=subject.registry))
        _BLOCKS[subject.subject] = block, subject.overflowed
    return _BLOCKS[subject.subject]


def _registry(home: Path, labels: dict[str, bool]) -> Path:
    path = home / "registry.json"
    registry = {
        label: {
            "cardinality": "multi" if multi else "single",
            "value_type": "string",
            "description": label.replace("_", " "),
        }
        for label, multi in labels.items()
    }
    path.write_text(json.dumps(registry), encoding="utf-8")
    return path


async def main(home: Path, labels: dict[str, bool]) -> None:
    """Serve standard input until it ends."""
    path = _registry(home, labels)
    memory = RecallMemory.open(local_dir=str(home / "data"), predicates=str(path))
    try:
        say({name: version(name) for name in ("recall-livekit", "polign-recall", "polign-db")})
        while line := await asyncio.to_thread(sys.stdin.readline):
            work, given = json.loads(line)
            if work == "write":
                say(await write(memory, given))
            else:
                say([await ask(memory, each) for each in given])
    finally:
        memory.close()
        os._exit(0)


def say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    # The first line is the list of labels, each with whether it holds several values.
    asyncio.run(main(folder, json.loads(sys.stdin.readline())))
