"""One check: what it found, how long it took, and what to do about it."""

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
"""Seconds that a check may take unless it sets its own."""


class Status(StrEnum):
    """The result of a check; the agent works in spite of a warning."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Check:
    """A named check and its result.

    Attributes:
        name: such as "mongodb.clock".
        detail: a sentence.
        hint: what to do about it, or None.
        facts: details, a line each.
        seconds: how long the check took.
        exit_code: the kind of a failure.
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
    """What a check function returns: a `Check` without name and time."""

    status: Status
    detail: str
    hint: str | None = None
    facts: tuple[str, ...] = ()
    exit_code: ExitCode = ExitCode.OK


CheckFunction = Callable[[], Awaitable[Finding]]


def ok(detail: str, *facts: str) -> Finding:
    return Finding(Status.OK, detail, facts=facts)


def warn(detail: str, hint: str, facts: Sequence[str] = ()) -> Finding:
    return Finding(Status.WARN, detail, hint, tuple(facts))


def skip(detail: str, hint: str | None = None) -> Finding:
    return Finding(Status.SKIP, detail, hint)


def fail(detail: str, hint: str | None, facts: Sequence[str] = (), *, exit_code: ExitCode = ExitCode.FAILED) -> Finding:
    return Finding(Status.FAIL, detail, hint, tuple(facts), exit_code)


def failed(error: LkmongoError) -> Finding:
    detail = f"{error.message}: {error.why}" if error.why else error.message
    own = error.exit_code in {ExitCode.AUTHENTICATION, ExitCode.NOT_READY}
    return fail(detail, error.hint, exit_code=error.exit_code if own else ExitCode.FAILED)


async def run(
    name: str, look: CheckFunction, *, secrets: Iterable[str] = (), deadline: float | None = DEADLINE
) -> Check:
    """Run one check; whatever it raises becomes a finding, so that the other checks still run.

    Args:
        name: of the check.
        look: the check function.
        secrets: redacted from the result.
        deadline: seconds; None if the check function has limits of its own and must not be cancelled.
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
        logger.debug("%s", name, exc_info=True)
        if limit.expired():
            finding = failed(NotReadyError(f"no answer within {deadline} s", hint="try again"))
        else:
            text = f"unexpected error: {type(error).__name__}: {str(error)[:300]}"
            finding = fail(text, "run it again with --debug and report the output")
    return check_of(name, finding, time.perf_counter() - started, secrets)


def check_of(name: str, finding: Finding, seconds: float = 0.0, secrets: Iterable[str] = ()) -> Check:
    hidden = list(secrets)
    check = Check(name, finding.status, finding.detail, finding.hint, finding.facts, seconds, finding.exit_code)
    return replace(
        check,
        detail=redact(check.detail, hidden),
        hint=redact(check.hint, hidden) if check.hint else None,
        facts=tuple(redact(fact, hidden) for fact in check.facts),
    )


def worst(checks: Iterable[Check]) -> LkmongoError | None:
    """One error for everything that failed, or None.

    The worst kind decides: not ready yet is the mildest, then refused credentials, then everything else.
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
