"""A file is written whole or not at all."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lkmongo.errors import UsageError
from lkmongo.files import secret_file, whole_file


def test_it_is_there_at_the_end_and_only_its_owner_reads_it(tmp_path):
    path = tmp_path / "out.jsonl"
    with whole_file(path) as write:
        write(b"one\n")
        write(b"two\n")
        assert not path.exists()
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_what_was_there_stays_when_anything_goes_wrong(tmp_path, error):
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    with pytest.raises(error), whole_file(path) as write:  # noqa: PT012
        write(b"half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_leaves_nothing(tmp_path):
    script = (
        "import sys\nfrom pathlib import Path\nfrom lkmongo.errors import LkmongoError\n"
        "from lkmongo.files import whole_file\n"
        "try:\n    with whole_file(Path(sys.argv[1])) as write:\n        write(b'x' * 10_000)\n"
        "except LkmongoError as error:\n    print(error.message, error.why, sep='|')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, 4_096)),
    )
    assert done.stdout.strip() == f"{tmp_path / 'out'} cannot be written|File too large"
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_refused_and_what_it_points_to_stays(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    for target in (real, tmp_path / "nothing"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        with pytest.raises(UsageError, match="is a symbolic link"), whole_file(link):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    assert real.read_text() == "old"


def test_who_names_stdout_by_its_path_is_told_the_short_name():
    if Path("/dev/stdout").is_symlink():
        with pytest.raises(UsageError) as caught, whole_file(Path("/dev/stdout")):
            pass
        assert caught.value.hint == "- is stdout"


def test_a_secret_is_on_the_disk_before_it_is_used(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size) or fsync(descriptor)
    )
    secret_file(tmp_path / "key", "x" * 64)
    assert synced[0] == 65
    assert len(synced) == 2, "the folder as well"


def test_a_link_that_is_planted_meanwhile_is_replaced_and_not_followed(tmp_path):
    real, path = tmp_path / "real", tmp_path / "out"
    real.write_text("old")
    with whole_file(path) as write:
        write(b"new")
        path.symlink_to(real)
    assert (path.read_text(), path.is_symlink(), real.read_text()) == ("new", False, "old")


def test_a_folder_that_is_swapped_meanwhile_does_not_get_the_file(tmp_path):
    folder, moved, other = tmp_path / "out", tmp_path / "moved", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    with whole_file(folder / "calls.jsonl") as write:
        folder.rename(moved)
        folder.symlink_to(other)
        write(b"private")
    assert (moved / "calls.jsonl").read_bytes() == b"private"
    assert list(other.iterdir()) == []


def test_pipes_and_devices_are_refused_and_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/null")):
        with pytest.raises(UsageError, match="is not a regular file"), whole_file(path):
            pass
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_places_where_nothing_can_be_written(tmp_path):
    with pytest.raises(UsageError, match="is a folder"), whole_file(tmp_path):
        pass
    with pytest.raises(UsageError, match="there is no folder"), whole_file(tmp_path / "no" / "file"):
        pass
