"""Detects what an assistant must not remember (passwords, PINs, card numbers and the like), and removes it from text.

Everything to be stored is checked here, whichever model asks, and so is what was stored earlier, before it is spoken,
put into a briefing or listed. What finds it is in `lkmongo.detectors`; what replaced one, such as "[card ending 1111]",
counts as one, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lkmongo.detectors import named
from lkmongo.detectors.numbers import RUN, by_shape, digits
from lkmongo.detectors.plain import MASK, MASKS, read

REFUSAL = "I don't store passwords, PINs, card numbers and the like. Please keep those to yourself."
"""The answer to a caller who asks for one to be remembered."""
WITHHELD = "(withheld)"
"""Replaces a secret that was stored before it was refused."""

_SENTENCE_END = re.compile(r"(?<=[.!?;。])(?<!\.[^\W\d_]\.)\s+|\n+")
_OPEN_TO_ALL = frozenset((MASKS["phone"], MASKS["email"]))
"""Masks of what may be remembered."""


def holds_secret(text: str) -> bool:
    """Whether a text contains something that must not be remembered."""
    return bool(secrets_in(text))


def is_secret(label: str, content: str) -> bool:
    """Whether a slot with this name and content must not be remembered; the name alone can decide that."""
    name = label.replace("_", " ")
    return named.is_secret_label(name) or holds_secret(content) or holds_secret(f"{name}: {content}")


def secrets_in(text: str) -> frozenset[str]:
    """The secrets in a text, numbers as their digits, and the masks of secrets."""
    masked = [found[0] for found in MASK.finditer(text) if found[0] not in _OPEN_TO_ALL] if "[" in text else []
    if not named.may_hold(text):
        return frozenset(masked)
    plain = read(text).text
    return frozenset([*masked, *(found.value for found in (*by_shape(plain), *named.named(plain)))])


def asks_for_secret(text: str) -> bool:
    """Whether a text ends in a kind of secret, or in a card, or asks for it: what follows may be the secret itself."""
    return named.asked(read(text).text) is not None


def asks_for_pin(text: str) -> bool:
    """Whether a text asks for a PIN, so that digits that follow may be it."""
    return named.asked(read(text).text) == "pin"


def is_bare_value(text: str) -> bool:
    """Whether a text is only a value, such as the answer to a question for one: "1234", "it's hunter2"."""
    return named.may_hold(text) and named.is_bare(read(text).text)


def trails_off(text: str) -> bool:
    """Whether a text names a secret and breaks off before its value: "my card number is", "my PIN"."""
    return named.left_open(read(text).text) is not None


def numbers_in(text: str) -> frozenset[str]:
    """The numbers of three digits or more in a text, as digits."""
    return frozenset(number for run in RUN.findall(read(text).text) if len(number := digits(run)) > 2)


def tells(text: str, secrets: Iterable[str]) -> bool:
    """Whether a text contains one of these secrets, however its digits are grouped."""
    plain = read(text).text
    words = _spaced(plain)
    return any(
        grouped(secret).search(plain)
        if secret.isdigit()
        else secret in text
        if MASK.fullmatch(secret)
        else _spaced(secret) in words
        for secret in secrets
    )


def grouped(number: str) -> re.Pattern[str]:
    """What finds a number however its digits are grouped."""
    return re.compile(rf"(?<!\d){'[ .,/_-]{0,3}'.join(number)}(?!\d)")


def _spaced(text: str) -> str:
    words = " ".join(re.findall(r"[^_\W]+", text.casefold()))
    return f" {words} "


def without_secrets(text: str, known: Iterable[str] = ()) -> str:
    """A text without the sentences that contain a secret or one of those `known`; may be empty."""
    secrets = {*known, *secrets_in(text)}
    if not secrets:
        return text
    sentences = _SENTENCE_END.split(text)
    kept = " ".join(each for each in sentences if not (holds_secret(each) or tells(each, secrets))).strip(" ;,")
    return "" if holds_secret(kept) or tells(kept, secrets) else kept
