"""E-mail addresses and phone numbers, written or spoken. All read the plain form."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lkmongo.detectors.numbers import RUN, digits
from lkmongo.detectors.plain import Found

_I = re.IGNORECASE

# ------------------------------------------------------------------ e-mail: "robin dot fletcher at example dot com"

_WRITTEN = re.compile(r"[\w.+%-]+ ?@ ?[\w-]+(?: ?\. ?[\w-]+)*", _I)
_DOT = r"(?:\.| ?(?:dot|punkt|point|punto|ponto|punt) )"
_AT = r"(?: (?:at sign|at|ät|arroba|arobase|chiocciola|klammeraffe|apenstaartje) | ?@ ?)"
_JOINED = rf"(?:{_DOT}| (?:underscore|unterstrich|tiret|guion|plus) | (?:dash|hyphen|minus|bindestrich) |[_+-])"
_LETTERS = r"[a-z\d](?: [a-z\d](?![a-z\d])){1,30}"
_NAME = rf"(?:{_LETTERS}|[a-z\d]+)(?: \d+(?= at ))?"
_SPOKEN = re.compile(
    rf"(?<![\w.])(?P<local>{_NAME}(?:{_JOINED}{_NAME}){{0,6}}){_AT}"
    rf"(?:[a-z] ){{0,20}}[a-z\d-]+(?:{_DOT}[a-z\d-]+){{0,5}}{_DOT}[a-z]{{2,10}}(?!\w)",
    _I,
)
_CUE = re.compile(r"\be-?mail(?: address| adresse)?(?: (?:is|ist|lautet|est|es|é|è|it's)| ?:)? ((?:[\w']+ ){1,3})$", _I)
"""Words before an address that belong to it, as its dots were not said."""
_NO_LOCAL = frozenset(
    "me us him her them you it look looks looked see find found here there is are was be were shop shops order ordered "
    "buy bought more available sold up out online page site website store stop meet met arrive stay live work works "
    "one ones some that this and or but".split()
)
"""Words before "at example dot com" that are no mailbox."""


_MAY_HOLD_EMAIL = re.compile(rf"@|{_AT}", _I)


def may_hold_email(text: str) -> bool:
    """Whether it is worth looking for an address, in a text that need not be in plain form."""
    return _MAY_HOLD_EMAIL.search(text) is not None


def emails(plain: str) -> Iterator[Found]:
    if "@" in plain:
        yield from (Found("email", *found.span(), found[0]) for found in _WRITTEN.finditer(plain))
    if not (
        " at " in plain.casefold() or "@" in plain or re.search(r"arroba|arobase|chiocciola|ät |affe|apenst", plain, _I)
    ):
        return
    for found in _SPOKEN.finditer(plain):
        before = plain[: found.start()]
        cue = _CUE.search(before)
        if cue or found["local"].casefold() not in _NO_LOCAL:
            start = cue.start(1) if cue and not _is_sentence(cue[1]) else found.start()
            yield Found("email", start, found.end(), plain[start : found.end()])


def _is_sentence(words: str) -> bool:
    return not _SENTENCE_WORDS.isdisjoint(words.casefold().split())


_SENTENCE_WORDS = frozenset("is it it's the to my me at so that you can i".split())


# ------------------------------------------------------------------ phone numbers

_REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "BR", "IN")
"""Where a national number that nobody calls one is looked for."""
_PLUS = re.compile(r"\bplus (?=\d)", _I)
_NORTH_AMERICAN = re.compile(r"\d{3}[ .-]\d{3}[ .-]\d{4}(?![ .-]?\d)")
_BRACKETED = re.compile(r"\(\d{2,5}\) ?\d{3,4}[ .-]?\d{4}(?!\d)")
_CALLED = re.compile(
    r"\b(?:phone|mobile|cell|telephone|call|calls|reach|ring|text|whatsapp|tel|handy|telefon|handynummer|telefonnummer|rufnummer|"
    r"téléphone|portable|appelez|móvil|teléfono|llám\w+|telefono|cellulare|telefone|celular|telefoon|mobiel|contact|number)"
    r"\W+(?:(?!orders?\b|invoices?\b|tracking\b|extensions?\b|at\b|in\b|bookings?\b|tickets?\b|customers?\b|parcel\b)[\w']+\W+){0,4}\(?$",
    _I,
)
_NOT_A_PHONE = re.compile(
    r"\b(?:orders?|tracking|parcels?|invoices?|bookings?|reservations?|tickets?|cases?|flights?|references?|customers?|items?|"
    r"articles?|models?|serial|extensions?|ext|durchwahl|bestell\w*|rechnung\w*|commande|pedido|imei|isbn|account|card|iban|pin|"
    r"street|house|price|costs?|paid)\b[^.!?]{0,24}$",
    _I,
)
_DATE = re.compile(r"\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4}(?!\d)(?:\D|$)")
_LEAST, _MOST = 6, 15
_WHOLE = 9
"""Digits from which a national number is looked for where nothing says that it is one."""


def phones(plain: str) -> Iterator[Found]:
    """Phone numbers: valid ones in a form that such a number has, and what is called one. Needs the extra `phone`."""
    text = _PLUS.sub("    +", plain)
    for found in _BRACKETED.finditer(text):
        if not _NOT_A_PHONE.search(text, 0, found.start()):
            yield Found("phone", *found.span(), digits(found[0]))
    for run in RUN.finditer(text):
        number, start = digits(run[0]), run.start()
        if not _LEAST <= len(number) <= _MOST or _DATE.match(run[0]):
            continue
        before = text[:start]
        if before.endswith("+") or number.startswith("00"):
            international = "+" + (number if before.endswith("+") else number[2:])
            if _is_valid(international, None) or _CALLED.search(before.rstrip("+")):
                is_said = _PLUS.match(plain, max(start - len("plus "), 0))
                yield Found("phone", start - (len("plus ") if is_said else before.endswith("+")), run.end(), number)
            continue
        if _NOT_A_PHONE.search(before):
            continue
        is_north_american = _NORTH_AMERICAN.match(text, start)
        is_national = len(number) >= _WHOLE and number[0] == "0" and any(_is_valid(number, each) for each in _REGIONS)
        if is_north_american or is_national or _CALLED.search(before):
            yield Found("phone", start, run.end(), number)


def _is_valid(number: str, region: str | None) -> bool:
    from phonenumbers import NumberParseException, is_valid_number, parse

    try:
        return is_valid_number(parse(number, region))
    except NumberParseException:
        return False
