"""A file is written whole or not at all."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lkmongo.errors import LkmongoError, UsageError
from lkmongo.files import whole_file


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


def test_a_link_stays_and_what_it_points_to_changes(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    with whole_file(link) as write:
        write(b"new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_a_device_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with whole_file(pipe) as write:
        write(b"through")
    reader.join()
    assert read == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_device_that_is_full_says_so():
    with pytest.raises(LkmongoError, match="/dev/full cannot be written"), whole_file(Path("/dev/full")) as write:
        write(b"x")


def test_places_where_nothing_can_be_written(tmp_path):
    with pytest.raises(UsageError, match="is a folder"), whole_file(tmp_path):
        pass
    with pytest.raises(UsageError, match="there is no folder"), whole_file(tmp_path / "no" / "file"):
        pass
