"""A child gets little of the environment, no more memory than it may have, and does not outlive its parent."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading

import pytest

from lkmongo.child_process import OUTGROWN, end_after_parent, minimal_environment
from tests.waiting import PATIENCE

GROWS = """
import time
from lkmongo import child_process
child_process.{limit}(100 * 1024**2)
grown = b"x" * (150 * 1024**2)
time.sleep(600)
"""


def test_of_the_environment_only_the_harmless_is_left(monkeypatch):
    for name in (
        "LD_PRELOAD",
        "DYLD_INSERT_LIBRARIES",
        "PYTHONPATH",
        "MONGODB_URI",
        "LIVEKIT_API_SECRET",
        "HTTPS_PROXY",
    ):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    left = minimal_environment()
    assert left["LC_ALL"] == "C.UTF-8"
    assert left.keys() - {"LC_ALL", "LC_CTYPE"} <= {
        "PATH",
        "HOME",
        "TMPDIR",
        "TZ",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
    }


def test_where_the_system_sets_no_limit_a_child_that_grows_ends_itself():
    ended = subprocess.run([sys.executable, "-c", GROWS.format(limit="watch")], check=False)
    assert ended.returncode == OUTGROWN


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_where_it_does_memory_is_refused():
    ended = subprocess.run(
        [sys.executable, "-c", GROWS.format(limit="confine")], check=False, capture_output=True, text=True
    )
    assert "MemoryError" in ended.stderr


def stay():
    """What a process does that a thread keeps when its parent has died."""
    end_after_parent(0.0)
    threading.Thread(target=threading.Event().wait).start()
    os.write(1, b"begun\n")


def begin_and_die():
    process = multiprocessing.get_context("spawn").Process(target=stay)
    process.start()
    sys.stdin.read(1)
    os.kill(os.getpid(), 9)


def test_a_process_that_a_thread_keeps_does_not_outlive_its_parent():
    begins = "from tests.test_child_process import begin_and_die\nif __name__ == '__main__': begin_and_die()"
    with subprocess.Popen([sys.executable, "-c", begins], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"begun\n"
        parent.communicate(b"!", timeout=PATIENCE)  # the end of the output is that of the child, which has it too
    assert parent.returncode == -9


def test_without_a_parent_nothing_is_done():
    before = threading.active_count()
    end_after_parent(0.0)
    assert threading.active_count() == before
