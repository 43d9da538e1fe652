"""A minute of `make soak`: calls with faults through a real LiveKit server, and nothing is missing or left."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.soak import Plan, run
from benchmarks.soak_report import document, summary

pytestmark = pytest.mark.asyncio(loop_scope="session")

KINDS = ("MongoDB stands still", "a job is killed", "MongoDB restarts", "callers are cut off")


@pytest.mark.timeout(900)  # on a machine with other work, two workers take a minute to start
async def test_a_minute_of_calls_with_faults_loses_nothing():
    plan = Plan(minutes=0.75, at_once=3, seed=7, seconds=(12.0, 20.0), fault_every=10.0, kinds=KINDS)
    figures, wrong = await run(plan, asyncio.Event())
    assert wrong == [], summary(figures)
    assert figures["outcomes"]["served"] >= 3
    assert sum(figures["faults"].values()) >= 2
    assert figures["acknowledged"]
    assert figures["turns"] > figures["lines"]
    assert "wrong | nothing" in document(figures)
