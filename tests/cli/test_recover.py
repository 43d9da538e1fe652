"""`lkmongo sessions recover` as operators run it."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind, UserScope, now
from lkmongo.outbox.journal import Journal, database_of, files, journal_folder
from lkmongo.outbox.operations import AddTurn
from tests.openai_server import REQUESTS, create_app

ROBIN = UserScope(tenant_id="default", user_id="u-100")


@pytest.fixture
def folder(shared_home):
    folder = journal_folder(shared_home)
    yield folder
    for path in folder.iterdir() if folder.exists() else []:
        path.unlink()


@pytest.fixture
def leave(folder, database_name):
    """Leave a call of two turns and a memory as a process that was killed would have."""

    def leave(session_id: str = "call-1", *, database: str = database_name, **entries) -> Path:
        record = SessionRecord(session_id, ROBIN, "room", SessionStatus.ACTIVE, now() - timedelta(minutes=5))
        call = Journal.create(folder, record, owner="host/boot/1", database=database_of(None, database))
        turns = [
            Turn(n, f"{session_id}-{n}", TurnKind.MESSAGE, record.started_at, role="user", content=f"turn {n}")
            for n in range(2)
        ]
        call.append([AddTurn(turn, numbered=True).entry for turn in turns])
        call.append([{"op": "remember", "label": "colour", "content": "teal", "at": now()}, *entries.values()])
        call.close(delete=False)
        return call.path

    return leave


def test_what_a_killed_call_left_is_stored_and_shown(run, leave, folder):
    leave()
    row = {
        "session_id": "call-1",
        "tenant_id": "default",
        "user_id": "u-100",
        "outcome": "interrupted",
        "turns": 2,
        "changes": 1,
        "left_out": 0,
    }
    result = run("sessions", "recover", "--json")
    assert (result.code, result.json, result.stderr) == (0, [row], "")
    assert list(folder.iterdir()) == []
    shown = run("sessions", "show", "call-1", "--json").json
    assert (shown["status"], [turn["content"] for turn in shown["turns"]]) == ("interrupted", ["turn 0", "turn 1"])
    assert run("memory", "show", "u-100", "colour", "--json").json["content"] == "teal"
    again = run("sessions", "recover")
    assert (again.code, again.stdout, again.stderr) == (0, "", "There is nothing to recover\n")
    assert run("sessions", "recover", "--json").json == []


def test_a_dry_run_lists_and_writes_nothing(run, leave, folder):
    path = leave()
    before = path.read_bytes()
    result = run("sessions", "recover", "--dry-run")
    assert result.code == 0
    assert result.stdout.splitlines()[1].split("\t") == ["call-1", "default", "u-100", "waits", "2", "1", "0"]
    assert result.stderr == "nothing was written\n"
    assert [(each, each.read_bytes()) for each in folder.iterdir()] == [(path, before)]
    assert run("sessions", "list", "--json").json == []


def test_commands_that_read_leave_it_where_it_is(run, leave):
    path = leave()
    before = path.read_bytes()
    for command in (["sessions", "list"], ["memory", "list", "u-100"], ["db", "status"], ["doctor", "--only", "disk"]):
        run(*command)
    assert path.read_bytes() == before


def test_what_is_for_another_database_stays_and_is_told(run, leave, folder):
    path = leave(database="elsewhere")
    result = run("sessions", "recover")
    assert (result.code, result.stdout) == (0, "")
    assert result.stderr.startswith(f"1 session in {folder} is for another database: set MONGODB_URI and MONGODB_DB")
    assert files(folder) == [path]


def test_a_call_that_goes_on_is_left_alone_and_told(run, folder, database_name):
    record = SessionRecord("call-1", ROBIN, "room", SessionStatus.ACTIVE, now())
    call = Journal.create(folder, record, owner="me", database=database_of(None, database_name))
    with contextlib.closing(contextlib.ExitStack()) as stack:
        stack.callback(call.close, delete=True)
        result = run("sessions", "recover")
        assert (result.code, result.stderr) == (
            0,
            "1 session of this machine is still going on\nThere is nothing to recover\n",
        )
        assert files(folder) == [call.path]


def test_a_damaged_file_is_told_and_costs_no_other(run, leave, folder):
    damaged, whole = leave("call-1"), leave("call-2")
    damaged.write_bytes(damaged.read_bytes() + b"\x00\x00\n")
    nonsense = folder / "20260101T000000-0.jsonl"
    nonsense.write_bytes(b"nonsense\n")
    dry = run("sessions", "recover", "--dry-run", "--json")
    assert (dry.code, len(dry.json)) == (1, 2)
    result = run("sessions", "recover", "--json")
    assert (result.code, {row["session_id"] for row in result.json}) == (1, {"call-1", "call-2"})
    assert f"warning: {nonsense} is not the journal of a session" in result.stderr
    assert f"{damaged.stem}.damaged is damaged: 1 of its lines cannot be read; the others are stored" in result.stderr
    assert '"2 files could not be stored completely"' in result.stderr
    assert files(folder) == [nonsense]
    assert not whole.exists()
    assert run("sessions", "recover").code == 1


def test_without_a_database_everything_stays_on_disk(run, leave, database_name):
    path = leave()
    uri = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200"
    result = run("sessions", "recover", env={"MONGODB_URI": uri})
    assert result.code == 1
    assert path.exists()


def test_the_doctor_tells_what_waits(run, leave):
    leave()
    (row,) = run("doctor", "--only", "disk", "--json").json
    assert (row["status"], row["try"]) == ("warn", "lkmongo sessions recover")


async def test_what_is_to_be_learned_is_learned_by_the_language_model_that_is_set_up(run, store):
    moment = now() - timedelta(minutes=5)
    turn = Turn(0, "i", TurnKind.MESSAGE, moment, role="user", content="hello")
    await store.sessions.append(ROBIN, "s-1", [turn])
    await store.sessions.save(SessionRecord("s-1", ROBIN, "room", SessionStatus.COMPLETE, moment, now()), learn=True)
    assert "learning" not in run("sessions", "recover").stderr, "there is no model"
    async with TestServer(app := create_app()) as server:
        env = {"LKMONGO_LLM_BASE_URL": str(server.make_url("/v1"))}
        result = await asyncio.to_thread(run, "sessions", "recover", env=env)
        assert result.code == 0
        assert "learning from sessions: 1 failed" in result.stderr
        assert len(app[REQUESTS]) == 1
    shown = run("sessions", "show", "s-1").stdout
    assert "pending, 1 attempt, the language model's answer is not" in shown
