"""Numbers as they are spoken, and dates, times and amounts: which words belong to one, and its digits."""

from __future__ import annotations

import re
from calendar import month_name
from dataclasses import dataclass

from lkmongo.detectors.plain import TENS, TIMES, UNITS, cardinal

_I = re.IGNORECASE

ZERO = "zero|oh|o|nought"
ONE = "|".join(word for word, value in UNITS.items() if len(value) == 1 and value != "0")
TEEN = "|".join(word for word, value in UNITS.items() if len(value) > 1)
TEN = "|".join(TENS)
BELOW_HUNDRED = rf"(?:(?:{TEN})(?:[ -](?:{ONE})\b)?|(?:{TEEN})\b|(?:{ONE})\b)"
_HUNDREDS = rf"(?:{BELOW_HUNDRED} hundred\b(?: (?:and )?{BELOW_HUNDRED})?)"
_BELOW_THOUSAND = rf"(?:{_HUNDREDS}|{BELOW_HUNDRED})"
_THOUSANDS = rf"(?:{_BELOW_THOUSAND} thousand\b(?: (?:and )?{_BELOW_THOUSAND})?)"
CARDINAL = rf"(?:{_THOUSANDS}|{_BELOW_THOUSAND})"
"""A number in words, such as "four thousand seven hundred and eleven"."""
_PART = rf"(?:(?:{'|'.join(TIMES)}) (?:{ONE}|{ZERO})\b|(?:{ZERO})\b|{CARDINAL})"
RUN = re.compile(rf"(?<![\w'-])(?!o\b){_PART}(?:(?:[ -]|, ){_PART})*(?![\w'])", _I)
"""Numbers one behind the other: "four seven one one", "forty seven eleven", "four one five, five five five"."""
_PARTS = re.compile(rf"(?P<comma>, )?(?P<part>{_PART})", _I)


@dataclass(frozen=True, slots=True)
class Part:
    """A number of a run, from `start` to `end` in the text; `comma` says whether one is before it."""

    words: str
    start: int
    end: int
    comma: bool

    @property
    def digits(self) -> str:
        return digits_of(self.words)

    @property
    def is_digit(self) -> bool:
        """Whether it is one digit, or the same one twice or thrice."""
        first = self.words.casefold().split(" ")[0]
        return first in TIMES or len(UNITS.get(first, "--")) == 1 == len(self.words.split(" "))


def parts_of(run: re.Match[str]) -> list[Part]:
    """The numbers of a run."""
    found = _PARTS.finditer(run.string, *run.span())
    return [Part(each["part"], each.start("part"), each.end("part"), bool(each["comma"])) for each in found]


def digits_of(words: str) -> str:
    """The digits of one number: "711" of "seven hundred and eleven", "00" of "double oh"."""
    names = words.casefold().replace("-", " ").split()
    if names[0] in TIMES:
        return UNITS[names[1]] * TIMES[names[0]]
    return UNITS[names[0]] if names[0] in UNITS and len(names) == 1 else cardinal(names)


# ------------------------------------------------------------------ dates, times, amounts

_ORDINALS = {
    word: value
    for value, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
        "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth".split(),
        start=1,
    )
}
_DAYS = _ORDINALS | {"thirtieth": 30, "thirty first": 31}
_DAYS |= {f"twenty {word}": 20 + value for word, value in _ORDINALS.items() if value < 10}
DAY = "|".join(word.replace(" ", "[ -]") for word in sorted(_DAYS, key=len, reverse=True))
_MONTH = "|".join(month_name[1:])
_ERA = (
    rf"(?:(?:nineteen|twenty)[ -](?:(?:oh|o) (?:{ONE})|(?:{TEN})(?:[ -](?:{ONE}))?|{TEEN})"
    rf"|two thousand(?: and)? {BELOW_HUNDRED})\b"
)
_DATE = re.compile(
    rf"\b(?:(?P<the>the )?(?P<day>{DAY}) of (?P<month>{_MONTH})|(?P<month_first>{_MONTH}) (?P<the_day>the )?"
    rf"(?P<day_last>{DAY}))\b(?! ones?\b)(?:,? (?P<year>{_ERA}))?",
    _I,
)
_YEAR = re.compile(
    rf"(?P<before>\b(?:in|since|until|year|born|of|(?:{_MONTH})(?: \d{{1,2}})?,?) )(?P<year>{_ERA})"
    rf"(?![ -](?:{ONE})\b)"
    r"(?! (?:thousand|hundred|percent|per cent|dollars?|euros?|pounds?|minutes?|hours?|days?|weeks?|people|times?"
    r"|point)\b)",
    _I,
)
_TIME = re.compile(
    rf"(?<![\w-])(?P<hour>{ONE}|ten|eleven|twelve)(?:[ -](?:(?:oh|o)[ -](?P<few>{ONE})|(?P<minute>(?:ten|{TEEN}|"
    rf"(?:twenty|thirty|forty|fifty)(?:[ -](?:{ONE}))?))))?"
    r"(?P<half> (?:[ap]\.m\.?|[ap]\.? ?m\b))(?! (?:I|not|the|a)\b)",
    _I,
)
_I_FOR_ONE = re.compile(r"\bI,? for $", _I)
_MONEY = re.compile(
    rf"(?<![\w-])(?<!and )(?<!point )(?<!hundred )(?<!thousand )(?<!million )(?<!a )(?P<whole>{CARDINAL}) "
    rf"(?P<kind>dollars|euros|pounds)(?:,? (?:and )?(?P<part>{BELOW_HUNDRED}) (?:cents?|pence|p\b))?"
    r"(?! (?:a|per|and a) \w+ (?:cent)s?\b)",
    _I,
)
_TWICE = re.compile(rf"\b(?:{'|'.join(TIMES)}) $", _I)
_GOES_BEFORE = re.compile(rf"\b(?:{ONE}|{TEEN}|{TEN}|{'|'.join(TIMES)})[ -]$", _I)
_SIGNS = {"dollars": "$", "euros": "\u20ac", "pounds": "\u00a3"}
_DIGIT = rf"(?:{ZERO}|{ONE})"
_PERCENT = re.compile(
    rf"(?<![\w-])(?<!and )(?<!point )(?<!hundred )(?<!thousand )(?<!a )(?P<whole>{CARDINAL}|zero)"
    rf"(?: point (?P<part>{_DIGIT}(?: {_DIGIT})*))? per ?cent\b",
    _I,
)
_VERSION = re.compile(rf"(?P<before>\bversion )(?P<parts>{CARDINAL}(?: point (?:{CARDINAL}|zero))+)\b", _I)


def dates_and_amounts(text: str) -> str:
    """The text with dates, years, times, amounts of money, percentages and versions in digits."""
    if re.search(rf"{DAY}|teen|ty\b|two thousand", text, _I):
        text = _DATE.sub(_date, text)
        text = _YEAR.sub(lambda match: match["before"] + _year(match["year"]), text)
    text = _TIME.sub(_time, text)
    text = _MONEY.sub(_money, text)
    text = _PERCENT.sub(_percent, text)
    return _VERSION.sub(lambda match: match["before"] + ".".join(map(digits_of, match["parts"].split(" point "))), text)


def _date(match: re.Match[str]) -> str:
    month = match["month"] or match["month_first"]
    may_be_verb = month.casefold() in {"may", "march"} and month[0].islower()
    if match["month_first"] and may_be_verb and not match["the_day"]:
        return match[0]
    day = _DAYS[(match["day"] or match["day_last"]).casefold().replace("-", " ")]
    return f"{month.capitalize()} {day}" + (f", {_year(match['year'])}" if match["year"] else "")


def _year(words: str) -> str:
    folded = words.casefold().replace("-", " ")
    if folded.startswith("two thousand"):
        return digits_of(folded)
    century, _, rest = folded.partition(" ")
    return digits_of(century) + digits_of(rest.removeprefix("oh ").removeprefix("o ")).rjust(2, "0")


def _time(match: re.Match[str]) -> str:
    if match[0].casefold() == "one am" and _I_FOR_ONE.search(match.string[: match.start()]):
        return match[0]
    if _TWICE.search(match.string[: match.start()]):
        return match[0]  # "double five am" is not five
    minute = (
        f":0{digits_of(match['few'])}" if match["few"] else f":{digits_of(match['minute'])}" if match["minute"] else ""
    )
    return f"{digits_of(match['hour'])}{minute}{match['half']}"


def _money(match: re.Match[str]) -> str:
    if match["kind"].casefold() == "pounds" and not match["part"]:
        return match[0]  # which may be a weight
    if _GOES_BEFORE.search(match.string[: match.start()]):
        return match[0]  # "nineteen ninety nine dollars" are not 99
    part = f".{digits_of(match['part']).rjust(2, '0')}" if match["part"] else ""
    return f"{_SIGNS[match['kind'].casefold()]}{digits_of(match['whole'])}{part}"


def _percent(match: re.Match[str]) -> str:
    if _GOES_BEFORE.search(match.string[: match.start()]):
        return match[0]
    return f"{digits_of(match['whole'])}{_decimals(match['part'])}%"


def _decimals(words: str | None) -> str:
    return "." + "".join(map(digits_of, words.split(" "))) if words else ""
