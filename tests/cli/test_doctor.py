"""`lkmongo doctor` as an operator runs it: what it prints, in which form, and how it ends."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp.test_utils import TestServer

from lkmongo.doctor import NAMES
from tests import livekit_api

CANARY = "canary-s3cret-98765-98765-98765-98765"
NOBODY = f"mongodb://app:{CANARY}@127.0.0.1:1/?serverSelectionTimeoutMS=200"
LIVEKIT = {"LIVEKIT_API_KEY": livekit_api.KEY, "LIVEKIT_API_SECRET": livekit_api.SECRET}


def by_name(result):
    return {row["check"]: row for row in result.json}


def test_everything_is_looked_at_and_every_row_is_complete(run):
    result = run("doctor", "--json")
    assert result.code == 0, result.stderr
    rows = by_name(result)
    assert list(rows) == list(NAMES)
    for row in rows.values():
        assert set(row) == {"check", "status", "ms", "detail", "try", "facts"}
        assert row["status"] in {"ok", "warn", "fail", "skip"}
        assert row["ms"] >= 0
        assert row["detail"]
        assert row["try"] or row["status"] in {"ok", "skip"}
        assert isinstance(row["facts"], list)
    assert rows["mongodb"]["ms"] > 0
    assert any("LKMONGO_HOME = " in fact for fact in rows["settings"]["facts"])


def test_after_the_indexes_are_made_there_is_nothing_to_warn_of(run):
    assert by_name(run("doctor", "--only", "indexes", "--json"))["indexes"]["try"] == "lkmongo db indexes"
    assert run("db", "indexes").code == 0
    assert by_name(run("doctor", "--only", "indexes", "--json"))["indexes"]["status"] == "ok"


def test_the_forms(run):
    only = ("--only", "disk", "--only", "audio", "--only", "livekit")
    table = run("doctor", *only, "-o", "table")
    assert table.stdout.split()[:2] == ["ok", "disk"]
    assert " ms  " in table.stdout
    assert "\x1b" not in table.stdout
    assert table.stderr.strip() in {"1 ok, 2 skip", "2 ok, 1 skip"}
    plain = run("doctor", *only).stdout.splitlines()
    assert plain[0] == "check\tstatus\tms\tdetail\ttry\tfacts"
    assert len(plain) == 4
    lines = run("doctor", *only, "-o", "jsonl")
    assert [event["check"] for event in lines.events] == ["disk", "livekit", "audio"]
    assert lines.stderr == ""


def test_a_database_that_is_away_is_1_with_what_to_try(run):
    result = run("doctor", "--only", "mongodb", "--only", "livekit", "-o", "table", env={"MONGODB_URI": NOBODY})
    assert result.code == 1
    head, *rest = result.stdout.splitlines()
    assert head.startswith("fail  mongodb ")
    assert rest[0].startswith("      try: check that it is running, MONGODB_URI")
    assert "skip  livekit" in result.stdout
    assert result.stderr.startswith("error: 1 part does not work: mongodb\n  why: mongodb: MongoDB cannot be reached")
    assert CANARY not in result.stdout + result.stderr


def test_as_json_a_failure_is_both_data_and_an_error(run):
    result = run("doctor", "--only", "mongodb", "--json", env={"MONGODB_URI": NOBODY})
    assert result.code == 1
    assert by_name(result)["mongodb"]["status"] == "fail"
    assert "MONGODB_URI" in by_name(result)["mongodb"]["try"]
    assert json.loads(result.stderr)["error"]["hint"]


async def test_refused_credentials_are_4_and_others_are_not(run):
    async with TestServer(livekit_api.create_app()) as server:
        env = LIVEKIT | {"LIVEKIT_URL": f"ws://{server.host}:{server.port}"}

        def doctor(**more):
            return run("doctor", "--only", "livekit", "--json", env=env | more)

        assert (await asyncio.to_thread(doctor)).code == 0
        refused = await asyncio.to_thread(lambda: doctor(LIVEKIT_API_SECRET=CANARY))
        assert refused.code == 4
        assert json.loads(refused.stderr)["error"]["code"] == "authentication"
        assert CANARY not in refused.stdout + refused.stderr


def test_settings_that_are_wrong_are_told_all_at_once_and_the_rest_is_looked_at(run, tmp_path):
    (tmp_path / ".env.local").write_text(f"this is no setting\nVOYAGE_API_KEY={CANARY}\nLKMONGO_LLM=a,,b\n")
    env = {"LKMONGO_SEARCH": "perhaps", "LKMONGO_OUTPUT": "xml", "LKMONGO_EMBEDDING": "local", "MONGODB_URI": CANARY}
    only = [word for name in ("settings", "disk", "mongodb") for word in ("--only", name)]
    result = run("doctor", *only, "--json", env=env)
    assert result.code == 1
    rows = by_name(result)
    assert [name for name, row in rows.items() if row["status"] == "fail"] == ["settings"]
    for said in (
        ".env.local:1: this line is not NAME=value",
        "LKMONGO_SEARCH must be auto, atlas or exact",
        "LKMONGO_OUTPUT must be",
        "LKMONGO_LLM must be provider/model",
        "MONGODB_URI must begin with mongodb://",
    ):
        assert said in rows["settings"]["detail"]
    assert "VOYAGE_API_KEY = cana***65 (from .env.local)" in rows["settings"]["facts"]
    assert rows["disk"]["status"] == "ok"
    assert rows["mongodb"]["detail"] == "MONGODB_URI is wrong: see settings"
    assert CANARY not in result.stdout + result.stderr


def test_a_misspelt_variable_is_a_warning_with_the_one_that_was_meant(run):
    result = run("doctor", "--only", "settings", "--json", env={"LKMONGO_EMBEDDING": "local"})
    assert (result.code, result.stderr) == (0, "")
    assert by_name(result)["settings"]["try"] == "rename LKMONGO_EMBEDDING to LKMONGO_EMBEDDINGS"


def test_code_of_the_current_folder_runs_only_when_that_is_asked(run, tmp_path):
    (tmp_path / ".env").write_text("LD_PRELOAD=./evil.so\nLKMONGO_AGENT=planted:Agent\n")
    (tmp_path / "planted.py").write_text(
        "from pathlib import Path\nimport lkmongo\nPath('ran').touch()\n\n\nclass Agent(lkmongo.Assistant):\n    pass\n"
    )
    only = ("--only", "settings", "--only", "agent", "--json")
    rows = by_name(run("doctor", *only))
    assert rows["agent"]["status"] == "skip"
    assert rows["agent"]["try"] == "lkmongo doctor --own-code, if you trust the module"
    assert rows["settings"]["facts"][-1].startswith("LD_PRELOAD in .env is ignored")
    assert not (tmp_path / "ran").exists()
    assert by_name(run("doctor", *only, "--own-code"))["agent"]["status"] == "ok"
    assert (tmp_path / "ran").exists()


def test_a_part_that_there_is_not_is_2(run):
    result = run("doctor", "--only", "mongo")
    assert result.code == 2
    assert "there is no part called 'mongo'" in result.stderr
    assert "mongodb.clock" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(("env", "colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours_are_for_terminals_that_want_them(at_terminal, env, colored):
    child = at_terminal("doctor", "--only", "disk", env=env)
    shown = child.read()
    child.close()
    assert child.exitstatus == 0
    assert ("\x1b[32mok" in shown) is colored
    assert colored or "\x1b" not in shown
    assert "disk" in shown
