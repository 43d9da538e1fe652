"""MongoDB's extended JSON, written fast by orjson with a hook for other types.

The relaxed form of https://github.com/mongodb/specifications/blob/master/source/extended-json.rst, except for 64-bit
integers that it would turn into 32-bit ones, or that readers with double precision would round.
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

from lkmongo.invisible import safe_json

READ: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,  # a year beyond Python's range is kept as a number
    unicode_decode_error_handler="replace",  # a damaged string must not end an export
)
"""Decodes documents for `dumps`: naive times in UTC, which are faster to make and to write."""
OPTIONS = json_util.JSONOptions(
    json_mode=json_util.JSONMode.RELAXED,
    tz_aware=True,
    tzinfo=UTC,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
"""For reading: `json_util.loads(line, json_options=OPTIONS)`; without them, times are naive."""

_FLAGS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - READ makes naive times
_INT32 = 2**31
_SAFE = 2**53


def decode(batch: Any) -> list[dict[str, Any]]:
    return bson.decode_all(batch, READ)


def dumps(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> bytes:
    """Encode a document, or several as an array, on one line that is safe to show; `loads` restores it.

    The format cannot distinguish a field named like one of its types, such as `$date`, from a value of that type.

    Args:
        value: decoded with `READ`, or with aware times.
    """
    line = orjson.dumps(value, _typed, _FLAGS)
    if b"null" in line and not _is_finite(value):
        # orjson writes NaN and infinities as null, without calling the hook.
        line = orjson.dumps(_finite(value), _typed, _FLAGS)
    return line if line.isascii() and b"\x7f" not in line else safe_json(line.decode()).encode()


def loads(line: bytes | str) -> dict[str, Any]:
    """Decode a document that `dumps` wrote; times are in UTC."""
    document: dict[str, Any] = json_util.loads(line, json_options=OPTIONS)
    return document


def _typed(value: Any) -> Any:
    """The hook for types unknown to JSON, most frequent first."""
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
    """A copy of `value` with NaN and infinities in extended JSON's form."""
    if isinstance(value, float) and not isfinite(value):
        return {"$numberDouble": "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"}  # noqa: PLR0124
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
