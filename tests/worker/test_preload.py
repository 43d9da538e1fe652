"""What job processes share: made before they are forked, and nothing that a fork would break."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import clean_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere job processes are spawned")

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
import json, multiprocessing, os, sys
from pathlib import Path


def tell():
    from lkmongo.embed import local

    if made := local._loaded:
        made.embed(["the dog is called Waffles"])
    print(json.dumps({
        "model": made is not None,
        "responder": "lkmongo.demo.llm" in sys.modules,
        "threads of the parent": len(os.listdir(f"/proc/{os.getppid()}/task")),
    }))


if __name__ == "__main__":
    from lkmongo.worker.agent_server import start_forkserver

    start_forkserver()
    job = multiprocessing.get_context("forkserver").Process(target=tell)
    job.start()
    job.join()
    sys.exit(job.exitcode)
"""


def job_of(folder: Path, **settings: str) -> dict[str, object]:
    """What a process that is forked for a job finds in itself."""
    (folder / "program.py").write_text(PROGRAM)
    ran = subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        env=clean_environment()
        | {"PYTHONPATH": str(ROOT), "HOME": str(folder), "LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE": "0"}
        | settings,
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(ran.stdout)


def test_a_job_inherits_the_local_model_and_the_demo_responder(tmp_path):
    job = job_of(tmp_path)
    assert job == {"model": True, "responder": True, "threads of the parent": 1}


def test_what_the_settings_do_not_need_is_not_loaded(tmp_path):
    job = job_of(tmp_path, VOYAGE_API_KEY="pa-x", LKMONGO_LLM_BASE_URL="http://localhost:1/v1")
    assert job == {"model": False, "responder": False, "threads of the parent": 1}


def test_settings_that_are_wrong_are_left_to_the_job_to_report(tmp_path):
    assert job_of(tmp_path, LKMONGO_SEARCH="nonsense")["model"] is False
