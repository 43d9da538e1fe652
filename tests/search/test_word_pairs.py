"""What was said in one form of a word is found by another, by the exact search and by the text index alike.

The searches are by words alone: the question has no vector.
"""

from __future__ import annotations

import pytest

from lkmongo.model import UserScope
from tests.search.word_pairs import LOOSE, PAIRS, SIXTEEN, STRANGERS
from tests.search_backends import NoQuestions, open_backend, place


@pytest.fixture(scope="module", params=["exact", "atlas-apart"])
def where(request):
    with place(request.param, request) as made:
        yield made


@pytest.fixture
async def backend(where):
    async with open_backend(where) as made:
        yield made


async def missed_and_mistaken(backend, pairs, strangers=()):
    """The pairs that were not found, and the strangers that were: each was said by one person and asked of them."""
    scope = UserScope(tenant_id="default", user_id="u-100")
    said = [said for said, _ in [*pairs, *strangers]]
    await backend.remember(scope, {f"note_{place}": text for place, text in enumerate(said)}, embedded=False)
    strategy = backend.strategy_with(NoQuestions())
    wrong = []
    for place_, pair in enumerate([*pairs, *strangers]):
        result = await strategy.memories(scope, pair[1], limit=len(said))
        found = said[place_] in {hit.item.content for hit in result.hits}
        if found != (place_ < len(pairs)):
            wrong.append(pair)
    return wrong


async def test_sixteen_forms(backend):
    assert await missed_and_mistaken(backend, SIXTEEN) == []


@pytest.mark.parametrize("language", PAIRS)
async def test_the_forms_of_a_language(backend, language):
    known = [pair for pair in LOOSE if backend.is_atlas and pair in STRANGERS[language]]
    assert await missed_and_mistaken(backend, PAIRS[language], STRANGERS[language]) == known
