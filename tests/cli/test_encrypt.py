"""`lkmongo db encrypt`, and who says that it is needed."""

from __future__ import annotations

import base64
import secrets

import pytest

from lkmongo.model import UserScope
from tests.store.mongo.test_encryption import WORDS, fill

ROBIN = UserScope(tenant_id="default", user_id="robin")


@pytest.fixture
async def filled(store):
    await fill(store, ROBIN)
    return store


@pytest.fixture
def on(tmp_path):
    return {"LKMONGO_ENCRYPTION": "local", "LKMONGO_ENCRYPTION_KEY_FILE": str(tmp_path / "master.key")}


def plain(run, **env):
    status = run("db", "status", "--json", **env).json["encryption"]
    return sum(each["plain"] for each in status["documents"]), sum(each["encrypted"] for each in status["documents"])


def test_it_is_off_until_a_setting_says_otherwise(run):
    result = run("db", "encrypt")
    assert result.code == 2
    assert "LKMONGO_ENCRYPTION is off" in result.stderr


def test_from_plain_to_encrypted_and_back(run, filled, on, tmp_path):
    missing = run("memory", "list", "robin", env=on)
    assert missing.code == 2
    assert "lkmongo db encrypt makes one" in missing.stderr

    before = run("db", "encrypt", "--dry-run", "--json", env=on)
    assert (before.code, sum(each["documents"] for each in before.json) > 0) == (0, True), "as the document says"
    assert not (tmp_path / "master.key").exists()
    assert run("db", "encrypt", "--rewrap", "--dry-run", env=on).code == 2

    done = run("db", "encrypt", "--json", env=on)
    assert done.code == 0
    assert f"the master key is in {tmp_path / 'master.key'}" in done.stderr
    assert {each["collection"]: each["left"] for each in done.json} == dict.fromkeys(
        ["memories", "memory_history", "turns", "sessions", "users"], 0
    )
    assert plain(run, env=on)[0] == 0
    check = {each["check"]: each for each in run("doctor", "--only", "encryption", "--json", env=on).json}["encryption"]
    assert check["status"] == "ok"

    listed = run("memory", "list", "robin", env=on)
    assert "quokka next friday" in listed.stdout
    exported = run("memory", "export", "robin", env=on).stdout
    assert [word for word in WORDS.split() if word not in exported] == []
    assert "zeppelin" in run("sessions", "export", env=on).stdout
    assert "zeppelin" in run("sessions", "show", "call", env=on).stdout
    assert "[[zeppelin]]" in run("sessions", "search", "zeppelin", "--tenant", "default", env=on).stdout
    assert "harpsichord" in run("users", "list", env=on).stdout
    assert "quokka" in run("memory", "search", "robin", "pet", env=on).stdout

    for command in ("memory list robin", "sessions show call", "users list", "sessions export"):
        unread = run(*command.split())
        assert unread.code == 1, command
        assert "LKMONGO_ENCRYPTION" in unread.stderr
        assert "\\x01" not in unread.stdout
        assert "Binary" not in unread.stdout
    assert "cannot be read" in run("db", "status").stderr

    assert run("db", "encrypt", "--off", env=on).code == 2  # nobody to ask
    assert run("db", "encrypt", "--off", "--yes", env=on).code == 0
    assert "quokka next friday" in run("memory", "list", "robin").stdout
    actions = [each["action"] for each in run("audit", "list", "--all-tenants", "--json").json]
    assert actions.count("db encrypt --off") == 1


def test_the_master_key_is_replaced(run, filled, on, tmp_path):
    run("db", "encrypt", env=on)
    path = tmp_path / "master.key"
    old = path.read_bytes()
    path.write_bytes(base64.b64encode(secrets.token_bytes(96)) + b"\n" + old)
    check = {each["check"]: each for each in run("doctor", "--only", "encryption", "--json", env=on).json}["encryption"]
    assert (check["status"], check["try"]) == ("warn", "lkmongo db encrypt --rewrap")
    assert run("db", "encrypt", "--rewrap", "--dry-run", "--json", env=on).json["keys"] == 2
    assert run("db", "encrypt", "--rewrap", "--json", env=on).json == {"keys": 2, "dry_run": False}
    path.write_bytes(path.read_bytes().splitlines()[0])
    assert "quokka" in run("memory", "list", "robin", env=on).stdout
    path.write_bytes(old)
    refused = run("memory", "list", "robin", env=on)
    assert refused.code == 1
    assert str(path) in refused.stderr


def test_another_machine_makes_no_second_master_key(run, filled, on, tmp_path):
    run("db", "encrypt", env=on)
    elsewhere = on | {"LKMONGO_ENCRYPTION_KEY_FILE": str(tmp_path / "other.key")}
    result = run("db", "encrypt", env=elsewhere)
    assert result.code == 2
    assert "copy it from the machine that has it" in result.stderr
    assert not (tmp_path / "other.key").exists()


def test_the_receipt_says_what_a_backup_could_still_open(run, filled, on):
    run("db", "encrypt", env=on)
    erased = run("users", "erase", "robin", "--confirm", "robin", env=on)
    assert erased.code == 0
    assert "Their key is destroyed" in erased.stdout + erased.stderr
    assert "opens them with the master key" in erased.stdout + erased.stderr
