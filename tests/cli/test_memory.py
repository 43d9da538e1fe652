"""`lkmongo memory`: what support staff look up, hand out and forget of what is remembered."""

from __future__ import annotations

import json
import stat
from datetime import timedelta

import pytest

from lkmongo.after_end import Proposal
from lkmongo.model import LastSession, SessionRecord, SessionStatus, UserScope, now
from lkmongo.summary import Commitment, Summary
from tests.people import documents, furnish

ROBIN = UserScope(tenant_id="default", user_id="u-100")
HOSTILE = "[red]x[/x] :smile: \x1b[31mred\x1b[0m \x9b31m \u202ertl\u202c =cmd()"
SAFE = "[red]x[/x] :smile: \\x1b[31mred\\x1b[0m \\x9b31m \\u202ertl\\u202c =cmd()"
MEGABYTE = "word " * 200_000


async def test_one_slot_is_shown_with_its_dates_and_the_model_of_its_vector(run, store):
    await furnish(store, ROBIN, slots=["city"], calls=[])
    await store.memories.remember(ROBIN, "dog", "Rex")
    shown = run("memory", "show", "u-100", "City", "--json").json
    assert (shown["memory_type"], shown["content"]) == ("city", "something of u-100")
    assert (shown["has_vector"], shown["embedding_model"]) == (True, "m@2")
    assert shown["created_at"] <= shown["updated_at"]
    assert run("memory", "show", "u-100", "dog", "--json").json["has_vector"] is False
    assert "content\tRex\n" in run("memory", "show", "u-100", "dog").stdout
    for arguments, code in ((("u-100", "cat"), 5), (("u-100", "!!"), 2), (("nobody", "city"), 5)):
        assert run("memory", "show", *arguments).code == code


async def test_the_file_for_an_access_request(run, store, tmp_path):
    await furnish(store, ROBIN, orders=["7"])
    await store.memories.remember(ROBIN, "note", HOSTILE)
    done = run("memory", "export", "u-100", "-O", "robin.json", "--json").json
    file = tmp_path / "robin.json"
    assert done["counts"] == {
        "memories": 3,
        "memory_history": 0,
        "turns": 6,
        "sessions": 2,
        "users": 1,
        "visitors": 0,
        "phones": 0,
        "pins": 0,
        "phone_attempts": 0,
        "orders": 1,
    }
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = json.loads(file.read_text(encoding="utf-8"))
    assert {slot["memory_type"]: slot["content"] for slot in found["memories"]}["note"] == HOSTILE
    assert len(found["calls"]) == 2
    shown = run("memory", "export", "u-100")
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown.stdout)
    assert json.loads(shown.stdout)["memories"] == found["memories"]
    assert run("memory", "export", "u-100", "-O", "-", "-o", "plain").stdout.splitlines()[0] == "{"
    assert run("memory", "export", "u-100", "-O", ".").code == 2
    assert run("memory", "export", "u-100", "-O", "no/such/folder.json").code == 2
    assert run("memory", "export", "nobody", "-O", "nobody.json").code == 5
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".streams")) == ["robin.json"]


async def test_forgetting_the_profile_too(run, store):
    await furnish(store, ROBIN, slots=["city", "dog"])
    await store.users.set_field(ROBIN, "timezone", "Europe/Berlin")
    before = await documents(store)
    dry = run("memory", "forget", "u-100", "--profile", "--dry-run", "--json").json
    assert (dry["profile_fields"], dry["stays"]) == (["name", "timezone"], ["orders", "phones", "transcripts"])
    unasked = run("memory", "forget", "u-100", "--profile", "--type", "city")
    assert unasked.code == 2
    assert "Forget 1 memory and the profile (name, timezone) of u-100 in tenant default?" in unasked.stderr
    assert await documents(store) == before
    done = run("memory", "forget", "u-100", "--profile", "--type", "city", "--yes")
    assert done.stdout == (
        "Forgot 1 memory and the profile (name, timezone) of u-100 in tenant default. "
        "Orders, telephone numbers and the transcripts of sessions stay; see `users erase` and `db retention`.\n"
    )
    assert [slot.memory_type for slot in await store.memories.slots(ROBIN)] == ["dog"]
    profile = await store.users.get(ROBIN)
    assert (profile.name, profile.timezone) == (None, None)
    assert await store.db.turns.count_documents({}) == 6
    kept = run("memory", "forget", "u-100", "--yes")
    assert "The profile, orders, telephone numbers and the transcripts of sessions stay" in kept.stdout


async def test_what_is_known_of_the_last_call_is_not_forgotten_unasked(run, store):
    await store.users.seen(ROBIN)
    last = LastSession(now(), "they want a lamp")
    assert await store.users.set_last_session(ROBIN, last, started_at=now() - timedelta(minutes=1))
    unasked = run("memory", "forget", "u-100")
    assert unasked.code == 2
    assert "Forget what was known of the last session of u-100 in tenant default?" in unasked.stderr
    assert run("memory", "forget", "u-100", "--dry-run", "--json").json["last_call"] is True
    assert (await store.users.get(ROBIN)).last_session.gist == "they want a lamp"
    assert run("memory", "forget", "u-100", "--yes").code == 0
    assert (await store.users.get(ROBIN)).last_session is None
    nothing = run("memory", "forget", "u-100")
    assert nothing.code == 0
    assert nothing.stdout.startswith("Nothing is remembered of u-100 in tenant default. ")


async def test_forgetting_somebody_unknown_is_5_and_makes_nobody_known(run, store):
    before = await documents(store)
    tried = run("memory", "forget", "typo-user", "--tenant", "acme", "--dry-run")
    of_a_slot = run("memory", "forget", "typo-user", "--tenant", "acme", "--type", "pet", "--yes")
    assert await store.db.tombstones.count_documents({}) == 0
    done = run("memory", "forget", "typo-user", "--tenant", "acme", "--yes")
    again = run("memory", "forget", "typo-user", "--tenant", "acme", "--profile", "--json")
    assert await store.db.tombstones.count_documents({}) == 1
    for result in (tried, of_a_slot, done, again):
        assert (result.code, result.stdout) == (5, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "error: nothing is stored about typo-user in tenant acme"
    assert (
        lines[1] == "  why: looked at the collections memories, memory_history, turns, sessions, users, visitors, "
        "phones, pins, phone_attempts, orders"
    )
    assert lines[2].strip().startswith("anything said under that id until now that a worker")
    assert lines[3] == "  try: check the id and --tenant; lkmongo users list --tenant acme"
    assert tried.stderr.splitlines() == [*lines[:2], lines[3]]
    assert json.loads(again.stderr)["error"]["message"] == "nothing is stored about typo-user in tenant acme"
    assert await documents(store) == before
    assert run("memory", "export", "typo-user", "--tenant", "acme").code == 5
    assert "Nobody is known in tenant acme" in run("users", "list", "--tenant", "acme").stderr


async def test_nothing_remembered_is_told_from_nobody_of_that_id(run, store):
    await furnish(store, ROBIN, slots=[], calls=["s-1"])
    await store.db.orders.insert_one({"tenant_id": "default", "user_id": "u-7", "order_id": "1", "items": []})
    for known in ("u-100", "u-7"):
        listed = run("memory", "list", known)
        assert (listed.code, listed.stderr) == (0, f"Nothing is remembered of {known} in tenant default\n")
        assert run("memory", "list", known, "--json").json == []
        assert run("memory", "forget", known, "--yes").code == 0
        assert (await store.users.get(UserScope(tenant_id="default", user_id="u-7"))) is None
    for arguments in (["list", "u-101"], ["show", "u-101", "city"], ["export", "u-101"], ["forget", "u-101", "--yes"]):
        nobody = run("memory", *arguments, "--json")
        assert (nobody.code, nobody.stdout) == (5, "")
        error = json.loads(nobody.stderr)["error"]
        assert (error["code"], error["message"]) == ("not_found", "nothing is stored about u-101 in tenant default")
        assert error["hint"] == "did you mean u-100? lkmongo users list"
    assert "u-100 has no memory called city" in run("memory", "show", "u-100", "city").stderr


@pytest.mark.parametrize("output", ["table", "plain", "json"])
async def test_a_megabyte_and_hostile_text_are_shown_and_never_obeyed(run, store, output):
    await store.memories.remember(ROBIN, "note", HOSTILE)
    await store.db.memories.insert_one(ROBIN.filter | {"memory_type": "long", "content": MEGABYTE})
    listed = run("memory", "list", "u-100", "-o", output)
    note = run("memory", "show", "u-100", "note", "-o", output)
    long = run("memory", "show", "u-100", "long", "-o", output)
    if output == "json":
        assert {row["memory_type"]: row["content"] for row in listed.json} == {"note": HOSTILE, "long": MEGABYTE}
        assert note.json["content"] == HOSTILE
        assert long.json["content"] == MEGABYTE
        return
    for shown in (listed, note, long):
        assert shown.code == 0
        assert not {"\x1b", "\x9b", "\u202e"} & set(shown.stdout)
    assert SAFE in " ".join(note.stdout.split())
    assert long.stdout.count("word") == 200_000
    assert listed.stdout.count("word") == (200 if output == "table" else 200_000)


async def test_suggestions_are_listed_accepted_and_declined(run, store):
    await furnish(store, ROBIN, slots=["city"], calls=[])
    began = now() - timedelta(minutes=5)
    proposals = [
        Proposal(f"p-{name}", "new", name, f"{HOSTILE} {name}", began, "item-1", 0.9, state="suggested")
        for name in ("dog", "car", "boat")
    ]
    await store.sessions.save(SessionRecord("s-1", ROBIN, "room", SessionStatus.COMPLETE, began, now()), learn=True)
    record = await store.learning.propose(await store.learning.claim(ROBIN, "s-1"), proposals, {})
    await store.learning.hold(record, "me")
    await store.learning.settle(record, "me", {})
    rows = run("memory", "suggestions", "u-100", "--json").json
    assert [(row["id"], row["change"], row["label"], row["session_id"]) for row in rows] == [
        (f"p-{name}", "remember", name, "s-1") for name in ("dog", "car", "boat")
    ]
    assert "\x1b[31m" not in run("memory", "suggestions", "u-100", "-o", "table").stdout
    assert run("memory", "accept", "u-100", "p-dog", "--json").json["state"] == "accepted"
    assert run("memory", "decline", "u-100", "p-car").stdout == "Declined car of u-100\n"
    await store.memories.remember(ROBIN, "boat", "a dinghy")
    overtaken = run("memory", "accept", "u-100", "p-boat")
    assert (overtaken.code, "changed or forgotten since" in overtaken.stderr) == (6, True)
    for name in ("p-dog", "p-car", "p-boat", "p-none"):
        assert run("memory", "accept", "u-100", name).code == 5
    slots = {slot.memory_type: slot.content for slot in await store.memories.slots(ROBIN)}
    assert (slots["dog"], slots["boat"], "car" in slots) == (f"{HOSTILE} dog", "a dinghy", False)
    assert "Nothing waits" in run("memory", "suggestions", "u-100").stderr
    assert run("memory", "suggestions", "nobody").code == 5
    shown = run("sessions", "show", "s-1")
    assert "learned" in shown.stdout
    assert "1 accepted, 1 declined, 1 dropped (dog)" in shown.stdout
    learning = run("sessions", "show", "s-1", "--json").json["learning"]
    assert (learning["state"], [each["content"] for each in learning["proposals"]]) == ("learned", [""] * 3)


async def test_what_is_still_to_be_done_is_listed_until_it_is_closed(run, store):
    await furnish(store, ROBIN, slots=[], calls=["s-1"])
    at = now() - timedelta(hours=2)
    made = Commitment.of("send a lamp", "assistant", at, "s-1"), Commitment.of("measure the shelf", "caller", at, "s-1")
    await store.summaries.save(ROBIN, "s-1", Summary("A lamp.", at, (), made, by="model"))
    listed = run("memory", "commitments", "u-100", "--json").json
    assert [(each["by"], each["text"], each["session_id"]) for each in listed] == [
        ("assistant", "send a lamp", "s-1"),
        ("caller", "measure the shelf", "s-1"),
    ]
    left = run("memory", "commitments", "u-100", "--close", made[0].id, "--json").json
    assert [each["text"] for each in left] == ["measure the shelf"]
    assert run("memory", "commitments", "u-100", "--close", made[0].id).code == 5
    assert [each.text for each in await store.summaries.open(ROBIN)] == ["measure the shelf"]
    assert run("memory", "commitments", "nobody").code == 5
