"""The next step of a turn: which tools to call now, or what to say.

Nothing is kept between the steps of a turn: what was wanted is understood again from the same words, and what has been
done is read from the ids of the calls, which name the intent (by its place) and the rung of its ladder. A ladder is
what is tried for one intent, one after the other, until something answers: the label, a search, the knowledge base.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from lkmongo.agent.responder import say
from lkmongo.agent.responder.caller_data import CallerData
from lkmongo.agent.responder.intents import (
    AskProfile,
    Forget,
    Intent,
    Knowledge,
    ListAll,
    LookUpOrder,
    Recall,
    Remember,
    Search,
    SetProfile,
    Talk,
)
from lkmongo.agent.responder.passages import best_answer
from lkmongo.agent.responder.text import words
from lkmongo.agent.responder.vocabulary import BUSINESS
from lkmongo.model import MAX_CONTENT

_NOTHING = re.compile(
    r"\b(?:nothing|no (?:memor|fact|result|match|such|order)|(?:do not|don't|did not|didn't|could not|couldn't|cannot|can't) (?:have|know|remember|find|recall)|"
    r"not found|none)\b",
    re.IGNORECASE,
)
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
_SURE = 0.34
"""Share of a question's words that a passage has to hold to be given as the answer without reserve."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a tool answered."""

    text: str
    is_error: bool = False


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
        tools: names of the tools that may be called.
        done: outputs so far, by intent and rung.
        may_call: whether further tools may be called; false at the last step of a turn.
        last_said: what the agent said in the turn before.
    """

    caller: CallerData
    tools: Collection[str]
    done: Mapping[tuple[int, int], list[Output]] = field(default_factory=dict)
    may_call: bool = True
    last_said: str = ""


def next_step(intents: list[Intent], situation: Situation) -> Step:
    """Work out the next step for what was wanted."""
    calls: list[Call] = []
    for place, intent in enumerate(intents):
        for rung, tries in enumerate(_ladder(intent, situation.caller)):
            outputs = situation.done.get((place, rung))
            if outputs is None:
                if situation.may_call and tries[0][0] in situation.tools:
                    calls += [Call(tool, arguments, place, rung) for tool, arguments in tries]
                    break
                continue
            if not _leads_on(intent, outputs):
                break
    if calls:
        return Step(calls=tuple(calls))
    said = [_speak(place, intent, situation, alone=len(intents) == 1) for place, intent in enumerate(intents)]
    return Step(text=" ".join(dict.fromkeys(filter(None, said))))


_Tries = list[tuple[str, dict[str, str]]]


def _ladder(intent: Intent, caller: CallerData) -> list[_Tries]:  # noqa: PLR0911 - one answer for each kind of intent
    match intent:
        case SetProfile(field=name, value=value):
            return [[("update_profile", {"field": name, "value": value})]]
        case Remember(label=label, content=content):
            return [[("remember_detail", {"memory_type": label, "content": content[:MAX_CONTENT]})]]
        case AskProfile(field=name):
            if name in caller.profile or caller.status not in {"absent", "loading"}:
                return []
            return [[("recall_detail", {"memory_type": name})], [("list_user_memories", {})]]
        case Recall(label=label, query=query):
            label = _known_label(label, caller)
            ladder: list[_Tries] = [
                [("recall_detail", {"memory_type": label})],
                [("search_memories", {"query": query})],
            ]
            return [*ladder, [("search_knowledge", {"query": query})]] if set(words(query)) & BUSINESS else ladder
        case Search(query=query, general=general):
            searches: list[_Tries] = [[("search_memories", {"query": query})]]
            return [*searches, [("search_knowledge", {"query": query})]] if general else searches
        case ListAll():
            return [[("list_user_memories", {})]]
        case Forget():
            return _forgetting(intent, caller)
        case LookUpOrder(order_id=str(order_id)):
            return [[("lookup_order", {"order_id": order_id})]]
        case Knowledge(query=query):
            return [[("search_knowledge", {"query": query})]]
        case _:
            return []


def _forgetting(intent: Forget, caller: CallerData) -> list[_Tries]:
    labels = _labels(intent, caller)
    if len(labels) > 1 and not intent.every:
        return []  # which of them is asked, not guessed
    if not labels and intent.unless is not None:
        return [[("remember_detail", {"memory_type": intent.unless.label, "content": intent.unless.content})]]
    return [[("forget_detail", {"memory_type": label}) for label in labels or [intent.label]]]


def _labels(intent: Forget, caller: CallerData) -> list[str]:
    """The labels there are for what is to be forgotten: the same one, else those that hold all its words."""
    from rapidfuzz import fuzz

    near = [label for label in caller.memories if fuzz.ratio(label, intent.label) >= 88]
    if near and not intent.every:
        return [max(near, key=lambda label: fuzz.ratio(label, intent.label))]
    wanted = {_singular(word) for word in intent.label.split("_")}
    holding = [label for label in caller.memories if wanted <= {_singular(word) for word in label.split("_")}]
    if intent.every:
        mentioned = [
            label
            for label, content in caller.memories.items()
            if wanted <= {_singular(word) for word in words(content)}
        ]
        return list(dict.fromkeys([*near, *holding, *mentioned]))[:8]
    return holding


def _known_label(label: str, caller: CallerData) -> str:
    """The label that is meant where the briefing has one with all its words, and only one: wife for wife_name."""
    if label in caller.memories:
        return label
    wanted = set(map(_singular, label.split("_")))
    holding = [known for known in caller.memories if wanted <= set(map(_singular, known.split("_")))]
    return holding[0] if len(holding) == 1 else label


_SPELLINGS = {"colour": "color", "favourite": "favorite", "allergie": "allergy", "hobbie": "hobby"}


def _singular(word: str) -> str:
    word = word.removesuffix("s")
    return _SPELLINGS.get(word, word)


def _leads_on(intent: Intent, outputs: list[Output]) -> bool:
    """Whether what came back leaves the question open, so that the next rung is tried."""
    if not isinstance(intent, Recall | Search | AskProfile):
        return False
    last = outputs[-1]
    return last.is_error or (_NOTHING.search(last.text) is not None and len(last.text) < 120)


def _speak(place: int, intent: Intent, situation: Situation, *, alone: bool) -> str:  # noqa: PLR0911 - one answer for each kind
    caller = situation.caller
    rungs = sorted(rung for number, rung in situation.done if number == place)
    if rungs:
        return _speak_outputs(intent, [situation.done[place, rung] for rung in rungs])
    match intent:
        case Talk(kind="unknown", about=about) if not alone:
            return say.aside(about)
        case Talk(kind=kind, about=about):
            return say.talk(kind, about, caller, situation.tools, situation.last_said)
        case AskProfile(field=name) if name in caller.profile or caller.status not in {"absent", "loading"}:
            return say.profile_field(name, caller.profile.get(name))
        case Forget(label=label) if len(labels := _labels(intent, caller)) > 1 and "forget_detail" in situation.tools:
            return say.which_of(label, labels)
        case LookUpOrder(order_id=None):
            if "lookup_order" in situation.tools:
                return say.ASK_ORDER
            return "I cannot look up orders in this conversation."
        case _:
            ladder = _ladder(intent, caller)
            doing = _DOING[ladder[0][0][0]] if ladder else "do that"
            return f"I cannot {doing} in this conversation."


def _speak_outputs(intent: Intent, rungs: list[list[Output]]) -> str:
    if isinstance(intent, Knowledge):
        return _speak_knowledge(rungs[0][-1], intent.query, topic=intent.topic)
    last = rungs[-1]
    if isinstance(intent, Recall | Search) and (answer := _from_knowledge(intent, rungs)):
        return answer
    text = " ".join(dict.fromkeys(_sentence(output.text) for output in last))
    if isinstance(intent, SetProfile) and intent.field == "preferred_language" and not last[-1].is_error:
        if intent.value != "English":
            text += " I can only speak English myself, though."
    if isinstance(intent, Remember) and intent.reminder and not last[-1].is_error:
        text += " I can't remind you at a time, though."
    if isinstance(intent, Recall) and len(rungs) > 1 and _leads_on(intent, last):
        text = _sentence(rungs[0][-1].text)
    return text


def _from_knowledge(intent: Recall | Search, rungs: list[list[Output]]) -> str:
    """The third rung answers only when it is sure; else what the memory said stands."""
    at = 2 if isinstance(intent, Recall) else 1
    if len(rungs) <= at:
        return ""
    found = None if rungs[at][-1].is_error else best_answer(rungs[at][-1].text, intent.query)
    sure = found and found.fit >= _SURE and rungs[at][-1].text.lstrip().startswith("{")
    return found.text if found and sure else _sentence(rungs[0][-1].text)


def _speak_knowledge(output: Output, query: str, *, topic: bool) -> str:
    if output.is_error:
        return _sentence(output.text)
    found = best_answer(output.text, query)
    if found is None:
        return "I found nothing about that in the knowledge base."
    if found.fit >= _SURE:
        return found.text
    if topic:
        return (
            f'I\'m not sure what you mean by "{say.shorten(query, 60).rstrip(".")}". The closest I found is this: {found.text}'
            if found.fit > 0
            else "I did not understand that, and I found nothing about it in the knowledge base."
        )
    return f"I'm not sure that this answers it; it is the closest I found: {found.text}"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?\"')" else f"{text}."
