"""Seeding a real MongoDB: complete, repeatable, and never over what somebody else wrote."""

from __future__ import annotations

import asyncio
import subprocess
import sysconfig
import tempfile
import time
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from bson.binary import Binary
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from pymongo.monitoring import CommandListener

from lkmongo.embed.base import OverloadedError
from lkmongo.embed.local import LocalEmbedder
from lkmongo.embed.vectors import from_bson
from lkmongo.errors import DatabaseUnavailableError, EmbeddingError
from lkmongo.model import Order, OrderItem, Passage, Profile, TenantScope, UserScope, now
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.client import create_client
from lkmongo.store.people.erase import erase
from lkmongo.store.people.orders import Orders
from lkmongo.store.people.users import Users
from lkmongo.store.seed.seeding import Counts, seed
from lkmongo.store.seed.seeds import SeedData, default_seed_folder, load_seeds

MONGOD = Path(sysconfig.get_path("purelib")) / "fiftyone" / "db" / "bin" / "mongod"
SAMPLE = load_seeds(default_seed_folder())
SHOP, HOTEL = TenantScope("default"), TenantScope("hotel")

SMALL = SeedData(
    users=(Profile(UserScope(tenant_id="default", user_id="u-1"), "Ada", "ada@example.com", "en", "Europe/London"),),
    orders=(
        (UserScope(tenant_id="default", user_id="u-1"), Order("1", (OrderItem("Lamp", 2),), 42.5, "shipped", "EUR")),
        (UserScope(tenant_id="hotel", user_id="u-1"), Order("1", (OrderItem("Room"),), 80.0, "paid")),
    ),
    passages=(
        (SHOP, Passage("returns.md", 0, "Returns", "You have 45 days.")),
        (SHOP, Passage("returns.md", 1, "Gifts", "A gift can come back as well.")),
        (SHOP, Passage("shipping.md", 0, "Shipping", "Five business days.")),
        (HOTEL, Passage("returns.md", 0, "Check-out", "Rooms are free until eleven.")),
        (HOTEL, Passage("returns.md", 1, "Bags", "Bags may stay behind.")),
    ),
)


class WatchedEmbedder(LocalEmbedder):
    """The local embedder, with a record of what it embedded, which can give up after a number of texts."""

    def __init__(self, model=LocalEmbedder.model, give_up_after=None):
        self.model = model
        self.embedded = []
        self.give_up_after = give_up_after

    async def embed_many(self, texts, *, documents=None, on_wait=None):
        for start in range(0, len(texts), 2):
            if self.give_up_after is not None and start >= self.give_up_after:
                raise OverloadedError
            batch = texts[start : start + 2]
            self.embedded += batch
            yield await self.embed(batch, kind="document")


class MeddlingEmbedder(WatchedEmbedder):
    """An embedder during whose work somebody else writes to the database."""

    def __init__(self, meddle):
        super().__init__()
        self.meddle = meddle

    async def embed_many(self, texts, *, documents=None, on_wait=None):
        await self.meddle()
        async for vectors in super().embed_many(texts, on_wait=on_wait):
            yield vectors


class Commands(CommandListener):
    def __init__(self):
        self.names = []

    def started(self, event):
        if event.command_name in {"find", "update", "delete", "insert", "getMore"}:
            self.names.append(event.command_name)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


@pytest.fixture(scope="session")
def seed_mongod():
    """The address of a mongod of these tests' own, on a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="lks-", dir="/tmp") as folder:
        socket = f"{folder}/m.sock"
        process = subprocess.Popen(
            [MONGOD, "--dbpath", folder, "--bind_ip", socket, "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"],
            stdout=subprocess.DEVNULL,
        )
        try:
            for _ in range(600):
                if Path(socket).exists() or process.poll() is not None:
                    break
                time.sleep(0.05)
            assert process.poll() is None
            yield "mongodb://" + socket.replace("/", "%2F")
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def commands():
    return Commands()


@pytest.fixture
async def seed_db(seed_mongod, commands):
    """An empty database with the project's indexes."""
    async with AsyncMongoClient(seed_mongod, tz_aware=True, event_listeners=[commands]) as client:
        db = client[f"seeds-{uuid4().hex}"]
        await database_indexes.apply(db)
        commands.names.clear()
        yield db
        await client.drop_database(db)


async def everything(db):
    return {name: [each async for each in db[name].find().sort("_id")] for name in ("users", "orders", "knowledge")}


async def passages_of(db, **selector):
    found = db.knowledge.find({"tenant_id": "default", **selector}).sort([("source", 1), ("chunk", 1)])
    return [(each["source"], each["chunk"], each["content"]) async for each in found]


class TestFirstRun:
    async def test_every_part_of_the_sample_data_is_written(self, seed_db):
        counts = await seed(seed_db, SAMPLE, LocalEmbedder())
        assert counts.rows() == [
            {"collection": name, **asdict(Counts(inserted=len(part)))}
            for name, part in (("users", SAMPLE.users), ("orders", SAMPLE.orders), ("knowledge", SAMPLE.passages))
        ]
        for name, part in (("users", SAMPLE.users), ("orders", SAMPLE.orders), ("knowledge", SAMPLE.passages)):
            assert await seed_db[name].count_documents({}) == len(part)

    async def test_a_profile_is_what_the_store_reads(self, seed_db):
        before = now()
        await seed(seed_db, SMALL, LocalEmbedder())
        document = await seed_db.users.find_one({}, {"_id": 0})
        assert timedelta(0) <= document.pop("created_at") - before < timedelta(minutes=5)
        assert document == {
            "tenant_id": "default",
            "user_id": "u-1",
            "name": "Ada",
            "email": "ada@example.com",
            "preferences": {"language": "en", "timezone": "Europe/London"},
            "memory_version": 0,
            "schema_version": 1,
        }
        profile = await Users(seed_db).get(UserScope(tenant_id="default", user_id="u-1"))
        assert replace(profile, created_at=None) == SMALL.users[0]

    async def test_what_is_not_known_of_a_person_is_not_written(self, seed_db):
        data = SeedData(users=(Profile(UserScope(tenant_id="default", user_id="u-2"), timezone="Europe/London"),))
        await seed(seed_db, data, LocalEmbedder())
        document = await seed_db.users.find_one({}, {"_id": 0, "created_at": 0})
        assert document.pop("preferences") == {"timezone": "Europe/London"}
        assert document == {"tenant_id": "default", "user_id": "u-2", "memory_version": 0, "schema_version": 1}

    async def test_an_order_is_what_its_owner_reads(self, seed_db):
        await seed(seed_db, SMALL, LocalEmbedder())
        assert await seed_db.orders.find_one({"tenant_id": "default"}, {"_id": 0}) == {
            "tenant_id": "default",
            "order_id": "1",
            "user_id": "u-1",
            "items": [{"name": "Lamp", "quantity": 2}],
            "total": 42.5,
            "currency": "EUR",
            "status": "shipped",
            "origin": "seed",
            "schema_version": 1,
        }
        for owner, order in SMALL.orders:
            assert await Orders(seed_db).get(owner, "1") == order

    async def test_a_passage_has_its_vector_and_belongs_to_its_tenant(self, seed_db):
        await seed(seed_db, SMALL, LocalEmbedder())
        document = await seed_db.knowledge.find_one({"tenant_id": "hotel", "chunk": 1}, {"_id": 0})
        vector = document.pop("embedding")
        assert isinstance(vector, Binary)
        assert vector.subtype == 9
        (expected,) = await LocalEmbedder().embed(["Bags\nBags may stay behind."], kind="document")
        assert from_bson(vector, 256).tolist() == pytest.approx(expected.tolist(), abs=1e-6)
        assert len(document.pop("content_hash")) == 64
        assert document.pop("updated_at") <= now()
        assert document == {
            "tenant_id": "hotel",
            "source": "returns.md",
            "chunk": 1,
            "title": "Bags",
            "content": "Bags may stay behind.",
            "embedding_model": LocalEmbedder.model,
            "origin": "seed",
            "schema_version": 1,
        }

    async def test_each_passage_has_the_vector_of_its_own_text(self, seed_db):
        await seed(seed_db, SAMPLE, WatchedEmbedder())
        for tenant, passage in SAMPLE.passages[::20]:
            document = await seed_db.knowledge.find_one(
                tenant.filter | {"source": passage.source, "chunk": passage.chunk}
            )
            (expected,) = await LocalEmbedder().embed([passage.embedded_text], kind="document")
            assert document["content"] == passage.content
            assert from_bson(document["embedding"], 256).tolist() == pytest.approx(expected.tolist(), abs=1e-6)

    async def test_progress_ends_with_everything_done(self, seed_db):
        told = []
        await seed(seed_db, SMALL, WatchedEmbedder(), lambda *progress: told.append(progress))
        assert told == [
            ("users", 1, 1),
            ("orders", 1, 2),
            ("orders", 2, 2),
            *(("knowledge", done, 5) for done in (0, 2, 4, 5)),
        ]

    async def test_many_documents_take_few_round_trips(self, seed_db, commands):
        owner = UserScope(tenant_id="default", user_id="u-1")
        data = SeedData(
            users=tuple(Profile(UserScope(tenant_id="default", user_id=f"u-{n}")) for n in range(1200)),
            orders=tuple((owner, Order(str(n), (OrderItem("Lamp"),), 1.0, "paid")) for n in range(1200)),
            passages=tuple((SHOP, Passage(f"{n}.md", 0, "Title", f"Passage {n}.")) for n in range(300)),
        )
        counts = await seed(seed_db, data, LocalEmbedder())
        assert [row["inserted"] for row in counts.rows()] == [1200, 1200, 300]
        assert [commands.names.count(name) for name in ("update", "insert")] == [3, 3 + 2]
        assert commands.names.count("find") == 1 + 3 + 1
        commands.names.clear()
        counts = await seed(seed_db, data, LocalEmbedder())
        assert [row["unchanged"] for row in counts.rows()] == [1200, 1200, 300]
        assert commands.names.count("update") == 3


class TestErasedPeople:
    """A seed folder is like a backup: it may hold people who were erased since it was written."""

    async def test_they_are_left_out_with_their_orders_and_told(self, seed_db):
        await seed(seed_db, SMALL, LocalEmbedder())
        owner, before = SMALL.users[0].scope, await everything(seed_db)
        await erase(seed_db, owner, by="Sam", orders=True)
        counts = await seed(seed_db, SMALL, LocalEmbedder())
        assert counts.erased == {owner}
        assert (counts.users, counts.orders) == (Counts(left_out=1), Counts(left_out=1, unchanged=1))
        others = {name: [each for each in found if each.get("user_id") != "u-1"] for name, found in before.items()}
        others["orders"] = [each for each in before["orders"] if each["tenant_id"] == "hotel"]
        assert await everything(seed_db) == others
        again = await seed(seed_db, SMALL, LocalEmbedder(), erased_too=True)
        assert again.erased == frozenset()
        assert (again.users, again.orders) == (Counts(inserted=1), Counts(inserted=1, unchanged=1))

    async def test_orders_that_were_kept_stay_as_they_are(self, seed_db):
        await seed(seed_db, SMALL, LocalEmbedder())
        owner = SMALL.users[0].scope
        await erase(seed_db, owner, by="Sam")
        kept = (await everything(seed_db))["orders"]
        lost = tuple((who, replace(order, status="lost")) for who, order in SMALL.orders if who == owner)
        counts = await seed(seed_db, replace(SMALL, orders=lost), LocalEmbedder())
        assert counts.orders == Counts(left_out=1)
        assert (await everything(seed_db))["orders"] == kept

    async def test_who_has_come_back_since_keeps_what_is_new(self, seed_db):
        owner = SMALL.users[0].scope
        await erase(seed_db, owner, by="Sam")
        await seed_db.users.insert_one(owner.filter | {"name": "New"})
        counts = await seed(seed_db, SMALL, LocalEmbedder())
        assert (counts.erased, counts.users) == ({owner}, Counts(left_out=1))
        assert [each["name"] for each in (await everything(seed_db))["users"]] == ["New"]

    async def test_nobody_else_is_left_out(self, seed_db):
        erased = [UserScope(tenant_id="default", user_id=f"u-{n}") for n in range(0, 1200, 400)]
        for scope in (
            *erased,
            UserScope(tenant_id="other", user_id="u-1"),
            UserScope(tenant_id="default", user_id="u-10000"),
        ):
            await erase(seed_db, scope, by="Sam")
        data = SeedData(users=tuple(Profile(UserScope(tenant_id="default", user_id=f"u-{n}")) for n in range(1200)))
        counts = await seed(seed_db, data, LocalEmbedder())
        assert counts.erased == set(erased)
        assert counts.users == Counts(inserted=1197, left_out=3)


class TestSecondRun:
    async def test_it_changes_nothing_and_embeds_nothing(self, seed_db):
        await seed(seed_db, SAMPLE, LocalEmbedder())
        before = await everything(seed_db)
        embedder = WatchedEmbedder()
        counts = await seed(seed_db, SAMPLE, embedder)
        assert embedder.embedded == []
        assert await everything(seed_db) == before
        assert [row["unchanged"] for row in counts.rows()] == [
            len(SAMPLE.users),
            len(SAMPLE.orders),
            len(SAMPLE.passages),
        ]
        assert all(row["inserted"] == row["updated"] == row["kept"] == row["removed"] == 0 for row in counts.rows())

    async def test_a_profile_that_exists_is_left_as_it_is(self, seed_db):
        await Users(seed_db).seen(UserScope(tenant_id="default", user_id="u-1"))
        before = await everything(seed_db)
        counts = await seed(seed_db, SMALL, LocalEmbedder())
        assert counts.users == Counts(unchanged=1)
        assert (await everything(seed_db))["users"] == before["users"]

    async def test_a_changed_order_is_updated(self, seed_db):
        await seed(seed_db, SMALL, LocalEmbedder())
        owner, order = SMALL.orders[0]
        changed = replace(SMALL, orders=((owner, replace(order, status="delivered")), SMALL.orders[1]))
        assert (await seed(seed_db, changed, LocalEmbedder())).orders == Counts(updated=1, unchanged=1)
        assert (await Orders(seed_db).get(owner, "1")).status == "delivered"
        assert await seed_db.orders.count_documents({}) == 2

    async def test_what_others_added_to_an_order_stays(self, seed_db):
        await seed(seed_db, SMALL, LocalEmbedder())
        await seed_db.orders.update_one({"tenant_id": "default"}, {"$set": {"note": "call first", "total": 1.0}})
        assert (await seed(seed_db, SMALL, LocalEmbedder())).orders == Counts(updated=1, unchanged=1)
        document = await seed_db.orders.find_one({"tenant_id": "default"})
        assert (document["note"], document["total"]) == ("call first", 42.5)

    async def test_only_a_changed_passage_is_embedded_again(self, seed_db):
        await seed(seed_db, SMALL, LocalEmbedder())
        before = {each["_id"]: each for each in (await everything(seed_db))["knowledge"]}
        passages = list(SMALL.passages)
        passages[1] = (SHOP, replace(passages[1][1], content="A gift stays."))
        passages[3] = (HOTEL, replace(passages[3][1], title="Leaving"))
        embedder = WatchedEmbedder()
        counts = await seed(seed_db, replace(SMALL, passages=tuple(passages)), embedder)
        assert counts.knowledge == Counts(updated=2, unchanged=3)
        assert embedder.embedded == ["Gifts\nA gift stays.", "Leaving\nRooms are free until eleven."]
        after = {each["_id"]: each for each in (await everything(seed_db))["knowledge"]}
        assert after.keys() == before.keys()
        changed = [after[key] for key in after if after[key] != before[key]]
        assert [(each["title"], each["content"]) for each in changed] == [
            ("Gifts", "A gift stays."),
            ("Leaving", "Rooms are free until eleven."),
        ]
        for each in changed:
            assert each["updated_at"] >= before[each["_id"]]["updated_at"]
            assert each["embedding"] != before[each["_id"]]["embedding"]

    async def test_another_model_embeds_every_passage_again(self, seed_db):
        await seed(seed_db, SMALL, LocalEmbedder())
        counts = await seed(seed_db, SMALL, WatchedEmbedder("another-model"))
        assert counts.knowledge == Counts(updated=5)
        assert await seed_db.knowledge.distinct("embedding_model") == ["another-model"]

    async def test_a_passage_that_lost_its_vector_gets_one(self, seed_db):
        await seed(seed_db, SMALL, LocalEmbedder())
        await seed_db.knowledge.update_one({"source": "shipping.md"}, {"$unset": {"embedding": ""}})
        assert (await seed(seed_db, SMALL, LocalEmbedder())).knowledge == Counts(updated=1, unchanged=4)
        assert await seed_db.knowledge.count_documents({"embedding": {"$type": "binData"}}) == 5

    async def test_passages_that_left_their_file_are_removed(self, seed_db):
        await seed(seed_db, SMALL, LocalEmbedder())
        shorter = replace(SMALL, passages=tuple(SMALL.passages[place] for place in (0, 3, 4)))
        assert (await seed(seed_db, shorter, LocalEmbedder())).knowledge == Counts(unchanged=3, removed=1)
        assert [place for *place, _ in await passages_of(seed_db)] == [["returns.md", 0], ["shipping.md", 0]]
        assert await seed_db.knowledge.count_documents({"tenant_id": "hotel"}) == 2


class TestWhatOthersWrote:
    async def test_it_is_kept_and_counted(self, seed_db):
        await seed_db.orders.insert_one({"tenant_id": "default", "order_id": "1", "user_id": "u-9", "total": 7})
        await seed_db.knowledge.insert_one(
            {"tenant_id": "default", "source": "returns.md", "chunk": 0, "content": "Ours.", "origin": "knowledge add"}
        )
        before = await everything(seed_db)
        for expected in (Counts(inserted=4, kept=1), Counts(unchanged=4, kept=1)):
            embedder = WatchedEmbedder()
            counts = await seed(seed_db, SMALL, embedder)
            assert counts.knowledge == expected
            assert len(embedder.embedded) == expected.inserted
            assert counts.orders.kept == 1
        assert await seed_db.orders.find_one({"tenant_id": "default"}) == before["orders"][0]
        assert await seed_db.knowledge.find_one({"content": "Ours."}) == before["knowledge"][0]

    async def test_it_is_never_removed(self, seed_db):
        await seed(seed_db, SMALL, LocalEmbedder())
        await seed_db.knowledge.insert_many(
            [
                {"tenant_id": "default", "source": "returns.md", "chunk": 7, "content": "Ours."},
                {"tenant_id": "default", "source": "other.md", "chunk": 0, "content": "Ours too."},
                {"tenant_id": "elsewhere", "source": "returns.md", "chunk": 1, "content": "Theirs.", "origin": "seed"},
            ]
        )
        counts = await seed(seed_db, SMALL, LocalEmbedder())
        assert counts.knowledge == Counts(unchanged=5)
        assert await seed_db.knowledge.count_documents({}) == 8

    async def test_it_is_kept_when_it_appears_while_the_seed_embeds(self, seed_db):
        ours = {"tenant_id": "default", "source": "returns.md", "chunk": 0, "content": "Ours."}
        counts = await seed(seed_db, SMALL, MeddlingEmbedder(lambda: seed_db.knowledge.insert_one(ours)))
        assert counts.knowledge == Counts(inserted=4, kept=1)
        assert (await passages_of(seed_db))[0] == ("returns.md", 0, "Ours.")

    async def test_it_is_kept_when_it_is_taken_over_while_the_seed_embeds(self, seed_db):
        await seed(seed_db, SMALL, LocalEmbedder())
        changed = (SHOP, Passage("returns.md", 0, "Returns", "You have 30 days."))
        meddling = MeddlingEmbedder(lambda: seed_db.knowledge.update_many({}, {"$unset": {"origin": ""}}))
        counts = await seed(seed_db, SeedData(passages=(changed,)), meddling)
        assert counts.knowledge == Counts(kept=1)
        assert await passages_of(seed_db, source="returns.md") == [
            ("returns.md", 0, "You have 45 days."),
            ("returns.md", 1, "A gift can come back as well."),
        ]


class TestInterruptions:
    async def test_what_was_embedded_before_a_failure_is_not_embedded_again(self, seed_db):
        with pytest.raises(EmbeddingError):
            await seed(seed_db, SMALL, WatchedEmbedder(give_up_after=4))
        assert await seed_db.orders.count_documents({}) == 2
        assert await seed_db.knowledge.count_documents({"embedding": {"$exists": True}}) == 4
        embedder = WatchedEmbedder()
        assert (await seed(seed_db, SMALL, embedder)).knowledge == Counts(inserted=1, unchanged=4)
        assert embedder.embedded == ["Bags\nBags may stay behind."]

    async def test_two_runs_at_a_time_write_nothing_twice(self, seed_db):
        both = await asyncio.gather(seed(seed_db, SAMPLE, WatchedEmbedder()), seed(seed_db, SAMPLE, WatchedEmbedder()))
        for place, part in enumerate((SAMPLE.users, SAMPLE.orders, SAMPLE.passages)):
            assert sum(counts.rows()[place]["inserted"] for counts in both) == len(part)
        stored = await everything(seed_db)
        assert {name: len(documents) for name, documents in stored.items()} == {
            "users": len(SAMPLE.users),
            "orders": len(SAMPLE.orders),
            "knowledge": len(SAMPLE.passages),
        }

    async def test_a_database_that_is_away_is_said_to_be_away(self, tmp_path):
        address = "mongodb://" + str(tmp_path / "no.sock").replace("/", "%2F")
        async with create_client(f"{address}/?serverSelectionTimeoutMS=100") as client:
            with pytest.raises(DatabaseUnavailableError) as caught:
                await seed(client["lkmongo"], SMALL, LocalEmbedder())
        assert isinstance(caught.value.__cause__, PyMongoError)
