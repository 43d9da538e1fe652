"""The next step of a turn: which tools to call now, or what to say.

Nothing is kept between the steps of a turn: what was wanted is understood again from the same words, and what has been
done is read from the ids of the calls, which name the intent (by its place) and the rung of its ladder.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from lkmongo.agent.responder import say
from lkmongo.agent.responder.caller_data import CallerData
from lkmongo.agent.responder.intents import AskProfile, Forget, Intent, LookUpOrder, Talk
from lkmongo.agent.responder.ladder import Rung, candidates, ladder
from lkmongo.agent.responder.outcome import Output, leaves_open, spoken

_DOING = {
    "update_profile": "change your profile",
    "remember_detail": "remember things",
    "recall_detail": "recall what I was told",
    "search_memories": "search what I was told",
    "list_user_memories": "list what I know about you",
    "forget_detail": "forget things",
    "lookup_order": "look up orders",
    "search_knowledge": "search the knowledge base",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A tool to call, for the intent at `intent` and the rung `rung` of its ladder."""

    tool: str
    arguments: Mapping[str, str]
    intent: int
    rung: int


@dataclass(frozen=True, slots=True)
class Step:
    """Either tools to call, or what to say."""

    calls: tuple[Call, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a step depends on beside the intents.

    Attributes:
        caller: the briefing.
        tools: names of the tools that there are.
        done: outputs so far, by intent and rung.
        may_call: whether further tools may be called; false at the last step of a turn.
        last_said: what the agent said in the turn before.
        lists_orders: whether orders can be looked up without a number.
    """

    caller: CallerData
    tools: Collection[str]
    done: Mapping[int, Mapping[int, list[Output]]] = field(default_factory=dict)
    may_call: bool = True
    last_said: str = ""
    lists_orders: bool = False


def next_step(intents: list[Intent], situation: Situation) -> Step:
    """Work out the next step for what was wanted."""
    if situation.may_call and (
        calls := [call for place, intent in enumerate(intents) for call in _calls(place, intent, situation)]
    ):
        return Step(calls=tuple(calls))
    said = [_speak(place, intent, situation, alone=len(intents) == 1) for place, intent in enumerate(intents)]
    return Step(text=" ".join(dict.fromkeys(filter(None, said))))


def _calls(place: int, intent: Intent, situation: Situation) -> list[Call]:
    """The calls of the next rung; none when an intent is settled."""
    done = situation.done.get(place, {})
    for number, rung in enumerate(_rungs(intent, situation)):
        if number in done:
            if not leaves_open(intent, done[number]):
                return []
        elif rung[0][0] in situation.tools:
            return [Call(tool, arguments, place, number) for tool, arguments in rung]
    return []


def _rungs(intent: Intent, situation: Situation) -> list[Rung]:
    if situation.lists_orders and intent in (LookUpOrder(), Talk("orders_by_number")):
        return [[("lookup_order", {})]]
    return ladder(intent, situation.caller)


def _speak(place: int, intent: Intent, situation: Situation, *, alone: bool) -> str:  # noqa: PLR0911 - by kind
    if rungs := situation.done.get(place):
        return spoken(intent, rungs)
    caller, tools = situation.caller, situation.tools
    match intent:
        case Talk(kind="unknown", about=about) if not alone:
            return say.aside(about)
        case Talk(kind=kind, about=about):
            return say.talk(kind, about, caller, tools, situation.last_said)
        case AskProfile(field=name) if name in caller.profile or caller.status not in {"absent", "loading"}:
            return say.profile_field(name, caller.profile.get(name))
        case LookUpOrder(order_id=None) if "lookup_order" in tools:
            return say.ASK_ORDER
        case Forget(label=label) if len(labels := candidates(intent, caller)) > 1 and "forget_detail" in tools:
            return say.which_of(label, labels)
        case _:
            return _cannot(intent, caller)


def _cannot(intent: Intent, caller: CallerData) -> str:
    asked = LookUpOrder("?") if isinstance(intent, LookUpOrder) else intent
    rungs = ladder(asked, caller)
    return f"I can't {_DOING[rungs[0][0][0]] if rungs else 'do that'} in this conversation."
