"""What is tried for an intent, one rung after the other, until something answers: the label, a search, the knowledge."""

from __future__ import annotations

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
)
from lkmongo.agent.responder.text import words
from lkmongo.agent.responder.vocabulary import is_business
from lkmongo.model import MAX_CONTENT

Rung = list[tuple[str, dict[str, str]]]
"""Tools with their arguments, called side by side."""
_SAME_LABEL = 88
"""Similarity, of 100, from which a label is the same in another spelling."""
_MOST = 8
"""Memories that one request may delete."""


def ladder(intent: Intent, caller: CallerData) -> list[Rung]:  # noqa: PLR0911 - one for each kind of intent
    """The rungs for an intent; empty when it takes no tool, or none that is worth calling."""
    match intent:
        case SetProfile(field=field, value=value):
            return [[("update_profile", {"field": field, "value": value})]]
        case Remember():
            return [[_remember(intent)]]
        case AskProfile(field=field):
            known = field in caller.profile or caller.status not in {"absent", "loading"}
            return [] if known else [[("recall_detail", {"memory_type": field})], [("list_user_memories", {})]]
        case Recall() | Search() | Knowledge():
            return _searching(intent, caller)
        case ListAll():
            return [[("list_user_memories", {})]]
        case Forget():
            return _forgetting(intent, caller)
        case LookUpOrder(order_id=str(order_id)):
            return [[("lookup_order", {"order_id": order_id})]]
        case _:
            return []


def candidates(intent: Forget, caller: CallerData) -> list[str]:
    """The labels in the briefing that a request to forget may mean: the same one, else those with all its words."""
    from rapidfuzz import fuzz

    near = sorted(caller.memories, key=lambda label: -fuzz.ratio(label, intent.label))
    near = [label for label in near if fuzz.ratio(label, intent.label) >= _SAME_LABEL]
    if near and not intent.every:
        return near[:1]
    holding = _holding(intent.label, caller)
    if not intent.every:
        return holding
    wanted = _word_set(intent.label)
    mentioned = [name for name, content in caller.memories.items() if wanted <= set(map(_singular, words(content)))]
    return list(dict.fromkeys([*near, *holding, *mentioned]))[:_MOST]


def _remember(fact: Remember) -> tuple[str, dict[str, str]]:
    return "remember_detail", {"memory_type": fact.label, "content": fact.content[:MAX_CONTENT]}


def _searching(intent: Recall | Search | Knowledge, caller: CallerData) -> list[Rung]:
    knowledge: Rung = [("search_knowledge", {"query": intent.query})]
    if isinstance(intent, Knowledge):
        return [knowledge]
    memories: Rung = [("search_memories", {"query": intent.query})]
    if isinstance(intent, Search):
        return [memories, knowledge] if intent.general else [memories]
    recall: Rung = [("recall_detail", {"memory_type": _known_label(intent.label, caller)})]
    return [recall, memories, knowledge] if is_business(intent.query) else [recall, memories]


def _forgetting(intent: Forget, caller: CallerData) -> list[Rung]:
    labels = candidates(intent, caller)
    if len(labels) > 1 and not intent.every:
        return []  # which of them is asked, not guessed
    if not labels and intent.unless is not None:
        return [[_remember(intent.unless)]]
    return [[("forget_detail", {"memory_type": label}) for label in labels or [intent.label]]]


def _known_label(label: str, caller: CallerData) -> str:
    """The label in the briefing that has all the words asked for, if it is the only one: wife_name for wife."""
    holding = _holding(label, caller)
    return holding[0] if label not in caller.memories and len(holding) == 1 else label


def _holding(label: str, caller: CallerData) -> list[str]:
    wanted = _word_set(label)
    return [known for known in caller.memories if wanted <= _word_set(known)]


def _word_set(label: str) -> set[str]:
    return {_singular(word) for word in label.split("_")}


_SPELLINGS = {"colour": "color", "favourite": "favorite", "allergie": "allergy", "hobbie": "hobby"}


def _singular(word: str) -> str:
    word = word.removesuffix("s")
    return _SPELLINGS.get(word, word)
