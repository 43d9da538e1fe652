"""Definitions of search indexes that mean the same are the same, however they were written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.store.indexes.definitions import (
    KNOWLEDGE_VECTOR,
    LANGUAGES,
    MEMORIES_TEXT,
    MEMORIES_VECTOR,
    Tuning,
    differences,
    keep_tuned,
    search_indexes,
    tuned,
    type_of,
)

_, VECTOR, TEXT = (dict(index.definition) for index in search_indexes(256))
VECTOR_FIELD = VECTOR["fields"][0]
PATHS = ("label_words", "content")

VECTOR_DEFAULTS = {
    "quantization": "none",
    "indexingMethod": "hnsw",
    "hnswOptions": {"maxEdges": 16, "numEdgeCandidates": 100},
}
STRING_DEFAULTS = {
    "indexOptions": "offsets",
    "store": True,
    "norms": "include",
    "similarity": {"type": "bm25"},
}
TEXT_DEFAULTS = {"analyzer": "lucene.standard", "searchAnalyzer": "lucene.standard", "synonyms": []}
SHARED_DEFAULTS = {"numPartitions": 1, "storedSource": False}
TUNED_BY_HAND = {
    "quantization": "scalar",
    "hnswOptions": {"maxEdges": 32, "numEdgeCandidates": 400},
    "engine": "custom",
}
SHARED_BY_HAND = {"numPartitions": 4, "storedSource": {"include": ["content"]}}
OF_THE_SERVICE = {
    "name": "x",
    "database": "db",
    "collectionName": "c",
    "lastObservedCollectionName": "c",
    "indexID": "6b0b8b0bad2abd789cca4f81",
    "collectionUUID": "eb6c40ca-f25e-47e8-b48c-02a05b64a5aa",
    "type": "vectorSearch",
    "definitionVersion": 3,
    "indexFeatureVersion": 2,
}
"""Keys of the form that the service keeps, which it lists where it has no other."""
ORACLE = json.loads(gzip.decompress((Path(__file__).parents[2] / "data" / "mongot.json.gz").read_bytes()))


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
        path: way | added | {"multi": {name: each | added for name, each in way["multi"].items()}}
        if way["type"] == "string"
        else way | ({"normalizer": "none"} if added else {})
        for path, way in fields
    }
    mappings = {"fields": {p: [w] if in_lists else w for p, w in written.items()}}  # dynamic left out
    found = {"mappings": mappings, "analyzers": TEXT["analyzers"][::-1]} | top
    assert differences(TEXT, found) == differences(found, TEXT) == []


def with_vector(**changes):
    return {"fields": [VECTOR_FIELD | changes, *VECTOR["fields"][1:]]}


def with_mapping(**fields):
    return TEXT | {"mappings": {"dynamic": False, "fields": TEXT["mappings"]["fields"] | fields}}


def with_content(**changes):
    return with_mapping(content=TEXT["mappings"]["fields"]["content"] | changes)


BEFORE_STEMMING = {"mappings": {"fields": TEXT["mappings"]["fields"] | {path: {"type": "string"} for path in PATHS}}}
"""The text index of earlier releases, which `lucene.standard` cut into words."""
OTHER_STEMMER = [{**TEXT["analyzers"][0], "tokenFilters": [{"type": "porterStemming"}]}, *TEXT["analyzers"][1:]]
STEMMED = "standard, englishPossessive, icuFolding, snowballStemming english"
MULTI = "de, es, fr, it, joined (analyzer joined, searchAnalyzer en), nl, pt, ru"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (with_vector(numDimensions=512), ["fields.embedding.numDimensions is 512, should be 256"]),
        (with_vector(similarity="euclidean"), ["fields.embedding.similarity is euclidean, should be cosine"]),
        ({"fields": VECTOR["fields"][:2]}, ["fields.tenant_id.type is missing, should be filter"]),
        (
            {"fields": [*VECTOR["fields"], {"type": "filter", "path": "kind"}]},
            ["fields.kind.type is filter, should not be there"],
        ),
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
            with_content(analyzer="lucene.english"),
            ["mappings.fields.content.analyzer is lucene.english, should be en"],
        ),
        (
            with_content(multi={"joined": {"type": "string", "store": False}}),
            [f"mappings.fields.content.multi is joined (store False), should be {MULTI}"],
        ),
        (
            BEFORE_STEMMING,
            [
                "the analyzers en, joined, nl, fr, de, it, pt, ru, es are missing",
                *(
                    f"mappings.fields.{path}.{which} is missing, should be {should}"
                    for path in PATHS
                    for which, should in (("multi", MULTI), ("analyzer", "en"))
                ),
            ],
        ),
        (
            TEXT | {"analyzers": OTHER_STEMMER},
            [
                f"analyzers.en is standard, porterStemming, should be {STEMMED}",
            ],
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


@pytest.mark.parametrize("case", ORACLE["definitions"], ids=lambda case: case["label"])
def test_the_real_form_of_a_definition_is_no_drift(case):
    given, shown = case["definition"], case.get("shown")
    if shown is not None:
        assert differences(given, shown) == differences(shown, given) == []
        assert {type_of(given), type_of(shown)} == {case["type"]}
    else:
        assert case["error"]
    for wanted in (VECTOR, TEXT):
        assert differences(wanted, given) is not None, "whatever there is can be compared"


@given(some_of(TUNED_BY_HAND), some_of(SHARED_BY_HAND), some_of(OF_THE_SERVICE), st.booleans())
def test_what_was_tuned_by_hand_is_left_alone_and_kept_by_an_update(field, top, own, flat):
    by_hand = {"indexingMethod": "flat", "quantization": "binary"} if flat else field
    found = with_vector(numDimensions=512, **by_hand) | top | own
    assert differences(VECTOR, found) == ["fields.embedding.numDimensions is 512, should be 256"]
    (vector,) = [index for index in search_indexes(256) if index.name == MEMORIES_VECTOR]
    kept = keep_tuned(vector, found).definition
    assert kept == with_vector(**by_hand) | top
    assert differences(kept, found) == ["fields.embedding.numDimensions is 512, should be 256"]
    assert tuned(kept) == tuned(found)


def test_what_was_tuned_by_hand_in_a_text_index_is_left_alone():
    found = TEXT | {"storedSource": True, "numPartitions": 2, "sort": {"content": 1}}
    assert differences(TEXT, found) == []
    (text,) = [index for index in search_indexes(256) if index.name == MEMORIES_TEXT]
    assert keep_tuned(text, found).definition == found
    assert keep_tuned(text, TEXT) is text


@pytest.mark.parametrize(
    ("tuning", "name", "found", "said"),
    [
        (Tuning("scalar"), KNOWLEDGE_VECTOR, {}, "quantization is missing, should be scalar"),
        (Tuning("scalar"), KNOWLEDGE_VECTOR, {"quantization": "binary"}, "quantization is binary, should be scalar"),
        (Tuning("none"), KNOWLEDGE_VECTOR, {"quantization": "scalar"}, "quantization is scalar, should be none"),
        (Tuning("none"), KNOWLEDGE_VECTOR, {}, None),
        (Tuning("scalar"), MEMORIES_VECTOR, {}, None),
        (Tuning(None, "flat"), MEMORIES_VECTOR, {}, "indexingMethod is missing, should be flat"),
        (Tuning(None, "hnsw"), MEMORIES_VECTOR, {"indexingMethod": "flat"}, "indexingMethod is flat, should be hnsw"),
        (Tuning(None, "flat"), KNOWLEDGE_VECTOR, {}, None),
    ],
)
def test_what_a_setting_decides_is_put_right(tuning, name, found, said):
    plain, decided = (
        next(index for index in search_indexes(256, "cosine", each) if index.name == name) for each in (None, tuning)
    )
    vector, *filters = plain.definition["fields"]
    there = {"fields": [vector | found, *filters]}
    assert differences(decided.definition, there) == ([f"fields.embedding.{said}"] if said else [])
    assert keep_tuned(decided, there).definition["fields"][0] == there["fields"][0] | decided.definition["fields"][0]


def test_an_index_without_a_graph_keeps_no_options_of_one():
    flat = next(each for each in search_indexes(256, "cosine", Tuning(None, "flat")) if each.name == MEMORIES_VECTOR)
    kept = keep_tuned(flat, with_vector(hnswOptions={"maxEdges": 32}, quantization="scalar")).definition["fields"][0]
    assert (kept["indexingMethod"], kept["quantization"]) == ("flat", "scalar")
    assert "hnswOptions" not in kept, "the service refuses both"


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
    assert {path for path, way in mapped.items() if way["type"] == "string"} == set(PATHS)


def test_a_small_cluster_takes_the_text_index():
    """An index definition has at most 3 KB of JSON and 300 fields there (MongoDB Search documentation)."""
    assert len(json.dumps(TEXT)) <= 3 * 1024
    assert sum(1 + len(way.get("multi", ())) for way in TEXT["mappings"]["fields"].values()) <= 300


def test_the_text_index_stems_every_language_that_the_exact_search_knows():
    stemmers = {each["name"]: each["tokenFilters"] for each in TEXT["analyzers"]}
    for code, name in LANGUAGES.items():
        assert {"type": "snowballStemming", "stemmerName": name} in stemmers[code]
