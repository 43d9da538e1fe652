"""Whether a clause is about an order, and which: ids in digits, letters and spoken numbers."""

from __future__ import annotations

import re

from lkmongo.agent.responder.clauses import Clause
from lkmongo.agent.responder.intents import Intent, Knowledge, LookUpOrder, Talk
from lkmongo.agent.responder.text import rx

_UNITS = {
    **{"zero": "0", "oh": "0", "o": "0", "nought": "0", "one": "1", "two": "2", "three": "3", "four": "4"},
    **{"five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10", "eleven": "11"},
    **{"twelve": "12", "thirteen": "13", "fourteen": "14", "fifteen": "15", "sixteen": "16"},
    **{"seventeen": "17", "eighteen": "18", "nineteen": "19"},
}
_TENS = {
    word: 10 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}
_SPOKEN = rf"(?:{'|'.join([*_UNITS, *_TENS, 'hundred', 'thousand', 'double', 'triple'])})"
_SPOKEN_RUN = re.compile(rf"\b{_SPOKEN}(?:[ -](?:and )?{_SPOKEN})*\b", re.IGNORECASE)
_DIGIT_RUN = re.compile(r"\b\d(?:[ -]\d+)+\b")

ID = r"\#?(?:[a-z]{1,6}[-_])?(?=[\w-]*\d)[a-z\d][\w-]*"
_NOUN = r"(?:orders?|packages?|parcels?|shipments?|purchases?|deliver(?:y|ies)|tracking)"
_NUMBER = r"(?:number|numbers|no\.?|nr\.?|num|id|ids|code|reference|ref|\#)"
_LISTED = rf"(?P<ids>{ID}(?:(?:,| and| or|, and| plus| as well as)(?: {_NOUN})?(?: {_NUMBER})? {ID})*)"
_WITH_ID = rx(
    rf"\b{_NOUN}(?:'s)?(?: (?:status|called|with))*(?: {_NUMBER})*(?:'s| is|:| was| would be)?(?: the)? ?{_LISTED}(?!\w)"
)
_NUMBER_IS = rx(rf"\b(?:{_NUMBER}|it|that) (?:is|would be|was) {_LISTED}(?!\w)")
_IS_ORDER = rx(rf"{_LISTED} (?:is|are|was) (?:my|the) (?:order|package|parcel|number|tracking)\b.*")
_NUMBERED = rx(rf"\b(?:{_NUMBER})(?: is)? {_LISTED}(?!\w)")
_HASHED = re.compile(r"#\s?(?P<ids>(?=[\w-]*\d)[\w-]+)")
_ABOUT_ID = rx(
    rf"""
    (?:(?:has|have|did|is|was|will|where is|where are|where|status|status of|status for|the status of|what is the status of|what about|how about|whatabout
    |what is (?:up|happening|going on) with|track|look up|lookup|check(?: on| up on)?|find|i mean|i meant|make that|and|what is with
    |how is|update on|any news on|any update on|news about) )
    {_LISTED}(?P<rest>(?: .*)?)
    """
)
_BARE = rx(rf"(?:order |number |{_NUMBER} )*{_LISTED}")
_STATUS = r"(?:shipp?ed|ship|arrived?|arriving|deliver(?:ed|y|ing)?|sent|left|dispatched|status|come|coming|here|there|late|delayed|lost|processed|packed|been|on (?:its|the) way|out|is|get|got|gone out|go|gone|ready|due)"

_HOW_TO = rx(
    r"""
    (?:how (?:do|can|could|should|would|does|to|long|much|many|are|is an)\b|can (?:i|you|we)\b(?!.*\b(?:order|package|parcel) (?:been|arrive))|could i|may i|should i|am i able|is it possible|do i\b|do you\b|what (?:if|happens|do i do|should i do|is the (?:minimum|maximum|process|procedure|cut))
    |i (?:want|would like|need|have) to (?:cancel|return|change|place|make|modify|exchange|order|send)|cancel|return|change|place|modify|exchange|refund|why (?:do|does)|where (?:do|can|should) i|when (?:do|does|is an|are)|is there a|are there|do orders|order (?:a|an|me|some|the)\b|what is an?\b|i (?:am|was) trying to (?:cancel|return|change|place)|help me (?:cancel|return|change|place)
    |i ordered the wrong)
    .*
    """
)
_MINE = rx(
    rf"\b(?:my|our|me|the|this|that|an|a|last|latest|recent|previous|some) (?:[\w-]+ ){{0,2}}(?:{_NOUN}|ordered|packaged|deliver)\b|\b(?:order|package|parcel) status\b|\b(?:status|track\w*|whereabouts|eta) (?:of |on |for |my |the |an |our )*{_NOUN}"
    r"|\b(?:i|we) (?:\w+ ){0,2}ordered\b|\b(?:things?|stuff|shoes|items?|goods|products?) (?:that )?i (?:ordered|bought)\b|\bwhere is my stuff\b"
)
_ASKS_STATUS = rx(
    r"\b(?:where|when|status|track\w*|locat\w+|tack|arriv\w+|shipp?ed|ship|deliver(?:ed|ing)|here|due|show(?:ed|n)? up|dropped off|distributed|updates?|ready|late|delayed|lost|missing|check(?:ing)? (?:on|up|my|the|an)|look(?:ing)? (?:up|for|into|at)|find|update|news|happen\w*|eta|on (?:its|the) way|get(?:ting)? here|"
    r"waiting|not (?:arrived|come|received|shown|here|got|been|get)|never (?:came|arrived|got|received)|did not (?:arrive|come|receive|get)|have not (?:received|got)|going on|coming|sent|left|how (?:soon|long until|long before|long till)|"
    r"progress|whereabouts|in my order|about (?:my|an|the) (?:order|package|parcel|delivery)|expect|received|here yet|out for delivery|question (?:on|about|regarding)|look up|know about)\b"
)
_PROCESS = rx(
    r"\b(?:cancel\w*|return\w*|chang\w+|exchang\w+|refund\w*|polic\w+|costs?|fees?|minimum|damaged|broken|wrong|insurance|place|placing|make|modify|edit|remove|pay|checks|checkbooks?|pizza|benefits?|credit|card|interest|apr|vacation|shopping list|amazon a)\b"
)
_LIST_ORDERS = rx(
    r"""
    (?:what (?:are|were|is in|were in) my (?:recent |last |past |previous |latest |open )?orders|(?:list|show|show me|tell me|give me|read|see|view|what about)(?: all)?(?: of)? my (?:recent |last |past |previous |open )?orders|
    what (?:did i|have i|i|all did i) (?:recently |last )?(?:order|ordered|buy|bought|purchased?)\b.*|(?:which|what|how many) orders (?:do i have|have i|did i|are)\b.*|my (?:order history|orders|past orders|recent orders)|do i have any (?:open |pending |recent )?orders.*|
    have i ordered (?:anything|something).*|what is my (?:last|latest|most recent) order)
    """
)
_NO_NUMBER = rx(
    r"""
    .*\b(?:do not (?:know|have|remember)|no idea|not sure|cannot (?:find|remember)|lost|forgot|forgotten|without|do not have) ?(?:the |my |that |an? |it|order )*(?:number|id|it|that|one|what it is)?\b.*|
    where (?:do|can|would) i (?:find|get|see) (?:it|that|the number|my order number|the order number).*|what (?:order )?number|i have no (?:number|idea).*
    """
)


def spoken_to_digits(text: str) -> str:
    """Write spoken numbers as digits: "one zero zero one" and "ten oh one" are 1001, "1 0 0 2" is 1002."""
    text = re.sub(r"\b([a-z]) (?:dash|hyphen|minus) ", lambda match: f"{match[1].upper()}-", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=\w) (?:dash|hyphen) (?=\w)", "-", text, flags=re.IGNORECASE)
    text = _SPOKEN_RUN.sub(lambda match: _digits(match[0].casefold().replace("-", " ").split()), text)
    text = re.sub(r"\b([A-Z]-)(\d) (?=\d)", r"\1\2", text)
    return _DIGIT_RUN.sub(lambda match: re.sub(r"[ -]", "", match[0]) if " " in match[0] else match[0], text)


def _digits(said: list[str]) -> str:
    if "thousand" in said or "hundred" in said:
        return _cardinal(said)
    out, times, index = "", 1, 0
    while index < len(said):
        word = said[index]
        if word in {"double", "triple"}:
            times = 2 if word == "double" else 3
        elif word in _TENS:
            value = _TENS[word]
            following = _UNITS.get(said[index + 1], "") if index + 1 < len(said) else ""
            if len(following) == 1 and following != "0":
                value += int(following)
                index += 1
            out += str(value)
        elif word in _UNITS:
            out += _UNITS[word] * times
            times = 1
        index += 1
    return out or " ".join(said)


def _cardinal(said: list[str]) -> str:
    total, part = 0, 0
    for word in said:
        if word == "thousand":
            total, part = total + (part or 1) * 1000, 0
        elif word == "hundred":
            part = (part or 1) * 100
        elif word in _TENS:
            part += _TENS[word]
        elif word in _UNITS:
            part += int(_UNITS[word])
    return str(total + part)


def _ids(listed: str) -> list[Intent]:
    found = re.findall(r"(?=[\w-]*\d)[\w-]+", listed)
    return [LookUpOrder(order_id[:128]) for order_id in dict.fromkeys(found)]


def _is_amount(text: str, end: int) -> bool:
    """Whether a number counts something, as in "a package of 20 dollars"."""
    return (
        re.match(
            r" ?(?:%|\$|€|dollars?|euros?|pounds?|percent|days?|weeks?|hours?|items?|years?|kg|am\b|pm\b)", text[end:]
        )
        is not None
    )


def answer_with_number(text: str) -> list[Intent] | None:
    """Understand what follows on "which order?": any number, or that there is none."""
    digits = spoken_to_digits(text)
    if found := re.findall(r"(?<![\w@.])#?((?=[\w-]*\d)[A-Za-z\d][\w-]*)(?![\w@])", digits):
        return [LookUpOrder(order_id[:128]) for order_id in dict.fromkeys(found)]
    if re.fullmatch(r"(?:it is |the number is |number )?[A-Z]{2,}[A-Z-]*", text):
        return _letters(text)
    if _NO_NUMBER.fullmatch(text):
        return [Talk("no_order_number")]
    return None


def _letters(text: str) -> list[Intent]:
    return [LookUpOrder(text.split()[-1][:128])]


def orders(clause: Clause, *, after_order: bool = False) -> list[Intent] | None:
    """Understand a clause about an order.

    Args:
        clause: what was said.
        after_order: whether the turn before was about an order, so that a number alone means another one.
    """
    text = spoken_to_digits(clause.text)
    if match := _BARE.fullmatch(text):
        ids = _ids(match["ids"])
        if (
            after_order
            or "order" in text.casefold()
            or "#" in text
            or any(len(re.sub(r"\D", "", i.order_id or "")) >= 3 for i in ids if isinstance(i, LookUpOrder))
        ):
            return ids
    if match := _IS_ORDER.fullmatch(text):
        return _ids(match["ids"])
    for pattern in (_WITH_ID, _HASHED):
        if (
            (match := pattern.search(text))
            and (pattern is _WITH_ID or len(match["ids"]) > 2)
            and not _is_amount(text, match.end())
        ):
            if re.match(
                r"(?:please )?(?:cancel|change|modify|return|refund|delete|update)\b|(?:can|could) (?:i|you) (?:cancel|change|return)|i (?:want|need|would like) to (?:cancel|change|return)",
                text,
                re.IGNORECASE,
            ):
                return [Talk("cannot_change_order"), *_ids(match["ids"])]
            return _ids(match["ids"])
    if names_an_order(text) and (match := _NUMBERED.search(text)):
        return _ids(match["ids"])
    if (match := _ABOUT_ID.fullmatch(text)) and (
        not match["rest"] or re.search(rf"\b{_STATUS}\b", match["rest"], re.IGNORECASE)
    ):
        return _ids(match["ids"])
    if after_order and (match := _NUMBER_IS.search(text)):
        return _ids(match["ids"])
    if after_order and re.fullmatch(
        r"(?:and )?(?:what about |how about |check )?(?:another|the other|one more|a different|my other|the next)(?: one| order)?",
        text,
        re.IGNORECASE,
    ):
        return [LookUpOrder()]
    if _LIST_ORDERS.fullmatch(text):
        return [Talk("orders_by_number")]
    if re.fullmatch(
        rf"(?:order status|track(?:ing)?(?: my)?(?: order| package| parcel)?|(?:check |look ?up |find |track )?(?:my |an |the |on my |on an )?(?:order|package|parcel)(?: (?:status|lookup|look up|number|information|info|details))?|i (?:want|need|would like) to (?:check|track|look up|find|know about|ask about) (?:on )?(?:my|an|the) (?:order|package|parcel))",
        text,
        re.IGNORECASE,
    ):
        return [LookUpOrder()]
    if _HOW_TO.match(text) and not _ASKS_ANYWAY.match(text):
        return None
    if about_some_order(text):
        return [LookUpOrder()]
    if _MINE.search(text) and (clause.asked or clause.command) and _PROCESS.search(text):
        return [Knowledge(clause.text)]
    return None


_ASKS_ANYWAY = rx(
    r"(?:can|could|may|are) (?:you|i|we) (?:please |just |also |able to )?(?:check|track|tack|locate|find|look|see|get|have|know|hear|ask about)\b|how (?:soon|long (?:until|before|till))\b|(?:can|do) you (?:know|have|see)\b.*\bmy (?:order|package|parcel)"
)


def goes_on_about_it(text: str) -> bool:
    """Whether a clause asks how "it" stands, when an order was named just before."""
    return bool(
        re.search(r"\b(?:it|they|that|them)\b", text, re.IGNORECASE)
        and (_ASKS_STATUS.search(text) or len(text.split()) < 5)
    )


def names_an_order(text: str) -> bool:
    """Whether a whole utterance speaks of an order, so that a number in it is an order's."""
    return (
        re.search(rf"\b(?:{_NOUN}|ordered)\b", text, re.IGNORECASE) is not None
        and re.search(rf"(?:\b(?:number|id)|#) ?{ID}", text, re.IGNORECASE) is not None
    )


def about_some_order(text: str) -> bool:
    """Whether a text asks how it stands with an order that it does not name."""
    return bool(_MINE.search(text) and _ASKS_STATUS.search(text) and not _PROCESS.search(text))
