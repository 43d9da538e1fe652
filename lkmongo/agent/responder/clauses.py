"""From one line of plain text to single requests and statements, each without its greeting and politeness."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lkmongo.agent.responder.text import rx

_I = re.IGNORECASE


@dataclass(frozen=True, slots=True)
class Clause:
    """One request or statement.

    `asked`: it was put as a question. `command`: it came as "could you ...". `greeted`, `thanked`: it began or ended
    with a greeting or with thanks.
    """

    text: str
    asked: bool = False
    command: bool = False
    greeted: bool = False
    thanked: bool = False


_ABBREVIATION = re.compile(
    r"(?:\b(?:Dr|Mr|Mrs|Ms|St|Prof|Jr|Sr|vs|e\.g|i\.e|No|Nr|approx|Ave|Rd|a\.m|p\.m)|\b[A-Z])\.$"
)
_END = re.compile(r"(?<=[.!?])['\")]*\s+")
_END_OR_BREAK = re.compile(_END.pattern + r"|\s*;\s+|\s+[-\u2013\u2014]{1,2}\s+")

_AUX = r"(?:is|are|am|was|were|do|does|did|has|have|had|can|could|would|will|may|should)"
_SUBJECT = r"(?:i|you|we|my|our|your|the|there|it|order|package|#?\d+|anyone|anybody|he|she|they|this|that|these)"
_VERB = (
    r"(?:is|are|was|were|am|has|have|had|likes?|loves?|hates?|lives?|works?|plays?|wants?|needs?|prefers?|goes|go|"
    r"called|named|comes?|does|do|did|will|can|cannot|could|should|would|moved|drinks?|eats?|speaks?|enjoys?|drives?)"
)
_NEW = rx(
    rf"""
    (?:oh |also |then |please |and |but |just |now |later |by the way,? |can you |could you |would you )*
    (?:(?:what|where|when|who|how|why|which) (?!ever)\S
    |{_AUX} {_SUBJECT}\b
    |(?:tell|remind|show|give|let) (?:me|us)\b
    |(?:remember|forget|delete|erase|do not forget|do not remember|note|keep in mind|bear in mind)\b
    |(?:look (?:up|for|at)|search for|find out|track|check)\b
    |(?:set|change|update|save|store|list) (?:my|the|that)\b
    |call me\b|(?:everyone|everybody|people|friends|they|most people|my friends) calls? me\b
    |that (?:i|my|our|we)\b
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
_I_SAID = re.compile(r"(?:(?:please |do not )?(?:remember|note|forget)(?: that)? |keep in mind(?: that)? )?i\b", _I)
_INFINITIVE = re.compile(r"\b(?:to|can|could|will|would|should|must) \w+$|\b(?:what|where|how|when|why|if)\b", _I)
_RUN_ON = rx(
    rf"""
    \s+(?=
    (?:my|the) (?:name|email|timezone|(?:email|home) address) is\b
    |my (?:[\w']+ ){{1,3}}(?:is|are) (?!it\b)|i (?:am (?:from|allergic|vegan|vegetarian|married|a|an)|live (?:in|at|with)|work (?:at|for|as)|love|hate|prefer|moved|was born)\b
    |(?:what|where|when|who) (?:is|are) (?:my|our|your|the|order)\b
    |how (?:do|does|much|many|long|old)\b
    |(?:can|could|would) you (?:please )?(?:tell|check|look|remember|forget|find|help|give|also|let)\b
    |(?:do|does|did) you (?:know|have|offer|ship|remember|deliver|accept|sell)\b
    |please (?:remember|forget|tell|note|check|look|delete|call)\b
    |tell me\b|remember that\b|i (?:want|would like|need) to (?:know|check|ask)\b
    )
    """
)
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


_HEAD = 120
"""Characters at either end of a clause in which its beginning or end is looked for; keeps long input linear."""
_PARENTHESIS = re.compile(
    r"(?:^|,) ?if (?:it is not (?:too much|a) (?:trouble|bother|problem|to ask)|you (?:do not|would not) mind|that is (?:ok|okay|alright|possible)|at all possible|possible|you please|i may)(?:,|(?=[.?!]?$))",
    _I,
)


def sentences(text: str, *, at_breaks: bool = False) -> Iterator[str]:
    """The sentences of a text, with their punctuation; with `at_breaks` semicolons and dashes end one as well."""
    start = 0
    for match in (_END_OR_BREAK if at_breaks else _END).finditer(text):
        before = text[start : match.start()]
        if _ABBREVIATION.search(before) or not before.strip():
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
            found.extend(_dressed(piece, asked=asked and index == len(parts) - 1) for piece in _split_run_on(part))
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
    start = 0
    for match in _JOINT.finditer(sentence):
        left, right = sentence[start : match.start()].strip(), sentence[match.end() :].strip()
        if not left:
            continue
        if (
            _NEW.match(right[:_HEAD]) or ("," in match[0] and len(right) < 40 and _is_request_frame(right))
        ) and _complete(left, comma=match[0][0] in ",:"):
            parts.append(left)
            start = match.end()
        elif _SAME_I.match(right[:_HEAD]) and _I_SAID.match(left) and not _INFINITIVE.search(left):
            rest = _split_joined(f"I {right}")  # "I live in Rome and work at the port"
            return [part for part in map(str.strip, _with_subjects([*parts, left, *rest])) if part]
    parts.append(sentence[start:].strip())
    return [part for part in map(str.strip, _with_subjects(parts)) if part]


def _complete(left: str, *, comma: bool) -> bool:
    """Whether what stands before "and" can stand alone: "my mother and my father live in Rome" is one statement."""
    if re.match(r"(?:when|if|because|since|while|although|though|whenever|once|after|before)\b", left, _I):
        return False
    if re.fullmatch(r"(?:my|our|the) [\w' -]+", left, _I):
        return re.search(rf"\b{_VERB}\b", left, _I) is not None
    return comma or not _DANGLING.search(left[-40:]) or " " not in left


def _with_subjects(parts: list[str]) -> Iterator[str]:
    """Say who "he" and "it" are: "my dog is called Rex and he is five"."""
    subject = ""
    for part in _with_values(parts):
        if match := re.match(rf"(?:.*\b(?:that|remember|note) )?((?:my|our) (?:[\w'-]+ ){{1,3}}?){_VERB}\b", part, _I):
            subject = re.sub(r"'s? .*|\b(?:name|birthday)\b.*", "", match[1]).strip()
        elif subject:
            part = re.sub(
                r"^(?:he|she|it|they)\b(?= (?:is|are|was|has|likes|loves|lives|works|hates|plays))",
                subject,
                part,
                flags=_I,
            )  # noqa: PLW2901
        yield part


def _with_values(parts: list[str]) -> Iterator[str]:
    """Join what belongs together: "note my member number, it is 4711"."""
    before = ""
    for part in parts:
        value = re.match(r"(?:it|that|which|they) (?:is|are) (?=\S)", part, _I)
        noun = re.search(r"\b(?:my|our) [\w' -]+$", before, _I)
        if (
            value
            and noun
            and not re.search(r"\b(?:wrong|right|back|up|down|already|ready|again)$", noun[0], _I)
            and not re.search(rf"\b{_VERB}\b", noun[0], _I)
            and not before.endswith("?")
        ):
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
            and _HAS_VERB.search(left[:_HEAD])
            and not _DANGLING.search(left[-40:])
            and not _is_request_frame(left)
        ):
            yield left
            start = match.end()
    yield part[start:].strip()


_GREETING = r"(?:hi|hello|hey|heya|hiya|howdy|yo|greetings|good (?:morning|afternoon|evening|day)|morning|evening)"
_PREFIX = rx(
    rf"""
    (?:
    (?P<greet>{_GREETING}(?: (?:there|again|everyone|everybody|assistant|agent|robot|bot|computer|friend|all|to you|y'all|ai|siri|alexa|google|cortana|fellow))*(?=\W|$))
    |(?P<thank>(?:many )?thanks?(?: (?:a lot|so much|very much|you|a bunch|a million|again))*(?=\W|$)(?! (?:for|to)\b)
    |thank you(?: (?:so|very) much)?(?=\W|$)(?! for\b))
    |(?P<ask>(?:(?:can|could|may|might) i (?:just |quickly |please )?ask(?: you)?(?: (?:something|a question))?
    |(?:can|could|would|will) (?:you|u|ya) (?:please |kindly |maybe |possibly |just |also |quickly )*
    (?:tell|remind|inform) (?:me|us)(?: again)?(?: please)?(?! (?:to|a|about|more|everything|all|something|when it)\b)
    |(?:can|could|would|will) you (?:please |maybe |just )*(?:let me know|find out|explain|say)(?! (?:that|it|again)\b)
    |(?:please )?(?:tell|remind) (?:me|us)(?: again)?(?= (?:what|where|when|who|how|if|whether|which|why|my|our)\b)
    |let me know(?= (?:what|where|when|who|how|if|whether|which|why|my)\b)
    |(?:so )?i (?:was|am|have been|'m) (?:just )?(?:wondering|curious|asking myself)(?: about(?= (?:what|when|where|how)))?
    |i wonder
    |i (?:just )?(?:want|wanted|need|would (?:like|love)|am trying|am calling|called|wish|am hoping|am (?:needing|wanting)|have got|have|got) to (?:know|find out)(?! (?:about|more)\b)
    |i (?:just )?(?:want|wanted|need|would (?:like|love)|am trying|am calling|called|wish|am hoping|am needing) to (?:ask(?: you)?|hear|check|see|learn|understand)
    (?= (?:what|where|when|who|how|if|whether|which|why|my|is|are|do|does|can)\b)
    |(?:can|could|would) you see(?= (?:what|where|when|who|how|if|whether|which|why)\b)
    |(?:do|would|did) you (?:happen to |still |even |also )*(?:know|remember|recall)(?: by (?:any )?chance)?
    (?= (?:what|where|when|who|how|if|whether|which|why)\b)
    |you (?:would not|do not) happen to know
    |(?:any idea|any clue|no idea)(?= (?:what|where|when|who|how|if|whether|which|why)\b)
    |i (?:forgot|do not (?:know|remember)|cannot remember|am not sure|have no idea)(?= (?:what|where|when|how|if|whether|which)\b)
    |(?:i have|i have got|i got|just|here is|got) (?:a|one|another) (?:quick |short |small |silly )?question
    |(?:quick|another|one more|next|last|silly) (?:question|one|thing)
    |(?:i (?:was|am)|was|am) (?:just )?hoping (?:to (?:find out|know|learn|hear|ask)|you (?:could|can|would|might)(?: tell me)?)
    |(?:my|the) question is
    )(?=\W|$))
    |(?P<command>(?:
    (?:can|could|would|will) (?:you|u|ya)(?: please| kindly| maybe| possibly| just| also| perhaps| quickly| help me(?: to)?)*(?! (?:please |also |really |actually |always )*(?:hear|speak|understand|do|be|ship|deliver|help|talk|see)\b)
    |(?:would|do) you mind(?: please)?
    |(?:is there any (?:chance|way)|is it possible)(?: that)?(?: you (?:can|could|would)| for you to)
    |(?:i (?:would like|want|need|would love|wish|am asking|would appreciate it if) (?:for )?you (?:to|could|would))
    |(?:it would be|that would be) (?:great|nice|lovely|good|helpful|cool) if you (?:could|would|can)
    |(?:if )?you (?:could|can|would|might)(?: please| maybe| possibly| kindly)?(?= (?:tell|remember|forget|note|look|check|delete|save|find|give|help|update|change|remind|explain|track|search|show)\b)
    |(?:would|is) it (?:be )?(?:possible|ok|okay|alright|fine)(?: for (?:me|us|you))?(?: to| if (?:you|we|i)(?: could)?)
    |be so (?:kind|good) (?:as to|and)
    |kindly|go ahead and|make sure (?:to|that you|you)|be sure to|feel free to|try to
    |i (?:would like|want|need|wanted) (?:you )?to(?= (?:tell you|let you know|look up|check on|check the|check my|search|update|change|set|track|save|forget|delete|remove))
    )(?=\W|$))
    |(?P<filler>(?:um+|uh+|erm*|ah+|hm+|mm+|well|so|okay|ok|right|alright|all right|oh|ooh|please|actually|also|and|but|then|now
    |by the way|btw|just|sorry to (?:bother|interrupt|trouble) you(?: again)?|sorry|excuse me|pardon me|yeah|yep|yes|yup|sure|great|cool|nice|perfect|wow|anyway|anyways|basically
    |honestly|first of all|firstly|secondly|finally|lastly|maybe|perhaps|one more thing|another thing|one last thing|real quick
    |while i am (?:at it|here)|before i (?:forget|go)|you know|you know what|i mean|let me see|let us see|i was thinking|i think
    |i guess|i believe|i suppose|i would say(?: that)?|for (?:the|your) (?:record|information)|for (?:next time|later|future reference|the future)|(?:i )?(?:hate|do not want) to (?:bother|interrupt|trouble) you|fyi|just so you know|to be (?:honest|clear)
    |in case you (?:need|want|wonder|are wondering|did not know)(?: (?:it|to know))?|dear (?:sir|madam|assistant|agent)|got it|i see|lol|haha|ha|what is up(?=\W+\w)|(?:how are you(?: doing)?(?: today)?|how is it going)(?=\W+\w)|nice to (?:meet|talk to|see|hear from) you
    |(?:it is )?(?:good|great|nice) to (?:meet|talk to|see|hear from|be talking to) you|pleased to meet you
    |my friend|fine|good)(?=\W|$)(?! (?:is|are|was|of|in|for \w+ing|at|on|by|with|up)\b)(?!')
    |(?:look|see|listen|next|first|second|last|quickly|sir|madam|buddy|dude|mate|bro|assistant|computer|robot|agent|bot|ai|siri|alexa)(?=\s*,)
    |(?:ai|alexa|siri|computer|assistant)(?= (?:what|where|who|how|can|could|please|tell|repeat|i|remember|forget|stop|is|do|are)\b)
    |(?:look|see|listen)(?= (?:i|my|here)\b)|(?:see|look|listen) here(?=\W|$))
    |(?P<no>(?:no|nope|nah|like)(?=\s*,| (?:i|my|it|that|the|thanks|thank|what|wait)\b))
    |(?P<wait>wait(?: a (?:minute|second|moment))?(?=\s*,| (?:i|my|what|where|no)\b))
    )[\s,.:!-]*
    """
)
_SUFFIX = rx(
    r"""
    [\s,]*(?:
    \b(?P<thank>(?:many )?thanks(?: (?:a lot|so much|very much|again|in advance|you))*|thank you(?: (?:so|very) much| in advance)?)
    |\b(?:please|by the way|btw|if you (?:can|could|please|would)|if possible|if you do not mind|if that is (?:ok|okay|possible|alright)|
    for me(?: please)?|right now|right away|real quick|for (?:the record|future reference|next time|later))
    |,\s*(?:ok|okay|right|ai|alexa|siri|you know|actually|though|then|too|as well|again|sir|madam|mate|man|buddy|dear|will you|would you|
    could you|can you|quick (?:one|question)|now|yes|no|correct|huh|eh|is it|does not it|is not it|dude|bro|friend)
    )$
    """
)
_ASKED_SUFFIX = re.compile(
    r"[\s,]+(?:again|then|though|now|actually|exactly|anyway|by any chance|at the moment|currently|so far|already|too)$",
    _I,
)
_ECHO = re.compile(
    r"(?P<my>(?:my|our) [\w' -]{2,60}?) (?:is|are|was) (?P<what>what|when|where|who|how much|how old)(?: again)?", _I
)
_QUESTION = re.compile(
    rf"(?:what|where|when|who|whose|whom|how|why|which)\b|{_AUX}(?: not)? {_SUBJECT}\b|(?:is|are|do|does|did|can|could|has|have) \w+",
    _I,
)


def _is_request_frame(text: str) -> bool:
    """Whether a text is politeness alone, so that what follows belongs to it."""
    return len(text) < _HEAD and not _dressed(text, asked=False).text


def _dressed(part: str, *, asked: bool) -> Clause:
    """Take greeting, politeness and fillers off both ends."""
    text, greeted, thanked, command = re.sub(r"^that (?=(?:i|my|we|our) )", "", part, flags=_I), False, False, False
    while match := _PREFIX.match(text):
        rest = text[match.end() :].strip(" ,.:!-")
        greeted |= match["greet"] is not None
        thanked |= match["thank"] is not None
        asked |= match["ask"] is not None
        command |= match["command"] is not None
        text = re.sub(r"^that (?=(?:i|my|we|our) )", "", rest, flags=_I)
        if match["ask"]:
            text = re.sub(r"^(?:about |of |if |whether |please )*(?=\w)", "", text, flags=_I)
    while match := _SUFFIX.search(text, max(0, len(text) - _HEAD)):
        thanked |= match["thank"] is not None
        text = text[: match.start()].strip(" ,.:!-")
    if inverted := _ECHO.fullmatch(text):
        text, asked = f"{inverted['what']} is {inverted['my']}", True
    asked = (asked and not command) or _QUESTION.match(text) is not None
    if asked:
        while match := _ASKED_SUFFIX.search(text, max(0, len(text) - _HEAD)):
            text = text[: match.start()].strip(" ,.:!-")
    return Clause(text.strip(" ,;:!?."), asked, command, greeted, thanked)
