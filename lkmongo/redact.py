"""Secrets: redacted from messages, logs and tables, and recognised by their shape in what people say."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator

URI_CREDENTIALS = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/\s@]*@", re.IGNORECASE)
JWT = re.compile(r"\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Redact credentials in addresses, tokens, and the given secrets.

    Secrets shorter than four characters are left alone: replacing them would garble the text and protect nothing.
    """
    for secret in sorted((value for value in secrets if len(value) >= 4), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = URI_CREDENTIALS.sub(r"\1***@", text)
    text = JWT.sub("eyJ***", text)
    return _BEARER.sub(r"\1 ***", text)


def mask(secret: str) -> str:
    """Show just enough of a key to tell two apart."""
    return f"{secret[:4]}***{secret[-2:]}" if len(secret) >= 16 else "***"


class RedactingFormatter(logging.Formatter):
    """Redacts log records, tracebacks included; a subclass overrides `write` for another layout."""

    def __init__(self, template: str | None = None, *, secrets: Collection[str]) -> None:
        super().__init__(template)
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return redact(self.write(record), self._secrets)

    def write(self, record: logging.LogRecord) -> str:
        return super().format(record)


_I = re.IGNORECASE

RUN = re.compile(r"(?<!\d)\d(?:[ .,\-\u2013\u2014/_]{0,3}\d)*")
"""Digits however they are grouped."""
CARD_NAME = re.compile(
    r"\bcards?\b|kreditkarte|kartennummer|bankkarte|"
    r"\bcarte (?:bancaire|bleue|de (?:crédit|débit))|numéro de (?:la |ma )?carte|"
    r"\btarjetas?\b|\bcartão\b|\bcarta di\b|\bnumero (?:di|della) carta\b|kaartnummer|\bmaster ?card\b|\bamex\b",
    _I,
)
_HARMLESS_CARD = re.compile(
    r"\b(?:library|loyalty|member(?:ship)?|customer|club|bonus|points|student|business|rewards?|sim|graphics|video|memory|"
    r"insurance|health|train|rail|travel)[ -]?cards?\b",
    _I,
)
_HARMLESS_NUMBER = re.compile(
    r"\b(?:orders?|tracking|parcels?|packages?|shipments?|invoices?|bookings?|reservations?|tickets?|cases?|flights?|rooms?|"
    r"apartments?|house|streets?|phones?|mobile|cell|fax|telephone|zip|postal|postcode|references?|customers?|items?|articles?|"
    r"models?|serial|versions?|pages?|years?|suites?|gates?|extensions?|call me)"
    r"(?: (?:numbers?|no\.?|nr\.?|ids?|codes?|at|on))*(?: (?:is|are|was|were)|[\s:#=,])*$",
    _I,
)
"""Words before a number that is not a secret."""
_NEAR = 60
"""Characters before a number in which such words count."""
_LEAST_DIGITS = 9
_CARD_DIGITS = range(12, 20)
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
_SSN = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
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


def secrets_by_shape(plain: str) -> Iterator[str]:
    """The secrets in a text that their shape gives away, numbers as digits."""
    if re.search("[_-]|eyJ|AKIA|AIza|://", plain):
        for pattern in (_KEY, JWT, URI_CREDENTIALS):
            yield from (found[0] for found in pattern.finditer(plain))
    if len(digits(plain)) < _LEAST_DIGITS:
        return
    yield from _cards(plain)
    for number in _SSN.finditer(plain):
        if not is_harmless_number(plain, number.start()):
            yield digits(number[0])
    for found in _IBAN.finditer(plain):
        compact = re.sub(r"[ -]", "", found[0]).upper()
        iban = compact[: _IBAN_LENGTHS.get(compact[:2], 0)]
        if iban and int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1:
            yield iban


def _cards(plain: str) -> Iterator[str]:
    """Card numbers: by their check digit, as four groups of four, or because the text names a card."""
    runs = [run for run in RUN.finditer(plain) if len(digits(run[0])) >= _CARD_DIGITS.start]
    is_named = bool(runs) and CARD_NAME.search(_HARMLESS_CARD.sub("", plain)) is not None
    for run in runs:
        if plain[run.start() - 1 : run.start()] == "+":
            continue  # a telephone number
        groups, may_be_one = re.findall(r"\d+", run[0]), not is_harmless_number(plain, run.start())
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


_UNIT_WORDS = (
    "zero one two three four five six seven eight nine ten "
    "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
)
_TEN_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_UNITS = {"oh": "0", "o": "0", "nought": "0"} | {word: str(value) for value, word in enumerate(_UNIT_WORDS.split())}
_TENS = {word: 10 * value for value, word in enumerate(_TEN_WORDS.split(), start=2)}
NUMBER_WORDS = frozenset([*_UNITS, *_TENS])
"""The words that numbers are made of, except hundred and thousand."""
_SPOKEN = rf"(?:{'|'.join([*_UNITS, *_TENS, 'hundred', 'thousand', 'double', 'triple'])})"
_SPOKEN_RUN = re.compile(rf"\b{_SPOKEN}(?:[ -](?:and )?{_SPOKEN})*\b", re.IGNORECASE)


def words_to_digits(text: str) -> str:
    """Write words for numbers and dashes as digits and dashes; separate numbers stay separate."""
    text = re.sub(r"\b([a-z]) (?:dash|hyphen|minus) ", lambda match: f"{match[1].upper()}-", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=\w) (?:dash|hyphen) (?=\w)", "-", text, flags=re.IGNORECASE)
    return _SPOKEN_RUN.sub(lambda match: _digits(match[0].casefold().replace("-", " ").split()), text)


def _digits(words: list[str]) -> str:
    if "thousand" in words or "hundred" in words:
        return _cardinal(words)
    out, times, index = "", 1, 0
    while index < len(words):
        word = words[index]
        if word in {"double", "triple"}:
            times = 2 if word == "double" else 3
        elif word in _TENS:
            value = _TENS[word]
            following = _UNITS.get(words[index + 1], "") if index + 1 < len(words) else ""
            if len(following) == 1 and following != "0":
                value += int(following)
                index += 1
            out += str(value)
        elif word in _UNITS:
            out += _UNITS[word] * times
            times = 1
        index += 1
    return out or " ".join(words)


def _cardinal(words: list[str]) -> str:
    total, part = 0, 0
    for word in words:
        if word == "thousand":
            total, part = total + (part or 1) * 1000, 0
        elif word == "hundred":
            part = (part or 1) * 100
        elif word in _TENS:
            part += _TENS[word]
        elif word in _UNITS:
            part += int(_UNITS[word])
    return str(total + part)
