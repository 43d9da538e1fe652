"""The console on a terminal: line editing, Ctrl-C, Ctrl-D, and ends that others bring about."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import psutil
import pytest

from tests.cli.conftest import LKMONGO
from tests.conftest import clean_environment


@pytest.fixture
def own_home(tmp_path: Path) -> dict[str, str]:
    """An environment whose mongod is used by nobody else."""
    return clean_environment() | {"LKMONGO_HOME": str(tmp_path / "own"), "HOME": str(tmp_path), "COLUMNS": "120"}


def servers_of(home: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "mongod" and any(home in word for word in process.info["cmdline"] or [])
    ]


def calls_of(env: dict[str, str], tmp_path: Path) -> list[tuple[str, str]]:
    """(status, close_reason) of the calls that are stored."""
    script = (
        "import asyncio, sys\n"
        "from lkmongo.settings import Settings\n"
        "from lkmongo.store.opening import open_store\n"
        "async def main():\n"
        "    async with open_store(Settings.load()) as store:\n"
        "        async for call in store.db.sessions.find().sort('started_at'):\n"
        "            print(call['status'], call['close_reason'], sep='/')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, cwd=tmp_path, check=True
    )
    return [tuple(line.split("/")) for line in done.stdout.splitlines()]


def start(env: dict[str, str], tmp_path: Path) -> pexpect.spawn:
    child = pexpect.spawn(
        LKMONGO,
        ["agent", "console", "--user", "u-100"],
        env=env | {"TERM": "xterm"},
        cwd=str(tmp_path),
        encoding="utf-8",
        timeout=90,
        dimensions=(40, 120),
    )
    child.expect("agent> ")
    child.expect("you>")
    return child


def test_a_conversation_with_editing_and_history_ends_with_ctrl_d(own_home, tmp_path):
    child = start(own_home, tmp_path)
    child.send("remember that my dog is called Rx\x1b[D")  # left
    child.send("e\r")
    child.expect("Rex")
    child.expect("you>")
    child.send("\x1b[A\r")  # up: the same line again
    child.expect("Rex")
    child.expect("you>")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert servers_of(own_home["LKMONGO_HOME"]) == []
    assert calls_of(own_home, tmp_path) == [("complete", "hang-up")]


def test_ctrl_c_ends_the_call_and_stores_it(own_home, tmp_path):
    child = start(own_home, tmp_path)
    child.send("hello\r")
    child.expect("agent> ")
    child.expect("you>")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert servers_of(own_home["LKMONGO_HOME"]) == []
    assert calls_of(own_home, tmp_path) == [("complete", "interrupted")]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGINT, 130)], ids=["TERM", "HUP", "INT"]
)
def test_a_signal_ends_the_call_and_stores_it(own_home, tmp_path, number, code):
    process = subprocess.Popen(
        [LKMONGO, "agent", "console", "--json", "--user", "u-100"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=own_home,
        cwd=tmp_path,
        start_new_session=True,
    )
    process.stdin.write(b"hello\n")
    process.stdin.flush()
    for _ in range(3):  # greeting, what was said, answer
        assert process.stdout.readline()
    os.killpg(process.pid, number)
    assert process.wait(60) == code
    process.stdin.close()
    process.stdout.close()
    assert servers_of(own_home["LKMONGO_HOME"]) == []
    assert calls_of(own_home, tmp_path) == [("complete", "interrupted")]


def test_after_everything_was_killed_the_next_start_recovers(own_home, tmp_path):
    process = subprocess.Popen(
        [LKMONGO, "agent", "console", "--json", "--user", "u-100"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=own_home,
        cwd=tmp_path,
        start_new_session=True,
    )
    process.stdin.write(b"remember that my favorite color is teal\n")
    process.stdin.flush()
    while b"teal" not in (line := process.stdout.readline()) or b"assistant" not in line:
        assert line
    process.kill()
    process.wait(30)
    process.stdin.close()
    process.stdout.close()
    for server in servers_of(own_home["LKMONGO_HOME"]):
        server.kill()
        server.wait(30)
    done = subprocess.run(
        [LKMONGO, "memory", "list", "u-100", "--json"],
        env=own_home,
        cwd=tmp_path,
        capture_output=True,
        timeout=90,
        check=True,
    )
    assert b"teal" in done.stdout
    deadline = time.monotonic() + 20
    while servers_of(own_home["LKMONGO_HOME"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert servers_of(own_home["LKMONGO_HOME"]) == []


def test_standard_input_that_is_closed_is_an_end_and_no_error(own_home, tmp_path):
    done = subprocess.run(
        ["bash", "-c", f"'{LKMONGO}' agent console --json --user u-100 <&-"],
        env=own_home,
        cwd=tmp_path,
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b'"assistant"' in done.stdout


def test_a_question_on_a_terminal_takes_no_for_an_answer(run, cli_env, tmp_path):
    run("agent", "console", "--user", "u", input="remember that my shoe size is 42\n")
    for answer, code, left in (("n", 1, 1), ("y", 0, 0)):
        child = pexpect.spawn(
            LKMONGO, ["memory", "forget", "u"], env=cli_env, cwd=str(tmp_path), encoding="utf-8", timeout=60
        )
        child.expect(r"Forget 1 memory and what was known of the last call of u in tenant default\? \[y/N\]")
        child.sendline(answer)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == code
        assert len(run("memory", "list", "u", "-o", "jsonl").events) == left
