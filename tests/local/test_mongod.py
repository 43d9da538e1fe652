"""The embedded mongod in one process and shared by several: its data, its socket, who stops it."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pymongo import MongoClient

from lkmongo.errors import EmbeddedError
from lkmongo.local import EmbeddedMongod, find_server, process
from lkmongo.local.folder import Folder
from lkmongo.local.process import make_primary
from tests.local_support import (
    User,
    folder_of,
    keep,
    kept,
    only,
    running,
    servers,
    short_tmpdir,
    socket_of,
    until,
)


@contextlib.contextmanager
def cutting_off(server: Path, path: Path, *, times: int) -> Iterator[list[bytes]]:
    """A way to `server` at `path` on which so many commands end with their connection; gives those commands."""
    cut: list[bytes] = []

    def serve(near: socket.socket) -> None:
        with contextlib.suppress(OSError), near, socket.socket(socket.AF_UNIX) as far:
            far.connect(str(server))
            while message := near.recv(65_536):
                if b"helloOk" not in message and len(cut) < times:  # which is in what drivers ask by themselves
                    cut.append(message)
                    return
                far.sendall(message)
                near.sendall(far.recv(65_536))

    def accept() -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        threading.Thread(target=accept, daemon=True).start()
        yield cut
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="class")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, EmbeddedMongod]]:
    """A home whose mongod runs, for tests that leave both as they are."""
    home = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch, short_tmpdir(patch):
        for name in ("LIVEKIT_API_SECRET", "LD_PRELOAD", "LD_AUDIT"):
            patch.setenv(name, "not for mongod")
        with running(home) as mongod:
            yield home, mongod


class TestShared:
    def test_it_takes_transactions(self, shared: tuple[Path, EmbeddedMongod]) -> None:
        _, mongod = shared
        with MongoClient(mongod.uri) as client, client.start_session() as session:
            session.with_transaction(lambda s: client["test"]["kept"].insert_one({"_id": "a"}, session=s))
            assert kept(mongod.uri) == ["a"]

    def test_nobody_else_can_reach_it(self, shared: tuple[Path, EmbeddedMongod]) -> None:
        home, mongod = shared
        connections = only(home).net_connections(kind="all")
        listening = [c for c in connections if c.family != socket.AF_UNIX or c.laddr]
        assert [Path(c.laddr) for c in listening] == [socket_of(mongod.uri)] * len(listening) != []
        for folder in (socket_of(mongod.uri).parent, folder_of(home)):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    def test_what_it_inherits_is_its_own_lock_and_no_other(self, shared: tuple[Path, EmbeddedMongod]) -> None:
        home, _ = shared
        locks = {Path(file.path).name for file in only(home).open_files() if file.path.endswith(".lock")}
        assert "server.lock" in locks
        assert not locks & {"start.lock", "use.lock"}

    def test_of_the_environment_it_gets_nothing_that_is_secret_or_runs_code(
        self, shared: tuple[Path, EmbeddedMongod]
    ) -> None:
        home, _ = shared
        environment = only(home).environ()
        assert "PATH" in environment
        assert not environment.keys() & {"LIVEKIT_API_SECRET", "LD_PRELOAD", "LD_AUDIT"}
        assert "not for mongod" not in environment.values()

    def test_its_log_is_bounded(self, shared: tuple[Path, EmbeddedMongod]) -> None:
        home, mongod = shared
        log = folder_of(home) / "mongod.log"
        with log.open("ab") as file:
            file.truncate(17 * 1024**2)
        mongod.ensure()
        assert log.stat().st_size < 1024**2

    def test_a_connection_that_it_closes_while_it_starts_is_opened_again(
        self, shared: tuple[Path, EmbeddedMongod], short_tmp: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, mongod = shared
        with cutting_off(socket_of(mongod.uri), short_tmp / "x.sock", times=2) as cut:
            make_primary(short_tmp / "x.sock", 60)
            assert len(cut) == 2
        monkeypatch.setattr(process, "_GONE_AFTER_MS", 100)
        with pytest.raises(EmbeddedError, match="stopped answering"):
            make_primary(short_tmp / "x.sock", 60)


class TestOneProcess:
    def test_data_is_kept_between_runs(self, home: Path) -> None:
        with EmbeddedMongod(home) as mongod:
            assert mongod.first_start
            keep(mongod.uri, "a")
        assert not servers(home)
        with EmbeddedMongod(home) as mongod:
            assert not mongod.first_start
            assert kept(mongod.uri) == ["a"]
        assert [path.name for path in home.glob("mongodb-*")] == [f"mongodb-{find_server().series}"]

    def test_opening_twice_and_closing_twice_do_no_harm(self, home: Path) -> None:
        mongod = EmbeddedMongod(home)
        mongod.close()
        mongod.open()
        server = only(home)
        mongod.open()
        assert only(home) == server
        mongod.close()
        assert not servers(home)
        mongod.close()

    def test_a_socket_that_was_deleted_comes_back(self, home: Path) -> None:
        with running(home) as mongod:
            keep(mongod.uri, "a")
            shutil.rmtree(socket_of(mongod.uri).parent)  # as a cleaner of temporary files does
            mongod.ensure()
            assert kept(mongod.uri) == ["a"]
            only(home)

    def test_a_home_that_moved_keeps_its_data(self, home: Path, tmp_path: Path) -> None:
        with EmbeddedMongod(home) as mongod:
            keep(mongod.uri, "a")
            before = mongod.uri
        home.rename(tmp_path / "moved")
        with running(tmp_path / "moved") as mongod:
            assert mongod.uri != before
            assert kept(mongod.uri) == ["a"]
            keep(mongod.uri, "b")

    def test_a_copy_of_a_home_leaves_the_original_alone(self, home: Path, tmp_path: Path) -> None:
        with EmbeddedMongod(home) as mongod:
            shutil.copytree(home, tmp_path / "copy", ignore=shutil.ignore_patterns("db"))
            with EmbeddedMongod(tmp_path / "copy") as copy:
                assert copy.uri != mongod.uri
            keep(mongod.uri, "a")

    def test_two_names_of_one_home_are_one(self, home: Path, tmp_path: Path) -> None:
        home.mkdir()
        (tmp_path / "link").symlink_to(home)
        with running(home) as mongod, EmbeddedMongod(tmp_path / "link") as other:
            assert mongod.uri == other.uri
            only(home)

    def test_a_home_with_spaces_umlauts_and_a_long_name(self, home: Path) -> None:
        far = home / "mein schönes Zuhause — 家" / ("x" * 150)
        with EmbeddedMongod(far) as mongod:
            keep(mongod.uri, "a")
        with running(far) as mongod:
            assert kept(mongod.uri) == ["a"]

    def test_a_tmpdir_that_drivers_do_not_understand(
        self, home: Path, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (short_tmp / "T").mkdir()  # as every macOS has; PyMongo would look in t
        monkeypatch.setattr(tempfile, "tempdir", str(short_tmp / "T"))
        with EmbeddedMongod(home) as mongod:
            keep(mongod.uri, "a")

    @pytest.mark.parametrize("name", ["x" * 100, "Upper", "a,b", "a:b", "a b", "\u00e9"])
    def test_a_tmpdir_that_cannot_hold_a_socket_is_not_used(
        self, home: Path, short_tmp: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        home.mkdir()
        folder = Folder(home, "6.0")
        folder.make()
        assert folder.socket().parent.parent == short_tmp
        monkeypatch.setattr(tempfile, "tempdir", str(short_tmp / name))
        assert folder.socket().parent.parent == Path("/tmp")


class TestSharing:
    def test_the_last_one_out_stops_it(self, home: Path) -> None:
        first, second = User(home), User(home)
        server = only(home)
        assert first.opened["first_start"]
        assert not second.opened["first_start"]
        assert first.do("keep a") == second.do("kept") == ["a"]
        assert first.end() == ""
        assert only(home) == server
        assert second.do("kept") == ["a"]
        assert second.end() == ""
        assert not servers(home)

    def test_ten_at_once_get_one(self, home: Path) -> None:
        ten = [User(home, wait=False) for _ in range(10)]
        for user in ten:
            user.wait_until_open()
        only(home)
        assert sum(user.opened["first_start"] for user in ten) == 1
        assert len({user.opened["uri"] for user in ten}) == 1
        for user in ten:
            user.process.send_signal(signal.SIGTERM)
        assert [user.end() for user in ten] == [""] * 10
        assert not servers(home)

    def test_a_process_that_stays_takes_the_exit_code_of_the_server_it_left(self, home: Path) -> None:
        first, second = User(home), User(home)
        first.do("close")
        second.end()
        until(lambda: not psutil.Process(first.process.pid).children())
        first.end()

    def test_a_forked_child_does_not_stop_its_parents(self, home: Path) -> None:
        user = User(home)
        assert user.do("fork") == 0
        assert user.do("keep a") == ["a"]
        assert user.end() == ""
