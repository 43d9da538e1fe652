"""A child gets little of the environment, and no more memory than it may have."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lkmongo.child_process import OUTGROWN, minimal_environment

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
