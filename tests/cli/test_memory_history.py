"""`lkmongo memory history`, `set`, `undo` and `import`: what support staff see and put right."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from lkmongo.model import Source, UserScope

ROBIN = UserScope(tenant_id="default", user_id="u-100")
MAY = datetime(2026, 5, 1, tzinfo=UTC)


async def test_a_value_is_set_seen_in_the_history_and_undone(run, store):
    told = Source("told", "s-1", "item-1")
    await store.memories.remember(ROBIN, "city", "Boston", at=datetime(2026, 1, 9, tzinfo=UTC), source=told)
    planned = run("memory", "set", "u-100", "City", "Lisbon", "--valid-from", "2026-05", "--dry-run", "--json").json
    assert (planned["dry_run"], planned["instead_of"]) == (True, "Boston")
    assert (await store.memories.recall(ROBIN, "city")).content == "Boston"
    done = run("memory", "set", "u-100", "City", "Lisbon", "--valid-from", "2026-05", "--json").json
    assert (done["memory_type"], done["content"], done["changed"]) == ("city", "Lisbon", True)
    slot = await store.memories.recall(ROBIN, "city")
    assert (slot.source, slot.valid_from) == (Source("staff"), MAY)
    assert run("memory", "set", "u-100", "city", "Lisbon", "--json").json["changed"] is False
    listed = run("memory", "history", "u-100", "--json").json
    assert [(each["content"], each["source"], each["session_id"], bool(each["valid_to"])) for each in listed] == [
        ("Lisbon", "staff", None, False),
        ("Boston", "told", "s-1", True),
    ]
    assert run("memory", "undo", "u-100", "city").code == 2, "nobody was asked"
    back = run("memory", "undo", "u-100", "city", "--dry-run", "--json").json
    assert (back["content"], back["instead_of"]) == ("Boston", "Lisbon")
    assert "back to: Boston" in run("memory", "undo", "u-100", "city", "--yes").stdout
    assert (await store.memories.recall(ROBIN, "city")).source == told
    assert run("memory", "undo", "u-100", "city", "--yes").code == 5


async def test_what_cannot_be_set_or_undone_ends_with_the_code_of_why(run, store):
    await store.memories.remember(ROBIN, "city", "Boston")
    for arguments, code in (
        (("set", "nobody", "city", "Rome"), 5),
        (("set", "u-100", "!!", "Rome"), 2),
        (("set", "u-100", "bank_pin", "4711"), 2),
        (("set", "u-100", "city", "Rome", "--valid-from", "soon"), 2),
        (("history", "nobody"), 5),
        (("history", "u-100", "cat"), 5),
        (("undo", "u-100", "cat", "--yes"), 5),
        (("undo", "nobody", "city", "--yes"), 5),
    ):
        result = run("memory", *arguments)
        assert result.code == code, arguments
        assert "4711" not in result.stderr
    assert (await store.memories.recall(ROBIN, "city")).content == "Boston"


async def test_what_is_forgotten_has_no_history(run, store):
    for city in ("Boston", "Lisbon"):
        await store.memories.remember(ROBIN, "city", city)
    await store.history.end(ROBIN, "city", datetime.now(UTC))
    assert run("memory", "forget", "u-100", "--type", "city", "--yes").code == 0, "although it is no slot any more"
    assert await store.history.former(ROBIN) == []
    assert run("memory", "undo", "u-100", "city", "--yes").code == 5


async def test_a_file_is_imported_once(run, store, tmp_path):
    lines = [{"user_id": "u-100", "label": "city", "content": "Lisbon", "updated_at": "2026-05-02"}]
    lines += [{"user_id": "u-100", "label": "bank_pin", "content": "4711"}]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    dry = run("memory", "import", "facts.jsonl", "--dry-run", "--json")
    assert (dry.code, dry.json["stored"], dry.json["refused"]) == (1, 1, 1)
    assert await store.memories.slots(ROBIN) == []
    done = run("memory", "import", "facts.jsonl", "--json")
    assert (done.code, done.json["stored"], done.json["problems"][0]["line"]) == (1, 1, 2)
    assert "line 2: " in done.stderr
    assert "4711" not in done.stdout + done.stderr
    assert run("memory", "import", "facts.jsonl", "--json").json["unchanged"] == 1
    assert run("memory", "import", "missing.jsonl").code == 2
