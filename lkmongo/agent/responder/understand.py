"""From what was said to what is wanted: text in, intents out, without any model, network or state.

A line is normalised, split into clauses, freed of politeness, and each clause goes through the grammars in a fixed
order, the most specific first. What no grammar takes is said to be not understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from lkmongo.agent.responder.about_agent import about_agent
from lkmongo.agent.responder.beyond import beyond
from lkmongo.agent.responder.clauses import Clause, clauses
from lkmongo.agent.responder.facts import fact
from lkmongo.agent.responder.foreign import is_foreign
from lkmongo.agent.responder.forgetting import forgetting
from lkmongo.agent.responder.intents import (
    Forget,
    Intent,
    Knowledge,
    LookUpOrder,
    Recall,
    Remember,
    Search,
    SetProfile,
    Talk,
)
from lkmongo.agent.responder.knowledge import knowledge
from lkmongo.agent.responder.listing import listing
from lkmongo.agent.responder.orders import (
    about_some_order,
    answer_with_number,
    goes_on_about_it,
    names_an_order,
    orders,
)
from lkmongo.agent.responder.profile import profile
from lkmongo.agent.responder.remembering import long_winded, remembering, stated
from lkmongo.agent.responder.self_questions import about_oneself
from lkmongo.agent.responder.smalltalk import courtesy, smalltalk
from lkmongo.agent.responder.text import fit_label, normalise, words
from lkmongo.agent.responder.vocabulary import BUSINESS, word_set
from lkmongo.agent.responder.wording import as_said
from lkmongo.confidential import holds_secret, is_secret

MAX_FIELD = 200
"""Characters of a profile's field."""
MAX_INTENTS = 8
"""Requests of one utterance that are served."""


@dataclass(frozen=True, slots=True)
class Before:
    """What the turn before was about, as far as it changes what an utterance means.

    Attributes:
        asked_for: "order" when its number was asked for, or a profile field.
        order: whether an order was looked up.
        labels: the labels under which something was remembered.
    """

    asked_for: str = ""
    order: bool = False
    labels: tuple[str, ...] = ()


def understand(raw: str, before: Before | None = None) -> list[Intent]:
    """Understand one utterance.

    Args:
        raw: what was typed or transcribed; anything beyond 4,000 characters is ignored.
        before: what the turn before was about.

    Returns:
        At least one intent, in the order of what was said; the last is `Talk("too_much")` when there were more than
        `MAX_INTENTS`.
    """
    before = before or Before()
    text = normalise(raw)
    if not words(text):
        return [Talk("nothing")]
    if is_foreign(text):
        return [Talk("foreign")]
    found: list[Intent] = []
    said = clauses(text)
    if names_an_order(text):
        before = replace(before, order=True)
    for clause in said:
        if clause.text and not (_has_order(found) and clause.asked and goes_on_about_it(clause.text)):
            found += _clause(clause, before)
        if len(found) > 2 * MAX_INTENTS:
            break
    if not found:
        return [_courtesy(said)]
    found = list(dict.fromkeys(_fit(_with_words(intent, raw)) for intent in found))
    unclear = all(isinstance(intent, Knowledge) or _is_vague(intent) for intent in found)
    if unclear and len(said) > 1 and about_some_order(text):
        # "I ordered curtains last week. Can you tell me if they have been shipped?" takes both sentences.
        found = [LookUpOrder()]
    found = _last_words(_tidy(found))
    return found if len(found) <= MAX_INTENTS else [*found[:MAX_INTENTS], Talk("too_much")]


def _has_order(found: list[Intent]) -> bool:
    return any(isinstance(intent, LookUpOrder) and intent.order_id for intent in found)


def _courtesy(said: list[Clause]) -> Intent:
    if any(clause.thanked for clause in said):
        return Talk("thanks")
    return Talk("greet" if any(clause.greeted for clause in said) else "ok")


_LONG = 400
"""Characters beyond which a clause is not taken apart: nobody says a request that long, and grammars take their time."""


def _clause(clause: Clause, before: Before) -> list[Intent]:
    if len(clause.text) > _LONG:
        return long_winded(clause) or [Talk("too_long")]
    found = _plainly(clause, before)
    if before.asked_for in FIELDS_ASKED and all(_is_vague(intent) for intent in found):
        return _as_answer(clause, before.asked_for) or found
    return found


FIELDS_ASKED = ("name", "email", "timezone", "preferred_language")


def _is_vague(intent: Intent) -> bool:
    return (isinstance(intent, Talk) and intent.kind == "unknown") or (isinstance(intent, Knowledge) and intent.topic)


def _as_answer(clause: Clause, field: str) -> list[Intent] | None:
    """What stands alone as an answer: "Robin", after the name was asked for."""
    answer = re.sub(r"^(?:it is|its|that is|this is|i am|it would be) ", "", clause.text, flags=re.IGNORECASE)
    told = profile(Clause(f"my {field.removeprefix('preferred_')} is {answer}")) if len(words(answer)) <= 6 else None
    if told and all(isinstance(intent, SetProfile) and intent.field == field for intent in told[0]):
        return told[0]
    return None


def _plainly(clause: Clause, before: Before) -> list[Intent]:  # noqa: PLR0911 - the grammars, in their order
    if found := remembering(clause) or forgetting(clause, last_labels=before.labels) or listing(clause):
        return found
    if before.asked_for == "order" and (found := answer_with_number(clause.text)):
        return found
    if found := smalltalk(clause):
        return found
    if told := profile(clause):
        intents, left = told
        return intents + (_plainly(replace(clause, text=left), before) if left else [])
    if found := orders(clause, after_order=before.order or before.asked_for == "order") or _changed(clause):
        return found
    if found := about_agent(clause):
        return found
    if not clause.asked and (kept := fact(clause.text)):
        return [kept]
    return (
        beyond(clause)
        or about_oneself(clause)
        or courtesy(clause)
        or knowledge(clause)
        or [Talk("unknown", clause.text)]
    )


_NOT_OURS = word_set(
    """oven temp temperature thermostat pin insurance plan lights light volume alarm voice reminder playlist settings setting meeting appointment card bank speed tv heating ringtone wallpaper calendar limit visa"""
)
_CHANGE = re.compile(
    r"(?:change|update|set|switch|make|correct) (?P<what>my [\w' -]+?) (?:to|into|as|from [\w' -]+ to) (?P<value>.+)",
    re.IGNORECASE,
)


def _changed(clause: Clause) -> list[Intent] | None:
    """Take "change my favorite color to red" for the statement that it is red."""
    if (match := _CHANGE.fullmatch(clause.text)) and not set(words(match["what"])) & (BUSINESS | _NOT_OURS):
        return stated(f"{match['what']} is {match['value']}")
    return None


def _with_words(intent: Intent, raw: str) -> Intent:
    """Give back the caller's own words, which normalising may have changed."""
    if isinstance(intent, Remember):
        return replace(intent, content=as_said(intent.content, raw))
    return intent


def _fit(intent: Intent) -> Intent:  # noqa: PLR0911 - one for each kind of intent
    """Bring labels and values within the store's bounds; what cannot be brought there was not understood."""
    match intent:
        case Remember(label=label, content=content) if is_secret(label, content):
            return Talk("secret")
        case Knowledge(query=said) | Search(query=said) | Talk(kind="unknown", about=said) if holds_secret(said):
            return Talk("secret")  # nobody has asked for it to be stored, and it is not to be looked up either
        case Remember(label=label, content=content):
            fitting = fit_label(label)
            return replace(intent, label=fitting) if fitting and content.strip() else Talk("unknown", content)
        case Recall(label=label, query=query):
            fitting = fit_label(label)
            return replace(intent, label=fitting) if fitting else Search(query)
        case Forget(label=label):
            fitting = fit_label(label)
            return replace(intent, label=fitting) if fitting else Talk("what_to_forget")
        case SetProfile(value=value) if not value.strip() or len(value) > MAX_FIELD:
            return Talk("tell_field", intent.field)
        case LookUpOrder(order_id=str(order_id)) if not order_id.strip():
            return LookUpOrder()
        case _:
            return intent


def _last_words(found: list[Intent]) -> list[Intent]:
    """Keep the last of several values for one thing: the calls of one step run side by side, in no order."""
    last = {_target(intent): place for place, intent in enumerate(found)}
    return [intent for place, intent in enumerate(found) if _target(intent) is None or last[_target(intent)] == place]


def _target(intent: Intent) -> tuple[str, str] | None:
    match intent:
        case SetProfile(field=field):
            return "profile", field
        case Remember(label=label) | Forget(label=label):
            return "memory", label
        case _:
            return None


def _tidy(found: list[Intent]) -> list[Intent]:
    """Drop small talk beside a request, and asides that were not understood beside what was."""
    small = {
        "ok",
        "greet",
        "thanks",
        "how_are_you",
        "compliment",
        "sorry",
        "hearing",
        "feeling",
        "never_mind",
        "nothing",
        "insult",
        "repeat",
    }
    kept = [intent for intent in found if not (isinstance(intent, Talk) and intent.kind in small)]
    kept = [
        intent
        for intent in kept
        if not (
            isinstance(intent, Talk) and intent.kind == "unknown" and (len(words(intent.about)) < 5 or _has_order(kept))
        )
        and not (isinstance(intent, Knowledge) and intent.topic and len(kept) > 1)
    ] or kept
    return kept or found[-1:]
