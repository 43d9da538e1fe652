"""The embedded mongod stays for the next command, and is gone when its time is over, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pymongo import MongoClient

from lkmongo.errors import EmbeddedError
from lkmongo.local import EmbeddedMongod, keeper
from tests.local_support import (
    User,
    folder_of,
    keep,
    kept,
    kill,
    kill_server,
    nothing_left,
    only,
    servers,
    until,
)

SHORT, LONG = "--linger=1", "--linger=600"


@pytest.fixture
def home(home: Path) -> Iterator[Path]:
    yield home
    for user in User.started:
        user.end()
    kill(servers(home))  # what lingers as it should; each test says what is to be gone


def keepers(home: Path) -> list[psutil.Process]:
    return [process for process in servers(home) if process.name() != "mongod"]


@contextlib.contextmanager
def suspended(process: psutil.Process) -> Iterator[None]:
    """Have it do nothing meanwhile."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def is_over(home: Path) -> bool:
    """Whether the time until which the server may stay unused has passed."""
    return time.monotonic() > float((folder_of(home) / "use.lock").read_text())


def test_the_next_one_joins_what_the_last_one_left(home: Path) -> None:
    first = User(home, LONG)
    server = only(home)
    first.do("keep a")
    assert first.end() == ""
    second = User(home, LONG)
    assert only(home) == server
    assert not second.opened["first_start"]
    assert second.do("kept") == ["a"]
    assert second.end() == ""
    assert only(home) == server
    assert len(keepers(home)) == 1


def test_it_is_gone_when_the_time_is_over(home: Path) -> None:
    assert User(home, SHORT).end() == ""
    until(lambda: not servers(home))
    assert is_over(home)
    assert not (folder_of(home) / "address").exists()
    with EmbeddedMongod(home) as mongod:
        assert not mongod.first_start


def test_it_is_not_stopped_while_it_is_used(home: Path) -> None:
    User(home, SHORT).end()
    user = User(home, LONG)
    server = only(home)
    until(lambda: is_over(home))
    time.sleep(2.5)  # two looks of the keeper, which are to do nothing
    assert only(home) == server
    assert user.do("keep a") == ["a"]
    user.end()  # and the time begins anew
    assert not is_over(home)
    time.sleep(1.5)
    assert only(home) == server


@pytest.mark.parametrize("before", [False, True], ids=["the first", "a later one"])
def test_a_user_who_is_killed_leaves_nothing(home: Path, before: bool) -> None:
    if before:
        User(home, SHORT).end()
    User(home, LONG).kill()
    until(lambda: not servers(home))


def test_one_who_does_not_let_it_linger_stops_it(home: Path) -> None:
    User(home, LONG).end()
    User(home).end()
    assert [process for process in servers(home) if process.name() == "mongod"] == []
    until(lambda: not servers(home))  # the keeper sees it within a second


def test_it_lingers_after_a_program_that_forgot_to_close_it(home: Path) -> None:
    assert User(home, "--unclosed", LONG).end() == ""
    assert len(keepers(home)) == 1
    only(home)


def test_the_end_of_a_terminal_ends_neither_server_nor_keeper(home: Path) -> None:
    user = User(home, LONG)
    os.killpg(user.process.pid, signal.SIGHUP)
    user.process.communicate()
    (waiting,) = keepers(home)
    assert user.process.pid not in {os.getsid(waiting.pid), os.getsid(only(home).pid)}  # which is its session, too


def test_a_killed_keeper_is_replaced(home: Path) -> None:
    User(home, LONG).end()
    kill(keepers(home))
    assert keeper.states(home)[0].seconds_left is None  # nobody will stop it: it is not said that somebody does
    User(home, SHORT).end()
    until(lambda: not servers(home))


def test_a_killed_server_ends_its_keeper_and_is_followed_by_another(home: Path) -> None:
    first = User(home, LONG)
    first.do("keep a")
    first.end()
    kill_server(home)
    with EmbeddedMongod(home) as mongod:
        assert kept(mongod.uri) == ["a"]
    until(lambda: not servers(home))


def test_it_is_stopped_where_no_keeper_can_be_started(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper.sys, "frozen", True, raising=False)  # its executable is no Python
    with EmbeddedMongod(home, linger=600):
        pass
    assert not servers(home)


def test_a_home_that_moves_meanwhile_keeps_its_data(home: Path, tmp_path: Path) -> None:
    first = User(home, LONG)
    first.do("keep a")
    first.end()
    server = only(home)
    (waiting,) = keepers(home)
    moved = tmp_path / "moved"
    with nothing_left(moved):
        with suspended(waiting):  # else it may see it first, and stop the server before the next one comes
            home.rename(moved)
            with EmbeddedMongod(moved) as mongod, MongoClient(mongod.uri) as client:
                assert only(moved) == server
                keep(mongod.uri, "b")
                client["test"]["new"].insert_one({})  # a file more
        with EmbeddedMongod(moved) as mongod:
            assert not mongod.first_start
            assert kept(mongod.uri) == ["a", "b"]
        until(lambda: not servers(moved))


def test_a_home_that_is_deleted_meanwhile_begins_anew(home: Path) -> None:
    first = User(home, LONG)
    first.do("keep a")
    first.end()
    old = only(home)
    (waiting,) = keepers(home)
    with suspended(waiting):
        shutil.rmtree(home)
        second = User(home)
        assert second.opened["first_start"]
        assert second.opened["uri"] != first.opened["uri"]  # else the old one would take the new one's socket along
        assert second.do("keep b") == ["b"]
    until(lambda: not old.is_running())  # its keeper sees that nobody can come any more, if it did not break before
    assert second.do("kept") == ["b"]
    second.do("ensure")
    assert User(home).opened["uri"] == second.opened["uri"]


class TestFromOutside:
    def test_nothing_was_started_yet(self, home: Path) -> None:
        assert keeper.states(home) == keeper.stop(home) == []
        assert not home.exists()

    def test_one_that_lingers(self, home: Path) -> None:
        User(home, LONG).end()
        (found,) = keeper.states(home)
        assert (found.process, found.in_use, found.users) == (only(home).pid, False, ())
        assert 0 < found.seconds_left <= 600
        assert [each.process for each in keeper.stop(home)] == [found.process]
        assert keeper.states(home)[0].process is None
        until(lambda: not servers(home))

    def test_one_that_is_used_is_left_alone(self, home: Path) -> None:
        user = User(home)
        (found,) = keeper.states(home)
        assert (found.process, found.in_use, found.users) == (only(home).pid, True, (user.process.pid,))
        assert found.seconds_left is None
        with pytest.raises(EmbeddedError, match="in use") as refused:
            keeper.stop(home)
        assert f"process {user.process.pid} uses it" in refused.value.why
        assert user.do("keep a") == ["a"]
        user.end()
