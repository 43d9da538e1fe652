"""Requests to remember something: "remember that ...", "note ...", "do not forget ..."."""

from __future__ import annotations

import re

from lkmongo.agent.responder.clauses import Clause
from lkmongo.agent.responder.facts import fact
from lkmongo.agent.responder.intents import AskProfile, Intent, Recall, Remember, Search, SetProfile, Talk
from lkmongo.agent.responder.labels import noun_label
from lkmongo.agent.responder.profile import FIELDS, profile
from lkmongo.agent.responder.self_questions import about_oneself
from lkmongo.agent.responder.text import label_of, rx, words

_REMEMBER = rx(
    r"""
    (?P<verb>do not (?:ever |you |you ever )?forget|never forget|(?:always |also )*remember|(?:keep|bear|have) in mind|keep a note|keep track of the fact|make a (?:mental )?note|take (?:a )?(?:mental )?note
    |note(?: down)?|write down|write it down|jot down|jot it down|memori[sz]e|know
    |(?:save|store|record|log)(?= (?:that|this|it|the (?:fact|following)|my|our)\b|:)|(?:save|store|record|log|add|put)(?=(?: \w+){0,12} (?:in|to|into|on) (?:my|your|the) (?:memory|memories|notes|profile|records|file)\b)|add that(?= (?:i|my|we|our)\b)
    |i (?:want|need|would like|just want) you to (?:know|remember|note)
    |(?:i )?(?:want|let) (?:you|it) (?:to )?(?:be )?know|let (?:it|you) be known
    |you (?:should|must|need to|can|have to|ought to|might want to) (?:also |always )?(?:know|remember|note)
    |let me tell you|i (?:should|must|have to|wanted to|want to|need to|would like to|forgot to|also wanted to|am going to|will) (?:mention|tell you|add|let you know|share|note|point out)
    |(?:here is |i have )(?:one thing|something|a (?:fun )?fact|another (?:fact|thing))(?: (?:about me|you should know|for you|to remember|to know))*|(?:one thing|something|a (?:fun )?fact|another (?:fact|thing))(?: (?:about me|you should know|to remember|to know))+(?: is)?|did you know|for your (?:information|records?|notes)|new (?:fact|memory|info)|update your (?:notes|memory|records))
    (?P<glue>(?:,| that| this| it| the fact| the following| about me| for me| for later| for next time| down| of| is| in (?:your|my) (?:memory|notes|records|profile|file)| to (?:your|my) (?:memory|memories|notes|records|profile|list)| somewhere)*:?)
    (?:,? (?P<rest>.+))?
    """
)
ELSEWHERE = re.compile(
    r"\b(?:calendar|playlist|shopping list|to-?do list|grocery list|cart|basket|wish ?list|contacts|schedule|inbox)\b",
    re.IGNORECASE,
)
_ASKED_THINGS = re.compile(
    r"(?:what|where|when|who|which|how|why|whether|if)\b(?! (?:i do|i like|i prefer|i am) is\b)(?!.*:)", re.IGNORECASE
)
_REMIND = rx(
    r"(?:remind me|set (?:a|an|me a|up a) reminder|remember|do not (?:let me )?forget|note)(?P<how> to| that i (?:have|need) to| for| about)? (?P<what>.+)"
)
_REMIND_ONLY = rx(r"(?:remind me|set (?:a|an|me a|up a) reminder)\b.*")
"""Lists and calendars that are not ours."""
_SOMETHING = rx(
    r"(?:something|anything|things?|stuff|(?:a few|some|one|another|two) (?:more )?things?|a fact|details?)(?: about me| else| important| new)*"
)
_LONG_WINDED = rx(r"(?:please )?(?:remember|do not forget|note|keep in mind)(?: that| this|:)* (?P<rest>.+)")
_MY_NOUN = rx(r"(?:my|our) (?P<who>[\w' -]+)")
_CODED = rx(r"(?P<noun>[a-z' -]+) (?P<code>(?=\S*\d)\S+)")
_AT_A_TIME = re.compile(r"(?:to|at|in|on|tomorrow|tonight|later|every|next)\b", re.IGNORECASE)


def remembering(clause: Clause) -> list[Intent] | None:  # noqa: PLR0911 - a list of forms, tried in order
    """Understand a request to remember something."""
    if reminder := _reminder(clause):
        return reminder
    match = _REMEMBER.fullmatch(clause.text)
    if not match:
        return None
    if named := _profile_values(clause):
        return named
    rest, verb, glue = (match["rest"] or "").strip(" ,:"), match["verb"].casefold(), match["glue"]
    if verb == "know" and not glue:
        return None
    if ELSEWHERE.search(rest) and verb not in {"remember", "do not forget"}:
        return [Talk("cannot", clause.text)]
    if not rest:
        return [Talk("ok" if glue.strip() and "that" not in glue and "this" not in glue else "what_to_remember")]
    return _asked_back(rest, clause) or stated(rest)


def _asked_back(rest: str, clause: Clause) -> list[Intent] | None:  # noqa: PLR0911 - a list of forms, tried in order
    """Take "remember my dog's name" and "remember what I said about seats" for the questions they are."""
    if rest.casefold() in {"me", "us", "who i am"}:
        return [AskProfile("name")] if clause.asked else [Talk("ok")]
    if _ASKED_THINGS.match(rest):
        inner = Clause(rest, asked=True)
        told = profile(inner)
        return (told[0] if told else about_oneself(inner)) or [Search(rest)]
    noun = _MY_NOUN.fullmatch(rest)
    if not noun or fact(rest) is not None:
        return None
    who = noun["who"].casefold()
    if who in FIELDS:
        return [AskProfile(FIELDS[who])]
    if coded := _CODED.fullmatch(noun["who"]):
        return [Remember(noun_label(coded["noun"]), coded["code"])]
    if len(words(who)) <= 5 and not re.search(r"\b(?:is|are|was|has|have|likes?|loves?)\b", who):
        return [Recall(noun_label(who), rest)]
    return None


def long_winded(clause: Clause) -> list[Intent] | None:
    """Understand "remember that ..." when what follows is too long to be taken apart."""
    match = _LONG_WINDED.match(clause.text)
    label = label_of(match["rest"], 4) if match else ""
    return [Remember(label, match["rest"])] if match and label else None


def stated(rest: str) -> list[Intent] | None:
    """What was to be remembered: a field of the profile or a fact."""
    if _SOMETHING.fullmatch(rest):
        return [Talk("what_to_remember")]
    if found := _profile_values(Clause(rest)):
        return found
    kept = fact(rest, explicit=True)
    return [kept] if kept else None


def _profile_values(clause: Clause) -> list[Intent] | None:
    told = profile(clause)
    return told[0] if told and all(isinstance(intent, SetProfile) for intent in told[0]) else None


def _reminder(clause: Clause) -> list[Intent] | None:
    """Understand "remember to ..." and "remind me to ..."; the latter asks for more than anybody here can do."""
    if not (match := _REMIND.fullmatch(clause.text)):
        return None
    what, how = match["what"], (match["how"] or "").strip()
    reminder = _REMIND_ONLY.fullmatch(clause.text) is not None
    if not reminder and how != "to":
        return None
    if reminder and how in {"about", ""} and not _AT_A_TIME.match(what):
        if re.match(r"(?:of |about )?(?:my|our)\b", what, re.IGNORECASE):
            return about_oneself(Clause(re.sub(r"^(?:of|about) ", "what is ", what), asked=True))
        return [Search(what.removeprefix("of "), general=True)] if how == "about" or what.startswith("of ") else None
    label = label_of(what, 4, prefix="to do")
    return [Remember(label, what, reminder=reminder)] if label else None
