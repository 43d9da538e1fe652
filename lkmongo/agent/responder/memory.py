"""Requests about what is remembered: remember, forget, list, and questions about oneself."""

from __future__ import annotations

import re

from lkmongo.agent.responder.clauses import Clause
from lkmongo.agent.responder.facts import fact
from lkmongo.agent.responder.labels import noun_label
from lkmongo.agent.responder.intents import (
    AskProfile,
    Forget,
    Intent,
    Knowledge,
    ListAll,
    Recall,
    Remember,
    Search,
    SetProfile,
    Talk,
)
from lkmongo.agent.responder.profile import FIELDS, profile
from lkmongo.agent.responder.text import content_words, label_of, rx, words
from lkmongo.agent.responder.vocabulary import is_business

# ---------------------------------------------------------------------- remember

_REMEMBER = rx(
    r"""
    (?P<verb>do not (?:ever |you |you ever )?forget|never forget|(?:always |also )*remember|(?:keep|bear|have) in mind|keep a note|keep track of the fact|make a (?:mental )?note|take (?:a )?(?:mental )?note
    |note(?: down)?|write down|write it down|jot down|jot it down|memori[sz]e|know
    |(?:save|store|record|log)(?= (?:that|this|it|the fact|my|our)\b|:)|(?:save|store|record|log|add|put)(?=(?: \w+){0,12} (?:in|to|into|on) (?:my|your|the) (?:memory|memories|notes|profile|records|file)\b)|add that(?= (?:i|my|we|our)\b)
    |i (?:want|need|would like|just want) you to (?:know|remember|note)
    |(?:i )?(?:want|let) (?:you|it) (?:to )?(?:be )?know|let (?:it|you) be known
    |you (?:should|must|need to|can|have to|ought to|might want to) (?:also |always )?(?:know|remember|note)
    |let me tell you|i (?:should|must|have to|wanted to|want to|need to|would like to|forgot to|also wanted to|am going to|will) (?:mention|tell you|add|let you know|share|note|point out)
    |(?:here is |i have )(?:one thing|something|a (?:fun )?fact|another (?:fact|thing))(?: (?:about me|you should know|for you|to remember|to know))*|(?:one thing|something|a (?:fun )?fact|another (?:fact|thing))(?: (?:about me|you should know|to remember|to know))+(?: is)?|did you know|for your (?:information|records?|notes)|new (?:fact|memory|info)|update your (?:notes|memory|records))
    (?P<glue>(?:,| that| this| it| the fact| the following| about me| for me| for later| for next time| down| of| is| in (?:your|my) (?:memory|notes|records|profile|file)| to (?:your|my) (?:memory|memories|notes|records|profile|list)| somewhere)*:?)
    (?:,? (?P<rest>.+))?
    """
)
_ELSEWHERE = re.compile(
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


def remembering(clause: Clause) -> list[Intent] | None:
    """Understand "remember that ..." in its many forms."""
    text = clause.text
    if reminder := _reminder(clause):
        return reminder
    match = _REMEMBER.fullmatch(text)
    if not match:
        return None
    if (named := profile(clause)) and all(isinstance(intent, SetProfile) for intent in named[0]):
        return named[0]
    rest, verb = (match["rest"] or "").strip(" ,:"), match["verb"].casefold()
    if verb == "know" and not match["glue"]:
        return None
    if _ELSEWHERE.search(rest) and verb not in {"remember", "do not forget"}:
        return [Talk("cannot", text)]
    if not rest:
        return (
            [Talk("what_to_remember")]
            if not match["glue"].strip() or "that" in match["glue"] or "this" in match["glue"]
            else [Talk("ok")]
        )
    if rest.casefold() in {"me", "us", "who i am"}:
        return [AskProfile("name")] if clause.asked else [Talk("ok")]
    if _ASKED_THINGS.match(rest):
        inner = Clause(rest, asked=True)
        return profile(inner) and profile(inner)[0] or about_oneself(inner) or [Search(rest)]  # type: ignore[index]
    if (noun := re.fullmatch(r"(?:my|our) (?P<who>[\w' -]+)", rest, re.IGNORECASE)) and fact(rest) is None:
        who = noun["who"].casefold()
        if who in FIELDS:
            return [AskProfile(FIELDS[who])]
        if coded := re.fullmatch(r"(?P<noun>[a-z' -]+) (?P<code>(?=\S*\d)\S+)", noun["who"], re.IGNORECASE):
            return [Remember(noun_label(coded["noun"]), coded["code"])]
        if len(words(who)) <= 5 and not re.search(r"\b(?:is|are|was|has|have|likes?|loves?)\b", who):
            return [Recall(noun_label(who), rest)]
    return stated(rest)


def long_winded(clause: Clause) -> list[Intent] | None:
    """Understand "remember that ..." when what follows is too long to be taken apart."""
    match = re.match(
        r"(?:please )?(?:remember|do not forget|note|keep in mind)(?: that| this|:)* (?P<rest>.+)",
        clause.text,
        re.IGNORECASE,
    )
    label = label_of(match["rest"], 4) if match else ""
    return [Remember(label, match["rest"])] if match and label else None


def stated(rest: str) -> list[Intent] | None:
    """What was to be remembered: a field of the profile or a fact."""
    if re.fullmatch(
        r"(?:something|anything|things?|stuff|(?:a few|some|one|another|two) (?:more )?things?|a fact|details?)(?: about me| else| important| new)*",
        rest,
        re.IGNORECASE,
    ):
        return [Talk("what_to_remember")]
    inner = Clause(rest)
    if (found := profile(inner)) and all(isinstance(intent, SetProfile) for intent in found[0]):
        return found[0]
    found_fact = fact(rest, explicit=True)
    return [found_fact] if found_fact else None


def _reminder(clause: Clause) -> list[Intent] | None:
    if not (match := _REMIND.fullmatch(clause.text)):
        return None
    what, how = match["what"], (match["how"] or "").strip()
    asks = _REMIND_ONLY.fullmatch(clause.text) is not None
    if not asks and how != "to":
        return None
    if (
        asks
        and how in {"about", ""}
        and not re.match(r"(?:to|at|in|on|tomorrow|tonight|later|every|next)\b", what, re.IGNORECASE)
    ):
        if re.match(r"(?:of |about )?(?:my|our)\b", what, re.IGNORECASE):
            return about_oneself(
                Clause(re.sub(r"^(?:of|about) ", "what is ", what) if " " in what else what, asked=True)
            )
        if how == "about" or what.startswith("of "):
            return [Search(what.removeprefix("of "), general=True)]
        return None
    label = label_of(what, 4, prefix="to do")
    return [Remember(label, what, reminder=asks)] if label else None


# ---------------------------------------------------------------------- forget

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
    r"(?:that|this|it|the last (?:one|thing|bit|fact)|what i (?:just )?(?:said|told you)|that (?:one|again|last one|last thing|please)|about (?:that|it)|my last (?:message|sentence))"
)
_NO_LONGER = rx(
    r"(?:i|we) (?:no longer (?P<now>.+)|do not (?P<ever>.+?) (?:any ?more|any longer)|am (?:not|no longer) (?P<am>.+?)(?: any ?more| any longer)?)"
)
_NO_LONGER_MY = rx(
    r"my (?P<who>[\w' -]+?) (?:is|are) (?:no longer (?!needed|valid|working|available|required|necessary).+|not .+ (?:any ?more|any longer))"
)


def forgetting(clause: Clause, *, last_labels: tuple[str, ...] = ()) -> list[Intent] | None:
    """Understand "forget ..."; `last_labels` are of what was remembered in the turn before, for "forget that"."""
    if gone := _no_longer(clause.text):
        return gone
    match = _FORGET.fullmatch(clause.text)
    if not match or re.match(r"take (?!my\b.*\b(?:out|off|away)\b)", clause.text, re.IGNORECASE):
        return None
    rest = _FROM.sub("", match["rest"]).strip(" ,")
    rest = re.sub(r"\s*\b(?:out|off|away)$", "", rest) if clause.text.startswith("take") else rest
    if not rest:
        return [Talk("what_to_forget")]
    if _FORGET_THAT.fullmatch(rest):
        return [Forget(label) for label in last_labels] or [
            Talk(
                "what_to_forget" if clause.text.split()[0].casefold() in {"delete", "erase", "remove"} else "never_mind"
            )
        ]
    if not clause.text.casefold().startswith(("forget", "please forget")) and (
        _ELSEWHERE.search(rest)
        or re.search(
            r"\b(?:reservation|meeting|event|phone|app|sync|device|photos?|emails|messages|alarm|timer|process|transaction|oven)\b",
            rest,
            re.IGNORECASE,
        )
    ):
        return [Talk("cannot", clause.text)]
    if field := _FORGETS_FIELD.fullmatch(rest):
        return [Talk("forget_field", FIELDS[field["field"].casefold()])]
    about = _ABOUT.fullmatch(rest)
    if _EVERYTHING.fullmatch(rest) and (not about or about["who"].casefold() in {"me", "us", "myself"}):
        return [Talk("forget_all")]
    if about:
        return _forget_each(about["who"], every=True)
    statement = re.sub(r"^(?:the fact )?that ", "", rest, flags=re.IGNORECASE)
    if (told := fact(statement)) and re.match(r"(?:i|we|my|our)\b", statement, re.IGNORECASE):
        return [Forget(told.label)]
    statement = re.sub(r"^about ", "", statement, flags=re.IGNORECASE)
    if re.search(
        r"\b(?:from|to|in) (?:my|the) (?:order|cart|basket|wish ?list)\b|^(?:my|the|an) (?:order|account|subscription|card|item|payment|booking)s?\b",
        statement,
        re.IGNORECASE,
    ):
        return [Knowledge(clause.text)]
    if re.match(r"(?:my|our|the|what|where|when|who|how)\b", statement, re.IGNORECASE):
        wh = re.sub(r"^(?:what|where|when|who|how)(?: (?:is|are))? (?:i|my|our) ", "", statement, flags=re.IGNORECASE)
        return _forget_each(
            re.sub(r" (?:is|are|was)$", "", wh) if wh != statement else statement, every=wh != statement
        )
    return _forget_each(statement, every=False) if len(words(statement)) <= 4 else None


def _forget_each(nouns: str, *, every: bool) -> list[Intent] | None:
    each = re.split(
        r",? and (?:about )?(?:my |the |our )?|, ", re.sub(r"^(?:my|our|the|all|any) ", "", nouns, flags=re.IGNORECASE)
    )
    labels = [label for noun in each if (label := noun_label(re.sub(r"^(?:my|our) ", "", noun)))]
    return [Forget(label, every=every) for label in labels] or None


def _no_longer(text: str) -> list[Intent] | None:
    if match := _NO_LONGER_MY.fullmatch(text):
        return [Forget(noun_label(match["who"]))]
    if not (match := _NO_LONGER.fullmatch(text)):
        return None
    if match["am"] and "no longer" not in text and "more" not in text:
        return None
    said = match["now"] or match["ever"] or f"am {match['am']}"
    was, now = fact(f"I {said}"), fact(f"I do not {said}") if not match["am"] else None
    if was is None:
        return None
    return [Forget(was.label, unless=now)]


# ---------------------------------------------------------------------- everything that is known

_KNOW = r"(?:know|remember|have|got|recall|store|stored|saved|save|keep|kept|learned|learnt|remembered|noted|memori[sz]ed|recorded|retain|written down|hold)"
_ON_ME = r"(?: (?:about|on|of|for|from|regarding) (?:me|us|myself|my ?self|my life|my person|my preferences))"
_WHEN = r"(?: (?:so far|until now|right now|already|yet|today|on file|stored|saved|noted|down|in (?:your|my|the) (?:memory|profile|file|notes|database|records)|from before|from last time|at all|at the moment|to date))"
_LIST = rx(
    rf"""
    (?:what|which)(?: \w+){{0,5}} (?:do|did|have|are|can) you(?: \w+){{0,2}} {_KNOW}(?: {_KNOW})?{_ON_ME}{_WHEN}*
    |what (?:all |else |exactly |information |data |things |facts |details |stuff |memories |kind of (?:things|information|data) |sort of things )*(?:do|did|have|can|are) you (?:already |currently |actually |still |really |all )*{_KNOW}(?: {_KNOW})?{_ON_ME}?{_WHEN}*
    |(?:list |show |read |repeat |recite |recap |summari[sz]e |display )?(?:tell me |show me |give me |read me |read out |read back |to me )?(?:an? (?:list|summary|recap|rundown|overview|breakdown|quick summary) of |back )?(?:me )?(?:what|everything|all|anything|all (?:of )?the (?:things|facts|memories|stuff|information)|the things|the facts|things|some things|a few things|something)(?: all| else| exactly)?(?: that)? (?:you|i)(?: have| have ever| might| do| already| still| currently)*(?: {_KNOW}| told you| asked you to remember| told| shared| taught you)+{_ON_ME}?{_WHEN}*
    |(?:list|show|read|tell|give|recite|display|what are|what is in|what is on|read back|repeat|dump|check|see|print|open|summari[sz]e|go through)(?: me)?(?: out)?(?: all)?(?: of)? (?:my|the|your) (?:saved |stored |personal |own |user )?(?:memories|memory|stored facts|facts|data|details|info|information|notes|profile|file|memory slots|slots|preferences)(?: {_KNOW}| you)*{_ON_ME}?(?: with me| back to me| to me)?{_WHEN}*
    |(?:what|which) (?:memories|facts|information|details|data|things|notes) (?:do you (?:have|know|remember|keep|store|hold)(?: about| on| of) me|have you (?:saved|stored)|of mine|about me|did i (?:tell|share|give)|have i (?:told|shared|given)|are (?:stored|saved))\b.*
    |(?:tell me |say (?:something|anything) |anything |something |everything |all |describe |talk )(?:you know )?(?:about (?:me|myself)|me)|describe me
    |(?:do|did|have) you (?:still |really |already )?(?:know|remember|have|got|stored?|saved?|learned|recall) (?:anything|something|everything|any (?:information|data|facts|memories|details|notes))(?: about me| on me| of me| stored| saved| about us| i (?:said|told you))*{_WHEN}*
    |(?:what|which things|which facts) (?:have|did) i (?:already |ever |previously |all )?(?:told|tell|tell you|told you|shared|share|asked you to remember|asked you to keep|ask you to remember|said|say|taught you)(?: to)?(?: you| with you)?(?: to remember)?{_ON_ME}?(?: so far| before| until now| last time| earlier| already)*
    |my (?:memories|profile|notes|saved facts)|(?:any |)memories(?: about me)?|what is (?:on|in) my (?:profile|file|memory|record)|what is stored(?: about me)?|who am i to you|what am i like|how well do you know me
    |is there (?:anything|something) you (?:know|remember) about me|(?:how many|do i have any|do you have any) (?:memories|things|facts)\b.*
    """
)
_LAST_CALL = rx(
    r"""
    (?:what|which topics?) (?:did|have|were|was) (?:we|i) (?:last )?(?:talk|talked|discuss|discussed|speak|spoken|chat|chatted|talking|say|said|ask|asked|ask you|call)(?: about| for| you about)*(?: in| on| during)? ?(?:the |our |my )?(?:last|previous|earlier|yesterday|before|past)(?: (?:time|call|conversation|session|chat|week))?.*
    |when (?:did|have) (?:we|i) (?:last|previously) (?:talk|talked|speak|spoke|spoken|call|called|chat|contact you)\b.*|when (?:did|have) (?:we|i) (?:talk|speak|chat|call)(?: to you| with you)? last\b.*
    |(?:when|what) (?:was|is) (?:my|our|the) (?:last|previous|latest) (?:call|conversation|chat|session|talk)\b.*
    |(?:do|did|can) you (?:still )?(?:remember|recall|know)(?: about)? (?:our|my|the) (?:last|previous|earlier) (?:call|conversation|chat|session|talk|time|discussion)\b.*
    |(?:do you )?(?:remember|know|recall)? ?(?:what we (?:talked|spoke|chatted|discussed)|what we were talking)(?: about)?(?: last.*| before| yesterday| earlier)?
    |where (?:did we leave|were we|did we stop)(?: off)?(?: last time)?|(?:our|my) (?:last|previous) (?:call|conversation|chat|session)
    |have (?:we|i) (?:talked|spoken|met|called|chatted)(?: to you| with you)?(?: before| already| earlier)?|what (?:happened|was it) last time|what (?:was|is) (?:the last|my last|our last) (?:call|conversation|chat)(?: about)?
    """
)


def listing(clause: Clause) -> list[Intent] | None:
    """Understand questions for everything that is known, and for the call before."""
    text = clause.text
    if _LAST_CALL.fullmatch(text):
        return [Talk("last_call")]
    if _LIST.fullmatch(text) and not re.fullmatch(
        r"what (?:do|did|can|have) you (?:have|got|keep|store)|what (?:do|did|have) i (?:say|said)|.*\bwhat (?:you|i) have",
        text,
        re.IGNORECASE,
    ):
        return [ListAll()]
    return None


# ---------------------------------------------------------------------- questions about oneself

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
    rf"(?:(?:do|can|did) you (?:still )?(?:remember|recall|know) )?(?:what|anything|something|everything|whatever|what all|what exactly) (?:did i|have i|do you|i|you|i have|you have|do you still|did you)(?: ever| already| still| all)* ?(?:tell|told|say|said|mention|mentioned|know|remember|have|stored|saved|noted|recall|learned)(?: you)?(?: on file| stored| saved)? (?:about|on|regarding|concerning) (?P<who>.+)"
)
_ANYTHING_ABOUT = rx(
    r"(?:do|did|have|can) (?:you|i) (?:still |ever )?(?:know|remember|have|recall|told|tell|mention|mentioned|say|said|told you|tell you|got|find)(?: you)? (?:anything|something|what i (?:said|told you)|things|stuff) (?:about|on|regarding) (?P<who>.+)"
)
_SEARCH_MEMORY = rx(
    r"(?:search|look|check|go through|look through|look in|find|search through|dig)(?: in| through| into)? (?:my|your) (?:memories|memory|notes|records|file)(?: for| about| and find| to find| whether| if)? (?P<what>.+)"
)
_FIRST_PERSON = re.compile(r"\b(?:i|me|my|mine|myself|our|us|we)\b", re.IGNORECASE)
_MODAL = rx(
    r"(?:how (?:\w+ ){0,4}?(?:do|can|could|should|would|may|might|will|must) (?:i|we)|how (?:long|much|many)(?: \w+){0,3}? i|(?:can|could|may|should|must|will|would|shall|might) (?:i|we|my)|am i (?:able|allowed|eligible|entitled|supposed|covered)|do i (?:need|have to|get|qualify|pay|lose)|who (?:do|can|could|should) i (?:contact|call|ask|talk to|speak to|write to|email|tell)|where (?:can|could|do|should) i (?:find|get|buy|return|send|change|see|download|sign|pick|drop|contact|reach|pay|enter|update)|what (?:should|can|could|must|do) i (?:do|need|expect|get)|what (?:if|happens)|when (?:will|can|do|should|would) (?:i|my|we)|why (?:is|was|do|did|can|does|are|has|have)|is (?:it|there)|are there|does it|do you|are you|will you|which \w+ (?:can|should) i)\b.*"
)
_MEMORY_TALK = re.compile(
    r"\b(?:remember|recall|told you|tell you|mention(?:ed)?|i said|did i say|have i said|i like|do i like|i love|do i love|i prefer|do i prefer|i hate|do i hate|favou?rite|allerg\w+|do i live|i live|did i grow|was i born|i was born|do i work|i work|do i have(?! to\b))\b",
    re.IGNORECASE,
)


def about_oneself(clause: Clause) -> list[Intent] | None:
    """Understand a question about the caller: by a label when it names one, else by a search."""
    text = clause.text
    if match := _SEARCH_MEMORY.fullmatch(text):
        return [Search(match["what"])]
    if match := _SAID_ABOUT.fullmatch(text) or _ANYTHING_ABOUT.fullmatch(text):
        who = match["who"]
        if (
            re.search(r"\byou (?:have|know|tell|say)\b|\bdo you\b", text, re.IGNORECASE)
            and not _FIRST_PERSON.search(who)
            and "remember" not in text.casefold()
        ):
            return [Search(who, general=True)]
        return [Search(re.sub(r"^(?:my|our) ", "", who, flags=re.IGNORECASE) or who)]
    if match := _HOW_OLD.fullmatch(text):
        who = match["who"] or match["who2"] or match["i"]
        return [Recall("age" if who.casefold() == "i" else f"{noun_label(who.split(' ', 1)[1])}_age", text)]
    for pattern in (_NAME_OF_MY, _I_CALL):
        if match := pattern.fullmatch(text):
            return [Recall(noun_label(f"{match['who']} name"), text)]
    for pattern in (_WHAT_IS_MY, _WHAT_MY_IS):
        if match := pattern.fullmatch(text):
            who = match["who"]
            bare = re.match(_MY, text, re.IGNORECASE) and not clause.asked
            if bare and (
                len(words(who)) > 3 or re.search(r"\b(?:on|in|at|no|the|a|an|with|to|for|by|not)\b", who, re.IGNORECASE)
            ):
                continue
            return _slot(who, text, called=match["called"] is not None)
    return _anything_asked(clause)


def _slot(who: str, text: str, *, called: bool) -> list[Intent] | None:
    """A question that names its slot; several joined by "and" are several."""
    if len(words(who)) > 8 or not content_words(who):
        return None
    intents: list[Intent] = []
    nouns = re.split(r",? and (?:my |our |what is my )?|, (?:my |our )?", who, flags=re.IGNORECASE)
    if called:
        nouns[-1] = f"{nouns[-1]} name"
    for noun in nouns:
        if noun.casefold() in FIELDS:
            intents.append(AskProfile(FIELDS[noun.casefold()]))
        elif re.search(r"\b(?:options?|chances|rights|obligations)\b", noun) and is_business(text):
            intents.append(Knowledge(text))
        elif label := noun_label(noun):
            intents.append(Recall(label, text))
    return intents or None


def _anything_asked(clause: Clause) -> list[Intent] | None:
    text = clause.text
    if (
        not clause.asked
        or not _FIRST_PERSON.search(text)
        or re.fullmatch(
            r".*\b(?:tell|show|help|give|send|let|charge|call|email|refund) (?:me|us)\b(?!.*\b(?:i|my)\b).*",
            text,
            re.IGNORECASE,
        )
    ):
        return None
    business = is_business(text)
    if re.match(r"how to\b", text, re.IGNORECASE):
        return [Knowledge(text)]
    if _MEMORY_TALK.search(text) and not (
        business and re.match(r"(?:how|can|could|what happens|what if|may|should|when)\b", text, re.IGNORECASE)
    ):
        return [Search(text)]
    if _MODAL.fullmatch(text):
        how_to = re.match(
            r"(?:how|who|where) (?:do|can|could|should|would) i\b", text, re.IGNORECASE
        ) and not re.search(r"\bmy\b", text, re.IGNORECASE)
        return (
            [Knowledge(text)]
            if business or how_to or not re.search(r"\b(?:i|my)\b", text, re.IGNORECASE)
            else [Search(text, general=True)]
        )
    return [Search(text, general=business)]
