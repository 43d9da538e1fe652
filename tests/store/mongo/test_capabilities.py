"""What a server can do is found out from its answers, whatever its version says."""

from __future__ import annotations

import pytest

from lkmongo.errors import AuthenticationError
from lkmongo.store.mongo.capabilities import probe
from lkmongo.store.mongo.client import create_client
from tests.search_rig import rig
from tests.standin import Standin


@pytest.mark.parametrize(
    ("options", "version", "search", "rank_fusion"),
    [
        ({"profile": "bare"}, (6, 0), False, False),
        ({"profile": "nosearch"}, (8, 2), False, False),
        ({"profile": "nosearch", "version": "7.0"}, (7, 0), False, False),
        ({"profile": "atlas_7_0"}, (7, 0), True, False),
        ({"profile": "atlas_8_0"}, (8, 0), True, True),
        ({"profile": "m0"}, (8, 0), True, True),
        ({"profile": "atlas"}, (8, 2), True, True),
        ({"profile": "community"}, (8, 2), True, True),
        ({"profile": "mongot_down"}, (8, 2), True, True),
        ({"profile": "mgmt_down"}, (8, 2), True, True),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else None,
)
@pytest.mark.parametrize("collections", [True, False], ids=["with collections", "empty"])
async def test_every_kind_of_server(mongodb_uri, database_name, options, version, search, rank_fusion, collections):
    async with rig(mongodb_uri, database_name, collections=collections, **options) as it:
        found = await probe(it.db)
        assert found.version[:2] == version
        assert found.release.startswith("{}.{}.".format(*version))
        assert (found.search, found.rank_fusion) == (search, rank_fusion)
        assert bool(await it.db.list_collection_names()) is collections


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"profile": "atlas_7_0"}, (False, False, False, False)),
        ({"profile": "atlas_8_0"}, (True, False, False, False)),
        ({"profile": "atlas_8_1"}, (True, True, False, False)),
        ({"profile": "atlas"}, (True, True, True, False)),
        ({"profile": "atlas_8_3"}, (True, True, True, True)),
        ({"profile": "community", "version": "8.3"}, (True, True, True, False)),
        ({"profile": "nosearch", "version": "8.3"}, (False, False, False, False)),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
async def test_each_version_has_more(mongodb_uri, database_name, options, expected):
    async with rig(mongodb_uri, database_name, **options) as it:
        found = await probe(it.db)
        assert (found.rank_fusion, found.score_details, found.score_fusion, found.rerank) == expected


async def test_an_address_that_asks_for_majority_reads_is_no_hindrance(mongodb_uri, database_name):
    with Standin.before(mongodb_uri) as standin:
        async with create_client(f"{standin.uri}&readConcernLevel=majority") as client:
            found = await probe(client[database_name])
        assert (found.search, found.rank_fusion) == (True, True)


@pytest.mark.parametrize("code", [8, 50, 125, 489, 11601])
async def test_search_that_is_in_trouble_is_search(mongodb_uri, database_name, code):
    async with rig(mongodb_uri, database_name) as it:
        it.standin.fail("$search", code=code)
        assert (await probe(it.db)).search


async def test_fusion_that_is_switched_off_is_none(mongodb_uri, database_name):
    async with rig(mongodb_uri, database_name) as it:
        it.standin.fail("$rankFusion", code=224, times=2)
        found = await probe(it.db)
        assert (found.search, found.rank_fusion) == (True, False)


@pytest.mark.parametrize("stage", ["$search", "$rankFusion"])
async def test_a_user_who_may_not_read_is_told(mongodb_uri, database_name, stage):
    async with rig(mongodb_uri, database_name) as it:
        it.standin.fail(stage, code=13)
        with pytest.raises(AuthenticationError, match="not allowed"):
            await probe(it.db)


async def test_nothing_is_read_and_nothing_goes_on_for_ever(mongodb_uri, database_name):
    async with rig(mongodb_uri, database_name) as it:
        await it.db.memories.insert_one({"tenant_id": "t", "user_id": "u"})
        await probe(it.db)
        for sent in it.sent("$search", "$rankFusion", "$scoreFusion", "$rerank"):
            assert sent.max_time_ms
        for (sent,) in (it.sent("$rankFusion"), it.sent("$scoreFusion")):
            assert await (await it.db.memories.aggregate(sent.pipeline)).to_list() == []
