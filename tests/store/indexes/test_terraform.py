"""The search indexes as a Terraform module: what it says is the definition that `db indexes` would apply."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from lkmongo.errors import NotSupportedError
from lkmongo.store.indexes.definitions import SearchIndex, search_indexes
from lkmongo.store.indexes.terraform import search_index_module
from tests import hcl

PROJECT = {("var", "project_id"): "0123456789abcdef01234567", ("var", "cluster_name"): "calls"}
WORDS = SearchIndex(
    "memories",
    "words of people",
    "search",
    {
        "analyzer": "words",
        "searchAnalyzer": "lucene.standard",
        "analyzers": [
            {
                "name": "words",
                "charFilters": [{"type": "mapping", "mappings": {"\\": "/", "a.b": "${x} %{y} $${z}", "-": '"'}}],
                "tokenizer": {"type": "standard", "maxTokenLength": 255},
                "tokenFilters": [{"type": "icuFolding"}, {"type": "stopword", "tokens": ["é", "\n\t\x08", "😀"]}],
            }
        ],
        "mappings": {
            "dynamic": {"typeSet": "ours"},
            "fields": {
                "content": [
                    {"type": "string", "multi": {"de": {"type": "string", "analyzer": "lucene.german"}}},
                    {"type": "token", "normalizer": "none"},
                ],
                "with space": {"type": "string", "norms": None},
                "nothing": {},
                "nested": {"type": "document", "dynamic": False, "fields": {"weight": {"type": "number", "x": 1.5}}},
            },
        },
        "storedSource": {"include": ["content", "tenant_id"]},
        "numPartitions": 2,
    },
    (),
)
VECTOR = SearchIndex(
    "knowledge",
    "embedded_by_the_server",
    "vectorSearch",
    {
        "fields": [
            {"type": "autoEmbed", "path": "content", "model": "voyage-4-lite", "modality": "text"},
            {"type": "vector", "path": "v", "numDimensions": 512, "hnswOptions": {"maxEdges": 32}},
            {"type": "filter", "path": "tenant_id"},
        ],
        "storedSource": True,
    },
    (),
)
ALL = [*search_indexes(512), WORDS, VECTOR]


def read(text: str) -> list[SearchIndex]:
    """The indexes that a module creates in project and cluster of `PROJECT`."""
    found = []
    for block in hcl.parse(text).blocks:
        if block.kind == "resource":
            assert block.labels[0] == "mongodbatlas_search_index"
            said = hcl.evaluate(block.attributes, PROJECT)
            assert not block.blocks
            assert said.pop("project_id") == PROJECT["var", "project_id"]
            assert said.pop("cluster_name") == PROJECT["var", "cluster_name"]
            assert said.pop("database") == "calls"
            assert said.pop("wait_for_index_build_completion") is True
            named = (said.pop("collection_name"), said.pop("name"), said.pop("type"))
            found.append(SearchIndex(*named, definition_of(said), ()))
    return found


def definition_of(said: dict[str, object]) -> dict[str, object]:
    """The definition that the provider makes of a resource's attributes (its `resource_search_index.go`)."""
    names = {"search_analyzer": "searchAnalyzer", "num_partitions": "numPartitions", "stored_source": "storedSource"}
    definition: dict[str, object] = {}
    mappings: dict[str, object] = {}
    for name, value in said.items():
        as_json = name in {"fields", "analyzers", "stored_source", "mappings_fields", "mappings_dynamic_config"}
        plain = json.loads(str(value)) if as_json else value
        if name.startswith("mappings_"):
            mappings[name.removeprefix("mappings_").removesuffix("_config")] = plain
        else:
            definition[names.get(name, name)] = plain
    return definition | ({"mappings": mappings} if mappings else {})


@pytest.mark.parametrize("index", ALL, ids=lambda index: index.name)
def test_a_resource_says_what_the_definition_does(index):
    (found,) = read(search_index_module([index], "calls"))
    assert (found.collection, found.name, found.type) == (index.collection, index.name, index.type)
    assert found.definition == index.definition


def test_the_module_has_its_provider_its_variables_and_a_resource_for_each_index():
    module = hcl.parse(search_index_module(ALL, "calls"))
    source = module.named("terraform").named("required_providers").attributes["mongodbatlas"]["source"]
    assert source == "mongodb/mongodbatlas"
    assert {each.labels[0] for each in module.blocks if each.kind == "variable"} == {"project_id", "cluster_name"}
    labels = [each.labels[1] for each in module.blocks if each.kind == "resource"]
    assert labels == [index.name.replace(" ", "_") for index in ALL]


@pytest.mark.parametrize("definition", [{"synonyms": []}, {"mappings": {"dynamic": True, "later": 1}}])
def test_what_the_provider_has_no_attribute_for_is_refused_and_named(definition):
    with pytest.raises(NotSupportedError) as caught:
        search_index_module([SearchIndex("memories", "mine", "search", definition, ())], "calls")
    name = "synonyms" if "synonyms" in definition else "mappings.later"
    assert caught.value.why == f"mongodbatlas_search_index has no attribute for {name}"


@pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not on PATH")
def test_terraform_would_leave_it_as_it_is(tmp_path):
    (tmp_path / "main.tf").write_text(search_index_module(ALL, "calls"), encoding="utf-8")
    checked = subprocess.run(
        ["terraform", "fmt", "-check", "-diff"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr
