"""Which embedder the settings name, and what is wrong with those that name none."""

from __future__ import annotations

import pytest

from lkmongo.embed.choose import create_embedder, embedder_for
from lkmongo.embed.voyage import VOYAGE_MODELS, check_model
from lkmongo.errors import InvalidTextError, SettingsError
from lkmongo.settings import Settings

OLLAMA = {"LKMONGO_EMBEDDING_BASE_URL": "http://localhost:11434/v1", "LKMONGO_EMBEDDING_MODEL": "nomic-embed-text"}


def voyage(model="voyage-4-lite", dimensions=512, **more):
    return create_embedder("voyage", model=model, dimensions=dimensions, **{"voyage_key": "pa-key"} | more)


def test_local_needs_no_key_and_ignores_the_voyage_settings():
    embedder = create_embedder("local", model="nonsense", dimensions=7)
    assert embedder.dimensions == 256
    assert embedder.model.endswith("@256")


@pytest.mark.parametrize("model", VOYAGE_MODELS)
def test_every_known_model_can_be_made(model):
    for dimensions in VOYAGE_MODELS[model].dimensions:
        assert voyage(model, dimensions).dimensions == dimensions


def test_the_recorded_name_is_the_same_exactly_when_vectors_can_be_compared():
    names = {(name, d): voyage(name, d).model for name, model in VOYAGE_MODELS.items() for d in model.dimensions}
    family = {"voyage-4", "voyage-4-lite", "voyage-4-large"}
    for (one, d1), name1 in names.items():
        for (other, d2), name2 in names.items():
            comparable = d1 == d2 and (one == other or {one, other} <= family)
            assert (name1 == name2) == comparable, (one, d1, other, d2)
    assert create_embedder("local").model not in names.values()


@pytest.mark.parametrize("key", [None, "", "  "])
def test_without_a_key_the_variable_is_named(key):
    with pytest.raises(SettingsError, match="VOYAGE_API_KEY is missing"):
        voyage(voyage_key=key)


def test_a_key_that_cannot_be_one_is_not_echoed():
    with pytest.raises(SettingsError, match="VOYAGE_API_KEY holds a character") as caught:
        voyage(voyage_key="pa-sec\u200bret")
    assert "ret" not in str(caught.value) + str(caught.value.hint)


async def test_where_mongodb_embeds_there_is_neither_a_key_nor_a_vector():
    embedder = create_embedder("atlas", model="voyage-4", dimensions=1024)
    assert (embedder.model, embedder.dimensions) == ("atlas", 0)
    assert (await embedder.embed(["a", "b"], kind="document")).shape == (2, 0)
    batches = [vectors.shape async for vectors in embedder.embed_many(["text"] * 1200)]
    assert batches == [(500, 0), (500, 0), (200, 0)]
    with pytest.raises(InvalidTextError):
        await embedder.embed([" "], kind="query")
    with pytest.raises(SettingsError, match="voyage-4 does not have 300 dimensions"):
        create_embedder("atlas", model="voyage-4", dimensions=300)


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(SettingsError, match="no Voyage model 'voyage4-lite'") as caught:
        check_model("voyage4-lite", 512)
    assert "did you mean voyage-4-lite?" in caught.value.hint


def test_wrong_dimensions_are_answered_with_the_right_ones():
    with pytest.raises(SettingsError, match="voyage-4-lite does not have 300 dimensions") as caught:
        check_model("voyage-4-lite", 300)
    assert caught.value.hint == "it has 256, 512, 1024, 2048"


def test_an_address_must_be_one():
    with pytest.raises(SettingsError, match="VOYAGE_BASE_URL must begin with"):
        voyage(voyage_base_url="ai.mongodb.com/v1")


def test_the_default_model_and_dimensions_are_voyages():
    made = embedder_for(Settings.load({"VOYAGE_API_KEY": "pa-key"}))
    assert (made.model, made.dimensions) == ("voyage-4-family@512", 512)
    law = {"VOYAGE_API_KEY": "pa-key", "LKMONGO_EMBEDDING_MODEL": "voyage-law-2"}
    assert embedder_for(Settings.load(law)).dimensions == 1024


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({}, "local"),
        ({"VOYAGE_API_KEY": "pa-key"}, "voyage"),
        (OLLAMA, "openai"),
        (OLLAMA | {"VOYAGE_API_KEY": "pa-key"}, "openai"),
        (OLLAMA | {"VOYAGE_API_KEY": "pa-key", "LKMONGO_EMBEDDINGS": "voyage"}, "voyage"),
        (OLLAMA | {"LKMONGO_EMBEDDINGS": "local"}, "local"),
    ],
)
def test_an_address_or_a_key_names_the_embedder_unless_it_is_named(environ, kind):
    assert Settings.load(environ).embedder_kind == kind


def test_a_server_is_used_as_its_settings_say():
    own = OLLAMA | {
        "LKMONGO_EMBEDDING_DIMENSIONS": "256",
        "LKMONGO_EMBEDDING_DOCUMENT_PREFIX": "passage:",
        "LKMONGO_EMBEDDING_QUERY_PREFIX": "none",
    }
    assert embedder_for(Settings.load(own)).model == 'openai:nomic-embed-text@256 "passage: "'
    assert embedder_for(Settings.load(OLLAMA)).model == 'openai:nomic-embed-text@768 "search_document: "'
    assert Settings.load(own).embedding_query_prefix == ""
    kept = Settings.load(OLLAMA).override(embedding_query_prefix="Instruct: x\nQuery: ")
    assert kept.embedding_query_prefix == "Instruct: x\nQuery: "


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"LKMONGO_EMBEDDINGS": "openai"}, "LKMONGO_EMBEDDING_BASE_URL is not set"),
        ({"LKMONGO_EMBEDDING_API_KEY": "sk-1"}, "LKMONGO_EMBEDDING_API_KEY is set, but LKMONGO_EMBEDDING_BASE_URL"),
        ({"LKMONGO_EMBEDDING_BASE_URL": "http://localhost:1/v1"}, "LKMONGO_EMBEDDING_MODEL is not set"),
        (
            OLLAMA | {"LKMONGO_EMBEDDING_MODEL": "own"},
            "LKMONGO_EMBEDDING_DIMENSIONS is not set, and the length of own's",
        ),
    ],
)
def test_what_a_server_needs_is_named(environ, said):
    with pytest.raises(SettingsError, match=said) as caught:
        embedder_for(Settings.load(environ))
    assert caught.value.hint
