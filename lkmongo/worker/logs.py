"""What the worker and its jobs log, on stderr, as text or as a JSON object a line; never documents, never secrets."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from lkmongo.redact import RedactingFormatter

LEVELS = ("debug", "info", "warning", "error")
Shape = Literal["text", "json"]

_OWN = ("lkmongo", "livekit")
"""Loggers that follow the level asked for. Below warning, those of other libraries log requests and documents."""
_STANDARD = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_SHOWN = ("room", "job_id")


def configure(level: str, shape: Shape, secrets: Sequence[str]) -> None:
    """Send everything that is logged to stderr, from `level` on; the SDK brings what jobs log to the worker."""
    handler = logging.StreamHandler(sys.stderr)
    template = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    handler.setFormatter(JsonLines(secrets=secrets) if shape == "json" else Text(template, secrets=secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    wanted = logging.getLevelName(level.upper())
    root.setLevel(max(logging.WARNING, wanted))
    for name in _OWN:
        logging.getLogger(name).setLevel(wanted)
    # Named, so that the SDK hands the level to each job's process: at debug they log documents.
    logging.getLogger("pymongo").setLevel(max(logging.WARNING, wanted))


class Text(RedactingFormatter):
    """A line for people: when, how grave, who, what, and which room."""

    def write(self, record: logging.LogRecord) -> str:
        """The line, with what the record tells beside it."""
        about = [f"{name}={value}" for name in _SHOWN if (value := getattr(record, name, None))]
        if error := getattr(record, "error", None):
            about.append(f"error={error}")
        head, newline, rest = super().write(record).partition("\n")
        return f"{head}{f' [{chr(32).join(about)}]' if about else ''}{newline}{rest}"


class JsonLines(RedactingFormatter):
    """One object a line: time, level, logger, message, what the record has beside, and the exception."""

    def write(self, record: logging.LogRecord) -> str:
        """The object, without what the SDK marks as being about a person."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            name: value
            for name, value in record.__dict__.items()
            if name not in _STANDARD and name not in line and "pii" not in name.split(".")
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
