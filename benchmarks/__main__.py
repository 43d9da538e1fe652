"""All benchmarks in one go: `make bench`.

    python -m benchmarks [--quick | --full]

lkmongo beside the design guide's way (`side_by_side`), beside recall-livekit (`rival`), as there is more of everything
(`growth`), with one caller of very much (`holding`), and what it stores (`scale`), each in a process of its own. It
prints what is to be reached and whether it is, and then writes benchmarks/results.json and what the documents show of
it. A run takes about forty minutes on two cores; `--quick` takes three minutes and writes nothing; `--full` exports a
million sessions, too, and takes an hour and a half. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import goals
from benchmarks.measure import Result, tell, write_json
from benchmarks.report import RESULTS

PARTS = ("side_by_side", "rival", "growth", "holding", "scale")


def measure(part: str, *options: str) -> dict[str, Any]:
    """The figures of one part, as it writes them."""
    tell(f"{time.strftime('%H:%M')}  benchmarks.{part}")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "figures.json"
        command = [sys.executable, "-m", f"benchmarks.{part}", *options, "--json", str(target)]
        done = subprocess.run(command, cwd=RESULTS.parents[1], stdout=subprocess.DEVNULL, check=False)
        if done.returncode or not target.exists():
            sys.exit(f"benchmarks.{part} ended with {done.returncode} and left no figures")
        return dict(json.loads(target.read_text(encoding="utf-8")))


def main() -> None:
    """Measure everything, and say what is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    how_far = parser.add_mutually_exclusive_group()
    how_far.add_argument("--quick", action="store_true", help="few rounds and small sizes, and nothing is written")
    how_far.add_argument("--full", action="store_true", help="the largest sizes, too")
    options = parser.parse_args()
    machine: dict[str, Any] = {}
    results: list[Result] = []
    for part in PARTS:
        extent = ["--quick"] if options.quick else ["--full"] if options.full and part == "growth" else []
        figures = measure(part, *extent)
        machine = machine or figures["machine"]
        results += [Result(**each) for each in figures["results"]]
    print(goals.table(results))
    if not options.quick:
        write_json(RESULTS, results, machine)
        subprocess.run([sys.executable, "-m", "docs.generate"], cwd=RESULTS.parents[1], check=True)
        tell(
            f"written: {RESULTS.relative_to(RESULTS.parents[1])}, docs/performance.md, docs/scale.md, "
            "docs/images/performance.svg"
        )


if __name__ == "__main__":
    main()
