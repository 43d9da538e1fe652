"""One part that was looked at: what was found, how long it took, and what to do."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from lkmongo.errors import AuthenticationError, ExitCode, LkmongoError, NotReadyError
from lkmongo.redact import redact

logger = logging.getLogger(__name__)

DEADLINE = 5
"""Seconds that a look may take unless it says otherwise."""


class Status(StrEnum):
    """What was found; a warning is nothing that keeps the agent from its work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Check:
    """One part and what was found of it.

    Attributes:
        name: such as "mongodb.clock".
        detail: a sentence.
        hint: what to do about it, or None.
        facts: more to know, a line each.
        seconds: how long the look took.
        exit_code: for a failure, of what kind it is.
    """

    name: str
    status: Status
    detail: str
    hint: str | None = None
    facts: tuple[str, ...] = ()
    seconds: float = 0.0
    exit_code: ExitCode = ExitCode.OK


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look came to; `Check` without name and time."""

    status: Status
    detail: str
    hint: str | None = None
    facts: tuple[str, ...] = ()
    exit_code: ExitCode = ExitCode.OK


Look = Callable[[], Awaitable[Finding]]


def ok(detail: str, *facts: str) -> Finding:
    """It is as it should be."""
    return Finding(Status.OK, detail, facts=facts)


def warn(detail: str, hint: str, facts: Sequence[str] = ()) -> Finding:
    """It works, and not as well as it could."""
    return Finding(Status.WARN, detail, hint, tuple(facts))


def skip(detail: str, hint: str | None = None) -> Finding:
    """It is not in use, or cannot be looked at."""
    return Finding(Status.SKIP, detail, hint)


def fail(detail: str, hint: str | None, facts: Sequence[str] = (), *, exit_code: ExitCode = ExitCode.FAILED) -> Finding:
    """It does not work."""
    return Finding(Status.FAIL, detail, hint, tuple(facts), exit_code)


def failed(error: LkmongoError) -> Finding:
    """It does not work, and an error says why."""
    detail = f"{error.message}: {error.why}" if error.why else error.message
    own = error.exit_code in {ExitCode.AUTHENTICATION, ExitCode.NOT_READY}
    return fail(detail, error.hint, exit_code=error.exit_code if own else ExitCode.FAILED)


async def run(name: str, look: Look, *, secrets: Iterable[str] = (), deadline: float | None = DEADLINE) -> Check:
    """Look at one part; whatever happens to it, the others can be looked at after.

    Args:
        name: of the part.
        look: looks at it.
        secrets: what must not be shown.
        deadline: seconds; None where the look has bounds of its own and must come to its end.
    """
    started = time.perf_counter()
    limit = asyncio.timeout(deadline)
    try:
        async with limit:
            finding = await look()
    except LkmongoError as error:
        logger.debug("%s", name, exc_info=True)
        finding = failed(error)
    except Exception as error:
        # One part that cannot be looked at must not hide the others.
        logger.debug("%s", name, exc_info=True)
        if limit.expired():
            finding = failed(NotReadyError(f"there was no answer within {deadline} s", hint="try again"))
        else:
            text = f"something went wrong that should not: {type(error).__name__}: {str(error)[:300]}"
            finding = fail(text, "run it again with --debug and report what it prints")
    return of(name, finding, time.perf_counter() - started, secrets)


def of(name: str, finding: Finding, seconds: float = 0.0, secrets: Iterable[str] = ()) -> Check:
    """The check of a finding, without secrets."""
    hidden = list(secrets)
    check = Check(name, finding.status, finding.detail, finding.hint, finding.facts, seconds, finding.exit_code)
    return replace(
        check,
        detail=redact(check.detail, hidden),
        hint=redact(check.hint, hidden) if check.hint else None,
        facts=tuple(redact(fact, hidden) for fact in check.facts),
    )


def worst(checks: Iterable[Check]) -> LkmongoError | None:
    """The error that stands for everything that failed, or None.

    What only needs time counts least, then refused credentials, then all else.
    """
    wrong = [check for check in checks if check.status is Status.FAIL]
    if not wrong:
        return None
    kinds = {check.exit_code for check in wrong}
    kind: type[LkmongoError] = LkmongoError
    if kinds <= {ExitCode.NOT_READY}:
        kind = NotReadyError
    elif kinds <= {ExitCode.NOT_READY, ExitCode.AUTHENTICATION}:
        kind = AuthenticationError
    first = next(check for check in wrong if check.exit_code == kind.exit_code)
    return kind(
        f"{len(wrong)} {'part does' if len(wrong) == 1 else 'parts do'} not work: "
        f"{', '.join(check.name for check in wrong)}",
        why=f"{first.name}: {first.detail}",
        hint=first.hint,
    )
