"""E-mail addresses, written or spelled out, and whose they are."""

from __future__ import annotations

import re

from lkmongo.agent.responder.clauses import Clause
from lkmongo.agent.responder.intents import AskProfile, Intent, SetProfile

_ADDRESS = re.compile(r"[^\s@<>\"',;:()]+@[^\s@<>\"',;()]+\.[^\s@<>\"',;().]{2,}")
_SPOKEN = re.compile(
    r"(?P<local>\w+(?:(?: (?:dot|point|underscore|dash|hyphen|minus|plus) | )\w+)*?) at "
    r"(?P<domain>\w+(?: (?:dash|hyphen) \w+)*(?:(?: dot | point |\.)\w+)+)",
    re.IGNORECASE,
)
_SOUNDS = {"dot": ".", "point": ".", "underscore": "_", "dash": "-", "hyphen": "-", "minus": "-", "plus": "+"}
_BEFORE_ADDRESS = re.compile(
    r".*\b(?:is|to|at|as|me|email|mail|address|use|it|that|under|on|changed|name|for|reach)\b ", re.IGNORECASE
)
_ANOTHERS = re.compile(
    r"\b(?:(?:my|our) (?!own |new |personal |main |current |best |private |primary |preferred |email|mail|correct |full |actual |real )"
    r"[\w' -]+? |his |her |their |your |[A-Z]\w+'s )(?:email|mail)\b"
)


def _unspeak(text: str) -> str:
    parts = [_SOUNDS.get(word.casefold(), word) for word in text.replace(".", " dot ").split()]
    return "".join(parts)


def find_address(text: str) -> str | None:
    """Find an e-mail address, written or spelled out as "robin at example dot com"."""
    if match := _ADDRESS.search(text):
        return match[0].rstrip(".,;:!?")
    if match := _SPOKEN.search(text):
        before = _BEFORE_ADDRESS.match(match["local"] + " ")
        local = match["local"] if before is None else match["local"][before.end() :]
        if before is not None and not local.strip():
            return None
        if before is None and not re.search(r"\b(?:email|mail|reach|contact)\b", text[: match.start()], re.IGNORECASE):
            chain = re.search(r"\w+(?: (?:dot|point|underscore|dash|hyphen|minus|plus) \w+)*$", local, re.IGNORECASE)
            local = chain[0] if chain else local
        return f"{_unspeak(local)}@{_unspeak(match['domain'])}".lower()
    return None


def email_given(clause: Clause) -> list[Intent] | None:
    """Understand a clause that holds the caller's own address."""
    address = find_address(clause.text)
    if address is None or _ANOTHERS.search(clause.text):
        return None
    if clause.asked:
        return [AskProfile("email")] if re.search(r"\bmy\b|\bfor me\b", clause.text, re.IGNORECASE) else None
    return [SetProfile("email", address)]
