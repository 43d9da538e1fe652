"""The account of a soak finds what is missing, there twice, left open or grown; a fault excuses what it explains."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from benchmarks.soak_account import Held, account, counts
from benchmarks.soak_calls import Call, Line, Person
from benchmarks.soak_faults import KINDS, Fault
from benchmarks.soak_memory import Idle, Sample, Watched, slope
from benchmarks.soak_report import summary

NOON = 1_796_126_400.0


def at(seconds):
    return datetime.fromtimestamp(NOON + seconds, UTC)


@pytest.fixture
def held():
    """One call, in which all went well: a fact was told, and asked for."""
    told = Line("tells", "color", "calm river", NOON + 5, "I will remember your favorite color: calm river.", NOON + 6)
    asked = Line("asks", "color", "", NOON + 15, "Your favorite color is calm river.", NOON + 16)
    call = Call(
        *(1, "u-1", "hangs up", [told, asked], []),
        began=NOON,
        room="RM_1",
        room_name="room-1",
        agents=["agent-1"],
        greeting="Hello.",
        greeted=NOON + 1,
        over=NOON + 20,
        outcome="served",
    )
    said = [("assistant", "Hello."), ("user", told.text), ("assistant", told.answer), ("user", asked.text)]
    return Held(
        calls=[call],
        questions=[(call, asked, ["calm river"])],
        sessions=[session("RM_1", "room-1")],
        turns=[turn(seq, role, text) for seq, (role, text) in enumerate(said)],
        known={"u-1": {"color": ["calm river"]}},
        acknowledged={"u-1": [("color", "calm river")]},
        memories={"u-1": {"color": "calm river"}},
        former={"u-1": {"color": {"calm river"}}},
    )


def session(session_id, room_name, **other):
    known = {"user_id": "u-1", "status": "complete", "ended_at": at(21), "close_reason": "hang-up"}
    return {"session_id": session_id, "room_name": room_name} | known | other


def turn(seq, role, text, session_id="RM_1"):
    known = {"session_id": session_id, "user_id": "u-1", "item_id": f"item-{seq}", "kind": "message"}
    return known | {"seq": seq, "role": role, "content": text, "created_at": at(seq)}


def wrong(held):
    return " | ".join(account(held).wrong)


def test_of_a_run_in_which_all_went_well_nothing_is_wrong(held):
    found = account(held)
    assert found.wrong == []
    assert not found.explained
    assert counts(held) == counts(held) | {"calls": 1, "lines": 2, "answered": 2, "acknowledged": 1, "turns": 4}


def test_what_is_missing_is_found(held):
    assert "is not in the database" in wrong(replace(held, sessions=[], turns=[]))
    without = [each for each in held.turns if each["content"] != held.calls[0].lines[0].text]
    renumbered = [each | {"seq": seq} for seq, each in enumerate(without)]
    assert "calm river.' was answered and is missing 1 times" in wrong(replace(held, turns=renumbered))
    assert "numbered [0, 2, 3]" in wrong(replace(held, turns=without))
    assert "u-1's color is None instead of 'calm river'" in wrong(replace(held, memories={}))
    nowhere = {"known": {"u-1": {"color": ["bold fern"]}}, "memories": {"u-1": {"color": "bold fern"}}, "former": {}}
    assert "'calm river' was acknowledged and is nowhere" in wrong(replace(held, **nowhere))


def test_what_is_there_twice_is_found(held):
    assert "in the database 2 times as RM_1" in wrong(replace(held, sessions=2 * held.sessions))
    more = replace(held, sessions=[*held.sessions, session("RM_2", "room-1")])
    assert "more than one session: RM_1, RM_2" in wrong(more)
    assert not wrong(replace(more, faults=[Fault("LiveKit restarts", NOON + 7, NOON + 9)]))
    more = turn(4, "user", held.calls[0].lines[1].text)
    more = replace(held, turns=[*held.turns, more])
    assert "heard by two agents: 'What is my favorite color?' is stored 1 times more than it was said" in wrong(more)
    assert wrong(replace(more, faults=[Fault("MongoDB restarts", NOON + 7, NOON + 9)]))
    assert not wrong(replace(more, faults=[Fault("a worker is killed", NOON + 7, NOON + 9)]))
    never = replace(held, turns=[*held.turns, turn(4, "user", "Good evening.")])
    never.faults.append(Fault("a worker is killed", NOON + 7, NOON + 9))
    assert "'Good evening.' is stored 1 times more than it was said" in wrong(never)
    assert "stored twice: item-3" in wrong(replace(held, turns=[*held.turns[:3], held.turns[3], held.turns[3]]))


def test_what_is_of_no_call_is_found(held):
    other = [*held.sessions, session("RM_9", "room-9")]
    assert "the session of room room-9 is of no call" in wrong(replace(held, sessions=other))
    other = [*held.turns, turn(0, "user", "hello", "RM_9")]
    assert "turns without a session: RM_9" in wrong(replace(held, turns=other))
    assert "is u-2's" in wrong(replace(held, sessions=[session("RM_1", "room-1", user_id="u-2")]))


def test_what_is_left_is_found(held):
    still = session("RM_1", "room-1", status="active", ended_at=None)
    assert "session RM_1 is still open" in wrong(replace(held, sessions=[still]))
    late = session("RM_1", "room-1", ended_at=at(300))
    assert "left open: 280 s" in wrong(replace(held, sessions=[late]))
    assert "the journal is not empty: one.jsonl" in wrong(replace(held, journals=["one.jsonl"]))


def test_turns_that_are_not_in_their_order_are_found(held):
    swapped = [each | {"created_at": at(-each["seq"])} for each in held.turns]
    assert "not in their order" in wrong(replace(held, turns=swapped))


def test_another_answer_than_was_told_is_found_and_excused_only_by_a_fault_of_what_is_read(held):
    call, line, _ = held.questions[0]
    held = replace(held, questions=[(call, line, ["bold fern", ""])])
    assert "instead of 'bold fern' or ''" in wrong(held)
    held.faults.append(Fault("MongoDB stands still", NOON + 2, NOON + 8))
    assert account(held).wrong == []
    assert account(held).explained == {("other answer", "MongoDB stands still"): 1}
    held.faults[0] = Fault("callers are cut off", NOON + 2, NOON + 8)
    assert wrong(held)


def test_of_somebody_of_whom_nothing_is_known_nothing_may_be_told(held):
    call, line, _ = held.questions[0]
    assert wrong(replace(held, questions=[(call, line, [""])]))
    line.answer = "I have nothing stored about your favorite color."
    assert not wrong(replace(held, questions=[(call, line, [""])]))


@pytest.mark.parametrize("kind", list(KINDS))
def test_who_is_not_greeted_is_excused_by_no_fault_of_mongodb(held, kind):
    call = held.calls[0]
    call.outcome, call.greeting, call.greeted, call.why = "not greeted", "", 0.0, "nobody is there"
    held = replace(held, faults=[Fault(kind, NOON + 1, NOON + 3)])
    assert bool(account(held).wrong) is kind.startswith("MongoDB")


def test_a_fault_excuses_only_what_happens_while_it_lasts_and_whom_it_concerns(held):
    line = held.calls[0].lines[0]
    line.answered = 0.0
    held.faults.append(Fault("LiveKit stands still", NOON - 500, NOON - 490))
    assert "no answer: to 'Please remember" in wrong(held)
    held.faults.append(Fault("a job is killed", NOON + 4, NOON + 4, session_ids=["RM_2"]))
    assert "no answer" in wrong(held)
    held.faults.append(Fault("a job is killed", NOON + 4, NOON + 4, session_ids=["RM_0", "RM_1"]))
    assert account(held).wrong == []
    assert account(held).explained["no answer", "a job is killed"] == 1


def test_who_hangs_up_does_not_wait_for_the_answer_to_the_last_line(held):
    call = held.calls[0]
    call.lines[1].answered = 0.0
    assert "no answer" in wrong(held)
    call.how = "hangs up while answered"
    assert account(held).wrong == []


def test_people_tell_correct_and_ask_and_remember_what_may_be_known_of_them():
    dice, person = random.Random(1), Person("u-1")
    call = person.plan(1, dice, "hangs up", (20, 90))
    assert call.lines[0].kind == "tells"
    assert call.lines[-1].kind == "asks"
    assert 20 <= sum(call.pauses) <= 90
    first = call.lines[0]
    first.typed, first.answer = 1.0, f"I will remember your favorite {first.slot}: {first.value}."
    person.learn(call)
    assert person.known == {first.slot: [first.value]}
    changed = Line("corrects", first.slot, "pale moon", 2.0, "I cannot save that.")
    again = Line("asks", first.slot, "", 3.0)
    (question,) = person.learn(Call(2, "u-1", "hangs up", [changed, again], []))
    assert question == (again, [first.value, "pale moon"])  # it may have been stored all the same
    assert person.acknowledged == [(first.slot, first.value)]


def test_a_call_survives_the_way_to_another_process(held):
    assert Call.loads(held.calls[0].dumps()) == held.calls[0]


# ---------------------------------------------------------------------- what grows


def times(hours):
    return [10.0 * number for number in range(int(hours * 360))]


def test_the_slope_of_a_line_is_the_line():
    found = slope(times(1), [100 + 20 * at / 3600 for at in times(1)])
    assert found.mb_an_hour == pytest.approx(20)
    assert found.uncertainty == pytest.approx(0, abs=1e-6)
    assert found.verdict == "grows"


def test_what_wavers_is_flat_if_it_was_looked_at_for_long_enough():
    dice = random.Random(3)
    wavering = [100 + dice.gauss(0, 2) for _ in times(2)]
    assert slope(times(2), wavering).verdict == "flat"
    assert slope(times(0.2), wavering[: len(times(0.2))]).verdict == "too short to tell"
    assert slope([0.0, 10.0], [1.0, 2.0]).uncertainty == math.inf


def test_a_leak_in_the_noise_is_found():
    dice = random.Random(3)
    leaking = [100 + 30 * at / 3600 + dice.gauss(0, 2) for at in times(2)]
    assert slope(times(2), leaking).verdict == "grows"


def test_the_first_tenth_does_not_count():
    warming = [Sample(at, 50 + min(at, 360) / 10, 40, 0, 0, 0, 0) for at in times(1)]
    assert Watched(warming).slopes()["main process"].mb_an_hour == pytest.approx(0, abs=0.5)
    assert slope([each.at for each in warming], [each.main_mb for each in warming]).mb_an_hour > 5


def test_more_open_files_or_connections_than_before_are_told():
    before = Idle(files=50, sockets=4, processes=12, connections=60)
    assert replace(before, files=49).more_than(before) == []
    (told,) = replace(before, connections=63).more_than(before)
    assert told.endswith("connections of the steady worker or mongod: 60 before the first call, 63 after the last")


def test_the_summary_tells_what_is_wrong():
    slopes = {"main process": {"mb_an_hour": 1.0, "uncertainty": 0.5, "hours": 2.0, "verdict": "flat"}}
    figures = dict.fromkeys(("minutes", "seed", "calls", "at_once", "people", "lines", "answered", "acknowledged"), 1)
    figures |= dict.fromkeys(("questions", "turns", "all_closed_after_s", "open_before", "open_after"), 1)
    figures |= {name: {"served": 1} for name in ("outcomes", "faults", "sessions_by_status")}
    figures |= {"explained": [["not greeted", "LiveKit restarts", 2]], "slopes": slopes, "most_mb_an_hour": 10.0}
    told = summary(figures | {"wrong": ["something is missing"]}).splitlines()
    assert told[-2:] == ["1 wrong", "something is missing"]
    assert "not greeted (LiveKit restarts): 2" in told
