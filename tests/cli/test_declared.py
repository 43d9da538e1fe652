"""The example's collection on the command line: created, seeded, listed, exported, merged and erased."""

from __future__ import annotations

import json
import shutil

import pytest

from docs import generate
from lkmongo.model import UserScope
from tests.people import anywhere

PRIYA = UserScope(tenant_id="default", user_id="u-300")
EXAMPLES = generate.ROOT / "docs" / "examples"
MODULE = {"LKMONGO_AGENT": "own_collection:Salon"}


@pytest.fixture
def salon(tmp_path):
    """A project's folder, in which the commands run."""
    shutil.copy(EXAMPLES / "own_collection.py", tmp_path)
    shutil.copytree(EXAMPLES / "salon-seeds", tmp_path / "seeds")
    return tmp_path


@pytest.fixture
def seeded(run, salon, store):
    result = run("db", "seed", "--dir", "seeds", "--json", env=MODULE)
    assert result.code == 0, result.stderr
    return {row["collection"]: row["inserted"] for row in result.json}


async def test_the_whole_life_of_a_declared_collection(run, salon, store, seeded):
    assert seeded == {"users": 1, "orders": 0, "knowledge": 0, "appointments": 2}
    shown = run("users", "show", "u-300", "--json").json
    assert (shown["appointments"], shown["loyalty_tier"]) == (2, "gold")

    exported = json.loads(run("memory", "export", "u-300").stdout)
    assert [each["appointment_id"] for each in exported["appointments"]] == ["a-1", "a-2"]
    assert exported["profile"]["fields"] == {"loyalty_tier": "gold"}

    merged = run("users", "merge", "u-300", "u-301", "--yes", "--json").json
    assert merged["moved"]["appointments"] == 2
    assert await store.db.appointments.count_documents({"user_id": "u-301"}) == 2

    # Support staff without the module of the agent.
    dry = run("users", "erase", "u-301", "--dry-run")
    assert "Would erase 1 profile, 2 in appointments of u-301" in dry.stdout
    erased = run("users", "erase", "u-301", "--confirm", "u-301", "--json")
    assert (erased.code, erased.json["erased"]["appointments"]) == (0, 2)
    assert "appointments" in erased.json["collections"]
    assert await store.db.appointments.count_documents({}) == 0
    assert await anywhere(store, "u-301", "haircut") == []
    assert "2 in appointments" in run("users", "receipts").stdout
    again = run("users", "erase", "u-301", "--confirm", "u-301")
    assert "Nothing more is found of u-301" in again.stdout


def test_indexes_and_status_include_it_and_know_it_without_the_module(run, salon):
    for env in (MODULE, {}):
        made = run("db", "indexes", "--json", env=env).json
        actions = {row["index"]: row["action"] for row in made if row["collection"] == "appointments"}
        assert actions == dict.fromkeys(["key", "by_at"], "create" if env else "unchanged")
    assert run("db", "indexes", "--check").code == 0
    status = run("db", "status", "--json").json
    assert [row["status"] for row in status["indexes"] if row["collection"] == "appointments"] == ["READY", "READY"]
    (size,) = [row for row in status["documents"] if row["collection"] == "appointments"]
    assert size == {"collection": "appointments", "documents": 0, "no_vector": None, "other_model": None}
    assert {"subject": "appointments", "keep": "400d"} in status["retention"]


def test_the_definitions_are_printed_without_a_database(run_inside, salon, monkeypatch):
    monkeypatch.setattr("sys.path", [str(salon), *__import__("sys").path])
    printed = run_inside("db", "indexes", "--dry-run", "--json", env=MODULE).json
    assert [each["index"] for each in printed if each["collection"] == "appointments"] == ["key", "by_at"]


def test_its_retention_is_changed_and_stays_so(run, salon):
    run("db", "indexes", env=MODULE)
    assert run("db", "retention", "appointments", "30d", "--yes").code == 0
    run("db", "indexes", env=MODULE)
    kept = {row["subject"]: row["keep"] for row in run("db", "retention", "--json").json}
    assert kept["appointments"] == "30d"
    wrong = run("db", "retention", "appointment", "30d")
    assert (wrong.code, "one of calls, memories, profiles, appointments" in wrong.stderr) == (2, True)


def test_a_seed_that_is_wrong_is_named_with_its_line_and_writes_nothing(run, salon, store):
    file = salon / "seeds" / "appointments.yaml"
    file.write_text(file.read_text().replace("2026-12-15T14:30:00", "soon"))
    result = run("db", "seed", "--dir", "seeds", env=MODULE)
    assert result.code == 2
    assert "appointments.yaml:8: appointments[1].at must be a valid datetime" in result.stderr
    assert "nothing was written" in result.stderr


async def test_a_file_of_nobodys_is_named_with_what_is_possible(run, salon, store):
    result = run("db", "seed", "--dir", "seeds")
    assert result.code == 2
    assert "appointments.yaml: is not read; only users.yaml, orders.yaml and knowledge/ are" in result.stderr
    assert await store.db.users.count_documents({}) == 0
    run("db", "indexes", env=MODULE)
    assert run("db", "seed", "--dir", "seeds").code == 0, "the database knows it by now"


def test_a_module_that_declares_what_cannot_be_is_named(run, salon):
    module = salon / "own_collection.py"
    module.write_text(module.read_text().replace('"appointments",\n', '"turns",\n'))
    result = run("users", "erase", "u-300", "--confirm", "u-300", env=MODULE)
    assert result.code == 2
    assert "the collection turns is a name of lkmongo's own" in result.stderr
