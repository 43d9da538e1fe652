"""`make talk` where something is missing; with a LiveKit server it is in tests/e2e."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest
from aiohttp.test_utils import unused_port

from lkmongo.cli import talk as talk_module
from lkmongo.cli.output import Output
from lkmongo.cli.talk import TalkError, _running, _Stop, _until_stopped
from tests.conftest import clean_environment
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]


def talk(tmp_path: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lkmongo.cli.talk", *arguments],
        env=clean_environment() | {"PATH": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)} | environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_without_a_livekit_server_it_says_how_to_get_one(tmp_path):
    done = talk(tmp_path, "--livekit-port", str(unused_port()))
    assert done.returncode == 2
    assert done.stderr.startswith("error: livekit-server is not on PATH")
    for way in (
        "brew install livekit",
        "curl -sSL https://get.livekit.io | bash",
        "https://docs.livekit.io/transport/self-hosting/local/",
        "LIVEKIT_URL",
        "make console",
    ):
        assert way in done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing was started"


def test_a_port_that_something_else_has_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = talk(tmp_path, "--livekit-port", str(port))
    assert done.returncode == 1
    assert f"error: port {port} is taken, and not by a LiveKit server" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="a program for the shell")
def test_a_port_that_the_page_cannot_have_is_named_before_anything_starts(tmp_path):
    program = tmp_path / "livekit-server"
    program.write_text("#!/bin/sh\necho started > started\n", encoding="utf-8")
    program.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = talk(tmp_path, "--livekit-port", str(unused_port()), "--port", str(port))
    assert done.returncode == 1
    assert f"error: port {port} is taken: the talk page cannot listen there" in done.stderr
    assert not (tmp_path / "started").exists()


@pytest.mark.skipif(os.name != "posix", reason="a program for the shell")
def test_a_livekit_server_that_does_not_start_is_quoted(tmp_path):
    program = tmp_path / "livekit-server"
    program.write_text("#!/bin/sh\necho could not listen on UDP port 7882 >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    done = talk(tmp_path, "--livekit-port", str(unused_port()), "--port", "0")
    assert done.returncode == 1
    assert "error: livekit-server did not start" in done.stderr
    assert "could not listen on UDP port 7882" in done.stderr


def test_an_invalid_setting_is_an_error_like_any_other(tmp_path):
    done = talk(tmp_path, LKMONGO_SPEECH="loud")
    assert done.returncode == 2
    assert "error: LKMONGO_SPEECH must be" in done.stderr


@pytest.mark.parametrize("ends_after", [1, 2, 99])
async def test_a_process_that_does_not_stop_is_told_again_and_leaves_nothing_behind(monkeypatch, ends_after):
    monkeypatch.setattr(talk_module, "_POLITE", 0.1)
    monkeypatch.setattr(talk_module, "_END", 0.2 if ends_after == 99 else 60)
    stubborn = f"""
import signal, subprocess, sys
told = []
def on_signal(*_):
    told.append(1)
    if len(told) >= {ends_after}:
        sys.exit()
signal.signal(signal.SIGTERM, on_signal)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
while True:
    signal.pause()
"""
    async with _running([sys.executable, "-c", stubborn], dict(os.environ), stdout=subprocess.PIPE) as process:
        child = int(await process.stdout.readline())
    await until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
    await until(lambda: process.returncode is not None)
    assert process.returncode == (-9 if ends_after == 99 else 0)


async def test_when_one_process_ends_it_says_which_and_shows_its_last_words(capfdbinary):
    pipe = subprocess.PIPE
    last_words = "import sys; sys.stderr.write('x' * 100_000 + ' its last words'); sys.exit(3)"
    async with AsyncExitStack() as stack:

        async def running(code):
            return await stack.enter_async_context(
                _running([sys.executable, "-c", code], dict(os.environ), stdout=pipe, stderr=pipe)
            )

        processes = {"the talk page": await running("import time; time.sleep(600)")}
        processes["the worker"] = await running(last_words)
        with pytest.raises(TalkError, match=r"the worker has ended \(exit code 3\)"):
            await _until_stopped(Output(), _Stop(), processes)
    assert b"x its last words" in capfdbinary.readouterr().err
