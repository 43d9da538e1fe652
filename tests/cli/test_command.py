"""A signal and a question: whichever comes first, the command ends at once, and asks nothing any more."""

import asyncio
import io
import os
import signal
import sys

import pytest
import typer

from lkmongo.cli.command import Cli, _run_coroutine
from lkmongo.cli.output import Format, Output
from lkmongo.errors import ExitCode


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
