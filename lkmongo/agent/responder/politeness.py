"""What people put around a request: greetings, "could you please", "I was wondering if", "by the way", thanks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lkmongo.agent.responder.text import rx

_I = re.IGNORECASE
HEAD = 120
"""Characters at either end of a clause in which its beginning or end is looked for; keeps long input linear."""
AUX = r"(?:is|are|am|was|were|do|does|did|has|have|had|can|could|would|will|may|should)"
SUBJECT = r"(?:i|you|we|my|our|your|the|there|it|order|package|#?\d+|anyone|anybody|he|she|they|this|that|these)"


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
    |my friend|fine|good)(?=\W|$)(?! (?:is|are|was|of|in|to|for \w+ing|at|on|by|with|up)\b)(?!')
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
    rf"(?:what|where|when|who|whose|whom|how|why|which)\b|{AUX}(?: not)? {SUBJECT}\b|(?:is|are|do|does|did|can|could|has|have) (?!not\b)\w+",
    _I,
)


def is_politeness(text: str) -> bool:
    """Whether a text is politeness alone, so that what follows belongs to it."""
    return len(text) < HEAD and not undress(text, asked=False).text


def undress(part: str, *, asked: bool) -> Clause:
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
    while match := _SUFFIX.search(text, max(0, len(text) - HEAD)):
        thanked |= match["thank"] is not None
        text = text[: match.start()].strip(" ,.:!-")
    if inverted := _ECHO.fullmatch(text):
        text, asked = f"{inverted['what']} is {inverted['my']}", True
    asked = (asked and not command) or _QUESTION.match(text) is not None
    if asked:
        while match := _ASKED_SUFFIX.search(text, max(0, len(text) - HEAD)):
            text = text[: match.start()].strip(" ,.:!-")
    return Clause(text.strip(" ,;:!?."), asked, command, greeted, thanked)
