"""Requests to forget something, and statements that something is no longer so."""

from __future__ import annotations

import re

from lkmongo.agent.responder.clauses import Clause
from lkmongo.agent.responder.facts import fact
from lkmongo.agent.responder.intents import Forget, Intent, Knowledge, Talk
from lkmongo.agent.responder.labels import noun_label
from lkmongo.agent.responder.profile import FIELDS
from lkmongo.agent.responder.remembering import ELSEWHERE
from lkmongo.agent.responder.text import rx, words

_FORGET = rx(
    r"""
    (?:(?:just |now |also )?(?:forget|delete|erase|remove|clear|wipe(?: out)?|drop|discard|unlearn|get rid of|throw (?:away|out)|scrap|scratch|purge|undo)
    |do not (?:remember|keep|store|save|record)|i do not want you to (?:remember|keep|store|save|know)|stop (?:remembering|storing|keeping)|no longer (?:remember|keep|store)
    |you (?:can|should|may|must|do not need to|do not have to) (?:now |also )?(?:forget|delete|erase|remove|remember|keep)|i (?:would like|want|need) (?:you )?to (?:forget|delete|erase|remove)|take)(?P<rest>(?: .+)?)
    """
)
_FROM = re.compile(
    r"\s*\b(?:from|in|out of|off) (?:your|my|the|our) (?:memory|memories|records?|notes|profile|brain|list|file|database|system|mind)\b|\s*\bany ?more\b|\s*\bany longer\b|\s*\b(?:that )?you (?:have )?(?:stored|saved|remembered)$|\s*\bof mine$",
    re.IGNORECASE,
)
_EVERYTHING = rx(
    r"""
    (?:everything|all|all of it|all of that|it all|me|us|about me|who i am|everyone|the lot)(?: (?:you|that you|i|we) .*)?(?: about me| on me)?
    |(?:everything|anything|all|all of|what|whatever|all the things|all the information|the information|information|any information|all info|all data|data|any data)(?: that)?(?: you)?(?: have| know| remember| stored| saved| hold| keep| ever| have stored| have saved| have remembered| have learned)*(?: about| on| of| regarding| for) (?:me|us|myself)
    |(?:all (?:of )?)?(?:my|your|the) (?:entire |whole |personal |stored |saved |complete )?(?:data|memories|memory|information|info|profile|details|history|records?|facts|notes|file)(?: (?:about|on|of) me)?
    |my account|what i (?:said|told you)(?: so far| today)?|everything i (?:said|told you|have told you)(?: so far| today| before)?|this (?:whole )?(?:conversation|call|chat)
    """
)
_ABOUT = rx(
    r"(?:(?:what|everything|anything|all|whatever|all the things|the (?:fact|memory|note|bit|thing|part|stuff|entry|information|details)|any (?:memory|note|information))(?: that)?)(?: (?:you|i))?(?: (?:have|know|remember|stored|saved|said|told you|mentioned|have stored|have saved|told|noted|have told you|have said))*(?: about| on| of| regarding| for| with| concerning) (?P<who>.+)"
)
_FORGETS_FIELD = rx(r"(?:my|the) (?P<field>name|email|email address|mail address|timezone|language|preferred language)")
_FORGET_THAT = rx(
    r"(?:that|all (?:of )?that|this|it|the last (?:one|thing|bit|fact)|what i (?:just )?(?:said|told you)|that (?:one|again|last one|last thing|please)|about (?:that|it)|my last (?:message|sentence))"
)
_NO_LONGER = rx(
    r"(?:i|we) (?:no longer (?P<now>.+)|do not (?P<ever>.+?) (?:any ?more|any longer)|am (?:not|no longer) (?P<am>.+?)(?: any ?more| any longer)?)"
)
_NO_LONGER_MY = rx(
    r"my (?P<who>[\w' -]+?) (?:is|are) (?:no longer (?!needed|valid|working|available|required|necessary).+|not .+ (?:any ?more|any longer))"
)
_NOT_MEMORIES = re.compile(
    r"\b(?:reservation|meeting|event|phone|app|sync|device|photos?|emails|messages|alarm|timer|process|transaction|oven)\b",
    re.IGNORECASE,
)
_OF_THE_SHOP = re.compile(
    r"\b(?:from|to|in) (?:my|the) (?:order|cart|basket|wish ?list)\b|^(?:my|the|an) (?:order|account|subscription|card|item|payment|booking)s?\b",
    re.IGNORECASE,
)
_MINE = re.compile(r"(?:my|our|the|what|where|when|who|how)\b", re.IGNORECASE)
_WHAT_MY = re.compile(r"^(?:what|where|when|who|how)(?: (?:is|are))? (?:i|my|our) ", re.IGNORECASE)


def forgetting(clause: Clause, *, last_labels: tuple[str, ...] = ()) -> list[Intent] | None:
    """Understand "forget ..."; `last_labels` are of what was remembered in the turn before, for "forget that"."""
    text = clause.text
    if gone := _no_longer(text):
        return gone
    match = _FORGET.fullmatch(text)
    if not match or re.match(r"take (?!my\b.*\b(?:out|off|away)\b)", text, re.IGNORECASE):
        return None
    verb = text.split()[0].casefold()
    rest = re.sub(r" (?:now|right away|already|then|too|as well)$", "", _FROM.sub("", match["rest"])).strip(" ,")
    rest = re.sub(r"\s*\b(?:out|off|away)$", "", rest) if verb == "take" else rest
    if not rest:
        return [Talk("what_to_forget")]
    if _FORGET_THAT.fullmatch(rest):
        nothing = Talk("what_to_forget" if verb in {"delete", "erase", "remove"} else "never_mind")
        return [Forget(label) for label in last_labels] or [nothing]
    if verb != "forget" and (ELSEWHERE.search(rest) or _NOT_MEMORIES.search(rest)):
        return [Talk("cannot", text)]
    return _object(rest, text)


def _object(rest: str, text: str) -> list[Intent] | None:  # noqa: PLR0911 - a list of forms, tried in order
    """What is to be forgotten: a field, everything, all about a thing, a statement, or one or more nouns."""
    if field := _FORGETS_FIELD.fullmatch(rest):
        return [Talk("forget_field", FIELDS[field["field"].casefold()])]
    about = _ABOUT.fullmatch(rest)
    if _EVERYTHING.fullmatch(rest) and (not about or about["who"].casefold() in {"me", "us", "myself"}):
        return [Talk("forget_all")]
    if about:
        return _each(about["who"], every=True)
    statement = re.sub(r"^(?:the fact )?that ", "", rest, flags=re.IGNORECASE)
    told = fact(statement) if re.match(r"(?:i|we|my|our)\b", statement, re.IGNORECASE) else None
    if told:
        return [Forget(told.label)]
    statement = re.sub(r"^about ", "", statement, flags=re.IGNORECASE)
    if _OF_THE_SHOP.search(statement):
        return [Knowledge(text)]
    if not _MINE.match(statement):
        return _each(statement, every=False) if len(words(statement)) <= 4 else None
    noun = _WHAT_MY.sub("", statement)
    asked = noun != statement
    return _each(re.sub(r" (?:is|are|was)$", "", noun) if asked else noun, every=asked)


def _each(nouns: str, *, every: bool) -> list[Intent] | None:
    nouns = re.sub(r"^(?:my|our|the|all|any) ", "", nouns, flags=re.IGNORECASE)
    each = re.split(r",? and (?:about )?(?:my |the |our )?|, ", nouns)
    labels = [label for noun in each if (label := noun_label(re.sub(r"^(?:my|our) ", "", noun)))]
    return [Forget(label, every=every) for label in labels] or None


def _no_longer(text: str) -> list[Intent] | None:
    """Take back what was said before, as in "I no longer like tea"; if it never was, that is a fact of its own."""
    if match := _NO_LONGER_MY.fullmatch(text):
        return [Forget(noun_label(match["who"]))]
    match = _NO_LONGER.fullmatch(text)
    if not match or (match["am"] and "no longer" not in text and "more" not in text):
        return None
    said = match["now"] or match["ever"] or f"am {match['am']}"
    before = fact(f"I {said}")
    return [Forget(before.label, unless=None if match["am"] else fact(f"I do not {said}"))] if before else None
