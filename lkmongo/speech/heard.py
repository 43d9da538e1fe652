"""What is heard as words becomes data: "order number four seven one one" is "order number 4711" to whoever reads it.

Only what is surely data is changed, and nothing's meaning: numbers of orders, telephones and codes, addresses, amounts
of money, percentages, times and dates, and words that are spelled. A number in a sentence stays a word ("one of my two
daughters"), digits that a recogniser has written stay as they are, and so does all of what tells a secret: it is
redacted as it was said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lkmongo.confidential import holds_secret
from lkmongo.detectors.contacts import emails, may_hold_email
from lkmongo.detectors.plain import TENS, UNITS, read
from lkmongo.speech.heard_numbers import DAY, ONE, RUN, ZERO, Part, dates_and_amounts, parts_of
from lkmongo.speech.spoken_words import TOP_LEVEL

_I = re.IGNORECASE

# ------------------------------------------------------------------ what a number is of

_IS = r"(?:[\s,:#]|\b(?:is|was|it's|it is|its|are|that's|as|again|number|numbers)\b)*"
_BEFORE_IT = (
    r"(?:(?-i:[A-Z]|[b-hj-z])\.?,? (?:(?:dash|hyphen) )?){0,4}"  # its letters
    r"(?:[A-Za-z]{0,4}-?\d[A-Za-z\d-]*,? (?:(?:and|or|dash|hyphen) )?)*$"  # its beginning, or another such number
)
_SURE = re.compile(
    r"\b(?:(?:order|invoice|tracking|account|customer|member|membership|reference|booking|reservation|confirmation|"
    r"ticket|case|phone|telephone|mobile|cell|contact|fax|flight|room|serial|part|item|model|policy|claim|house|parcel|"
    r"card|pin|registration|tax) (?:numbers?|ids?|codes?)|(?:zip|postal|area|country|promo|discount|coupon|access|"
    r"verification|security) codes?|postcode|zip|extension|(?:number|code|id)(?= (?:is|was)\b| ?[:#]))\b"
    rf"{_IS}{_BEFORE_IT}",
    _I,
)
_LIKELY = re.compile(
    r"\b(?:(?<!to )(?<!can )(?<!could )(?<!may )(?<!must )(?<!you )(?<!we )(?<!please )(?<!i )(?<!and )orders?|"
    r"invoices?|tickets?|cases?|flights?|references?|bookings?|reservations?|tracking|numbers?|codes?|apartment|"
    r"rooms?)\b"
    rf"{_IS}{_BEFORE_IT}",
    _I,
)
_AFTER_LETTER = re.compile(r"(?<![\w'])[A-Za-z] (?:dash|hyphen) (?:\d+ (?:dash|hyphen) )?$|\d (?:dash|hyphen) $")
_ENDS = re.compile(r"\s*(?:$|[.,;:!?])")
_LEAST = 3
_LEAST_ALONE = 4
"""Digits from which a number that is told digit by digit needs no word that says what it is of."""
_LONG = 7
_COUNTED = "123456789"

# ------------------------------------------------------------------ letters

_PLUS = re.compile(r"\bplus (?=\d[\d -]{6})", _I)
_WORD_OF = re.compile(r"\b(?P<letter>[A-Za-z])(?:,? as in|,? for|,? like in) (?P<word>[A-Za-z]{2,})\b", _I)
_NEXT = re.compile(r",? (?:and |then )?")
_CODE_GOES_ON = re.compile(rf",? (?:dash\b|hyphen\b|\d|(?:{ZERO}|{ONE})\b)", _I)
_SPELLED = re.compile(
    r"(?<![\w'.-])(?:[A-Za-z](?:-|\. | |, )){1,30}[A-Za-z](?![\w'-])|(?<![\w'.-])[A-Za-z](?:-[A-Za-z\d]){3,30}(?![\w-])"
)
_LEAST_SPELLED = 4
"""Letters in a row that need no word that says that they are spelled."""
_SPELLS = re.compile(
    r"\b(?:spell(?:s|ed)?|spelt|letters?|(?:first|last|middle|sur|family)? ?name|called)\b[^.!?]{0,30}$", _I
)
_CODE = re.compile(
    r"(?<![\w'.-])(?P<letters>(?-i:[A-Z]{1,4})|[a-hj-z](?: [a-z]){0,3}|i(?: [a-z]){1,3}) (?P<dash>dash|hyphen) (?=\d)"
    r"|(?<=\d) (?:dash|hyphen) (?=[a-z\d]\b|\d)",
    _I,
)
_CODED = re.compile(
    r"(?<![\w'.-])(?P<letters>[A-Za-z](?:\.? [A-Za-z]){0,3})\.?,? ?(?P<dash>-?)(?P<four>for )?"
    r"(?P<digits>\d{2,})(?![\w-]|\.\d)"
)

# ------------------------------------------------------------------ addresses

_MAY_BE_EMAIL = re.compile(
    r"\be-?mail|\bmail\b|\baddress\b|\b(?:write|reach|send|contact)\b|\b(?:it's|it is)\b[^.!?]*$", _I
)
_BEFORE_EMAIL = re.compile(
    r"(?:^|[^\w\s'-]\s*|\b(?:e-?mail|mail|address|is|it's|was|be|that's|as|to|use|uses|write|reach|contact|send|try|"
    r"me|him|her|them|us|or|and|at|still|now|just|called|with|also|via|by|from|for|um|uh)\s+)$",
    _I,
)
"""Before an address of which the first part is one word: a name before it may be of the address."""
_NO_NAMES = frozenset("account accounts address is it me in up on out off down over here there mailbox".split())
_PROVIDERS = re.compile(r"\b(?:gmail|outlook|hotmail|yahoo|icloud|proton(?:mail)?|aol|gmx|live|googlemail)\b", _I)
_IN_ADDRESS = {"dot": ".", "point": ".", "underscore": "_", "dash": "-", "hyphen": "-", "minus": "-", "plus": "+"}
_SITE = re.compile(
    rf"(?P<www>\bw ?w ?w dot )?(?<![\w@.-])(?P<name>[a-z\d-]+(?: dot [a-z\d-]+)*) dot (?P<top>{TOP_LEVEL})\b"
    r"(?! (?:bubble|boom|crash|era|company|companies|startup|days?)\b)",
    _I,
)
_NO_SITE = frozenset("the a an this that these those of in on at and or no my your our their every each".split())

_WORTH = re.compile(
    rf"\b(?:{'|'.join([*UNITS, *TENS])}|dot|dash|hyphen|plus|spell\w*|spelt|{DAY}|as in|"
    r"at [\w-]+\.\w+|"
    r"[A-Za-z][ -][A-Za-z]|[A-Za-z][.,]{0,2} ?(?:for )?\d+)\b",
    _I,
)
"""One of these is in everything that is changed."""
_LONGEST = 4_000
"""Characters that somebody may say at once."""


def as_data(text: str, *, before: str = "") -> str:
    """The text with what is surely data in it written as data; all else as it is.

    Args:
        text: what was heard, in English.
        before: what was heard before it in the same turn, which may tell what a number is of.
    """
    if len(text) > _LONGEST or not _WORTH.search(text) or holds_secret(text):
        return text
    for change in (_words_of_letters, _addresses, dates_and_amounts, _letters):
        text = change(text)
    before = before.rstrip(" .,")
    text = _numbers(text, before)
    text = _codes(text, before)
    return _PLUS.sub("+", text)


def ways_to_write(number: str) -> list[str]:
    """How an order number that was said may be written, the likeliest first: a dash is seldom said.

    Args:
        number: as a model has it, such as "#4711", "a dash one thousand one" or "A1001".
    """
    given = number.strip().lstrip("#").strip()
    data = as_data(f"order number {given}").removeprefix("order number ").strip(" .")
    compact = re.sub(r"[\s-]", "", data)
    parts = re.fullmatch(r"([A-Za-z]{1,4})(\d+)", compact)
    as_given = [given] if re.fullmatch(r"\S*\d\S*", given) else []
    ways = [*as_given, data, *([f"{parts[1].upper()}-{parts[2]}", compact.upper()] if parts else [])]
    return list(dict.fromkeys(each for each in ways if each)) or [given]


# ------------------------------------------------------------------ numbers


def _numbers(text: str, before: str) -> str:
    done, at = "", 0
    for run in RUN.finditer(text):
        for group in _apart(parts_of(run)):
            start, end = group[0].start, group[-1].end
            done += text[at:start]
            is_data = _is_data(group, f"{before} {done}"[-120:], text[end:])
            done += "".join(part.digits for part in group) if is_data else text[start:end]
            at = end
    return done + text[at:]


def _apart(parts: list[Part]) -> Iterator[list[Part]]:
    """The numbers of a run, those together that are one: digits, though people pause in a long number."""
    chunks: list[list[Part]] = []
    for part in parts:
        if part.comma or not chunks:
            chunks.append([])
        chunks[-1].append(part)
    is_spelled = all(part.is_digit for part in parts)
    count = sum(len(part.digits) for part in parts)
    if is_spelled and count >= max(_LONG, 2 * len(chunks)):
        yield parts
    else:
        yield from chunks


def _is_data(parts: list[Part], before: str, after: str) -> bool:
    digits = "".join(part.digits for part in parts)
    is_spelled = all(part.is_digit for part in parts)
    if _SURE.search(before):
        return len(digits) > 1 or _ENDS.match(after) is not None
    if _AFTER_LETTER.search(before):
        return len(digits) > 1
    if len(digits) < _LEAST:
        return False
    is_number = len(parts) > 1 or int(digits) >= 1000
    if is_number and _LIKELY.search(before):
        return True
    if len(parts) == 1 and not is_spelled:
        return int(digits) > 1000 and int(digits) % 100 > 0 and " and " not in parts[0].words.casefold()
    is_odd = any(part.digits[0] == "0" or len(part.digits) > 1 for part in parts)
    return is_spelled and (len(digits) >= _LEAST_ALONE or is_odd) and digits not in _COUNTED


# ------------------------------------------------------------------ letters and codes


def _words_of_letters(text: str) -> str:
    """Write "R as in Robert, O as in Oscar" as "R-O"; one of them alone only if a code goes on with it."""
    found = [each for each in _WORD_OF.finditer(text) if each["word"][0].casefold() == each["letter"].casefold()]
    done, at = "", 0
    for number, each in enumerate(found):
        goes_on = number > 0 and _NEXT.fullmatch(text, found[number - 1].end(), each.start())
        begins = number + 1 < len(found) and _NEXT.fullmatch(text, each.end(), found[number + 1].start())
        if goes_on or begins or _CODE_GOES_ON.match(text, each.end()):
            done += "-" if goes_on else text[at : each.start()]
            done += each["letter"].upper()
            at = each.end()
    return done + text[at:]


def _letters(text: str) -> str:
    """Write "r o b i n" as "Robin" where it is a name, else as "ROBIN"."""

    def joined(match: re.Match[str]) -> str:
        letters = re.sub(r"[^A-Za-z\d]", "", match[0])
        before = text[: match.start()]
        said = _SPELLS.search(before)
        if len(letters) < _LEAST_SPELLED - match[0].count("-") // 2 and not (said and len(letters) > 1):
            return match[0]
        if re.match(r"(?:,? (?:dash|hyphen))?,? \d", text[match.end() :]):
            return match[0]  # of a code
        if len(letters) < _LEAST_SPELLED and re.match(r" (?!and\b|but\b)[A-Za-z]{2}", text[match.end() :]):
            return match[0]  # initials
        if re.search(rf"\b{letters}\W*$", before, _I):
            return match[0]  # "Robin, R-O-B-I-N": it is there already
        return letters.capitalize() if said and letters.isalpha() else letters.upper()

    return _SPELLED.sub(joined, text)


def _codes(text: str, before: str) -> str:
    """Write "a dash 1001" as "A-1001", and "order b 1001" as "order B1001"."""

    def dashed(match: re.Match[str]) -> str:
        return f"{match['letters'].replace(' ', '').upper()}-" if match["letters"] else "-"

    def joined(match: re.Match[str]) -> str:
        told = f"{before} {text[: match.start()]}"
        is_article = match["letters"] in {"a", "i"} and not match["dash"]
        is_sure = _SURE.search(told) is not None
        is_likely = _LIKELY.search(told) is not None and not (is_article and not _ENDS.match(text, match.end()))
        digits = f"4{match['digits']}" if match["four"] else match["digits"]  # "C for 007" is "C four oh oh seven"
        if not (is_sure or (is_likely and not match["four"])) or len(digits) < _LEAST:
            return match[0]
        letters = re.sub(r"\W", "", match["letters"])
        return f"{letters.upper()}{match['dash']}{digits}"

    text = _CODE.sub(dashed, text)
    return _CODED.sub(joined, text)


# ------------------------------------------------------------------ addresses


def _addresses(text: str) -> str:
    if may_hold_email(text):
        plain = read(text)
        done, at = "", 0
        for found in emails(plain.text):
            start, end = plain.original(found.start, found.end)
            if start >= at and (address := _address(found.value)) and _is_email(text, start, end, address):
                done += text[at:start] + address
                at = end
        text = done + text[at:]
    return _SITE.sub(_site, text) if " dot " in text.casefold() else text


def _address(words: str) -> str | None:
    """The address that is spoken so; None if it is not sure how it is written."""
    sides = re.split(r" at sign | at | ?@ ?", words.casefold())
    written = [_side(each) for each in sides]
    return "@".join(each for each in written if each) if len(sides) == 2 and all(written) else None


def _side(words: str) -> str | None:
    """What is before or after the "at"; None for "robin fletcher", which may be written with a dot or without."""
    pieces = re.split(r" ?([.+_-]) ?| (dot|point|underscore|dash|hyphen|minus|plus) ", words)
    names = [each for each in pieces if each]
    if any(" " in each and not _is_spelled(each) for each in names):
        return None
    return "".join(_IN_ADDRESS.get(each, each).replace(" ", "") for each in names)


def _is_spelled(piece: str) -> bool:
    """Whether these are letters one by one, or a word and a number behind it."""
    words = piece.split()
    return all(len(word) == 1 or word.isdigit() for word in words[1:]) and (len(words[0]) == 1 or words[-1].isdigit())


def _is_email(text: str, start: int, end: int, address: str) -> bool:
    """Whether it is one, and not a thing that was bought "at example dot com"."""
    local = address.partition("@")[0]
    is_plain = not re.search(r"[._+-]", local) and re.search(r"(?<!\w)\w \w(?!\w)", text[start:end]) is None
    if is_plain and (local in _NO_NAMES or not _BEFORE_EMAIL.search(text[:start])):
        return False  # "sign in at example dot com", "robin fletcher at example dot com"
    return (
        not local.isalpha()
        or re.search(r"(?<!\w)\w \w(?!\w)", text[start:end]) is not None
        or _MAY_BE_EMAIL.search(text[:start]) is not None
        or _PROVIDERS.search(address) is not None
        or not re.search(r"\w", text[:start])
    )


def _site(match: re.Match[str]) -> str:
    name = match["name"].casefold().split()
    if name[0] in _NO_SITE and not match["www"]:
        return match[0]
    return (
        ("www." if match["www"] else "")
        + "".join("." if word == "dot" else word for word in name)
        + f".{match['top'].lower()}"
    )
