"""Reads facts from files: our own export, JSON lines, and what mem0 and Zep export.

The format is told by the content. Each fact knows its line, so that an error names it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lkmongo.confidential import WITHHELD
from lkmongo.errors import InvalidTextError, UsageError
from lkmongo.model import MAX_LABEL, DateMention, Source, slot_name
from lkmongo.store.people.history import dates_of, source_of

Format = Literal["lkmongo", "jsonl", "mem0", "zep"]

MAX_DOCUMENT = 256 * 2**20
"""Bytes of a file that is one JSON document, which is read as a whole; JSON lines have no limit."""
_WORDS_IN_LABEL = 6
_NO_LABEL_WORDS = frozenset(
    "a an and are as at be for from has have he her his i in is it its my of on or our she that the their they this to "
    "user user's users was we were who with you your".split()
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One fact of a file.

    Attributes:
        line: where it is, from 1.
        user_id: whose, if the file says so.
        label: of the fact; None if it has only a text.
        content: its value.
        at: when it was said or last changed; None if the file does not say.
        valid_from: since when it is true.
        valid_to: since when it is not true any more; None if it is.
        source: where it comes from.
        dates: relative dates in it that are resolved.
    """

    line: int
    user_id: str | None
    label: str | None
    content: str
    at: datetime | None
    valid_from: datetime | None
    valid_to: datetime | None
    source: Source
    dates: tuple[DateMention, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """A fact that is not imported: its line, and why."""

    line: int
    why: str


def read(path: Path) -> tuple[Format, Iterator[Entry | Problem]]:
    """The format of a file, and its facts and faults as they are read.

    Raises:
        UsageError: it cannot be read, is no JSON, or holds nothing that looks like facts.
    """
    try:
        with path.open("rb") as file:
            first = next((line for line in file if line.strip()), b"")
    except OSError as error:
        raise UsageError(f"{path} cannot be read", why=error.strerror or str(error)) from error
    if not first:
        raise UsageError(f"{path} is empty", hint="give a file with facts: see docs/memory-history.md")
    if _is_one_of_many(first):
        return "jsonl", _lines(path)
    return _document(path)


def _is_one_of_many(line: bytes) -> bool:
    """Whether a first line is one whole fact, and not a document, or the beginning of one."""
    try:
        value = json.loads(line)
    except ValueError:
        return False
    return isinstance(value, dict) and any(isinstance(value.get(name), str) for name in ("content", "memory", "fact"))


def _lines(path: Path) -> Iterator[Entry | Problem]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    value = json.loads(line)
                except ValueError as error:
                    yield Problem(number, f"it is not JSON: {error}")
                else:
                    yield _entry(number, value, {})


def _document(path: Path) -> tuple[Format, Iterator[Entry | Problem]]:
    size = path.stat().st_size
    if size > MAX_DOCUMENT:
        raise UsageError(
            f"{path} has {size:,} bytes; {MAX_DOCUMENT:,} are allowed for one JSON document",
            hint="write it as JSON lines: one fact a line",
        )
    text = path.read_bytes().decode("utf-8-sig", "replace")
    try:
        whole = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{path} is not JSON", why=str(error)) from error
    if isinstance(whole, dict) and isinstance(whole.get("memories"), list) and "user_id" in whole:
        return "lkmongo", _entries(text, ["memories", "memory_history"], whole)
    for key in ("results", "memories", "edges", "facts", "data"):
        if isinstance(whole, dict) and isinstance(whole.get(key), list):
            return _kind(whole[key]), _entries(text, [key], whole)
    if isinstance(whole, list):
        return _kind(whole), _entries(text, [None], {})
    raise UsageError(
        f"{path} holds no facts that are known here",
        hint="give an export of lkmongo, mem0 or Zep, or JSON lines: see docs/memory-history.md",
    )


def _kind(values: list[Any]) -> Format:
    first = next((each for each in values if isinstance(each, dict)), {})
    return "mem0" if "memory" in first else "zep" if "fact" in first else "jsonl"


def _entries(text: str, keys: list[str | None], whole: Mapping[str, Any]) -> Iterator[Entry | Problem]:
    """The elements of these lists of a document, with their lines."""
    decoder, line, counted = json.JSONDecoder(), 1, 0
    for key in keys:
        begins = re.search(rf'"{key}"\s*:\s*\[' if key else r"\[", text)
        if not begins:
            continue
        position = begins.end()
        while (position := _next(text, position)) < len(text) and text[position] != "]":
            if position >= counted:
                line += text.count("\n", counted, position)
            else:
                line = 1 + text.count("\n", 0, position)
            counted = position
            value, position = decoder.raw_decode(text, position)
            yield _entry(line, value, whole)


def _next(text: str, position: int) -> int:
    found = re.compile(r"[^\s,]").search(text, position)
    return found.start() if found else len(text)


def _entry(line: int, value: Any, whole: Mapping[str, Any]) -> Entry | Problem:
    if not isinstance(value, dict):
        return Problem(line, "it is no JSON object")
    try:
        return _read(line, value, whole)
    except (ValueError, InvalidTextError) as error:
        return Problem(line, error.message if isinstance(error, InvalidTextError) else str(error))


def _read(line: int, value: Mapping[str, Any], whole: Mapping[str, Any]) -> Entry:
    user = next(
        (each for each in (_text(value, "user_id"), _text(value, "group_id"), _text(whole, "user_id")) if each), None
    )
    said = _time(value, "updated_at") or _time(value, "created_at")
    if isinstance(value.get("memory"), str):  # mem0
        source = Source("imported", "mem0", _text(value, "id"))
        return Entry(line, user, None, _content(value, "memory"), said, _time(value, "created_at"), None, source)
    if isinstance(value.get("fact"), str):  # Zep: an edge of its graph
        source = Source("imported", "zep", _text(value, "uuid") or _text(value, "uuid_"))
        began, ended = _time(value, "valid_at"), _time(value, "invalid_at") or _time(value, "expired_at")
        return Entry(line, user, None, _content(value, "fact"), said or began, began or said, ended, source)
    label = _text(value, "memory_type") or _text(value, "label")
    own = source_of(value.get("source"))
    if own is None:
        named = value.get("source")
        own = Source(
            "imported",
            named if isinstance(named, str) else "lkmongo" if "memories" in whole else None,
            _text(value, "id"),
        )
    began, ended = _time(value, "valid_from"), _time(value, "valid_to")
    dates = dates_of(value.get("dates"))
    return Entry(
        line, user, slot_name(label) if label else None, _content(value, "content"), said, began, ended, own, dates
    )


def _text(value: Mapping[str, Any], name: str) -> str | None:
    found = value.get(name)
    return found if isinstance(found, str) and found.strip() else None


def _content(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"it has no text in {name!r}")
    if text.strip() == WITHHELD:
        raise ValueError("its content was withheld")
    return text


def _time(value: Mapping[str, Any], name: str) -> datetime | None:
    text = value.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {text!r}, not a time such as 2026-05-01T09:30:00Z") from None
    found = (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


def label_of(content: str) -> str:
    """A label for a text that has none: its first words that say something, in snake_case."""
    words = [
        word for word in re.findall(r"[^\W_]+(?:['\u2019]\w+)?", content.casefold()) if word not in _NO_LABEL_WORDS
    ]
    kept: list[str] = []
    for word in words[:_WORDS_IN_LABEL]:
        if len("_".join([*kept, word])) > MAX_LABEL - _ROOM:
            break
        kept.append(word)
    try:
        return slot_name("_".join(kept))
    except InvalidTextError:
        return f"imported_{digest(content)}"


def numbered(label: str, key: str) -> str:
    """The label for a text that shares its words with another one: the same each time for the same `key`."""
    return f"{label[: MAX_LABEL - _ROOM]}_{digest(key)}"


_ROOM = 7


def digest(text: str) -> str:
    """Six characters that stand for a text."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[: _ROOM - 1]
