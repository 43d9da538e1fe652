"""The examples of an agent with its own worker: what is said in one call is known in the next, and both are recorded.

Calls are in processes of their own, as a worker's jobs are; a local server has the place of LiveKit Inference.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
import pickle
import re
import subprocess
import sys

import pytest
from livekit.agents import AgentServer

from docs import generate
from lkmongo.model import UserScope
from tests.conftest import clean_environment
from tests.example_job import AGAIN
from tests.parsing import parse
from tests.speech_gateway import calls, inference_gateway

ROBIN = UserScope(tenant_id="default", user_id="u-100")
EXAMPLES = generate.ROOT / "docs" / "examples"


@pytest.fixture
async def gateway():
    async with inference_gateway(calls()) as gateway:
        yield gateway


@pytest.fixture
def hold(store, mongodb_uri, database_name, home, gateway):
    """Hold calls with an example in one process, and return what it printed."""

    async def hold(example: str, *lines: str, **environment: str):
        environment |= {"MONGODB_URI": mongodb_uri, "MONGODB_DB": database_name, "LKMONGO_HOME": str(home)}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.example_job", example, *lines),
            cwd=generate.ROOT,
            env=clean_environment() | gateway.environment | environment | {"PYTHONPATH": str(EXAMPLES)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        printed, log = await process.communicate()
        assert process.returncode == 0, log.decode()
        return json.loads(printed)

    return hold


def briefings(gateway) -> list[str]:
    """The briefings in the agent's requests to the language model; one in each."""
    requests = [request["messages"] for request in gateway.requests if "tools" in request]
    found = [[message for message in messages if "<caller_data>" in str(message)] for messages in requests]
    assert all(len(each) == 1 for each in found)
    return [str(each[0]) for each in found]


async def turns_of(store) -> list[list[str]]:
    """Who said or did what, by session, the oldest first."""
    records = sorted(await store.sessions.recent(ROBIN), key=lambda record: record.started_at)
    assert [record.status for record in records] == ["complete"] * len(records)
    return [
        [turn.role or turn.name for turn in await store.sessions.turns(ROBIN, record.session_id)] for record in records
    ]


async def test_an_existing_agent_remembers(store, hold, gateway):
    gateway.script = calls(("remember_detail", {"memory_type": "flower", "content": "the foxglove"}))
    await hold("existing_agent", "I like foxgloves best")
    first = briefings(gateway)
    assert "foxglove" not in first[0]
    gateway.requests.clear()
    gateway.script = calls()
    await hold("existing_agent")
    assert "foxglove" in briefings(gateway)[0]
    assert await turns_of(store) == [["assistant", "user", "remember_detail", "assistant"], ["assistant"]]


async def test_a_realtime_agent_remembers(store, hold, gateway):
    tool = json.dumps(["choose_flower", {"flower": "The foxglove"}])
    told, (again,) = await hold("realtime_agent", "I take the foxglove", AGAIN, TOOL=tool)
    assert told[0].startswith("You are a friendly florist.")
    assert "foxglove" not in told[0]
    assert "The foxglove" in told[-1]
    assert "The foxglove" in again
    assert await turns_of(store) == [["assistant", "user", "choose_flower", "assistant"], ["assistant"]]


@pytest.mark.parametrize("name", ["existing_agent", "realtime_agent"])
def test_livekit_finds_the_server_and_can_hand_its_functions_to_another_process(name, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module(name)
    try:
        assert isinstance(example.server, AgentServer)
        for function in (example.server.setup_fnc, example.answer):
            assert pickle.loads(pickle.dumps(function)) == function
    finally:
        sys.modules.pop(name)


def test_an_existing_agent_takes_at_most_six_lines():
    text = (EXAMPLES / "existing_agent.py").read_text(encoding="utf-8")
    code = text.removeprefix(f'"""{ast.get_docstring(parse(text), clean=False)}"""')
    assert len(re.findall(r"^.*(?:lkmongo|caller\.).*$", code, re.MULTILINE)) <= 6
