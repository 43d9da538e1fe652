"""`lkmongo db retention`: what is kept how long, and nothing shortened without being asked."""

from __future__ import annotations

import json
from datetime import timedelta

import pexpect
import pytest
from pymongo import MongoClient

from lkmongo.model import now


@pytest.fixture
def db(shared_home, database_name):
    """The database that the commands work on."""
    from lkmongo.local.mongod import EmbeddedMongod

    with EmbeddedMongod(shared_home) as mongod, MongoClient(mongod.uri) as client:
        yield client[database_name]


def limits(run):
    return {row["subject"]: row["keep"] for row in run("db", "retention", "--json").json}


FOREVER = {"calls": "forever", "memories": "forever", "profiles": "forever"}


def test_nothing_has_a_limit_until_one_is_set_and_it_can_be_taken_away(run):
    assert limits(run) == FOREVER
    done = run("db", "retention", "calls", "90d", "--yes", "--json")
    assert done.code == 0, done.stderr
    assert done.json == {"subject": "calls", "before": "forever", "keep": "90d", "would_go": 0, "dry_run": False}
    assert limits(run) == FOREVER | {"calls": "90d"}
    assert run("db", "retention", "calls", "26w").code == 0, "longer than before: there is nothing to ask"
    assert limits(run)["calls"] == "182d"
    assert run("db", "retention", "calls", "forever").code == 0
    assert limits(run) == FOREVER


def test_a_shorter_time_is_asked_about_with_what_would_go(run, db):
    old, new = now() - timedelta(days=40), now()
    db.memories.insert_many(
        {"tenant_id": "t", "user_id": "u", "memory_type": str(n), "updated_at": old if n < 3 else new} for n in range(5)
    )
    refused = run("db", "retention", "memories", "30d")
    assert refused.code == 2
    assert "3 documents will be deleted" in refused.stderr
    assert "--yes" in refused.stderr
    assert limits(run) == FOREVER
    tried = run("db", "retention", "memories", "30d", "--dry-run")
    assert tried.code == 0
    assert "Would keep memories for 30d; older than that: 3 documents" in tried.stdout
    assert limits(run) == FOREVER
    assert db.memories.count_documents({}) == 5


def test_no_on_a_terminal_changes_nothing_and_exits_with_1(at_terminal, run):
    child = at_terminal("db", "retention", "profiles", "365d")
    child.expect(r"Keep profiles for 365d instead of forever\? 0 documents will be deleted\. \[y/N\]")
    child.sendline("n")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1
    assert limits(run) == FOREVER


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["orders", "90d"], "'orders' has no retention; one of calls, memories, profiles"),
        (["calls"], "the time is missing"),
        (["calls", "ninety"], "'ninety' is not a duration"),
        (["calls", "30m"], "30m is shorter than an hour"),
    ],
)
def test_what_cannot_be_a_limit_is_2(run, arguments, message):
    result = run("db", "retention", *arguments, "--json")
    assert (result.code, result.stdout) == (2, "")
    error = json.loads(result.stderr)["error"]
    assert f"{error['message']}; {error['hint']}".startswith(message)
    assert limits(run) == FOREVER


def test_the_status_of_the_database_tells_it(run):
    run("db", "retention", "calls", "90d", "--yes")
    status = run("db", "status", "--json").json
    assert {row["subject"]: row["keep"] for row in status["retention"]} == FOREVER | {"calls": "90d"}
    assert "calls\t90d" in run("db", "status").stdout
