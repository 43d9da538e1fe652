"""Taking the caller's name out of what they say: "my name is Robin", but not "I am tired"."""

from __future__ import annotations

import re

from lkmongo.agent.responder.intents import Intent, SetProfile, Talk
from lkmongo.agent.responder.text import rx
from lkmongo.agent.responder.vocabulary import DURABLE, FIRST_NAMES, LANGUAGES, NAME_STOPS, TRANSIENT, word_set

NAME_SURE = rx(
    r"""
    (?:(?:my|the) (?:full |first |given |real |preferred |legal |actual |new |correct )?name (?:is(?: actually| really| just| now| in fact)*(?: spelled)?|was|will be|should be|would be|=)
    |(?:the )?name(?: is|:)
    |i am (?:called|named|known as)|i (?:usually |mostly |normally )?go by|i changed my name to
    |(?:you (?:can|may|could|should) |please |just |everyone |everybody |people |friends |they |all |most people |my (?:friends|family) )*
    (?:usually |always |just |simply |often )?calls? me
    |i (?:would )?(?:prefer|like|want|rather|love) (?:to be called|being called|be called|you to call me|if you called me|that you call me|you call me)
    |(?:change|set|update|correct|make|save|switch|put|edit) my (?:first |full |user)?name (?:to|as|down as|into)
    |(?:put me down|refer to me|(?:you (?:may|can|should) )?address me|remember me|know me|save me) as
    |(?:my name|it|that) is spelled)
    :? (?P<rest>.+)
    """
)
_NAME_SOMEWHERE = rx(
    r"""
    .*?\b(?:call(?:ing)?|address(?:ing)?|refer(?:ring)? to|know) me(?: as)?(?: by)?(?: the)?(?: name)?(?: of)? (?P<rest>.+)
    |.*?\b(?:speak(?:ing)?|talk(?:ing)?) to me as (?P<rest6>.+)
    |(?!if\b|when\b|how\b|where\b|do\b|does\b|can\b|should\b).*?\b(?:i|to) (?:usually |mostly |normally |always |also |actually )?go(?:ing)? by(?: the name)?(?: of)? (?P<rest2>.+)
    |(?:the )?(?:new |correct |right |real )?name (?:that )?(?:i (?:go by|use|prefer|want you to (?:use|call me))|you (?:should|can|may) (?:call me|use)(?: by)?|for me) is (?P<rest3>.+)
    |my names (?P<rest4>.+)|when you talk to me,? (?:use|say|call me) (?P<rest5>.+)
    """
)
_NO_NAME_FOLLOWS = rx(
    r"(?:bus|train|car|plane|foot|boat|bike|now|something|someone|anything|else|different|this|these|that|by|it|back|later|new|one|another|whatever|what|when|if|after|before|at|on|in|tomorrow|again|names?|a|an|the|about|for|to|and|my|your|his|her|their|,|more|less|not|maybe|only|better|well|personally)\b.*"
)
_WHAT_TO_CALL_ME = rx(
    r"(?:.*\bchange\b.*\b(?:you )?(?:call|refer to|address|use) ?(?:me|to)?\b.*|.*\bcall me (?:by )?(?:something (?:else|different|new)|(?:this|a|another|my) (?:new |different |other )?name)\b.*|.*\bchange my (?:user ?|nick)?name\b.*|.*\bi (?:have|want|need|would like) (?:a|to use a) (?:new|different) name\b.*)"
)
_NAME_MAYBE = rx(
    r"(?:i am|this is|it is|its|here is|you are (?:speaking|talking) (?:to|with)|you have got|me is) (?P<rest>.+)"
)
_NAME_TRAILING = re.compile(
    r"(?P<rest>[\w'. -]+?) (?P<tail>(?:here|speaking|calling|on the line|on the phone|again)(?: again)?)$",
    re.IGNORECASE,
)
_IS_MY_NAME_TOO = rx(
    r"(?P<rest>(?!what\b|that\b|this\b|who\b|it\b|is\b|where\b)[\w'. -]+?) is (?:my|the) (?:first |full |real )?name(?: .*)?"
)
_NOT_MY_NAME = rx(r"(?:my name is not|i am not called|that is not my name|do not call me|stop calling me)\b.*")
_WRONG_NAME = rx(r"(?:i am|it is|this is) not (?P<rest>(?!an?\b|the\b|my\b|your\b).+)")
_PARTICLES = word_set("van von de der den da di del della dos la le el al bin ibn ben st st. o'")
_TITLES = word_set("dr mr mrs ms miss prof professor doctor sir dame captain")
_ADJECTIVE = re.compile(
    r".*(?:ed|ing|ful|less|ous|able|ible|ish|ical|ive|ary|ory|ist|ese|tial|tional|ent|ant|wise|ward|some|ally|ly|sick|mare)$"
)
_NO_NAMES = word_set(
    """human people student customer client guest user member caller nobody mom dad mum toast game person kid adult man
    woman boy girl teacher nurse lawyer engineer developer programmer driver chef cook artist writer designer yours
    santa god fan boss manager ceo owner tester visitor beginner gamer runner"""
)
_LETTERS = re.compile(r"[^\W\d_][^\W\d_.'-]*(?:[.'-][^\W\d_]*)*\.?")


def _capitalised(word: str) -> bool:
    return word[:1].isupper()


def take_name(rest: str, *, sure: bool, opening: bool = False) -> tuple[str, str]:
    """Take a name off the beginning of `rest`.

    Args:
        rest: what follows "my name is" or "I am".
        sure: whether a name was announced, as in "my name is"; else "tired" has to be told from "Robin".
        opening: whether it follows a greeting, where people give their names.

    Returns:
        The name, empty when it is none, and what follows it.
    """
    tokens = rest.strip(' .,!?"').replace(",", " , ").split()
    if spelled := re.match(r"(?:[^\W\d_][ .-]+){2,}[^\W\d_](?=$|[ ,.])", rest):
        letters = re.sub(r"[^\w]", "", spelled[0])
        return letters.capitalize(), rest[spelled.end() :].strip(" ,.")
    taken: list[str] = []
    for token in tokens:
        word = token.casefold()
        if len(taken) == 5 or not _LETTERS.fullmatch(token):
            break
        if word in NAME_STOPS and not (taken and word in _PARTICLES):
            break
        if taken and not (_capitalised(token) == _capitalised(taken[0]) or word in _PARTICLES):
            break
        if taken and not _capitalised(token) and (len(taken) == 3 or word in TRANSIENT - FIRST_NAMES):
            break
        taken.append(token)
    while len(taken) > 1 and taken[-1].casefold() in _PARTICLES:
        taken.pop()
    left = " ".join(tokens[len(taken) :])
    if not taken or not (sure or _may_be_a_name(taken, left, opening=opening)):
        return "", rest
    if sure and len(taken) == 1 and taken[0].casefold() in TRANSIENT - FIRST_NAMES and not _capitalised(taken[0]):
        return "", rest
    particles = [word.islower() and word in _PARTICLES and place > 0 for place, word in enumerate(taken)]
    name = [word if particle else _as_name(word) for word, particle in zip(taken, particles, strict=True)]
    return " ".join(name), left.strip(" ,.")


def _may_be_a_name(taken: list[str], left: str, *, opening: bool = False) -> bool:
    first = taken[0].casefold().rstrip(".")
    if first in TRANSIENT or first in DURABLE or first in LANGUAGES or first in _NO_NAMES:
        return first in FIRST_NAMES and _capitalised(taken[0])
    if first in FIRST_NAMES or (first in _TITLES and len(taken) > 1):
        return True
    if _capitalised(taken[0]):
        # "I am German" and "I am Vegan" are caught above; what else has a capital after "I am" is a name.
        return not _ADJECTIVE.fullmatch(first) or len(taken) > 1
    return opening and not left and len(taken) == 1 and len(first) > 2 and not _ADJECTIVE.fullmatch(first)


def _as_name(word: str) -> str:
    if word.islower() or (word.isupper() and len(word) > 3):
        return re.sub(r"(^|[-'])(\w)", lambda match: match[1] + match[2].upper(), word.lower())
    return word


def name_given(text: str, *, opening: bool = False) -> tuple[list[Intent], str] | None:
    """Understand a statement of one's name; returns the intents and what follows the name.

    `opening` says that it follows a greeting.
    """
    if _NOT_MY_NAME.fullmatch(text):
        return [Talk("tell_field", "name")], ""
    if wrong := _WRONG_NAME.fullmatch(text):
        name, left = take_name(wrong["rest"], sure=False)
        return ([Talk("tell_field", "name")], left) if name else None
    if reversed_ := _IS_MY_NAME_TOO.fullmatch(text):
        text = f"my name is {reversed_['rest']}"
    if _WHAT_TO_CALL_ME.fullmatch(text) and not NAME_SURE.match(text):
        return [Talk("tell_field", "name")], ""
    if not NAME_SURE.match(text) and (somewhere := _NAME_SOMEWHERE.fullmatch(text)):
        rest = next(filter(None, somewhere.groups()))
        if not _NO_NAME_FOLLOWS.fullmatch(rest):
            text = f"my name is {rest}"
    sure = NAME_SURE.match(text)
    match = sure or _NAME_MAYBE.match(text)
    rest = match["rest"] if match else text
    trailing = _NAME_TRAILING.fullmatch(rest)
    if trailing:
        rest = trailing["rest"]
    if not match and not (trailing and len(rest.split()) <= 3 and _may_be_a_name(rest.split(), "")):
        return None
    name, left = take_name(rest, sure=bool(sure), opening=opening)
    if not name:
        return None
    return [SetProfile("name", name)], left
