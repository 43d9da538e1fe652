"""What single settings accept: a check returns the value as it is used, or raises ValueError with what it must be.

With the values that `lkmongo.settings` makes of several, or says of one.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_network
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo
from pydantic_core import ErrorDetails

from lkmongo.api_secret import SHORTEST_SECRET, weakness
from lkmongo.errors import SettingsError, UsageError
from lkmongo.times import parse_duration

ENVIRONMENT = "environment"
SECRET_PREFIX = "whsec_"  # noqa: S105
"""What the secret of a webhook begins with, by the Standard Webhooks specification; the rest is base64."""


def mongodb_uri(value: Any) -> Any:
    if not re.match(r"mongodb(\+srv)?://.", str(value)):
        begins = re.match(r"mongodb(\+srv)?://", str(value))
        raise ValueError("must name a host" if begins else "must begin with mongodb:// or mongodb+srv://")
    return value


def url(*schemes: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if not re.match(rf"({'|'.join(schemes)})://[^\s/]+", str(value)):
            raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return str(value).rstrip("/")

    return BeforeValidator(check)


def switch(value: Any) -> Any:
    words = {"on": True, "off": False, "1": True, "0": False, "true": True, "false": False, "yes": True, "no": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() not in words:
        raise ValueError("must be on or off")
    return words[str(value).lower()]


def linger(value: Any) -> Any:
    try:
        return timedelta() if str(value) == "0" else parse_duration(str(value))
    except UsageError as error:
        raise ValueError("must be a duration such as 60s or 10m, or 0") from error


def call_length(value: Any) -> Any:
    try:
        length = value if isinstance(value, timedelta) else parse_duration(str(value))
    except UsageError as error:
        raise ValueError("must be a duration such as 45m or 2h") from error
    if length < timedelta(minutes=2):
        raise ValueError("must be two minutes or more: the caller is warned a minute before the end")
    return length


RECYCLED_AFTER = timedelta(days=180)
"""How long a telephone number may be unused until it may be somebody else's, unless a setting says otherwise."""


def days(value: Any) -> Any:
    try:
        length = value if isinstance(value, timedelta) else parse_duration(str(value))
    except UsageError as error:
        raise ValueError("must be a duration such as 90d or 26w") from error
    if length < timedelta(days=1):
        raise ValueError("must be a day or more")
    return length


def region(value: Any) -> Any:
    """A country in capitals, as libphonenumber knows it."""
    text = str(value).strip().upper()
    if value is False:
        raise ValueError('must be in quotation marks: YAML takes NO for "false"')
    with suppress(ImportError):  # without the extra, no number is read either
        from phonenumbers import SUPPORTED_REGIONS

        if text not in SUPPORTED_REGIONS:
            raise ValueError("must be the two letters of a country, such as DE, GB or US")
    if not re.fullmatch("[A-Z]{2}", text):
        raise ValueError("must be the two letters of a country, such as DE, GB or US")
    return text


def language(value: Any) -> Any:
    """The tag of a language (BCP 47) in its usual form."""
    if value is False:
        raise ValueError('must be in quotation marks: YAML takes no for "false"')
    match = re.fullmatch(r"([A-Za-z]{2,3})(?:[-_]([A-Za-z]{4}))?(?:[-_]([A-Za-z]{2}))?", str(value).strip())
    if not match:
        raise ValueError("must be the tag of a language, such as de, de-AT or zh-Hans")
    return "-".join(filter(None, (match[1].lower(), (match[2] or "").title(), (match[3] or "").upper())))


def voice(value: Any) -> Any:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(:[^\s,:/]+)?|[^\s,:/]+", str(value)):
        raise ValueError("must be a voice of the model in LKMONGO_TTS, or provider/model:voice")
    return str(value)


_UNITS = {"": 1, "b": 1, "kb": 1_000, "mb": 1_000_000}


def size(value: Any) -> Any:
    match = re.fullmatch(r"([0-9]{1,7})\s*(|b|kb|mb)", str(value).strip().lower())
    found = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 10_000 <= found <= 1_000_000:
        raise ValueError("must be a size such as 500KB, from 10KB to 1MB")
    return found


Count = Annotated[int, Field(gt=0, le=100_000)]
Slots = Annotated[int, Field(gt=0, le=10_000)]
Size = Annotated[int, BeforeValidator(size)]
CallLength = Annotated[timedelta, BeforeValidator(call_length)]


def import_path(what: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", str(value)):
            raise ValueError(f"must be package.module:{what}")
        return value

    return BeforeValidator(check)


def web_keys(value: Any) -> Any:
    keys = [key.strip() for key in str(value).split(",")]
    if not all(len(key) >= 32 and key.isascii() and key.isprintable() for key in keys):
        raise ValueError(
            "must be keys of at least 32 characters with commas between, the new one first: openssl rand -hex 32"
        )
    return ",".join(keys)


def previous_secrets(value: Any) -> Any:
    secrets = [secret.strip() for secret in str(value).split(",")]
    if any(weakness(secret) for secret in secrets):
        raise ValueError(
            f"must be secrets of at least {SHORTEST_SECRET} random bytes with commas between: one that can be guessed "
            "must not open anything any more"
        )
    return ",".join(secrets)


def erasure_key(value: Any) -> Any:
    if not (len(str(value)) >= 32 and str(value).isascii() and str(value).isprintable()):
        raise ValueError("must be a key of at least 32 characters: openssl rand -hex 32")
    return value


def operator(value: Any) -> Any:
    if not (str(value).isprintable() and len(str(value)) <= 128):
        raise ValueError("must be up to 128 printable characters")
    return value


def origins(value: Any) -> Any:
    origins = [origin.strip().rstrip("/").lower() for origin in str(value).split(",")]
    if not all(re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", origin) for origin in origins):
        raise ValueError("must be origins such as https://talk.example.com, with commas between")
    return ",".join(origins)


def proxies(value: Any) -> Any:
    text = str(value)
    if text.isdecimal() and 1 <= int(text) <= 9:
        return text
    try:
        return ",".join(str(ip_network(each.strip(), strict=False)) for each in text.split(","))
    except ValueError:
        raise ValueError("must be a number from 1 to 9, or networks such as 10.0.0.0/8 with commas between") from None


def line(most: int) -> BeforeValidator:
    """One line of text for people."""

    def check(value: Any) -> Any:
        text = " ".join(str(value).split())
        if not text.isprintable() or len(text) > most:
            raise ValueError(f"must be up to {most} printable characters")
        return text

    return BeforeValidator(check)


def color(value: Any) -> Any:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", str(value)):
        raise ValueError("must be a color such as #00684a")
    return str(value).lower()


def logo(value: Any) -> Any:
    if not str(value).lower().endswith((".svg", ".png", ".webp")):
        raise ValueError("must name a .svg, .png or .webp file")
    return value


def examples(value: Any) -> Any:
    texts = [" ".join(text.split()) for text in str(value).split("|")]
    if len(texts) > 4 or not all(0 < len(text) <= 100 and text.isprintable() for text in texts):
        raise ValueError("must be up to 4 sentences of up to 100 printable characters, with | between")
    return "|".join(texts)


def model_names(value: Any) -> Any:
    names = [name.strip() for name in str(value).split(",")]
    if not all(re.fullmatch(r"[^\s,]+", name) for name in names):
        raise ValueError("must be provider/model, or several of them with commas between")
    return ",".join(names)


def speech_models(tail: str, example: str, *, server: str) -> BeforeValidator:
    """LiveKit Inference strings for STT or TTS, or one model of a server; `tail` names the part after the model.

    Args:
        tail: language or voice.
        example: an Inference string.
        server: the field with the server's address, which comes before this one.
    """

    def check(value: Any, info: ValidationInfo) -> Any:
        if info.data.get(server):
            if not re.fullmatch(r"[^\s,:]+(:[^\s,:]+){0,2}", str(value)):
                raise ValueError(f"must be model or model:{tail}, as the server calls them")
            return str(value)
        names = [name.strip() for name in str(value).split(",")]
        if not all(re.fullmatch(r"auto|[\w.-]+/[\w.-]+(:[^\s,:/]+)?", name) for name in names):
            raise ValueError(
                f"must be provider/model or provider/model:{tail}, such as {example}; several with commas between"
            )
        return ",".join(names)

    return BeforeValidator(check)


LIVEKIT_ENDPOINTING = (0.3, 2.5)
"""LiveKit's own delays with its turn detector, for recognisers with which ours were not measured."""
ENDPOINTING = (0.5, 1.5)
"""Seconds of silence after which a turn is over, and after which if it seems unfinished: see benchmarks/voice.py."""
_MOST_PATIENT = 10.0


def endpointing(value: Any) -> Any:
    """The shorter and the longer delay in seconds."""
    parts = list(value) if isinstance(value, tuple | list) else str(value).split(",")
    try:
        shortest, longest = (float(part) for part in parts)
    except ValueError:
        raise ValueError("must be two numbers of seconds with a comma between, such as 0.5,1.5") from None
    if not 0 <= shortest <= longest <= _MOST_PATIENT:
        raise ValueError(
            f"must be the shorter delay, then the longer one, from 0 to {_MOST_PATIENT:g} seconds, such as 0.5,1.5"
        )
    return shortest, longest


Endpointing = Annotated[tuple[float, float], BeforeValidator(endpointing)]


def agent_name(value: Any) -> Any:
    text = str(value)
    if len(text) > 128 or not text.isprintable():
        raise ValueError("must be up to 128 printable characters")
    return text


def sip_trunk(value: Any) -> Any:
    if not re.fullmatch(r"ST_\w{1,64}", str(value), re.ASCII):
        raise ValueError("must be the id of an outbound trunk, such as ST_AbCdEf123456")
    return value


def webhook_url(value: Any) -> Any:
    if not re.match(r"https://[^\s/]+|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?([/?]|$)", str(value)):
        raise ValueError("must begin with https://, or with http:// for a receiver on localhost")
    return value


def webhook_secret(value: Any) -> Any:
    try:
        key = signing_key(str(value))
    except ValueError:
        key = b""
    if not (str(value).startswith(SECRET_PREFIX) and 24 <= len(key) <= 64):
        raise ValueError(
            f"must be {SECRET_PREFIX} and 24 to 64 bytes in base64: echo {SECRET_PREFIX}$(openssl rand -base64 32)"
        )
    return value


def signing_key(secret: str) -> bytes:
    """The bytes of a webhook's secret; raises ValueError."""
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError from error


def server_address(example: str, key: str) -> BeforeValidator:
    """The address of a server without what may hold a secret, as it is shown and logged; a setting is for that."""

    def check(value: Any) -> Any:
        if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", str(value)):
            raise ValueError(
                f"must be an address such as {example}, without user, password and parameters: a key goes into {key}"
            )
        return str(value).rstrip("/")

    return BeforeValidator(check)


def prefix(value: Any) -> Any:
    text = str(value)
    if len(text) > 300:
        raise ValueError("must have at most 300 characters")
    return "" if text.strip().lower() in {"", "none"} else text if text[-1].isspace() else f"{text} "


def can_embed(mongodb_uri: object, search: str) -> None:
    """Raise SettingsError unless there may be search indexes that embed by themselves, and they are searched."""
    wrong = (
        "MONGODB_URI is not set" if mongodb_uri is None else "LKMONGO_SEARCH is exact" if search == "exact" else None
    )
    if wrong:
        raise SettingsError(
            f"LKMONGO_EMBEDDINGS is atlas, but {wrong}",
            why="only the search indexes of Atlas, or of a MongoDB with mongot, embed by themselves",
            hint="set MONGODB_URI and unset LKMONGO_SEARCH, or set LKMONGO_EMBEDDINGS=local",
        )


def explain(name: str, first: ErrorDetails, sources: Mapping[str, str]) -> SettingsError:
    """Name the variable, the accepted values and the source of the invalid one, which is not shown."""
    if first["type"] == "literal_error":
        accepted = f"must be {first['ctx']['expected'].replace(chr(39), '')}"
    elif first["type"].startswith("int_"):
        accepted = "must be a whole number"
    elif first["type"] == "string_pattern_mismatch":
        accepted = "has characters that a database name cannot have"
    else:
        accepted = str(first["msg"]).removeprefix("Value error, ")
        accepted = accepted if accepted.startswith("must") else f"is not accepted: {accepted}"
    source = sources.get(name, ENVIRONMENT)
    where = "the environment" if source == ENVIRONMENT else source
    return SettingsError(f"{name} {accepted}", why=f"it is set in {where}", hint=f"correct {name}, or unset it")


@dataclass(frozen=True, slots=True)
class LiveKitCredentials:
    """Address and key pair of a LiveKit project."""

    url: str
    api_key: str
    api_secret: SecretStr
    previous: tuple[str, ...] = field(default=(), repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may have sealed a caller: the secret, then those it has replaced."""
        return (self.api_secret.get_secret_value(), *self.previous)

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches that address."""
        return is_loopback(urlsplit(self.url).hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is reachable from this machine only."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Variable:
    """A setting as documentation and `doctor` show it."""

    name: str
    meaning: str
    default: str
    secret: bool
