"""Definitions of search indexes that mean the same are the same, however they were written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.store.indexes.definitions import MEMORIES_TEXT, MEMORIES_VECTOR, differences, search_indexes, type_of

_, VECTOR, TEXT = (dict(index.definition) for index in search_indexes(256))
VECTOR_FIELD = VECTOR["fields"][0]

VECTOR_DEFAULTS = {
    "quantization": "none",
    "indexingMethod": "hnsw",
    "hnswOptions": {"maxEdges": 16, "numEdgeCandidates": 100},
}
STRING_DEFAULTS = {"analyzer": "lucene.standard", "indexOptions": "offsets", "store": True, "norms": "include"}
TEXT_DEFAULTS = {"analyzer": "lucene.standard", "searchAnalyzer": "lucene.standard", "analyzers": [], "synonyms": []}
SHARED_DEFAULTS = {"numPartitions": 1, "storedSource": False}


def some_of(defaults):
    return st.sets(st.sampled_from(sorted(defaults))).map(lambda keys: {key: defaults[key] for key in keys})


@given(st.permutations(VECTOR["fields"]), some_of(VECTOR_DEFAULTS), some_of(SHARED_DEFAULTS), st.booleans())
def test_the_order_of_fields_and_defaults_written_out_make_no_difference(fields, added, top, as_float):
    length = {"numDimensions": 256.0} if as_float else {}
    rewritten = [field | added | length if field["type"] == "vector" else field for field in fields]
    found = {"fields": rewritten} | top
    assert differences(VECTOR, found) == differences(found, VECTOR) == []


@given(
    st.permutations(list(TEXT["mappings"]["fields"].items())),
    some_of(STRING_DEFAULTS),
    some_of(TEXT_DEFAULTS | SHARED_DEFAULTS),
    st.booleans(),
)
def test_mappings_are_compared_by_what_they_mean(fields, added, top, in_lists):
    written = {
        path: way | (added if way["type"] == "string" else {"normalizer": "none"} if added else {})
        for path, way in fields
    }
    found = {"mappings": {"fields": {p: [w] if in_lists else w for p, w in written.items()}}} | top  # dynamic left out
    assert differences(TEXT, found) == differences(found, TEXT) == []


def with_vector(**changes):
    return {"fields": [VECTOR_FIELD | changes, *VECTOR["fields"][1:]]}


def with_mapping(**fields):
    return {"mappings": {"dynamic": False, "fields": TEXT["mappings"]["fields"] | fields}}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (with_vector(numDimensions=512), ["fields.embedding.numDimensions is 512, should be 256"]),
        (with_vector(similarity="euclidean"), ["fields.embedding.similarity is euclidean, should be cosine"]),
        (with_vector(quantization="scalar"), ["fields.embedding.quantization is scalar, should be none"]),
        (
            with_vector(hnswOptions={"maxEdges": 32}),
            ["fields.embedding.hnswOptions.maxEdges is 32, should be 16"],
        ),
        ({"fields": VECTOR["fields"][:2]}, ["fields.tenant_id.type is missing, should be filter"]),
        (
            {"fields": [*VECTOR["fields"], {"type": "filter", "path": "kind"}]},
            ["fields.kind.type is filter, should not be there"],
        ),
        (VECTOR | {"numPartitions": 2}, ["numPartitions is 2, should be 1"]),
    ],
)
def test_what_differs_in_a_vector_index_is_named(found, said):
    assert differences(VECTOR, found) == said


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (with_mapping(user_id={"type": "string"}), ["mappings.fields.user_id.type is string, should be token"]),
        (
            with_mapping(user_id=[{"type": "string"}, {"type": "token"}]),
            ["mappings.fields.user_id.type is string and token, should be token"],
        ),
        (
            with_mapping(content={"type": "string", "analyzer": "lucene.english"}),
            ["mappings.fields.content.analyzer is lucene.english, should be lucene.standard"],
        ),
        (
            with_mapping(place={"type": "document", "fields": {"city": {"type": "string"}}}),
            [
                "mappings.fields.place.type is document, should not be there",
                "mappings.fields.place.fields.city.type is string, should not be there",
            ],
        ),
        (
            TEXT | {"mappings": TEXT["mappings"] | {"dynamic": True}},
            ["mappings.dynamic is True, should be False"],
        ),
        (TEXT | {"analyzer": "lucene.english"}, ["analyzer is lucene.english, should be lucene.standard"]),
        (
            TEXT | {"synonyms": [{"name": "s", "analyzer": "lucene.standard", "source": {"collection": "c"}}]},
            ["synonyms.s.source.collection is c, should not be there"],
        ),
    ],
)
def test_what_differs_in_a_text_index_is_named(found, said):
    assert differences(TEXT, found) == said


def test_ways_in_which_a_path_is_mapped_are_compared_in_any_order():
    one = with_mapping(title=[{"type": "token"}, {"type": "string", "analyzer": "lucene.english"}])
    other = with_mapping(title=[{"type": "string", "analyzer": "lucene.english"}, {"type": "token"}])
    assert differences(one, other) == []
    third = with_mapping(title=[{"type": "string", "analyzer": "lucene.french"}, {"type": "token"}])
    assert differences(one, third) == [
        "mappings.fields.title.string.analyzer is lucene.french, should be lucene.english"
    ]


def test_the_type_of_an_index_shows_in_its_definition():
    assert {index.name: type_of(index.definition) for index in search_indexes(8)} == {
        index.name: index.type for index in search_indexes(8)
    }


def test_every_index_can_tell_apart_whose_documents_it_has():
    indexes = {index.name: index for index in search_indexes(512, "dotProduct")}
    vector = indexes[MEMORIES_VECTOR].definition["fields"]
    assert vector[0] | {"numDimensions": 512, "similarity": "dotProduct"} == vector[0]
    assert {field["path"] for field in vector[1:] if field["type"] == "filter"} == {"user_id", "tenant_id"}
    mapped = indexes[MEMORIES_TEXT].definition["mappings"]["fields"]
    assert {path for path, way in mapped.items() if way == {"type": "token"}} == {"user_id", "tenant_id"}
    assert {path for path, way in mapped.items() if way == {"type": "string"}} == {"label_words", "content"}
