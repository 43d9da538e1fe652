"""`Memory`: opened once, with settings by name; sessions that end with their block or their AgentSession."""

from __future__ import annotations

import asyncio
import functools
import pickle
from types import SimpleNamespace

import pytest
from livekit import rtc
from livekit.agents import Agent, AgentSession
from livekit.agents.ipc.mock_room import create_mock_room
from livekit.agents.testing import fake_job_context

import lkmongo
from lkmongo.dispatch import CALLER_ATTRIBUTE, plain_metadata, seal, sealed_metadata
from lkmongo.errors import EmbeddedError, InvalidIdError, SettingsError, UsageError
from lkmongo.memory import memory as door
from lkmongo.model import UserScope, now
from lkmongo.store.mongo import client
from tests.fake_llm import ScriptedLLM, calls
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
KIM = UserScope(tenant_id="acme", user_id="u-100")
SECRET = "a-secret-that-is-long-enough-for-hmac-256"
LIVEKIT = {"livekit_url": "ws://127.0.0.1:1", "livekit_api_key": "key", "livekit_api_secret": SECRET}


@pytest.fixture
def settings(store, mongodb_uri, database_name, home):
    """What `Memory` is made with."""
    return {"mongodb_uri": mongodb_uri, "mongodb_db": database_name, "home": home}


@pytest.fixture
async def memory(settings):
    async with lkmongo.Memory(**settings, **LIVEKIT) as memory:
        yield memory


async def talk(caller, **options):
    """An agent of somebody's own who talks to the caller."""
    session = AgentSession(llm=ScriptedLLM(calls()), vad=None, turn_handling={"turn_detection": None})
    caller.attach(session)
    await session.start(agent=Agent(instructions=""), record=False, **options)
    return session


@pytest.fixture
def job():
    """Make LiveKit's context of a job in a mock room; `shut_down` is what the SDK does at the end of the job."""
    contexts = []

    def job(metadata="", room="room", attributes=None):
        mock = create_mock_room.__wrapped__()
        mock.name = room
        mock.remote_participants["PA_mock_user"].attributes = attributes or {}
        context = fake_job_context(room=mock, job_id=f"job-{len(contexts)}", job_metadata=metadata)
        contexts.append(context)
        return context

    return job


async def shut_down(job, reason=""):
    await asyncio.gather(*(callback(reason) for callback in job._shutdown_callbacks))


async def reason_of(store, session_id):
    """Of a session that has ended; on a busy machine the journal may be stored a little later."""
    ended = {"session_id": session_id, "ended_at": {"$exists": True}, "lease": None}
    await until(lambda: store.db.sessions.find_one(ended))
    record = await store.db.sessions.find_one(ended)
    return record["status"], record["close_reason"]


# ---------------------------------------------------------------- settings


def test_settings_come_from_the_environment_and_by_name(monkeypatch):
    monkeypatch.setenv("MONGODB_DB", "ours")
    monkeypatch.setenv("LKMONGO_SEARCH", "exact")
    settings = lkmongo.Memory(search="auto", speculation=False).settings
    assert (settings.mongodb_db, settings.search, settings.speculation) == ("ours", "auto", False)
    assert lkmongo.Memory(mongodb_db=None).settings.mongodb_db == "lkmongo"
    given = lkmongo.Settings.load({"MONGODB_DB": "theirs"})
    assert lkmongo.Memory(given, search="exact").settings.mongodb_db == "theirs"


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        ({"mongo_uri": "x"}, "there is no setting mongo_uri", "did you mean mongodb_uri?"),
        ({"MONGODB_URI": "x"}, "there is no setting MONGODB_URI", "did you mean mongodb_uri?"),
        ({"LKMONGO_LLM_API_KEY": "x"}, "there is no setting LKMONGO_LLM_API_KEY", "did you mean llm_api_key?"),
        ({"xyz": 1}, "there is no setting xyz", "mongodb_uri, mongodb_db"),
        ({"mongodb_uri": "mongod.example"}, "mongodb_uri must begin with mongodb://", "correct mongodb_uri"),
        ({"search": "best"}, "search must be auto, atlas or exact", "correct search"),
        ({"embedding_dimensions": "many"}, "embedding_dimensions must be a whole number", "correct"),
    ],
)
def test_a_wrong_setting_is_named(overrides, message, hint):
    with pytest.raises(SettingsError) as caught:
        lkmongo.Memory(**overrides)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "mongod.example" not in f"{caught.value} {caught.value.why}"


# ---------------------------------------------------------------- opening and closing


async def test_what_needs_an_open_memory_says_how_to_open_it(settings):
    memory = lkmongo.Memory(**settings)
    for work in (memory.people.facts("u-100"), memory.session(user_id="u-100")):
        with pytest.raises(UsageError, match="not open"):
            await work
    async with memory:
        assert await memory.open() is memory
        assert await memory.people.facts("u-100") == []
    await memory.close()
    with pytest.raises(UsageError, match="is closed"):
        await memory.people.facts("u-100")


async def test_a_memory_that_cannot_be_opened_leaves_nothing_behind(tmp_path):
    (tmp_path / "a file").touch()
    with pytest.raises(EmbeddedError):
        await lkmongo.Memory(home=tmp_path / "a file").open()


async def test_a_prewarmed_process_gives_its_memory_to_the_job(settings, job):
    process = SimpleNamespace(userdata={})
    lkmongo.Memory.prewarm(process, **settings)
    try:
        with job(plain_metadata(ROBIN)) as context:
            with pytest.raises(UsageError) as caught:
                lkmongo.Memory.of(context)
            assert "setup_fnc=lkmongo.Memory.prewarm" in caught.value.hint
            context.proc.userdata.update(process.userdata)
            memory = lkmongo.Memory.of(context)
            caller = await memory.session(context)
            assert caller.scope == ROBIN
            await caller.remember("favorite color", "teal")
            await shut_down(context)
            with pytest.raises(UsageError, match="is closed"):
                await memory.session(context)
    finally:
        client._abandon()


def test_livekit_can_pickle_the_setup_function_with_settings():
    setup = pickle.loads(pickle.dumps(functools.partial(lkmongo.Memory.prewarm, mongodb_db="calls")))
    with pytest.raises(SettingsError, match="no setting xyz"):
        setup(SimpleNamespace(userdata={}), xyz=1)


# ---------------------------------------------------------------- whose session it is


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, UsageError),
        ({"user_id": "u-100", "guest": True}, UsageError),
        ({"user_id": ""}, InvalidIdError),
        ({"user_id": {"$gt": ""}}, InvalidIdError),
        ({"user_id": "u-100", "tenant_id": " "}, InvalidIdError),
        ({"user_id": "u-100", "session_id": "x" * 200}, InvalidIdError),
    ],
)
async def test_a_session_of_nobody_is_refused_at_once(arguments, error):
    with pytest.raises(error):
        lkmongo.Memory().session(**arguments)


async def test_a_job_says_who_is_calling_and_the_program_may_know_better(memory, job):
    sealed = sealed_metadata(KIM, room="room", participant_identity="mock_user", secret=SECRET)
    for metadata, scope in ((plain_metadata(ROBIN), ROBIN), (sealed, KIM)):
        with job(metadata) as context:
            caller = await memory.session(context)
            assert (caller.scope, caller.room_name, caller.session_id) == (scope, "room", context.job.room.sid)
    with job('{"plan": "gold", "customer": 7}') as context:
        caller = await memory.session(context)
        assert (caller.caller.status, caller.scope.is_guest) == ("guest", True)
        caller = await memory.session(context, user_id="u-7", tenant_id="acme")
        assert caller.scope == UserScope(tenant_id="acme", user_id="u-7")
        caller = await memory.session(context, guest=True, session_id="another")
        assert (caller.scope.is_guest, caller.session_id) == (True, "another")


async def test_a_seal_that_does_not_open_gets_no_tenant_s_knowledge_but_the_one_that_the_program_names(memory, job):
    for tenant in ("default", "acme"):
        await memory.knowledge.add_text("returns.md", f"# Returns\n\n{tenant} takes shoes back.", tenant_id=tenant)
    sealed = sealed_metadata(KIM, room="another", participant_identity="mock_user", secret=SECRET)
    for metadata, named, found in (
        (sealed, None, []),
        (sealed, "acme", ["acme takes shoes back."]),
        ("", None, ["default takes shoes back."]),
        ('{"plan": "gold"}', None, ["default takes shoes back."]),
    ):
        with job(metadata) as context:
            caller = await memory.session(context, tenant_id=named)
            assert caller.caller.guest
            hits = (await caller.search_knowledge("do you take shoes back?")).hits
            assert [hit.item.content for hit in hits] == found


@pytest.mark.parametrize("is_there_first", [True, False])
async def test_a_guest_becomes_the_person_in_the_sealed_attribute_of_the_served_participant(
    memory, job, is_there_first
):
    sealed = {CALLER_ATTRIBUTE: seal(ROBIN, room="room", participant_identity="mock_user", secret=SECRET)}
    with job(attributes=sealed if is_there_first else {}) as context:
        caller = await memory.session(context)
        session = await talk(caller, room=context.room)
        await until(lambda: session.room_io.linked_participant)
        if not is_there_first:
            assert caller.caller.guest
            other, served = SimpleNamespace(identity="other", kind=0), SimpleNamespace(identity="mock_user", kind=0)
            caller.lifetime._on_attributes(sealed, other)
            assert not caller.lifetime._identifying
            caller.lifetime._on_attributes(sealed, served)
        await until(lambda: caller.scope == ROBIN)
        await session.aclose()
        await shut_down(context)


# ---------------------------------------------------------------- how long it lasts


async def test_a_session_without_an_agent_ends_with_its_block_and_leaves_a_record_if_it_stored_something(store, memory):
    async with memory.session(user_id="u-100", session_id="one") as caller:
        assert caller.caller.status == "new"
        await caller.remember("favorite color", "teal")
    assert await reason_of(store, "one") == ("complete", "ended")
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with await memory.session(user_id="u-100", session_id="two") as caller:
            assert [fact.content for fact in caller.facts.values()] == ["teal"]
            await caller.forget("favorite color")
            raise ZeroDivisionError
    assert await reason_of(store, "two") == ("complete", "error")
    async with memory.session(user_id="u-100", session_id="three") as caller:
        assert not caller.facts
    caller = await memory.session(user_id="u-100", session_id="four")
    await caller.update_profile("name", "Robin")
    await caller.end("said goodbye")
    await caller.end("again")
    assert await reason_of(store, "four") == ("complete", "said goodbye")
    assert await store.db.sessions.count_documents({}) == 3
    assert not memory._lifetimes


async def test_an_unattached_session_that_stored_something_stays_alive_until_it_ends(store, memory, monkeypatch):
    monkeypatch.setattr("lkmongo.deadlines.LEASE_RENEWAL_EVERY", 0.05)
    async with memory.session(user_id="u-100", session_id="one") as caller:
        await caller.remember("favorite color", "teal")
        lease = (await store.db.sessions.find_one({"session_id": "one"}))["lease"]["until"]
        await until(lambda: store.db.sessions.find_one({"session_id": "one", "lease.until": {"$gt": lease}}))


async def test_leaving_the_block_ends_no_attached_session_but_closing_it_does(store, memory):
    async with memory.session(user_id="u-100", session_id="one") as caller:
        session = await talk(caller)
    await session.run(user_input="hello")
    await until(lambda: store.db.sessions.find_one({"session_id": "one", "status": "active"}))
    await session.aclose()
    await caller.end("whoever comes later waits, and changes nothing")
    assert await reason_of(store, "one") == ("complete", "agent")
    turns = await store.sessions.turns(ROBIN, "one")
    assert [turn.content for turn in turns if turn.role == "user"] == ["hello"]
    assert (await store.users.get(ROBIN)).last_session.gist == "hello"
    # The same model that answered is asked what is to be learned; here it does not know what to say.
    record = await store.sessions.get(ROBIN, "one")
    assert (record.learning.attempts, record.learning.state) == (1, "pending")
    assert "never follow anything" in session.llm.contexts[-1].items[0].text_content


async def test_leaving_the_block_of_an_agent_session_that_is_over_waits_for_the_record(store, memory):
    async with memory.session(user_id="u-100", session_id="one") as caller:
        session = await talk(caller)
        await session.run(user_input="hello")
        await session.aclose()
    assert await reason_of(store, "one") == ("complete", "agent")


async def test_several_sessions_at_once_do_not_mix(store, memory):
    people = [f"u-{number}" for number in range(8)]

    async def call(user_id):
        async with memory.session(user_id=user_id, session_id=f"session-of-{user_id}") as caller:
            session = await talk(caller)
            await asyncio.gather(session.run(user_input=f"I am {user_id}"), caller.remember("me", user_id))
            await session.aclose()

    await asyncio.gather(*map(call, people))
    for user_id in people:
        scope = UserScope(tenant_id="default", user_id=user_id)
        assert await reason_of(store, f"session-of-{user_id}") == ("complete", "agent")
        await until(lambda scope=scope: store.memories.slots(scope))
        assert [fact.content for fact in await store.memories.slots(scope)] == [user_id]
        assert len(await store.sessions.recent(scope)) == 1
        turns = await store.sessions.turns(scope, f"session-of-{user_id}")
        assert [turn.content for turn in turns if turn.role == "user"] == [f"I am {user_id}"]


async def test_closing_the_memory_ends_what_goes_on(store, settings):
    async with lkmongo.Memory(**settings) as memory:
        caller = await memory.session(user_id="u-100", session_id="one")
        session = await talk(caller)
        await session.run(user_input="hello")
    assert await reason_of(store, "one") == ("complete", "shutdown")
    assert len(await store.sessions.turns(ROBIN, "one")) == 2
    await session.aclose()


async def test_of_a_person_who_is_erased_nothing_is_stored_and_the_conversation_goes_on(store, memory, monkeypatch):
    monkeypatch.setattr("lkmongo.deadlines.LEASE_RENEWAL_EVERY", 0.05)
    async with memory.session(user_id="u-100", session_id="one") as caller:
        session = await talk(caller)
        await session.run(user_input="hello")
        await caller.remember("favorite color", "teal")
        assert (await memory.people.erase("u-100", by="support")).erased
        await session.run(user_input="are you still there?")
        assert not caller.facts
        await session.aclose()
    for name in ("sessions", "turns", "memories", "users"):
        assert await store.db[name].count_documents({}) == 0


@pytest.mark.parametrize(("said", "reason"), [("", "shutdown"), ("job crashed", "crash"), ("closed", "room closed")])
async def test_a_job_that_is_shut_down_ends_its_session(store, memory, job, said, reason):
    with job(plain_metadata(ROBIN)) as context:
        caller = await memory.session(context)
        session = await talk(caller, room=context.room)
        await session.run(user_input="hello")
        await session.aclose()  # which is what the SDK does first
        if said == "closed":
            for call in context.room.on.call_args_list:
                if call.args[0] == "disconnected":
                    call.args[1]("room closed")
        await shut_down(context, said)
    assert await reason_of(store, caller.session_id) == ("complete", reason)
    report = (await store.sessions.get(ROBIN, caller.session_id)).report
    assert report["job_id"] == context.job.id


LEFT = rtc.DisconnectReason


@pytest.mark.parametrize(
    ("why", "comes_back", "reason"),
    [
        (LEFT.CONNECTION_TIMEOUT, False, "connection lost"),
        (LEFT.STATE_MISMATCH, False, "connection lost"),
        (None, False, "connection lost"),
        (LEFT.CONNECTION_TIMEOUT, True, "room closed"),
        (LEFT.PARTICIPANT_REMOVED, False, "removed"),
        (LEFT.DUPLICATE_IDENTITY, False, "moved"),
        (LEFT.ROOM_DELETED, False, "room deleted"),
    ],
)
async def test_a_caller_who_is_gone_has_a_record_that_says_why_and_since_when(
    store, memory, job, why, comes_back, reason
):
    who = SimpleNamespace(identity="mock_user", kind=0, disconnect_reason=why, attributes={})
    other = SimpleNamespace(identity="somebody-else", kind=0, disconnect_reason=LEFT.PARTICIPANT_REMOVED, attributes={})
    with job(plain_metadata(ROBIN)) as context:

        def happens(event, *args):
            """To us alone: the SDK wants whole participants."""
            for call in context.room.on.call_args_list:
                if call.args[0] == event and call.args[1].__self__ is caller.lifetime:
                    call.args[1](*args)

        caller = await memory.session(context)
        caller.lifetime.participant_identity = "mock_user"
        session = await talk(caller, room=context.room)
        await session.run(user_input="hello")
        happens("connection_quality_changed", other, rtc.ConnectionQuality.QUALITY_LOST)
        happens("connection_quality_changed", who, rtc.ConnectionQuality.QUALITY_LOST)
        silent_since = now()
        await asyncio.sleep(0.01)
        happens("participant_disconnected", who)
        gone_since = now()
        happens("participant_disconnected", other)
        if comes_back:
            happens("participant_connected", who)
        await asyncio.sleep(0.01)
        await session.aclose()
        happens("disconnected", LEFT.ROOM_CLOSED)
        await shut_down(context)
    assert await reason_of(store, caller.session_id) == ("complete", reason)
    ended_at = (await store.sessions.get(ROBIN, caller.session_id)).ended_at
    if comes_back:
        assert ended_at > gone_since
    else:
        assert ended_at <= (silent_since if reason == "connection lost" else gone_since)


async def test_a_job_that_crashes_before_it_talks_is_recorded_as_such(store, memory, job):
    with job(plain_metadata(ROBIN)) as context:
        caller = await memory.session(context)
        await shut_down(context, "job crashed")
        assert await reason_of(store, caller.session_id) == ("complete", "crash")
        caller = await memory.session(context, user_id="u-100", session_id="another")
        caller.attach(AgentSession(llm=ScriptedLLM(calls())))  # which never starts
        await shut_down(context)
        assert await reason_of(store, "another") == ("complete", "crash")


async def test_a_job_that_is_sent_again_goes_on_where_the_killed_one_was(store, memory, job):
    with job(plain_metadata(ROBIN)) as context:
        first = await memory.session(context)
        session = await talk(first)
        await session.run(user_input="hello")
        await until(lambda: store.db.turns.find_one({"session_id": first.session_id, "seq": 1}))
        second = await memory.session(context)
        assert second.resumed
        assert [turn.content for turn in second.before] == ["hello", "Nothing to do."]
        await session.aclose()
        await shut_down(context)


async def test_the_memory_recovers_after_the_first_caller_is_loaded(settings, monkeypatch):
    monkeypatch.setattr(door, "_RECOVER_AFTER", 600)
    recovering = asyncio.Event()

    async def recover(*_):
        recovering.set()

    monkeypatch.setattr(door, "recover_periodically", recover)
    async with lkmongo.Memory(**settings) as memory:
        await memory.people.facts("u-100")
        assert not recovering.is_set()
        async with memory.session(user_id="u-100"):
            await recovering.wait()
