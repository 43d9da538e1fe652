"""Whether a clause is about an order, and about which."""

from __future__ import annotations

import re

from lkmongo.agent.responder.clauses import Clause
from lkmongo.agent.responder.intents import Intent, Knowledge, LookUpOrder, Talk
from lkmongo.agent.responder.text import rx
from lkmongo.secret_shapes import spoken_to_digits

ID = r"\#?(?:[a-z]{1,6}[-_])?(?=[\w-]*\d)[a-z\d][\w-]*"
_NOUN = r"(?:orders?|packages?|parcels?|shipments?|purchases?|deliver(?:y|ies)|tracking)"
_NUMBER = r"(?:number|numbers|no\.?|nr\.?|num|id|ids|code|reference|ref|\#)"
_LISTED = rf"(?P<ids>{ID}(?:(?:,| and| or|, and| plus| as well as)(?: {_NOUN})?(?: {_NUMBER})? {ID})*)"
_WITH_ID = rx(
    rf"\b{_NOUN}(?:'s)?(?: (?:status|called|with))*(?: {_NUMBER})*(?:'s| is|:| was| would be)?(?: the)? ?{_LISTED}(?!\w)"
)
_OF_ORDER = r"(?:^|[,:;] |\b(?:order|package|parcel|shipment|delivery|tracking|confirmation|reference|the|its|is|my|that|and|with) )"
_NUMBER_IS = rx(rf"(?:{_OF_ORDER}{_NUMBER}|\b(?:it|that)) (?:is|would be|was) {_LISTED}(?!\w)")
_IS_ORDER = rx(rf"{_LISTED} (?:is|are|was) (?:my|the) (?:order|package|parcel|number|tracking)\b.*")
_NUMBERED = rx(rf"{_OF_ORDER}{_NUMBER}(?: is)? {_LISTED}(?!\w)")
_HASHED = re.compile(r"#\s?(?P<ids>(?=[\w-]*\d)[\w-]+)")
_ABOUT_ID = rx(
    rf"""
    (?:(?:has|have|did|is|was|will|where is|where are|where|status|status of|status for|the status of|what is the status of|what about|how about|whatabout
    |what is (?:up|happening|going on) with|track|look up|lookup|check(?: on| up on)?|find|i mean|i meant|make that|and|what is with
    |how is|(?:.* )?(?:update|news|status|info|information|details) (?:on|of|for|about)) )
    {_LISTED}(?P<rest>(?: .*)?)
    """
)
_BARE = rx(rf"(?:order |number |{_NUMBER} )*{_LISTED}")
_STATUS_WORD = rx(
    r"\b(?:shipp?ed|ship|arrived?|arriving|deliver(?:ed|y|ing)?|sent|left|dispatched|status|come|coming|here|there|late|delayed|lost|processed|packed|been|on (?:its|the) way|out|is|get|got|gone out|go|gone|ready|due)\b"
)

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
    r"|\b(?:i|we) (?:\w+ ){0,2}ordered\b|\b(?:things?|stuff|shoes|items?|goods|products?) (?:that )?i (?:ordered|bought)\b|\bmy stuff\b"
)
_ASKS_STATUS = rx(
    r"\b(?:where|when|status|track\w*|locat\w+|tack|arriv\w+|shipp?ed|ship|deliver(?:ed|ing)|here|due|show(?:ed|n)? up|dropped off|distributed|updates?|ready|late|delayed|lost|missing|check(?:ing)? (?:on|up|my|the|an)|look(?:ing)? (?:up|for|into|at)|find|update|news|happen\w*|eta|on (?:its|the) way|get(?:ting)? here|"
    r"waiting|not (?:arrived|come|received|shown|here|got|been|get)|never (?:came|arrived|got|received)|did not (?:arrive|come|receive|get)|have not (?:received|got)|going on|coming|sent|left|how (?:soon|long until|long before|long till)|"
    r"progress|whereabouts|in my order|about (?:my|an|the) (?:order|package|parcel|delivery)|expect|received|here yet|out for delivery|question (?:on|about|regarding)|look up|know about)\b"
)
_PROCESS = rx(
    r"\b(?:cancel\w*|return\w*|chang\w+|exchang\w+|refund\w*|polic\w+|costs?|fees?|minimum|damaged|broken|wrong|insurance|place|placing|make|modify|edit|remove|pay|checks|checkbooks?|pizza|benefits?|credit|card|interest|apr|vacation|shopping list|amazon a)\b"
)
_CHANGES = rx(
    r"(?:please )?(?:cancel|change|modify|return|refund|delete|update)\b|(?:can|could) (?:i|you) (?:cancel|change|return)|i (?:want|need|would like) to (?:cancel|change|return)"
)
_ANOTHER = rx(
    r"(?:and )?(?:what about |how about |check )?(?:another|the other|one more|a different|my other|the next)(?: one| order)?"
)
_SOME_ORDER = rx(
    r"""
    (?:order status|track(?:ing)?(?: my)?(?: order| package| parcel)?
    |(?:check |look ?up |find |track )?(?:my |an |the |on my |on an )?(?:order|package|parcel)(?: (?:status|lookup|look up|number|information|info|details))?
    |i (?:want|need|would like) to (?:check|track|look up|find|know about|ask about) (?:on )?(?:my|an|the) (?:order|package|parcel))
    """
)
_AMOUNT = re.compile(
    r" ?(?:%|\$|€|dollars?|euros?|pounds?|percent|days?|weeks?|hours?|items?|years?|kg|am\b|pm\b)", re.IGNORECASE
)
_ANY_ID = re.compile(r"(?<![\w@.])#?((?=[\w-]*\d)[A-Za-z\d][\w-]*)(?![\w@])")
_LONG_ID = re.compile(r"\d{4}|\d.*\d.*\d.*[A-Za-z]|[A-Za-z].*\d.*\d.*\d")
_MOVES = re.compile(
    r"\b(?:shipp?(?:ed|ing)?|delivered|arrived|arriving|dispatched|track(?:ing)?|on its way|sent out)\b", re.IGNORECASE
)
_LETTERS = re.compile(r"(?:it is |the number is |number )?[A-Z]{2,}[A-Z-]*")
_LIST_ORDERS = rx(
    r"""
    (?:what (?:is|are|was|were|is in|was in|were in) my (?:recent |most recent |last |past |previous |latest |open )?orders?|(?:list|show|show me|tell me|give me|read|see|view|what about)(?: all)?(?: of)? my (?:recent |last |past |previous |open )?orders|
    what (?:did i|have i|i|all did i) (?:recently |last )?(?:order|ordered|buy|bought|purchased?)\b.*|(?:which|what|how many) orders (?:do i have|have i|did i|are)\b.*|my (?:order history|orders|past orders|recent orders)|do i have any (?:open |pending |recent )?orders.*|
    have i ordered (?:anything|something).*|what is my (?:last|latest|most recent) order)
    """
)
_NO_NUMBER = rx(
    r"""
    .*\b(?:do not (?:know|have|remember)|no idea|not sure|cannot (?:find|remember)|lost|forgot|forgotten|without|do not have) ?(?:the |my |that |an? |it|order )*(?:number|id|it|that|one|what it is)?\b.*|
    where (?:do|can|would) i (?:find|get|see) (?:it|that|the number|my order number|the order number).*|what (?:(?:the |my )?(?:order )?number(?: is)?|it is)|i have no (?:number|idea).*
    """
)
_ASKS_ANYWAY = rx(
    r"(?:can|could|may|are) (?:you|i|we) (?:please |just |also |able to )?(?:check|track|tack|locate|find|look|see|get|have|know|hear|ask about)\b|how (?:soon|long (?:until|before|till))\b|(?:can|do) you (?:know|have|see)\b.*\bmy (?:order|package|parcel)"
)


def orders(clause: Clause, *, after_order: bool = False) -> list[Intent] | None:  # noqa: PLR0911 - forms, in their order
    """Understand a clause about an order.

    Args:
        clause: what was said.
        after_order: whether the turn before was about an order, so that a number alone means another one.
    """
    text = spoken_to_digits(clause.text)
    if ids := _named_ids(text, after_order=after_order):
        return [Talk("cannot_change_order"), *ids] if _CHANGES.match(text) else ids
    if after_order and _ANOTHER.fullmatch(clause.text):
        return [LookUpOrder()]
    if _LIST_ORDERS.fullmatch(text):
        return [Talk("orders_by_number")]
    if _SOME_ORDER.fullmatch(text):
        return [LookUpOrder()]
    if _HOW_TO.match(text) and not _ASKS_ANYWAY.match(text):
        return None
    if about_some_order(text):
        return [LookUpOrder()]
    if _MINE.search(text) and (clause.asked or clause.command) and _PROCESS.search(text):
        return [Knowledge(clause.text)]
    return None


def answer_with_number(text: str) -> list[Intent] | None:
    """Understand what follows on "which order?": any number, or that there is none."""
    if found := _ANY_ID.findall(spoken_to_digits(text)):
        return _look_up(found)
    if _LETTERS.fullmatch(text):
        return _look_up(text.split()[-1:])
    return [Talk("no_order_number")] if _NO_NUMBER.fullmatch(text) else None


def _named_ids(text: str, *, after_order: bool) -> list[Intent]:
    """The ids that a clause names as those of orders."""
    if match := _BARE.fullmatch(text):
        ids = _ids(match["ids"])
        long_enough = any(len(re.sub(r"\D", "", found)) >= 3 for found in ids)
        if after_order or long_enough or "order" in text.casefold() or "#" in text:
            return _look_up(ids)
    match = _IS_ORDER.fullmatch(text) or _before_amount(_WITH_ID.search(text))
    hashed = _before_amount(_HASHED.search(text))
    if not match and hashed and len(hashed["ids"]) > 2:
        match = hashed
    if not match and names_an_order(text):
        match = _NUMBERED.search(text)
    if not match and (about := _ABOUT_ID.fullmatch(text)):
        match = about if not about["rest"] or _STATUS_WORD.search(about["rest"]) else None
    if not match and _MOVES.search(text) and (found := [one for one in _ANY_ID.findall(text) if _LONG_ID.search(one)]):
        return _look_up(found)
    if not match and after_order:
        match = _NUMBER_IS.search(text)
    return _look_up(_ids(match["ids"])) if match else []


def _before_amount(match: re.Match[str] | None) -> re.Match[str] | None:
    """None when the number counts something, as in "a package of 20 dollars"."""
    return None if match and _AMOUNT.match(match.string, match.end()) else match


def _ids(listed: str) -> list[str]:
    return re.findall(r"(?=[\w-]*\d)[\w-]+", listed)


def _look_up(ids: list[str]) -> list[Intent]:
    return [LookUpOrder(order_id[:128]) for order_id in dict.fromkeys(ids)]


def goes_on_about_it(text: str) -> bool:
    """Whether a clause asks how "it" stands, when an order was named just before."""
    return bool(
        re.search(r"\b(?:it|they|them)\b", text, re.IGNORECASE) and (_ASKS_STATUS.search(text) or len(text.split()) < 5)
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
