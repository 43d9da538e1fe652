"""Telephone numbers as LiveKit gives them: in one form (E.164), or withheld.

What a telephone network says of the caller comes in many forms: with or without a country, as a SIP address, with an
extension, withheld in several words. The reading is that of libphonenumber (the extra `phone`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lkmongo.errors import UsageError
from lkmongo.imports import extra

NUMBER, DIALLED = "sip.phoneNumber", "sip.trunkPhoneNumber"
"""The attributes of a SIP participant with the other side's number and with that of the trunk (docs.livekit.io)."""
Withheld = Literal["withheld"]
WITHHELD: Withheld = "withheld"

MASK = "…"
"""What stands for the digits of a number that are not told."""

_FALLBACK_IDENTITY = "sip_"
"""What livekit-sip puts before the number where nothing else gives the participant an identity."""
_NOBODY = frozenset("anonymous restricted unavailable unknown private withheld blocked asserted p".split())
_ADDRESS = re.compile(r"^(?:sips?|tel):", re.IGNORECASE)
_PARTS = re.compile(r"[;?]")
_EXTENSION = re.compile(r"(?:;ext=|[x#]|\bext\.?\s*)(\d{1,8})\b", re.IGNORECASE)
_FALLBACK_NUMBER = re.compile(r"\+?\d{7,15}(?![\w+])")
_IN_TEXT = re.compile(r"\+\d{7,15}(?!\d)|(?<=\bsip_)\d{7,15}(?!\w)|(?<=_)\d{7,15}(?=_[A-Za-z0-9]{12}$)", re.IGNORECASE)
"""With a plus; without one in a participant's identity, and in the name of a room of `dispatch_rule_individual`."""
_DISPLAYED = re.compile(r"^[^<]*<([^>]*)>")
"""An address behind the name of whose it is."""
_LETTER = re.compile(r"[^\W\d_]")
_BEGINS_IN_WORDS = re.compile(r"^[^\d+\uff0b]*[^\W\d_]")
_LEAST_DIGITS = 7
"""Of a number with its country; the shortest there are have so many."""
_LEAST_INTERNATIONAL = 10
"""Digits from which a number without a country is tried as an international one whose plus was left out."""


class PhoneNumberError(UsageError):
    """That is no telephone number."""

    code = "invalid_phone_number"


@dataclass(frozen=True, slots=True)
class PhoneNumber:
    """A telephone number in E.164, with `;ext=` (RFC 3966) behind it where there is an extension."""

    text: str

    @property
    def last_digits(self) -> str:
        """The last two, by which staff tell the numbers of one person apart."""
        return self.text[-2:]

    @property
    def region(self) -> str | None:
        """The country, as two letters; None where it is not in one."""
        from phonenumbers import parse, region_code_for_number

        found: str | None = region_code_for_number(parse(self.text))
        return found

    def __repr__(self) -> str:
        """Without the number, so that no log and no traceback has it."""
        return f"PhoneNumber(…{self.last_digits})"


def parse_number(text: str, region: str | None = None) -> PhoneNumber:
    """Read a number as somebody writes it; `region`, such as DE, is the country of one that names none.

    Raises:
        PhoneNumberError: it is none that can exist. The message does not have it.
        MissingExtraError: the extra `phone` is not installed.
    """
    with extra("phone", "reading telephone numbers"):
        from phonenumbers import (
            NumberParseException,
            PhoneNumberFormat,
            ValidationResult,
            format_number,
            is_possible_number_with_reason,
            parse,
        )

    wanted = region.upper() if region else None
    body = _ADDRESS.sub("", text.strip())
    extension = _EXTENSION.search(body)
    digits = _PARTS.split(body)[0].split("@")[0]
    if extension and extension.start() < len(digits):
        digits = digits[: extension.start()]
    if _BEGINS_IN_WORDS.match(digits):  # of "alice12345678", the library would take the digits
        digits = ""
    tries = [(digits, wanted)]
    plain = re.sub(r"\D", "", digits)
    if not digits.lstrip().startswith("+") and len(plain) >= _LEAST_INTERNATIONAL and not plain.startswith("0"):
        tries.append((f"+{plain}", None))
    for candidate, country in tries:
        try:
            number = parse(candidate, country)
        except NumberParseException:
            continue
        number.extension = None
        e164 = format_number(number, PhoneNumberFormat.E164)
        # One without its area is there in several, and a shorter one is an extension within some house.
        if is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE and len(e164) > _LEAST_DIGITS:
            return PhoneNumber(f"{e164};ext={extension[1]}" if extension else e164)
    raise PhoneNumberError(
        "that is not a telephone number",
        why="a number without its country needs one" if wanted is None else f"none that exists in {wanted} or abroad",
        hint="write it as +49 30 1234567, or set LKMONGO_PHONE_REGION",
    )


def number_of_caller(
    attributes: Mapping[str, str], identity: str, region: str | None = None
) -> PhoneNumber | Withheld | None:
    """The number of a SIP participant: None as long as it is not said, which may come later.

    Args:
        attributes: of the participant.
        identity: of the participant, which may be the only one that has the number.
        region: of a number without a country; by default that of the number that was dialled.
    """
    text = attributes.get(NUMBER)
    if text is None:
        if not identity.startswith(_FALLBACK_IDENTITY):
            return None
        text = identity.removeprefix(_FALLBACK_IDENTITY)
        if not _FALLBACK_NUMBER.match(text):  # an id of another kind, such as the hash of a number that a rule hides
            return None
    text = _DISPLAYED.sub(r"\1", text).strip().strip('"<>')
    name = _ADDRESS.sub("", text).split("@")[0].casefold()
    # No network shows a number in letters: whoever has some is a name, or an extension within a house.
    if not name or name in _NOBODY or _LETTER.search(_EXTENSION.sub("", name).split(";")[0]):
        return WITHHELD
    if region is None and (dialled := dialled_number(attributes)):
        region = dialled.region
    try:
        return parse_number(text, region)
    except PhoneNumberError:
        return WITHHELD  # an extension within the house, or a name: it tells nobody from nobody


def dialled_number(attributes: Mapping[str, str], region: str | None = None) -> PhoneNumber | None:
    """The trunk's own number, on which the call came in or went out."""
    try:
        return parse_number(attributes.get(DIALLED, ""), region)
    except PhoneNumberError:
        return None


def masked(text: str) -> str:
    """A text in which no telephone number with its country stands: of each, the last two digits stay."""
    return _IN_TEXT.sub(lambda found: f"{MASK}{found[0][-2:]}", text)
