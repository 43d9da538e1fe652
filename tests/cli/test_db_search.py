"""`lkmongo db indexes`, `wait-ready` and `status` against servers with search and without."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pexpect
import pytest
import yaml
from pymongo import MongoClient
from pymongo.operations import SearchIndexModel

from lkmongo.embed.local import LocalEmbedder
from lkmongo.store.indexes.definitions import MEMORIES_TEXT, MEMORIES_VECTOR, search_indexes
from lkmongo.store.indexes.terraform import search_index_module
from lkmongo.store.mongo.schema import INDEXES
from tests.cli.conftest import Result, Run
from tests.cli.started import ROOT
from tests.standin import Standin

WANTED = search_indexes(256)
ESCAPE = "\x1b"
OLD = {"fields": WANTED[1].definition["fields"][:2]}


@pytest.fixture
def start(mongodb_uri: str, cli_env: dict[str, str]) -> Iterator[Callable[..., Standin]]:
    """Put a stand-in before the mongod, and let commands use it."""
    with ExitStack() as stack:

        def run(**options: object) -> Standin:
            standin = stack.enter_context(Standin.before(mongodb_uri, **options))
            cli_env["MONGODB_URI"] = standin.uri
            return standin

        yield run
        with MongoClient(mongodb_uri) as client:
            client.drop_database(cli_env["MONGODB_DB"])


@pytest.fixture
def db(start, cli_env, mongodb_uri):
    """The test's database, seen through the stand-in that was started last."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(MongoClient(cli_env["MONGODB_URI"]))[cli_env["MONGODB_DB"]]


@contextmanager
def built_once_seen(standin: Standin) -> Iterator[None]:
    """Let builds end when somebody who waits has looked at them, however slow the machine is."""
    looked = len(standin.recorded("$listSearchIndexes"))
    over = threading.Event()

    def move() -> None:
        while not over.wait(0.05):
            if len(standin.recorded("$listSearchIndexes")) >= looked + 2:  # one for each collection
                standin.advance(10_000)
                return

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def error_of(done: Result) -> str:
    """The lines of the error that a command ended with."""
    return done.stderr[done.stderr.index("error: ") :]


def actions(done):
    return {row["index"]: row["action"] for row in done.json if row["kind"] != "ordinary"}


def test_from_nothing_to_ready(start: Callable[..., Standin], run: Run):
    standin = start(build_seconds=3)
    made = run("db", "indexes", "--json")
    assert (made.code, actions(made)) == (0, {index.name: "create" for index in WANTED})
    assert [row["kind"] for row in made.json] == ["ordinary"] * len(INDEXES) + [index.type for index in WANTED]
    assert "wait-ready" in made.stderr

    ready = run("db", "wait-ready", "--timeout", "60", "--json")
    assert ready.code == 0, ready.stderr
    assert [(row["index"], row["status"], row["canary"]) for row in ready.json] == [
        (index.name, "READY", "found") for index in WANTED
    ]
    written = len(standin.recorded("createSearchIndexes"))
    again = run("db", "indexes", "--json")
    assert (again.code, {row["action"] for row in again.json}) == (0, {"unchanged"})
    assert again.stderr == ""
    assert len(standin.recorded("createSearchIndexes")) == written == 3
    assert standin.recorded("updateSearchIndex") == standin.recorded("dropSearchIndex") == []
    assert run("db", "indexes", "--check").code == 0


def test_a_definition_changed_by_hand_is_drift_and_named(start, run, db):
    standin = start(build_seconds=0.1)
    run("db", "indexes", "--wait")
    db().command("updateSearchIndex", "memories", name=MEMORIES_VECTOR, definition=OLD)
    checked = run("db", "indexes", "--check", "--json")
    assert (checked.code, actions(checked)[MEMORIES_VECTOR]) == (6, "update")
    assert "fields.tenant_id.type is missing, should be filter" in checked.stdout
    assert "memories_embedding_index: fields.tenant_id.type is missing" in checked.stderr
    assert len(standin.recorded("updateSearchIndex")) == 1, "--check writes nothing"

    standin.plan_build(MEMORIES_VECTOR, seconds=1000)
    put_right = run("db", "indexes", "--json")
    assert (put_right.code, actions(put_right)[MEMORIES_VECTOR]) == (0, "update")
    building = run("db", "indexes", "--check")
    assert building.code == 3
    assert "memories_embedding_index: it is BUILDING, and the previous definition serves\n" in error_of(building)
    with built_once_seen(standin):
        waited = run("db", "wait-ready", "--timeout", "60")
    assert waited.code == 0
    assert "BUILDING (the previous definition serves) \u2192 READY" in waited.stderr
    assert run("db", "indexes", "--check").code == 0


def test_where_mongodb_embeds_texts_are_stored_and_found(start, run, db, cli_env):
    standin = start(profile="atlas_embeds", build_seconds=0.1)
    cli_env |= {"LKMONGO_EMBEDDINGS": "local"}
    assert run("db", "indexes").code == run("db", "seed").code == 0
    cli_env |= {"LKMONGO_EMBEDDINGS": "atlas"}
    blocked = run("db", "indexes")
    assert blocked.code == 6
    assert "which an update cannot change" in error_of(blocked)
    assert "lkmongo db indexes --replace" in error_of(blocked)
    assert run("db", "indexes", "--replace", "--yes").code == 0
    embedded = run("db", "embed", "--json")
    assert {row["collection"]: row["missing"] - row["embedded"] for row in embedded.json} == {
        "memories": 0,
        "knowledge": 0,
    }
    assert "These are the texts that MongoDB embeds" in embedded.stderr
    assert {type(each["embedding"]) for each in db().knowledge.find()} == {str}
    assert run("db", "wait-ready").code == 0
    status = run("db", "status", "--json")
    assert status.json["server"]["embedding_model"] == "atlas"
    assert [row["no_vector"] or row["other_model"] for row in status.json["documents"][:2]] == [0, 0]
    assert "MongoDB embeds by itself: voyage-4-lite, 512 numbers a vector" in status.stderr
    found = run("knowledge", "search", "how do I get my money back", "--tenant", "default", "--json")
    assert (found.json["strategy"], found.json["degraded"]) == ("atlas", None)
    assert standin.recorded("$vectorSearch")[-1].pipeline[0]["$vectorSearch"]["query"] == {
        "text": "how do I get my money back"
    }


def test_another_embedder_updates_the_indexes_and_says_what_is_left_to_do(start, run):
    start(build_seconds=0.1)
    run("db", "indexes", "--wait")
    server = {"LKMONGO_EMBEDDING_BASE_URL": "http://127.0.0.1:1/v1", "LKMONGO_EMBEDDING_MODEL": "nomic-embed-text"}
    planned = run("db", "indexes", "--check", env=server)
    assert (planned.code, "numDimensions is 256, should be 768" in planned.stdout) == (6, True)
    voyage = {"VOYAGE_API_KEY": "pa-none", "LKMONGO_EMBEDDING_DIMENSIONS": "1024"}
    changed = run("db", "indexes", "--json", env=voyage)
    assert (changed.code, list(actions(changed).values())) == (0, ["update", "update", "unchanged"])
    assert "fields.embedding.numDimensions is 256, should be 1024" in changed.stdout
    assert "lkmongo db embed" in changed.stderr
    status = run("db", "status", "--json", env=server | {"LKMONGO_EMBEDDING_API_KEY": "sk-canary-1234"})
    shown = status.json["server"]
    assert (shown["embedding_model"], shown["dimensions"]) == ('openai:nomic-embed-text@768 "search_document: "', 768)
    assert "sk-canary" not in status.stdout + status.stderr


def test_a_check_of_an_empty_database_makes_nothing(start, run, db):
    start()
    assert run("db", "indexes", "--check").code == 6
    assert run("db", "status", "--json").json["searched"] == {
        "memories": "exact: memories_embedding_index is MISSING",
        "knowledge": "exact: knowledge_embedding_index is MISSING",
    }
    assert db().list_collection_names() == []


def test_a_wait_that_is_too_short_exits_with_3(start, run):
    standin = start(build_seconds=3)
    for index in WANTED:
        standin.plan_build(index.name, seconds=1000)
    run("db", "indexes")
    late = run("db", "wait-ready", "--timeout", "1", "--json")
    assert late.code == 3
    assert [row["ready"] for row in late.json] == [False] * 3, "the states are on stdout all the same"
    error = json.loads(late.stderr.splitlines()[-1])["error"]
    assert error["code"] == "not_ready"
    assert error["message"].startswith("3 of 3 search indexes are not ready after ")


def test_a_build_that_fails_exits_with_1_at_once(start, run):
    standin = start(build_seconds=0.1)
    standin.plan_build(MEMORIES_TEXT, failure="out of disk")
    standin.plan_build(MEMORIES_VECTOR, seconds=1000)
    run("db", "indexes")
    failed = run("db", "wait-ready", "--timeout", "60")
    assert failed.code == 1
    assert "error: memories_text_index is FAILED\n  why: out of disk\n" in failed.stderr
    assert run("db", "indexes", "--wait").code == 1


def test_an_index_that_failed_is_left_alone_until_it_is_to_be_replaced(start, run):
    standin = start(build_seconds=0.1)
    standin.plan_build(MEMORIES_TEXT, failure="out of disk")
    run("db", "indexes")
    standin.finish_builds()
    left = run("db", "indexes", "--json")
    assert (left.code, actions(left)[MEMORIES_TEXT]) == (1, "unchanged")
    error = json.loads(left.stderr)["error"]
    assert error == {
        "code": "search_index_failed",
        "message": f"1 of {len(left.json)} indexes are broken",
        "why": "memories.memories_text_index: it is FAILED, and not queryable: out of disk",
        "hint": "fix the cause; lkmongo db indexes --replace drops and recreates it",
    }
    told = run("db", "status")
    assert (told.code, "memories_text_index is FAILED; out of disk; fix the cause" in told.stderr) == (0, True)

    asked = run("db", "indexes", "--replace")
    assert (asked.code, len(standin.recorded("dropSearchIndex"))) == (2, 0)
    assert "memories_text_index does not answer now: about 0 documents of memories" in asked.stderr
    assert "error: Drop memories_text_index and build it again? There is no terminal to ask on" in asked.stderr
    mended = run("db", "indexes", "--replace", "--yes", "--json")
    assert (mended.code, actions(mended)[MEMORIES_TEXT]) == (0, "replace")
    standin.finish_builds()
    assert run("db", "indexes", "--check").code == 0


def test_the_workflow_for_pull_requests_does_not_pass_on_an_index_that_does_not_serve(start, run, cli_env):
    standin = start(build_seconds=0.1)
    run("db", "indexes")
    standin.finish_builds()
    workflow = yaml.safe_load((ROOT / "docs/examples/provision-atlas.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["provision"]["steps"]
    pull_request = [step["run"] for step in steps if "pull_request" in step.get("if", "")]
    (command,) = [line for line in pull_request if "lkmongo" in line]
    words = command.removeprefix(".venv/bin/lkmongo ").split()
    assert run(*words).code == 0
    for status, serves, code, hint in (
        ("FAILED", "not queryable", 1, "fix the cause; lkmongo db indexes --replace"),
        (
            "STALE",
            "does not find new documents",
            1,
            "make sure that the search nodes have disk space; lkmongo db indexes --replace",
        ),
        ("DOES_NOT_EXIST", "not queryable", 1, "its collection is gone; lkmongo db indexes --replace"),
        ("BUILDING", "not queryable", 3, "lkmongo db wait-ready"),
    ):
        standin.set_status(cli_env["MONGODB_DB"], "memories", MEMORIES_TEXT, status, "out of disk")
        checked = run(*words)
        assert checked.code == code, status
        assert f"  why: memories.memories_text_index: it is {status}, and {serves}" in error_of(checked)
        assert f"  try: {hint}" in error_of(checked)
        assert ("out of disk" in error_of(checked)) is (status == "FAILED"), "the server says it of those alone"
        assert f"\tit is {status}, and {serves}" in checked.stdout


def test_the_worst_that_a_check_finds_decides_how_it_ends(start, run, db, cli_env):
    standin = start(profile="community", build_seconds=0.1)
    run("db", "indexes")
    standin.finish_builds()
    standin.set_status(cli_env["MONGODB_DB"], "memories", MEMORIES_TEXT, "BUILDING")
    late = "memories.memories_text_index: it is BUILDING, and not queryable"
    only_late = run("db", "indexes", "--check")
    assert only_late.code == 3
    assert only_late.stderr.endswith(f"  why: {late}\n  try: lkmongo db wait-ready waits for it\n")

    db().memories.drop_search_index(MEMORIES_VECTOR)
    missing = run("db", "indexes", "--check")
    assert missing.code == 6
    assert missing.stderr.endswith(
        f"  why: memories.memories_embedding_index: it is missing; {late}\n  try: lkmongo db indexes\n"
    )

    standin.set_status(cli_env["MONGODB_DB"], "knowledge", WANTED[0].name, "STALE")
    broken = run("db", "indexes", "--check")
    assert broken.code == 1
    stale = "knowledge.knowledge_embedding_index: it is STALE, and does not find new documents"
    assert f"  why: {stale}; memories.memories_embedding_index: it is missing; {late}\n" in broken.stderr


def test_without_a_terminal_each_change_is_a_line(start, run):
    standin = start(build_seconds=1000)
    run("db", "indexes")
    with built_once_seen(standin):
        waited = run("db", "wait-ready", "--timeout", "60")
    assert waited.code == 0
    lines = waited.stderr.splitlines()
    assert all(line.startswith("index ") for line in lines), lines
    for index in WANTED:
        first, second, third = [line for line in lines if f" {index.name}: " in line]
        assert "\u2192" not in first
        assert "\u2192 READY" in second
        assert ": canary found" in third
    assert ESCAPE not in waited.stderr


def test_waiting_shows_a_moving_view_on_a_terminal(start, run, cli_env, at_terminal):
    standin = start(build_seconds=0.1)
    standin.plan_build(MEMORIES_TEXT, seconds=1000)
    run("db", "indexes")
    child = at_terminal("db", "wait-ready", env=cli_env)
    child.expect("memories_text_index +(BUILDING|PENDING)")
    standin.advance(1000)
    child.expect("memories_text_index +search +READY")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_server_without_search_gets_its_ordinary_indexes(start, run):
    start(profile="nosearch")
    made = run("db", "indexes", "--json")
    assert (made.code, len(made.json), actions(made)) == (0, len(INDEXES), {})
    assert "searches run exact" in made.stderr
    assert run("db", "indexes", "--check").code == 0
    waited = run("db", "wait-ready", "--json")
    assert (waited.code, waited.json) == (0, [])
    for command in ("indexes", "wait-ready"):
        refused = run("db", command, "--require-search")
        assert refused.code == 7
        assert "error: this MongoDB has no search" in refused.stderr


def test_the_embedded_mongod_has_no_search_and_needs_none(run):
    made = run("db", "indexes")
    assert made.code == 0
    assert "searches run exact" in made.stderr
    status = run("db", "status", "--json").json
    server = status["server"]
    assert (server["search"], server["rank_fusion"], server["dimensions"]) == (False, False, 256)
    assert set(status["searched"].values()) == {"exact: this MongoDB has no search"}


def test_a_full_m0_cluster_is_explained_after_the_list(start, run, db):
    start(profile="m0")
    db().create_collection("mine")
    db()["mine"].create_search_index(SearchIndexModel({"mappings": {"dynamic": True}}, name="mine"))
    full = run("db", "indexes", "--json")
    assert (full.code, actions(full)[MEMORIES_TEXT]) == (1, "blocked")
    error = json.loads(full.stderr)["error"]
    assert error["message"] == "the cluster has no room for memories_text_index"
    assert "M0 cluster can have 3 search indexes" in error["hint"]


def test_an_index_of_another_type_is_blocked(start, run, db):
    start(build_seconds=0.1)
    db().create_collection("memories")
    db().memories.create_search_index(SearchIndexModel({"mappings": {"dynamic": True}}, name=MEMORIES_VECTOR))
    blocked = run("db", "indexes", "--json")
    assert (blocked.code, actions(blocked)[MEMORIES_VECTOR]) == (6, "blocked")
    replaced = run("db", "indexes", "--replace", "--yes", "--json")
    assert (replaced.code, actions(replaced)[MEMORIES_VECTOR]) == (0, "replace")
    again = run("db", "indexes", "--replace", "--json")
    assert (again.code, actions(again)[MEMORIES_VECTOR]) == (0, "unchanged"), "there is nothing to ask about"


def test_a_definition_that_the_server_refuses_is_said_in_its_words_without_waiting(start, run):
    standin = start(build_seconds=0.1)
    words = "Analyzers referenced by fields do not exist: content -> nope"
    standin.fail(lambda it: it.name == "createSearchIndexes" and MEMORIES_TEXT in str(it.body), code=125, message=words)
    refused = run("db", "indexes", "--json")
    assert (refused.code, actions(refused)) == (
        1,
        {WANTED[0].name: "create", MEMORIES_VECTOR: "create", MEMORIES_TEXT: "blocked"},
    )
    assert json.loads(refused.stderr.splitlines()[-1])["error"] == {
        "code": "search_index_refused",
        "message": "MongoDB refuses the definition of memories_text_index",
        "why": f"{words} (code 125)",
        "hint": "lkmongo db indexes --dry-run prints it: unset the setting that asks for what this server does not "
        "know, or upgrade the cluster",
    }
    assert len(standin.recorded("createSearchIndexes")) == 3, "each once"


def test_what_was_tuned_in_atlas_is_left_alone_and_shown(start, run, db):
    standin = start(build_seconds=0.1)
    run("db", "indexes", "--wait")
    vector, *filters = WANTED[0].definition["fields"]
    db().command(
        "updateSearchIndex",
        "knowledge",
        name=WANTED[0].name,
        definition={"fields": [vector | {"quantization": "scalar"}, *filters]},
    )
    standin.finish_builds()
    again = run("db", "indexes", "--json")
    assert (again.code, again.stderr, {row["action"] for row in again.json}) == (0, "", {"unchanged"})
    assert run("db", "indexes", "--check").code == 0
    status = run("db", "status", "--json").json
    assert {row["index"]: row["tuned"] for row in status["indexes"] if row["tuned"]} == {
        WANTED[0].name: "embedding.quantization scalar"
    }
    assert status["searched"]["knowledge"] == "$vectorSearch, scalar quantization, floor 0.156"
    decided = run("db", "indexes", "--json", env={"LKMONGO_QUANTIZATION": "none", "LKMONGO_INDEXING_METHOD": "flat"})
    assert list(actions(decided).values()) == ["update", "update", "unchanged"]
    assert "answers by its previous definition until the new one is built" in decided.stderr


@pytest.mark.parametrize("code", [13, 18])
def test_a_user_who_may_not_make_indexes_exits_with_4(start, run, code):
    standin = start()
    standin.fail("createSearchIndexes", code=code)
    refused = run("db", "indexes")
    assert refused.code == 4
    assert f"code {code}" in refused.stderr


def test_a_user_who_may_only_read_can_wait(start, run):
    standin = start(build_seconds=0.1)
    run("db", "indexes")
    standin.fail("insert", code=13, times=None)
    waited = run("db", "wait-ready", "--timeout", "30", "--json")
    assert waited.code == 0
    assert {row["canary"] for row in waited.json} == {"read-only"}
    assert "this user may not insert one" in waited.stderr


def test_definitions_are_printed_without_a_connection(run):
    away = {"MONGODB_URI": "mongodb://nobody.invalid/"}
    printed = run("db", "indexes", "--dry-run", env=away)
    assert (printed.code, printed.stderr) == (0, "")
    found = {row["index"]: row for row in json.loads(printed.stdout) if row["kind"] != "ordinary"}
    assert {name: row["definition"] for name, row in found.items()} == {each.name: each.definition for each in WANTED}
    voyage = {"VOYAGE_API_KEY": "pa-none", "LKMONGO_EMBEDDING_DIMENSIONS": "1024"}
    printed = run("db", "indexes", "--dry-run", "--json", env=away | voyage)
    (vector,) = [row["definition"]["fields"][0] for row in printed.json if row["index"] == MEMORIES_VECTOR]
    assert vector["numDimensions"] == 1024
    assert printed.stdout.count("\n") == 1


def test_the_search_indexes_are_printed_as_terraform_without_a_connection(run):
    away = {"MONGODB_URI": "mongodb://nobody.invalid/", "MONGODB_DB": "calls", "LKMONGO_OUTPUT": "json"}
    voyage = {"VOYAGE_API_KEY": "pa-none", "LKMONGO_EMBEDDING_DIMENSIONS": "1024"}
    printed = run("db", "indexes", "--output", "terraform", env=away | voyage)
    assert (printed.code, printed.stderr) == (0, "")
    assert printed.stdout == search_index_module(search_indexes(1024), "calls")
    assert run("db", "indexes", "-o", "terraform", "--dry-run", env=away | voyage).stdout == printed.stdout


def test_search_indexes_are_left_to_terraform(start, run):
    standin = start()
    made = run("db", "indexes", "--no-search", "--json")
    assert (made.code, made.stderr) == (0, "")
    assert [row["action"] for row in made.json] == ["create"] * len(INDEXES)
    assert standin.recorded("createSearchIndexes") == []
    assert run("db", "indexes", "--no-search", "--check").code == 0
    assert run("db", "indexes", "--check").code == 6


@pytest.mark.parametrize(
    "options",
    [
        ("--check", "--replace"),
        ("--check", "--wait"),
        ("--dry-run", "--check"),
        ("--output", "terraform", "--check"),
        ("--output", "terraform", "--replace"),
        ("--output", "terraform", "--no-search"),
        ("--output", "terraform", "--json"),
        ("--no-search", "--wait"),
        ("--no-search", "--require-search"),
    ],
)
def test_options_that_contradict_each_other_are_refused(run_inside, options):
    refused = run_inside("db", "indexes", *options)
    assert (refused.code, refused.stdout) == (2, "")
    assert all(option in refused.stderr for option in options if option.startswith("--") and option != "--output")


# ---------------------------------------------------------------- in GitHub Actions


IN_GITHUB = {"GITHUB_ACTIONS": "true"}


def workflow_commands(stderr: str) -> list[tuple[str, str]]:
    """The commands that GitHub's runner finds in the lines, each with its text; those of others have no name."""
    found = [re.fullmatch(r"\s*::([a-z-]+)((?: [^:]*)?)::(.*)", line) for line in stderr.splitlines()]
    return [(each[1], each[3]) if each else ("", line) for each, line in zip(found, stderr.splitlines(), strict=True)]


def test_what_is_waited_for_is_a_group_in_the_log_of_github(start, run):
    start(build_seconds=0.1)
    run("db", "indexes")
    waited = run("db", "wait-ready", "--timeout", "60", "--json", env=IN_GITHUB)
    assert (waited.code, [row["status"] for row in waited.json]) == (0, ["READY"] * 3)
    (group, title), *states, (end, nothing), (notice, text) = workflow_commands(waited.stderr)
    names = ", ".join(index.name for index in WANTED)
    assert (group, title) == ("group", f"Waiting for {names}")
    assert len(states) >= 6
    assert all(name == "" and line.startswith("index ") for name, line in states)
    assert (end, nothing) == ("endgroup", "")
    assert notice == "notice"
    assert re.fullmatch(rf"{names} are ready after \d+ s", text)
    assert "::" not in run("db", "wait-ready", env={"GITHUB_ACTIONS": "false"}).stderr


def test_why_an_index_failed_is_an_error_in_the_log_of_github_and_no_command(start, run):
    standin = start(build_seconds=0.1)
    standin.plan_build(MEMORIES_TEXT, failure="100% full\n::warning::of disks")
    run("db", "indexes")
    failed = run("db", "wait-ready", "--timeout", "60", env=IN_GITHUB)
    assert failed.code == 1
    commands = workflow_commands(failed.stderr)
    assert [name for name, _ in commands if name][:3] == ["group", "endgroup", "error"]
    (error,) = [text for name, text in commands if name == "error"]
    assert error.startswith("memories_text_index is FAILED%0A100%25 full%0A::warning::of disks%0Atry: fix the cause")
    assert "::error title=Search indexes::" in failed.stderr
    assert "warning" not in [name for name, _ in commands]
    assert "error: memories_text_index is FAILED\n  why: 100% full\n" in failed.stderr


def test_without_search_github_is_told_nothing_but_why(start, run):
    start(profile="nosearch")
    waited = run("db", "wait-ready", env=IN_GITHUB)
    assert [name for name, _ in workflow_commands(waited.stderr)] == ["group", "", "endgroup"]
    refused = run("db", "wait-ready", "--require-search", env=IN_GITHUB)
    assert [name for name, _ in workflow_commands(refused.stderr)][:3] == ["group", "endgroup", "error"]


def test_status_shows_server_indexes_and_documents(start, run, db):
    start(build_seconds=0.1, profile="atlas_8_0")
    run("db", "indexes", "--wait")
    db().memories.insert_one({"tenant_id": "t", "user_id": "u", "memory_type": "car", "content": "red"})
    status = run("db", "status", "--json")
    assert status.code == 0
    assert status.json["server"] == {
        "version": "8.0.12",
        "search": True,
        "rank_fusion": True,
        "score_details": False,
        "score_fusion": False,
        "rerank": False,
        "embedding_model": LocalEmbedder.model,
        "dimensions": 256,
    }
    assert status.json["searched"] == {
        "memories": "$vectorSearch and $search, fused here by scores",
        "knowledge": "$vectorSearch",
    }
    assert "memories\texact: LKMONGO_SEARCH is exact" in run("db", "status", env={"LKMONGO_SEARCH": "exact"}).stdout
    rows = {row["index"]: row for row in status.json["indexes"]}
    assert rows[MEMORIES_VECTOR]["status"] == "READY"
    assert rows[MEMORIES_VECTOR]["canary"] == "no document"
    assert rows["slot"]["kind"] == "ordinary"
    memories = {"collection": "memories", "documents": 1, "no_vector": 1, "other_model": 0}
    assert memories in status.json["documents"]
    assert {"collection": "memories", "older": 1, "newer": 0} in status.json["schema"]
    assert f"1 document has no vector of {LocalEmbedder.model}" in status.stderr
    plain = run("db", "status").stdout
    assert [block.partition("\t")[0] for block in plain.split("\n\n")] == [
        *("version", "search"),
        *["collection"] * 4,
        "subject",
    ]
