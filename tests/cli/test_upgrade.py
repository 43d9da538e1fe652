"""`lkmongo db upgrade`, and who says that it is needed."""

from __future__ import annotations

import json
import re

import pytest

from docs import generate
from lkmongo.outbox import journal
from lkmongo.settings import Settings
from tests.earlier import FOLDER, restore
from tests.outbox.test_earlier_release import ENTRIES, OF_TURNS
from tests.waiting import until

ADDED = {"source", "dates", "valid_from", "calls", "summary", "learn"}
"""What this release adds to entries: the one before ignores it."""
STAMPS = {
    "users": 11,
    "memories": 10,
    "memory_history": 0,
    "knowledge": 8,
    "orders": 2,
    "sessions": 11,
    "turns": 78,
    "visitors": 2,
    "phones": 0,
    "pins": 0,
}


def check(run):
    return {each["check"]: each for each in run("doctor", "--only", "schema", "--json").json}["schema"]


@pytest.fixture
async def older(store):
    await restore(store)
    return store


def test_status_and_doctor_name_the_command_until_it_was_run(run, older):
    status = run("db", "status", "--json")
    assert {each["collection"]: each["older"] for each in status.json["schema"]} == STAMPS
    assert "122 documents are of an earlier release of lkmongo: lkmongo db upgrade" in status.stderr
    assert (check(run)["status"], check(run)["try"]) == ("warn", "lkmongo db upgrade")

    planned = run("db", "upgrade", "--dry-run", "--json")
    rows = [{"collection": n, "change": "mark as schema version 1", "documents": of} for n, of in STAMPS.items() if of]
    rows.insert(1, {"collection": "memories", "change": "delete a secret", "documents": 1})
    sealed = "seal the hash of a person"
    rows += [{"collection": name, "change": sealed, "documents": 1} for name in ("tombstones", "receipts")]
    assert (planned.code, planned.json) == (0, rows)
    assert "turns: 78 of 78 documents would be upgraded" in planned.stderr
    assert check(run)["status"] == "warn"

    done = run("db", "upgrade", "--json")
    assert (done.code, done.json) == (0, rows)
    assert "turns: 78 of 78 documents upgraded" in done.stderr
    assert check(run)["status"] == "ok"
    assert "upgrade" not in run("db", "status").stderr
    again = run("db", "upgrade")
    assert (again.code, again.stdout, again.stderr) == (0, "", "Every document is of this release\n")


def test_commands_and_calls_work_before_the_upgrade(run, older):
    assert [slot["content"] for slot in run("memory", "list", "ada", "--json").json] == ["teal"]
    assert len(run("sessions", "show", "dora-1", "--json").json["turns"]) == 10
    assert len(run("sessions", "export").stdout.splitlines()) == 11
    talk = run("agent", "console", "--user", "ada", "--json", input="What is my favorite color?\n")
    assert "teal" in talk.answers[-1]


async def test_it_is_killed_in_the_middle_and_completed_by_the_next(start, run, older):
    ada = {"tenant_id": "default", "user_id": "ada"}
    many = [ada | {"session_id": "long", "seq": number, "item_id": str(number)} for number in range(30_000)]
    await older.db.turns.insert_many(many)
    with start("db", "upgrade") as upgrade:
        await until(lambda: older.db.turns.find_one({"schema_version": 1}))
        upgrade.kill()
    assert await older.db.turns.find_one({"schema_version": {"$exists": False}})
    done = run("db", "upgrade", "--json")
    assert done.code == 0
    assert [each["collection"] for each in done.json] == ["turns", "visitors"]  # the others were done
    assert done.json[0]["documents"] < 30_078
    assert await older.db.turns.count_documents({"schema_version": 1}) == 30_078


async def test_documents_of_a_later_release_are_a_warning(run, older):
    await older.db.users.update_one({"user_id": "ada"}, {"$set": {"schema_version": 2}})
    assert "1 document is of a later release" in run("db", "status").stderr
    assert (check(run)["status"], check(run)["try"]) == ("warn", "upgrade lkmongo on this machine")
    shown = run("users", "show", "ada", "--json")
    assert (shown.code, json.loads(shown.stderr)["error"]["code"]) == (1, "newer_version")
    assert run("users", "list", "--json").code == 0


# -- what scripts and workers of the earlier release rely on


def test_commands_options_and_settings_keep_their_names():
    interface = json.loads((FOLDER / "interface.json").read_text())
    for command, options in interface["commands"].items():
        shown = set(re.findall(r"(?<!\S)--?[a-zA-Z-]+", generate.help_text(command)))
        assert {command: set(options) - shown} == {command: set()}
    assert set(interface["settings"]) <= {variable.name for variable in Settings.variables()}


def test_a_worker_without_mongodb_leaves_a_journal_that_the_earlier_release_reads(run, tmp_path):
    env = {
        "MONGODB_URI": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200",
        "LKMONGO_HOME": str(tmp_path / "home"),
    }
    said = ["Remember that my favorite color is teal.", "Forget my favorite color.", "My name is Ada.", "Good bye."]
    run("agent", "console", "--user", "ada", input="\n".join(said), env=env)
    run("agent", "console", "--user", "ada", input="Remember that my dog is called Rex.\n", env=env)
    seen = set()
    for path in journal.files(journal.journal_folder(tmp_path / "home")):
        for entry in journal.read(path).entries:
            if entry["op"] == "forget_calls":
                continue  # of summaries, which the release before has not: it stores the rest, and keeps the file
            seen.add(entry["op"])
            assert entry.keys() - (OF_TURNS if entry["op"] == "turn" else ADDED) == ENTRIES[entry["op"]]
    assert seen == ENTRIES.keys() - {"told", "was"}
