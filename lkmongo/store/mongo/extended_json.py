"""MongoDB's extended JSON, fast: orjson writes what JSON has a type for, a hook writes the rest.

The relaxed form of https://github.com/mongodb/specifications/blob/master/source/extended-json.rst, with two
kinds of number in the canonical form because the relaxed one would change them: what was a 64-bit integer and
would come back as one of 32 bits, and what a reader that holds every number as a double would round.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import bson
import orjson
from bson import json_util
from bson.binary import Binary
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.int64 import Int64
from bson.objectid import ObjectId

READ: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,  # a year that Python has not is kept as a number
    unicode_decode_error_handler="replace",  # one damaged string must not end an export; JSON has only UTF-8
)
"""How documents are decoded for `dumps`: times are in UTC without saying so, which is quicker to make and to write."""
OPTIONS = json_util.JSONOptions(
    json_mode=json_util.JSONMode.RELAXED,
    tz_aware=True,
    tzinfo=UTC,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
"""How to read it back: `json_util.loads(line, json_options=OPTIONS)`. Without, times come back without a zone."""

_FLAGS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - READ makes times without a zone
_INT32 = 2**31
_SAFE = 2**53


def decode(batch: Any) -> list[dict[str, Any]]:
    """The documents of a batch of a raw cursor."""
    return bson.decode_all(batch, READ)


def dumps(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> bytes:
    """Return a document, or several as an array, as extended JSON on one line; `loads` makes an equal one of it.

    A field whose name is one of extended JSON's own, such as `$date`, cannot be told from a value of that type by
    any reader of the format.

    Args:
        value: decoded with `READ`, or with times in a zone.
    """
    line = orjson.dumps(value, _typed, _FLAGS)
    if b"null" in line and not _is_finite(value):
        # orjson writes NaN and the infinities as null, without asking the hook. They are rare, null is not common.
        line = orjson.dumps(_finite(value), _typed, _FLAGS)
    return line


def loads(line: bytes | str) -> dict[str, Any]:
    """Return the document that `dumps` wrote, with times in UTC."""
    document: dict[str, Any] = json_util.loads(line, json_options=OPTIONS)
    return document


def _typed(value: Any) -> Any:
    """The hook for what JSON has no type for; the commonest come first."""
    kind = type(value)
    if kind is ObjectId:
        return {"$oid": str(value)}
    if kind is datetime:
        return {"$date": _iso(value)}
    if kind is Int64:
        plain = _INT32 < abs(number := int(value)) <= _SAFE
        return number if plain else {"$numberLong": str(number)}
    if kind is bytes or kind is Binary:
        subtype = 0 if kind is bytes else value.subtype
        return {"$binary": {"base64": base64.b64encode(value).decode(), "subType": f"{subtype:02x}"}}
    if isinstance(value, Mapping):
        return dict(value)
    return json_util.default(value, OPTIONS)


def _iso(moment: datetime) -> str | dict[str, str]:
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    if moment < _EPOCH:
        passed = moment - _EPOCH
        return {"$numberLong": str((passed.days * 86_400 + passed.seconds) * 1_000 + passed.microseconds // 1_000)}
    return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds") + "Z"


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return True


def _finite(value: Any) -> Any:
    """A copy of `value` with the numbers that JSON has not in extended JSON's form."""
    if isinstance(value, float) and not isfinite(value):
        return {"$numberDouble": "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"}  # noqa: PLR0124
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
