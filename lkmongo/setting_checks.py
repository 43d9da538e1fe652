"""What single settings accept: a check returns the value as it is used, or raises ValueError with what it must be.

With the values that `lkmongo.settings` makes of several, or says of one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, SecretStr
from pydantic_core import ErrorDetails

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


def origins(value: Any) -> Any:
    origins = [origin.strip().rstrip("/").lower() for origin in str(value).split(",")]
    if not all(re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", origin) for origin in origins):
        raise ValueError("must be origins such as https://talk.example.com, with commas between")
    return ",".join(origins)


def model_names(value: Any) -> Any:
    names = [name.strip() for name in str(value).split(",")]
    if not all(re.fullmatch(r"[^\s,]+", name) for name in names):
        raise ValueError("must be provider/model, or several of them with commas between")
    return ",".join(names)


def speech_models(tail: str, example: str) -> BeforeValidator:
    """LiveKit Inference strings for STT or TTS; `tail` names the part after the model."""

    def check(value: Any) -> Any:
        names = [name.strip() for name in str(value).split(",")]
        if not all(re.fullmatch(r"auto|[\w.-]+/[\w.-]+(:[^\s,:/]+)?", name) for name in names):
            raise ValueError(
                f"must be provider/model or provider/model:{tail}, such as {example}; several with commas between"
            )
        return ",".join(names)

    return BeforeValidator(check)


def agent_name(value: Any) -> Any:
    text = str(value)
    if len(text) > 128 or not text.isprintable():
        raise ValueError("must be up to 128 printable characters")
    return text


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


def embedding_address(value: Any) -> Any:
    """Without what may hold a secret, as it is shown and written to logs."""
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", str(value)):
        raise ValueError(
            "must be an address such as http://localhost:11434/v1, without user, password and parameters: "
            "a key goes into LKMONGO_EMBEDDING_API_KEY"
        )
    return str(value).rstrip("/")


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

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Variable:
    """A setting as documentation and `doctor` show it."""

    name: str
    meaning: str
    default: str
    secret: bool
