"""The doctor at real databases: each thing that can be wrong with one is named, with what to do."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.test_utils import unused_port
from pymongo import MongoClient

from lkmongo.doctor import NAMES, Status, examine, worst
from lkmongo.embed.local import LocalEmbedder
from lkmongo.embed.vectors import to_bson
from lkmongo.errors import ExitCode
from lkmongo.local import EmbeddedMongod
from lkmongo.model import now
from lkmongo.settings import Settings
from lkmongo.store.indexes import database_indexes
from lkmongo.store.indexes import search_indexes as search_provision
from tests.auth_mongod import guarded_mongod
from tests.search_rig import MEMORIES, TEXT, WANTED, rig

PASSWORD = "canary-pw-1234567"
OF_DATABASE = [name for name in NAMES if name.startswith(("mongodb", "indexes", "vectors", "schema"))]


async def look_at(environ, *only, **options):
    settings, wrong = Settings.load_what_fits(environ)
    checks = await examine(settings, wrong, only=only, **options)
    return {check.name: check for check in checks}


def statuses(checks):
    return {name: check.status.value for name, check in checks.items()}


# -- nothing set


async def test_with_nothing_set_nothing_fails_and_nothing_stays_behind(home):
    told, status = [], []
    checks = await look_at({"LKMONGO_HOME": str(home)}, on_check=told.append, on_status=status.append)
    assert statuses(checks) == {
        "program": "ok",
        "settings": "ok",
        "disk": "ok",
        "tls": "ok",
        "mongodb": "ok",
        "mongodb.privileges": "ok",
        "mongodb.version": "skip",
        "mongodb.search": "skip",
        "mongodb.clock": "ok",
        "mongodb.erasure": "ok",
        "indexes": "warn",
        "indexes.search": "skip",
        "vectors": "ok",
        "schema": "ok",
        "encryption": "skip",
        "embedder": "ok",
        "voyage": "skip",
        "livekit": "skip",
        "phone": "skip",
        "agent": "ok",
        "agent.mind": "ok",
        "speech": checks["speech"].status.value,
        "webhook": "skip",
        "audio": checks["audio"].status.value,
    }
    assert list(checks) == list(NAMES) == [check.name for check in told]
    assert worst(checks.values()) is None
    assert status == ["Starting the embedded MongoDB ..."]
    facts = " ".join(checks["mongodb"].facts)
    assert f"data in {home.resolve()}" in facts
    assert "MiB" in facts
    assert checks["indexes"].hint == "lkmongo db indexes"
    assert "with 9 tools" in checks["agent"].detail
    assert "demo responder" in checks["agent.mind"].detail
    with EmbeddedMongod(home) as mongod:
        assert not mongod.first_start
        assert list(home.resolve().glob("mongodb-*/address")), "it was stopped, and started again here"


async def test_a_home_that_is_a_file_fails_and_the_rest_is_looked_at(tmp_path):
    (tmp_path / "file").write_text("")
    checks = await look_at({"LKMONGO_HOME": str(tmp_path / "file")}, "disk", *OF_DATABASE, "voyage")
    assert checks["disk"].status is checks["mongodb"].status is Status.FAIL
    assert "LKMONGO_HOME" in checks["mongodb"].hint
    assert {checks[name].status for name in OF_DATABASE[1:]} == {Status.SKIP}
    assert checks["voyage"].status is Status.SKIP


# -- reaching it


async def test_a_mongodb_that_nobody_answers_for_fails_once_and_the_rest_is_skipped():
    uri = f"mongodb://app:{PASSWORD}@127.0.0.1:{unused_port()}/?serverSelectionTimeoutMS=200"
    checks = await look_at({"MONGODB_URI": uri}, *OF_DATABASE, "livekit")
    assert checks.pop("mongodb").status is Status.FAIL
    assert {check.status for check in checks.values()} == {Status.SKIP}
    assert checks["vectors"].detail == "MongoDB does not answer"


async def test_a_part_of_the_database_needs_the_database():
    uri = f"mongodb://127.0.0.1:{unused_port()}/?serverSelectionTimeoutMS=200"
    checks = await look_at({"MONGODB_URI": uri}, "vectors")
    assert statuses(checks) == {"mongodb": "fail", "vectors": "skip"}
    assert worst(checks.values()).exit_code is ExitCode.FAILED


async def test_an_address_that_cannot_be_parsed_shows_no_password():
    checks = await look_at({"MONGODB_URI": f"mongodb://app:{PASSWORD}@x@127.0.0.1/"}, "settings", "mongodb")
    assert checks["mongodb"].status is Status.FAIL
    assert PASSWORD not in str(checks)


async def test_a_wrong_setting_is_told_once_and_no_other_database_is_looked_at_instead(home):
    environ = {"MONGODB_URI": "nonsense", "LKMONGO_HOME": str(home)}
    checks = await look_at(environ, "settings", *OF_DATABASE)
    assert checks.pop("settings").status is Status.FAIL
    assert {check.status for check in checks.values()} == {Status.SKIP}
    assert checks["mongodb"].detail == "MONGODB_URI is wrong: see settings"
    assert not home.exists()
    alone = await look_at(environ, "mongodb.clock")
    assert alone["mongodb"].status is Status.FAIL
    assert "MONGODB_URI must begin with" in alone["mongodb"].detail


# -- what its user may do


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with guarded_mongod(tmp_path_factory.mktemp("guarded")) as mongod:
        yield mongod


async def test_a_wrong_password_is_refused_credentials(guarded):
    checks = await look_at({"MONGODB_URI": guarded.uri("root", PASSWORD)}, "mongodb")
    error = worst(checks.values())
    assert error.exit_code is ExitCode.AUTHENTICATION
    assert "rejected the credentials" in checks["mongodb"].detail
    assert PASSWORD not in str(checks)
    assert statuses(checks) == dict.fromkeys(checks, "skip") | {"mongodb": "fail"}


async def test_an_address_without_a_user_is_told_apart(guarded):
    checks = await look_at({"MONGODB_URI": guarded.uri()}, *OF_DATABASE)
    assert checks["mongodb"].status is Status.OK, "it answers a ping"
    assert checks["mongodb.privileges"].exit_code is ExitCode.AUTHENTICATION
    assert "MONGODB_URI has none" in checks["mongodb.privileges"].detail
    assert [name for name, check in checks.items() if check.status is Status.FAIL] == ["mongodb.privileges"]


@pytest.mark.parametrize(
    ("user", "role", "status", "said"),
    [
        ("agent", {"role": "readWrite", "db": "lkmongo"}, Status.WARN, "make indexes, and drop whole collections"),
        ("anywhere", {"role": "readWriteAnyDatabase", "db": "admin"}, Status.WARN, "and drop whole collections"),
        ("reader", {"role": "read", "db": "lkmongo"}, Status.WARN, "may read only, not insert, update, remove"),
        ("stranger", {"role": "readWrite", "db": "elsewhere"}, Status.FAIL, "may not find in every collection"),
    ],
)
async def test_the_roles_of_a_user_decide(guarded, user, role, status, said):
    checks = await look_at({"MONGODB_URI": guarded.add(user, role)}, "mongodb.privileges")
    found = checks["mongodb.privileges"]
    assert found.status is status
    assert said in found.detail
    if status is Status.FAIL:
        assert found.exit_code is ExitCode.AUTHENTICATION
    role_for_each = "give web, workers and operators a user each, with a role of its own: docs/security.md, Roles"
    assert found.hint == (role_for_each if "drop" in said else "give the user the role readWrite on lkmongo")


async def test_a_user_without_the_right_to_make_indexes_is_fine_and_told(guarded):
    actions = ["find", "insert", "update", "remove"]
    resource = {"db": "lkmongo", "collection": ""}
    with MongoClient(guarded.uri("root")) as client:
        client.admin.command(
            "createRole", "words", privileges=[{"resource": resource, "actions": actions}], roles=[]
        )  # fmt: skip
    checks = await look_at(
        {"MONGODB_URI": guarded.add("frugal", {"role": "words", "db": "admin"})}, "mongodb.privileges"
    )
    found = checks["mongodb.privileges"]
    assert (found.status, found.detail) == (Status.OK, "frugal of admin may read and write")
    assert "createIndex" in found.facts[0]


# -- indexes and search


@pytest.fixture
def environ(mongodb_uri, database_name):
    return {"MONGODB_URI": mongodb_uri, "MONGODB_DB": database_name}


async def test_indexes_that_are_missing_are_named_and_made_by_what_is_advised(store, environ):
    await store.db.orders.drop_index("order")
    found = (await look_at(environ, "indexes"))["indexes"]
    assert (found.status, found.hint) == (Status.FAIL, "lkmongo db indexes")
    assert found.facts == ("missing: orders.order",)
    await database_indexes.apply(store.db)
    assert (await look_at(environ, "indexes"))["indexes"].status is Status.OK


async def test_an_index_in_the_way_is_named(store, environ):
    await store.db.orders.drop_index("order")
    await store.db.orders.create_index([("tenant_id", 1), ("order_id", 1)], name="mine")
    found = (await look_at(environ, "indexes"))["indexes"]
    assert found.status is Status.FAIL
    assert "orders.order: the index mine exists and is not unique" in found.facts[0]


@pytest.mark.parametrize(
    ("search", "statuses_"),
    [
        ("auto", {"mongodb.version": "skip", "mongodb.search": "warn", "indexes.search": "skip"}),
        ("exact", {"mongodb.version": "skip", "mongodb.search": "skip", "indexes.search": "skip"}),
        ("atlas", {"mongodb.version": "skip", "mongodb.search": "fail", "indexes.search": "skip"}),
    ],
)
async def test_a_server_without_search_is_judged_by_what_is_asked_for(store, environ, search, statuses_):
    checks = await look_at(environ | {"LKMONGO_SEARCH": search}, *statuses_)
    assert statuses(checks) == {"mongodb": "ok"} | statuses_


async def test_a_server_without_search_cannot_embed(store, environ):
    checks = await look_at(environ | {"LKMONGO_EMBEDDINGS": "atlas"}, "mongodb.search")
    assert checks["mongodb.search"].status is Status.FAIL
    assert "LKMONGO_EMBEDDINGS is atlas, and this MongoDB has no search" in checks["mongodb.search"].detail


async def searched(it, *only, **environ):
    return await look_at({"MONGODB_URI": it.standin.uri, "MONGODB_DB": it.db.name} | environ, *only)


@pytest.mark.parametrize(
    ("profile", "status"), [("atlas", Status.OK), ("atlas_8_0", Status.OK), ("atlas_7_0", Status.WARN)]
)
async def test_rank_fusion_comes_with_the_version(mongodb_uri, database_name, profile, status):
    async with rig(mongodb_uri, database_name, profile=profile) as it:
        checks = await searched(it, "mongodb.version", "mongodb.search")
    assert checks["mongodb.version"].status is status
    assert checks["mongodb.search"].status is Status.OK


async def test_search_indexes_from_missing_to_found(mongodb_uri, database_name):
    async with rig(mongodb_uri, database_name) as it:

        async def found(**environ):
            return (await searched(it, "indexes.search", **environ))["indexes.search"]

        missing = await found()
        assert (missing.status, missing.hint) == (Status.FAIL, "lkmongo db indexes")
        assert "3 of 3 search indexes are missing: knowledge_embedding_index" in missing.detail
        assert (await found(LKMONGO_SEARCH="exact")).status is Status.SKIP

        await search_provision.apply(it.db, WANTED)
        building = await found()
        assert (building.exit_code, building.hint) == (ExitCode.NOT_READY, "lkmongo db wait-ready")

        await it.finish_builds()
        ready = await found()
        assert (ready.status, ready.detail) == (Status.OK, "all 3 are ready")

        vector = (await LocalEmbedder().embed(["teal"], kind="document"))[0]
        await asyncio.to_thread(it.standin.freeze, it.db.name, "memories", MEMORIES.name)
        await it.db.memories.insert_one(
            {
                "tenant_id": "t",
                "user_id": "u",
                "memory_type": "color",
                "content": "teal",
                "embedding": to_bson(vector),
                "embedding_model": LocalEmbedder.model,
                "updated_at": now(),
            }
        )
        missed = await found()
        assert missed.exit_code is ExitCode.NOT_READY
        assert f"1 of 3 search indexes are ready but miss existing documents: {MEMORIES.name}" in missed.detail

        await asyncio.to_thread(it.standin.set_status, it.db.name, "memories", TEXT.name, "FAILED", "out of disk")
        broken = await found()
        assert (broken.exit_code, broken.hint) == (ExitCode.FAILED, "lkmongo db indexes --replace")
        assert f"broken: {TEXT.name} is FAILED (out of disk)" in broken.detail
        assert "out of disk" in " ".join(broken.facts)


async def test_a_search_index_with_vectors_of_another_length_is_named(mongodb_uri, database_name):
    async with rig(mongodb_uri, database_name) as it:
        fields = [
            field | {"numDimensions": 512} if "numDimensions" in field else field
            for field in MEMORIES.definition["fields"]
        ]
        await it.make(MEMORIES, {"fields": fields})
        for index in WANTED:
            if index is not MEMORIES:
                await it.make(index)
        found = (await searched(it, "indexes.search"))["indexes.search"]
    assert (found.status, found.hint) == (Status.FAIL, "lkmongo db indexes")
    assert f"defined differently than needed: {MEMORIES.name}" in found.detail
    assert any("512" in fact for fact in found.facts)


async def test_a_search_service_that_cannot_be_asked_is_not_ready(mongodb_uri, database_name):
    async with rig(mongodb_uri, database_name, profile="mgmt_down") as it:
        found = (await searched(it, "indexes.search"))["indexes.search"]
    assert (found.status, found.exit_code) == (Status.FAIL, ExitCode.NOT_READY)


async def test_vectors_of_another_model_are_counted(store, environ):
    for number, model in enumerate(["another", None, LocalEmbedder.model]):
        vector = (await LocalEmbedder().embed(["x"], kind="document"))[0]
        vectors = {"embedding": to_bson(vector), "embedding_model": model} if model else {}
        await store.db.memories.insert_one({"tenant_id": "t", "user_id": "u", "memory_type": str(number)} | vectors)
    found = (await look_at(environ, "vectors"))["vectors"]
    assert (found.status, found.hint) == (Status.WARN, "lkmongo db embed")
    assert found.detail.startswith("2 documents have no vector of ")
    assert "memories: 3 documents, 1 without a vector, 1 with another model's" in found.facts


async def test_a_look_changes_nothing(store, environ):
    await database_indexes.apply(store.db)
    before = {name: await store.db[name].count_documents({}) for name in await store.db.list_collection_names()}
    await look_at(environ, *OF_DATABASE)
    after = {name: await store.db[name].count_documents({}) for name in await store.db.list_collection_names()}
    assert before == after


async def test_privileges_that_cannot_be_asked_for_hide_nothing_else(mongodb_uri, database_name):
    async with rig(mongodb_uri, database_name) as it:
        it.standin.fail("connectionStatus", code=59, times=None)
        checks = await searched(it, "mongodb.privileges", "mongodb.clock", "vectors")
    assert statuses(checks) == {
        "mongodb": "ok",
        "mongodb.privileges": "fail",
        "mongodb.clock": "ok",
        "vectors": "ok",
    }


async def test_what_a_server_can_do_may_be_unknown(mongodb_uri, database_name):
    async with rig(mongodb_uri, database_name) as it:
        it.standin.fail("buildInfo", code=59, times=None)
        checks = await searched(it, "mongodb.version", "mongodb.search", "mongodb.clock", "indexes.search")
    assert [name for name, check in checks.items() if check.status is Status.FAIL] == [
        "mongodb.version",
        "mongodb.search",
        "indexes.search",
    ]
