"""The stand-in answers as MongoDB's search engine does: every recorded case, over the wire.

Hits have to be the same, scores within a millionth; refusals have the code and the words. What differs is listed in
`oracle.DIFFERENCES`, and nothing is listed there that does not differ.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from tests.standin import Standin
from tests.standin.analysis import analyze
from tests.standin_tests.oracle import DATA, DIFFERENCES

_CLOSE = 1e-6


@pytest.fixture(scope="module")
def standin(mongodb_uri: str) -> Iterator[Standin]:
    with Standin.before(mongodb_uri, profile="community", clock="virtual", build_seconds=4.0) as running:
        yield running


@pytest.fixture(scope="module")
def db(standin: Standin) -> Iterator[Database[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](standin.uri) as client:
        yield client[f"t{uuid4().hex[:12]}"]


def agree(differing: dict[str, str], group: str) -> None:
    """Exactly the listed cases of a group differ."""
    listed = {name for name in DIFFERENCES if name.startswith(f"{group} ")}
    unknown = [f"{name}: {what}" for name, what in differing.items() if name not in listed]
    assert not unknown, "\n".join(["the stand-in answers otherwise:", *unknown])
    assert not listed - differing.keys(), "these are listed and do not differ"


def command(db: Database[dict[str, Any]], document: dict[str, Any]) -> dict[str, Any]:
    """The reply, also of a command that fails."""
    try:
        return db.command(document)
    except OperationFailure as error:
        return dict(error.details or {})


def searched(db: Database[dict[str, Any]], name: str, stage: dict[str, Any], meta: str) -> dict[str, Any]:
    """The hits of a search with their scores, or the error."""
    project = {"$project": {"_id": 1, "score": {"$meta": meta}}}
    reply = command(db, {"aggregate": name, "pipeline": [stage, project], "cursor": {"batchSize": 1000}})
    if not reply.get("ok"):
        return {"error": reply["errmsg"]}
    return {"hits": [[row["_id"], row["score"]] for row in reply["cursor"]["firstBatch"]]}


def compared(want: dict[str, Any], have: dict[str, Any]) -> str | None:
    """How two answers to a search differ, or None."""
    if "error" in want or "error" in have:
        same = have.get("error", "").endswith(want.get("error", "nothing is wrong"))
        return None if same else f"{want.get('error') or 'hits'!r} became {have.get('error') or have!r}"
    there, here = dict(want["hits"]), dict(have["hits"])
    if there.keys() != here.keys():
        return f"lacks {sorted(there.keys() - here.keys())}, has {sorted(here.keys() - there.keys())} besides"
    off = {id_: (there[id_], here[id_]) for id_ in there if not math.isclose(there[id_], here[id_], rel_tol=_CLOSE)}
    if off:
        return f"{len(off)} scores are others: {off}"
    scores = [score for _, score in have["hits"]]
    return None if scores == sorted(scores, reverse=True) else "the best does not come first"


def filled(standin: Standin, db: Database[dict[str, Any]], name: str, kind: str, case: dict[str, Any]) -> None:
    """A collection with the documents and the index of some recorded searches."""
    db[name].insert_many(case["documents"])
    index = {"name": name, "type": kind, "definition": case["definition"]}
    assert command(db, {"createSearchIndexes": name, "indexes": [index]})["ok"]
    standin.finish_builds()


def test_few_answers_may_differ_and_each_for_a_reason():
    assert len(DIFFERENCES) < 20
    assert all(len(reason) > 20 for reason in DIFFERENCES.values())
    groups = {name.split()[0] for name in DIFFERENCES}
    assert groups <= {"tokens", "text0", "text1", "vector0", "vector1", "definition", "management"}


def test_text_is_cut_into_the_same_words():
    cases = {f"tokens {number}": case for number, case in enumerate(DATA["analysis"])}
    assert len(cases) == 66
    found = {name: analyze(case["text"]) for name, case in cases.items()}
    differing = {
        name: f"{found[name]}, not {case['tokens']}" for name, case in cases.items() if found[name] != case["tokens"]
    }
    agree(differing, "tokens")


@pytest.mark.parametrize(("number", "count"), [(0, 397), (1, 45)], ids=["operators", "memories"])
def test_a_text_search_finds_the_same(standin, db, number, count):
    case, name = DATA["search"][number], f"text{number}"
    filled(standin, db, name, "search", case)
    assert len(case["queries"]) == count
    differing = {}
    for at, query in enumerate(case["queries"]):
        have = searched(db, name, {"$search": query["query"] | {"index": name}}, "searchScore")
        if why := compared(query, have):
            differing[f"{name} {at}"] = f"{why} for {query['query']}"
    agree(differing, name)


@pytest.mark.parametrize(("number", "count"), [(0, 171), (1, 8)], ids=["filters", "memories"])
def test_a_vector_search_finds_the_same(standin, db, number, count):
    case, name = DATA["vector"][number], f"vector{number}"
    filled(standin, db, name, "vectorSearch", case)
    assert len(case["queries"]) == count
    everything = {"path": "embedding", "queryVector": [1.0, 0.0], "limit": 1000, "exact": True}
    differing = {}
    for at, query in enumerate(case["queries"]):
        wanted = query.get("query") or everything | {"filter": query["filter"]}
        have = searched(db, name, {"$vectorSearch": wanted | {"index": name}}, "vectorSearchScore")
        if why := compared(query, have):
            differing[f"{name} {at}"] = f"{why} for {query.get('filter')}"
    agree(differing, name)


def test_a_definition_is_shown_or_refused_alike(db):
    db.create_collection("definitions")
    cases = {f"definition {at} {case['label']}": case for at, case in enumerate(DATA["definitions"])}
    assert len(cases) == 48
    refused = {}
    for name, case in cases.items():
        index = {"name": name, "type": case["type"], "definition": case["definition"]}
        reply = command(db, {"createSearchIndexes": "definitions", "indexes": [index]})
        if not reply["ok"]:
            refused[name] = reply["errmsg"].replace("userCommand.indexes[0].", "")
    listing = command(db, {"aggregate": "definitions", "pipeline": [{"$listSearchIndexes": {}}], "cursor": {}})
    shown = {}
    for index in listing["cursor"]["firstBatch"]:
        assert index["latestDefinition"] == cases[index["name"]]["definition"]
        shown[index["name"]] = index["statusDetail"][0]["mainIndex"]["definition"]
    differing = {}
    for name, case in cases.items():
        want, have = case.get("shown") or case["error"], shown.get(name) or refused[name]
        if want != have:
            differing[name] = f"{have}, not {want}"
    agree(differing, "definition")


def test_management_commands_are_answered_alike(db):
    db.create_collection("coll")
    assert len(DATA["management"]) == 18
    differing = {}
    for at, case in enumerate(DATA["management"]):
        asked = dict(case["command"])
        if asked.pop("listSearchIndexes", None):
            asked = {"aggregate": "coll", "pipeline": [{"$listSearchIndexes": asked}], "cursor": {}}
        want, have = _said(case["reply"]), _said(command(db, asked))
        if want != have:
            differing[f"management {at}"] = f"{have}, not {want}, for {case['command']}"
    agree(differing, "management")


def _said(reply: dict[str, Any]) -> Any:
    """A reply of a management command without what is random in it: ids, dates, the database, the nodes.

    A refusal that has no code gets one of the server's, and in a pipeline the server's words before its own.
    """
    for key, text in reply.items():
        if key.startswith("thrown"):
            return 8, text
    if not reply["ok"]:
        text = re.sub(r"[0-9a-f]{24}", "<id>", reply["errmsg"].rsplit(" :: ", 1)[-1])
        return reply["code"], re.sub(r"t[0-9a-f]{12}\.|db\.", "", text)
    if "indexesCreated" in reply:
        return [index["name"] for index in reply["indexesCreated"]]
    if "cursor" in reply:
        rows = sorted(reply["cursor"]["firstBatch"], key=lambda row: row["name"])
        return [
            (row["name"], row["status"], row["queryable"], row["latestDefinitionVersion"]["version"],
             row["latestDefinition"])
            for row in rows
        ]  # fmt: skip
    return "ok"
