"""Jobs of an example that has its own worker, in a process of its own, for tests.

`python -m tests.example_job MODULE LINE...` does what a worker's process does: it prepares itself, takes the job, and
ends it after the lines have been said; with AGAIN at the end it takes another job, in which nothing is said. The room
is LiveKit's own stand-in for one. A realtime model is one that calls the tool in TOOL, and what it was told in each
session is printed.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from typing import Any

from livekit.agents import inference, utils
from livekit.agents.ipc.mock_room import create_mock_room
from livekit.agents.testing import fake_job_context

from lkmongo.dispatch import plain_metadata
from lkmongo.model import UserScope
from tests.fake_llm import calls
from tests.fake_realtime import ScriptedRealtime
from tests.patience import be_patient
from tests.waiting import until

AGAIN = "--"


async def hold(example: Any, lines: list[str]) -> None:
    """Hold the call."""
    metadata = plain_metadata(UserScope(tenant_id="default", user_id="u-100"))
    async with utils.http_context.open():
        with fake_job_context(room=create_mock_room(), job_metadata=metadata) as job:
            example.server.setup_fnc(job.proc)
            await example.answer(job)
            session = job.primary_session
            await until(lambda: session.history.messages() and session.agent_state == "listening")
            for line in lines:
                await session.run(user_input=line)
            await session.aclose()
            for callback in job._shutdown_callbacks:
                await callback("done")


def main() -> None:
    """Run the example that is named."""
    be_patient()
    tools = [tuple(json.loads(os.environ["TOOL"]))] if "TOOL" in os.environ else []
    model = ScriptedRealtime(calls(*tools))
    inference.RealtimeModel = lambda *_, **__: model
    example = importlib.import_module(sys.argv[1])
    lines = sys.argv[2:]
    asyncio.run(hold(example, [line for line in lines if line != AGAIN]))
    if AGAIN in lines:
        asyncio.run(hold(example, []))
    print(json.dumps([session.told for session in model.sessions]))


if __name__ == "__main__":
    main()
