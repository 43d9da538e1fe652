"""What its shape gives away: card numbers, IBANs, national ids, keys and tokens. All read the plain form."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from lkmongo.detectors.plain import Found, luhn
from lkmongo.redact import JWT, URI_CREDENTIALS

_I = re.IGNORECASE

RUN = re.compile(r"(?<!\d)\d(?:[ .,\-\u2013\u2014/_]{0,3}\d)*")
"""Digits however they are grouped."""
CARD_NAME = re.compile(
    r"\bcards?\b|kreditkarte|kartennummer|bankkarte|"
    r"\bcarte (?:bancaire|bleue|de (?:crédit|débit))|numéro de (?:la |ma )?carte|"
    r"\btarjetas?\b|\bcartão\b|\bcarta di\b|\bnumero (?:di|della) carta\b|kaartnummer|\bmaster ?card\b|\bamex\b",
    _I,
)
HARMLESS_CARD = re.compile(
    r"\b(?:library|loyalty|member(?:ship)?|customer|club|bonus|points|student|business|rewards?|sim|graphics|video|memory|"
    r"insurance|health|train|rail|travel)[ -]?cards?\b",
    _I,
)
_HARMLESS_NUMBER = re.compile(
    r"\b(?:orders?|tracking|parcels?|packages?|shipments?|invoices?|bookings?|reservations?|tickets?|cases?|flights?|rooms?|"
    r"apartments?|house|streets?|phones?|mobile|cell|fax|telephone|zip|postal|postcode|references?|customers?|items?|articles?|"
    r"models?|serial|versions?|pages?|years?|suites?|gates?|extensions?|call me|imei|isbn|bestell(?:ung|nummer)|"
    r"rechnung(?:snummer)?|kundennummer|commande|pedido|ordine)"
    r"(?: (?:numbers?|no\.?|nr\.?|ids?|codes?|at|on))*(?: (?:is|are|was|were)|[\s:#=,])*$",
    _I,
)
"""Words before a number that is not a secret."""
_NEAR = 60
"""Characters before a number in which such words count."""
LEAST_DIGITS = 6
"""Digits that a text has at least whose shape may tell something, but for keys."""
_LEAST_IN_A_ROW = 9
_CARD_DIGITS = range(12, 20)
_MAX_GROUPS = 60
"""Groups of digits in one run that are looked at together; a longer one is a table, not a number that is told."""
_FOUR_BY_FOUR = [4, 4, 4, 4]
_ISSUERS = re.compile(
    r"4(?:\d{15}|\d{18})|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|220[0-4]\d{12}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|"
    r"35\d{14}|(?:5[06-8]|6\d)\d{14,17}|8[12]\d{14}"
)
"""Prefixes and lengths of card numbers."""
_KEY = re.compile(
    r"\b[srp]k[-_][\w-]{16,}|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}|\bxox[abprs]-[\w-]{10,}|"
    r"\bAKIA[A-Z0-9]{12,}|\bAIza[\w-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY"
)
_PARTS_OF_KEYS = "k-|k_|gh|github_pat_|glpat-|xox|AKIA|AIza|eyJ|://|-----BEGIN".split("|")
"""One of these is in each of them."""
_SSN = re.compile(
    r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])|(?<!\d[ ,-])(?<!\d)\d{3}[ ,]{1,2}\d{2}[ ,]{1,2}\d{4}(?![ ,-]{0,2}\d)"
)
_IBAN = re.compile(r"(?<![a-z\d])[a-z] ?[a-z] ?\d ?\d(?:[ -]?[a-z\d]){11,30}", _I | re.ASCII)
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI NL", 20: "AT BA EE LT LU", 21: "CH HR LI LV SI", 22: "BG DE GB IE ME RS",
        23: "AE GI IL", 24: "CZ ES RO SA SE SK", 25: "PT", 26: "IS TR", 27: "FR GR IT SM", 28: "CY HU PL",
        29: "BR EG UA", 31: "MT",
    }.items()
    for country in countries.split()
}  # fmt: skip


def digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def is_harmless_number(plain: str, start: int) -> bool:
    """Whether the number that starts there is not a secret, such as the number of an order or a house."""
    return _HARMLESS_NUMBER.search(plain, max(0, start - _NEAR), start) is not None


def has_key(text: str) -> bool:
    """Whether it is worth looking for a key or a token, in a text that need not be in plain form."""
    return any(part in text for part in _PARTS_OF_KEYS)


def by_shape(plain: str) -> Iterator[Found]:
    """What its shape gives away in a text."""
    if has_key(plain):
        for pattern in (_KEY, JWT, URI_CREDENTIALS):
            yield from (Found("secret", *found.span(), found[0]) for found in pattern.finditer(plain))
    count = sum(map(str.isdigit, plain))
    if count < LEAST_DIGITS:
        return
    if count >= _LEAST_IN_A_ROW:
        yield from _ssns(plain)
        yield from _ibans(plain)
        runs = [run for run in RUN.finditer(plain) if len(run[0]) > _LEAST_IN_A_ROW]
        yield from _cards(plain, runs)
        yield from _whole_numbers(plain, runs)
    for pattern, is_valid in _LETTERED:
        for found in pattern.finditer(plain):
            compact = re.sub(r"[\W_]", "", found[0]).upper()
            if is_valid(compact):
                yield Found("national_id", *found.span(), compact)


_GROUP = re.compile(r"\d+")


def _groups(run: re.Match[str]) -> list[re.Match[str]]:
    return list(_GROUP.finditer(run.string, *run.span()))[:_MAX_GROUPS]


def _cards(plain: str, runs: Sequence[re.Match[str]]) -> Iterator[Found]:
    """Card numbers: by their check digit, as four groups of four, or because the text names a card."""
    runs = [run for run in runs if len(digits(run[0])) >= _CARD_DIGITS.start]
    is_named = bool(runs) and CARD_NAME.search(HARMLESS_CARD.sub("", plain)) is not None
    for run in runs:
        if plain[run.start() - 1 : run.start()] == "+":
            continue  # a telephone number
        groups, may_be_one = _groups(run), not is_harmless_number(plain, run.start())
        valid = list(_valid_cards(groups))
        yield from valid
        if is_named and may_be_one:
            yield Found("card", *run.span(), valid[0].value if valid else digits(run[0]))
        for first, start in enumerate(groups):
            four = groups[first : first + 4]
            if [len(group[0]) for group in four] == _FOUR_BY_FOUR and start[0][0] in "3456" and may_be_one:
                yield Found("card", start.start(), four[-1].end(), "".join(group[0] for group in four))


def _valid_cards(groups: Sequence[re.Match[str]]) -> Iterator[Found]:
    for first, start in enumerate(groups):
        window = ""
        for group in groups[first:]:
            window += group[0]
            if len(window) >= _CARD_DIGITS.stop:
                break
            if _ISSUERS.fullmatch(window) and luhn(window):
                yield Found("card", start.start(), group.end(), window)


def _ssns(plain: str) -> Iterator[Found]:
    """US social security numbers as they are grouped; other than by dashes only if the number can be one."""
    for number in _SSN.finditer(plain):
        area, group, serial = _GROUP.findall(number[0])
        can_be = area not in {"000", "666"} and area < "9" and group != "00" and serial != "0000"
        if (can_be or "-" in number[0]) and not is_harmless_number(plain, number.start()):
            yield Found("national_id", *number.span(), area + group + serial)


def _ibans(plain: str) -> Iterator[Found]:
    at = 0
    while found := _IBAN.search(plain, at):
        at = found.start() + 1
        compact = re.sub(r"[ -]", "", found[0]).upper()
        length = _IBAN_LENGTHS.get(compact[:2], 0)
        iban = compact[:length]
        if len(iban) == length > 0 and int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1:
            places = [place for place, char in enumerate(found[0]) if char not in " -"]
            at = found.start() + places[len(iban) - 1] + 1
            yield Found("bank_account", found.start(), at, iban)


# ------------------------------------------------------------------ national ids of digits alone, by their check digits


def is_steuer_id(number: str) -> bool:
    """German tax identification number: one digit two or three times among the first ten; ISO 7064, mod 11, 10."""
    times = sorted(Counter(number[:10]).values(), reverse=True)
    if number[0] == "0" or times[0] not in {2, 3} or times[1] != 1:
        return False
    product = 10
    for digit in number[:10]:
        product = 2 * ((int(digit) + product) % 10 or 10) % 11
    return (11 - product) % 10 == int(number[10])


def _is_cpf(number: str) -> bool:
    """Brazil: two check digits, mod 11."""
    if len(set(number)) == 1:
        return False
    for length in (9, 10):
        total = sum(int(digit) * (length + 1 - place) for place, digit in enumerate(number[:length]))
        if total * 10 % 11 % 10 != int(number[length]):
            return False
    return True


_VERHOEFF = (
    "0123456789 1234067895 2340178956 3401289567 4012395678 5987604321 6598710432 7659821043 8765932104 9876543210"
).split()
_PERMUTED = "0123456789 1576283094 5803796142 8916043527 9453126870 4286573901 2793806415 7046913258".split()


def _is_aadhaar(number: str) -> bool:
    """India: Verhoeff's check digit; the first is 2 or more."""
    check = 0
    for place, digit in enumerate(reversed(number)):
        check = int(_VERHOEFF[check][int(_PERMUTED[place % 8][int(digit)])])
    return check == 0 and number[0] in "23456789"


def _is_nir(number: str) -> bool:
    """France: sex, year, month, ..., and a key mod 97."""
    is_month = re.match(r"0[1-9]|1[0-2]|[23]\d|4[0-2]|[5-9]\d", number[3:5]) is not None
    return number[0] in "12378" and is_month and 97 - int(number[:13]) % 97 == int(number[13:])


_AADHAAR = 12
_WHOLE: dict[int, tuple[Callable[[str], bool], ...]] = {
    11: (is_steuer_id, _is_cpf),
    _AADHAAR: (_is_aadhaar,),
    15: (_is_nir,),
}
"""Kinds of numbers, by how many digits they have. One of nine digits (NL) needs its name, as many a number passes."""


def _whole_numbers(plain: str, runs: Sequence[re.Match[str]]) -> Iterator[Found]:
    for run in runs:
        if plain[run.start() - 1 : run.start()] == "+":
            continue
        groups = _groups(run)
        for first, start in enumerate(groups):
            window = ""
            for last in groups[first:]:
                window += last[0]
                if len(window) > max(_WHOLE):
                    break
                yield from _whole(plain, window, start, last)


def _whole(plain: str, window: str, start: re.Match[str], last: re.Match[str]) -> Iterator[Found]:
    if not any(is_valid(window) for is_valid in _WHOLE.get(len(window), ())):
        return
    # One of twelve digits in ten is valid by chance: it has to be grouped as it is on the card.
    is_grouped = [len(part) for part in _GROUP.findall(plain[start.start() : last.end()])] == [4, 4, 4]
    if (len(window) != _AADHAAR or is_grouped) and not is_harmless_number(plain, start.start()):
        yield Found("national_id", start.start(), last.end(), window)


# ------------------------------------------------------------------ national ids with letters


def _is_dni(number: str) -> bool:
    """Spain: the letter is the rest of a division by 23; a foreigner's begins with X, Y or Z."""
    as_digits = number[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(as_digits) % 23] == number[-1]


_ODD_PLACES = dict(zip("0123456789", (1, 0, 5, 7, 9, 13, 15, 17, 19, 21), strict=True)) | dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)


def _is_codice_fiscale(code: str) -> bool:
    """Italy: the last letter is the sum of what the others stand for, mod 26."""
    total = sum(
        _ODD_PLACES[char] if place % 2 == 0 else int(char, 36) - (10 if char.isalpha() else 0)
        for place, char in enumerate(code[:15])
    )
    return chr(ord("A") + total % 26) == code[15]


def _is_nino(number: str) -> bool:
    """United Kingdom: no check digit, but prefixes that are never given."""
    return number[:2] not in {"BG", "GB", "NK", "KN", "TN", "NT", "ZZ"}


def _is_corsican_nir(number: str) -> bool:
    return _is_nir(number.replace("2A", "19", 1).replace("2B", "18", 1))


_LETTERED: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = (
    (
        re.compile(
            r"(?<![A-Za-z\d])(?:[A-Z]{2} ?|[A-Za-z] [A-Za-z] |[a-z]{2}(?=\d))(?:\d\d ?){3}(?:[A-D]|[a-d])(?![A-Za-z\d])"
        ),
        _is_nino,
    ),
    (
        re.compile(r"(?<![\w.-])(?:\d{8}(?:-? ?[A-Z]|-?[a-z])|[XYZxyz][ -]?\d{7}[ -]?[A-Za-z])(?!\w)", re.ASCII),
        _is_dni,
    ),
    (
        re.compile(
            r"(?<!\w)(?:[a-z][ -]?){6}(?:[\dl-np-v][ -]?){2}[a-ehlmprst][ -]?(?:[\dl-np-v][ -]?){2}[a-z][ -]?"
            r"(?:[\dl-np-v][ -]?){3}[a-z](?!\w)",
            _I | re.ASCII,
        ),
        _is_codice_fiscale,
    ),
    (
        re.compile(r"(?<!\w)[12378] ?\d\d ?\d\d ?2[ab] ?\d{3} ?\d{3} ?\d\d(?!\w)", _I | re.ASCII),
        _is_corsican_nir,
    ),
)
