"""What callers say and ask about their name, e-mail address, language and time zone."""

from __future__ import annotations

import re

from lkmongo.agent.responder.addresses import email_given, find_address
from lkmongo.agent.responder.clauses import Clause, begins_anew
from lkmongo.agent.responder.intents import AskProfile, Intent, Talk
from lkmongo.agent.responder.languages import language, time_zone
from lkmongo.agent.responder.names import NAME_SURE, name_given
from lkmongo.agent.responder.text import rx

FIELDS = {
    "name": "name",
    "names": "name",
    "email": "email",
    "email address": "email",
    "mail address": "email",
    "mail": "email",
    "language": "preferred_language",
    "preferred language": "preferred_language",
    "language preference": "preferred_language",
    "timezone": "timezone",
    "time": "timezone",
}
_FIELD = r"(?P<field>name|email address|mail address|email|preferred language|language preference|language|timezone)"
_ASK = rx(
    rf"""
    (?:(?:what|which) (?:is|are|was) |what |(?:do|did|does|would|can|have) you (?:still |even |actually |already |also )?
    (?:know|have|remember|recall|see|got|saved?|stored?|get|tell me) |tell me |say |remember |repeat |show me |give me |read (?:me |out )?
    |is |are |what about |how about |check |look up |recall |verify |confirm |whats )?
    my (?:own |full |first |current |preferred |exact |whole )?{_FIELD}
    (?: (?:is|again|right|correct|on file|saved|stored|for me|called|in your .*|(?:that )?you have.*|set to.*|there|to you))*
    """
)
_IS_MY_NAME = rx(rf"is my {_FIELD} (?:still |really |now |set to |in )?[\w/@.' -]+")
_WHO_AM_I = rx(
    r"(?:do you (?:still |even )?(?:know|remember|recognize|recognise) )?(?:who (?:am i|i am)|whom? (?:you are|are you) (?:speaking|talking) (?:to|with))"
    r"|(?:do|did|can|will|would) you (?:still |even )?(?:know|remember|recognize|recognise) me"
    r"|remember me|(?:have we met|have we spoken|have we talked)(?: before)?"
    r"|what (?:do|should|will|are) you (?:call|calling|going to call) me"
    r"|(?:what|which) (?:is )?(?:the )?(?:email|email address|name)(?: that)? (?:do you have|you have|you have got|you got|have you (?:got|stored|saved|noted)|is on file|did i give|have i given|is saved|is stored)\b.*"
)
_CHANGE = rx(rf"(?:i (?:would like|want|need) to )?(?:change|update|correct|edit|set|fix) my {_FIELD}")
_CHANGED = rx(
    rf"my {_FIELD} (?:has changed|changed|is wrong|is not right|is not correct|is incorrect|needs? (?:to change|to be (?:changed|updated)|updating))"
)
_ASKS_NAME = rx(
    r"""
    .*\b(?:refer(?:ring)? to me|call(?:ing)? me|address(?:ing)? me|know me (?:as|by)|reference me|think of me as|say my name|my (?:first |full |real )?name|name (?:am i|i am|you (?:use|have|know|call|associate)|do you (?:use|have|know|call|associate))\b.*\b(?:me|my|i|under)|am i (?:called|known as|referred to|listed)|i (?:am|be|would be) (?:called|referred to|known as)|who you think i am|you think i am called|names? for me|you have for me|name (?:by which )?you (?:call|know) me(?: by)?|what people call me|my designation|who do you think i am)\b.*
    """
)
_TELLS = rx(
    r"(?:tell|say|guess|show|give|repeat|remember|recall|state|spell|(?:by )?what|how|who|which|is there|do|did|can|could|would|are|regarding|you (?:have|wrote|saved|refer|know)|the name|in what)\b.*"
)
_NOT_ABOUT_NAME = re.compile(
    r"\b(?:change|update|edit|correct|set|spell(?:ed|ing)? it|put|use (?:my|it)|remove|delete|forget|add|account|order|booking|card|reservation|back|later|credit|bank|bill|call me (?:a|an|the|on|at|when|in)|\w+'s name|something else|number|wrong|mispronounc\w+|register\w*|legally)\b",
    re.IGNORECASE,
)


def profile(clause: Clause) -> tuple[list[Intent], str] | None:
    """Understand a clause about the profile.

    Returns:
        The intents, and what is left of the clause behind a name when that begins a request of its own; None when
        the clause is about something else.
    """
    text = clause.text
    if found := email_given(clause) or _questions(clause) or language(clause) or time_zone(clause):
        return found, ""
    if clause.asked and not re.match(
        r"(?:can|could|would|will|may) (?:you|i|we)\b.*\b(?:call|address|refer|known|go by)", text, re.IGNORECASE
    ):
        return None
    if (found_name := name_given(text, opening=clause.greeted)) is None:
        return None
    intents, left = found_name
    joined = re.match(r"(?:and|but|also) (?=\S+ \S)", left, re.IGNORECASE)
    return intents, left[joined.end() :] if joined else left if begins_anew(left) else ""


def _questions(clause: Clause) -> list[Intent] | None:
    text = clause.text
    if (
        not NAME_SURE.match(text)
        and _ASKS_NAME.fullmatch(text)
        and _TELLS.match(text)
        and not _NOT_ABOUT_NAME.search(text)
        and not find_address(text)
    ):
        return [AskProfile("name")]
    if match := _ASK.fullmatch(text):
        return [AskProfile(FIELDS[match["field"].casefold()])]
    if clause.asked and (match := _IS_MY_NAME.fullmatch(text)):
        return [AskProfile(FIELDS[match["field"].casefold()])]
    if _WHO_AM_I.fullmatch(text):
        return [AskProfile("email" if "mail" in text.casefold() else "name")]
    if match := _CHANGE.fullmatch(text) or _CHANGED.fullmatch(text):
        return [Talk("tell_field", FIELDS[match["field"].casefold()])]
    return None
