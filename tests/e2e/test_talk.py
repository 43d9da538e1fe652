"""`make talk`: one command for all that a call needs, and one signal that ends it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from lkmongo.model import UserScope
from lkmongo.tokens import SigningKey, TokenRequest, mint
from tests.conftest import clean_environment
from tests.e2e.caller import PATIENCE, inside
from tests.livekit_server import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_one_command_answers_calls_and_one_signal_ends_all(tmp_path, number):
    port = free_port()
    talk = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lkmongo.cli.talk", "--port", "0", "--livekit-port", str(port)),
        env=clean_environment()
        | {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(tmp_path),
            "LKMONGO_HOME": str(tmp_path / "data"),
            "LKMONGO_SPEECH": "off",  # test_local_speech.py is about that
        },
        cwd=tmp_path,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(3 * PATIENCE):
            before = await _ready(talk)
        family = psutil.Process(talk.pid).children(recursive=True)
        assert {"livekit-server", "agent", "web"} <= {word for each in family for word in each.cmdline()}
        token = mint(
            SigningKey("devkey", SecretStr("secret")),
            TokenRequest(who=UserScope(tenant_id="default", user_id="u-1"), agent_name="lkmongo-agent"),
        )
        async with inside(f"ws://127.0.0.1:{port}", token.text) as caller:
            await caller.reads("Hello", "Hi")
            await caller.hang_up()
        talk.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            _, after = await talk.communicate()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(talk.pid, signal.SIGKILL)
    assert talk.returncode == 128 + number
    assert "InsecureKeyLengthWarning" not in before + after.decode(), "its secret is that of development"
    _, left = await asyncio.to_thread(psutil.wait_procs, family, PATIENCE)
    assert left == []


async def _ready(talk: asyncio.subprocess.Process) -> str:
    """Wait until it is ready, and return what it has said until then."""
    said = ""
    async for line in talk.stderr:
        said += line.decode()
        if re.fullmatch(r"Talk on http://localhost:\d+/ \(Ctrl-C ends everything\)\n", line.decode()):
            return said
    pytest.fail(f"it ended:\n{said}")
