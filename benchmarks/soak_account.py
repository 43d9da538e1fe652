"""The account of `benchmarks.soak`: what was planned, seen and stored, laid side by side.

Nothing here asks anything of a database or a process: everything comes as it was read, so that tests can bend it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.soak_calls import Call, Line, is_acknowledged
from benchmarks.soak_faults import Fault

Document = Mapping[str, Any]

CLOSED_WITHIN = 90.0
"""Seconds after its caller has gone within which a session is to be closed, if nothing fails meanwhile. A client that
dies is missed by LiveKit after some twenty, and a job that dies is recovered by the second look, ten seconds each."""

_LOOKED_UP = frozenset({"no answer", "other answer"})
_ANYTHING = frozenset({"not connected", "not greeted", "cut off", "no answer", "other answer", "left open"})
_BY_TWO = "heard by two agents"
"""Of two that came at once each records what is said until one has left, a second or two later."""
_OF_THE_DEAD = (_ANYTHING | {_BY_TWO}) - {"not connected"}
_EXCUSES: dict[str, tuple[frozenset[str], float]] = {
    "MongoDB stands still": (_LOOKED_UP | {"left open"}, 30),
    "MongoDB restarts": (_LOOKED_UP | {"left open"}, 30),
    "MongoDB is cut off": (_LOOKED_UP | {"left open"}, 30),
    "MongoDB is far away": (_LOOKED_UP | {"left open"}, 15),
    "LiveKit restarts": (_ANYTHING | {"more than one session", _BY_TWO}, 60),
    "LiveKit stands still": (_ANYTHING - {"other answer"}, 30),
    "callers are cut off": (frozenset({"not connected", "not greeted", "cut off", "no answer"}), 30),
    "a worker is killed": (_OF_THE_DEAD, 30),
    "a worker ends": (frozenset({"not greeted", "cut off", "no answer"}), 30),
    "a job is killed": (_OF_THE_DEAD, 60),
}
"""What each fault may be the reason of, and for how many seconds after it. Not being greeted is none of MongoDB's."""


@dataclass
class Held:
    """What is known of a run when it is over.

    Attributes:
        questions: what was asked, with what might be answered at that time.
        known: of each person, what each slot may hold.
        acknowledged: of each person, every slot and value that the agent said it would remember.
        memories: of each person, what each slot holds.
        former: of each person, what each slot has held.
        journals: files that are left in the journal's folder.
    """

    calls: list[Call] = field(default_factory=list)
    questions: list[tuple[Call, Line, list[str]]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    sessions: Sequence[Document] = field(default_factory=list)
    turns: Sequence[Document] = field(default_factory=list)
    known: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    acknowledged: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    memories: dict[str, dict[str, str]] = field(default_factory=dict)
    former: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    journals: list[str] = field(default_factory=list)


@dataclass
class Account:
    """What is wrong, a sentence each; and what was not as usual and has its reason: counted, and a sentence each."""

    wrong: list[str] = field(default_factory=list)
    explained: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)

    def note(self, what: str, call: Call, faults: Sequence[Fault], begin: float, end: float, more: str = "") -> None:
        """Something was not as usual between two times: a fault was the reason, or it is wrong."""
        told = f"{_name(call)}: {what}{f': {more}' if more else ''}"
        if reason := excuse(what, call, faults, begin, end):
            self.explained[what, reason.kind] += 1
            self.reasons.append(f"{told} ({reason.kind})")
        else:
            self.wrong.append(told)


def account(held: Held) -> Account:
    """Lay everything side by side."""
    found = Account()
    sessions, turns = _by(held.sessions, "room_name"), _by(held.turns, "session_id")
    for call in held.calls:
        _count_call(call, held, found)
        _count_sessions(call, sessions, held, found)
        _count_turns(call, [each["session_id"] for each in sessions.get(call.room_name, [])], turns, held, found)
    _count_strangers(held, sessions, turns, found)
    _count_answers(held, found)
    _count_facts(held, found)
    found.wrong += [f"the journal is not empty: {name}" for name in held.journals]
    return found


def excuse(what: str, call: Call, faults: Sequence[Fault], begin: float, end: float) -> Fault | None:
    """The fault that may be the reason of something that happened to a call between two times."""
    for fault in faults:
        kinds, settles = _EXCUSES[fault.kind]
        concerns = not fault.session_ids or call.room in fault.session_ids
        if what in kinds and concerns and fault.began <= end and (fault.ended or fault.began) + settles >= begin:
            return fault
    return None


def _by(documents: Iterable[Document], name: str) -> dict[str, list[Document]]:
    found: dict[str, list[Document]] = defaultdict(list)
    for each in documents:
        found[each[name]].append(each)
    return found


def _name(call: Call) -> str:
    return f"call {call.number} of {call.user_id} in {call.room_name or 'no room'}"


def _count_call(call: Call, held: Held, found: Account) -> None:
    if call.outcome != "served":
        since = call.greeted and max([call.greeted, *(line.typed for line in call.lines)])
        found.note(call.outcome, call, held.faults, since or call.began, call.over, call.why)
    for line in call.lines:
        if line.typed and not line.answered and line is not _unheard(call):
            found.note(
                "no answer", call, held.faults, line.typed, line.typed + 30, f"to {line.text!r}: {line.answer!r}"
            )


def _unheard(call: Call) -> Line | None:
    """The line after which the caller hung up without hearing the answer."""
    return call.lines[-1] if call.how == "hangs up while answered" else None


def _count_sessions(call: Call, sessions: Mapping[str, list[Document]], held: Held, found: Account) -> None:
    own = sessions.get(call.room_name, [])
    if call.greeted and not own:
        found.wrong.append(f"{_name(call)}: it is not in the database")
    for session_id, count in Counter(each["session_id"] for each in own).items():
        if count > 1:
            found.wrong.append(f"{_name(call)}: it is in the database {count} times as {session_id}")
    if len({each["session_id"] for each in own}) > 1:  # the room was made anew, and another agent came
        more = ", ".join(each["session_id"] for each in own)
        found.note("more than one session", call, held.faults, call.began, call.over, more)
    for each in own:
        if each["user_id"] != call.user_id:
            found.wrong.append(f"{_name(call)}: its session {each['session_id']} is {each['user_id']}'s")
        ended = each.get("ended_at")
        if each["status"] == "active" or ended is None:
            found.wrong.append(f"{_name(call)}: its session {each['session_id']} is still open")
        elif (late := ended.timestamp() - call.over) > CLOSED_WITHIN:
            found.note("left open", call, held.faults, call.over, ended.timestamp(), f"{late:.0f} s")


def _count_turns(
    call: Call, sessions: Iterable[str], turns: Mapping[str, list[Document]], held: Held, found: Account
) -> None:
    kept: list[Document] = []
    for session_id in dict.fromkeys(sessions):
        own = sorted(turns.get(session_id, []), key=lambda each: int(each["seq"]))
        kept += own
        if [each["seq"] for each in own] != list(range(len(own))):
            found.wrong.append(f"{_name(call)}: its turns are numbered {[each['seq'] for each in own]}")
        times = [each["created_at"] for each in own]
        if times != sorted(times):
            found.wrong.append(f"{_name(call)}: its turns are not in their order")
        twice = [item for item, count in Counter(each["item_id"] for each in own).items() if count > 1]
        if twice:
            found.wrong.append(f"{_name(call)}: turns are stored twice: {', '.join(twice)}")
    stored = Counter(each["content"] for each in kept if each.get("role") == "user")
    typed = Counter(line.text for line in call.lines if line.typed)
    answered = Counter(line.text for line in call.lines if line.answered)
    for text, count in (stored - typed).items():
        more = f"{text!r} is stored {count} times more than it was said"
        if at := max((line.typed for line in call.lines if line.text == text), default=0.0):
            found.note(_BY_TWO, call, held.faults, at, at, more)
        else:
            found.wrong.append(f"{_name(call)}: {more}")
    for text, count in (answered - stored).items():
        found.wrong.append(f"{_name(call)}: {text!r} was answered and is missing {count} times")


def _count_strangers(
    held: Held, sessions: Mapping[str, list[Document]], turns: Mapping[str, list[Document]], found: Account
) -> None:
    rooms, ids = {call.room_name for call in held.calls}, {each["session_id"] for each in held.sessions}
    found.wrong += [f"the session of room {each} is of no call" for each in sessions if each not in rooms]
    found.wrong += [f"there are turns without a session: {each}" for each in turns if each not in ids]


def _count_answers(held: Held, found: Account) -> None:
    """Whether people were told what they had said before."""
    for call, line, may_be in held.questions:
        if line.answered and not _answers(line.answer, may_be):
            more = f"{line.text!r} was answered {line.answer!r} instead of {' or '.join(map(repr, may_be))}"
            # What was told just before a fault may be stored only after it.
            found.note("other answer", call, held.faults, call.began - 30, line.answered, more)


def _answers(answer: str, may_be: Sequence[str]) -> bool:
    return any(value in answer if value else "nothing stored" in answer for value in may_be)


def _count_facts(held: Held, found: Account) -> None:
    for person, slots in held.known.items():
        stored = held.memories.get(person, {})
        for slot, may_be in slots.items():
            if stored.get(slot, "") not in may_be:
                wanted = " or ".join(map(repr, may_be))
                found.wrong.append(f"{person}'s {slot} is {stored.get(slot)!r} instead of {wanted}")
        for slot, value in held.acknowledged.get(person, []):
            if value != stored.get(slot) and value not in held.former.get(person, {}).get(slot, set()):
                found.wrong.append(f"{person}'s {slot} {value!r} was acknowledged and is nowhere")


def counts(held: Held) -> dict[str, Any]:
    """The run in figures: calls by their outcome and end, lines, facts, sessions and turns."""
    typed = [line for call in held.calls for line in call.lines if line.typed]
    return {
        "calls": len(held.calls),
        "outcomes": dict(Counter(call.outcome for call in held.calls)),
        "ends": dict(Counter(call.how for call in held.calls)),
        "people": len({call.user_id for call in held.calls}),
        "another_agent_came": sum(len(call.agents) > 1 for call in held.calls),
        "lines": len(typed),
        "answered": sum(bool(line.answered) for line in typed),
        "acknowledged": sum(map(is_acknowledged, typed)),
        "questions": len(held.questions),
        "sessions": len(held.sessions),
        "sessions_by_status": dict(Counter(each["status"] for each in held.sessions)),
        "close_reasons": dict(Counter(str(each.get("close_reason")) for each in held.sessions)),
        "turns": len(held.turns),
        "faults": dict(Counter(fault.kind for fault in held.faults)),
    }
