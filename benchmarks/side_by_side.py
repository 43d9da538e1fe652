"""lkmongo beside the design guide's way of doing the same work, in one run, on one mongod, through one network.

    python -m benchmarks.side_by_side [--only NAME ...] [--quick] [--json FILE]

The names are the functions in `rows_calls`, `rows_endings`, `rows_processes` and `rows_data`. A vector takes 90 ms for
both where a service would make it. A full run takes some fifteen minutes, `--quick` about one.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import Result, machine, table, tell, write_json
from benchmarks.stage import Stage, Ways, connected, staged

ROUND_TRIPS = (0, 5, 20, 80)
"""Milliseconds."""


@dataclass(frozen=True)
class Options:
    """How much of it to run; `only` names rows, none means all."""

    only: Sequence[str] = field(default_factory=tuple)
    quick: bool = False


CALLS = ("session_start", "tools", "hang_up")
DATA = ("exact_search", "ingest", "export", "speculation")
NAMES = (*CALLS, "first_call", "slot_bytes", "away", "commands", *DATA)


async def run(options: Options, results: list[Result] | None = None) -> list[Result]:  # noqa: C901 - rows, one by one
    """Measure the rows that the options name; what is done so far is in `results`, should one fail."""
    from benchmarks import rows_calls, rows_data, rows_endings, rows_processes

    wanted = [name for name in NAMES if name in options.only or not options.only]
    results = [] if results is None else results
    began = time.monotonic()

    def tell_of(name: str) -> None:
        tell(f"{time.monotonic() - began:4.0f} s  {name}")

    async def calls(stage: Stage, ways: Ways) -> None:
        await rows_calls.prepare(ways)
        for rtt_ms in (0, 20) if options.quick else ROUND_TRIPS:
            stage.network.rtt(rtt_ms)
            rounds = 3 if options.quick else 8 if rtt_ms == 80 else 14
            for name in CALLS:
                if name in wanted:
                    tell_of(f"{name} at {rtt_ms} ms")
                    few = max(3, rounds // 2) if name == "hang_up" else rounds
                    module = rows_endings if name == "hang_up" else rows_calls
                    results.extend(await getattr(module, name)(ways, rtt_ms, few))
            if "first_call" in wanted and rtt_ms != 5 and (rtt_ms or not options.quick):
                tell_of(f"first_call at {rtt_ms} ms")
                few = 2 if options.quick else 5 if rtt_ms == 20 else 3
                results.extend(await rows_processes.first_call(stage, rtt_ms, few))
        stage.network.rtt(0)
        if "slot_bytes" in wanted:
            tell_of("slot_bytes")
            results.extend(await rows_data.slot_bytes(ways))
        if "away" in wanted:
            tell_of("away")
            results.extend(await rows_calls.away(ways, 1 if options.quick else 3, full=not options.quick))

    with staged() as stage:
        if {*CALLS, "first_call", "slot_bytes", "away"} & set(wanted):
            async with connected(stage) as ways:
                await calls(stage, ways)
        for name, module in (("commands", rows_processes), *((name, rows_data) for name in DATA)):
            if name in wanted and not (options.quick and name == "speculation"):
                tell_of(name)
                results += await getattr(module, name)(stage, quick=options.quick)
    tell_of("done")
    return results


def main() -> None:
    """Measure, print the table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], choices=NAMES, help="a row; as often as one likes")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and no row that takes long")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    results: list[Result] = []
    try:
        asyncio.run(run(Options(tuple(options.only), options.quick), results))
    finally:
        print(table(results))
        if options.json:
            from lkmongo.local.binary import find_server

            write_json(options.json, results, machine(find_server().version))


if __name__ == "__main__":
    main()
