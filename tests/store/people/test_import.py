"""Facts that come from elsewhere: each once, with its source and its times, and its line when something is wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from lkmongo.errors import UsageError
from lkmongo.model import DateMention, Source, UserScope, now
from lkmongo.store.people.erase import erase
from lkmongo.store.people.forget import forget
from lkmongo.store.people.import_formats import label_of, numbered, read
from lkmongo.store.people.import_memories import import_facts
from lkmongo.store.people.person import export
from tests.overlaps import ROBIN
from tests.people import documents

ELSEWHERE = UserScope(tenant_id="elsewhere", user_id=ROBIN.user_id)
MEM0 = {
    "results": [
        {"id": "m-1", "memory": "Lives in Lisbon", "hash": "0", "metadata": None, "score": None,
         "created_at": "2026-05-02T10:00:00.123456-07:00", "updated_at": None, "user_id": "u-100"},
        {"id": "m-2", "memory": "Is vegetarian and loves the sea", "categories": ["food"],
         "created_at": "2026-05-03T10:00:00Z", "updated_at": "2026-06-03T10:00:00Z", "user_id": "u-100"},
        {"id": "m-3", "memory": "Is a vegetarian who loves the sea", "created_at": "2026-05-04", "user_id": "u-200"},
    ]
}  # fmt: skip
ZEP = {
    "user_id": "u-100",
    "edges": [
        {"uuid": "e-1", "name": "LIVES_IN", "fact": "Robin lives in Boston", "created_at": "2026-01-05T00:00:00Z",
         "valid_at": "2024-02-01T00:00:00Z", "invalid_at": "2026-05-01T00:00:00Z", "expired_at": "2026-05-02"},
        {"uuid": "e-2", "name": "LIVES_IN", "fact": "Robin lives in Lisbon", "created_at": "2026-05-02T00:00:00Z",
         "valid_at": "2026-05-01T00:00:00Z", "invalid_at": None, "expired_at": None},
    ],
}  # fmt: skip


@pytest.fixture
def put(store, tmp_path):
    """Import what is written to a file; returns the format and what was done."""

    async def write(content, *, tenant_id="default", **options):
        path = tmp_path / "facts"
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
        form, entries = read(path)
        return form, await import_facts(store, entries, tenant_id=tenant_id, **options)

    return write


def counts(done):
    return done.stored, done.former, done.unchanged, done.older, done.refused


async def test_our_own_export_moves_a_person_with_their_history(store, put):
    friday = (DateMention("next Friday", datetime(2026, 12, 4, tzinfo=UTC).date()),)
    told = Source("told", "s-1", "item-1")
    for content, month in (("Paris", 1), ("Boston", 2), ("Lisbon", 5)):
        await store.memories.remember(ROBIN, "city", content, at=datetime(2026, month, 1, 9, tzinfo=UTC), source=told)
    await store.memories.remember(ROBIN, "party", "next Friday", at=datetime(2026, 11, 29, tzinfo=UTC), dates=friday)
    await store.memories.remember(
        ROBIN, "dog", "Rex", at=datetime(2026, 1, 1, tzinfo=UTC), source=Source("learned", "s")
    )
    await store.history.end(ROBIN, "dog", now())
    await store.history.settle(ROBIN, "city")  # or not: a former value may still be on its slot
    await store.memories.remember(ROBIN, "city", "Rome", at=datetime(2026, 6, 1, tzinfo=UTC))
    text = "".join([piece async for piece in export(store.db, ROBIN)])
    form, done = await put(text, tenant_id="elsewhere")
    assert (form, counts(done)) == ("lkmongo", (2, 4, 0, 0, 0))
    assert await store.history.former(ELSEWHERE) == await store.history.former(ROBIN)
    theirs = {slot.memory_type: slot._replace(created_at=None) for slot in await store.memories.slots(ELSEWHERE)}
    ours = {slot.memory_type: slot._replace(created_at=None) for slot in await store.memories.slots(ROBIN)}
    assert {**theirs, "city": ours["city"], "party": ours["party"]} == ours
    assert theirs["city"].source == Source("imported", "lkmongo")
    assert theirs["party"].dates == friday
    before = await documents(store, ROBIN)
    assert counts((await put(text, tenant_id="elsewhere"))[1]) == (0, 0, 6, 0, 0)
    assert counts((await put(text))[1]) == (0, 0, 6, 0, 0)
    assert await documents(store, ROBIN) == before


async def test_what_mem0_exports(store, put):
    for expected in ((3, 0, 0, 0, 0), (0, 0, 3, 0, 0)):
        form, done = await put(MEM0)
        assert (form, counts(done)) == ("mem0", expected)
    slots = {slot.memory_type: slot for slot in await store.memories.slots(ROBIN)}
    assert slots.keys() == {"lives_lisbon", "vegetarian_loves_sea"}
    lisbon = slots["lives_lisbon"]
    assert (lisbon.content, lisbon.source) == ("Lives in Lisbon", Source("imported", "mem0", "m-1"))
    assert lisbon.updated_at == lisbon.valid_from == datetime(2026, 5, 2, 17, 0, 0, 123_000, UTC)


async def test_a_memory_that_was_changed_there_is_changed_here(store, put):
    await put(MEM0)
    changed = MEM0["results"][0] | {"memory": "Lives in Porto", "updated_at": "2026-09-01T00:00:00Z"}
    assert counts((await put([changed]))[1]) == (1, 0, 0, 0, 0)
    assert (await store.memories.recall(ROBIN, "lives_lisbon")).content == "Lives in Porto"
    (former,) = await store.history.former(ROBIN)
    assert (former.content, former.source.item_id) == ("Lives in Lisbon", "m-1")
    assert counts((await put([changed]))[1]) == (0, 0, 1, 0, 0)


async def test_what_zep_exports_keeps_what_is_no_longer_true_apart(store, put):
    for expected in ((1, 1, 0, 0, 0), (0, 0, 2, 0, 0)):
        form, done = await put(ZEP)
        assert (form, counts(done)) == ("zep", expected)
    (slot,) = await store.memories.slots(ROBIN)
    assert (slot.content, slot.valid_from) == ("Robin lives in Lisbon", datetime(2026, 5, 1, tzinfo=UTC))
    (former,) = await store.history.former(ROBIN)
    assert (former.content, former.valid_from, former.valid_to, former.source) == (
        "Robin lives in Boston", datetime(2024, 2, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC),
        Source("imported", "zep", "e-1"),
    )  # fmt: skip


async def test_lines_that_are_wrong_are_named_and_the_others_are_stored(store, put):
    lines = [
        (
            '{"user_id": "u-100", "label": "City", "content": "Lisbon", "valid_from": "2026-05-01", '
            '"updated_at": "2026-06-02"}'
        ),
        "",
        '{"user_id": "u-100", "label": "bank_pin", "content": "4711"}',
        "{nonsense",
        '{"label": "city", "content": "nobody knows whose"}',
        '{"user_id": "u-100", "label": "city"}',
        '{"user_id": "u-100", "label": "pet", "content": "Rex", "valid_from": "May"}',
        '{"user_id": {"$gt": ""}, "label": "pet", "content": "Rex"}',
        '{"user_id": "u-100", "label": "!!", "content": "Rex"}',
        '["u-100"]',
        '{"user_id": "u-100", "content": "Likes jazz", "source": "crm", "id": "7"}',
    ]
    form, done = await put("\n".join(lines))
    assert (form, counts(done)) == ("jsonl", (2, 0, 0, 0, 8))
    assert sorted(each.line for each in done.problems) == [3, 4, 5, 6, 7, 8, 9, 10]
    whys = {each.line: each.why for each in done.problems}
    assert "4711" not in str(whys)
    assert "not JSON" in whys[4]
    assert "give --user" in whys[5]
    assert "'May'" in whys[7]
    slots = {slot.memory_type: slot for slot in await store.memories.slots(ROBIN)}
    assert slots["city"].valid_from == datetime(2026, 5, 1, tzinfo=UTC)
    assert slots["likes_jazz"].source == Source("imported", "crm", "7")


async def test_lines_of_a_document_are_those_of_its_elements(put):
    wrong = {"results": [*MEM0["results"], {"id": "m-4", "memory": " "}]}
    _, done = await put(wrong)
    (problem,) = done.problems
    text = json.dumps(wrong, indent=2).splitlines()
    assert text[problem.line].strip() == '"id": "m-4",'


async def test_a_dry_run_says_the_same_and_stores_nothing(store, put):
    _, planned = await put(ZEP, dry_run=True)
    assert await documents(store, ROBIN) == {name: [] for name in await documents(store, ROBIN)}
    _, done = await put(ZEP)
    assert counts(planned) == counts(done)


async def test_nothing_older_takes_the_place_of_what_is_newer_forgotten_ended_or_erased(store, put):
    line = '{"user_id": "u-100", "label": "city", "content": "Lisbon", "updated_at": "2026-05-02"}'
    undated = '{"user_id": "u-100", "label": "city", "content": "Lisbon"}'
    await store.memories.remember(ROBIN, "city", "Rome")
    assert counts((await put(f"{line}\n{undated}"))[1]) == (0, 0, 0, 2, 0)
    await store.history.end(ROBIN, "city", now())
    assert counts((await put(line))[1]) == (0, 0, 0, 1, 0)
    await forget(store, ROBIN)
    assert counts((await put(line))[1]) == (0, 0, 0, 1, 0)
    assert counts((await put({**ZEP, "edges": ZEP["edges"][:1]}))[1]) == (0, 0, 0, 1, 0)
    await erase(store.db, ROBIN, by="Sam")
    assert counts((await put(f"{line}\n{undated}"))[1]) == (0, 0, 0, 0, 2)
    assert not any((await documents(store, ROBIN)).values())


async def test_relative_dates_are_those_of_when_it_was_said(store, put):
    await put('{"user_id": "u-100", "label": "party", "content": "next Friday", "updated_at": "2026-11-29T12:00:00Z"}')
    assert (await store.memories.recall(ROBIN, "party")).dates[0].day.isoformat() == "2026-12-04"


@pytest.mark.parametrize("content", ["", "{}", '{"name": "x"}', "not json", "[", '"text"', '{"results": 3}'])
def test_a_file_without_facts_is_refused(content, tmp_path):
    path = tmp_path / "facts"
    path.write_text(content)
    with pytest.raises(UsageError):
        list(read(path)[1])


def test_labels_are_readable_and_the_same_each_time():
    assert label_of("The user's favorite color is teal, and they live by the sea") == "favorite_color_teal_live_by_sea"
    assert label_of("!!!").startswith("imported_")
    assert label_of("😀 " * 90 + "x" * 90).startswith("imported_")
    long = label_of("Donaudampfschifffahrtsgesellschaftskapitän " * 5)
    assert len(long) <= 57
    assert numbered(long, "m-1") == numbered(long, "m-1") != numbered(long, "m-2")
    assert len(numbered("a" * 64, "m-1")) == 64
