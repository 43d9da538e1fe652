"""A signal and a question: whichever comes first, the command ends at once, and asks nothing any more."""

import asyncio
import io
import logging
import os
import signal
import sys

import pytest
import typer

from lkmongo.cli.command import Cli, _run_coroutine
from lkmongo.cli.output import Format, Output
from lkmongo.errors import ExitCode, UsageError


@pytest.fixture
def asked(monkeypatch, capfd):
    """Ask a question of a terminal on which y is typed, in a command that `first` sees to; what it told."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def ask(first):
        monkeypatch.setattr("sys.stdin", Terminal("y\n"))
        monkeypatch.setattr(sys.modules[Cli.__module__], "is_terminal", lambda _stream: True)

        async def run() -> None:
            await first()
            Cli(Output(Format.PLAIN)).confirm("All of it?", yes=False)

        try:
            _run_coroutine(run())
        finally:
            ask.told = capfd.readouterr().err

    return ask


async def _nothing() -> None:
    pass


def test_without_a_signal_the_answer_counts(asked):
    asked(_nothing)
    assert asked.told == "All of it? [y/N] "


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_just_before_a_question_is_not_lost(asked, number):
    before = signal.getsignal(number)

    async def first() -> None:
        os.kill(os.getpid(), number)

    with pytest.raises(typer.Exit) as ended:
        asked(first)
    assert ended.value.exit_code == ExitCode.TERMINATED
    assert asked.told == ""
    assert signal.getsignal(number) is before


def test_so_is_ctrl_c(asked):
    async def first() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        asked(first)
    assert "All of it" not in asked.told


def test_a_signal_that_comes_while_a_command_waits_ends_it(asked):
    async def first() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)

    with pytest.raises(typer.Exit) as ended:
        asked(first)
    assert ended.value.exit_code == ExitCode.TERMINATED


def test_what_is_hidden_is_in_no_message_and_no_log(capfd, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    cli = Cli(Output(Format.JSON))
    cli.hide("+493055501767", "860417")
    cli.output.note("who has 860417 calls from +493055501767")
    logging.getLogger("lkmongo").warning("no %s", "+493055501767")
    cli.output.error(UsageError("860417 is wrong", why="+493055501767", hint="not 860417"))
    told = capfd.readouterr().err
    assert told.count("***") == 6
    assert "3055501767" not in told
    assert "860417" not in told


def test_an_answer_that_is_not_shown_ends_at_once_too(asked, monkeypatch):
    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("getpass.getpass", interrupted)

    async def first() -> None:
        Cli(Output(Format.PLAIN)).ask("PIN: ", instead="", hidden=True)

    with pytest.raises(typer.Exit) as ended:
        asked(first)
    assert ended.value.exit_code == ExitCode.TERMINATED


def test_nothing_is_asked_without_a_terminal(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("860417\n"))
    with pytest.raises(UsageError, match="there is no terminal to ask on") as error:
        Cli(Output(Format.PLAIN)).ask("PIN: ", instead="add --stdin", hidden=True)
    assert error.value.hint == "add --stdin"
