"""Secrets that are known by their looks: numbers of cards, IBANs, social security numbers, keys, credentials.

What is read here is plain text: digits for words, on one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lkmongo.redact import JWT, URI_CREDENTIALS

_I = re.IGNORECASE

RUN = re.compile(r"(?<!\d)\d(?:[ .,\-\u2013\u2014/_]{0,3}\d)*")
"""Digits however they are grouped."""
CARD_KIND = re.compile(
    r"\bcards?\b|kreditkarte|kartennummer|bankkarte|\bcarte (?:bancaire|bleue|de (?:crédit|débit))|numéro de (?:la |ma )?carte|"
    r"\btarjetas?\b|\bcartão\b|\bcarta di\b|\bnumero (?:di|della) carta\b|kaartnummer|\bmaster ?card\b|\bamex\b",
    _I,
)
_ANOTHER_CARD = re.compile(
    r"\b(?:library|loyalty|member(?:ship)?|customer|club|bonus|points|student|business|rewards?|sim|graphics|video|memory|"
    r"insurance|health|train|rail|travel)[ -]?cards?\b",
    _I,
)
_OF_ANOTHER = re.compile(
    r"\b(?:orders?|tracking|parcels?|packages?|shipments?|invoices?|bookings?|reservations?|tickets?|cases?|flights?|rooms?|"
    r"apartments?|house|streets?|phones?|mobile|cell|fax|telephone|zip|postal|postcode|references?|customers?|items?|articles?|"
    r"models?|serial|versions?|pages?|years?|suites?|gates?|extensions?|call me)"
    r"(?: (?:numbers?|no\.?|nr\.?|ids?|codes?|at|on))*(?: (?:is|are|was|were)|[\s:#=,])*$",
    _I,
)
"""What stands before the number of something that is no secret."""
_NEAR = 60
"""Characters before a number that say what it is the number of."""
_LEAST_DIGITS = 9
_CARD_DIGITS = range(12, 20)
_FOUR_BY_FOUR = [4, 4, 4, 4]
_ISSUERS = re.compile(
    r"4(?:\d{15}|\d{18})|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|220[0-4]\d{12}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|"
    r"35\d{14}|(?:5[06-8]|6\d)\d{14,17}|8[12]\d{14}"
)
"""The first digits of cards, and how many they have."""
_KEY = re.compile(
    r"\b[srp]k[-_][\w-]{16,}|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}|\bxox[abprs]-[\w-]{10,}|"
    r"\bAKIA[A-Z0-9]{12,}|\bAIza[\w-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY"
)
_SSN = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
_IBAN = re.compile(r"(?<![a-z\d])[a-z] ?[a-z] ?\d ?\d(?:[ -]?[a-z\d]){11,30}", _I | re.ASCII)
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI NL", 20: "AT BA EE LT LU", 21: "CH HR LI LV SI", 22: "BG DE GB IE ME RS", 23: "AE GI IL",
        24: "CZ ES RO SA SE SK", 25: "PT", 26: "IS TR", 27: "FR GR IT SM", 28: "CY HU PL", 29: "BR EG UA", 31: "MT",
    }.items()
    for country in countries.split()
}  # fmt: skip


def digits(text: str) -> str:
    """The digits of a text."""
    return re.sub(r"\D", "", text)


def is_of_another(plain: str, start: int) -> bool:
    """Whether the number that starts there is that of something that is no secret: an order's, a house's."""
    return _OF_ANOTHER.search(plain, max(0, start - _NEAR), start) is not None


def by_looks(plain: str) -> Iterator[str]:
    """What a text holds of them, numbers as their digits."""
    if re.search("[_-]|eyJ|AKIA|AIza|://", plain):
        for pattern in (_KEY, JWT, URI_CREDENTIALS):
            yield from (found[0] for found in pattern.finditer(plain))
    if len(digits(plain)) < _LEAST_DIGITS:
        return
    yield from _cards(plain)
    for number in _SSN.finditer(plain):
        if not is_of_another(plain, number.start()):
            yield digits(number[0])
    for found in _IBAN.finditer(plain):
        compact = re.sub(r"[ -]", "", found[0]).upper()
        iban = compact[: _IBAN_LENGTHS.get(compact[:2], 0)]
        if iban and int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1:
            yield iban


def _cards(plain: str) -> Iterator[str]:
    """Numbers of cards: by their check digit, as four times four digits, or because a card is named in the text."""
    runs = [run for run in RUN.finditer(plain) if len(digits(run[0])) >= _CARD_DIGITS.start]
    is_named = bool(runs) and CARD_KIND.search(_ANOTHER_CARD.sub("", plain)) is not None
    for run in runs:
        if plain[run.start() - 1 : run.start()] == "+":
            continue  # a telephone number
        groups, may_be_one = re.findall(r"\d+", run[0]), not is_of_another(plain, run.start())
        if is_named and may_be_one:
            yield "".join(groups)
        for start in range(len(groups)):
            four = groups[start : start + 4]
            if [len(group) for group in four] == _FOUR_BY_FOUR and four[0][0] in "3456" and may_be_one:
                yield "".join(four)
            window = ""
            for group in groups[start:]:
                window += group
                if len(window) >= _CARD_DIGITS.stop:
                    break
                if _is_card(window):
                    yield window


def _is_card(number: str) -> bool:
    if not _ISSUERS.fullmatch(number):
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(number))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0
