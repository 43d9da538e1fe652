"""How the embedded mongod and its users end, gently and by `kill -9`, and what the next one finds."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from lkmongo.errors import EmbeddedError
from lkmongo.local import EmbeddedMongod
from tests.local_support import (
    User,
    folder_of,
    keep,
    kept,
    kill_server,
    only,
    running,
    servers,
    socket_of,
    until,
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_to_the_user_leaves_no_server(home: Path, number: signal.Signals) -> None:
    user = User(home)
    assert os.getsid(only(home).pid) != os.getsid(user.process.pid)  # a terminal's Ctrl-C does not reach the server
    os.killpg(user.process.pid, number)
    user.process.communicate()
    assert not servers(home)


@pytest.mark.parametrize("moment", [0.0, 0.4])
def test_a_signal_while_it_starts_leaves_no_server(home: Path, moment: float) -> None:
    user = User(home, wait=False)
    until((folder_of(home) / "start.lock").exists)
    time.sleep(moment)
    user.end(signal.SIGINT)
    assert user.process.returncode in {1, -signal.SIGINT}
    assert not servers(home)


def test_a_program_that_forgets_to_close_leaves_no_server(home: Path) -> None:
    assert User(home, "--unclosed").end() == ""
    assert not servers(home)


def test_the_next_one_joins_and_stops_what_a_killed_user_left(home: Path) -> None:
    User(home).kill()
    server = only(home)
    with EmbeddedMongod(home):
        assert only(home) == server
    assert not servers(home)


def test_a_killed_server_is_restarted_by_any_of_its_users(home: Path) -> None:
    starter, joiner = User(home), User(home)
    joiner.do("keep a")
    kill_server(home)
    uri = joiner.do("ensure")
    server = only(home)
    assert starter.do("ensure") == uri == starter.opened["uri"]
    assert only(home) == server
    assert starter.do("kept") == joiner.do("kept") == ["a"]
    assert starter.end() == ""
    assert joiner.end() == ""


def test_it_recovers_after_everything_was_killed(home: Path) -> None:
    both = User(home), User(home)
    both[0].do("keep a")
    for user in both:
        user.process.kill()
    kill_server(home)
    assert socket_of(both[0].opened["uri"]).exists()  # stale
    with running(home) as mongod:
        assert not mongod.first_start
        assert kept(mongod.uri) == ["a"]


@pytest.mark.parametrize(
    ("moment", "also_server"), [(0.0, True), (0.4, False)], ids=["at once, its mongod too", "its mongod runs on"]
)
def test_a_first_start_that_was_killed_is_begun_anew(home: Path, moment: float, also_server: bool) -> None:
    user = User(home, wait=False)
    until((folder_of(home) / "db").exists)
    time.sleep(moment)
    user.kill()
    if also_server:
        kill_server(home)
    with running(home) as mongod:
        keep(mongod.uri, "a")


def test_half_written_data_of_a_first_start_is_begun_anew(home: Path) -> None:
    data = folder_of(home) / "db"
    data.mkdir(parents=True)
    (data / "storage.bson").touch()  # mongod aborts on this
    (folder_of(home) / "unfinished").touch()
    with running(home) as mongod:
        assert mongod.first_start


def test_a_server_whose_stopping_user_was_killed_is_waited_for(home: Path) -> None:
    user = User(home)
    user.do("keep a")
    user.begin_to_end()  # stopping takes about a second
    until(lambda: not (folder_of(home) / "address").exists())
    user.kill()
    with running(home) as mongod:
        assert kept(mongod.uri) == ["a"]


def test_a_process_with_the_number_of_a_dead_server_is_left_alone(home: Path) -> None:
    User(home).kill()  # so that the server is no child of this process
    lock = folder_of(home) / "server.lock"
    note = lock.read_text()
    mongod = EmbeddedMongod(home)
    mongod.open()
    lock.write_text(f"{os.getpid()} {note.partition(' ')[2]}")
    with pytest.raises(EmbeddedError, match="another machine"):
        mongod.close()
    lock.write_text(note)
    with EmbeddedMongod(home):
        pass
