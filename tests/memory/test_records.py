"""What is stored, through the door, as a web backend or support reads and changes it; and the examples that do so."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from aiohttp.test_utils import TestClient, TestServer

import lkmongo
from docs import generate
from lkmongo.errors import InvalidTextError, NotFoundError, UsageError
from lkmongo.model import UserScope, now
from lkmongo.summary import Summary
from tests.conftest import clean_environment
from tests.session_documents import said, session

EXAMPLES = generate.ROOT / "docs" / "examples"
ROBIN = UserScope(tenant_id="default", user_id="u-100")
KIM = UserScope(tenant_id="acme", user_id="u-100")
RETURNS = "# Returns\n\nUnworn shoes come back within 30 days.\n\n# Hours\n\nWe open at nine."


@pytest.fixture
async def memory(store, mongodb_uri, database_name, home):
    async with lkmongo.Memory(mongodb_uri=mongodb_uri, mongodb_db=database_name, home=home, search="exact") as memory:
        yield memory


@pytest.fixture
async def people(store):
    """Robin of one tenant and Kim of another, who have the same id."""
    await store.users.set_field(ROBIN, "name", "Robin")
    await store.memories.remember(ROBIN, "favorite_color", "teal")
    await store.memories.remember(ROBIN, "dog", "Rex")
    await store.memories.remember(KIM, "favorite_color", "red")
    await store.users.seen(KIM)
    one = session("one", user="u-100")
    await store.db.sessions.insert_one(one)
    await store.db.turns.insert_many([said(0, "I lost my umbrella", of=one), said(1, "I am sorry", of=one)])


async def test_people_are_listed_shown_searched_and_exported_within_their_tenant(memory, people):
    (person,) = await memory.people.list()
    assert (person.user_id, person.name, person.tenant_id) == ("u-100", "Robin", "default")
    assert await memory.people.list(after="u-100") == []
    known = await memory.people.show("u-100")
    assert (known.profile.name, known.counts["memories"], known.sessions_in_progress) == ("Robin", 2, [])
    assert [fact.memory_type for fact in await memory.people.facts("u-100")] == ["dog", "favorite_color"]
    assert [fact.content for fact in await memory.people.facts("u-100", tenant_id="acme")] == ["red"]
    found = await memory.people.search("u-100", "which color")
    assert found.hits[0].item.content == "teal"
    exported = json.loads("".join([piece async for piece in memory.people.export("u-100")]))
    assert {memory["content"] for memory in exported["memories"]} == {"teal", "Rex"}
    for work in (memory.people.show("u-7"), anext(memory.people.export("u-7"))):
        with pytest.raises(NotFoundError, match="nothing is stored about u-7"):
            await work
    with pytest.raises(UsageError, match="query is empty"):
        await memory.people.search("u-100", " ")


async def test_people_are_forgotten_merged_and_erased(store, memory, people):
    assert (await memory.people.forget("u-100", ["dog"], dry_run=True)).memory_types == ["dog"]
    assert (await memory.people.forget("u-100", ["Dog"])).deleted == 1
    with pytest.raises(NotFoundError):
        await memory.people.forget("u-100", ["dog"])
    await store.memories.remember(UserScope(tenant_id="default", user_id="web-1"), "size", "42")
    merged = await memory.people.merge("web-1", "u-100")
    assert merged.moved["memories"] == 1
    assert [fact.content for fact in await memory.people.facts("u-100")] == ["42", "teal"]
    assert not (await memory.people.erase("u-100", by="support", dry_run=True)).erased
    with pytest.raises(InvalidTextError):
        await memory.people.erase("u-100", by="u-100 themselves")
    done = await memory.people.erase("u-100", by="support", reason="ticket 7")
    assert (done.receipt.by, done.receipt.reason, done.receipt.counts["turns"]) == ("support", "ticket 7", 2)
    assert await store.db.turns.count_documents({}) == 0
    assert [fact.content for fact in await memory.people.facts("u-100", tenant_id="acme")] == ["red"]


async def test_sessions_are_listed_shown_and_searched(memory, people):
    (record,) = await memory.sessions.list()
    assert (record.session_id, record.totals.turns) == ("one", 2)
    assert await memory.sessions.list(tenant_id="acme") == []
    assert await memory.sessions.list(since=now()) == []
    assert (await memory.sessions.show("one")).scope == ROBIN
    assert [turn.content for turn in await memory.sessions.turns("one")] == ["I lost my umbrella", "I am sorry"]
    (found,) = await memory.sessions.search("UMBRELLA")
    assert found.snippet == "I lost my [[umbrella]]"
    with pytest.raises(NotFoundError):
        await memory.sessions.turns("one", tenant_id="acme")


async def test_knowledge_is_added_listed_searched_and_removed(memory, tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "returns.md").write_text(RETURNS)
    (tmp_path / "shop" / "broken.pdf").write_bytes(b"not a PDF")
    added = await memory.knowledge.add(tmp_path / "shop")
    assert [(each.source, each.added) for each in added.rows] == [("returns.md", 2)]
    assert ["broken.pdf" in problem for problem in added.problems] == [True]
    assert (await memory.knowledge.add_text("returns.md", RETURNS)).rows[0].unchanged == 2
    assert [(each.source, each.passages, each.embedded) for each in await memory.knowledge.list()] == [
        ("returns.md", 2, 2)
    ]
    found = await memory.knowledge.search("can I send shoes back?")
    assert (found.strategy, found.hits[0].item.title) == ("exact", "Returns")
    assert (await memory.knowledge.search("shoes", tenant_id="acme")).hits == []
    with pytest.raises(NotFoundError, match=r"no source return\.md"):
        await memory.knowledge.remove("returns.md", "return.md")
    assert await memory.knowledge.remove("returns.md") == 2
    with pytest.raises(UsageError):
        await memory.knowledge.add(tmp_path / "nowhere")


# ---------------------------------------------------------------- examples


@pytest.fixture
def environment(monkeypatch, mongodb_uri, database_name, home):
    values = {"MONGODB_URI": mongodb_uri, "MONGODB_DB": database_name, "LKMONGO_HOME": str(home)}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


async def test_the_web_backend_shows_exports_forgets_and_erases_whoever_is_signed_in(
    store, people, environment, memory, monkeypatch
):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from web_backend import create_app

    await memory.knowledge.add_text("returns.md", RETURNS)
    robin = {"X-Signed-In": "u-100"}
    async with TestClient(TestServer(create_app())) as browser:
        assert (await browser.get("/me")).status == 401
        assert (await browser.get("/me", headers={"X-Signed-In": "u-7"})).status == 404
        shown = await (await browser.get("/me", headers=robin)).json()
        assert shown == {
            "name": "Robin",
            "facts": [{"label": "dog", "content": "Rex"}, {"label": "favorite_color", "content": "teal"}],
        }
        exported = await (await browser.get("/me/export", headers=robin)).json()
        assert exported["calls"][0]["turns"][0]["content"] == "I lost my umbrella"
        assert (await browser.get("/me/export", headers={"X-Signed-In": "u-7"})).status == 404
        assert (await browser.delete("/me/facts/dog", headers=robin)).status == 204
        assert (await browser.delete("/me/facts/dog", headers=robin)).status == 404
        found = await (await browser.get("/help", params={"q": "send shoes back"})).json()
        assert found[0]["title"] == "Returns"
        assert (await browser.get("/help")).status == 400
        erased = await (await browser.delete("/me", headers=robin)).json()
        assert erased["receipt"]
        assert (await browser.get("/me", headers=robin)).status == 404
    assert await store.db.memories.count_documents(ROBIN.filter) == 0
    assert await store.db.memories.count_documents(KIM.filter) == 1


def test_the_web_backend_imports_nothing_of_livekit():
    code = "import sys, web_backend; print(any(name.split('.')[0] == 'livekit' for name in sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLES, capture_output=True, text=True, check=True)
    assert printed.stdout == "False\n"


async def test_the_script_runs_as_it_stands(environment, tmp_path):
    (tmp_path / "returns.md").write_text(RETURNS)
    done = subprocess.run(  # noqa: ASYNC221
        [sys.executable, EXAMPLES / "script.py", "returns.md"],
        cwd=tmp_path,
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"favorite_color": ["teal"' in done.stdout
    assert "ended\n" in done.stdout
    assert "2 new passages" in done.stdout


async def test_sessions_tell_what_they_were_about_and_are_found_by_it(memory, people, store):
    at = now()
    await store.summaries.save(ROBIN, "one", Summary("They lost an umbrella.", at, ("umbrella",), by="model"))
    assert (await memory.sessions.show("one")).summary.topics == ("umbrella",)
    (record,) = await memory.sessions.list(user_id="u-100")
    assert record.summary.text == "They lost an umbrella."
    (call,) = (await memory.sessions.search_summaries("u-100", "a lost umbrella")).calls
    assert (call.session_id, call.summary.text) == ("one", "They lost an umbrella.")
    assert (await memory.sessions.search_summaries("u-100", until=call.started_at)).calls == []
    assert (await memory.sessions.search_summaries("u-100", "umbrella", tenant_id="acme")).calls == []
