"""Calls are remembered: a summary at the hang-up, its vector after it, and a tool that finds them by words and time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from lkmongo.agent.ending import end_session, tell_end
from lkmongo.agent.turns import extract
from lkmongo.embed.choose import create_embedder
from lkmongo.errors import DatabaseUnavailableError, InvalidTextError
from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind, UserScope, now
from lkmongo.search.past_calls import bounds, month_in, sentence
from lkmongo.store.indexes.backfill import backfill
from lkmongo.store.sessions.summaries import Summaries
from lkmongo.summary import Commitment, PastCall, Summary
from tests.fake_llm import calls
from tests.talk import talk

ROBIN = UserScope(tenant_id="default", user_id="u-100")
SOMEBODY_ELSE = UserScope(tenant_id="default", user_id="u-200")
OCTOBER = datetime(2026, 10, 12, 15, 0, tzinfo=UTC)
ABOUT = {
    "s-oct": (OCTOBER, "The caller ordered a lamp and will measure the shelf."),
    "s-nov": (datetime(2026, 11, 3, 9, 0, tzinfo=UTC), "The caller asked how to care for an oak table."),
    "s-sep": (datetime(2026, 9, 1, 9, 0, tzinfo=UTC), "The caller complained about a late parcel."),
}


async def remembered(store, scope: UserScope = ROBIN) -> None:
    await store.users.seen(scope)
    for name, (at, text) in ABOUT.items():
        await store.sessions.save(SessionRecord(name, scope, "room", SessionStatus.COMPLETE, at, at, "hang-up"))
        made = (Commitment.of("send the invoice", "assistant", at, name),) if name == "s-oct" else ()
        await store.summaries.save(scope, name, Summary(text, at, (), made, by="model"))
    embedder = create_embedder("local")
    await backfill(store.db, embedder)
    await embedder.close()


async def hang_up(call, **more) -> None:
    ended_at = now()
    stored = await end_session(call.call, "hang-up", dict, ended_at=ended_at, **more)
    await tell_end(call.call, "hang-up", ended_at, stored=stored)


async def test_the_hang_up_stores_what_the_call_was_about_and_its_vector_follows(store):
    async with talk(store, ROBIN, calls()) as call:
        await call.say("I would like to return my kettle")
        await call.say("the kettle leaks, thanks")
        await hang_up(call)
    record = await store.sessions.get(ROBIN, "console-test")
    assert record.summary.text == "I would like to return my kettle; the kettle leaks, thanks"
    assert record.summary.topics[0] == "kettle"
    (past,) = await store.summaries.of_person(ROBIN, vectors=True)
    assert past.vector is not None
    assert past.model.startswith("wordllama")
    async with talk(store, ROBIN, calls(), session_id="console-next") as call:
        output, is_error = await call.tool("search_past_calls", query="a broken kettle")
        assert not is_error
        assert output.endswith("you said: I would like to return my kettle; the kettle leaks, thanks.")


async def test_two_calls_at_once_leave_a_summary_each_unless_something_is_forgotten_in_one(store):
    await store.memories.remember(ROBIN, "pet", "a heron")
    for forgets in (False, True):
        async with (
            talk(store, ROBIN, calls(), session_id=f"console-a{forgets}") as one,
            talk(store, ROBIN, calls(), session_id=f"console-b{forgets}") as other,
        ):
            await one.say("I like tulips")
            await other.say("I like trains")
            if forgets:
                await one.tool("forget_detail", memory_type="pet")
            for call in (one, other):
                await hang_up(call)
        # What one forgets, the other may have told.
        assert {call.session_id for call in await store.summaries.of_person(ROBIN)} == {
            "console-aFalse",
            "console-bFalse",
        }


async def test_a_call_that_another_agent_goes_on_with_has_one_summary_of_all_of_it(store):
    before = [Turn(0, "a", TurnKind.MESSAGE, now(), role="user", content="I ordered a kettle")]
    async with talk(store, ROBIN, calls(), resumed=before) as call:
        await call.say("it leaks")
        await hang_up(call)
    assert [call.summary.text for call in await store.summaries.of_person(ROBIN)] == ["I ordered a kettle; it leaks"]


@pytest.mark.parametrize("why", ["guest", "forgot", "silent"])
async def test_no_summary_of_a_guest_or_where_something_was_forgotten(store, why):
    await store.memories.remember(ROBIN, "pet", "a heron")
    scope = UserScope.guest() if why == "guest" else ROBIN
    async with talk(store, scope, calls(), guest=why == "guest") as call:
        if why != "silent":
            await call.say("my pet is a heron")
        if why == "forgot":
            await call.tool("forget_detail", memory_type="pet")
        await hang_up(call)
    assert await store.summaries.of_person(scope) == []
    assert (await store.sessions.get(scope, "console-test")).summary is None


async def test_secrets_are_in_no_summary(store):
    async with talk(store, ROBIN, calls()) as call:
        await call.say("a lamp please")
        await call.say("my password is hunter2")
        await hang_up(call)
    assert "hunter2" not in str(await store.db.sessions.find_one({}))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"query": "what did we agree in October?"}, ["s-oct"]),
        ({"query": "what did we talk about", "since": "2026-10-01", "until": "2026-10-31"}, ["s-oct"]),
        ({"query": "what did we talk about last time"}, ["s-nov"]),
        ({"query": "", "since": "2026-10-12"}, ["s-nov", "s-oct"]),
        ({"query": "", "until": "2026-10-12"}, ["s-oct", "s-sep"]),
        ({"query": "delivery that came too late"}, ["s-sep"]),
        ({"query": "looking after oak furniture"}, ["s-nov"]),
    ],
)
async def test_a_call_is_found_by_what_it_was_about_and_when_it_was(store, asked, found):
    await remembered(store)
    async with talk(store, ROBIN, calls()) as call:
        output, is_error = await call.tool("search_past_calls", **asked)
    assert not is_error
    first = [name for name in ABOUT if ABOUT[name][1].rstrip(".") in output]
    assert set(found) <= set(first)
    assert output.index(ABOUT[found[0]][1].rstrip(".")) < 40


async def test_it_says_the_day_in_words_and_what_is_still_to_be_done(store):
    await remembered(store)
    await remembered(store, SOMEBODY_ELSE)
    await store.users.set_field(ROBIN, "timezone", "Asia/Tokyo")
    async with talk(store, ROBIN, calls()) as call:
        assert await call.tool("search_past_calls", query="lamp") == (
            f"On Tuesday, 13 October 2026: {ABOUT['s-oct'][1]} Still open: I was to send the invoice.",
            False,
        )
        # A day is one of the caller's time zone.
        output, _ = await call.tool("search_past_calls", query="", since="2026-10-13", until="2026-10-13")
        assert "ordered a lamp" in output
        assert await call.tool("search_past_calls", query="", since="2027-01-01") == (
            "I remember no earlier call like that.",
            False,
        )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"query": ""}, "Tell me what the call was about, or when it was."),
        ({"query": "lamp", "since": "last week"}, "Since must be a date such as 2026-10-31, not 'last week'."),
        ({"query": "lamp", "since": "2026-11-02", "until": "2026-11-01"}, "2026-11-02 is not before 2026-11-01."),
    ],
)
async def test_what_cannot_be_understood_is_said(store, arguments, why):
    async with talk(store, ROBIN, calls()) as call:
        assert await call.tool("search_past_calls", **arguments) == (why, True)


async def test_somebody_else_and_a_guest_find_nothing(store):
    await remembered(store)
    nothing = ("I remember no earlier call like that.", False)
    async with talk(store, SOMEBODY_ELSE, calls()) as call:
        assert await call.tool("search_past_calls", query="lamp") == nothing
    async with talk(store, UserScope.guest(), calls(), guest=True, session_id="console-guest") as call:
        assert await call.tool("search_past_calls", query="lamp") == nothing


async def test_the_call_that_goes_on_is_not_among_them(store):
    await remembered(store)
    async with talk(store, ROBIN, calls(), session_id="s-oct") as call:
        output, _ = await call.tool("search_past_calls", query="lamp", since="2026-10-01")
        assert "ordered a lamp" not in output


async def test_a_database_that_does_not_answer_is_said(store, monkeypatch):
    async def unavailable(*_, **__):
        raise DatabaseUnavailableError

    monkeypatch.setattr(Summaries, "of_person", unavailable)
    async with talk(store, ROBIN, calls()) as call:
        output, is_error = await call.tool("search_past_calls", query="lamp")
    assert (output, is_error) == ("I could not look that up just now.", True)


def test_days_are_those_of_the_callers_zone_and_the_last_one_counts():
    berlin = ZoneInfo("Europe/Berlin")
    since, until = bounds("2026-10-25", "2026-10-25", berlin)  # a day of 25 hours
    assert (since, until) == (datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 25, 23, tzinfo=UTC))
    assert bounds("2026-10-01T12:00:00+00:00", None, berlin) == (datetime(2026, 10, 1, 12, tzinfo=UTC), None)
    for wrong in ("yesterday", "2026-13-01", "31.10.2026"):
        with pytest.raises(InvalidTextError):
            bounds(wrong, None, berlin)


def test_a_month_is_the_latest_that_has_begun():
    today = datetime(2026, 10, 5, tzinfo=UTC)
    assert month_in("what did we agree in October?", today)[:2] == (
        datetime(2026, 10, 1, tzinfo=UTC),
        datetime(2026, 11, 1, tzinfo=UTC),
    )
    assert month_in("in december", today)[:2] == (datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
    assert month_in("in May 2024", today)[0].year == 2024
    assert month_in("what may I do?", today) is None


def test_what_is_said_of_a_call():
    due = Commitment("a", "call back", "caller", OCTOBER, due=OCTOBER + timedelta(days=1))
    call = PastCall("s", OCTOBER, Summary("a lamp.", OCTOBER, (), (due,)))
    assert sentence(call, UTC) == (
        "On Monday, 12 October 2026: you said: a lamp. Still open: you were to call back, by Tuesday, 13 October 2026."
    )


def test_an_extract_is_the_callers_own_words():
    said = [Turn(n, str(n), TurnKind.MESSAGE, now(), role="user", content=text) for n, text in enumerate(("", "Yes."))]
    assert extract(said[:1], 100, OCTOBER) is None
    assert extract(said, 100, OCTOBER) == Summary("Yes.", OCTOBER)
