"""Courtesies: greetings, thanks, yes and no, goodbye, moods. All are answered without a tool.

`smalltalk` recognises whole clauses and may go first; `courtesy` goes by single words and may only go last, when
nothing else was recognised.
"""

from __future__ import annotations

import re

from lkmongo.agent.responder.clauses import Clause
from lkmongo.agent.responder.intents import Intent, Talk
from lkmongo.agent.responder.text import rx, words

_WHOLE: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, rx(pattern))
    for kind, pattern in (
        (
            "goodbye",
            r"""
            (?:good ?bye|bye|bye[ -]bye|bye now|see (?:you|ya)|farewell|ciao|so long|take care|good ?night|cheerio|later
            |have a (?:nice|good|great|lovely|wonderful) (?:day|one|evening|night|weekend|afternoon)|catch you later
            |talk to you (?:later|soon)|until next time|i (?:have|need|got|have got) to (?:go|leave|run|hang up)|i must go
            |i am (?:leaving|going|off|done|finished|all set)|that (?:is|was|will be|would be) (?:all|it|everything)
            |nothing (?:else|more)|(?:we|i) are done|hang up|no more questions|exit|quit
            |(?:end|stop|finish|close) (?:the |this )?(?:call|conversation|chat))
            (?: for (?:now|today|me|us)| now| later| soon| around| tomorrow| next time| i need| today| then| bye| goodbye)*
            """,
        ),
        (
            "how_are_you",
            r"""
            (?:how (?:are|is|have|has|was|do) (?:you|things?|it|everything|life|your (?:day|week|weekend|night|evening|morning))
            (?: (?:been|doing|going|today|feeling|so far|these days|with you|for you|treating you|this \w+|on this .*|do|feel|lately))*
            |what is (?:up|new|going on|happening|good)(?: with you)?|sup|wassup|how goes it|how you (?:doing|been)
            |are (?:you|things) (?:doing |going |feeling )*(?:ok|okay|well|alright|all right|fine|good|happy|sad|tired|great)(?: .*)?
            |is everything (?:going )?(?:ok|okay|well|alright|fine|good).*|you (?:ok|okay|alright|all right|good)|are you having a good \w+)
            """,
        ),
        (
            "never_mind",
            r"""
            (?:never ?mind|forget (?:it|about it|that i asked|i asked|i said anything)|(?:cancel|stop|skip|abort|quit|discontinue|leave|drop)
            (?: (?:it|that|this|everything|please|now|talking|speaking|listening|doing (?:that|it|this)|(?:that|the|my|your)(?: last| current| previous)? (?:command|request|action|task|thing|question|one)|what you (?:are|were) doing))*
            |do not (?:bother|worry(?: about it)?|mind|do (?:that|it|anything)|answer(?: that)?)|(?:it )?does not matter|no worries|nothing|leave it
            |no (?:thanks|thank you|need)|(?:be )?quiet(?: now)?|silence|mute|pause|sh+|hold on|hang on|wait(?: a (?:second|minute|moment))?
            |(?:just )?(?:one|a) (?:second|moment|minute|sec)|give me a (?:second|minute|moment)|let me think.*|i am (?:thinking|not sure|just looking|just browsing)
            |i (?:have )?changed my mind|i do not (?:know|care|mind|need (?:it|that|anything))(?: any ?more)?|not (?:really|now|yet|today|sure|certain)
            |i will (?:think about it|be back|call (?:back|later)|let you know).*|i have no idea|no (?:idea|clue)|who knows|maybe later)
            (?: then| that| it| please| now| any ?more| for now)*
            """,
        ),
        (
            "ok",
            r"""
            (?:ok(?:ay)?|yes|yeah|yep|yup|no|nope|nah|naw|nay|sure|alright|fine|right|correct|exactly|got it|i see|understood|of course|indeed
            |absolutely|true|false|maybe|perhaps|possibly|probably|hm+|uh ?huh|mhm|good|cool|wow|oh|ah|aha|whatever|interesting|really|no way|lol
            |ha(?:ha)*|you bet|definitely|certainly|not bad|all good|noted|roger|will do|same here|me too|affirmative|negative|makes sense|sounds (?:good|great|fine)
            |that (?:works|is fine|is ok|is okay|makes sense|sounds good|helps|would be (?:great|nice|good))|i (?:know|understand|agree|guess so|think so|hope so|see)
            |it is (?:ok|okay|fine|alright)|not (?:much|bad|at all|true|that)|very (?:good|well|true)|(?:not )?so good|pretty good|you got it|is that so|that so
            |i am (?:very |doing |quite |pretty |feeling |just )*(?:fine|good|ok|okay|well|great|all right|alright|not bad|here|back|still here|ready|listening|on the phone))
            (?: thanks| too| as well| today| again| now)*
            """,
        ),
        ("sorry", r"(?:(?:i am )?(?:so |very |really )?sorry(?: about that| for that| my mistake| my bad)?|my (?:bad|mistake|apologies|fault)|apologies|i apologi[sz]e|oops|whoops|i (?:made a mistake|was wrong))"),
        ("thanks", r"(?:(?:many |much )?thanks?|thank you|cheers|ta|much (?:obliged|appreciated)|appreciate (?:it|that))(?: (?!to\b|i\b|you can\b).{0,40})?"),
        (
            "feeling",
            r"""
            i (?:am|feel|was|have been|am feeling|am getting|just feel) (?:so |very |really |a bit |a little |a little bit |quite |pretty |just |not |kind of |too |still |rather |feeling |extremely |super )*
            (?:tired|hungry|thirsty|bored|sad|lonely|sick|ill|unwell|stressed|exhausted|sleepy|angry|mad|upset|annoyed|frustrated|confused|worried|nervous|anxious|scared(?! of)|depressed|happy|excited
            |glad|busy|late|lost|hot|cold|drunk|in (?:a )?(?:hurry|rush)|in a (?:good|bad|great) mood|down|blue|having a (?:bad|good|great|rough|hard|long) (?:day|week|time)|overwhelmed|disappointed
            |unhappy|relaxed|curious|jet ?lagged|knackered|hungover|surprised|shocked|sure|certain|uncertain|ready|interested|proud|starving|freezing|broke|desperate|stuck|fed up|pissed(?: off)?
            |calm|bad|great|terrible|awful|horrible|shattered|bummed)
            (?: (?:today|now|right now|too|of this|of waiting|of it|about this|about it|about that|at the moment|tonight|this morning|lately|again|with this|with you|here|with my .*|because .*|about .*|of .*|that .*))*
            """,
        ),
        ("insult", r"(?:(?:fuck|damn|screw|shut up|shut it|go to hell|you suck|idiot|stupid|useless|wrong)(?: .*)?|not what i (?:asked|meant|said|wanted)|i hate (?:you|this|it))"),
        ("compliment", r"(?:(?:i (?:really )?)?(?:like|love|appreciate) (?:you|it|that|this|your help|talking to you)(?: (?:very|so) much| a lot)?|well done|nice|lovely|awesome|amazing|excellent|wonderful|fantastic|brilliant|impressive|bravo|kudos|congrat\w*|you rock|good (?:job|work|bot|one|answer|stuff|news)|(?:nice|great) (?:work|job|one|stuff))"),
    )
)  # fmt: skip

_BY_WORD: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, rx(pattern))
    for kind, pattern in (
        ("goodbye", r"\b(?:bye|bye-bye|goodbye|farewell|cya|adios|sayonara|syonara|ciao|ta ?ta|so long|ttyl|see (?:you|ya)|take (?:care|it easy)|talk to (?:you|ya) (?:later|soon|again)|catch (?:you|ya)|out of here|until (?:next time|later)|signing off|(?:nice|great|good|lovely|pleasure|glad|enjoyed|fun) (?:\w+ ){0,4}?(?:talk|chat|conversation|talking|speaking|speak|chatting|seeing you|conversing))\b"),
        ("thanks", r"\b(?:thanks?|thankful|grateful|gratitude|appreciat\w+|means a lot|(?:was|were|been|are) (?:\w+ ){0,3}helpful|great help|big help|helped me)\b"),
        ("insult", r"\byou(?: are|r)?\b.*\b(?:stupid|dumb|useless|idiot|annoying|wrong|rubbish|garbage|moron|crap|unhelpful|not helpful|no help|incorrect|suck|misunderstood|not (?:listening|understanding)|do not understand|did not (?:understand|answer|help))\b|\b(?:this|that|it) (?:is|was)(?: \w+){0,2} (?:stupid|useless|terrible|awful|ridiculous|nonsense|frustrating|a joke|a waste of time|wrong|incorrect|not right|not correct|not true|false|not what i \w+)\b|\bdoes not (?:help|make sense)\b|\bthat (?:information|answer) is (?:wrong|false|incorrect)\b"),
        ("compliment", r"\b(?:you are|you were|you have been|that is|that was|this is|this was|it is|it was|you did)\b(?: \w+){0,3}? (?:great|good|nice|awesome|amazing|helpful|cool|perfect|excellent|wonderful|fantastic|lovely|kind|smart|clever|brilliant|useful|impressive|funny|sweet|the best|interesting|incredible|lifesaver|thoughtful|job)\b|\b(?:nice|good|great|lovely|pleased) to (?:meet|know|hear|see)\b|\byou (?:made|make) my day\b"),
        ("ok", r"^(?:(?:that|it|what you (?:just )?said|the answer) (?:is|was|seems|appears|sounds|would be|will be|turns out to be)(?: \w+){0,3} (?:true|right|correct|affirmative|accurate|fine|yes|no|a yes|a no|a fact|negative|false|it|what i want)|(?:the answer is|i (?:say|vote|must say|would say|got to say|would have to say)) (?:\w+ ){0,5}(?:yes|no)|i (?:do not )?(?:agree|believe|think|suppose)(?: (?:so|not|that|it|is|was|with|what|you|said|just|the|of|truth|true|false|correct|right|possible|would|be|a|statement|i))*|(?:yes|no|yeah|maybe|perhaps|possibly|definitely|absolutely|certainly|not)\b.{0,40}|either (?:or|one|of them).*)$"),
        ("greet", r"\b(?:say|said) (?:hi|hello)\b|^(?:why hello|ahoy.*|hello.*|wake up|heller)$"),
        ("never_mind", r"^(?:stop|cancel|abort|quit|discontinue|shush|be quiet|i (?:want|need|would like) you to (?:stop|quit|be quiet)|do not (?:speak|talk|say))\b"),
    )
)  # fmt: skip


def smalltalk(clause: Clause) -> list[Intent] | None:
    """Recognise a clause that is a courtesy as a whole."""
    for kind, pattern in _WHOLE:
        if pattern.fullmatch(clause.text):
            return [Talk(kind)]
    return None


def courtesy(clause: Clause) -> list[Intent] | None:
    """Recognise a courtesy by its words, in a clause that nothing else has recognised."""
    if len(words(clause.text)) > 14:
        return None
    for kind, pattern in _BY_WORD:
        if (not clause.asked or kind in {"goodbye", "thanks"}) and pattern.search(clause.text):
            return [Talk(kind)]
    return None
