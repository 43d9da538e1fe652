"""Reranking over both strategies: the better order, and the one there is whenever something fails."""

from __future__ import annotations

import asyncio

import pytest

from lkmongo.errors import SettingsError
from lkmongo.memory.memory import Memory
from lkmongo.model import Passage, TenantScope, UserScope
from lkmongo.search.choose import strategy_for
from lkmongo.search.rerank import (
    PAUSE,
    REFUSED_PAUSE,
    AtlasReranker,
    RerankedSearch,
    RerankError,
    VoyageReranker,
    reranked,
)
from lkmongo.search.strategy import SearchHit, SearchResult
from lkmongo.settings import Settings
from tests.rerank_server import KEY, rerank_server
from tests.search_backends import open_backend, place

SHOP = TenantScope("default")
ROBIN = UserScope(tenant_id="default", user_id="u-100")
PASSAGES = [
    Passage("a.md", 0, "Returns", "You can return any unused item within 30 days for a full refund."),
    Passage("b.md", 0, "Shipping", "Standard delivery takes three to five business days."),
    Passage("c.md", 0, "Refunds", "The refund of an unused item reaches your account after five business days."),
]
QUERY = "when does the refund reach my account"


class Found:
    """A strategy that finds the same passages whatever is asked."""

    def __init__(self, passages=PASSAGES, degraded=None):
        self.passages, self.degraded, self.limits, self.closed = passages, degraded, [], False

    async def knowledge(self, tenant, query, limit=3):
        self.limits.append(limit)
        hits = [SearchHit(passage, 0.5 - n / 10, n + 1, None) for n, passage in enumerate(self.passages)]
        return SearchResult("exact", hits, self.degraded)

    async def memories(self, scope, query, limit=5):
        return SearchResult("exact", [])

    async def warm(self):
        pass

    async def close(self):
        self.closed = True


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
async def service():
    async with rerank_server() as server:
        yield server


@pytest.fixture
async def search(service):
    made = RerankedSearch(Found(), VoyageReranker(KEY, service.url), deadline=30, clock=Clock())
    await made._reranker._api._made()  # importing the client takes seconds, which count otherwise
    yield made
    await made.close()
    assert made._inner.closed


def sources(result):
    return [hit.item.source for hit in result.hits]


async def test_the_most_relevant_passage_comes_first_and_only_so_many_are_returned(search, service):
    result = await search.knowledge(SHOP, QUERY, limit=2)
    assert sources(result)[0] == "c.md"
    assert (len(result.hits), result.degraded) == (2, None)
    assert result.hits[0].score > result.hits[1].score
    assert search._inner.limits == [20]
    (body,) = service.requests
    assert (body["query"], body["model"], body["truncation"]) == (QUERY, "rerank-2.5-lite", True)
    assert body["documents"] == [f"{p.title}\n{p.content}" for p in PASSAGES]


async def test_what_leaves_no_choice_is_not_asked_for(search, service):
    search._inner.passages = PASSAGES[:1]
    assert sources(await search.knowledge(SHOP, QUERY)) == ["a.md"]
    await search.memories(ROBIN, QUERY)
    assert service.requests == []


FAILURES = [
    (401, "Voyage refused the API key", REFUSED_PAUSE),
    (429, "Voyage refuses more requests for now", PAUSE),
    (503, "Voyage answered 503", PAUSE),
    (404, "There is no", REFUSED_PAUSE),
    ({"data": []}, "Voyage sent no order of the passages", REFUSED_PAUSE),
    (
        {"data": [{"index": 0, "relevance_score": 1}], "usage": {"total_tokens": 1}},
        "Voyage sent no order",
        REFUSED_PAUSE,
    ),
    ({"hello": "world"}, "Voyage sent no order of the passages", REFUSED_PAUSE),
]


@pytest.mark.parametrize(("action", "message", "pause"), FAILURES, ids=[str(case[0])[:24] for case in FAILURES])
async def test_whatever_fails_the_order_stays_and_it_is_asked_again_after_a_while(
    search, service, caplog, action, message, pause
):
    service.script.append(action)
    search._inner.degraded = "by words alone"
    for _ in range(2):
        result = await search.knowledge(SHOP, QUERY)
        assert sources(result) == ["a.md", "b.md", "c.md"]
        assert result.hits[0].score == 0.5
        assert result.degraded.startswith("by words alone; passages are in the order of the search: ")
        assert message.casefold() in result.degraded.casefold()
        assert KEY not in result.degraded
        search._clock.now += pause - 0.1
    assert len(service.requests) == 1
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    result = await search.knowledge(SHOP, QUERY)
    assert (sources(result)[0], result.degraded) == ("c.md", "by words alone")


async def test_a_model_that_is_late_is_given_up(search, service):
    service.script.append("hang")
    search._deadline = 0.1
    result = await search.knowledge(SHOP, QUERY)
    assert (sources(result)[0], "did not answer within 0.1 s" in result.degraded) == ("a.md", True)


async def test_a_service_that_is_away_is_said(search, service):
    search._reranker._api._base_url = "http://127.0.0.1:9/v1"
    search._reranker._api._client = None
    result = await search.knowledge(SHOP, QUERY)
    assert (sources(result)[0], "Voyage cannot be reached" in result.degraded) == ("a.md", True)


@pytest.fixture(scope="module", params=["exact", "atlas-8.3", "atlas-8.1"])
def where(request):
    with place(request.param, request) as made:
        yield made


@pytest.fixture
async def backend(where):
    async with open_backend(where) as made:
        await made.add(SHOP, PASSAGES)
        yield made


def settings(backend, service, **environ):
    keys = {"VOYAGE_API_KEY": KEY, "VOYAGE_BASE_URL": service.url, "LKMONGO_EMBEDDINGS": "local"}
    if backend.is_atlas:
        keys["MONGODB_URI"] = backend.standin.uri
    return Settings.load(keys | environ)


async def test_both_strategies_by_voyage(backend, service):
    search = strategy_for(settings(backend, service, LKMONGO_RERANK="voyage"), backend.db, backend.embedder)
    await search._reranker._api._made()
    result = await search.knowledge(SHOP, QUERY)
    await search.close()
    assert (result.strategy, result.degraded, sources(result)[0]) == (backend.answers, None, "c.md")
    assert len(service.requests) == 1


async def test_mongodb_reranks_where_it_can(backend, service):
    if not backend.is_atlas:
        with pytest.raises(SettingsError, match="MONGODB_URI is not set"):
            strategy_for(settings(backend, service, LKMONGO_RERANK="atlas"), backend.db, backend.embedder)
        return
    search = strategy_for(settings(backend, service, LKMONGO_RERANK="atlas"), backend.db, backend.embedder)
    await backend.add(TenantScope("other"), [Passage("c.md", 0, QUERY, QUERY)])
    await search.warm()
    backend.standin.commands.clear()
    result = await search.knowledge(SHOP, QUERY)
    assert result.strategy == "atlas"
    (sent,) = backend.standin.recorded("$rerank")
    assert sent.max_time_ms
    assert sent.pipeline[0]["$match"]["tenant_id"] == "default"
    if backend.name == "atlas-8.3":
        assert (result.degraded, sources(result)[0]) == (None, "c.md")
        assert [hit.item for hit in result.hits] == [PASSAGES[2], *(hit.item for hit in result.hits[1:])]
    else:
        assert "this MongoDB has no $rerank" in result.degraded
        await search.knowledge(SHOP, QUERY)
        assert len(backend.standin.recorded("$rerank")) == 1, "asked once"


async def test_a_server_without_a_model_is_noticed_by_equal_scores(backend):
    if backend.name != "atlas-8.3":
        pytest.skip("no $rerank there")
    reranker = AtlasReranker(backend.db)
    with pytest.raises(RerankError, match="equally relevant"):
        await reranker.relevance(SHOP, "zzz", PASSAGES, 30)
    (alone,) = await reranker.relevance(SHOP, "zzz", PASSAGES[:1], 30)
    gone = await reranker.relevance(SHOP, QUERY, [*PASSAGES, Passage("gone.md", 0, "x", "x")], 30)
    assert (alone, gone[-1]) == (0.0, -1.0)
    backend.standin.delay("$rerank", 60)
    with pytest.raises(Exception, match="took too long"):
        await asyncio.wait_for(reranker.relevance(SHOP, QUERY, PASSAGES, 0.2), 30)


def test_what_reranking_needs_must_be_set():
    inner = Found()
    with pytest.raises(SettingsError, match="VOYAGE_API_KEY is not set"):
        reranked(inner, Settings.load({"LKMONGO_RERANK": "voyage"}), None)
    with pytest.raises(SettingsError, match="MONGODB_URI is not set"):
        reranked(inner, Settings.load({"LKMONGO_RERANK": "atlas"}), None)
    assert reranked(inner, Settings.load({}), None) is inner
    with pytest.raises(SettingsError, match="VOYAGE_API_KEY is not set"):
        Memory(Settings.load({}), rerank="voyage")  # now, not in the first session
