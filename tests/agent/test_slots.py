"""A person's memory slots as they are found in a session."""

from __future__ import annotations

import pytest

from lkmongo.agent.slots import Slots, existing_label
from lkmongo.embed.local import LocalEmbedder
from lkmongo.errors import AuthenticationError
from lkmongo.model import Fact


class Watched(LocalEmbedder):
    def __init__(self):
        self.asked = []

    async def embed(self, texts, *, kind, deadline=None):
        if kind == "query":
            self.asked += texts
        return await super().embed(texts, kind=kind, deadline=deadline)


@pytest.fixture
async def slots():
    embedder = Watched()
    slots = Slots(embedder)
    memories = [Fact("favorite_color", "teal"), Fact("color_of_the_car", "red"), Fact("dog", "Rex, a poodle")]
    slots.replace_all({memory.memory_type: memory for memory in memories})
    for memory, vector in zip(
        memories, await embedder.embed([m.embedded_text for m in memories], kind="document"), strict=True
    ):
        slots.add_vector(memory, vector)
    return slots


async def found(slots, query, limit=5):
    return [memory.memory_type for memory in await slots.search(query, limit)]


async def test_who_names_a_label_gets_its_slot_first_and_without_a_vector(slots):
    assert (await found(slots, "Favorite color"))[0] == "favorite_color"
    assert (await found(slots, "dog", 1)) == ["dog"]
    assert slots._embedder.asked == []


async def test_other_questions_are_compared_by_meaning(slots):
    assert (await found(slots, "which pet do I have"))[0] == "dog"
    assert slots._embedder.asked == ["which pet do I have"]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ("favorite_color", "favourite_colour"),
        ("favourite_colour", "favorite_color"),
        ("city_centre", "city_center"),
        ("grey_cat", "gray_cat"),
        ("neighbour_name", "neighbor_name"),
    ],
)
async def test_a_label_in_another_spelling_is_the_one_that_is_there(slots, there, said):
    slots.replace_all({there: Fact(there, "x")})
    assert existing_label(said, slots.all) == there
    assert existing_label(there, slots.all) == there


@pytest.mark.parametrize("name", ["hour", "phone_2", "favorite_band", "four", "tour", "house_number"])
async def test_a_label_that_only_looks_alike_is_another_one(slots, name):
    for other in ("her", "phone_1", "favorite_brand", "for", "tor", "horse_number"):
        slots.put(Fact(other, "x"))
    assert existing_label(name, slots.all) == name


async def test_a_query_that_can_be_no_label_is_a_question_like_others(slots):
    await found(slots, "?!")
    await found(slots, "favorite color " * 20)
    assert len(slots._embedder.asked) == 2


async def test_a_vector_that_is_refused_is_told_once_as_long_as_that_lasts(slots, caplog):
    class Refuses(Watched):
        async def embed(self, texts, *, kind, deadline=None):
            raise AuthenticationError("Voyage refused the API key")

    works, slots._embedder = slots._embedder, Refuses()
    assert (await found(slots, "which poodle do I have"))[0] == "dog"
    await found(slots, "which car do I have")
    slots._embedder = works
    await found(slots, "which pet do I have")
    slots._embedder = Refuses()
    await found(slots, "which poodle is mine")
    told = [line.message for line in caplog.records if line.levelname == "WARNING"]
    assert told == ["searching memories by words alone: Voyage refused the API key (None)"] * 2


async def test_words_are_taken_to_be_in_the_language_of_the_profile(slots):
    slots.clear()
    slots.replace_all({"home": Fact("home", "zwei H\u00e4user")})
    assert await found(slots, "welches Haus") == []
    slots.speak("Deutsch")
    assert await found(slots, "welches Haus") == ["home"]
    slots.speak(None)
    assert await found(slots, "welches Haus") == []
