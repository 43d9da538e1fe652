"""The words in which an English voice says digits, marks, units and currencies."""

from __future__ import annotations

import re

DIGITS = "zero one two three four five six seven eight nine".split()
MARKS = {".": "dot", "_": "underscore", "-": "dash", "+": "plus", "/": "slash", "%": "percent", ":": "colon"}
CURRENCIES = {
    "USD": ("US dollar", "US dollars"),
    "EUR": ("euro", "euros"),
    "GBP": ("pound", "pounds"),
    "CHF": ("Swiss franc", "Swiss francs"),
    "JPY": ("yen", "yen"),
    "CAD": ("Canadian dollar", "Canadian dollars"),
    "AUD": ("Australian dollar", "Australian dollars"),
    "INR": ("rupee", "rupees"),
}
SCALES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "tn": "trillion"}
UNITS = {
    "KB": ("kilobyte", "kilobytes"),
    "kB": ("kilobyte", "kilobytes"),
    "MB": ("megabyte", "megabytes"),
    "GB": ("gigabyte", "gigabytes"),
    "TB": ("terabyte", "terabytes"),
    "Mbps": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"),
    "kg": ("kilogram", "kilograms"),
    "mg": ("milligram", "milligrams"),
    "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "km": ("kilometre", "kilometres"),
    "cm": ("centimetre", "centimetres"),
    "mm": ("millimetre", "millimetres"),
    "ft": ("foot", "feet"),
    "km/h": ("kilometre an hour", "kilometres an hour"),
    "mph": ("mile an hour", "miles an hour"),
    "ml": ("millilitre", "millilitres"),
    "kWh": ("kilowatt hour", "kilowatt hours"),
    "kW": ("kilowatt", "kilowatts"),
    "mAh": ("milliampere hour", "milliampere hours"),
    "GHz": ("gigahertz", "gigahertz"),
    "MHz": ("megahertz", "megahertz"),
    "ms": ("millisecond", "milliseconds"),
    "hrs": ("hour", "hours"),
    "mins": ("minute", "minutes"),
    "m\u00b2": ("square metre", "square metres"),
    "\u00b0C": ("degree Celsius", "degrees Celsius"),
    "\u00b0F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "\u00b0": ("degree", "degrees"),
}
"""Without those that may be a word or mean several things: "in", "m", "g", "l"."""
SHORT = {
    "e.g.": "for example",
    "i.e.": "that is",
    "approx.": "approximately",
    "vs.": "versus",
    "w/o": "without",
    "w/": "with",
}
DAYS = {
    "Mon": "Monday", "Tue": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Fri": "Friday", "Sat": "Saturday",
    "Sun": "Sunday",
}  # fmt: skip
TOP_LEVEL = "com|org|net|io|ai|dev|app|edu|gov|info|shop|store|online|eu|co|uk|us|de|fr|es|it|nl|ch|at|ca|au|in|br"

_MOST_TOGETHER = 5
"""Digits that are said in one go; more have pauses between them."""
_WHOLE_GROUPS = {6: (3, 3), 7: (3, 4), 8: (4, 4), 9: (3, 3, 3), 10: (3, 3, 4), 11: (1, 3, 3, 4)}


def digit_by_digit(number: str, *, english: bool) -> str:
    """The digits of a number one by one, with pauses in a long one: "four one five, five five five"."""
    groups, at = [], 0
    for size in _sizes(len(number)):
        groups.append(" ".join(DIGITS[int(each)] if english else each for each in number[at : at + size]))
        at += size
    return ", ".join(groups)


def _sizes(count: int) -> tuple[int, ...]:
    if count <= _MOST_TOGETHER:
        return (count,)
    return _WHOLE_GROUPS.get(count) or (*(4,) * (count // 4), *((count % 4,) if count % 4 else ()))


def letter_by_letter(letters: str) -> str:
    """The letters of a code; an A alone is no article: "A."."""
    apart = " ".join(letters)
    return apart.replace("A", "A.") if set(letters) == {"A"} else apart


def spelled_address(text: str) -> str:
    """A part of an address in words: "robin_42" as "robin underscore four two"."""
    parts = re.findall(r"\d+|[^\W\d_]+|.", text)
    return " ".join(digit_by_digit(part, english=True) if part.isdigit() else MARKS.get(part, part) for part in parts)
