"""The console on a terminal: line editing, Ctrl-C, Ctrl-D, and ends that others bring about."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pexpect
import psutil
import pytest

from tests.cli.conftest import LKMONGO
from tests.conftest import clean_environment
from tests.local_support import until


@pytest.fixture
def own_home(tmp_path: Path) -> dict[str, str]:
    """An environment whose mongod is used by nobody else."""
    own = {"LKMONGO_HOME": str(tmp_path / "own"), "MONGODB_DB": "own", "HOME": str(tmp_path), "COLUMNS": "120"}
    return clean_environment() | own


def servers_of(home: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["name", "cwd"])
        if process.info["name"] == "mongod" and home in (process.info["cwd"] or "")
    ]


def calls_of(run, env) -> list[tuple[str, str]]:
    """(status, close_reason) of the calls that are stored."""
    return [(call["status"], call["close_reason"]) for call in run("sessions", "list", "--json", env=env).json]


def start(env: dict[str, str], tmp_path: Path) -> pexpect.spawn:
    child = pexpect.spawn(
        LKMONGO,
        ["agent", "console", "--user", "u-100"],
        env=env | {"TERM": "xterm"},
        cwd=str(tmp_path),
        encoding="utf-8",
        dimensions=(40, 120),
    )
    child.expect("agent> ")
    child.expect("you>")
    return child


def test_a_conversation_with_editing_and_history_ends_with_ctrl_d(run, own_home, tmp_path):
    child = start(own_home, tmp_path)
    child.send("remember that my dog is called Rx\x1b[D")  # left
    child.send("e\r")
    child.expect("agent> .*: Rex")  # not what is typed, which has "Rex" in it, too
    child.expect("you>")
    child.send("\x1b[A\r")  # up: the same line again
    child.expect("agent> .*: Rex")
    child.expect("you>")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert servers_of(own_home["LKMONGO_HOME"]) == []
    assert calls_of(run, own_home) == [("complete", "hang-up")]


def test_ctrl_c_ends_the_call_and_stores_it(at_terminal, run, own_home):
    child = at_terminal("agent", "console", "--user", "u-100", env=own_home)
    child.expect("you>")
    child.send("hello\r")
    child.expect("agent> ")
    child.expect("you>")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert servers_of(own_home["LKMONGO_HOME"]) == []
    assert calls_of(run, own_home) == [("complete", "interrupted")]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGINT, 130)],
    ids=["TERM", "HUP", "INT"],
)
def test_so_does_another_signal(start, run, number, code):
    with start("agent", "console", "--json", "--user", "u-100") as process:
        process.stdin.write(b"hello\n")
        for _ in range(3):  # greeting, what was said, answer
            assert process.stdout.readline()
        os.killpg(process.pid, number)
        assert process.wait() == code
    assert calls_of(run, {}) == [("complete", "interrupted")]


def test_after_everything_was_killed_the_next_start_recovers(start, run, own_home):
    with start("agent", "console", "--json", "--user", "u-100", env=own_home) as process:
        process.stdin.write(b"remember that my favorite color is teal\n")
        while b"teal" not in (line := process.stdout.readline()) or b"assistant" not in line:
            assert line
        process.kill()
    for server in servers_of(own_home["LKMONGO_HOME"]):
        server.kill()
        server.wait(30)
    assert "teal" in run("memory", "list", "u-100", "--json", env=own_home).stdout
    until(lambda: servers_of(own_home["LKMONGO_HOME"]) == [])


def test_standard_input_that_is_closed_is_an_end_and_no_error(cli_env, tmp_path):
    done = subprocess.run(
        ["bash", "-c", f"'{LKMONGO}' agent console --json --user u-100 <&-"],
        env=cli_env,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b'"assistant"' in done.stdout


def test_a_question_on_a_terminal_takes_no_for_an_answer(run, at_terminal):
    run("agent", "console", "--user", "u", input="remember that my shoe size is 42\n")
    for answer, code, left in (("n", 1, 1), ("y", 0, 0)):
        child = at_terminal("memory", "forget", "u")
        child.expect(r"Forget 1 memory and what was known of the last session of u in tenant default\? \[y/N\]")
        child.sendline(answer)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == code
        assert len(run("memory", "list", "u", "-o", "jsonl").events) == left
