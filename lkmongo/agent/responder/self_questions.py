"""Questions about the caller: by a label when they name one, else by a search."""

from __future__ import annotations

import re

from lkmongo.agent.responder.clauses import Clause
from lkmongo.agent.responder.intents import AskProfile, Intent, Knowledge, Recall, Search
from lkmongo.agent.responder.labels import name_label, noun_label
from lkmongo.agent.responder.profile import FIELDS
from lkmongo.agent.responder.text import content_words, rx, words
from lkmongo.agent.responder.vocabulary import is_business

_MY = r"(?:my|our|mine)"
_BE = r"(?:is|are|was|were|will be)"
_NO_NOUN = r"(?!(?:is|are|was|were|has|have|called|named|likes|loves|hates|keeps|does|do|did|will|would|can|cannot|needs|wants|hurts?|broke|died|i)\b)"
_NOUNS = rf"{_NO_NOUN}[\w'-]+(?: {_NO_NOUN}[\w'-]+)*?"
_WHAT_IS_MY = rx(
    rf"(?:(?:what|who|which|which one) {_BE} |what (?:about|of) |how about |(?:tell|show|give|remind) me (?:about |of |again )?|do you (?:still |even |also )?(?:know|remember|recall|have) |have you got |say |recall |repeat |look up |and |you (?:know|remember) )?{_MY} (?P<who>{_NOUNS})(?P<called> called| named|'?s? name)?(?: (?:is|are|was))?(?: (?:again|please|called|supposed to be|that i told you|i told you about|that you know|you have on file|you know of))*"
)
_WHAT_MY_IS = rx(
    rf"(?:what|who|which|how) {_MY} (?P<who>{_NOUNS})(?P<called> {_BE} (?:called|named)|'?s? name {_BE})?(?: {_BE})?"
)
_NAME_OF_MY = rx(
    rf"(?:(?:what|who) {_BE} |tell me |what |do you (?:know|remember) )?the names? of {_MY} (?P<who>[\w' -]+?)(?: {_BE})?"
)
_I_CALL = rx(rf"what (?:do|did|have) i (?:call|name|named|called) {_MY} (?P<who>[\w' -]+)")
_HOW_OLD = rx(
    rf"how old (?:(?:is|are|was) (?P<who>{_MY} [\w' -]+|i)|(?P<who2>{_MY} [\w' -]+?|i) (?:is|are|am)|am (?P<i>i))(?: now)?"
)
_SAID_ABOUT = rx(
    r"(?:(?:do|can|did) you (?:still )?(?:remember|recall|know) |tell me |show me |list |repeat |give me )?(?:what|anything|something|everything|whatever|what all|what exactly) (?:did i|have i|do you|i|you|i have|you have|do you still|did you)(?: ever| already| still| all)* ?(?:tell|told|say|said|mention|mentioned|know|remember|have|stored|saved|noted|recall|learned)(?: you)?(?: on file| stored| saved)? (?:about|on|regarding|concerning) (?P<who>.+)"
)
_ANYTHING_ABOUT = rx(
    r"(?:do|did|have|can) (?:you|i) (?:still |ever )?(?:know|remember|have|recall|told|tell|mention|mentioned|say|said|told you|tell you|got|find)(?: you)? (?:anything|something|what i (?:said|told you)|things|stuff) (?:about|on|regarding) (?P<who>.+)"
)
_SEARCH_MEMORY = rx(
    r"(?:search|look|check|go through|look through|look in|find|search through|dig)(?: in| through| into)? (?:my|your) (?:memories|memory|notes|records|file)(?: for| about| and find| to find| whether| if)? (?P<what>.+)"
)
_BARE_NOUN = re.compile(r"\b(?:on|in|at|no|the|a|an|with|to|for|by|not)\b", re.IGNORECASE)
_YOU_KNOW = re.compile(r"\byou (?:have|know|tell|say)\b|\bdo you\b", re.IGNORECASE)
_FOR_ME = rx(r".*\b(?:tell|show|help|give|send|let|charge|call|email|refund) (?:me|us)\b(?!.*\b(?:i|my)\b).*")
_PROCEDURE = re.compile(r"(?:how|can|could|what happens|what if|may|should|when)\b", re.IGNORECASE)
_OF_THE_COMPANY = re.compile(
    r"how to\b|what (?:happens|if|do you do)\b|(?:can|could|do|does|is|are|will|would|did) (?:the|your|you|this|these|it|an?)\b(?!.*\b(?:know|remember|i (?:said|told)))",
    re.IGNORECASE,
)
_HOW_DO_I = re.compile(r"(?:how|who|where) (?:do|can|could|should|would) i\b(?!.*\bmy\b)", re.IGNORECASE)
_FIRST_PERSON = re.compile(r"\b(?:i|me|my|mine|myself|our|us|we)\b", re.IGNORECASE)
_MODAL = rx(
    r"(?:how (?:\w+ ){0,4}?(?:do|can|could|should|would|may|might|will|must) (?:i|we)|how (?:long|much|many)(?: \w+){0,3}? i|(?:can|could|may|should|must|will|would|shall|might) (?:i|we|my)|am i (?:able|allowed|eligible|entitled|supposed|covered)|do i (?:need|have to|get|qualify|pay|lose)|who (?:do|can|could|should) i (?:contact|call|ask|talk to|speak to|write to|email|tell)|where (?:can|could|do|should) i (?:find|get|buy|return|send|change|see|download|sign|pick|drop|contact|reach|pay|enter|update)|what (?:should|can|could|must|do) i (?:do|need|expect|get)|what (?:if|happens)|when (?:will|can|do|should|would) (?:i|my|we)|why (?:is|was|do|did|can|does|are|has|have)|is (?:it|there)|are there|does it|do you|are you|will you|which \w+ (?:can|should) i)\b.*"
)
_MEMORY_TALK = re.compile(
    r"\b(?:remember|recall|told you|tell you|mention(?:ed)?|i said|did i say|have i said|i like|do i like|i love|do i love|i prefer|do i prefer|i hate|do i hate|favou?rite|allerg\w+|do i live|i live|did i grow|was i born|i was born|do i work|i work|do i have(?! to\b))\b",
    re.IGNORECASE,
)


def about_oneself(clause: Clause) -> list[Intent] | None:
    """Understand a question about the caller."""
    text = clause.text
    if match := _SEARCH_MEMORY.fullmatch(text):
        return [Search(match["what"])]
    if match := _SAID_ABOUT.fullmatch(text) or _ANYTHING_ABOUT.fullmatch(text):
        return [_search_about(text, match["who"])]
    if match := _HOW_OLD.fullmatch(text):
        who = match["who"] or match["who2"] or match["i"]
        return [Recall("age" if who.casefold() == "i" else f"{noun_label(who.split(' ', 1)[1])}_age", text)]
    if match := _NAME_OF_MY.fullmatch(text) or _I_CALL.fullmatch(text):
        return [Recall(name_label(match["who"]), text)]
    for pattern in (_WHAT_IS_MY, _WHAT_MY_IS):
        match = pattern.fullmatch(text)
        if match and not _is_statement(clause, match["who"]):
            return _slots(match["who"], text, called=match["called"] is not None)
    return _anything_asked(clause)


def _search_about(text: str, who: str) -> Intent:
    if _YOU_KNOW.search(text) and not _FIRST_PERSON.search(who) and "remember" not in text.casefold():
        return Search(who, general=True)
    return Search(re.sub(r"^(?:my|our) ", "", who, flags=re.IGNORECASE) or who)


def _is_statement(clause: Clause, who: str) -> bool:
    """Whether "my ..." without a question is more than a noun, such as "my soundbar makes no sound"."""
    bare = re.match(_MY, clause.text, re.IGNORECASE) and not clause.asked
    return bool(bare and (len(words(who)) > 3 or _BARE_NOUN.search(who)))


def _slots(who: str, text: str, *, called: bool) -> list[Intent] | None:
    """A question that names its slot; several joined by "and" are several."""
    if len(words(who)) > 8 or not content_words(who):
        return None
    intents: list[Intent] = []
    nouns = re.split(r",? and (?:my |our |what is my )?|, (?:my |our )?", who, flags=re.IGNORECASE)
    for place, noun in enumerate(nouns):
        if noun.casefold() in FIELDS:
            intents.append(AskProfile(FIELDS[noun.casefold()]))
        elif re.search(r"\b(?:options?|chances|rights|obligations)\b", noun) and is_business(text):
            intents.append(Knowledge(text))
        elif label := name_label(noun) if called and place == len(nouns) - 1 else noun_label(noun):
            intents.append(Recall(label, text))
    return intents or None


def _anything_asked(clause: Clause) -> list[Intent] | None:
    text = clause.text
    if not clause.asked or not _FIRST_PERSON.search(text) or _FOR_ME.fullmatch(text):
        return None
    business = is_business(text)
    if _MEMORY_TALK.search(text) and not (business and _PROCEDURE.match(text)):
        return [Search(text)]
    if _OF_THE_COMPANY.match(text):
        return [Knowledge(text)]
    if not _MODAL.fullmatch(text):
        return [Search(text, general=business)]
    own = re.search(r"\b(?:i|my)\b", text, re.IGNORECASE) is not None
    return [Knowledge(text)] if business or not own or _HOW_DO_I.match(text) else [Search(text, general=True)]
