"""What nobody here can do: it takes a language model, the web, a clock or a device."""

from __future__ import annotations

import re

from lkmongo.agent.responder.clauses import Clause
from lkmongo.agent.responder.intents import Intent, Talk
from lkmongo.agent.responder.text import rx, words
from lkmongo.agent.responder.vocabulary import BUSINESS, LANGUAGES

_LANGUAGE = "|".join(LANGUAGES)
_PEOPLES = rf"(?:{_LANGUAGE}|mongolian|brazilian|mexican|american|british)"
_NUMBER = r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred)"
_BY_WORD = rx(
    rf"""
    \b(?:jokes?|riddles?|knock[ -]knock|one[ -]liners?|funny|funniest|make me (?:laugh|smile)|entertain me|weather|forecast|tornado\w*|umbrella|(?:will|is|does|did) it (?:going to |be )?(?:rain|snow|freeze|hail|storm)\w*|climate like|conditions like|degrees (?:today|tomorrow|outside|tonight)
    |how (?:hot|cold|warm) (?:is|will) it|temperature (?:outside|today|tomorrow|tonight|be|going)|(?:record high|current|outside) temperature|stopwatch|timers?|wake me|alert me|heads or tails|(?:flip|toss|throw|roll)(?:ping|ing)?(?: \w+){{0,3}} (?:coins?|dice|die)|coin (?:flip|toss)|dice
    |horoscope|lottery|trivia|(?:fun|interesting|random|cool|unique|weird|amazing|crazy|another) facts?|meaning (?:of|to|in) (?:life|existence|\w+ing alive)|(?:purpose|point|answer|meaning) (?:of|to) (?:life|existence|sentience|it all|our)|life (?:have|has|any)(?: \w+)? meaning|poem|haiku|limerick|bedtime story|lyrics|square root|factorial|divided by|multiplied by|sum of|multiply|(?:\d+|{_NUMBER}) (?:plus|minus|times|and) (?:\d+|{_NUMBER})(?=$| is| equals| make)|\d+ (?:plus|minus|times) \d+
    |\d+ ?[-+*/x^] ?\d+(?! ?(?:cm|inch|mm))|(?:%|percent) (?:of|off|tip)|shopping list|to-?do list|my calendar|traffic|stock (?:price|market)|(?<!take )(?<!accept )(?<!with )(?<!in )bitcoin|exchange rate|translat\w+|(?:translation|word|expression|phrase) (?:of|for|in)\b.*\b{_PEOPLES}|spotify|youtube|netflix|playlist)\b
    """
)
_SAYING = rx(
    rf".*\b(?:say|ask for|greet|tell someone|write|pronounce|mean|call)\b.*\b(?:in|as an?|were an?|were|if i were) {_PEOPLES}\b.*"
)
_ALARM = rx(
    r"(?:.*\b(?:set|make|create|cancel|start|initiate|have|turn (?:on|off)|need|want|like|sound|snooze|stop|add|change)\b.*\balarm\b(?!.*\b(?:code|system|product|sensor)\b).*|alarm.*)"
)
_REMINDER = rx(r".*\b(?:reminders?|remind me)\b.*")
_TIME = rx(
    r"""
    (?:.*\b(?:what|the|current|exact|correct|got the|right) (?:\w+ )?time\b(?!zone)(?:$| (?:is it|it is|now|right now|in|at|today|for|please|zone|over|currently|here|there)\b.*)|what time is it.*|time (?:in|now|please|check)\b.*|time)
    """
)
_NOT_THE_TIME = re.compile(
    r"\b(?:open|close|deliver\w*|arriv\w*|ship\w*|check|breakfast|my|pick ?up|start|take|takes|favou?rite|meeting|appointment|flight|serve|served|should|order|delivery|last|do you)\b",
    re.IGNORECASE,
)
_DATE = rx(
    r".*\b(?:(?:today|tomorrow|yesterday)(?:'?s)? date|(?:what|which|the)(?: \w+){0,3} (?:day|date|month|year|weekday)(?: \w+){0,3} (?:is|will|was|it)(?: \w+)?(?: (?:it|today|tomorrow|this|be|yesterday))?$|(?:current|exact) (?:date|day|month|year)|day of the (?:week|month|year)|what day (?:is|will|was) .*|what (?:is|was) (?:today|tomorrow)|(?:date|day) (?:is )?(?:today|tomorrow|it is))\b.*"
)
_COMMAND = rx(
    r"""
    (?:(?:play|sing|dance|dim|translate|google|browse|dial|spell|define|calculate|compute|solve|shuffle|queue|dj|add \d|flip|toss|roll|snooze|navigate)\b.*|put (?:on )?.*\b(?:music|song|playlist|radio|album|on)\b.*|(?:turn|switch|power) (?:on|off|up|down|the)\b.*|turn .* (?:on|off|up|down)|(?:lock|unlock|open|close) the .*|(?:open|launch|start|run) (?:the )?\w+ app
    |(?:call|phone|ring|text|message) (?!me\b)(?:my |the |an? )?\w+.*|(?:send|write|draft|compose|make up)(?: me| an?| my| the| out)* (?:emails?|messages?|text|texts|sms|letter|tweet|story|essay|song|code|rap|report)\b.*|check my (?:emails?|messages|inbox|calendar|bank|balance).*
    |(?:book|reserve|buy|order|get|find|schedule|arrange|rent)(?: me| us)?(?: an?| some| the| two| \w+)? (?:\w+ )?(?:flights?|hotel|table|taxi|cab|uber|car|tickets?|pizza|food|restaurant|appointment|meeting|train|ride|doctor|trip|coffee|lunch|dinner|plane)\b.*|add .* to my .*
    |(?:tell|read|say|give|recite|share|hit)(?: me| us)?(?: with)?(?: an?| some| the| another| something| one)* ?(?:story|stories|fact|facts|news|quote|quotes|recipe|recipes|game|number between.*|interesting|random|directions)\b.*|(?:let us|i want to|i would like to|can i|may i|could i|i wanna|i need to) (?:play|hear|listen to)\b.*
    |(?:pick|choose|guess|think of) (?:an? |any )?(?:random )?(?:number|card|color|movie).*|(?:recommend|suggest)(?: me)?(?: an?| some)? (?:movie|book|film|song|restaurant|recipe|show|series|place)s?\b.*|let us play.*|search (?:the )?(?:web|internet|google|online)\b.*)
    """
)
_QUESTION = rx(
    r"""
    (?:who (?:is|was|are|were|won|will win|discovered|invented|painted|wrote|sang|directed|became|played)(?: the)? (?!(?:you|my|our|your|i|this|that|responsible|eligible|in charge|behind|it)\b)(?!.*\bmy\b).*|(?:what|where|which)(?: \w+)? (?:is|are)(?: in)? ?(?:the )?(?:capital|population|tallest|largest|biggest|highest|longest|smallest|currency|president|distance|speed|definition|prime minister|nearest|closest|news|score|latest news)\b.*
    |how (?:far|tall|big|high|deep|heavy|fast|old) (?:is|are|was) (?:the |mount |a )?(?!(?:my|your|you|our|shipping|delivery|order|i)\b).*|what (?:does|is) .* mean(?:ing)?(?: of)?|what is the meaning of .*|what do you think (?:about|of) .*|do you (?:like|love|hate|want|believe|enjoy|drink|agree|think|watch|know how to (?:cook|dance|sing)) .*|(?:will|would|can|could|do) you (?:marry|date|kiss|love|be my|miss|sing|dance|play|cook|drive) .*
    |what should i (?:eat|cook|wear|watch|read|listen to|do (?:today|tonight|this weekend|tomorrow))\b.*|what (?:happened|is happening|is on tv)\b.*|how do (?:i|you) (?:cook|bake|make|get to) .*|is there (?:life|a god|traffic)\b.*|what is (?:love|life|happiness|god|the news|on the news|new in the world)|what is \d.*|(?:do i need|should i (?:bring|take)|will i need) an umbrella.*|will i (?:die|win|be rich)\b.*)
    """
)


def beyond(clause: Clause) -> list[Intent] | None:
    """Recognise what cannot be done, so that it is not searched for in vain."""
    text = clause.text
    strict = set(words(text)) & (
        BUSINESS
        - {
            "open",
            "close",
            "check",
            "time",
            "order",
            "price",
            "book",
            "buy",
            "app",
            "store",
            "money",
            "company",
            "play",
            "reserve",
            "stock",
            "size",
            "track",
            "dollars",
            "code",
            "data",
            "available",
            "gift",
            "business",
            "register",
        }
    )
    if strict and not _COMMAND.fullmatch(text):
        return None
    said = (
        _BY_WORD.search(text)
        or _SAYING.fullmatch(text)
        or _ALARM.fullmatch(text)
        or _REMINDER.fullmatch(text)
        or (not _NOT_THE_TIME.search(text) and (_TIME.fullmatch(text) or _DATE.fullmatch(text)))
        or _COMMAND.fullmatch(text)
        or _QUESTION.fullmatch(text)
    )
    return [Talk("cannot", text)] if said else None
