"""From one line of plain text to single requests and statements, each without its greeting and politeness."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from lkmongo.agent.responder.politeness import AUX, HEAD, SUBJECT, Clause, is_politeness, undress
from lkmongo.agent.responder.text import rx

__all__ = ["Clause", "begins_anew", "clauses", "sentences"]

_I = re.IGNORECASE


_ABBREVIATION = re.compile(r"(?:\b(?:Dr|Mr|Mrs|Ms|St|Prof|Jr|Sr|vs|e\.g|i\.e|No|Nr|approx|Ave|Rd|a\.m|p\.m))\.$")
_INITIAL = re.compile(r"(?<!\b[A-Za-z] )\b[A-Z]\.$")
_END = re.compile(r"(?<=[.!?])['\")]*\s+")
_END_OR_BREAK = re.compile(_END.pattern + r"|\s*;\s+|\s+[-\u2013\u2014]{1,2}\s+")

_VERB = (
    r"(?:is|are|was|were|am|has|have|had|likes?|loves?|hates?|lives?|works?|plays?|wants?|needs?|prefers?|goes|go|"
    r"called|named|comes?|does|do|did|will|can|cannot|could|should|would|moved|drinks?|eats?|speaks?|enjoys?|drives?)"
)
_NEW = rx(
    rf"""
    (?:oh |also |then |please |and |but |just |now |later |by the way,? |can you |could you |would you )*
    (?:(?:what|where|when|who|how|why|which) (?!ever)\S
    |{AUX} {SUBJECT}\b
    |(?:tell|remind|show|give|let) (?:me|us)\b
    |(?:remember|forget|delete|erase|do not forget|do not remember|note|keep in mind|bear in mind)\b
    |(?:look (?:up|for|at)|search for|find out|track|check)\b
    |(?:set|change|update|save|store|list) (?:my|the|that)\b
    |call me\b|(?:everyone|everybody|people|friends|they|most people|my friends) calls? me\b
    |that (?:i|my|our|we)\b|email(?: address)?(?: is|:)? \S+@
    |(?:i|we) (?!and\b|or\b|,)\S
    |(?:my|our) [^,]*?\b{_VERB}\b
    |(?:this|that|it|there|he|she|they) (?:is|was|are|has|likes|loves|lives|works|should|had)\b
    |you can (?:call|reach|email)\b
    |please\b|thanks?\b|thank you\b|never mind\b
    )
    """
)
_JOINT = re.compile(
    r",?\s+(?:and|but|also|plus|then|oh|so(?= (?:can|could|how|what|where|when|please|tell|place|find|i (?:want|need|am))\b))\s+|,\s+|:\s+(?=(?:what|where|when|who|how|has|have|is|are|do|does|did|can|could|will|would)\b)",
    _I,
)
_SAME_I = re.compile(
    r"(?:(?:also|then|now|just|really|currently|usually|always|never) )*(?:want|need|would|cannot|do not|did not|am|was|work|live|like|love|hate|prefer|have|play|drive|speak|moved|enjoy|drink|eat|own|study|come|use|wear)\b",
    _I,
)
_SAME_MY = re.compile(
    r"(?:also |really )?(?:loves|likes|hates|lives|works|has|plays|eats|drinks|speaks|enjoys|prefers)\b", _I
)
_MY_SUBJECT = re.compile(
    r"(?:(?:please )?(?:remember|note)(?: that)? )?(?P<who>he|she|it|(?:my|our) [\w'-]+(?: [A-Z][\w'-]*)?) (?:is|has|was|loves|likes|lives|works|plays|speaks|hates)\b",
    _I,
)
_I_SAID = re.compile(r"(?:(?:please |do not )?(?:remember|note|forget)(?: that)? |keep in mind(?: that)? )?i\b", _I)
_INFINITIVE = re.compile(r"\b(?:to|can|could|will|would|should|must) \w+$|\b(?:what|where|how|when|why|if)\b", _I)
_RUN_ON = rx(
    r"""
    \s+(?=
    (?:my|the) (?:name|email|timezone|(?:email|home) address) is\b
    |my (?:[\w']+ ){1,3}(?:is|are) (?!it\b)|i (?:am (?:from|allergic|vegan|vegetarian|married|a|an)|live (?:in|at|with)|work (?:at|for|as)|love|hate|prefer|moved|was born)\b
    |(?:what|where|when|who) (?:is|are) (?:my|our|your|the|order)\b
    |how (?:do|does|much|many|long|old)\b
    |(?:can|could|would) you (?:please )?(?:tell|check|look|remember|forget|find|help|give|also|let)\b
    |(?:do|does|did) you (?:know|have|offer|ship|remember|deliver|accept|sell)\b
    |please (?:remember|forget|tell|note|check|look|delete|call)\b
    |tell me\b|remember that\b|i (?:want|would like|need) to (?:know|check|ask)\b
    )
    """
)
_NO_NOUN = re.compile(rf"\b{_VERB}\b|\b(?:wrong|right|back|up|down|already|ready|again)$", _I)
_EMBEDDED = re.compile(r"\b(?:what|where|when|who|how) \w[\w' ]* (?:is|are|was)$", _I)
_WH = re.compile(r"(?:what|where|when|who|how|which|why)\b", _I)
_HE = re.compile(r"^(?:he|she|it|they)\b(?= (?:is|are|was|has|likes|loves|lives|works|hates|plays))", _I)
_HAS_VERB = re.compile(rf"\b{_VERB}\b|^(?:call|remember|note|forget|i|delete|tell)\b \w", _I)
_TELLING = re.compile(
    r"(?:(?:hi|hello|hey|well|so|ok|okay|please|yes|yeah|and|also),? )*(?:my|our|i|we|this|it|its|call|remember|note|name|you can|do not forget)\b",
    _I,
)
_OWN_NEXT = re.compile(r"(?:my|i)\b", _I)
_DANGLING = re.compile(
    r"\b(?:do|does|did|can|am|has|had|will|should|must|may|this|think|guess|believe|told|tells|says|thinks|knows|sure|hope|figured|realized|feel|in|at|by|from|as|than|because|since|when|while|if|which|who|what|why|love|hate|prefer|have|has|live|work|though|although|where|know|about|wondering|wonder|tell|(?<!about )me|ask|you|remember|see|is|are|was|of|and|or|to|that|if|whether|forget|what|"
    r"where|when|how|please|can|could|would|so|the|a|for|with|hi|hello|hey|note|mind|but|like|want|need|just|on|not|"
    r"also|out|check|say|said|mean|understand|remind|idea|question)$",
    _I,
)


_PARENTHESIS = re.compile(
    r"(?:^|,) ?if (?:it is not (?:too much|a) (?:trouble|bother|problem|to ask)|you (?:do not|would not) mind|that is (?:ok|okay|alright|possible)|at all possible|possible|you please|i may)(?:,|(?=[.?!]?$))",
    _I,
)


def sentences(text: str, *, at_breaks: bool = False) -> Iterator[str]:
    """The sentences of a text, with their punctuation; with `at_breaks` semicolons and dashes end one as well."""
    start = 0
    for match in (_END_OR_BREAK if at_breaks else _END).finditer(text):
        before = text[start : match.start()]
        initial = _INITIAL.search(before) is not None and not begins_anew(text[match.end() :][:HEAD])
        if initial or _ABBREVIATION.search(before) or not before.strip():
            continue
        yield before.strip()
        start = match.end()
    if text[start:].strip():
        yield text[start:].strip()


def clauses(text: str) -> list[Clause]:
    """Split normalised text into requests and statements, each without its greeting and politeness."""
    found: list[Clause] = []
    for sentence in sentences(_PARENTHESIS.sub(" ", text), at_breaks=True):
        asked = sentence.rstrip("\"')").endswith("?")
        parts = _split_joined(sentence.strip(" .!?,;:\"'"))
        for index, part in enumerate(parts):
            found.extend(undress(piece, asked=asked and index == len(parts) - 1) for piece in _split_run_on(part))
    kept = [clause for clause in found if clause.text or clause.greeted or clause.thanked]
    # "Hi, I'm Priya" is one greeting, although it is two clauses.
    return [
        replace(clause, greeted=True) if index and kept[index - 1].greeted and not kept[index - 1].text else clause
        for index, clause in enumerate(kept)
    ]


def begins_anew(text: str) -> bool:
    """Whether a text begins like a request or statement of its own."""
    return _NEW.match(text) is not None


def _split_joined(sentence: str) -> list[str]:
    parts: list[str] = []
    rest = sentence.strip()
    while found := _first_split(rest):
        left, rest = found
        parts.append(left)
    return [part for part in map(str.strip, _with_subjects([*parts, rest])) if part]


def _first_split(text: str) -> tuple[str, str] | None:
    """The first request or statement of several, and the rest."""
    for match in _JOINT.finditer(text):
        left, right = text[: match.start()].strip(), text[match.end() :].strip()
        comma = match[0][0] in ",:"
        aside = comma and len(right) < 40 and is_politeness(right)
        if left and (aside or _NEW.match(right[:HEAD])) and (_complete(left, comma=comma) or _both_ask(left, right)):
            return left, right
        if _SAME_I.match(right[:HEAD]) and _I_SAID.match(left) and not _INFINITIVE.search(left):
            return left, f"I {right}"  # "I live in Rome and work at the port"
        if _SAME_MY.match(right) and (subject := _MY_SUBJECT.match(left)):
            return left, f"{subject['who']} {right}"  # "my cat is three and loves tuna"
    return None


def _both_ask(left: str, right: str) -> bool:
    return bool(_WH.match(left) and _WH.match(right) and " " in left)


def _complete(left: str, *, comma: bool) -> bool:
    """Whether what stands before "and" can stand alone: "my mother and my father live in Rome" is one statement."""
    if re.match(r"(?:when|if|because|since|while|although|though|whenever|once|after|before)\b", left, _I):
        return False
    if re.fullmatch(r"(?:my|our|the) [\w' -]+", left, _I):
        return re.search(rf"\b{_VERB}\b", left, _I) is not None
    return comma or not _DANGLING.search(left[-40:]) or " " not in left or _EMBEDDED.search(left[-HEAD:]) is not None


def _with_subjects(parts: list[str]) -> Iterator[str]:
    """Say who "he" and "it" are: "my dog is called Rex and he is five"."""
    subject = ""
    for part in _with_values(parts):
        if match := re.match(rf"(?:.*\b(?:that|remember|note) )?((?:my|our) (?:[\w'-]+ ){{1,3}}?){_VERB}\b", part, _I):
            subject = re.sub(r"'s? .*|\b(?:name|birthday)\b.*", "", match[1]).strip()
        yield _HE.sub(subject, part) if subject and not match else part


def _with_values(parts: list[str]) -> Iterator[str]:
    """Join what belongs together: "note my member number, it is 4711"."""
    before = ""
    for part in parts:
        value = re.match(r"(?:it|that|which|they) (?:is|are) (?=\S)", part, _I)
        noun = re.search(r"\b(?:my|our) [\w' -]+$", before, _I)
        if value and noun and not before.endswith("?") and not _NO_NOUN.search(noun[0]):
            before = f"{before} is {part[value.end() :]}"
            continue
        if before:
            yield before
        before = part
    if before:
        yield before


def _split_run_on(part: str) -> Iterator[str]:
    """Split transcribed speech where a request begins without anything between."""
    start = 0
    for match in _RUN_ON.finditer(part):
        left = part[start : match.start()].strip()
        if _OWN_NEXT.match(part, match.end()) and not _TELLING.match(left):
            continue  # "the amount I have saved": what follows "I" may as well belong to what is asked
        if (
            left[-1:] != ":"
            and _HAS_VERB.search(left[:HEAD])
            and not _DANGLING.search(left[-40:])
            and not is_politeness(left)
        ):
            yield left
            start = match.end()
    yield part[start:].strip()
