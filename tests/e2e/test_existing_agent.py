"""LiveKit's starter agent with memory, run by LiveKit's own command in a folder without a project of ours.

It is told a fact, killed in the middle, and started again: the next call is briefed with the fact, and both are listed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress

import pytest

from docs import generate
from lkmongo.memory.return_mark import ATTRIBUTE
from lkmongo.model import UserScope
from tests.conftest import clean_environment
from tests.e2e.caller import PATIENCE
from tests.e2e.conftest import DATABASE
from tests.e2e.records import completed
from tests.speech_gateway import calls, inference_gateway
from tests.worker_process import Worker

pytestmark = pytest.mark.asyncio(loop_scope="session")

AGENT = "florist"


@pytest.fixture
def project(tmp_path):
    """A folder with nothing in it but the example, on a free port; it tells no load: a busy machine gets no calls."""
    agent = generate.ROOT / "docs" / "examples" / "existing_agent.py"
    (tmp_path / agent.name).write_text(f"{agent.read_text()}\nserver.load_fnc, server._port = lambda: 0.0, 0\n")
    return tmp_path


@asynccontextmanager
async def started(project, environment):
    process = await asyncio.create_subprocess_exec(
        # LiveKit's command logs to stdout, and a `Worker` reads stderr.
        *("sh", "-c", 'exec "$@" >&2', "sh", sys.executable, "-m", "livekit.agents", "start", "existing_agent.py"),
        cwd=project,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    running = Worker(process)
    try:
        await running.logs("registered worker")
        yield running
    except BaseException as error:
        error.add_note(running.log)
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await running.ended()


async def test_an_existing_agent_that_is_killed_knows_its_caller_when_it_is_back(
    project, livekit_server, mongodb_uri, records, call
):
    robin = UserScope(tenant_id="florist", user_id="u-100")
    async with inference_gateway(calls(("remember_detail", {"memory_type": "flower", "content": "foxglove"}))) as model:
        environment = clean_environment() | livekit_server.environment | model.environment
        environment |= {"MONGODB_URI": mongodb_uri, "MONGODB_DB": DATABASE, "HOME": str(project)}
        async with started(project, environment) as worker, call(agent_name=AGENT, who=robin) as caller:
            await caller.reads("Hello")
            await caller.type("I like foxgloves best")
            await caller.reads("foxglove")
            await caller.until(lambda: ATTRIBUTE in caller.room.local_participant.attributes)
            assert "failed to emit" not in worker.log, "what the agent looks at in the room, it does when it is there"
            first = await caller.room.sid
            worker.signal(signal.SIGKILL, group=True)
            await worker.ended()
        model.requests.clear()
        model.script = calls()
        async with started(project, environment), call(agent_name=AGENT, who=robin) as caller:
            await caller.reads("Hello")
            second = await caller.room.sid
            # The greeting does not wait for what the killed worker had still to store.
            questions = 0
            while not any("foxglove" in str(request["messages"]) for request in model.requests if "tools" in request):
                questions += 1
                assert questions < 4
                await caller.type("What do I like best?")
                await caller.until(lambda: caller.said().count("Nothing to do.") == questions)  # noqa: B023 - in the loop
            await caller.hang_up()
            _, turns = await completed(records, robin, second)
            assert [turn.role for turn in turns] == ["assistant", *["user", "assistant"] * questions]
            async with asyncio.timeout(PATIENCE):
                while (await records.sessions.get(robin, first)).status == "active":  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.1)
        listing = subprocess.run(  # noqa: ASYNC221 - nothing else goes on
            [sys.executable, "-m", "lkmongo", "sessions", "list", "--tenant", "florist", "--json"],
            env=environment,
            capture_output=True,
            check=True,
        )
    listed = json.loads(listing.stdout)
    assert sorted((each["session_id"], each["status"]) for each in listed) == sorted(
        [(first, "interrupted"), (second, "complete")]
    )
    turns = await records.sessions.turns(robin, first)
    assert [turn.role or turn.name for turn in turns] == ["assistant", "user", "remember_detail", "assistant"]
