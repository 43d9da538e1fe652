"""Which operator looked at whose data: each command on people's data is in the audit trail before it shows any."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime, timedelta

import pytest
import typer

from lkmongo.cli.command import Cli, command
from lkmongo.cli.output import Output
from lkmongo.model import UserScope, now
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.store.people.audit import Audit, AuditFilter
from tests.auth_mongod import guarded_mongod
from tests.cli.test_every_command import COMMANDS, FACTS
from tests.people import furnish

ROBIN = UserScope(tenant_id="default", user_id="robin")
GUEST = UserScope(tenant_id="default", user_id="guest-7")

LOOKED_AT: dict[str, tuple[list[str], dict[str, int] | None]] = {
    "memory accept": (["robin", "0123456789ab"], {"suggestions": 1}),
    "memory commitments": (["robin"], {}),
    "memory decline": (["robin", "0123456789ab"], {"suggestions": 1}),
    "memory export": (["robin"], {"memories": 2, "users": 1, "sessions": 2, "turns": 6}),
    "memory forget": (["robin", "--yes"], {"memories": 2}),
    "memory history": (["robin"], {"values": 3}),
    "memory import": (["facts.jsonl", "--user", "robin"], {"facts": 1}),
    "memory list": (["robin"], {"memories": 2}),
    "memory search": (["robin", "colour"], {"memories": 1}),
    "memory set": (["robin", "city", "Porto"], {"memories": 1}),
    "memory show": (["robin", "city"], {"memories": 1}),
    "memory suggestions": (["robin"], {}),
    "memory undo": (["robin", "color", "--yes"], {"memories": 1}),
    "phone link": (["+49 30 5550 1767", "robin"], {"phones": 1}),
    "phone list": (["robin"], {"phones": 1}),
    "phone lookup": (["+49 30 5550 1767"], {"phones": 1}),
    "phone pin": (["robin", "--generate"], {"pins": 1}),
    "phone unlink": (["robin", "--yes"], {"phones": 1}),
    "sessions export": ([], {"sessions": 3}),
    "sessions list": (["--user", "robin"], {"sessions": 2}),
    "sessions recover": ([], {}),
    "sessions redact": (["--user", "robin", "--yes"], {"sessions": 2}),
    "sessions search": (["something"], {"turns": 9}),
    "sessions show": (["s-1", "--user", "robin"], {"sessions": 1, "turns": 3}),
    "users consent": (["robin", "agreed"], {"users": 1}),
    "users erase": (["robin", "--confirm", "robin"], {"memories": 2, "sessions": 2, "turns": 6}),
    "users list": ([], {"people": 2}),
    "users merge": (["guest-7", "robin", "--yes"], None),
    "users receipts": ([], {}),
    "users show": (["robin"], {"users": 1, "memories": 2, "sessions": 2, "turns": 6}),
}
"""Each command, and what of it the trail counts at least."""
NUMBERS = {"sessions stats": "it counts, and shows nobody"}


@pytest.fixture
async def people(store, tmp_path):
    """Two people; of one, a memory has a former value."""
    (tmp_path / "facts.jsonl").write_text(FACTS.replace("u-100", "robin"))
    await furnish(store, ROBIN)
    await store.memories.remember(ROBIN, "color", "teal")
    await furnish(store, GUEST, slots=["city"], calls=["s-9"])
    await store.phones.link(ROBIN, PhoneNumber("+493055501767"), by="call")
    return store


async def trail(store):
    return [each async for each in Audit(store.db).all(AuditFilter())]


def test_every_command_on_people_is_looked_at_here():
    groups = {"memory", "phone", "sessions", "users"}
    assert {each for each in COMMANDS if each.split()[0] in groups} == {*LOOKED_AT, *NUMBERS}


@pytest.mark.parametrize("name", LOOKED_AT)
async def test_a_command_on_peoples_data_is_in_the_trail_with_counts(people, run, name):
    arguments, counts = LOOKED_AT[name]
    result = run(*name.split(), *arguments, "--reason", "TICKET-17", env={"LKMONGO_OPERATOR": "sam"})
    assert "RuntimeError" not in result.stderr
    assert result.code in {0, 5}, result.stderr
    entries = await trail(people)
    assert {(each.action, each.operator, each.reason) for each in entries} == {(name, "sam", "TICKET-17")}
    if counts is not None:
        assert entries[0].counts.items() >= counts.items()
        assert len(entries) == 1
    else:
        assert len(await Audit(people.db).newest(AuditFilter(scope=GUEST))) == 1
    about_one = "robin" in arguments or name == "phone lookup"
    assert len(await Audit(people.db).newest(AuditFilter(scope=ROBIN))) == about_one
    assert "robin" not in str(entries)
    assert run("audit", "verify").code == 0


@pytest.mark.parametrize("name", LOOKED_AT)
async def test_a_needed_reason_is_asked_for_by_its_option(people, run, name):
    arguments, _ = LOOKED_AT[name]
    result = run(*name.split(), *arguments, env={"LKMONGO_AUDIT": "reason"})
    assert (result.code, result.stdout) == (2, "")
    assert "add --reason" in result.stderr
    assert await trail(people) == []
    assert len(await people.memories.slots(ROBIN)) == 2


async def test_a_dry_run_is_told_from_a_change(people, run):
    run("users", "erase", "robin", "--dry-run")
    run("sessions", "redact", "--dry-run")
    run("memory", "set", "robin", "city", "Porto")
    assert [each.action for each in await trail(people)] == [
        "users erase --dry-run",
        "sessions redact --dry-run",
        "memory set",
    ]


async def test_what_is_done_to_the_data_of_everybody_is_in_the_trail(people, run):
    run("db", "retention", "calls", "90d", "--dry-run")
    run("db", "retention")
    assert await trail(people) == []
    assert run("db", "retention", "calls", "90d", "--yes").code == 0
    assert [(each.action, each.tenant_id) for each in await trail(people)] == [("db retention calls", None)]


async def test_it_can_be_switched_off(people, run):
    assert "city" in run("memory", "list", "robin", env={"LKMONGO_AUDIT": "off"}).stdout
    assert await trail(people) == []


def test_a_reason_that_names_the_person_is_refused(people, run):
    result = run("memory", "list", "robin", "--reason", "Robin called")
    assert (result.code, result.stdout) == (2, "")
    assert "the reason contains the person's id" in result.stderr


def test_many_at_once_make_one_chain(people, run, zygote, cli_env, tmp_path):
    from tests.cli.conftest import run_together

    results = run_together(zygote, [["memory", "list", "robin"]] * 8, folder=tmp_path, env=cli_env)
    assert {each.code for each in results} == {0}
    verified = run("audit", "verify", "--json").json
    assert (verified["entries"], verified["problems"], verified["sealed_in_database"]) == (8, [], 0)


async def test_what_is_looked_for_is_listed_by_person_operator_and_time(people, run):
    run("memory", "list", "robin", "--reason", "T-1", env={"LKMONGO_OPERATOR": "sam"})
    run("users", "list", env={"LKMONGO_OPERATOR": "kim"})
    everything = run("audit", "list", "--json").json
    assert [(each["operator"], each["action"], each["user_id"]) for each in everything] == [
        ("kim", "users list", None),
        ("sam", "memory list", "robin"),
    ]
    assert everything[1]["counts"] == {"memories": 2}
    plain = run("audit", "list", "--user", "robin").stdout.splitlines()
    assert plain[0] == "number\tat\toperator\taction\tuser_id\treason\tcounts"
    assert re.fullmatch(r"1\t.*\tsam\tmemory list\trobin\tT-1\t2 memories", plain[1])
    assert len(run("audit", "list", "--operator", "kim", "--json").json) == 1
    assert run("audit", "list", "--until", "1h", "--json").json == []
    assert run("audit", "list", "--tenant", "another", "--json").json == []
    assert run("audit", "list", "--tenant", "a", "--all-tenants").code == 2
    erased = run("users", "erase", "robin", "--confirm", "robin")
    assert erased.code == 0, erased.stderr
    assert {each["user_id"] for each in run("audit", "list", "--json").json} == {None}
    assert len(run("audit", "list", "--user", "robin", "--json").json) == 2


async def test_the_export_holds_every_entry_and_nobodys_id(people, run, tmp_path):
    for _ in range(3):
        run("memory", "list", "robin", "--reason", "=1+1")
    lines = run("audit", "export").stdout.splitlines()
    assert [json.loads(line)["number"] for line in lines] == [1, 2, 3]
    assert set(json.loads(lines[0])) >= {"at", "subject", "previous_hash", "hash"}
    result = run("audit", "export", "-O", "trail.csv", "--json").json
    written = (tmp_path / "trail.csv").read_bytes().decode()
    assert result == {"file": "trail.csv", "format": "csv", "entries": 3, "bytes": len(written.encode())}
    rows = list(csv.DictReader(io.StringIO(written)))
    assert [row["number"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["reason"] == "'=1+1"
    assert [datetime.fromisoformat(row["at"]) for row in rows] == [
        datetime.fromisoformat(json.loads(line)["at"]) for line in lines
    ]
    assert "robin" not in written + "".join(lines)


async def test_a_changed_entry_is_drift(people, run):
    run("memory", "list", "robin")
    last = run("audit", "verify", "--json").json["last"]
    assert run("audit", "verify", "--holds", last).code == 0
    assert run("audit", "verify", "--holds", "17").code == 2
    await people.db.audit.update_one({}, {"$set": {"operator": "somebody"}})
    result = run("audit", "verify", "--json")
    assert result.code == 6
    assert result.json["problems"] == ["entry 1 was changed"]
    await people.db.audit.delete_many({})
    assert run("audit", "verify").code == 0
    assert run("audit", "verify", "--holds", last).code == 6


async def test_old_entries_are_deleted_and_that_is_an_entry(people, run):
    audit = Audit(people.db)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lkmongo.store.people.audit.now", lambda: now() - timedelta(days=400))
        for _ in range(3):
            await audit.write(operator="sam", action="users list", tenant_id=None)
    await audit.write(operator="sam", action="users list", tenant_id=None)
    assert run("db", "retention", "audit", "365d", "--dry-run", "--json").json["deleted"] == 3
    assert run("db", "retention", "audit", "365d").code == 2, "it asks"
    result = run("db", "retention", "audit", "365d", "--yes", "--json").json
    assert (result["deleted"], result["checkpoint"], result["problems"]) == (3, 3, 0)
    assert [(each.number, each.action) for each in await trail(people)] == [
        (4, "users list"),
        (5, "db retention audit"),
    ]
    assert run("audit", "verify", "--json").json["deleted_up_to"] == 3
    assert run("db", "retention", "audit", "365d", "--yes", "--json").json["deleted"] == 0


def test_what_cannot_be_written_down_is_not_shown(run, tmp_path_factory):
    with guarded_mongod(tmp_path_factory.mktemp("guarded")) as mongod:
        writer = mongod.add("writer", {"role": "readWrite", "db": "lkmongo"})
        reader = mongod.add("reader", {"role": "read", "db": "lkmongo"})
        env = {"MONGODB_DB": "lkmongo"}
        assert run("db", "seed", "--yes", env=env | {"MONGODB_URI": writer}).code == 0
        shown = run("memory", "list", "u-100", env=env | {"MONGODB_URI": writer})
        assert shown.code == 0, shown.stderr
        refused = run("memory", "list", "u-100", "--json", env=env | {"MONGODB_URI": reader})
        assert (refused.code, refused.stdout) == (4, "")
        assert "the audit trail cannot be written, so nothing is shown or changed" in refused.stderr
        exported = run("sessions", "export", env=env | {"MONGODB_URI": reader})
        assert (exported.code, exported.stdout) == (4, "")
        recovered = run("sessions", "recover", "--dry-run", env=env | {"MONGODB_URI": reader})
        assert recovered.code == 0
        assert "warning: the audit trail cannot be written" in recovered.stderr
        assert run("memory", "list", "u-100", env=env | {"MONGODB_URI": reader, "LKMONGO_AUDIT": "off"}).code == 0


def test_output_that_is_not_in_the_trail_yet_is_not_shown(capsys):
    output = Output()
    output.is_held = True
    for show in (
        lambda: output.rows(["a"], [{"a": 1}]),
        lambda: output.record({}, "a sentence"),
        lambda: output.event({}),
        lambda: output.say("text"),
        lambda: output.write("text"),
    ):
        with pytest.raises(RuntimeError, match="not in the audit trail"):
            show()
    assert capsys.readouterr().out == ""


def test_a_command_that_forgets_the_trail_fails(capsys):
    app = typer.Typer(name="group")

    @command(app, "silent", audited=True)
    def silent(cli: Cli) -> None:
        """Show nothing."""

    with pytest.raises(typer.Exit):
        app.registered_commands[0].callback()
    assert "did not write to the audit trail" in capsys.readouterr().err
