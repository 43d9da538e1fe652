"""The zygote of the command tests: each test gets the exit code and the output of its own command."""

from __future__ import annotations

import signal
from contextlib import contextmanager

import pytest

from tests.cli.conftest import Result


@pytest.fixture
def out_of_time(zygote, monkeypatch):
    """A test's time is over while it waits for an answer of the zygote: it does not read it any more."""

    class Unread:
        def __iter__(self):
            raise TimeoutError

    @contextmanager
    def context():
        with monkeypatch.context() as patch:
            patch.setattr(zygote._process, "stdout", Unread())
            with pytest.raises(TimeoutError):
                yield

    return context


def test_an_answer_that_nobody_has_read_is_not_taken_for_that_of_the_next_command(run, out_of_time):
    with out_of_time():
        run("token", "inspect", "no token")
    assert run("users", "list", "--json") == Result(0, "[]\n", "")


def test_a_command_that_is_not_waited_for_any_more_keeps_no_other_waiting(run, start, out_of_time):
    with start("token", "inspect", "-") as waiting_for_its_input:
        with out_of_time():
            waiting_for_its_input.wait()
        assert run("users", "list", "--json").code == 0
        assert waiting_for_its_input.wait() == -signal.SIGKILL


def test_a_command_can_be_started_that_nobody_listens_to(run, zygote, start, out_of_time):
    with out_of_time():
        start("token", "inspect", "-")
    assert run("users", "list", "--json").code == 0
