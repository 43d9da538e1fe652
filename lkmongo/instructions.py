"""Whether something that is to be remembered of a person reads as an instruction to the assistant.

A rough sieve, not a defence: what is known of a caller reaches the model as data in any case. It decides what of a
guest becomes an account's only if that person says so.
"""

from __future__ import annotations

import re
import unicodedata

MAX_FACT = 300
"""Characters of what is taken for one fact."""

_LABELS = frozenset("instruction instructions rule rules policy policies prompt system command commands".split())
_VERBS = (
    "ask|tell|say|answer|reply|respond|mention|reveal|read|send|call|give|transfer|approve|accept|refuse|offer|use|"
    "trust|verify|confirm|share|follow|obey|repeat|speak|treat"
)
_ORDERS = re.compile(
    rf"""
    \b(?:ignore|disregard|forget|override|bypass)\b.{{0,40}}
        \b(?:instructions?|rules?|prompt|previous|prior|above|polic(?:y|ies)|everything)\b
    | \b(?:system|developer)\s*(?:prompt|message|instruction|note)s?\b
    | \b(?:new|following|these|hidden|secret)\s+(?:instruction|rule|order|command)s?\b
    | \b(?:from\s+now\s+on|as\s+of\s+now|henceforth)\b
    | \byou\s+(?:must|are\s+now|are\s+no\s+longer)\b
    | \b(?:assistant|agent|bot|model|ai|llm)\s+(?:must|shall|should|will|has\s+to|is\s+to|may)\b
    | \b(?:act|behave|pretend|respond|reply)\s+(?:as|like|only|always)\b
    | \b(?:always|never|whenever|every\s+time|each\s+time)\b.{{0,60}}\b(?:{_VERBS})\b
    | (?:^|\n)\s*(?:system|assistant|developer|user|tool)\s*:
    | </?\s*(?:caller_data|system|assistant|instructions?|tool)\b | \[/?(?:INST|SYS) | <\| | ```
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_REQUESTS = re.compile(
    rf"""
    \byou\s+(?:shall|should|will|have\s+to|need\s+to|may\s+not|can\s?not|can't|are\s+to)\b
    | \b(?:do\s+not|don't|please|speak|answer)\s+(?:{_VERBS}|only|in|with)\b
    """,
    re.IGNORECASE | re.VERBOSE,
)


def gives_orders(text: str) -> bool:
    """Whether a text tells the assistant how to behave, rather than what somebody wants to know or have done."""
    plain = unicodedata.normalize("NFKC", text)
    # Invisible characters stand in nothing that is said, and may hide one of the words.
    is_hidden = any(unicodedata.category(each) in {"Cf", "Co"} and each not in "\u200c\u200d" for each in plain)
    return is_hidden or _ORDERS.search(plain) is not None


def reads_as_instruction(label: str, content: str) -> bool:
    """Whether a value under this label, in snake_case, tells the assistant what to do, or is too long for a fact."""
    is_plain = len(content) <= MAX_FACT and not _LABELS & set(label.split("_"))
    return not is_plain or gives_orders(content) or _REQUESTS.search(content) is not None
