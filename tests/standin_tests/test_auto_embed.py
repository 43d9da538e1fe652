"""`autoEmbed` indexes: what is accepted, what may be asked, and what is refused or not modelled."""

from __future__ import annotations

import pytest

from tests.standin.errors import UNSUPPORTED
from tests.standin_tests.helpers import VECTOR, built, ids, refused, rows, vector_index, vector_stage

FIELD = {
    "type": "autoEmbed",
    "modality": "text",
    "path": "e",
    "model": "voyage-4-lite",
    "numDimensions": 512,
    "similarity": "cosine",
    "quantization": "float",
}
FILTER = {"type": "filter", "path": "u"}
EMBEDS = {"fields": [FIELD, FILTER]}
REFUSED = 8
"""The code of a definition that cannot be read."""


def without(key):
    return {"fields": [{name: value for name, value in FIELD.items() if name != key}]}


def asking(query, limit=5, **options):
    return {"$vectorSearch": {"index": "v", "path": "e", "query": query, "limit": limit, "exact": True} | options}


@pytest.fixture
async def coll(start, collection):
    """A collection with an index that embeds it."""
    standin = start(profile="atlas_embeds")
    coll = await collection(standin)
    texts = {1: "I have a golden retriever", 2: "my favourite colour is teal", 3: "three to five business days"}
    await coll.insert_many([{"_id": key, "e": text, "u": "a" if key < 3 else "b"} for key, text in texts.items()])
    await coll.insert_many([{"_id": 4, "e": ""}, {"_id": 5, "e": [1.0, 0.0]}, {"_id": 6}])
    await built(standin, coll, vector_index(definition=EMBEDS))
    return coll


async def test_a_text_finds_texts_by_meaning_within_a_filter(coll):
    score = {"$project": {"score": {"$meta": "vectorSearchScore"}}}
    found = await rows(coll, asking({"text": "do you own a dog"}), score)
    assert found[0]["_id"] == 1
    assert sorted(row["_id"] for row in found) == [1, 2, 3], "what has no text is not there, and no error"
    assert found == await rows(coll, asking("do you own a dog"), score), "a string is the same as a document"
    (same,) = await rows(coll, asking("I have a golden retriever", limit=1), score)
    assert same == {"_id": 1, "score": pytest.approx(1.0)}
    assert await ids(coll, asking("do you own a dog", filter={"u": "b"})) == [3]
    assert await ids(coll, asking("do you own a dog", model="voyage-4-large", limit=1)) == [1]


@pytest.mark.parametrize(
    ("stage", "code", "text"),
    [
        (asking(""), 8, "'query' field cannot be empty when querying Automated Embedding index"),
        (asking({}), 8, "'query' field cannot be empty"),
        (asking({"image": "x"}), 8, 'unrecognized field "image"'),
        (asking(7), 8, "query must be a string or document"),
        (asking("dog", model="voyage-3"), 8, "model 'voyage-3' is not allowed"),
        (asking("dog", model="voyage-code-3"), 8, "not compatible with the index model 'voyage-4-lite'"),
        (asking("dog", path="f"), 8, "Path 'f' is not defined in Automated Embedding index 'v'"),
        (asking("dog", filter={"x": 1}), 8, "Path 'x' needs to be indexed as filter"),
        (asking("dog", queryVector=[1.0]), 8, "Exactly one and only one of query and queryVector"),
        (vector_stage([1.0], model="voyage-4"), 8, "model can only be specified when using 'query'"),
        (vector_stage([1.0] * 512), UNSUPPORTED, "a query vector for an autoEmbed index"),
    ],
)
async def test_a_wrong_question_is_refused(coll, stage, code, text):
    await refused(rows(coll, stage), code, text)


async def test_an_index_of_vectors_takes_no_text(start, collection):
    standin = start(profile="atlas_embeds")
    coll = await collection(standin)
    await built(standin, coll, vector_index())
    await refused(rows(coll, asking("dog")), 8, "queryVector must be present")


@pytest.mark.parametrize(
    ("definition", "code", "text"),
    [
        (without("modality"), None, 'fields[0].modality" is required'),
        (without("model"), None, 'fields[0].model" is required'),
        ({"fields": [FIELD | {"modality": "image"}]}, None, "must be 'text'"),
        ({"fields": [FIELD | {"numDimensions": 300}]}, None, "numDimensions"),
        ({"fields": [FIELD | {"quantization": "none"}]}, None, "quantization"),
        ({"fields": [FIELD | {"store": True}]}, None, 'unrecognized field "store"'),
        ({"fields": [FIELD, FILTER | {"path": "e"}]}, None, "path"),
        ({"fields": [FIELD | {"model": "voyage-3"}]}, 2, "not supported: voyage-3. Supported models: voyage-4,"),
        ({"fields": [FIELD, VECTOR["fields"][0] | {"path": "w"}]}, 2, "cannot mix regular vector fields"),
    ],
)
async def test_a_definition_that_cannot_be_is_refused(start, collection, definition, code, text):
    coll = await collection(start(profile="atlas_embeds"))
    refusal = coll.create_search_index(vector_index(definition=definition))
    await refused(refusal, code or REFUSED, text)


async def test_what_is_left_out_has_a_default_and_other_quantizations_are_not_modelled(start, collection):
    standin = start(profile="atlas_embeds")
    coll = await collection(standin)
    await coll.insert_one({"_id": 1, "e": "a dog"})
    bare = {"fields": [{key: FIELD[key] for key in ("type", "modality", "path", "model")}]}
    await built(standin, coll, vector_index(definition=bare))
    assert await ids(coll, asking("a dog")) == [1]
    await built(standin, coll, vector_index("w", {"fields": [FIELD | {"quantization": "scalar"}]}))
    await refused(rows(coll, asking("a dog", index="w")), UNSUPPORTED, "quantized automatic embedding")


async def test_without_an_embedding_service_every_model_is_unknown(start, collection):
    coll = await collection(start())
    text = "CanonicalModel: voyage-4-lite not registered yet, supported models are: []"
    await refused(coll.create_search_index(vector_index(definition=without("numDimensions"))), 8, text)
    text = "not supported: voyage-4-lite. Supported models: none (embedding service not configured)."
    await refused(coll.create_search_index(vector_index(definition=EMBEDS)), 2, text)


async def test_what_is_embedded_cannot_be_updated_but_filters_can(start, collection):
    standin = start(profile="atlas_embeds")
    coll = await collection(standin)
    await built(standin, coll, vector_index(definition=EMBEDS), vector_index("w"))
    other = {"fields": [FIELD | {"model": "voyage-4"}, FILTER]}
    await refused(coll.update_search_index("v", other), 125, "Index: v cannot update type:autoEmbed fields")
    await refused(coll.update_search_index("v", VECTOR), 125, "cannot convert a type:autoEmbed to a type:vector")
    await refused(coll.update_search_index("w", EMBEDS), UNSUPPORTED, "from type 'vector' to type 'autoEmbed'")
    await coll.update_search_index("v", {"fields": [FIELD, FILTER, FILTER | {"path": "t"}]})
    standin.finish_builds()
    assert await ids(coll, asking("dog", filter={"t": "x"})) == []
