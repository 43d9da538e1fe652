"""What is said of what the tools answered."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lkmongo.agent.responder import say
from lkmongo.agent.responder.intents import AskProfile, Intent, Knowledge, Recall, Remember, Search, SetProfile
from lkmongo.agent.responder.passages import best_answer

_NOTHING = re.compile(
    r"(?:i (?:remember|know|have|found|find|recall) nothing|nothing\b|there is nothing|no (?:memor|facts?|results?|matches)|"
    r"i (?:do not|don't|did not|didn't|could not|couldn't|cannot|can't) (?:have|know|remember|find|recall))",
    re.IGNORECASE,
)
_SURE = 0.34
"""Share of a question's words that a passage has to hold to be given as the answer without reserve."""
_CLOSE = 0.15
"""The share from which it is worth giving at all."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a tool answered."""

    tool: str
    text: str
    is_error: bool = False


Rungs = Mapping[int, Sequence[Output]]
"""The outputs for one intent, by rung."""


def leaves_open(intent: Intent, outputs: Sequence[Output]) -> bool:
    """Whether what came back leaves the question open, so that the next rung is tried."""
    last = outputs[-1]
    return isinstance(intent, Recall | Search | AskProfile) and (last.is_error or _NOTHING.match(last.text) is not None)


def spoken(intent: Intent, rungs: Rungs) -> str:
    """One or more sentences, from the rung that answered; from the first one when none did."""
    last = rungs[max(rungs)]
    if last[-1].tool == "search_knowledge":
        return _of_knowledge(intent, rungs)
    if isinstance(intent, Recall) and leaves_open(intent, last):
        last = rungs[min(rungs)]  # "nothing about your shoe size" says more than that a search found nothing
    text = " ".join(dict.fromkeys(_sentence(output.text) for output in last))
    if last[-1].is_error:
        return text
    match intent:
        case SetProfile(field="preferred_language", value=value) if value != "English":
            return f"{text} {say.ONLY_ENGLISH}"
        case Remember(reminder=True):
            return f"{text} {say.NO_REMINDERS}"
        case _:
            return text


def _of_knowledge(intent: Intent, rungs: Rungs) -> str:
    output = rungs[max(rungs)][-1]
    query = intent.query if isinstance(intent, Recall | Search | Knowledge) else ""
    found = None if output.is_error else best_answer(output.text, query)
    if not isinstance(intent, Knowledge):
        # Only a sure answer of the knowledge base is better than that nothing is remembered.
        return (
            found.text if found and found.of_passages and found.fit >= _SURE else _sentence(rungs[min(rungs)][-1].text)
        )
    if output.is_error:
        return _sentence(output.text)
    if found is None:
        return say.NOTHING_FOUND
    if not found.of_passages or found.fit >= _SURE:
        return found.text
    if intent.topic:
        return say.NOT_UNDERSTOOD
    return f"{say.CLOSEST} {found.text}" if found.fit >= _CLOSE else say.NOTHING_FOUND


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?\"')" else f"{text}."
