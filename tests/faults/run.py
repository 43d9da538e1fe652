"""Hold hundreds of calls, each with a fault, and kill consoles: `make faults`.

    python -m tests.faults.run [--calls N] [--kills N] [--sessions N] [--fault NAME ...] [--at-once N] [--seed N]

It prints fault x phase x outcome with the longest waits, and exits with 1 when a call is not in MongoDB as it was held,
when somebody waited too long, or when anything is left open. A run on two cores takes some ten minutes. Dozens of calls
share the process: the time in which it stands still is told apart, and is no wait for MongoDB.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.cli.started import Zygote
from tests.faults import killed
from tests.faults.held import KINDS, Held, Kind
from tests.faults.learned import kill_at_each_step, lose_mongodb
from tests.faults.many import hold_many
from tests.faults.rig import Mongod, cases, hold_all, left_over, open_now, rig, table

_MEMORY = Path("/dev/shm")


async def run(calls: int, kills: int, sessions: int, kinds: Sequence[Kind], at_once: int, seed: int) -> int:
    """Do it; returns the exit code."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="lkmongo-faults-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None))
    wrong: list[str] = []
    mongod = Mongod(folder / "db")
    try:
        async with rig(folder, mongod) as it:
            every = cases(calls + 1, kinds)
            held: list[Held] = await hold_all(it, mongod, every[:1], seed, at_once=1)  # it opens what stays open
            before = open_now()
            held = await hold_all(it, mongod, every[1:], seed, at_once=at_once)
            if left := await left_over(before):
                wrong.append(f"left open: {dict(left)}")
            print(
                f"{len(held)} calls with a fault each, "
                f"{mongod.restarts} restarts of mongod, {mongod.step_downs} step-downs\n"
            )
            print(table(held), flush=True)
            wrong += await hold_many(it.store, folder / "many", sessions)
            print(f"\n{sessions} sessions at once in one process, half of them while MongoDB takes nothing")
            wrong += await kill_at_each_step(it.store, f"{mongod.uri}", it.embedder)
            wrong += await lose_mongodb(it.store, it.socket_path, it.embedder)
            print("\nlearning from a call, killed at each of its steps and without MongoDB")
            some = killed.plan(kills)
            if some:
                with Zygote(patient=False) as zygote:
                    await killed.kill_all(it, zygote, some, seed)
                print(f"\n{len(some)} consoles killed with SIGKILL\n")
                print(killed.table(some))
            if left := await left_over(before):
                wrong.append(f"left open after the kills: {dict(left)}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    wrong += [f"{each.case} ({each.outcome}): {'; '.join(each.wrong)}" for each in held if each.wrong]
    wrong += [
        f"console {each.number}, {each.fault}, {each.when} ({each.outcome}): {'; '.join(each.wrong)}"
        for each in some
        if each.wrong
    ]
    print(f"\n{time.monotonic() - began:.0f} s, seed {seed}, {len(wrong)} wrong")
    for line in wrong:
        print(line)
    return bool(wrong)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--sessions", type=int, default=500, help="at once, without an agent")
    parser.add_argument("--fault", action="append", choices=KINDS, help="only this fault in calls; may be repeated")
    parser.add_argument("--at-once", type=int, default=40)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args(arguments)
    logging.getLogger().setLevel(logging.CRITICAL)
    return asyncio.run(run(given.calls, given.kills, given.sessions, given.fault or KINDS, given.at_once, given.seed))


if __name__ == "__main__":
    sys.exit(main())
