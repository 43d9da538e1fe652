"""`lkmongo users`: what support staff see and do, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime, timedelta

import pexpect
import pytest
from pymongo import MongoClient

from lkmongo.consent import WORDING, Consent
from lkmongo.local.mongod import EmbeddedMongod
from lkmongo.model import SessionRecord, SessionStatus, UserScope, now
from lkmongo.outbox.journal import Journal, database_of
from lkmongo.outbox.operations import Remember
from lkmongo.store.open import Store
from lkmongo.store.people.erase import erase
from lkmongo.store.people.person import count
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.people.users import COUNTED
from tests.cli.started import Started
from tests.people import anywhere, documents, furnish, until

ROBIN = UserScope(tenant_id="default", user_id="robin-1764")
SOMEBODY_ELSE = UserScope(tenant_id="default", user_id="u-200")
ELSEWHERE = UserScope(tenant_id="other", user_id="robin-1764")
HOSTILE = "[red]x[/x] :smile: \x1b[31mred\x1b[0m \x9b31m \u202ertl\u202c =cmd()"
SAFE = "[red]x[/x] :smile: \\x1b[31mred\\x1b[0m \\x9b31m \\u202ertl\\u202c =cmd()"


async def test_people_are_listed_a_page_at_a_time(run, store):
    for number in range(5):
        await furnish(store, UserScope(tenant_id="default", user_id=f"u-{number}"), slots=[], calls=[])
    await furnish(store, ELSEWHERE, slots=[], calls=[])
    first = run("users", "list", "--limit", "2")
    assert [line.split("\t")[0] for line in first.stdout.splitlines()] == ["user_id", "u-0", "u-1"]
    assert first.stderr == "showing 2 of 5; continue with --after u-1\n"
    rest = run("users", "list", "--after", "u-1", "--json")
    assert [row["user_id"] for row in rest.json] == ["u-2", "u-3", "u-4"]
    assert rest.json[0]["name"] == "Name of u-2"
    assert run("users", "list", "--after", "u-4").stderr == "No more\n"
    assert [row["tenant_id"] for row in run("users", "list", "--all-tenants", "--json").json] == ["default"] * 5 + [
        "other"
    ]
    assert "there are people in these: default, other" in run("users", "list", "--tenant", "shop").stderr
    assert run("users", "list", "--all-tenants", "--after", "u-1").code == 2
    assert run("users", "list", "--limit", "0").code == 2


async def test_of_very_many_people_a_list_says_that_there_are_more_without_counting_them_all(run, store):
    people = [{"tenant_id": "default", "user_id": f"u-{number:05d}"} for number in range(COUNTED + 1)]
    await store.db.users.insert_many(people)
    listed = run("users", "list", "--limit", "1")
    assert listed.stderr == "showing 1 of more than 10,000; continue with --after u-00000\n"
    await store.db.users.delete_one(people[0])
    listed = run("users", "list", "--limit", "1")
    assert listed.stderr == "showing 1 of 10,000; continue with --after u-00001\n"


async def test_one_person_is_shown(run, store):
    await furnish(store, ROBIN, orders=["1"])
    shown = run("users", "show", "robin-1764", "--json").json
    assert (shown["name"], shown["memories"], shown["orders"]) == ("Name of robin-1764", 2, 1)
    assert (shown["calls"], shown["turns"], shown["in_a_call"]) == (2, 6, False)
    assert "calls\t2\n" in run("users", "show", "robin-1764").stdout
    for command in (["users", "show"], ["users", "erase"], ["memory", "export"]):
        unknown = run(*command, "nobody", "--json")
        assert unknown.code == 5
        assert json.loads(unknown.stderr)["error"]["message"] == "nothing is stored about nobody in tenant default"


async def test_a_merge_asks_tells_and_can_be_repeated(run, store):
    await furnish(store, SOMEBODY_ELSE, slots=["city", "dog"], calls=["s-9"], content="Lisbon")
    await furnish(store, ROBIN, slots=["city"], content="Porto")
    dry = run("users", "merge", "u-200", "robin-1764", "--dry-run", "--json").json
    assert (dry["dry_run"], dry["merged"], dry["moved"]["memories"]) == (True, False, 1)
    unasked = run("users", "merge", "u-200", "robin-1764")
    assert unasked.code == 2
    assert "1 profile, 2 memories, 1 session, 3 turns of u-200 into robin-1764" in unasked.stderr
    assert "--yes" in unasked.stderr
    done = run("users", "merge", "u-200", "robin-1764", "--yes")
    assert done.stdout.splitlines() == [
        "Merged 1 profile, 1 memory, 1 session, 3 turns of u-200 into robin-1764",
        '  city: kept "Porto of robin-1764" of robin-1764, offered "Lisbon of u-200"',
        '  name: kept "Name of robin-1764" of robin-1764, offered "Name of u-200"',
        "  robin-1764 decides what of it to keep, on the talk page; see memory suggestions robin-1764",
    ]
    waits = run("memory", "suggestions", "robin-1764", "--json").json
    assert {(each["label"], each["change"]) for each in waits} == {
        ("city", "keep what the guest had"),
        ("name", "keep what the guest had"),
    }
    (city,) = (each["id"] for each in waits if each["label"] == "city")
    assert run("memory", "accept", "robin-1764", city).stdout == "Stored city of robin-1764\n"
    assert run("memory", "accept", "robin-1764", city).code == 5
    assert (await store.memories.recall(ROBIN, "city")).content == "Lisbon of u-200"
    again = run("users", "merge", "u-200", "robin-1764")
    assert (again.code, again.stdout) == (0, "Nothing to merge: nothing is stored about u-200\n")
    assert run("users", "merge", "robin-1764", "robin-1764", "--yes").code == 2
    assert "Nobody is known as new-one yet" in run("users", "merge", "robin-1764", "new-one").stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("command", "question"),
    [(["memory", "forget"], r"\[y/N\] "), (["users", "erase"], "Type robin-1764 to continue: ")],
)
async def test_a_signal_ends_a_question_at_once_and_changes_nothing(
    store, at_terminal, command, question, number, code
):
    await furnish(store, ROBIN)
    before = await documents(store)
    child = at_terminal(*command, "robin-1764")
    child.expect(question)
    if number == signal.SIGINT:
        child.sendintr()  # Ctrl-C, as the terminal sends it
        child.expect("interrupted")
    else:
        os.kill(child.process, number)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == code
    assert await documents(store) == before


async def test_erased_again_it_says_when_that_was_and_which_receipt_there_is(run, store):
    await furnish(store, ROBIN)
    command = ("users", "erase", "robin-1764", "--confirm", "robin-1764")
    first, again = (run(*command, "--json").json for _ in range(2))
    assert (again["erased"], again["erased_at"], again["receipt"]) == ({}, first["erased_at"], first["receipt"])
    assert run(*command).stdout.endswith(f"Receipt {first['receipt']}\n")


@pytest.mark.parametrize("option", ["--reason", "--by"])
async def test_a_note_for_the_receipt_that_says_nothing_or_too_much_is_named(run, store, option):
    await furnish(store, ROBIN)
    what = {"--reason": "the reason", "--by": "the name of who does it"}[option]
    for text, said in (("", f"{what} is empty"), ("x" * 5_000, f"{what} has 5000 characters")):
        refused = run("users", "erase", "robin-1764", option, text, "--confirm", "robin-1764")
        assert refused.code == 2
        assert said in refused.stderr
        assert "  try: " in refused.stderr


async def test_erasing_somebody_unknown_is_5_however_often_and_leaves_no_receipt(run, store):
    before = await documents(store)
    command = ("users", "erase", "robin-1764", "--confirm", "robin-1764")
    for number, options in enumerate((["--dry-run"], [], [], ["--json"])):
        assert await store.db.tombstones.count_documents({}) == (number > 1)
        unknown = run(*command, *options)
        assert (unknown.code, unknown.stdout) == (5, "")
        assert "nothing is stored about robin-1764 in tenant default" in unknown.stderr
    assert await Tombstones(store.db).bars(ROBIN, timedelta(hours=1)), "what waits elsewhere is not stored later"
    listed = run("users", "receipts", "--user", "robin-1764")
    assert (listed.code, listed.stderr) == (0, "robin-1764 was not erased in tenant default\n")
    assert await documents(store) == before


async def test_of_whom_there_are_orders_alone_nothing_else_is_erased(run, store):
    await store.db.orders.insert_one(ROBIN.filter | {"order_id": "1", "items": [], "status": "shipped"})
    for _ in range(2):
        told = run("users", "erase", "robin-1764")
        assert (told.code, told.stderr) == (0, "")
        assert told.stdout == (
            "Nothing but orders is found of robin-1764 in tenant default. Looked at memories, memory_history, turns, "
            "sessions, users, "
            "visitors, phones, pins, phone_attempts. 1 order stays, as business records (see --orders).\n"
        )
    fields = run("users", "erase", "robin-1764", "--json").json
    assert (fields["erased"], fields["orders_kept"], fields["receipt"]) == ({}, 1, None)
    assert run("users", "erase", "robin-1764", "--orders", "--confirm", "robin-1764").code == 0
    assert run("users", "show", "robin-1764").code == 5


async def test_a_merge_of_two_of_whom_nothing_is_kept_is_5(run, store):
    unknown = run("users", "merge", "guest-7", "robin-1764", "--yes")
    assert (unknown.code, unknown.stdout) == (5, "")
    assert "nothing is stored about guest-7 in tenant default" in unknown.stderr
    assert not any((await count(store.db, ROBIN)).values())


async def test_what_a_merge_fills_is_told_by_its_name_alone(run, store):
    await store.users.set_field(UserScope(tenant_id="default", user_id="u-200"), "name", "Kim")
    await store.users.seen(ROBIN)
    assert run("users", "merge", "u-200", "robin-1764", "--yes", "--json").json["filled"] == ["name"]
    assert (await store.users.get(ROBIN)).name == "Kim"


async def test_erasing_needs_the_id_twice(run, store, at_terminal):
    await furnish(store, ROBIN, orders=["1"])
    before = await documents(store)
    dry = run("users", "erase", "robin-1764", "--dry-run", "--json").json
    assert dry["erased"] == {
        "memories": 2,
        "memory_history": 0,
        "turns": 6,
        "sessions": 2,
        "users": 1,
        "visitors": 0,
        "phones": 0,
        "pins": 0,
        "phone_attempts": 0,
    }
    unasked = run("users", "erase", "robin-1764")
    assert unasked.code == 2
    assert "1 order stays, as business records" in unasked.stderr
    assert "--confirm robin-1764" in unasked.stderr
    assert run("users", "erase", "robin-1764", "--confirm", "robin").code == 2
    assert run("users", "erase", "robin-1764", "--reason", "robin-1764 said so", "--confirm", "robin-1764").code == 2
    for answer, code in (("y", 1), ("robin-1764", 0)):
        assert await documents(store) == before
        child = at_terminal("users", "erase", "robin-1764")
        child.expect("Type robin-1764 to continue: ")
        child.sendline(answer)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == code
    assert await count(store.db, ROBIN) == {
        "memories": 0,
        "memory_history": 0,
        "turns": 0,
        "sessions": 0,
        "users": 0,
        "visitors": 0,
        "phones": 0,
        "pins": 0,
        "phone_attempts": 0,
        "orders": 1,
    }


async def test_an_erasure_leaves_a_receipt(run, store):
    await furnish(store, ROBIN, orders=["1"])
    command = ["users", "erase", "robin-1764", "--confirm", "robin-1764", "--orders", "--by", "Sam", "--reason", "T-1"]
    done = run(*command, "--json").json
    assert (done["erased"]["orders"], done["orders_kept"]) == (1, 0)
    (receipt,) = run("users", "receipts", "--json").json
    assert (receipt["receipt"], receipt["by"], receipt["reason"]) == (done["receipt"], "Sam", "T-1")
    assert receipt["counts"] == done["erased"]
    assert run("users", "receipts", "--user", "robin-1764", "--json").json == [receipt]
    assert run("users", "receipts", "--user", "u-200", "--json").json == []
    assert "2 memories" in run("users", "receipts").stdout
    again = run(*command)
    assert again.code == 0
    assert "Nothing more is found of robin-1764" in again.stdout
    assert len(run("users", "receipts", "--json").json) == 1
    assert await anywhere(store, "robin-1764") == []


async def test_what_a_call_left_on_this_disk_is_erased_with_the_person(run, store, shared_home, database_name):
    await furnish(store, ROBIN)
    record = SessionRecord("s-9", ROBIN, "room", SessionStatus.ACTIVE, now() - timedelta(minutes=1))
    database = database_of(None, database_name)
    left = Journal.create(shared_home / "spool", record, owner="gone/boot/1", database=database)
    left.append([Remember(now(), "place", "the lighthouse at midnight").entry])
    left.close(delete=False)
    planned = run("users", "erase", "robin-1764", "--dry-run")
    assert "1 file of a call on this machine" in planned.stdout
    assert run("users", "erase", "robin-1764", "--confirm", "robin-1764", "--json").json["journals"] == 1
    assert b"lighthouse" not in b"".join(path.read_bytes() for path in (shared_home / "spool").iterdir())
    (receipt,) = run("users", "receipts", "--json").json
    assert (receipt["journals"], receipt["other_machines"]) == (1, [])
    assert receipt["oplog_since"]


async def test_an_erasure_says_at_which_collections_it_looked_and_claims_no_more(run, store):
    await furnish(store, ROBIN)
    await store.db.tickets.insert_one(ROBIN.filter | {"text": "a program of one's own"})
    looked = [
        "memories",
        "memory_history",
        "turns",
        "sessions",
        "users",
        "visitors",
        "phones",
        "pins",
        "phone_attempts",
    ]
    command = ["users", "erase", "robin-1764", "--by", "Sam"]
    said = f"Looked at {', '.join(looked)}"
    assert run(*command, "--dry-run").stdout.endswith(f" of robin-1764 in tenant default. {said}.\n")
    assert run(*command, "--dry-run", "--json").json["collections"] == looked
    done = run(*command, "--confirm", "robin-1764").stdout
    assert f" of robin-1764 in tenant default. {said}; nothing is left there. MongoDB's operation log still " in done
    again = run(*command, "--confirm", "robin-1764")
    assert again.stdout.startswith("Nothing more is found of robin-1764 in tenant default: erased at ")
    assert f". {said}. Receipt " in again.stdout
    assert run(*command, "--confirm", "robin-1764", "--json").json["collections"] == looked
    (receipt,) = run("users", "receipts", "--json").json
    assert receipt["collections"] == list(receipt["counts"]) == looked
    assert ", ".join(looked) in run("users", "receipts").stdout
    (error,) = json.loads(run("users", "erase", "nobody", "--json").stderr).values()
    assert error["why"].startswith(
        "looked at the collections memories, memory_history, turns, sessions, users, visitors, "
        "phones, pins, phone_attempts, orders\n"
    )


def say(call: Started, text: str) -> str:
    """Say something and return what the agent answers."""
    call.stdin.write(f"{text}\n".encode())
    call.stdin.flush()
    return answer(call, after=text)


def answer(call: Started, after: str | None = None) -> str:
    heard = after is None
    while True:
        event = json.loads(call.stdout.readline())
        if event["type"] == "message" and event["role"] == "user":
            heard = event["text"] == after
        elif heard and event["type"] == "message":
            return event["text"]


async def test_erased_in_the_middle_of_a_call_by_a_process_that_is_killed_and_run_again(run, store, start):
    await furnish(store, ROBIN, content="Zeppelin")
    await furnish(store, SOMEBODY_ELSE)
    await furnish(store, ELSEWHERE)
    run("agent", "console", "--user", "u-300", input="hello\n")  # loads the sample shop, if that is to be done
    others = await documents(store, ROBIN)
    with start("agent", "console", "--json", "--user", "robin-1764") as call:
        answer(call)
        assert "teal" in say(call, "remember that my favorite color is teal")
        command = ["users", "erase", "robin-1764", "--confirm", "robin-1764", "--by", "Sam"]
        first = start(*command)
        await until(lambda: erasing(store))
        first.send_signal(signal.SIGKILL)
        first.communicate()
        assert "teal" not in say(call, "good morning")
        done = run(*command, "--json")
        assert done.code == 0, done.stderr
        assert done.json["erased"]["users"] == 1
        assert not any((await count(store.db, ROBIN)).values())
        assert "teal" not in say(call, "what is my favorite color?")
        assert "Oslo" in say(call, "remember that my city is Oslo")
        assert "Oslo" in say(call, "what is my city?")
        told = call.communicate()[1].decode()
        assert call.returncode == 0
        assert "erased during the session" in told
    assert not any((await count(store.db, ROBIN)).values())
    assert await documents(store) == others
    assert await anywhere(store, "Zeppelin of robin", "teal", "Oslo") == []
    assert len(run("users", "receipts", "--json").json) == 1


async def erasing(store: Store) -> bool:
    return await Tombstones(store.db).get(ROBIN) is not None


def test_a_call_that_goes_on_for_too_long_is_exit_code_3(run_inside, shared_home, database_name, monkeypatch):
    monkeypatch.setitem(erase.__kwdefaults__, "patience", 0.0)
    command = ["users", "erase", "robin-1764", "--confirm", "robin-1764", "--by", "Sam", "--json"]
    with EmbeddedMongod(shared_home) as mongod, MongoClient(mongod.uri) as client:
        db = client[database_name]
        lease = {"owner": "somebody who does not look", "until": now() + timedelta(hours=1)}
        call = {"session_id": "s-9", "status": "active", "started_at": now(), "lease": lease}
        db.sessions.insert_one(ROBIN.filter | call)
        db.memories.insert_one(ROBIN.filter | {"memory_type": "city", "content": "Oslo"})
        waiting = run_inside(*command)
        assert (waiting.code, waiting.stdout) == (3, "")
        note, error = waiting.stderr.splitlines()
        assert note == "robin-1764 is in a session (s-9): waiting until it has stopped writing ..."
        assert json.loads(error)["error"]["message"] == "robin-1764 is still in a session: s-9"
        assert "run it again" in json.loads(error)["error"]["hint"]
        assert [db[name].count_documents({}) for name in ("sessions", "memories", "receipts")] == [1, 0, 0]
        db.sessions.update_one({}, {"$unset": {"lease": ""}})
        done = run_inside(*command)
        assert (done.code, json.loads(done.stdout)["erased"]["memories"]) == (0, 1)
        assert [db[name].count_documents({}) for name in ("sessions", "memories", "receipts")] == [0, 0, 1]
        client.drop_database(database_name)


async def test_a_call_that_stood_still_meanwhile_writes_nothing_when_it_goes_on(run, store, start):
    await furnish(store, ROBIN)
    with start("agent", "console", "--json", "--user", "robin-1764") as call:
        answer(call)
        os.kill(call.pid, signal.SIGSTOP)  # it hears nothing, and the erasure waits until its lease has run out
        done = run("users", "erase", "robin-1764", "--confirm", "robin-1764", "--json")
        assert done.code == 0, done.stderr
        os.kill(call.pid, signal.SIGCONT)
        say(call, "remember that my city is Oslo")
        call.communicate()
    assert not any((await count(store.db, ROBIN)).values())
    assert await anywhere(store, "Oslo") == []


@pytest.mark.parametrize("output", ["table", "plain", "json"])
async def test_hostile_text_is_shown_and_never_obeyed(run, store, output):
    person = UserScope(tenant_id="default", user_id="u\u202ee[red]")
    await store.db.users.insert_one(
        person.filter | {"name": HOSTILE, "email": "x" * 1_000_000, "last_session": {"at": None, "gist": HOSTILE}}
    )
    await store.db.memories.insert_one(person.filter | {"memory_type": "note", "content": HOSTILE})
    await store.db.memories.insert_one(SOMEBODY_ELSE.filter | {"memory_type": "note", "content": "x" * 1_000_000})
    for command in (
        ["users", "list"],
        ["users", "show", person.user_id],
        ["users", "merge", "u-200", person.user_id, "--dry-run"],
        ["users", "erase", person.user_id, "--dry-run"],
        ["users", "receipts"],
    ):
        shown = run(*command, "-o", output)
        assert shown.code == 0, shown.stderr
        if output == "json":
            json.loads(shown.stdout)
        else:
            assert not {"\x1b", "\x9b", "\u202e"} & set(shown.stdout)
    name = run("users", "show", person.user_id, "-o", output)
    if output == "json":
        assert name.json["name"] == HOSTILE
    else:
        assert SAFE in " ".join(name.stdout.split())


async def test_consent_is_recorded_shown_and_withdrawn(run, store):
    await furnish(store, ROBIN, calls=["s-1"])
    done = run("users", "consent", ROBIN.user_id, "agreed", "--json").json
    assert (done["state"], done["by"], done["wording"]) == ("agreed", "staff", WORDING)
    shown = run("users", "show", ROBIN.user_id, "--json").json
    assert (shown["consent"], shown["consent_by"], shown["consent_wording"]) == ("agreed", "staff", WORDING)
    assert shown["consent_at"].startswith("20")
    withdrawn = run("users", "consent", ROBIN.user_id, "withdrawn")
    assert (withdrawn.code, "erased" in withdrawn.stdout) == (0, True)
    assert run("users", "show", ROBIN.user_id, "--json").json["consent"] == "withdrawn"
    assert run("users", "consent", "nobody", "withdrawn").code == 5
    assert run("users", "consent", ROBIN.user_id, "maybe").code == 2
    assert await store.users.get(UserScope(tenant_id="default", user_id="nobody")) is None


async def test_the_record_of_a_call_says_whether_its_caller_agreed(run, store):
    await furnish(store, ROBIN, calls=["s-1", "s-2", "s-3"])
    agreed = Consent("agreed", datetime(2026, 11, 3, 9, 30, tzinfo=UTC), "voice").fields
    for name, report in (("s-1", {"consent": agreed}), ("s-2", {"consent": {"state": "unanswered"}})):
        await store.db.sessions.update_one({"session_id": name}, {"$set": {"report": report}})
    assert "agreed" in run("sessions", "show", "s-1").stdout
    assert f"by voice, wording {WORDING}" in run("sessions", "show", "s-1").stdout
    assert "unanswered: nothing of this session was kept" in run("sessions", "show", "s-2").stdout
    assert "consent" not in run("sessions", "show", "s-3").stdout
    assert run("sessions", "show", "s-2", "--json").json["consent"] == {"state": "unanswered"}
