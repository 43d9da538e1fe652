"""Text made for a voice: what a voice would stumble over is spelled out, and the marks of Markdown are left out.

An English voice gets words for the digits of order numbers, telephone numbers and codes, for addresses of the web and
of mail, for units and currencies, and for ranges. A voice of another language gets no English words: the digits stand
apart, which every voice reads one by one, and all else stays. What is not known here is left alone.

Only the voice gets this text. The transcript and the record keep the one that was written: "A-1001".
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Callable

from lkmongo.speech.spoken_words import (
    CURRENCIES,
    DAYS,
    SCALES,
    SHORT,
    TOP_LEVEL,
    UNITS,
    digit_by_digit,
    letter_by_letter,
    spelled_address,
)

_NEAR = 80
"""Characters before a number that can tell what it is."""
_KEPT = 400
"""Characters that were passed on already and are kept for that, and for a link or tag that is open."""


def _any(words: object) -> str:
    return "|".join(re.escape(each) for each in sorted(words, key=len, reverse=True))  # type: ignore[call-overload]


_DASH = "\u2010-\u2013"
_AMOUNT = r"\d+(?:,\d{3})*(?:\.\d+)?"
_SIDE = rf"[$\u20ac\u00a3]?{_AMOUNT}(?::\d\d)?(?: ?[ap]m)?"
_HOST = r"(?:[a-z\d](?:[a-z\d-]*[a-z\d])?\.)+"
_ALONE = r"(?<![\w+])(?<!\d[.,:/-])(?<![$\u20ac\u00a3])"
_NO_MORE = r"(?![\w/:%\u00b0]|[.,-]\d)"
_YEAR = r"(?:1[5-9]|20)\d\d"
_DATE = r"(?:\d{4}-\d\d-\d\d|\d{1,2}-\d{1,2}-\d{4})(?!\d)"
_SIZED = rf"\d+(?:{_any([*UNITS, *CURRENCIES])}|[kKmMbB]|bn|mn|tn)(?!\w)"

_ALWAYS = {
    "tag": r"</?[A-Za-z][^<>\n]{0,200}>",
    "fence": r"```[\w+-]*",
    "line": r"^[ \t]*(?:-{3,}|\*{3,}|_{3,}|={3,}|\|(?:[ \t]*:?-+:?[ \t]*\|)+)[ \t]*$",
    "row": r"^[ \t]*\|[ \t]*|[ \t]*\|[ \t]*$",
    "cell": r"[ \t]+\|[ \t]+",
    "begin": r"^[ \t]*(?:(?:#{1,6}|[-*+\u2022]|>)[ \t]+)+(?=\S)",
    "link": r"!?\[(?=[^\[\]\n]{1,200}\]\([^()\s]*\))|\]\([^()\s]*\)",
    "strong": (
        r"(?<![\w*])\*{1,3}(?=[^\s*])|(?<=[^\s*])\*{1,3}(?![\w*])|(?<!\w)_{1,3}(?=[^\s_])|(?<=[^\s_])_{1,3}(?!\w)"
        r"|~~(?=\S)|(?<=\S)~~|`"
    ),
    "emoji": "[ \t]*[\U0001f000-\U0001fbff\u2600-\u27bf\u2b00-\u2bff\ufe00-\ufe0f\u200d\u20e3]+",
}
_ENGLISH = {
    "address": rf"(?i:(?<![\w.@])[a-z\d][\w.+%-]*@{_HOST}[a-z]{{2,12}}(?!\w))",
    "url": rf"(?i:(?<!\w)(?:https?://|www\.){_HOST}[a-z]{{2,12}}(?!\w)(?::\d+)?(?:[/?#][^\s<>()\"'*]*)?)",
    "domain": rf"(?i:(?<![\w@./-]){_HOST}(?:{TOP_LEVEL})(?:/[\w-]+){{0,3}}(?![\w@/-]|\.\w))",
    "number": r"(?<!\w)#(?=\d)|(?<!\w)[Nn]o\. ?(?=\d)",
    "dotted": r"(?<![\w.,])(?!\d{3}\.\d{3}\.\d{4}(?!\d))v?\d+(?:\.\d+){2,3}(?!\w|[.,]\d)",
    "days": rf"\b(?:{_any(DAYS)})\b\.? ?[-{_DASH}] ?(?:{_any(DAYS)})\b",
    "years": rf"(?<![\w.,/:-]){_YEAR}(?: ?[{_DASH}] ?|-)(?={_YEAR}{_NO_MORE})",
    "coded": rf"(?<!\w)(?:{_any(CURRENCIES)}) ?{_AMOUNT}(?!\w|[.,]\d)",
    "scaled": rf"(?<!\w)[$\u20ac\u00a3]{_AMOUNT} ?(?:[kKmMbB]|bn|mn|tn)(?!\w)",
}
_DIGITS = {
    "phone": (
        rf"{_ALONE}(?:\+\d{{1,3}}[ .-]?)?\(\d{{2,5}}\)[ .-]?\d{{3,5}}(?:[ .-]\d{{2,5}})*{_NO_MORE}"
        rf"|{_ALONE}\+\d(?:[ .-]?\d){{6,14}}{_NO_MORE}"
        rf"|{_ALONE}\d{{3}}\.\d{{3}}\.\d{{4}}{_NO_MORE}"
        rf"|{_ALONE}(?!{_DATE}|\d{{1,3}}(?: 000)+(?!\d))(?=(?:[ -]?\d){{7}})\d{{1,6}}(?:[ -]\d{{2,8}}){{1,5}}{_NO_MORE}"
    ),
}
_RANGES = {
    "range": (rf"{_ALONE}(?!{_DATE})(?P<low>{_SIDE})(?: ?[{_DASH}] ?|-)(?=(?P<high>{_SIDE})(?![\w/:{_DASH}-]|[.,]\d))"),
    "minus": r"(?<![\w.)\]-])[-\u2212](?=[$\u20ac\u00a3]?\d)",
}
_IDS = {
    "id": (
        rf"(?<![\w@/.$\u20ac\u00a3#+-])(?<!\d[,:])(?!{_DATE}|{_SIZED})(?=[A-Za-z-]*\d)[A-Za-z\d]+(?:-[A-Za-z\d]+)*"
        r"(?![\w@%\u00b0]|[./:,-]\w)"
        r"|(?<=#)\d[A-Za-z\d-]*(?!\w|[.,]\d)"
    ),
    "letter": r"(?<![\w.@/-])[A-Z] \d{3,}(?![\w@%\u00b0]|[./:,-]\w)",
}
_WORDS = {
    "currency": rf"(?<=\d) ?(?:{_any(CURRENCIES)})(?!\w)",
    "unit": rf"(?<=\d) ?(?:{_any(UNITS)})(?![\w/\u00b2\u00b3])",
    "about": r"(?<![\w~])[~\u2248] ?(?=[$\u20ac\u00a3]?\d)",
    "and": r"(?<=\s)&(?=\s)",
    "short": rf"(?<![\w.])(?i:{_any(SHORT)})(?!\w)",
}


def _rules(*tables: dict[str, str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?P<{name}>{rule})" for each in tables for name, rule in each.items()), re.MULTILINE)


_RULES = {
    True: _rules(_ALWAYS, _ENGLISH, _DIGITS, _RANGES, _IDS, _WORDS),
    False: _rules(_ALWAYS, _DIGITS, _IDS),
}
_CUE = re.compile(
    r"(?:#|\b(?:(?<!to )(?<!can )(?<!could )(?<!may )(?<!must )(?<!you )(?<!we )(?<!please )(?<!i )orders?|"
    r"(?:serial|part|item|model|phone|telephone|fax|room|flight|customer|member|account|confirmation|order|"
    r"card|case|the) numbers?|numbers?|codes?|invoices?|tickets?|cases?|references?|ref|bookings?|reservations?|"
    r"confirmations?|tracking|accounts?|customers?|extensions?|ext|pins?|zip|postcodes?|serial|parcels?|shipments?|"
    r"ids?|no|ending(?: in| with)?|bestellung|bestellnummer|rechnung|commande|pedido|ordine))"
    r"(?:[\s.:#]|\b(?:numbers?|no|id|ids|codes?|is|are|was|in|with)\b)*"
    r"(?:[A-Za-z]{0,5}-?\d[A-Za-z\d-]*,? (?:(?:and|or) )?)*$",
    re.IGNORECASE,
)
"""Words before a number that is none to count with; other such numbers may stand between."""
_LEAST = 3
"""Digits from which a number behind such a word is read digit by digit."""
_LONG = 7
"""Digits from which any number is, unless it is a round one."""
_ROUND = "000"
_ORDINARY = re.compile(r"\d+(?:st|nd|rd|th|s|am|pm|[a-z]{1,2}|[A-Z])", re.ASCII)
_MOST_SPELLED = 4
"""Letters that are spelled; more are a word."""
_LONGEST_PATH = 40

_PLAIN = re.compile(
    rf"(?<!\S)[\"'(\u201c\u2018]*(?!(?:{_any([*CURRENCIES, *DAYS])}|[A-Z]|[Nn]o\.)(?![\w'\u2019]))"
    r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*[.,;:!?\u2026\"')\u201d\u2019]*(?=\s)|[\u3001\u3002\uff01\uff0c\uff1b\uff1f]"
)
"""What no rule reads across, a word mostly: what follows only has to know what was before it."""
_OPEN = re.compile(r"(?:\[[^\[\]\n]{0,200}|<[A-Za-z/][^<>\n]{0,200})\Z")


def speakable(text: str, *, english: bool = True) -> str:
    """The text as a voice should get it.

    Args:
        text: what is to be said.
        english: whether the voice speaks English; any other gets no words, but digits that stand apart.
    """
    return _made(text, 0, english)


async def speakable_stream(chunks: AsyncIterable[str], *, english: bool = True) -> AsyncIterable[str]:
    """As `speakable`, for a text that comes in pieces: the same text, however it is cut.

    A word is passed on as soon as the next one begins; a number, which may go on, with the word after it. It fits
    `AgentSession(tts_text_transforms=[speakable_stream])`.

    Args:
        chunks: the text.
        english: as for `speakable`.
    """
    before, text = "", ""
    async for chunk in chunks:
        text += chunk
        if end := _complete(before, text):
            yield _made(before + text[:end], len(before), english)
            before, text = (before + text[:end])[-_KEPT:], text[end:]
    if text:
        yield _made(before + text, len(before), english)


def _complete(before: str, text: str) -> int:
    """How many characters of the text can be passed on."""
    whole = before + text
    for found in reversed(list(_PLAIN.finditer(whole, len(before)))):
        if not _OPEN.search(whole, max(found.end() - _KEPT, 0), found.end()):
            return found.end() - len(before)
    return 0


def _made(text: str, start: int, english: bool) -> str:
    """What follows `start`, made for a voice."""
    parts, at = [], start
    for match in _RULES[english].finditer(text, start):
        parts += [text[at : match.start()], _INSTEAD[match.lastgroup or ""](match, english)]
        at = match.end()
    return "".join([*parts, text[at:]])


# ------------------------------------------------------------------ what is said instead

_Instead = Callable[[re.Match[str], bool], str]


def _as_it_is(match: re.Match[str], _: bool) -> str:
    return match[0]


def _nothing(_: re.Match[str], __: bool) -> str:
    return ""


def _always(word: str) -> _Instead:
    return lambda _, __: word


def _before(match: re.Match[str]) -> str:
    return match.string[max(match.start() - _NEAR, 0) : match.start()]


def _has_cue(match: re.Match[str]) -> bool:
    return _CUE.search(_before(match)) is not None


def _plural(match: re.Match[str], words: tuple[str, str]) -> str:
    return words[0] if re.search(r"(?<![\d.,])1$", _before(match)) else words[1]


def _address(match: re.Match[str], _: bool) -> str:
    local, domain = match[0].split("@")
    return f"{spelled_address(local)} at {spelled_address(domain)}"


def _url(match: re.Match[str], _: bool) -> str:
    address = match[0].rstrip(".,;:!?")
    rest = match[0][len(address) :]
    host, slash, path = re.sub(r"^(?:https?://)?(?:www\.)?", "", address, flags=re.IGNORECASE).partition("/")
    path = path.strip("/")
    if len(path) > _LONGEST_PATH or re.search(r"[^\w/.-]", path):
        path = ""  # nobody can follow that by ear
    host = re.split("[?#:]", host)[0]
    return spelled_address(host + (f"{slash}{path}" if path else "")) + rest


def _number(match: re.Match[str], _: bool) -> str:
    return "" if re.search(r"\b(?:numbers?|no\.?) ?$", _before(match), re.IGNORECASE) else "number "


def _dotted(match: re.Match[str], _: bool) -> str:
    parts = match[0].lstrip("v").split(".")
    if len(parts[-1]) == 4 or all(len(part) == 3 for part in parts[1:]):
        return match[0]  # a date, or a number as it is written in much of Europe
    is_first = match[0][0] == "v" and not re.search(r"\bversion $", _before(match), re.IGNORECASE)
    return ("version " if is_first else "") + (" dot " if len(parts) == 4 else " point ").join(parts)


def _days(match: re.Match[str], _: bool) -> str:
    first, last = re.findall(_any(DAYS), match[0])
    return f"{DAYS[first]} to {DAYS[last]}"


def _years(match: re.Match[str], _: bool) -> str:
    return f"{match[0][:4]} to "


def _coded(match: re.Match[str], _: bool) -> str:
    code, amount = match[0][:3], match[0][3:].strip()
    return f"{amount} {CURRENCIES[code][amount != '1']}"


def _scaled(match: re.Match[str], _: bool) -> str:
    amount = match[0].rstrip("kKmMbBnt ")
    return f"{amount} {SCALES[match[0][len(amount) :].strip().lower()]}"


def _phone(match: re.Match[str], english: bool) -> str:
    has_plus = match[0].startswith("+")
    groups = re.findall(r"\d+", match[0])
    if has_plus and len(groups) == 1:
        code = 1 if groups[0][0] == "1" else 2
        groups = [groups[0][:code], groups[0][code:]]
    plus = ("plus " if english else "+") if has_plus else ""
    return plus + ", ".join(digit_by_digit(each, english=english) for each in groups)


def _range(match: re.Match[str], _: bool) -> str:
    low, high = match["low"], match["high"]
    if low.isdigit() and high.isdigit():
        is_hours = max(int(low), int(high)) <= 12
        is_zero_led = any(len(each) > 1 and each[0] == "0" for each in (low, high))
        if is_zero_led or not (int(low) < int(high) or is_hours) or _has_cue(match):
            return match[0]
    return f"{low} to "


def _id(match: re.Match[str], english: bool) -> str:
    text = match[0]
    if not _is_id(match):
        return text
    said: list[str] = []
    for part in re.findall(r"\d+|[^\W\d_]+|-", text):
        if part == "-":
            said[-1] += ","
        elif part.isdigit():
            said.append(digit_by_digit(part, english=english))
        else:
            is_spelled = len(part) <= _MOST_SPELLED and (part.isupper() or len(part) == 1)
            said.append(_letters(part, english) if is_spelled else part)
    return " ".join(said)


def _is_id(match: re.Match[str]) -> bool:
    text, count = match[0], sum(map(str.isdigit, match[0]))
    if text.isdigit():
        if re.search(r"\d $", _before(match)) and text == _ROUND:
            return False  # of a long number
        is_long = count >= _LONG and not text.endswith(_ROUND)
        return is_long or (count > 1 and text[0] == "0") or (count >= _LEAST and _has_cue(match))
    if _ORDINARY.fullmatch(text):
        return False
    if not re.search("[A-Za-z]", text):
        return _has_cue(match) and count >= _LEAST
    if text.isupper() and count >= _LEAST and (count > _LEAST or not re.fullmatch(r"\d+[A-Z]{1,2}", text)):
        return True
    return (re.fullmatch(r"[a-z]-\d{3,}", text) is not None) or (
        (text.isupper() or count >= _LEAST) and _has_cue(match)
    )


def _letters(part: str, english: bool) -> str:
    return letter_by_letter(part.upper()) if english else " ".join(part)


def _letter(match: re.Match[str], english: bool) -> str:
    letter, number = match[0].split(" ")
    if not _has_cue(match):
        return match[0] if number[0] != "0" else f"{letter} {digit_by_digit(number, english=english)}"
    return f"{_letters(letter, english)} {digit_by_digit(number, english=english)}"


_INSTEAD: dict[str, _Instead] = {
    "tag": _as_it_is,  # what controls a voice is the voice's
    "fence": _nothing,
    "line": _nothing,
    "row": _nothing,
    "cell": _always(", "),
    "begin": _nothing,
    "link": _nothing,
    "strong": _nothing,
    "emoji": _nothing,
    "address": _address,
    "url": _url,
    "domain": lambda match, _: spelled_address(match[0]),
    "number": _number,
    "dotted": _dotted,
    "days": _days,
    "years": _years,
    "coded": _coded,
    "scaled": _scaled,
    "phone": _phone,
    "range": _range,
    "minus": _always("minus "),
    "id": _id,
    "letter": _letter,
    "currency": lambda match, _: f" {_plural(match, CURRENCIES[match[0].strip()])}",
    "unit": lambda match, _: f" {_plural(match, UNITS[match[0].strip()])}",
    "about": _always("about "),
    "and": _always("and"),
    "short": lambda match, _: SHORT[match[0].lower()],
}
