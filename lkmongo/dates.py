"""Relative dates in what people say: "next Friday", "in two weeks", resolved when they are said.

A table of common English, German and Spanish forms, instead of a library: those find dates in "my dog may bark" and
"two cats", take a second to import, or know one language. What is not in the table stays words.
"""

from __future__ import annotations

import functools
import re
from calendar import monthrange
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from lkmongo.model import DateMention

Precision = Literal["day", "week", "month", "year"]
_Found = tuple[int, int, date | None, Precision]

_MONTHS = (
    "January February March April May June July August September October November December".split(),
    "Januar Februar März April Mai Juni Juli August September Oktober November Dezember".split(),
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre".split(),
)
_WEEKDAYS = (
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
    "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag".split(),
    "lunes martes miércoles jueves viernes sábado domingo".split(),
)
_NUMBERS = (
    "one two three four five six seven eight nine ten eleven twelve".split(),
    "ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf".split(),
    "un dos tres cuatro cinco seis siete ocho nueve diez once doce".split(),
)
_MORE_NUMBERS = {"a": 1, "an": 1, "a couple of": 2, "einem": 1, "einer": 1, "una": 1}


def _table(names: Sequence[Sequence[str]], first: int) -> dict[str, int]:
    return {word.casefold(): number for words in names for number, word in enumerate(words, first)}


_MONTH, _WEEKDAY = _table(_MONTHS, 1), _table(_WEEKDAYS, 0) | {"sonnabend": 5, "miercoles": 2, "sabado": 5}
_NUMBER = _table(_NUMBERS, 1) | _MORE_NUMBERS
_UNIT: dict[str, Precision] = dict.fromkeys("day days tag tage tagen día días dia dias".split(), "day")
_UNIT |= dict.fromkeys("week weeks fortnight woche wochen semana semanas".split(), "week")
_UNIT |= dict.fromkeys("month months monat monate monaten mes meses".split(), "month")
_UNIT |= dict.fromkeys("year years jahr jahre jahren año años".split(), "year")
_DAYS = {
    "the day after tomorrow": 2, "the day before yesterday": -2, "tomorrow": 1, "today": 0, "tonight": 0,
    "yesterday": -1, "übermorgen": 2, "vorgestern": -2, "heute": 0, "morgen": 1, "gestern": -1, "pasado mañana": 2,
    "anteayer": -2, "hoy": 0, "mañana": 1, "ayer": -1,
}  # fmt: skip


def _any(words: Iterable[str]) -> str:
    return "(?:" + "|".join(map(re.escape, sorted(words, key=len, reverse=True))) + ")"


@dataclass(frozen=True, slots=True)
class _Said:
    """When something was said, and the birthday of who said it, if it is known."""

    today: date
    birthday: date | None = None


_Rule = Callable[[re.Match[str], _Said], tuple[date | None, Precision]]


def _day_word(match: re.Match[str], said: _Said) -> tuple[date | None, Precision]:
    return _plus(said.today, _DAYS[match["day"]], "day"), "day"


def _weekday(direction: int, name: str = "") -> _Rule:
    """The first one after today, or the last one before."""

    def rule(match: re.Match[str], said: _Said) -> tuple[date | None, Precision]:
        ahead = (_WEEKDAY[(name or match["day"]).casefold()] - said.today.weekday()) % 7
        return _plus(said.today, (ahead or 7) if direction > 0 else (ahead - 7), "day"), "day"

    return rule


def _count(direction: int) -> _Rule:
    def rule(match: re.Match[str], said: _Said) -> tuple[date | None, Precision]:
        unit = match["unit"].casefold()
        count = _number(match["n"]) or 0
        return _plus(said.today, direction * count * (2 if unit == "fortnight" else 1), _UNIT[unit]), "day"

    return rule


def _period(direction: int) -> _Rule:
    """The first day of this, the next or the last week, month or year."""

    def rule(match: re.Match[str], said: _Said) -> tuple[date | None, Precision]:
        precision, today = _UNIT[match["unit"].casefold()], said.today
        begins = {"day": today, "week": today - timedelta(days=today.weekday()), "month": today.replace(day=1)}
        return _plus(begins.get(precision, today.replace(month=1, day=1)), direction, precision), precision

    return rule


def _month(direction: int) -> _Rule:
    """The next one that begins, or the last one that began, other than this month."""

    def rule(match: re.Match[str], said: _Said) -> tuple[date | None, Precision]:
        month, today = _MONTH[match["month"].casefold()], said.today
        is_this_year = month > today.month if direction > 0 else month < today.month
        return date(today.year if is_this_year else today.year + direction, month, 1), "month"

    return rule


def _age(match: re.Match[str], said: _Said) -> tuple[date | None, Precision]:
    age = _number(match["age"])
    return _plus(said.birthday, age, "year") if said.birthday and age else None, "day"


def _birthday(_match: re.Match[str], said: _Said) -> tuple[date | None, Precision]:
    if said.birthday is None:
        return None, "day"
    ages = range(said.today.year - said.birthday.year, said.today.year - said.birthday.year + 2)
    days = [day for age in ages if (day := _plus(said.birthday, age, "year")) and day >= said.today]
    return next(iter(days), None), "day"


def _unknown(_match: re.Match[str], _said: _Said) -> tuple[date | None, Precision]:
    return None, "day"


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else _NUMBER.get(text.casefold())


@functools.cache
def _rules() -> list[tuple[re.Pattern[str], _Rule]]:
    day, unit, month = rf"(?P<day>{_any(_WEEKDAY)})", rf"(?P<unit>{_any(_UNIT)})\b", rf"(?P<month>{_any(_MONTH)})\b"
    number = rf"(?P<n>\d{{1,3}}|{_any(_NUMBER)})"
    # "on Friday evenings" is a habit; "la mañana" and "am Morgen" are a part of the day, and Yesterday is a song.
    one_day = rf"{day}\b(?!\s+(?:morning|afternoon|evening|night)s\b)"
    coming = r"(?:next|coming|nächst(?:e[rsnm]?)|kommend(?:e[rsnm]?)|próxim[oa])"
    past = r"(?:last|past|letzt(?:e[rsnm]?)|vorig(?:e[rsnm]?)|últim[oa])"
    weekend = r"(?:this|next|at the) weekend|(?:dieses|nächstes|am) Wochenende|(?:este|el próximo) fin de semana"
    forms: list[tuple[str, _Rule]] = [
        (rf"(?-i:(?<!\bla )(?<!\bam )(?P<day>{_any(_DAYS)})\b(?!'))", _day_word),
        (rf"(?:{coming}|this|diesen|este|on|by|until|am|bis)\s+{one_day}", _weekday(1)),
        (rf"el {day} (?:que viene|próximo)\b", _weekday(1)),
        (rf"(?:{weekend})\b", _weekday(1, "saturday")),
        (rf"{past}\s+{one_day}", _weekday(-1)),
        (rf"el {day} pasado\b", _weekday(-1)),
        (rf"(?:in|within|en|dentro de)\s+{number}\s+{unit}", _count(1)),
        (rf"{number}\s+{unit}\s+ago\b", _count(-1)),
        (rf"(?:vor|hace)\s+{number}\s+{unit}", _count(-1)),
        (rf"{coming}\s+{unit}", _period(1)),
        (rf"(?:la|el) {unit} (?:que viene|próxim[oa])\b", _period(1)),
        (rf"this\s+{unit}", _period(0)),
        (rf"{past}\s+{unit}", _period(-1)),
        (rf"(?:la|el) {unit} pasad[oa]\b", _period(-1)),
        (rf"next\s+{month}", _month(1)),
        (rf"last\s+{month}", _month(-1)),
        (r"(?:when|once|as soon as) I turn (?P<age>[\w-]+)", _age),
        (r"wenn ich (?P<age>\w+) werde\b", _age),
        (r"cuando cumpla (?P<age>\w+)", _age),
        (r"(?:when|once|as soon as) (?:he|she|we|they|my \w+) turns? [\w-]+|wenn (?:er|sie) \w+ wird\b", _unknown),
        (r"on my (?:next )?birthday\b", _birthday),
        (r"on (?:his|her|our|their) (?:next )?(?:\w+ )?birthday\b", _unknown),
    ]
    return [(re.compile(rf"\b(?:{form})", re.IGNORECASE), rule) for form, rule in forms]


def prepare() -> None:
    """Compile the table, which takes a tenth of a second: in a thread, before the first call speaks of a date."""
    _rules()
    _absolute()


def resolve(
    text: str, at: datetime, timezone: str | None = None, birthday: str | None = None
) -> tuple[DateMention, ...]:
    """The relative dates in a text, in their order, with the days that are meant.

    Args:
        text: what was said.
        at: when.
        timezone: of who said it; by default UTC.
        birthday: what is known of theirs, such as "3 May 2001", for "when I turn 30".

    Returns:
        Each with its own words, and without a day if that cannot be told. "Next Friday" is the first one to come; a
        week, a month or a year is its first day.
    """
    today = at.astimezone(zone_of(timezone)).date()
    born = _absolute().search(birthday) if birthday else None
    is_whole = born and (born["iso"] or (born["month"] and (born["day"] or born["day2"])))
    said = _Said(today, _absolute_day(born, today) if born and is_whole else None)
    return tuple(DateMention(text[start:end], day) for start, end, day, _ in _found(text, said))


def _found(text: str, said: _Said) -> Iterator[_Found]:
    """Those that do not overlap, the longest first of two that begin at one place."""
    every = [
        (match.start(), match.end(), *day_of(match, said)) for rule, day_of in _rules() for match in rule.finditer(text)
    ]
    until = 0
    for start, end, day, precision in sorted(every, key=lambda each: (each[0], -each[1])):
        if start >= until:
            until = end
            yield start, end, day, precision


def zone_of(timezone: str | None) -> ZoneInfo:
    """The time zone of that name; UTC if there is none."""
    try:
        return ZoneInfo(timezone or "UTC")
    except (KeyError, ValueError, OSError):  # not on this machine
        return ZoneInfo("UTC")


_CHANGES = r"\b(?:moved|changed|started|began|switched|became|married|joined|bought|got|adopted|since|seit|desde)\b"


def start_of(text: str, at: datetime, timezone: str | None = None) -> datetime | None:
    """Since when something is true, said as "2026-05-01", "May", "in May 2024", "last week" or "two years ago".

    Args:
        text: such words, and nothing else.
        at: when they were said.
        timezone: of who said them; by default UTC.

    Returns:
        The beginning of that day, month or year in UTC, at which it counts as a date without a time; None if it cannot
        be told or is still to come.
    """
    today = at.astimezone(zone_of(timezone)).date()
    text = text.strip().rstrip(".")
    absolute = _absolute().fullmatch(text)
    if absolute:
        day = _absolute_day(absolute, today)
    else:
        found = list(_found(text, _Said(today)))
        day = found[0][2] if len(found) == 1 and found[0][1] - found[0][0] == len(text) else None
    return datetime.combine(day, time(), UTC) if day and day <= today else None


def start_in(text: str, at: datetime, timezone: str | None = None) -> datetime | None:
    """Since when a fact is true if its text says so: "Lisbon since May", "moved to Lisbon last week"."""
    changed = re.search(_CHANGES, text, re.IGNORECASE)
    if not changed:
        return None
    rest = text[changed.end() :]
    ends = [(match.start(), match.end()) for match in _absolute().finditer(rest) if _introduced(rest, match, changed)]
    ends += [(start, end) for start, end, _, _ in _found(rest, _Said(at.date()))]
    for start, end in sorted(ends, key=lambda each: (each[0], -each[1])):
        if since := start_of(rest[start:end], at, timezone):
            return since
    return None


def _introduced(rest: str, match: re.Match[str], changed: re.Match[str]) -> bool:
    """A bare "May" or "2020" is a date behind "in" or "since" alone."""
    is_directly = changed[0].casefold() in {"since", "seit", "desde"} and not rest[: match.start()].strip()
    return is_directly or bool(re.match(r"in |on |im |en ", match[0], re.IGNORECASE))


@functools.cache
def _absolute() -> re.Pattern[str]:
    month, year = rf"(?P<month>{_any(_MONTH)})", r"(?P<year>(?:19|20)\d\d)"
    return re.compile(
        r"\b(?:since |in |on |im |en )?(?:"
        r"(?P<iso>\d{4}-\d\d(?:-\d\d)?)"
        rf"|(?:(?P<day>\d{{1,2}})(?:st|nd|rd|th|\.)?(?: of| de)? )?{month}"
        rf"(?: (?P<day2>\d{{1,2}})(?:st|nd|rd|th)?\b(?!:))?(?:,? (?:de )?{year})?"
        r"|(?P<only>(?:19|20)\d\d))\b",
        re.IGNORECASE,
    )


def _absolute_day(match: re.Match[str], today: date) -> date | None:
    try:
        if match["iso"]:
            return date.fromisoformat(match["iso"] if len(match["iso"]) > 7 else f"{match['iso']}-01")
        if match["only"]:
            return date(int(match["only"]), 1, 1)
        month, day = _MONTH[match["month"].casefold()], int(match["day"] or match["day2"] or 1)
        if match["year"]:
            return date(int(match["year"]), month, day)
        this = date(today.year, month, day)
        return this if this <= today else date(today.year - 1, month, day)
    except ValueError:
        return None


def with_days(text: str, dates: Sequence[DateMention]) -> str:
    """The text with the days that were meant: "the party is next Friday, that is 4 December 2026"."""
    for mention in dates:
        start = text.find(mention.words)
        if start >= 0 and mention.day:
            end = start + len(mention.words)
            rest = text[end:]
            day = show_day(mention.day, _precision(mention))
            text = f"{text[:end]}, that is {day}{',' if rest[:1].isspace() else ''}{rest}"
    return text


def _precision(mention: DateMention) -> Precision:
    found = list(_found(mention.words, _Said(mention.day or date(2000, 1, 1))))
    return found[0][3] if found else "day"


def show_day(day: date, precision: Precision = "day") -> str:
    """A day in words that can be read out, such as 4 December 2026, or the week, month or year that begins then."""
    month = _MONTHS[0][day.month - 1]
    if precision == "year":
        return str(day.year)
    if precision == "month":
        return f"{month} {day.year}"
    return f"{'the week of ' if precision == 'week' else ''}{day.day} {month} {day.year}"


def is_stated(moment: datetime) -> bool:
    """Whether a time is a date that was said, as from `start_of`, rather than when something was said."""
    return moment.astimezone(UTC).time() == time()


def show_since(moment: datetime, timezone: str | None = None) -> str:
    """A time since or until when something is true, as exactly as it was said: 2019, May 2026 or 3 May 2026."""
    if not is_stated(moment):
        return show_day(moment.astimezone(zone_of(timezone)).date())
    moment = moment.astimezone(UTC)
    if moment.day == 1:
        return show_day(moment.date(), "year" if moment.month == 1 else "month")
    return show_day(moment.date())


def _plus(day: date, count: int, unit: Precision) -> date | None:
    try:
        if unit in ("day", "week"):
            return day + timedelta(days=count * (7 if unit == "week" else 1))
        months = day.year * 12 + day.month - 1 + count * (12 if unit == "year" else 1)
        year, month = divmod(months, 12)
        return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))
    except (OverflowError, ValueError):
        return None
