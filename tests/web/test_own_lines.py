"""What callers do with what is remembered of them, over HTTP: edit it, put it back, ask why; and their past calls."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from lkmongo import declarations
from lkmongo.consent import Consent
from lkmongo.declarations import ProfileField, declare
from lkmongo.errors import DatabaseUnavailableError
from lkmongo.model import LastSession, SessionRecord, SessionStatus, Source, Turn, TurnKind, UserScope, now
from lkmongo.settings import Settings
from lkmongo.store.open import Store
from lkmongo.store.people import editing
from lkmongo.store.people.erase import erase
from lkmongo.store.people.memories import Memories
from lkmongo.store.people.person import count
from lkmongo.summary import Commitment, Summary
from lkmongo.tenants import TenantPolicy
from lkmongo.web.limits import EDITS
from tests.encrypted import encrypted
from tests.overlaps import a_call
from tests.people import VECTOR, anywhere
from tests.web.test_caller import call, token
from tests.web_server import told, web_server

ROBIN = UserScope(tenant_id="default", user_id="robin@example.com")
AS_ROBIN = {"headers": {"X-User": ROBIN.user_id}}


def by_header(request):
    return request.headers.get("X-User")


@pytest.fixture
async def server(store):
    async with web_server(store, hook=by_header) as running:
        yield running


async def ask(server, method, path, **options):
    return await call(server.browser(), method, f"{server.url}api/{path}", **AS_ROBIN, **options)


async def put(server, name, content, kind="memory"):
    return await ask(server, "PUT", f"memories/{kind}/{name}", json={"content": content})


async def lines(server):
    _, shown = await ask(server, "GET", "memories")
    return {line["name"]: line for line in shown["lines"]}


def turn(number: int, content: str, role: str = "user", **more) -> Turn:
    return Turn(number, f"item-{number}", TurnKind.MESSAGE, more.pop("at", now()), role=role, content=content, **more)


async def a_past_call(store, name="s-1", turns=(), *, ago=timedelta(hours=1), text="", **more) -> SessionRecord:
    """Let there have been a call of Robin's, which took half an hour."""
    began = now() - ago
    ended = began + timedelta(minutes=30)
    summary = Summary(text, ended) if text else None
    record = SessionRecord(
        name, ROBIN, "room", SessionStatus.COMPLETE, began, ended, "hang-up", summary=summary, **more
    )
    await store.sessions.save(record)
    await store.sessions.append(ROBIN, name, list(turns))
    return record


# ------------------------------------------------------------------ edit and put back


async def test_an_edit_is_the_new_value_and_the_one_before_is_a_former_one(store, server):
    await store.memories.remember(ROBIN, "favorite_color", "green", source=Source("told", "s-1", "item-1"))
    status, line = await put(server, "favorite_color", "  teal ")
    assert status == 200
    assert (line["kind"], line["name"], line["label"], line["content"], line["editable"]) == (
        "memory",
        "favorite_color",
        "Favorite color",
        "teal",
        True,
    )
    assert (await lines(server))["favorite_color"] == line, "what the list shows"
    (former,) = await store.history.former(ROBIN, "favorite_color")
    assert (former.content, former.source) == ("green", Source("told", "s-1", "item-1"))
    assert (await store.memories.recall(ROBIN, "favorite_color")).source == Source("told")


async def test_who_puts_back_what_they_replaced_has_it_as_if_nothing_had_been(store, server):
    source = Source("told", "s-1", "item-1")
    await store.memories.remember(ROBIN, "city", "Boston", at=now() - timedelta(days=2))
    await store.memories.remember(ROBIN, "city", "Lisbon", at=now() - timedelta(days=1), source=source)
    await put(server, "city", "Lissabon")
    status, line = await put(server, "city", "Lisbon")
    assert (status, line["content"]) == (200, "Lisbon")
    assert (await store.memories.recall(ROBIN, "city")).source == source
    assert [each.content for each in await store.history.former(ROBIN, "city")] == ["Boston"]
    await put(server, "city", "Boston")  # that is a change: it was true before, and is again
    assert [each.content for each in await store.history.former(ROBIN, "city")] == ["Lisbon", "Boston"]


async def test_what_was_deleted_is_put_back(store, server):
    await store.users.set_field(ROBIN, "name", "Robin")
    await store.memories.remember(ROBIN, "city", "Lisbon")
    for kind, name, content in (("memory", "city", "Lisbon"), ("profile", "name", "Robin")):
        assert (await ask(server, "DELETE", f"memories/{kind}/{name}"))[0] == 204
        assert name not in await lines(server)
        assert (await put(server, name, content, kind))[0] == 200
        assert (await lines(server))[name]["content"] == content


async def test_doing_it_again_changes_nothing(store, server):
    await store.memories.remember(ROBIN, "city", "Boston")
    first = await put(server, "city", "Lisbon")
    version = await store.users.memory_version(ROBIN)
    assert await put(server, "city", "Lisbon") == first
    assert await store.users.memory_version(ROBIN) == version
    assert len(await store.history.former(ROBIN)) == 1
    await put(server, "name", "Robin", "profile")
    version = await store.users.memory_version(ROBIN)
    await put(server, "name", "Robin", "profile")
    assert await store.users.memory_version(ROBIN) == version


async def test_the_old_vector_goes_and_a_call_makes_the_new_one(store, server):
    await store.memories.remember(ROBIN, "city", "Boston")
    await store.db.memories.update_many({}, {"$set": {"embedding": VECTOR, "embedding_model": "m@2"}})
    await put(server, "city", "Lisbon")
    assert await store.memories.vector_model(ROBIN, "city") is None
    async with a_call(store, ROBIN) as going_on:
        await going_on.caller.preload()
        await going_on.caller.flush(60)
    assert await store.memories.vector_model(ROBIN, "city") not in (None, "m@2")


async def test_a_call_that_goes_on_knows_it_from_its_next_turn(store, server):
    await store.memories.remember(ROBIN, "city", "Boston")
    await store.users.set_field(ROBIN, "name", "Rob")
    async with a_call(store, ROBIN) as going_on:
        await going_on.caller.preload()
        assert "Boston" in going_on.briefing()
        await put(server, "city", "Lisbon")
        await put(server, "name", "Robin", "profile")
        await going_on.caller.refresh()
        assert "Lisbon" in going_on.briefing()
        assert "Boston" not in going_on.briefing()
        assert going_on.profile.name == "Robin"


@pytest.mark.parametrize(("gist", "stays"), [("Talked about moving to Boston.", False), ("Asked for a lamp.", True)])
async def test_what_the_last_call_was_about_goes_if_it_tells_what_is_no_longer_true(store, server, gist, stays):
    await a_past_call(store, text=gist)
    await store.users.set_last_session(ROBIN, LastSession(now(), gist, "s-1"), started_at=now())
    await store.memories.remember(ROBIN, "city", "Boston")
    await put(server, "city", "Lisbon")
    assert ("last_call" in await lines(server)) is stays
    _, found = await ask(server, "GET", "sessions")
    assert [each["summary"] for each in found["sessions"]] == [gist if stays else ""]
    assert not await store.users.forgot_after(ROBIN, now() - timedelta(hours=2)), "nothing else is forgotten by it"


async def test_it_goes_by_an_edit_that_is_tried_again(store, server, monkeypatch):
    await store.users.set_last_session(ROBIN, LastSession(now(), "About Boston.", None), started_at=now())
    await store.memories.remember(ROBIN, "city", "Boston")

    async def away(*_, **__):
        raise DatabaseUnavailableError

    with monkeypatch.context() as patch:
        patch.setattr(type(store.history), "settle", away)
        assert (await put(server, "city", "Lisbon"))[0] == 503
    assert (await put(server, "city", "Lisbon"))[0] == 200
    found = await lines(server)
    assert found["city"]["content"] == "Lisbon"
    assert "last_call" not in found
    assert [each.content for each in await store.history.former(ROBIN, "city")] == ["Boston"]


async def test_relative_dates_and_since_when_are_found_as_in_a_call(store, server):
    await put(server, "city", "Lisbon since May 2019")
    await put(server, "party", "next Friday")
    assert (await store.memories.recall(ROBIN, "city")).valid_from.year == 2019
    (date,) = (await store.memories.recall(ROBIN, "party")).dates
    assert date.day > now().date()


async def test_it_is_redacted_as_what_is_told(store, server):
    card = "my card is 4111 1111 1111 1111"
    assert (await put(server, "note", card))[0] == 400
    status, found = await put(server, "note", "My IBAN is DE89 3704 0044 0532 0130 00, call me Robin")
    assert status in {200, 400}
    assert "0532" not in str(found.get("content"))
    assert await anywhere(store, "4111", "0532 0130") == []


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("memory", "password", "hunter2-hunter2"),
        ("memory", "city", ""),
        ("memory", "city", " \n "),
        ("memory", "city", "x" * 4_001),
        ("memory", "x" * 65, "Lisbon"),
        ("memory", "%21%21", "Lisbon"),
        ("profile", "email", "no address"),
        ("profile", "timezone", "Atlantis"),
        ("profile", "name", "x" * 201),
        ("profile", "user_id", "u-100"),
        ("profile", "forgotten_at", "x"),
        ("profile", "last_call", "Nothing happened."),
        ("commitment", "0123456789ab", "Send a lamp"),
    ],
)
async def test_what_cannot_be_is_400_with_a_sentence_and_nothing_is_stored(store, server, kind, name, content):
    status, found = await put(server, name, content, kind)
    assert (status, set(found)) == (400, {"error", "message"})
    assert len(found["message"]) > 20
    assert not any((await count(store.db, ROBIN)).values())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'"x"',
        b'{"content": 1}',
        b'{"content": null}',
        b'{"content": {"$gt": ""}}',
        b"\xff",
        b"[" * 9_000,
        b'{"content": "x", "user_id": "u-100"}',
        b'{"content": "x", "at": "2020-01-01"}',
    ],
)
async def test_a_body_that_is_something_else_is_400(store, server, body):
    headers = {"Content-Type": "application/json"} | AS_ROBIN["headers"]
    status, _ = await call(server.browser(), "PUT", f"{server.url}api/memories/memory/city", data=body, headers=headers)
    assert status == 400
    assert await store.memories.count(ROBIN) == 0


async def test_half_a_character_does_no_harm(store, server):
    headers = {"Content-Type": "application/json"} | AS_ROBIN["headers"]
    path = f"{server.url}api/memories/memory/city"
    status, found = await call(server.browser(), "PUT", path, data=b'{"content": "a\\ud800\\u0000b"}', headers=headers)
    assert (status, found["content"]) == (200, (await store.memories.recall(ROBIN, "city")).content)


async def test_there_is_an_end_to_how_much_is_kept_and_how_often(store):
    few = Settings.load({"LKMONGO_MAX_SLOTS": "2", "LKMONGO_MAX_BYTES": "10KB"})
    async with web_server(store, hook=by_header, settings=few) as server:
        assert [(await put(server, name, "x" * 3_000))[0] for name in ("a", "b", "c")] == [200, 200, 400]
        await ask(server, "DELETE", "memories/memory/b")
        assert (await put(server, "c", "x" * 3_900))[0] == 200
        assert (await put(server, "a", "x" * 4_000))[0] == 200
        wide = {"Content-Type": "application/json"} | AS_ROBIN["headers"]
        body = json.dumps({"content": "\u00e4" * 4_000}, ensure_ascii=False).encode()
        path = f"{server.url}api/memories/memory/a"
        status, found = await call(server.browser(), "PUT", path, data=body, headers=wide)
        assert (status, found["error"]) == (400, "limit"), "8,000 bytes"
        assert (await put(server, "a", "less"))[0] == 200, "who has too much may say it in fewer words"
        statuses = [(await put(server, "a", "less"))[0] for _ in range(EDITS)]
        assert statuses[0] == 200
        assert 429 in statuses


async def test_a_field_that_the_server_does_not_declare_is_shown_and_cannot_be_edited(store, server, monkeypatch):
    declare(ProfileField("loyalty_tier", choices=("gold", "silver")))
    await store.users.set_field(ROBIN, "loyalty_tier", "gold")
    assert (await lines(server))["loyalty_tier"]["editable"]
    assert (await put(server, "loyalty_tier", "tin", "profile"))[0] == 400
    assert (await put(server, "loyalty_tier", "silver", "profile"))[1]["content"] == "silver"
    monkeypatch.setattr(declarations, "_declared", declarations.Declarations())
    assert not (await lines(server))["loyalty_tier"]["editable"]
    assert (await put(server, "loyalty_tier", "gold", "profile"))[0] == 400


async def test_what_can_only_be_deleted_says_so(store, server):
    await a_past_call(store, text="A lamp.")
    promised = Commitment.of("Send a lamp", "assistant", now(), "s-1")
    await store.users.set_last_session(ROBIN, LastSession(now(), "A lamp.", "s-1"), started_at=now())
    await store.summaries.save(ROBIN, "s-1", Summary("A lamp.", now(), commitments=(promised,), by="model"))
    await store.memories.remember(ROBIN, "city", "Lisbon")
    found = {name: line["editable"] for name, line in (await lines(server)).items()}
    assert found == {"last_call": False, promised.id: False, "city": True}


async def test_of_who_has_not_agreed_nothing_is_stored(store):
    asks = TenantPolicy(consent="ask")
    async with web_server(store, hook=by_header, policy=asks) as server:
        status, found = await put(server, "city", "Lisbon")
        assert (status, found["error"]) == (409, "not_agreed")
        assert not any((await count(store.db, ROBIN)).values())
        await store.users.set_consent(ROBIN, Consent("agreed", now(), "page"))
        assert (await put(server, "city", "Lisbon"))[0] == 200
        await store.users.set_consent(ROBIN, Consent("withdrawn", now(), "page"))
        assert (await put(server, "city", "Porto"))[0] == 409
        assert (await put(server, "name", "Robin", "profile"))[0] == 409
        assert (await lines(server))["city"]["content"] == "Lisbon"


async def test_an_erasure_at_the_same_time_leaves_nothing(store, server, monkeypatch):
    await store.memories.remember(ROBIN, "city", "Lisbon")
    remember = Memories.remember

    async def erased_meanwhile(self, scope, *arguments, **options):
        await erase(store.db, ROBIN, by="Sam")
        return await remember(self, scope, *arguments, **options)

    monkeypatch.setattr(Memories, "remember", erased_meanwhile)
    assert (await put(server, "city", "heron"))[0] == 404
    assert await anywhere(store, "heron") == []
    monkeypatch.setattr(Memories, "remember", remember)
    assert (await put(server, "city", "Porto"))[0] == 200, "they are somebody new now"


async def test_a_change_at_the_same_time_is_409_and_mongodb_away_503(store, server, monkeypatch):
    await store.memories.remember(ROBIN, "city", "Boston")
    await put(server, "city", "Lisbon")

    async def taken(*_):
        return None

    with monkeypatch.context() as patch:
        patch.setattr(type(store.history), "undo", taken)
        assert (await put(server, "city", "Boston"))[0] == 409

    async def away(*_, **__):
        raise DatabaseUnavailableError

    monkeypatch.setattr(Memories, "recall", away)
    for method, path in (("PUT", "memories/memory/city"), ("GET", "memories/memory/city/why")):
        status, found = await ask(server, method, path, **({"json": {"content": "x"}} if method == "PUT" else {}))
        assert (status, found["error"]) == (503, "memory_unavailable")


# ------------------------------------------------------------------ why it is remembered


async def why(server, name, kind="memory"):
    status, found = await ask(server, "GET", f"memories/{kind}/{name}/why")
    assert status == 200, found
    return found


async def test_what_was_told_in_a_call_is_shown_with_the_words_and_the_answer(store, server):
    tool = Turn(1, "call-1", TurnKind.TOOL, now(), name="remember_detail", arguments="{}", output="saved")
    record = await a_past_call(
        store,
        turns=[
            turn(0, "I live in Lisbon now", at=now() - timedelta(minutes=9)),
            tool,
            turn(2, "Noted: Lisbon.", "assistant"),
            turn(3, "Thanks"),
            turn(4, "You are welcome.", "assistant"),
        ],
    )
    await store.memories.remember(ROBIN, "city", "Lisbon", source=Source("told", "s-1", "item-0"))
    await store.memories.remember(ROBIN, "mood", "grateful", source=Source("learned", "s-1", "item-3"))
    found = await why(server, "city")
    assert (found["by"], found["said"], found["answer"]) == ("call", "I live in Lisbon now", "Noted: Lisbon.")
    assert found["at"] < (now() - timedelta(minutes=8)).isoformat()
    assert found["session"]["id"] == "s-1"
    assert found["session"]["started_at"][:23] == record.started_at.isoformat()[:23]
    learned = await why(server, "mood")
    assert (learned["by"], learned["said"], learned["answer"]) == ("learned", "Thanks", "You are welcome.")


async def test_the_words_are_found_in_an_encrypted_database_too(store):
    async with encrypted(store.db), web_server(store := Store.of(store.db), hook=by_header) as server:
        await a_past_call(store, turns=[turn(0, "I keep a heron")], text="A heron.")
        await store.memories.remember(ROBIN, "pet", "a heron", source=Source("told", "s-1", "item-0"))
        assert (await why(server, "pet"))["said"] == "I keep a heron"
        assert (await put(server, "pet", "two herons"))[0] == 200
        assert (await put(server, "pet", "a heron"))[0] == 200
        assert (await why(server, "pet"))["said"] == "I keep a heron", "as it was put back"
        assert await anywhere(store, "heron") == []
        _, found = await ask(server, "GET", "sessions")
        assert [each["summary"] for each in found["sessions"]] == ["A heron."]


async def test_who_else_wrote_it_is_told(store, server):
    for label, source in (
        ("a", Source("staff")),
        ("b", Source("imported", "mem0", "7")),
        ("c", None),
        ("d", Source("told", "of a call that is not kept", "item-0")),
    ):
        await store.memories.remember(ROBIN, label, "something", source=source)
    await put(server, "e", "something")
    found = {label: await why(server, label) for label in "abcde"}
    assert {label: each["by"] for label, each in found.items()} == {
        "a": "staff", "b": "imported", "c": "unknown", "d": "call", "e": "you"
    }  # fmt: skip
    for each in found.values():
        assert (each["said"], each["answer"], each["session"]) == (None, None, None)
        assert each["at"]


async def test_a_call_of_somebody_else_is_nobody_s_reason(store, server):
    """Not even if a memory names it: ids of sessions are told to whoever was in them."""
    for other in (UserScope(tenant_id="default", user_id="u-200"), replace(ROBIN, tenant_id="other")):
        began = now() - timedelta(minutes=1)
        await store.sessions.save(SessionRecord("s-9", other, "room", SessionStatus.COMPLETE, began, now()))
        await store.sessions.append(other, "s-9", [turn(0, "a heron")])
    await store.memories.remember(ROBIN, "pet", "a dog", source=Source("told", "s-9", "item-0"))
    found = await why(server, "pet")
    assert (found["said"], found["answer"], found["session"]) == (None, None, None)
    await a_past_call(store, "s-9")
    found = await why(server, "pet")
    assert (found["said"], found["session"]["id"]) == (None, "s-9")


async def test_a_field_that_was_set_in_a_call_is_shown_with_its_words(store, server):
    record = await a_past_call(store, ago=timedelta(seconds=20))
    await store.db.sessions.update_one({}, {"$unset": {"ended_at": 1}})
    await store.sessions.append(ROBIN, "s-1", [turn(0, "My name is Robin")])
    await store.users.set_field(ROBIN, "name", "Robin")
    assert (await why(server, "name", "profile"))["by"] == "unknown", "they may have set it on the page meanwhile"
    tool = Turn(1, "call-1", TurnKind.TOOL, now(), name="update_profile", arguments="{}", output="saved")
    await store.sessions.append(ROBIN, "s-1", [tool, turn(2, "Hello Robin.", "assistant")])
    found = await why(server, "name", "profile")
    assert (found["by"], found["said"], found["answer"]) == ("call", "My name is Robin", "Hello Robin.")
    assert found["session"]["started_at"][:19] == record.started_at.isoformat()[:19]


async def test_the_last_call_and_what_is_to_be_done_name_their_call(store, server):
    await a_past_call(store, text="A lamp.")
    promised = Commitment.of("Send a lamp", "assistant", now(), "s-1")
    await store.users.set_last_session(ROBIN, LastSession(now(), "A lamp.", "s-1"), started_at=now())
    await store.summaries.save(ROBIN, "s-1", Summary("A lamp.", now(), commitments=(promised,), by="model"))
    for kind, name in (("profile", "last_call"), ("commitment", promised.id)):
        found = await why(server, name, kind)
        assert (found["by"], found["session"]["id"]) == ("call", "s-1")


@pytest.mark.parametrize("path", ["memory/city", "profile/name", "profile/last_call", "commitment/0123456789ab"])
async def test_why_of_what_there_is_not_is_404(store, server, path):
    assert (await ask(server, "GET", f"memories/{path}/why"))[0] == 404
    await store.users.seen(ROBIN)
    assert (await ask(server, "GET", f"memories/{path}/why"))[0] == 404


async def test_a_secret_in_the_words_is_not_shown(store, server):
    await a_past_call(store, turns=[turn(0, "My password is hunter2-hunter2. I live in Lisbon.")])
    await store.memories.remember(ROBIN, "city", "Lisbon", source=Source("told", "s-1", "item-0"))
    found = await why(server, "city")
    assert "hunter2" not in str(found)
    assert "Lisbon" in found["said"]


# ------------------------------------------------------------------ past calls


async def test_past_calls_are_listed_newest_first_a_page_at_a_time(store, server):
    for number in range(45):
        await a_past_call(store, f"s-{number:02}", ago=timedelta(hours=100 - number), text=f"Call {number}.")
    same = now() - timedelta(hours=200)
    for number in range(3):
        one = SessionRecord(f"t-{number}", ROBIN, "room", SessionStatus.INTERRUPTED, same, same)
        await store.sessions.save(one)
    found, more = [], ""
    while more is not None:
        status, page = await ask(server, "GET", "sessions", params={"after": more})
        assert status == 200
        assert len(page["sessions"]) <= 20
        found += page["sessions"]
        more = page["more"]
    assert [each["id"] for each in found[:45]] == [f"s-{number:02}" for number in range(44, -1, -1)]
    assert {each["id"] for each in found[45:]} == {"t-0", "t-1", "t-2"}
    assert len(found) == 48
    first = found[0]
    assert (first["summary"], first["channel"], set(first)) == (
        "Call 44.",
        "online",
        {"id", "started_at", "ended_at", "channel", "summary"},
    )
    assert first["started_at"] < first["ended_at"]


async def test_a_call_that_goes_on_is_none_yet_and_one_by_telephone_says_so(store, server):
    began = now()
    await store.sessions.save(SessionRecord("going-on", ROBIN, "room", SessionStatus.ACTIVE, began))
    await a_past_call(store, "by-phone")
    await store.db.sessions.update_one({"session_id": "by-phone"}, {"$set": {"trust": "verified"}})
    _, found = await ask(server, "GET", "sessions")
    assert [(each["id"], each["channel"]) for each in found["sessions"]] == [("by-phone", "phone")]


@pytest.mark.parametrize("after", ["x", "2020-01-01", "2020-01-01T00:00:00/1", "2020-01-01T00:00:00Z/x", "/", "/3"])
async def test_a_place_that_is_none_is_400(server, after):
    status, found = await ask(server, "GET", "sessions", params={"after": after})
    assert (status, found["error"]) == (400, "bad_place")


async def test_a_guest_sees_and_changes_their_own_alone(store, server):
    await a_past_call(store, text="Robin's.")
    await store.memories.remember(ROBIN, "city", "Lisbon", source=Source("told", "s-1", "item-0"))
    await store.memories.remember(replace(ROBIN, tenant_id="other"), "city", "Porto")
    stranger, known = server.browser(), server.browser()
    guest = told(await token(known, server)).scope
    for browser in (stranger, known):
        _, found = await call(browser, "GET", f"{server.url}api/sessions")
        assert found == {"sessions": [], "more": None}
        assert (await call(browser, "GET", f"{server.url}api/memories/memory/city/why"))[0] == 404
    body = {"json": {"content": "Rome"}}
    assert (await call(stranger, "PUT", f"{server.url}api/memories/memory/city", **body))[0] == 404
    assert (await call(known, "PUT", f"{server.url}api/memories/memory/city", **body))[0] == 200
    assert (await store.memories.recall(guest, "city")).content == "Rome"
    assert (await store.memories.recall(ROBIN, "city")).content == "Lisbon"
    assert await store.memories.count(ROBIN) == 1


def test_the_tool_that_sets_a_field_has_the_name_that_is_looked_for():
    from lkmongo.agent.tools import MemoryTools

    assert hasattr(MemoryTools, editing.FIELD_TOOL)
