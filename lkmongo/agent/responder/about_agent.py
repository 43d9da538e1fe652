"""Questions about the agent itself, and requests to say something again or to get a person on the line."""

from __future__ import annotations

import re

from lkmongo.agent.responder.clauses import Clause
from lkmongo.agent.responder.intents import Intent, Talk
from lkmongo.agent.responder.text import rx, words
from lkmongo.agent.responder.vocabulary import BUSINESS

_HELP = rx(
    r"""
    (?:what am i (?:supposed|meant|allowed) to (?:say|do|ask)(?: now| here)?|help|commands?|menu|options|instructions|examples?|i need (?:some |your )?help|(?:can|could|would|will) you (?:please )?help(?: me| us)?(?: out| with (?:something|anything(?: i need)?))?
    |(?:so )?what exactly (?:can|do|could) you (?:do|help)(?: me)?(?: with)?(?: for me)?|what (?:is this|now|next|else)|can you do (?:anything|something|more)(?: else)?|what do i do|how do i (?:start|begin)|how (?:does|do) (?:this|it|you|your memory) work|how (?:can|do|should) i (?:use|talk to|work with) (?:you|this)
    |(?:what|how) (?:else )?(?:can|could|do|would|will|are) (?:you|u) (?:able to |even |exactly |actually |really )?(?:do|help|assist|offer|good (?:at|for)|capable of|here for|used for|for|understand)(?: (?:me|us|for me|with|me with|for us|exactly|here|apart from that|today|out|at|for))*
    |(?:what|which)(?: \w+){0,3} (?:can|could|may|should|do|am) i (?:ask|say|tell|request|do|supposed to|meant to|allowed to)(?: (?:you|to you|here|about|with you|for|now|to (?:say|do|ask)|of you|from you))*
    |(?:can|do) you (?:really |actually )?(?:remember|keep|store|save|learn) (?:things|stuff|facts|something|anything|what i (?:say|tell you))(?: about me| for me)?|do you have (?:a |any )?memory|can you remember
    |will you remember (?:me|this|that|it|what i (?:say|said|tell you|told you)).*|give me (?:some )?examples?|what (?:are|were) you (?:for|made for|built for|made to do|designed to do|supposed to do|here to do)
    |what is your (?:purpose|job|function|role|use)|why are you here|what do you (?:do|know)|show me (?:what you can do|the (?:menu|options|commands)))
    """
)
_ABLE = rx(
    r"""
    \bexamples? of (?:something|what|things|anything)\b.*\b(?:say|ask|do)\b|\b(?:your|list of|my list of|available|the) (?:capabilities|features|functions|functionality|skills|abilities|commands|options)\b
    |\b(?:what|which|tell me|know|list|show me|explain)\b.*\b(?:things?|questions?|topics?|subjects?|tasks?|queries|requests?|stuff|areas?|information|commands?|services|help)\b.*\b(?:i (?:can|could|may|should|am able to)|can i|could i|may i|should i|you (?:can|could|are able|know|answer|accept|understand|do|help|are)|(?:can|could|do|are|would) you|permissible|possible)\b
    |\bwhat\b.*\byou(?: are)? (?:capable of|able to (?:do|help|answer|assist)|good at|can (?:do|help|answer|assist)|know how to)\b|\bare you (?:able|capable)\b.*\b(?:help|answer|do)\b|\bcan i ask you (?:about )?(?:anything|something|things|questions)\b
    """
)
_KIND = r"(?:ai|a\.i\.?|artificial\w*|human\w*|robot\w*|bots?|machine|chat ?bot|language model|llm|chat ?gpt|gpt[\w-]*|sentient|conscious|alive|automated|computer(?: program)?|real(?: life| live)?(?: person| human| one)?|live (?:person|human)|person|software|program|living|recording|siri|alexa|claude|gemini|openai|real|man|woman|male|female)"
_HUMAN = rx(
    rf"""
    \b(?:are|r) (?:you|u|your)\b(?: \w+){{0,6}}? ?{_KIND}\b|\byou (?:are|sound|seem|look|feel|might be|must be|consider yourself)\b(?: \w+){{0,5}}? {_KIND}\b|\b(?:consider|call|describe|regard|classif\w+|treat) you(?:rself)?\b.*\b{_KIND}\b
    |\b(?:am i|i am) (?:talking|speaking|chatting|dealing) (?:to|with)\b.*\b{_KIND}\b|\b(?:is|was) (?:this|that|it|there)\b(?: \w+){{0,4}}? {_KIND}\b(?!.*\b(?:order|color|colour|name)\b)|\b(?:what|which)(?: \w+){{0,3}} (?:model|llm|ai|technology|engine)\b.*\b(?:you|this|behind)\b
    |\bdo you (?:use|have|run on)(?: an?| any)? (?:ai|llm|language model|gpt|chat ?gpt|openai|feelings|emotions|a (?:body|soul|brain|mind|heart)|consciousness)\b|\bare you powered by\b|\b(?:can|do) you (?:think|feel|sleep|eat|dream|breathe)\b|\bhow (?:real|human) are you\b|\banything real about you\b
    """
)
_NAME = rx(
    r"""
    \b(?:what|who|which|tell|give|know|have|say|get|catch|is|share)\b.*\byour (?:full |first |last |real |own |actual )?names?\b|^(?:your name|name|and you|who (?:are|r) (?:you|u|this)|who is (?:this|that|there|speaking|calling|it|on the line)|what are you(?: called| exactly)?|introduce yourself|identify yourself)$
    |\b(?:call|address|refer to|name) you\b(?! (?:back|later|again|tomorrow))|\byou (?:are |be |get |go by|prefer to be )?(?:called|named|go by)\b|\bwho am i (?:talking|speaking|chatting) (?:to|with)\b|\bwho (?:you are|are you|is this|exactly are you)\b|\b(?:do you|does (?:the|this) \w+|you) have a (?:name|nickname)\b|\b(?:the )?(?:ai|bot|assistant)(?:'s)? name\b
    |\btell me (?:something |more |a bit |a little )?about yourself\b|\bdescribe yourself\b|\bwhat name (?:do|would|should) (?:you|i)\b.*\b(?:prefer|like|you)\b|\btheir name for you\b
    """
)
_MADE = r"(?:made|make|makes|making|built|build|created?|creates|programm?ed|program|designed?|developed?|coded|invented|formed|constructed|manufactured|fabricated|compiled|owns?|trained|wrote|produced|responsible for|behind|employs?|brought|gave|designs|runs?|hired)"
_ORIGIN = rx(
    rf"""
    \b(?:who|whom|what|which|where|how|when|tell|know|why|name of|in)\b.*\b{_MADE} (?:you\b|your (?:code|software|algorithms?|program|brain|mind)|ai\b|this (?:ai|bot|assistant|thing|app))|\byou(?:r)? (?:were |was |are |been |got )?(?:made|built|created|programmed|designed|developed|born|invented|coded|trained)\b|\b(?:were|was|are) (?:you|it you) (?:\w+ )?(?:made|built|created|programmed|designed|developed|born|invented|coded|trained)\b
    |\byour (?:\w+ )?(?:creators?|makers?|inventors?|developers?|designers?|manufacturer|brand|origins?|birthplace|nationality|roots|hometown|home ?town|age|birthday|birth ?date|boss|employer|employeer|supervisor|owner|master|parents|family|hobby|hobbies|spare time|free time|past-?times?|interests|pets?|dog|dogs|cat|cats|favou?rite \w+|gender|job title|programmers?|animals?|creatures?|country of origin|place of origin|home|house|hair|eyes|body|religion|ethnicity)\b
    |\bhow (?:\w+ ){{0,3}}old (?:are you|you are|is (?:the|this) (?:ai|bot|assistant))\b|\bhow (?:long|many years) have you (?:been|existed|lived)\b.*|\bwhere (?:are|do|did|were|you)\b.*\b(?:you|are) (?:from|live|come from|reside|grow up|originate|hail|born|living)\b|\bwhere (?:are )?you(?: are)? (?:from|originally from|coming from)\b|\bwhere did you (?:come from|originate|grow up)\b|\bwho (?:do|are|is it) (?:you|that you) (?:work|working|employed|report)\b|\bwho(?: is)? (?:you work|employs you)\b|\b(?:do|are) you (?:work|working|employed) (?:for|by)\b|\bwhat company (?:are you|do you|is this)\b
    |\bdo you (?:own|keep|have)(?: got)?(?: any| an?| some)?(?: (?:type|types|kinds?) of)? ?(?:domestic |household |pet )?(?:pets?|dogs?|cats?|hobbies|hobby|kids|children|friends|siblings|parents|family|birthday|job|wife|husband|girlfriend|boyfriend|animals?|past-?times?|favou?rite \w+)\b|\bpets? (?:do you|you|that you) (?:have|own)\b|\b(?:what|which) (?:animals|things|kinds? of things) (?:do|are) you (?:have|own|into|like)\b|\bwhat do you (?:like|love|enjoy|do)(?: to do)? (?:for fun|in your|to do|when you)\b|\bwhat(?: \w+)? do you like\b|\bwhen did you (?:come to exist|begin|start existing)\b
    """
)
_HEARING = rx(
    r"""
    (?:(?:can|do|did|could) you (?:hear|understand|see|read|get|follow|copy)(?: me| this| that| what i (?:say|said|type))?(?: now| ok| okay| clearly| well)?|(?:are|r) you (?:still )?(?:there|here|listening(?: to me)?|on|awake|online|working|available|with me|ready|up)|(?:is )?any(?:one|body) (?:there|here|home)
    |testing(?: testing)?|test(?: test)*|(?:is this thing|is this|this is|just) (?:on|an? test|working|testing)|mic check|you there|do you (?:read|copy) me|(?:one two three|check check|1 2 3)(?: .*)?|wake up)
    """
)
_REPEAT = rx(
    r"""
    \b(?:repeat(?:ed|ing)?|restate|rephrase|replay|reiterate)\b(?!.*\b(?:order|my|what you know)\b)|\b(?:say|sat|said|tell|ask|run|go over|explain)\b(?: \w+){0,4}? (?:again|once more|one more time|another time|over)$|^(?:again|once more|one more time|another time|come again.*|pardon(?: me)?|what|huh|excuse me|sorry what|i beg your pardon|what do you mean|what (?:is|was) that|what was the question|speak (?:up|slower|louder))$
    |\b(?:did not|could not|cannot|do not|never) (?:quite |really |fully )?(?:hear|catch|get|understand|make out)\b(?: (?:you|that|it|what you (?:just )?(?:said|say)|the last (?:part|bit|thing)|you there))*$|\bwhat (?:did|was|were)(?: it)?(?: that)?(?: last thing)? ?(?:you|that you)(?: just)? (?:say|said|mention|mentioned|tell me|told me|saying)\b|\b(?:what )?you just (?:said|told me|mentioned|say)\b|\b(?:i|just) missed (?:that|it|what you said)\b|\bwhat was that (?:last thing )?you\b|\blast thing you (?:said|told me)\b|\bsay (?:that|it|this)(?: again)?$|\bcannot hear you\b
    """
)
_PERSON = rx(
    r"""
    \b(?:speak|talk|connect(?:ed)?|transfer(?:red)?|chat|pass|put|get|hand|escalate)(?: me| this| it| us)?(?: through| over)?(?: (?:to|with|through to))?(?: an?| some| the| your)? ?(?:real |live |actual |human )*(?:human(?: being)?|person|agent|operator|representative|rep|someone(?: else| real)?|somebody(?: else)?|supervisor|manager|customer (?:service|support|care)|support(?: agent)?|staff(?: member)?|employee|colleague|advisor)\b
    |^(?:human|agent|operator|representative|real person|customer service|transfer me.*|connect me.*|put me through.*|escalate.*|(?:is there|can i have|i want|i need|give me)(?: an?| the| your| any)? (?:real |live |actual )?(?:human|person|someone|real person|agent|operator|representative|manager|supervisor)(?: .*)?|(?:call|phone|ring) me(?: back.*| (?:at|on|later|tomorrow|tonight|when|in|after|before)\b.*)?)$
    """
)


def about_agent(clause: Clause) -> list[Intent] | None:  # noqa: PLR0911 - a list of forms, tried in order
    """Recognise what is about the agent and the conversation, not about the caller or the business."""
    text = clause.text
    if _HEARING.fullmatch(text):
        return [Talk("hearing")]
    if _PERSON.search(text) and len(words(text)) <= 14:
        return [Talk("person")]
    if _REPEAT.search(text) and len(words(text)) <= 12:
        return [Talk("repeat")]
    if _HELP.fullmatch(text):
        return [Talk("capabilities")]
    if re.search(r"\b(?:you|your|yours|yourself|u|this|ai|bot|i)\b", text, re.IGNORECASE) is None and not _NAME.search(
        text
    ):
        return None
    business = set(words(text)) & (
        BUSINESS
        - {
            "app",
            "company",
            "business",
            "service",
            "available",
            "support",
            "registration",
            "register",
            "closed",
            "data",
        }
    )
    if business:
        return None
    for kind, pattern in (("human", _HUMAN), ("identity", _NAME), ("identity", _ORIGIN)):
        if (clause.asked or kind != "identity" or len(words(text)) <= 10) and pattern.search(text):
            return [Talk(kind)]
    return [Talk("capabilities")] if _ABLE.search(text) else None
