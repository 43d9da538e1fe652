"""`memory search` and `db embed`, as a person and as a program use them."""

from __future__ import annotations

import asyncio
import json

import pytest

from lkmongo.embed.local import LocalEmbedder
from lkmongo.model import Passage, TenantScope, UserScope
from lkmongo.store.mongo.client import create_client
from lkmongo.store.people.memories import Memories
from tests.search_backends import open_backend, place

ROBIN = UserScope(tenant_id="default", user_id="u")
SLOTS = {"pet": "a golden retriever called Biscuit", "job": "nurse at the hospital"}


@pytest.fixture
def embedded_slots(run, shared_home, database_name):
    """Slots without vectors, in the embedded database."""
    from lkmongo.local.mongod import EmbeddedMongod

    async def remember(uri: str) -> None:
        async with create_client(uri) as client:
            for label, content in SLOTS.items():
                await Memories(client[database_name]).remember(ROBIN, label, content)

    with EmbeddedMongod(shared_home) as mongod:
        asyncio.run(remember(mongod.uri))


@pytest.mark.usefixtures("embedded_slots")
def test_what_an_outage_left_is_found_by_words_then_embedded_then_found_by_meaning(run):
    before = run("memory", "search", "u", "retriever", "--json").json
    assert (before["strategy"], before["degraded"]) == ("exact", None)
    (hit,) = before["hits"]
    assert (hit["memory_type"], hit["vector_rank"], hit["text_rank"]) == ("pet", None, 1)
    assert run("memory", "search", "u", "do I have a dog", "--json").json["hits"] == []

    planned = run("db", "embed", "--dry-run", "--json").json
    assert [(row["collection"], row["missing"], row["embedded"]) for row in planned] == [
        ("memories", 2, 0),
        ("knowledge", 0, 0),
        ("sessions", 0, 0),
    ]
    assert [row["embedded"] for row in run("db", "embed", "--tenant", "other", "--json").json] == [0, 0, 0]
    done = run("db", "embed", "--json")
    assert done.code == 0
    assert [(row["embedded"], row["model"]) for row in done.json] == [
        (2, LocalEmbedder.model),
        (0, LocalEmbedder.model),
        (0, LocalEmbedder.model),
    ]
    assert [row["missing"] for row in run("db", "embed", "--json").json] == [0, 0, 0]
    (hit,) = run("memory", "search", "u", "do I have a dog", "--json").json["hits"]
    assert (hit["memory_type"], hit["vector_rank"], hit["text_rank"]) == ("pet", 1, None)


@pytest.mark.usefixtures("embedded_slots")
def test_the_strategy_and_the_ranks_are_shown_in_every_format(run):
    plain = run("memory", "search", "u", "retriever")
    assert plain.stdout.splitlines()[0] == "memory_type\tcontent\tscore\tvector_rank\ttext_rank"
    assert plain.stdout.splitlines()[1].startswith("pet\ta golden retriever called Biscuit\t0.0")
    assert "Answered by the exact strategy" in plain.stderr
    (row,) = run("memory", "search", "u", "retriever", "-o", "jsonl").events
    assert (row["memory_type"], row["strategy"]) == ("pet", "exact")
    run("agent", "console", "--user", "v", input="hello\n")
    nothing = run("memory", "search", "v", "retriever")
    assert (nothing.code, nothing.stdout) == (0, "")
    assert "Nothing fitting is remembered of v in tenant default" in nothing.stderr
    nobody = run("memory", "search", "nobody", "retriever", "--json")
    assert (nobody.code, nobody.stdout) == (5, "")
    error = json.loads(nobody.stderr.splitlines()[-1])["error"]
    assert error["message"] == "nothing is stored about nobody in tenant default"
    assert len(run("memory", "search", "u", "nurse retriever", "--limit", "1", "--json").json["hits"]) == 1
    for wrong in (["--limit", "0"], ["--limit", "x"]):
        assert run("memory", "search", "u", "dog", *wrong).code == 2
    assert run("memory", "search", "u", " ").code == 2


@pytest.fixture(scope="module")
def atlas(request):
    with place("atlas-fused", request) as made:
        yield made


async def test_through_the_indexes_and_when_they_are_away(run, atlas):
    environ = {"MONGODB_URI": atlas.uri, "MONGODB_DB": atlas.database}
    insisting = environ | {"LKMONGO_SEARCH": "atlas"}
    search = ("memory", "search", "u", "golden retriever", "--json")
    async with open_backend(atlas) as backend:
        await backend.remember(ROBIN, SLOTS)
        found = run(*search, env=environ).json
        assert (found["strategy"], found["degraded"]) == ("atlas", None)
        best = found["hits"][0]
        assert (best["memory_type"], best["vector_rank"], best["text_rank"]) == ("pet", 1, 1)
        assert run(*search, env=environ | {"LKMONGO_SEARCH": "exact"}).json["strategy"] == "exact"

        backend.standin.set_mongot(up=False)
        away = run(*search, env=environ)
        assert away.json["strategy"] == "exact"
        assert "the search process of MongoDB cannot be reached" in away.json["degraded"]
        assert away.stderr == ""
        shown = run(*search[:-1], env=environ)
        assert "warning: searched exactly: the search process" in shown.stderr
        assert "Answered by the exact strategy" in shown.stderr
        failed = run(*search, env=insisting)
        assert (failed.code, failed.stdout) == (1, "")
        assert "the search process of MongoDB cannot be reached" in failed.stderr


def test_insisting_on_atlas_where_there_is_none(run):
    failed = run("memory", "search", "u", "dog", "--json", env={"LKMONGO_SEARCH": "atlas"})
    assert failed.code == 7
    assert "this MongoDB has no search" in failed.stderr
    assert run("memory", "search", "u", "dog", env={"LKMONGO_SEARCH": "atlsa"}).code == 2


async def test_the_agent_searches_by_the_indexes_and_answers_without_them(run, atlas):
    environ = {"MONGODB_URI": atlas.uri, "MONGODB_DB": atlas.database}
    passage = Passage("returns.md", 0, "Returns", "You can return any unused item within 30 days for a full refund.")
    async with open_backend(atlas) as backend:
        await backend.add(TenantScope("default"), [passage])
        for up in (True, False):
            backend.standin.set_mongot(up=up)
            backend.standin.commands.clear()
            talk = run("agent", "console", "--user", "u", "--json", input="what is your return policy?\n", env=environ)
            assert "30 days" in talk.answers[-1]
            assert backend.standin.recorded("$vectorSearch")
        for name in ("sessions", "turns"):
            await backend.db[name].delete_many({})
    assert talk.stderr.count("searching exactly: the search process of MongoDB cannot be reached") == 1
