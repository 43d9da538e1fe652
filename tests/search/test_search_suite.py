"""One suite for all search backends: exact, the indexes with and without fusion on the server, and Atlas.

With LKMONGO_TEST_ATLAS_URI set (`make test-atlas`) it also runs against Atlas or Atlas Local.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import numpy as np
import pytest

from lkmongo.embed.local import LocalEmbedder
from lkmongo.embed.vectors import stored, to_bson
from lkmongo.model import Passage, TenantScope, UserScope, now
from lkmongo.search.strategy import ExactStrategy
from lkmongo.store.people.forget import forget
from tests.search_backends import BACKENDS, NoQuestions, open_backend, place
from tests.waiting import PATIENCE

ROBIN = UserScope(tenant_id="default", user_id="u-100")
SAME_ID_ELSEWHERE = UserScope(tenant_id="other", user_id="u-100")
SOMEBODY_ELSE = UserScope(tenant_id="default", user_id="u-200")
SHOP, OTHER_SHOP = TenantScope("default"), TenantScope("other")
JUST_NOW = timedelta(0)

SLOTS = {
    "favorite_color": "teal",
    "pet": "a golden retriever called Biscuit",
    "job": "nurse at the children's hospital",
    "allergies": "peanuts and shellfish",
    "hobby": "restoring old bicycles",
}
PASSAGES = [
    Passage("returns.md", 0, "Returns", "You can return any unused item within 30 days for a full refund."),
    Passage("shipping.md", 0, "Shipping", "Standard delivery takes three to five business days."),
    Passage("warranty.md", 0, "Warranty", "Headphones and speakers carry a two year warranty against defects."),
]


class OtherModel(LocalEmbedder):
    """The same vectors under another name."""

    model = "another@256"


@pytest.fixture(scope="module", params=BACKENDS)
def where(request):
    with place(request.param, request) as made:
        yield made


@pytest.fixture
async def backend(where):
    async with open_backend(where) as made:
        yield made


@pytest.fixture
def vectors_here(backend):
    """For what is about vectors in this process; with automatic embedding there are none."""
    if not backend.embedder.dimensions:
        pytest.skip("MongoDB makes the vectors")


def labels(result):
    return [found.item.memory_type for found in result.hits]


def sources(result):
    return [found.item.source for found in result.hits]


# ---------------------------------------------------------------- what is found


@pytest.mark.parametrize(
    ("query", "label"),
    [
        ("what is my favourite colour", "favorite_color"),  # by words, in another spelling
        ("do I have a dog", "pet"),  # by meaning: no word is the same
        ("which foods should I avoid", "allergies"),
        ("Biskuit", "pet"),
    ],
)
@pytest.mark.parametrize("age", [timedelta(hours=1), JUST_NOW], ids=["old", "new"])
async def test_a_slot_is_found_by_words_or_by_meaning(backend, query, label, age):
    await backend.remember(ROBIN, SLOTS, age=age)
    result = await backend.strategy.memories(ROBIN, query)
    if age == JUST_NOW and not backend.embedder.dimensions and label in {"pet", "allergies"} and query != "Biskuit":
        assert labels(result) == [], "until MongoDB has made the vectors, new slots are found by words"
        return
    assert labels(result)[0] == label
    assert result.hits[0].item.content == SLOTS[label]
    assert (result.strategy, result.degraded) == (backend.answers, None)


async def test_a_slot_that_fits_by_meaning_and_by_words_has_both_ranks(backend):
    await backend.remember(ROBIN, SLOTS)
    result = await backend.strategy.memories(ROBIN, "the golden retriever")
    best = result.hits[0]
    assert (best.item.memory_type, best.vector_rank, best.text_rank) == ("pet", 1, 1)
    assert best.score > max((hit.score for hit in result.hits[1:]), default=0)


async def test_a_question_about_something_else_finds_nothing(backend):
    await backend.remember(ROBIN, SLOTS)
    await backend.add(SHOP, PASSAGES)
    for query in ("how tall is mount everest", "who won the world cup", "", "  "):
        for result in (await backend.strategy.memories(ROBIN, query), await backend.strategy.knowledge(SHOP, query)):
            assert (result.hits, result.degraded) == ([], None)


async def test_a_question_of_stop_words_alone_is_no_reason_to_return_everything(backend):
    await backend.remember(ROBIN, {"note": "what is it that you do", "other": "it is as it was"})
    result = await backend.strategy.memories(ROBIN, "what is it")
    assert {found.text_rank for found in result.hits} <= {None}


async def test_knowledge_is_found_with_its_source(backend):
    await backend.add(SHOP, PASSAGES)
    result = await backend.strategy.knowledge(SHOP, "how do I get my money back")
    assert result.hits[0].item == PASSAGES[0]
    assert result.hits[0].vector_rank == 1
    assert (result.strategy, result.degraded) == (backend.answers, None)


async def test_knowledge_has_a_rank_by_words_too(backend):
    await backend.add(SHOP, PASSAGES)
    best = (await backend.strategy.knowledge(SHOP, "warranty on headphones")).hits[0]
    assert (best.item.source, best.vector_rank, best.text_rank) == ("warranty.md", 1, 1)


async def test_the_limit_is_kept(backend):
    await backend.remember(ROBIN, {f"pet_{n}": "a dog" for n in range(40)})
    await backend.add(SHOP, [Passage("dogs.md", n, "Dogs", f"Dogs need walks, number {n}.") for n in range(40)])
    for limit in (1, 4, 35):
        assert len((await backend.strategy.memories(ROBIN, "dog", limit=limit)).hits) == limit
        assert len((await backend.strategy.knowledge(SHOP, "dogs", limit=limit)).hits) == limit
    assert len((await backend.strategy.memories(ROBIN, "dog")).hits) == 5
    assert len((await backend.strategy.knowledge(SHOP, "dogs")).hits) == 3


async def test_nothing_is_found_where_nothing_is(backend):
    for result in (await backend.strategy.memories(ROBIN, "dog"), await backend.strategy.knowledge(SHOP, "returns")):
        assert (result.hits, result.degraded, result.strategy) == ([], None, backend.answers)


@pytest.mark.usefixtures("vectors_here")
async def test_every_strategy_finds_first_what_the_exact_one_does(backend):
    await backend.remember(ROBIN, SLOTS | {f"note_{n}": f"remark number {n} on gardening" for n in range(20)})
    await backend.add(SHOP, PASSAGES)
    exact = ExactStrategy(backend.db, backend.embedder)
    for query in ("my color", "dog", "nurse", "what can I not eat", "bicycles", "gardening remark 7", "Biscuit"):
        expected = labels(await exact.memories(ROBIN, query))
        assert labels(await backend.strategy.memories(ROBIN, query))[:1] == expected[:1], query
    for query in ("refund", "how long does delivery take", "speakers broke", "return an unused item"):
        expected = await exact.knowledge(SHOP, query)
        found = await backend.strategy.knowledge(SHOP, query)
        assert [f.item for f in found.hits][:1] == [f.item for f in expected.hits][:1], query


# ---------------------------------------------------------------- whose it is


async def test_nobody_finds_what_is_not_theirs(backend):
    await backend.remember(ROBIN, SLOTS)
    await backend.add(SHOP, PASSAGES)
    for other in (
        SAME_ID_ELSEWHERE,
        SOMEBODY_ELSE,
        UserScope(tenant_id="default", user_id="U-100"),
        UserScope(tenant_id="u-100", user_id="default"),
    ):
        assert (await backend.strategy.memories(other, "dog called Biscuit")).hits == []
    assert (await backend.strategy.knowledge(OTHER_SHOP, "return an item")).hits == []
    await backend.add(OTHER_SHOP, PASSAGES[1:2])
    assert sources(await backend.strategy.knowledge(OTHER_SHOP, "delivery")) == ["shipping.md"]
    assert sources(await backend.strategy.knowledge(SHOP, "return an item"))[0] == "returns.md"


async def test_among_two_hundred_people_with_the_same_words_each_finds_all_of_their_own(backend):
    drinks = {f"drink_{n}": f"coffee number {n} with milk" for n in range(7)}
    slots = drinks | {f"place_{n}": f"street number {n} in the old town" for n in range(13)}
    people = [UserScope(tenant_id="default", user_id=f"u-{n}") for n in range(200)]
    moment, written = now() - timedelta(hours=1), []
    vectors = await backend.embedder.embed([f"{label}: {content}" for label, content in slots.items()], kind="document")
    for number, person in enumerate(people):
        owner = {"created_at": moment + timedelta(seconds=number)}  # tells whose it is
        written += [
            person.filter | owner | {"memory_type": label, "label_words": label.replace("_", " "), "content": content}
            | {"embedding": stored(f"{label}: {content}", vector), "embedding_model": backend.embedder.model}
            | {"updated_at": moment}
            for (label, content), vector in zip(slots.items(), vectors, strict=True)
        ]  # fmt: skip
    await backend.insert("memories", written)
    for number in (0, 1, 99, 198, 199):
        async with asyncio.timeout(PATIENCE):
            has_all = False
            while not has_all:  # on a busy machine the index trails behind so many documents
                result = await backend.strategy.memories(people[number], "coffee with milk", limit=20)
                assert {found.item.created_at for found in result.hits} == {moment + timedelta(seconds=number)}
                assert {f.item.memory_type for f in result.hits if f.text_rank is not None} == set(drinks)
                assert set(labels(result)[:7]) == set(drinks)
                has_all = all(found.vector_rank is not None for found in result.hits)
        assert (result.strategy, result.degraded) == (backend.answers, None)


@pytest.mark.parametrize("odd", ["$gt", "a.b", '{"$ne": 1}', "ÅNGSTRÖM", "naïve\u0301", "*", "u 100", "9" * 128])
async def test_an_odd_id_is_an_id_like_any_other(backend, odd):
    theirs = UserScope(tenant_id=odd, user_id=odd)
    await backend.remember(theirs, {"pet": "a dog"})
    await backend.remember(ROBIN, {"pet": "a cat, not a dog"})
    result = await backend.strategy.memories(theirs, "dog")
    assert [found.item.content for found in result.hits] == ["a dog"]
    assert result.hits[0].text_rank == 1


# ---------------------------------------------------------------- what changes


async def test_a_new_slot_is_found_by_the_next_question_and_ranked_like_any_other(backend):
    await backend.remember(ROBIN, SLOTS)
    await backend.store.memories.remember(ROBIN, "sister name", "Marta")
    by_words = await backend.strategy.memories(ROBIN, "what is my sister's name")
    assert labels(by_words)[0] == "sister_name"
    assert by_words.hits[0].vector_rank is None, "its vector is still to come"
    assert by_words.degraded is None, "and that is nothing to report"
    await backend.remember(ROBIN, {"car": "an old Volvo"}, age=JUST_NOW)
    if backend.embedder.dimensions:
        by_meaning = await backend.strategy.memories(ROBIN, "which vehicle do I drive")
        assert labels(by_meaning)[0] == "car"
        assert by_meaning.hits[0].vector_rank == 1
    assert labels(await backend.strategy.memories(ROBIN, "do I have a dog"))[0] == "pet"


async def test_until_mongodb_has_embedded_a_slot_one_word_of_many_finds_it(backend):
    if backend.embedder.dimensions:
        pytest.skip("its vector is there at once")
    await backend.remember(ROBIN, SLOTS, age=JUST_NOW)
    result = await backend.strategy.memories(ROBIN, "anything known on vintage bicycles, tandems, or unicycles")
    assert labels(result) == ["hobby"]


async def test_a_slot_that_was_overwritten_is_found_by_what_it_says_now(backend):
    await backend.remember(ROBIN, SLOTS)
    await backend.store.memories.remember(ROBIN, "pet", "a parrot named Polly")
    result = await backend.strategy.memories(ROBIN, "Polly the parrot")
    assert result.hits[0].item.content == "a parrot named Polly"
    assert "pet" not in labels(await backend.strategy.memories(ROBIN, "golden retriever Biscuit"))


async def test_a_slot_that_was_forgotten_is_not_found(backend):
    await backend.remember(ROBIN, SLOTS)
    await forget(backend.store, ROBIN, ["pet"])
    assert "pet" not in labels(await backend.strategy.memories(ROBIN, "golden retriever Biscuit"))


async def test_a_new_passage_is_found_at_once_and_a_removed_one_is_not(backend):
    await backend.add(SHOP, PASSAGES[:2])
    await backend.add(SHOP, PASSAGES[2:], age=JUST_NOW)
    assert sources(await backend.strategy.knowledge(SHOP, "warranty on headphones"))[0] == "warranty.md"
    await backend.db.knowledge.delete_one({"source": "shipping.md"})
    assert "shipping.md" not in sources(await backend.strategy.knowledge(SHOP, "standard delivery"))


# ---------------------------------------------------------------- what is missing


@pytest.mark.usefixtures("vectors_here")
async def test_without_the_questions_vector_words_still_find_and_the_result_says_so_and_the_log_once(backend, caplog):
    await backend.remember(ROBIN, SLOTS)
    strategy = backend.strategy_with(NoQuestions())
    await strategy.memories(ROBIN, "dog named Biscuit")
    result = await strategy.memories(ROBIN, "dog named Biscuit")
    assert [line.message for line in caplog.records if line.name.startswith("lkmongo.search")] == [
        f"searches of memories are degraded: {result.degraded}"
    ]
    assert labels(result) == ["pet"]
    assert result.hits[0].vector_rank is None
    assert result.degraded == "searched by words alone: Voyage answered 503"


async def test_what_has_no_vector_is_found_by_its_words(backend):
    await backend.remember(ROBIN, SLOTS)
    await backend.remember(ROBIN, {"shoe_size": "forty two"}, embedded=False)
    await backend.add(SHOP, PASSAGES[:2])
    await backend.add(SHOP, PASSAGES[2:], embedded=False)
    slot = await backend.strategy.memories(ROBIN, "shoe size")
    assert (labels(slot)[0], slot.hits[0].vector_rank) == ("shoe_size", None)
    passage = await backend.strategy.knowledge(SHOP, "warranty on headphones")
    assert (sources(passage)[0], passage.hits[0].vector_rank) == ("warranty.md", None)
    assert slot.degraded is passage.degraded is None


async def test_vectors_of_another_model_are_never_compared(backend):
    await backend.remember(ROBIN, {"pet": "a golden retriever"}, embedder=OtherModel())
    await backend.remember(ROBIN, {"job": "nurse"})
    assert labels(await backend.strategy.memories(ROBIN, "do I have a dog")) == []
    by_words = await backend.strategy.memories(ROBIN, "retriever")
    assert [(found.item.memory_type, found.vector_rank) for found in by_words.hits] == [("pet", None)]
    assert f"a vector of another model than {backend.embedder.model} and" in by_words.degraded
    assert "lkmongo db embed" in by_words.degraded


async def test_a_passage_of_another_model_is_found_by_its_words_and_reported(backend):
    await backend.add(SHOP, PASSAGES[:1])
    await backend.add(SHOP, PASSAGES[1:], embedding_model="another@256")
    result = await backend.strategy.knowledge(SHOP, "warranty on headphones")
    assert (sources(result)[0], result.hits[0].vector_rank) == ("warranty.md", None)
    assert "2 " in result.degraded
    assert "another model" in result.degraded


async def test_a_vector_of_the_wrong_length_stops_nothing(backend):
    await backend.remember(ROBIN, SLOTS)
    await backend.insert(
        "memories",
        [
            ROBIN.filter
            | {"memory_type": "shoe_size", "label_words": "shoe size", "content": "forty two", "updated_at": now()}
            | {"embedding": to_bson(np.ones(3, dtype=np.float32)), "embedding_model": backend.embedder.model}
        ],
        wait=False,
    )
    result = await backend.strategy.memories(ROBIN, "shoe size")
    assert (labels(result)[0], result.hits[0].vector_rank) == ("shoe_size", None)
