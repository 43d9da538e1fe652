"""Of two agents for one caller in a room the later one leaves, and so does one whose caller does not come back."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest
from livekit import rtc

from lkmongo.memory import other_agents
from lkmongo.memory.other_agents import METHOD, OtherAgents, Served, session_mark
from lkmongo.model import UserScope
from tests.waiting import until

AGENT, CALLER = "our-agent", "caller-1"


class Room:
    """A room with whoever joins it; each sees the others, and can call their methods."""

    def __init__(self):
        self.there = {}

    def join(self, identity, kind=rtc.ParticipantKind.PARTICIPANT_KIND_AGENT):
        methods, listeners = {}, {}

        async def perform_rpc(*, destination_identity, method, payload, **_):
            if (found := self.there[destination_identity].methods.get(method)) is None:
                raise rtc.RpcError(rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD, "")
            return found(payload)

        me = SimpleNamespace(
            identity=identity, kind=kind, register_rpc_method=methods.__setitem__, perform_rpc=perform_rpc
        )
        self.there[identity] = SimpleNamespace(identity=identity, kind=kind, methods=methods)
        return SimpleNamespace(
            local_participant=me,
            remote_participants=self,
            on=listeners.__setitem__,
            happens=lambda what, *arguments: listeners[what](*arguments),
            sees=lambda other: listeners["participant_connected"](self.there[other]),
            methods=methods,
        )

    def values(self):
        return list(self.there.values())


@pytest.fixture
def room():
    room = Room()
    room.join(CALLER, rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD)
    return room


@pytest.fixture
def left():
    return []


@pytest.fixture
async def agent(room, left):
    """Let an agent join, which serves a participant."""
    made = []

    def agent(identity, served=CALLER, name=AGENT, session=None, superseded=False):
        async def is_superseded():
            return superseded

        seen = room.join(identity)
        what = Served(name, lambda: served, lambda: session or f"of {identity}", is_superseded)
        made.append(OtherAgents(seen, what, lambda reason: left.append((identity, reason))))
        return made[-1], seen

    yield agent
    for each in made:
        each.close()


async def test_the_one_that_came_later_finds_the_other_and_not_the_other_way_round(agent):
    (first, _), (second, _) = agent("agent-2"), agent("agent-1")
    assert await second.serve()
    assert not await first.serve()


@pytest.mark.parametrize(
    ("other", "serves"),
    [
        ({}, True),
        ({"served": None}, True),  # whoever comes first, which is the same caller
        ({"served": "caller-2"}, False),
        ({"name": "another-agent"}, False),
    ],
)
async def test_only_one_of_the_same_name_that_serves_the_same_caller_counts(agent, other, serves):
    agent("agent-1", **other)
    second, _ = agent("agent-2")
    assert await second.serve() is serves


@pytest.mark.parametrize("answer", [None, "", "{}", "[1, 2]", json.dumps([AGENT, CALLER, None])])
async def test_one_that_does_not_answer_or_answers_otherwise_does_not_count(agent, answer):
    _, seen = agent("agent-1")
    seen.methods.pop(METHOD)
    if answer is not None:
        seen.methods[METHOD] = lambda _: answer
    second, _ = agent("agent-2")
    assert not await second.serve()


async def test_who_comes_back_and_finds_another_one_leaves(agent, left, monkeypatch):
    monkeypatch.setattr(other_agents, "_AHEAD", 0.0)  # the other one is there for longer
    _, first = agent("agent-1")
    agent("agent-2")
    first.happens("reconnected")
    await until(lambda: left)
    assert left == [("agent-1", "taken over")]


async def test_of_two_that_come_back_one_stays(agent, left):
    (_, first), (_, second) = agent("agent-1"), agent("agent-2")
    first.happens("reconnected")
    second.happens("reconnected")
    await until(lambda: left)
    await asyncio.sleep(0.05)
    assert left == [("agent-2", "taken over")]


async def test_one_that_did_not_see_the_other_when_it_came_leaves_once_it_does(agent, left):
    (_, first), (_, second) = agent("agent-1"), agent("agent-2")
    second.sees("agent-1")
    first.sees("agent-2")
    await until(lambda: left)
    await asyncio.sleep(0.05)
    assert left == [("agent-2", "taken over")]


async def test_of_two_that_come_at_once_the_one_stays_that_knows_what_was_said(agent, left):
    _, new = agent("agent-1")
    _, back = agent("agent-2")
    back.happens("reconnected")
    new.sees("agent-2")
    await until(lambda: left)
    await asyncio.sleep(0.05)
    assert left == [("agent-1", "taken over")]


@pytest.mark.parametrize("loses", ["agent-1", "agent-2"])
async def test_of_two_that_continue_one_session_the_one_leaves_whose_lease_the_other_has(agent, left, loses):
    for identity in ("agent-1", "agent-2"):  # neither saw the other when it came
        agent(identity, session="one", superseded=identity == loses)[0].begin()
    await until(lambda: left)
    await asyncio.sleep(0.05)
    assert left == [(loses, "taken over")]


async def test_one_that_has_not_begun_yet_leaves_the_session_to_who_has(agent):
    agent("agent-1", session="one", superseded=True)
    second, _ = agent("agent-2", session="one")
    assert await second.serve()


async def test_an_agent_of_an_earlier_release_says_nothing_of_its_session(agent, left):
    _, seen = agent("agent-1", session="one", superseded=True)
    seen.methods[METHOD] = lambda _: json.dumps([AGENT, CALLER, 0.0])
    second, _ = agent("agent-2", session="one")
    second.begin()
    await until(lambda: left)
    assert left == [("agent-2", "taken over")]


def test_what_agents_tell_of_their_session_is_the_same_for_one_alone_and_takes_the_secret():
    def mark(user="u-100", session="one", secret="a"):
        return session_mark(UserScope(tenant_id="default", user_id=user), session, secret)

    assert mark() == mark(secret=["a", "earlier"])
    assert len({mark(), mark(user="u-200"), mark(session="two"), mark(secret="b"), mark(secret=None)}) == 5


async def test_a_caller_who_comes_is_no_agent(agent, room, left):
    _, first = agent("agent-1")
    first.sees(CALLER)
    await asyncio.sleep(0.05)
    assert left == []


@pytest.mark.parametrize("stays", [True, False])
async def test_whose_caller_does_not_come_back_leaves_after_a_while(agent, room, left, monkeypatch, stays):
    monkeypatch.setattr(other_agents, "COMES_BACK", 0.1)
    monkeypatch.setattr(other_agents, "_EVERY", 0.02)
    _, seen = agent("agent-1")
    if not stays:
        del room.there[CALLER]
    seen.happens("reconnected")
    await asyncio.sleep(0.01)
    assert left == []
    if stays:
        await asyncio.sleep(0.3)
        assert left == []
    else:
        await until(lambda: left)
        assert left == [("agent-1", "connection lost")]
