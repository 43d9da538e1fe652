"""The language and the time zone that callers would like."""

from __future__ import annotations

import re

from lkmongo.agent.responder.clauses import Clause
from lkmongo.agent.responder.intents import AskProfile, Intent, SetProfile, Talk
from lkmongo.agent.responder.text import rx
from lkmongo.agent.responder.vocabulary import LANGUAGES
from lkmongo.agent.responder.zones import zone

_LANGUAGE = "(?P<language>" + "|".join(sorted(LANGUAGES, key=len, reverse=True)) + ")"
_SPEAKS = rx(
    rf"""
    (?:i (?:only |mostly |mainly |just |can only )?(?:speak|understand)
    |(?:my|our|the) (?:preferred |main |first |default |new )?language(?: preference)? (?:is|should be|to)
    |(?:i|we)(?: would)?(?: much| really)? (?:prefer|rather|like|love|want|need)(?: it| this| you| us| if we| if you| that we)?
    (?: to)?(?: be)?(?: speak| talk| talked to| speaking| talking| chat| converse| continue| communicate| hear you| use| switch| spoke| spoken to| addressed| have this)?
    (?: (?:to|with) (?:you|me))?(?: in| to)?
    |(?:let us |can we |could we |may we |shall we )(?:please |maybe )?(?:speak|talk|switch|chat|continue|use|do this|go on|change)(?: in| to| over to| languages? to)?
    |(?:could you |can you |will you |would you )?(?:please )?(?:speak|talk|switch|chat|continue|respond|answer|reply|change|communicate)
    (?: to me| with me| me| the language| language)?(?: in| to| over to)
    |(?:set|change|update|switch|make) (?:my|the) (?:preferred )?language(?: preference)? (?:to|as|into)
    |use|in|speak) {_LANGUAGE}(?: (?:language|please|with me|to me|from now on|instead|(?:over|to|than) \w+|with you|if possible|for now))*
    """
)
_IS_MINE = rx(
    rf"{_LANGUAGE} is (?:my|the) (?:(?:preferred|main|first|favou?rite) )?language(?: of choice| i (?:prefer|speak|want))?"
)
_BARE_LANGUAGE = rx(rf"(?:in )?{_LANGUAGE}")
_CAN_YOU_SPEAK = rx(
    rf"(?:do|can|could|would|are) you (?:able to |also |even )?(?:speak|understand|talk|know)(?: in| any)? (?:{_LANGUAGE}|(?:any )?other languages?|languages).*"
)
_ASK_LANGUAGE = rx(
    r"(?:what|which) (?:is my )?(?:preferred )?languages? (?:do i (?:speak|prefer|use|like|want)|i (?:speak|prefer)|am i|do you have|is set|did i)\b.*"
)
_SPEECH = re.compile(
    r"\b(?:language|speak(?:ing)?|talk(?:ing)?|respond(?:ing)?|responses?|answers?|answering|repl(?:y|ies)|switch(?:ing)?|chang(?:e|ing)|communicat(?:e|ing|ion)|chat(?:ting)?|convers(?:e|ing|ation)|instructions|address me|hear (?:from )?you|start using|use)\b",
    re.IGNORECASE,
)
_CHOSEN = rx(
    rf"\b(?:to|in|into|using|be|is|use|with) (?:the language )?(?:american |british |mandarin )?{_LANGUAGE}\b(?! (?:class|course|book|lesson|movie|film|food|restaurant|cuisine|citizen|people|time))"
)
_NOT_CHOSEN = re.compile(
    r"\b(?:learn\w*|study\w*|teach\w*|translat\w*|class|lessons?|say|word|phrase|mean\w*|he|she|they|his|her|wife|husband|mother|father|son|daughter|friend|with my|at home|born|lived?|live|moved?|flight|travel\w*|fly|manual|available in|order|website|dollars|money|order)\b",
    re.IGNORECASE,
)
_CHANGE_LANGUAGE = rx(
    r"(?:.*\b(?:change|switch|set|adjust|edit|alter|swap|update|fix|pick|choose)\b.*\blanguages?\b.*|.*\b(?:another|a different|other|different) languages?\b.*)"
)


_NOT_THESE = rx(rf"\b(?:than|from|instead of|over|rather than|not)(?: in)? (?:{'|'.join(LANGUAGES)})\b")
_ABLE_TO = re.compile(r"\b(?:speak|understand|know|fluent|multilingual)\b(?! to me| in| with)", re.IGNORECASE)
_YOUR_LANGUAGES = re.compile(r"\b(?:what|which|how many) languages\b.*\byou(?:r)?\b", re.IGNORECASE)
_NAMED = rx(rf"\b{_LANGUAGE}\b")


def language(clause: Clause) -> list[Intent] | None:
    """Understand wishes for a language, and questions about one's own or the agent's."""
    text = clause.text
    if _ASK_LANGUAGE.fullmatch(text):
        return [AskProfile("preferred_language")]
    able = _CAN_YOU_SPEAK.fullmatch(text)
    if able and not (able["language"] and re.search(r"\b(?:speak|talk) in\b", text, re.IGNORECASE)):
        return [Talk("languages")]
    if found := _wish(text):
        return found
    match = _IS_MINE.fullmatch(text) or _SPEAKS.fullmatch(text) or _BARE_LANGUAGE.fullmatch(text)
    return _preferred(match) if match else None


def _preferred(match: re.Match[str]) -> list[Intent]:
    return [SetProfile("preferred_language", LANGUAGES[match["language"].casefold()])]


def _wish(text: str) -> list[Intent] | None:
    """A wish for another language in whatever words: something about speaking, and a language after "to" or "in"."""
    if _NOT_CHOSEN.search(text) or re.match(r"(?:i|we) (?:\w+ )?(?:speak|prefer)\b", text, re.IGNORECASE):
        return None
    if re.match(r"(?:do|can|could|are|would|will) you\b", text, re.IGNORECASE) and _ABLE_TO.search(text):
        return [Talk("languages")] if re.search(rf"{_LANGUAGE}|languages?\b", text, re.IGNORECASE) else None
    if _SPEECH.search(text) and (match := _CHOSEN.search(_NOT_THESE.sub("", text))):
        return _preferred(match)
    if _YOUR_LANGUAGES.search(text):
        return [Talk("languages")]
    if _CHANGE_LANGUAGE.fullmatch(text):
        named = _NAMED.search(text)
        return _preferred(named) if named else [Talk("tell_field", "preferred_language")]
    return None


_ZONE = rx(
    r"""
    (?:(?:my|our|the) (?:clock|watch|phone|calendar|computer) (?:is|runs)(?: set)? (?:on|to|in)(?= .*\btime)
    |(?:my|our|the) (?:local |current |home )?timezone(?: here)? (?:is|should be|has changed to|changed to)
    |(?:i|we) (?:am|are|live) in the same timezone as
    |(?:my|our|the) (?:local |current )?time(?: here)? is(?= .*\btime)
    |timezone(?: is|:)(?! .*\bin )
    |(?:set|change|update|switch|make|save|put) (?:my|the) timezone (?:to|as|into)
    |(?:i|we) (?:am|are|live|work|stay|moved|am living|am based|am located|am sitting)(?: now| currently)? (?:in|on|to|at)(?: the)?(?! (?:the )?same\b)(?= .*\btime)
    |(?:i am|we are) (?:on|in)(?! the same\b)(?= .*\btime)
    |(?:i am|we are) (?:on|in)(?= \w+/\w+)
    |i (?:use|follow|go by)(?= .*\btime)
    |(?:use|switch to|assume)(?: the)?(?= .*\btime)
    |the timezone (?:i am in|here) is)
    :? (?:the )?(?P<zone>[\w/+: -]+?)(?: (?:timezone|time zone|zone))?(?: (?:over here|here|now|currently|at the moment))*
    """
)
_ASK_ZONE = rx(
    r"(?:what|which) (?:is my )?timezone(?:s)? (?:am i|i am|do i|do you have|is set|did i|are you using|have i|is mine|you have)\b.*"
)


def time_zone(clause: Clause) -> list[Intent] | None:
    """Understand what is said of one's time zone; a place or an abbreviation becomes a name of the IANA database."""
    if _ASK_ZONE.fullmatch(clause.text):
        return [AskProfile("timezone")]
    if clause.asked or not (match := _ZONE.fullmatch(clause.text)):
        return None
    said = match["zone"]
    known = zone(said)
    if known is None and "timezone" not in clause.text.casefold():
        return None
    return [SetProfile("timezone", known or said.strip()[:200])]
