"""Summaries of calls and open commitments: whose they are, what replaces them, and what they are forgotten with."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lkmongo.embed.vectors import from_bson
from lkmongo.errors import NotFoundError
from lkmongo.model import LastSession, SessionRecord, SessionStatus, UserScope, now
from lkmongo.store.people.forget import forget, forget_line
from lkmongo.store.people.person import lines
from lkmongo.summary import MAX_OPEN, Commitment, Summary, stems

ROBIN = UserScope(tenant_id="default", user_id="u-100")
SAME_ID_ELSEWHERE = UserScope(tenant_id="other", user_id="u-100")
SOMEBODY_ELSE = UserScope(tenant_id="default", user_id="u-200")
BEGAN = now() - timedelta(hours=1)
HOUR = timedelta(hours=1)


def record(session_id: str, scope: UserScope = ROBIN, *, began=BEGAN, summary: Summary | None = None) -> SessionRecord:
    return SessionRecord(
        session_id, scope, "room", SessionStatus.COMPLETE, began, began + HOUR / 2, "hang-up", summary=summary
    )


async def a_call(store, session_id: str, text: str, scope: UserScope = ROBIN, *, began=BEGAN) -> None:
    await store.users.seen(scope)
    await store.sessions.save(record(session_id, scope, began=began, summary=Summary(text, began)))


def promise(text: str, session_id: str = "s-1", *, at=BEGAN, by="assistant") -> Commitment:
    return Commitment.of(text, by, at, session_id)


async def texts(store, scope: UserScope = ROBIN, **wanted) -> list[str]:
    return [call.summary.text for call in await store.summaries.of_person(scope, **wanted)]


async def open_texts(store, scope: UserScope = ROBIN) -> list[str]:
    return [each.text for each in await store.summaries.open(scope)]


async def test_the_end_stores_a_summary_and_a_models_takes_its_place(store):
    await a_call(store, "s-1", "a lamp that flickers; thanks")
    await store.users.set_last_session(ROBIN, LastSession(now(), "a lamp that flickers", "s-1"), started_at=BEGAN)
    done = promise("send a new lamp")
    model = Summary("The caller's lamp flickers.", BEGAN, ("lamp", "repair"), (done,), by="model")
    assert await store.summaries.save(ROBIN, "s-1", model, vector=np.ones(4, np.float32), model="m@4")
    (call,) = await store.summaries.of_person(ROBIN, vectors=True)
    assert call.summary == model
    assert call.model == "m@4"
    assert from_bson(call.vector, 4) is not None
    profile = await store.users.get(ROBIN)
    assert profile.last_session.gist == model.text
    assert profile.commitments == (done,)
    # The end is stored again: a retry, or the journal of a process that died before it knew.
    await store.sessions.save(record("s-1", summary=Summary("a lamp that flickers", BEGAN)))
    assert await texts(store) == [model.text]
    assert not await store.summaries.save(ROBIN, "s-1", Summary("a lamp", BEGAN))
    # A call that went on after all ends later, and says more.
    later = replace(record("s-1", summary=Summary("a lamp; and a chair", BEGAN)), ended_at=BEGAN + HOUR)
    await store.sessions.save(later)
    assert await texts(store) == ["a lamp; and a chair"]


async def test_storing_a_summary_again_changes_nothing_and_what_is_closed_stays_closed(store):
    await a_call(store, "s-1", "a lamp")
    first, second = promise("send a lamp"), promise("measure the shelf", by="caller", at=BEGAN + HOUR / 4)
    summary = Summary("A lamp.", BEGAN, (), (first, second), by="model")
    for _ in range(2):
        assert await store.summaries.save(ROBIN, "s-1", summary)
        assert await open_texts(store) == ["send a lamp", "measure the shelf"]
    assert await store.summaries.close(ROBIN, [first.id], now()) == 1
    assert await store.summaries.close(ROBIN, [first.id], now()) == 0
    assert await store.summaries.save(ROBIN, "s-1", summary)
    assert await open_texts(store) == ["measure the shelf"]
    (call,) = await store.summaries.of_person(ROBIN)
    assert [each.text for each in call.summary.open] == ["measure the shelf"]


async def test_a_later_call_closes_what_was_promised_in_an_earlier_one(store):
    await a_call(store, "s-1", "a lamp")
    await a_call(store, "s-2", "the lamp came", began=BEGAN + HOUR)
    lamp = promise("send a lamp")
    await store.summaries.save(ROBIN, "s-1", Summary("A lamp.", BEGAN, (), (lamp,), by="model"))
    version = await store.users.memory_version(ROBIN)
    chair = promise("send a chair", "s-2", at=BEGAN + HOUR)
    summary = Summary("The lamp came.", BEGAN + HOUR, (), (chair,), by="model")
    await store.summaries.save(ROBIN, "s-2", summary, closed=[lamp.id])
    assert await open_texts(store) == ["send a chair"]
    newest, oldest = await store.summaries.of_person(ROBIN)
    assert (newest.summary.open, oldest.summary.open) == ((chair,), ())
    assert await store.users.memory_version(ROBIN) > version  # so that a session under way reads it


async def test_of_very_many_open_commitments_the_latest_are_briefed(store):
    await a_call(store, "s-1", "many things")
    many = tuple(promise(f"thing number {n}", at=BEGAN + n * HOUR / 60) for n in range(MAX_OPEN + 5))
    await store.summaries.save(ROBIN, "s-1", Summary("Many things.", BEGAN, (), many, by="model"))
    assert await open_texts(store) == [each.text for each in many[5:]]
    (call,) = await store.summaries.of_person(ROBIN)
    assert len(call.summary.open) == MAX_OPEN + 5


async def test_secrets_are_masked_and_a_guest_has_no_summary(store):
    await a_call(store, "s-1", "nothing yet")
    told = Summary("My password is hunter2. A lamp.", BEGAN, ("lamp",), (promise("use the PIN 4711"),), by="model")
    assert await store.summaries.save(ROBIN, "s-1", told)
    (call,) = await store.summaries.of_person(ROBIN)
    assert "hunter2" not in call.summary.text
    assert call.summary.commitments == ()
    guest = UserScope.guest()
    await a_call(store, "s-1", "", guest)
    assert not await store.summaries.save(guest, "s-1", told)


async def test_nothing_is_stored_where_something_was_forgotten_or_somebody_is_gone(store):
    summary = Summary("The color is teal.", BEGAN, (), (promise("paint it teal"),), by="model")
    assert not await store.summaries.save(ROBIN, "s-1", summary)  # there is no such call
    await a_call(store, "s-1", "teal")
    await forget(store, ROBIN, [])  # after the call
    assert not await store.summaries.save(ROBIN, "s-1", summary)
    assert await open_texts(store) == []


async def test_a_session_under_way_in_which_something_was_forgotten_ends_without_a_summary(store):
    await store.users.seen(ROBIN)
    await store.sessions.open(replace(record("s-1"), status=SessionStatus.ACTIVE), "host/1/a")
    await store.summaries.forget(ROBIN, ["city"])
    assert await store.sessions.save(record("s-1", summary=Summary("Lisbon", BEGAN)), owner="host/1/a")
    assert await texts(store) == []


async def test_what_shares_a_word_with_what_is_forgotten_goes_with_it(store):
    await a_call(store, "s-1", "They collect old lamps.")
    await a_call(store, "s-2", "A chair is broken.", began=BEGAN + HOUR)
    await a_call(store, "s-1", "They collect lamps.", SOMEBODY_ELSE)
    both = promise("repair the lamp"), promise("call about the chair")
    await store.summaries.save(ROBIN, "s-2", Summary("A chair is broken.", BEGAN + HOUR, (), both[1:], by="model"))
    await store.db.users.update_one(ROBIN.filter, {"$push": {"commitments": {"id": "x", "text": both[0].text}}})
    assert await store.summaries.forget(ROBIN, ["light_source", "a collection of lamps"]) == 1
    assert await texts(store) == ["A chair is broken."]
    assert await open_texts(store) == ["call about the chair"]
    assert await texts(store, SOMEBODY_ELSE) == ["They collect lamps."]
    assert await store.summaries.forget(ROBIN, None, before=BEGAN) == 0
    assert await store.summaries.forget(ROBIN, None) == 1
    assert await open_texts(store) == []


async def test_calls_are_narrowed_by_time_newest_first(store):
    for number in range(4):
        await a_call(store, f"s-{number}", f"call {number}", began=BEGAN + number * HOUR)
    await a_call(store, "s-9", "", began=BEGAN)  # nothing worth knowing
    assert await texts(store) == ["call 3", "call 2", "call 1", "call 0"]
    assert await texts(store, since=BEGAN + HOUR, until=BEGAN + 3 * HOUR) == ["call 2", "call 1"]


async def test_a_vector_is_stored_only_for_the_text_it_was_made_of(store):
    await a_call(store, "s-1", "a lamp")
    vector = np.ones(4, np.float32)
    assert not await store.summaries.set_vector(ROBIN, "s-1", Summary("a chair", BEGAN), vector, "m@4")
    assert await store.summaries.set_vector(ROBIN, "s-1", Summary("a lamp", BEGAN), vector, "m@4")
    assert (await store.summaries.of_person(ROBIN))[0].vector is None  # not asked for
    assert "embedding" not in str((await store.sessions.get(ROBIN, "s-1")).summary)


_SCOPES = [ROBIN, SAME_ID_ELSEWHERE, SOMEBODY_ELSE]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(range(3)), st.sampled_from(["save", "close", "forget", "forget all"])), max_size=6
    )
)
async def test_nobody_reads_closes_or_forgets_what_is_not_theirs(store, steps):
    await store.db.sessions.delete_many({})
    await store.db.users.delete_many({})
    expected: dict[int, tuple[list[str], list[str]]] = {0: ([], []), 1: ([], []), 2: ([], [])}
    lamp = promise("send a lamp")  # of the same id in each
    for whose, step in steps:
        scope = _SCOPES[whose]
        if step == "save":
            await a_call(store, "s-1", "a lamp", scope)
            summary = Summary("A lamp.", BEGAN, (), (lamp,), by="model")
            await store.summaries.save(scope, "s-1", summary)
            is_closed = expected[whose] == (["A lamp."], [])
            expected[whose] = (["A lamp."], [] if is_closed else ["send a lamp"])
        elif step == "close":
            await store.summaries.close(scope, [lamp.id], now())
            expected[whose] = (expected[whose][0], [])
        else:
            await store.summaries.forget(scope, ["lamps"] if step == "forget" else None)
            expected[whose] = ([], [])
        for other, there in expected.items():
            assert (await texts(store, _SCOPES[other]), await open_texts(store, _SCOPES[other])) == there


@pytest.mark.parametrize(
    ("forgotten", "told", "shared"),
    [
        ("favorite_color", "the colors of a wall", True),
        ("City", "They moved to the CITY.", True),
        ("café", "a cafe at the corner", True),
        ("the and of it", "the and of it", False),
        ("東京都", "東京に住んでいる", True),
        ("lamp", "a chair", False),
    ],
)
def test_texts_share_words_by_their_stems(forgotten: str, told: str, shared: bool):
    assert bool(stems([forgotten]) & stems([told])) is shared


async def test_a_person_may_delete_a_commitment_and_what_the_last_call_was_about(store):
    await a_call(store, "s-1", "a lamp")
    await store.users.set_last_session(ROBIN, LastSession(now(), "a lamp", "s-1"), started_at=BEGAN)
    lamp, shelf = promise("send a lamp"), promise("measure the shelf")
    summary = Summary("A lamp.", BEGAN, (), (lamp, shelf), by="model")
    await store.summaries.save(ROBIN, "s-1", summary, vector=np.ones(4, np.float32), model="m@4")
    found = {line.kind: line for line in await lines(store, ROBIN)}
    assert found["commitment"].content == "measure the shelf"
    await forget_line(store, ROBIN, "commitment", lamp.id)
    with pytest.raises(NotFoundError):
        await forget_line(store, ROBIN, "commitment", lamp.id)
    (call,) = await store.summaries.of_person(ROBIN, vectors=True)
    assert (call.summary.commitments, call.vector, await store.summaries.open(ROBIN)) == ((shelf,), None, (shelf,))
    await forget_line(store, ROBIN, "profile", "last_call")
    assert await texts(store) == []
    assert (await store.users.get(ROBIN)).last_session is None


async def test_a_commitment_of_a_call_that_is_kept_no_longer_goes_with_the_next_summary(store):
    await a_call(store, "s-1", "a lamp")
    await store.summaries.save(ROBIN, "s-1", Summary("A lamp.", BEGAN, (), (promise("send a lamp"),), by="model"))
    await store.db.sessions.delete_many({"session_id": "s-1"})
    await a_call(store, "s-2", "a chair", began=BEGAN + HOUR)
    chair = promise("send a chair", "s-2")
    await store.summaries.save(ROBIN, "s-2", Summary("A chair.", BEGAN + HOUR, (), (chair,), by="model"))
    assert await open_texts(store) == ["send a chair"]
