"""The table of `benchmarks.rooms`, as docs/scale.md shows it, what a replica needs by it, and README.md's sentence."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("rooms_results.json")
PROMPT = {"text": 1.5, "voice": 3.0}
"""Seconds that 95 % of the answers may take at most, for calls to be carried. Aloud, the delay that ends a turn is 1.5
of them."""
_KINDS = {"text": "in text", "voice": "aloud"}


def results() -> dict[str, Any]:
    """The figures of the last runs; empty if there are none."""
    return dict(json.loads(RESULTS.read_text(encoding="utf-8"))) if RESULTS.exists() else {}


def place(row: Mapping[str, Any]) -> tuple[str, int, str]:
    """Where a row belongs: each kind by the number of calls, lkmongo below the bare worker."""
    return row["kind"], row["calls"], row["way"]


def is_carried(row: Mapping[str, Any]) -> bool:
    """Whether everybody was served, and soon."""
    late = row["wait_p95"] is None or row["wait_p95"] > PROMPT[row["kind"]]
    return not (row["unserved"] or row["missing"] or late)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line for each kind, number of calls and worker."""
    head = "calls | worker | wait for an answer: median, p95 | for the greeting | no agent | no answer"
    lines = [
        f"| {head} | memory idle, in calls | processes | to join | cores: worker | server | clients | others | |",
        "|---|---|---|---|---:|---:|---|---:|---:|---:|---:|---:|---|---|",
    ]
    for row in rows:
        cores = row["cores"]
        others = ", ".join(f"{name} {cores[name]:.2f}" for name in ("MongoDB", "speech") if name in cores)
        cells = [
            f"{row['calls']} {_KINDS[row['kind']]}",
            row["way"],
            _both(row, "wait"),
            _both(row, "greeting"),
            str(row["unserved"]),
            f"{row['missing']} of {row['turns']}",
            f"{row['idle_mb']:,.0f} MB, {row['mb']:,.0f} MB",
            str(row["processes"]),
            f"{row['joining_s']:.2f} s",
            *("-" if cores[name] is None else f"{cores[name]:.2f}" for name in ("worker", "server", "clients")),
            others,
            "**carried**" if is_carried(row) else "too many",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _both(row: Mapping[str, Any], name: str) -> str:
    values = [row[f"{name}_p{share}"] for share in (50, 95)]
    return ", ".join("never" if value is None else f"{value:.2f} s" for value in values)


def asked(row: Mapping[str, Any]) -> tuple[float, int]:
    """The cores and the mebibytes that a replica for as many calls asks Kubernetes for."""
    cores = row["cores"]["worker"] + row["joining_s"] / 2
    return math.ceil(10 * cores / 0.7) / 10, math.ceil(row["mb"] * 1.25 / 256) * 256


def replica(row: Mapping[str, Any]) -> str:
    """What a replica for as many calls asks Kubernetes for, with the arithmetic."""
    calls, worker = row["calls"], row["cores"]["worker"]
    joining = row["joining_s"] / 2
    cpu, memory = asked(row)
    return (
        f"A replica for {calls} calls {_KINDS[row['kind']]}, with LiveKit, MongoDB and models elsewhere: "
        f"{worker:.2f} cores while they talk, and {joining:.2f} for a caller who joins every two seconds "
        f"({row['joining_s']:.2f} s each), are {worker + joining:.2f}; used to 70 %, that is "
        f'`requests: {{cpu: "{cpu:g}"}}`, and no limit. {row["mb"]:,.0f} MB in calls and a quarter more are '
        f"`requests: {{memory: {memory}Mi}}`, and twice as much the limit."
    )


def carried(told: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Of each kind, the row of the most calls that lkmongo's worker carried."""
    return {row["kind"]: row for row in told["rows"] if row["way"] == "lkmongo" and is_carried(row)}


def sentence(told: Mapping[str, Any]) -> dict[str, str]:
    """The part of README.md."""
    if not told:
        return {"rooms": "Not measured yet."}
    each = [
        f"{row['calls']} {_KINDS[kind]} (95 % of answers within {row['wait_p95']:.2f} s; "
        f"a replica for as many asks for {cores:g} cores and {memory:,} MiB)"
        for kind, row in carried(told).items()
        for cores, memory in [asked(row)]
    ]
    line = (
        f"On {told['machine']['cores']} cores, beside a LiveKit server, MongoDB and the callers' clients, a worker "
        f"carried these calls: {', or '.join(each)}."
    )
    return {"rooms": textwrap.fill(line, 118, break_on_hyphens=False)}


def blocks(told: Mapping[str, Any]) -> dict[str, str]:
    """The part of docs/scale.md."""
    if not told:
        return {"rooms": "Not measured yet."}
    facts, rows = told["machine"], told["rows"]
    line = (
        f"Measured on {facts['measured_on']} on {facts['cores']} cores, {facts['system']}, Python {facts['python']}, "
        f"livekit-agents {facts['livekit_agents']}, livekit-server {facts['livekit_server']}."
    )
    return {"rooms": "\n\n".join([table(rows), *(replica(row) for row in carried(told).values()), line])}
