"""What MongoDB's search engine accepts, shows and lists can be compared and read, whatever it is."""

from __future__ import annotations

from itertools import product

import pytest

from lkmongo.store.indexes.definitions import differences, search_indexes, type_of
from lkmongo.store.indexes.search_indexes import read_listing
from tests.standin_tests.oracle import DATA

FORMS = [case[form] for case in DATA["definitions"] for form in ("definition", "shown") if form in case]
OURS = [index.definition for index in search_indexes(1024)]
WORDS = {"fields": {"label_words": {"type": "string"}, "content": {"type": "string"}}}
EARLIER = {"mappings": {"fields": WORDS["fields"] | {path: {"type": "token"} for path in ("user_id", "tenant_id")}}}
"""The text index of earlier releases, which the engine was asked about."""


def test_a_definition_can_be_compared_with_any_other_in_whatever_form():
    assert (len(DATA["definitions"]), len(FORMS)) == (48, 90)
    for wanted, case in product([*FORMS, *OURS], DATA["definitions"]):
        as_given = differences(wanted, case["definition"])
        if "shown" in case:
            assert bool(as_given) is bool(differences(wanted, case["shown"])), (wanted, case["label"])


(LISTED,) = [case["reply"]["cursor"]["firstBatch"] for case in DATA["management"] if "cursor" in case["reply"]]


@pytest.mark.parametrize("row", LISTED, ids=lambda row: row["name"])
def test_a_real_listing_is_read(row):
    read = read_listing(row)
    assert "type" not in row, "the engine itself names no type"
    assert read.type == ("search" if row["name"] == "memories_text_index" else "vectorSearch")
    assert (read.status, read.queryable, read.version, read.current) == ("PENDING", False, 0, True)
    assert [differences(read.definition, ours) for ours in [*OURS, EARLIER]].count([]) == 1, "it is one of ours"


def test_a_listing_with_any_definition_is_read():
    for definition in FORMS:
        found = {"status": "READY", "queryable": True, "definition": definition, "definitionVersion": {"version": 1}}
        row = {"name": "i", "status": "READY", "queryable": True, "latestDefinitionVersion": {"version": 1}}
        host = {"hostname": "h", "status": "READY", "queryable": True, "mainIndex": found}
        read = read_listing(row | {"latestDefinition": definition, "statusDetail": [host]})
        assert (read.type, read.definition, read.current) == (type_of(definition), definition, True)
