"""`lkmongo local`, and the embedded mongod that a command at a terminal leaves for the next."""

from __future__ import annotations

from pathlib import Path

import pexpect
import pytest

from tests.local_support import nothing_left, only, servers, until


@pytest.fixture
def home(tmp_path: Path):
    with nothing_left(home := tmp_path / "own"):
        yield home


@pytest.fixture
def typed(at_terminal, home):
    """What a command prints that somebody types, who has nothing set but a home, and that it ended well."""

    def call(*arguments: str, **variables: str) -> str:
        terminal = at_terminal(*arguments, env={"LKMONGO_HOME": str(home), "CI": "", **variables})
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert terminal.exitstatus == 0, terminal.before
        return terminal.before

    return call


def test_the_second_command_at_a_terminal_finds_the_mongod_of_the_first(typed, home):
    assert "Starting the embedded MongoDB" in typed("db", "indexes")
    server = only(home)
    assert "Starting" not in typed("db", "indexes")
    assert only(home) == server
    shown = typed("local", "status")
    assert "running           yes" in shown
    assert f"process           {server.pid}" in shown
    assert "Stopped" in typed("local", "stop")
    assert "running           no" in typed("local", "status")
    until(lambda: not servers(home))


@pytest.mark.parametrize("variables", [{"CI": "true"}, {"LKMONGO_LINGER": "0"}], ids=" ".join)
def test_nothing_stays_in_ci_or_where_it_is_said(typed, home, variables):
    typed("users", "list", **variables)
    assert not servers(home)


def test_nothing_stays_without_a_terminal_unless_it_is_said(run, home):
    assert run("users", "list", env={"LKMONGO_HOME": str(home), "CI": ""}).code == 0
    assert not servers(home)
    assert run("users", "list", env={"LKMONGO_HOME": str(home), "LKMONGO_LINGER": "2m"}).code == 0
    server = only(home)
    (found,) = run("local", "status", "--json", env={"LKMONGO_HOME": str(home)}).json
    assert found["running"] is True
    assert found["in_use"] is False
    assert found["used_by"] == []
    assert 60 < found["stops_in_seconds"] <= 120
    assert found["process"] == server.pid
    assert found["data"] == str(home / f"mongodb-{found['version']}" / "db")
    stopped = run("local", "stop", "--json", env={"LKMONGO_HOME": str(home)})
    assert stopped.json == {"stopped": [server.pid]}
    assert run("local", "stop", "--json", env={"LKMONGO_HOME": str(home)}).json == {"stopped": []}
    until(lambda: not servers(home))


def test_one_that_is_in_use_is_named_and_left_alone(run, shared_home):
    stopped = run("local", "stop")
    assert stopped.code == 1
    assert f"error: the embedded MongoDB of {shared_home}" in stopped.stderr
    assert "uses it" in stopped.stderr
    (found,) = run("local", "status", "--json").json
    assert found["in_use"] is True
    assert found["used_by"]
    assert found["stops_in_seconds"] is None


def test_nothing_was_started_yet(run, tmp_path):
    nowhere = tmp_path / "nowhere"
    status = run("local", "status", env={"LKMONGO_HOME": str(nowhere)})
    assert (status.code, status.stdout) == (0, "")
    assert status.stderr == f"No embedded mongod has been started in {nowhere}\n"
    assert (
        run("local", "stop", env={"LKMONGO_HOME": str(nowhere)}).stdout
        == f"No embedded mongod is running in {nowhere}\n"
    )
    assert not nowhere.exists()


@pytest.mark.parametrize("value", ["soon", "-1", "1.5s", "60"])
def test_a_time_that_is_none_is_named(run_inside, value):
    result = run_inside("users", "list", env={"LKMONGO_LINGER": value})
    assert result.code == 2
    assert "LKMONGO_LINGER must be a duration such as 60s or 10m, or 0" in result.stderr
