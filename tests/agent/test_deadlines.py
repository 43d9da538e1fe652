"""With MongoDB unreachable, silent, slow or busy, no part of a session waits longer than its deadline, nor twice."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest
from livekit.agents import AgentSession
from livekit.agents.testing import fake_job_context
from pymongo import MongoClient

from lkmongo import deadlines
from lkmongo.agent.assistant import Assistant
from lkmongo.agent.beginning import begin_session
from lkmongo.agent.ending import end_session
from lkmongo.embed.choose import create_embedder
from lkmongo.embed.local import LocalEmbedder
from lkmongo.errors import DatabaseUnavailableError
from lkmongo.model import SessionRecord, SessionStatus, UserScope, now
from lkmongo.outbox.lease import Lease
from lkmongo.settings import Settings
from lkmongo.store.mongo.circuit_breaker import CircuitBreaker
from lkmongo.store.open import open_store
from tests.auth_mongod import guarded_mongod
from tests.fake_llm import ScriptedLLM, calls
from tests.fault_proxy import FaultProxy
from tests.patience import be_patient
from tests.talk import Talk
from tests.waiting import PATIENCE, until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
SID = "RM_1"
logger = logging.getLogger("deadlines")


class Waits:
    """As long as calls wait while MongoDB is away, and longer while it is there: this machine may be busy."""

    def __init__(self):
        self._patch = pytest.MonkeyPatch()
        self.be_long()

    def be_long(self):
        be_patient(self._patch.setattr)

    def be_short(self):
        self.undo()
        for name in ("TOOL_READ", "TOOL_CHANGE", "TOOL_SEARCH"):  # these are for all else
            self._patch.setattr(deadlines, name, PATIENCE)

    def put(self, **seconds):
        """Wait as long as this instead."""
        for name, each in seconds.items():
            self._patch.setattr(deadlines, name, each)

    def undo(self):
        self._patch.undo()


@pytest.fixture(autouse=True)
def patient():
    waits = Waits()
    yield waits
    waits.undo()


class Away(FaultProxy):
    """A MongoDB that is away at times."""

    def __init__(self, path, waits):
        super().__init__(path)
        self._waits = waits

    def begin(self, fault):
        if fault != "slow":
            self._waits.be_short()
        super().begin(fault)

    async def end(self):
        await super().end()
        self._waits.be_long()


@pytest.fixture
async def proxy(mongodb_uri, patient):
    proxy = Away(unquote(urlsplit(mongodb_uri).netloc), patient)
    proxy.slow_delay = 0.15
    await proxy.listen()
    yield proxy
    await proxy.close()


@pytest.fixture
async def held(proxy, store, database_name, home, embedder):
    """Hold a call through the proxy; its record is closed after."""

    @asynccontextmanager
    async def hold(uri=f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"):
        settings = Settings.load(
            {
                "MONGODB_URI": uri,
                "MONGODB_DB": database_name,
                "LKMONGO_HOME": str(home),
                "LKMONGO_SEARCH": "exact",
                "LKMONGO_SPECULATION": "off",
            }
        )
        with Took("all of it"):
            async with contextlib.AsyncExitStack() as stack:
                began = Took("greeting")
                began.__enter__()
                store = await stack.enter_async_context(open_store(settings))
                beginning = begin_session(
                    settings, store, embedder, ROBIN, guest=False, session_id=SID, room_name="room", agent="a"
                )
                call = await stack.enter_async_context(beginning)
                job = stack.enter_context(fake_job_context(job_id=SID))
                model = ScriptedLLM(calls(greeting="Hello."))
                session = AgentSession(llm=model, userdata=call, vad=None, turn_handling={"turn_detection": None})
                call.attach(session)
                await session.start(Assistant(), capture_run=True, record=False)
                began.__exit__()
                yield Talk(session, call, model, job)
                with Took("hang-up"):
                    await session.aclose()
                    await end_session(call, "hang-up", dict, ended_at=now())
                closing = Took("closing")
                closing.__enter__()
            closing.__exit__()

    return hold


@pytest.fixture(scope="module")
def embedder():
    return create_embedder("local")


class Took:
    """Log how long something took; nothing depends on it."""

    def __init__(self, what):
        self.what = what

    def __enter__(self):
        self.began = time.monotonic()

    def __exit__(self, *_):
        logger.info("%s took %.2f s", self.what, time.monotonic() - self.began)


async def tool(call, name, **arguments):
    with Took(name):
        return await call.tool(name, **arguments)


@pytest.mark.parametrize("fault", ["refuse", "stall", "cut"])
async def test_an_unreachable_mongodb_delays_neither_greeting_nor_later_loading(store, proxy, held, fault):
    await store.memories.remember(ROBIN, "shoe size", "42")
    proxy.begin(fault)
    async with held() as call:
        said = [item.text_content for item in call.session.history.messages()]
        assert said == ["Hello."], "it is greeted while MongoDB is away"
        messages = [item.text_content for item in call.llm.contexts[0].items if item.type == "message"]
        (briefing,) = (text for text in messages if "<caller_data>" in text)
        assert '"status": "loading"' in briefing
        assert not any(word in briefing.lower() for word in ("mongodb", "database", "error"))
        output, is_error = await tool(call, "remember_detail", memory_type="color", content="teal")
        assert (output, is_error) == ("I will remember your color: teal. It will be saved in a moment.", False)
        assert (await tool(call, "recall_detail", memory_type="shoe_size"))[1]
        await proxy.end()
        await until(lambda: call.call.caller.loaded)
        assert await tool(call, "recall_detail", memory_type="shoe_size") == ("Your shoe size: 42.", False)
        await until(lambda: call.call.caller.saved == "stored")
    assert {slot.memory_type: slot.content for slot in await store.memories.slots(ROBIN)} == {
        "color": "teal",
        "shoe_size": "42",
    }
    record = await store.sessions.get(ROBIN, SID)
    assert record.status is SessionStatus.COMPLETE
    assert [each.seq for each in await store.sessions.turns(ROBIN, SID)] == list(range(10))


class Watched(LocalEmbedder):
    """Tells whether MongoDB was given up when the model was read."""

    def __init__(self, store):
        self.store = store
        self.given_up = []

    async def warm(self):
        self.given_up.append(self.store.breaker.is_open)
        await super().warm()


async def test_the_embedding_model_is_loaded_while_mongodb_is_awaited(proxy, database_name, home):
    proxy.begin("stall")
    given = {"MONGODB_URI": f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true", "MONGODB_DB": database_name}
    settings = Settings.load(given | {"LKMONGO_HOME": str(home)})
    async with open_store(settings) as store:
        watched = Watched(store)
        async with begin_session(
            settings, store, watched, ROBIN, guest=False, session_id=SID, room_name="room"
        ) as call:
            assert not await call.caller.preload()
            await until(lambda: watched.given_up)
    assert watched.given_up == [False]


async def test_the_end_of_an_erased_session_does_not_wait_for_an_unreachable_mongodb(store, monkeypatch):
    monkeypatch.setattr(deadlines, "AWAY", 0.01)
    monkeypatch.setattr(deadlines, "ERASED_END", math.inf)
    lease = Lease(store, SessionRecord(SID, ROBIN, "room", SessionStatus.ACTIVE, now()))
    deleting = asyncio.Event()

    async def never_ends():
        deleting.set()
        await never()

    lease._sweep = never_ends
    lease._on_erased()
    await deleting.wait()
    store.breaker.failed()
    await lease.release(math.inf)
    await lease.release(0)


@pytest.mark.parametrize("fault", ["refuse", "stall"])
async def test_only_one_turn_waits_to_find_out_that_mongodb_is_unreachable(store, proxy, held, fault, patient):
    async with held() as call:
        assert (await tool(call, "lookup_order", order_id="7"))[0] == "You have no order 7."
        assert not (await tool(call, "search_knowledge", query="delivery"))[1]
        asked = counted(call.call)
        proxy.begin(fault)
        patient.put(CIRCUIT_OPEN=PATIENCE)  # nine turns may take longer here than callers do
        assert (await tool(call, "search_knowledge", query="delivery time")) == ("I could not search just now.", True)
        assert call.call.store.breaker.is_open
        del asked[:]
        for _ in range(3):
            assert (await tool(call, "search_knowledge", query="delivery")) == ("I could not search just now.", True)
            assert (await tool(call, "lookup_order", order_id="7")) == ("I could not look that up just now.", True)
            assert "saved in a moment" in (await tool(call, "remember_detail", memory_type="a", content="b"))[0]
        assert asked == []
        await proxy.end()
        await until(lambda: not call.call.store.breaker.is_open)
        assert (await tool(call, "lookup_order", order_id="7"))[0] == "You have no order 7."
        assert not (await tool(call, "search_knowledge", query="delivery"))[1]
        assert asked


@pytest.mark.parametrize("fault", ["stall", "refuse"])
async def test_without_mongodb_at_the_end_the_session_is_journaled(store, proxy, held, fault, patient, monkeypatch):
    monkeypatch.setattr("lkmongo.store.open._CLOSE_DEADLINE", 0.1)
    async with held() as call:
        await until(lambda: store.sessions.turns(ROBIN, SID))
        proxy.begin(fault)
        # MongoDB has half a second of it, and the disk as long as it takes.
        patient.put(AWAY=0.2, SETTLE=0.2, HANG_UP=deadlines.KEEP_ON_DISK + 0.7, DISK=PATIENCE)
        await call.say("hello")
    assert call.call.recorder.is_journaled
    await proxy.end()


async def test_a_slow_mongodb_is_not_unreachable(store, proxy, held):
    async with held() as call:
        await until(lambda: store.sessions.turns(ROBIN, SID))
        await tool(call, "search_knowledge", query="returns")  # what it imports is not the database's slowness
        proxy.begin("slow")
        await asyncio.sleep(1)  # connections that are on their way
        assert (await tool(call, "lookup_order", order_id="7"))[0] == "You have no order 7."
        assert not (await tool(call, "search_knowledge", query="delivery"))[1]
        assert (await tool(call, "remember_detail", memory_type="a", content="b"))[0].startswith("I will remember")
        assert not call.call.store.breaker.is_open
    assert (await store.sessions.get(ROBIN, SID)).status is SessionStatus.COMPLETE


async def test_a_call_has_three_connections_at_most_and_closes_them(proxy, held):
    async with held() as call:
        for number in range(3):
            wanted = [call.call.order("7"), call.call.search_knowledge("delivery"), call.call.store.users.get(ROBIN)]
            await asyncio.gather(*wanted, call.call.caller.remember(f"a {number}", "b"), call.say("hello"))
    assert 2 <= proxy.most <= 3
    await until(lambda: proxy.open == 0)


async def test_with_every_connection_taken_a_turn_does_not_wait_for_one(store, held, patient):
    async def at_work():
        admin = store.db.client.admin
        asked = await admin.aggregate([{"$currentOp": {}}, {"$match": {"ns": f"{store.db.name}.orders"}}])
        return [each["opid"] async for each in asked]

    async def both_are_at_work():
        return len(await at_work()) == 2

    async with held() as call:
        await until(lambda: store.sessions.turns(ROBIN, SID))
        db = call.call.store.db
        await db.orders.insert_one({"tenant_id": "t", "order_id": "1"})
        busy = [asyncio.create_task(db.orders.find_one({"$where": "sleep(600000) || true"})) for _ in range(2)]
        await until(both_are_at_work)
        patient.be_short()
        assert (await tool(call, "lookup_order", order_id="7")) == ("I could not look that up just now.", True)
        assert (await tool(call, "search_knowledge", query="delivery"))[1]
        patient.be_long()
        for number in await at_work():
            await store.db.client.admin.command("killOp", op=number)
        await asyncio.gather(*busy, return_exceptions=True)
        await until(lambda: not call.call.store.breaker.is_open)
        assert (await tool(call, "lookup_order", order_id="7"))[0] == "You have no order 7."


async def test_a_database_user_without_rights_does_not_stop_a_session(held, tmp_path, database_name, patient):
    usual = deadlines.ACKNOWLEDGED
    (tmp_path / "guarded").mkdir()
    role = {"role": "readWrite", "db": database_name}
    with guarded_mongod(tmp_path / "guarded") as guarded, MongoClient(guarded.uri("root")) as root:
        async with held(guarded.add("robin", role)) as call:
            patient.put(ACKNOWLEDGED=PATIENCE)
            assert (await tool(call, "remember_detail", memory_type="a", content="b"))[0].endswith("b.")
            patient.put(ACKNOWLEDGED=usual)
            root.admin.command("revokeRolesFromUser", "robin", roles=[role])
            assert (await tool(call, "lookup_order", order_id="7")) == ("I could not look that up just now.", True)
            assert (await tool(call, "search_knowledge", query="delivery")) == ("I could not search just now.", True)
            output, is_error = await tool(call, "remember_detail", memory_type="a", content="c")
            assert (output, is_error) == ("I will remember your a: c. It will be saved in a moment.", False)
            root.admin.command("grantRolesToUser", "robin", roles=[role])
            await until(lambda: call.call.caller.saved == "stored")
        db = root[database_name]
        assert db.sessions.find_one()["status"] == "complete"
        assert [each["seq"] for each in db.turns.find().sort("seq")] == list(range(13))
        assert db.memories.find_one()["content"] == "c"


def counted(call):
    """Count what asks MongoDB in a turn."""
    asked = []
    search, get = call.search.knowledge, call.store.orders.get

    async def knowledge(*arguments, **named):
        asked.append("search")
        return await search(*arguments, **named)

    async def order(*arguments):
        asked.append("order")
        return await get(*arguments)

    call.search.knowledge, call.store.orders.get = knowledge, order
    return asked


# ---------------------------------------------------------------- the breaker


async def never():
    await asyncio.Event().wait()


async def at_once():
    return "answer"


async def refused():
    raise DatabaseUnavailableError


@pytest.mark.parametrize("work", [never, refused])
async def test_what_does_not_answer_opens_it_and_any_answer_closes_it(work):
    breaker = CircuitBreaker()
    assert await breaker.read(at_once) == "answer"
    with pytest.raises(DatabaseUnavailableError):
        await breaker.read(work, 0.01)
    for ask in (lambda: breaker.read(at_once), lambda: breaker.watch(at_once, at_once)):
        with pytest.raises(DatabaseUnavailableError) as caught:
            await ask()
        assert "a moment ago" in caught.value.why
    breaker.answered()
    assert await breaker.read(at_once) == "answer"


async def test_an_error_that_is_an_answer_does_not_open_it():
    breaker = CircuitBreaker()

    async def wrong():
        raise ValueError

    for ask in (lambda: breaker.read(wrong), lambda: breaker.watch(wrong, at_once)):
        with pytest.raises(ValueError):
            await ask()
        assert not breaker.is_open


def test_without_a_renewal_that_tells_it_is_tried_again_after_a_while(monkeypatch):
    clock = iter([100.0, 100.0 + deadlines.CIRCUIT_OPEN - 1, 100.0 + deadlines.CIRCUIT_OPEN + 1])
    monkeypatch.setattr("lkmongo.store.mongo.circuit_breaker.time", SimpleNamespace(monotonic=lambda: next(clock)))
    breaker = CircuitBreaker()
    breaker.failed()
    assert breaker.is_open
    assert not breaker.is_open


async def test_what_is_slow_is_waited_for_as_long_as_there_are_signs_of_life(monkeypatch):
    monkeypatch.setattr("lkmongo.deadlines.PING_AFTER", 0.01)
    breaker = CircuitBreaker()
    pings = []

    async def ping():
        pings.append(1)

    async def slow():
        await until(lambda: pings)
        await asyncio.sleep(0.05)
        return "answer"

    assert await breaker.watch(slow, ping) == "answer"
    assert pings == [1]


async def test_what_is_slow_is_stopped_where_there_is_none(monkeypatch):
    monkeypatch.setattr("lkmongo.deadlines.PING_AFTER", 0.01)
    breaker = CircuitBreaker()
    stopped = []

    async def slow():
        try:
            await never()
        finally:
            stopped.append(1)

    with pytest.raises(DatabaseUnavailableError):
        await breaker.watch(slow, refused)
    assert breaker.is_open
    assert stopped == [1]


async def test_who_gives_up_waiting_leaves_nothing_behind(monkeypatch):
    monkeypatch.setattr("lkmongo.deadlines.PING_AFTER", 0.01)
    breaker = CircuitBreaker()
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await breaker.watch(never, never)
    assert asyncio.all_tasks() == before
