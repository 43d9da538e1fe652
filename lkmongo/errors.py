"""All errors, each with a message, a cause and a hint.

LkmongoError (1)
├── UsageError (2)             invalid input: an option, a file, an id, a line
│   ├── SettingsError          a setting that is invalid or missing
│   ├── MissingExtraError      an optional dependency is not installed
│   ├── InvalidIdError         an invalid user, tenant or order id
│   ├── InvalidTextError       text that is empty, too long or not text
│   │   ├── LimitError             more than a caller may: see docs/operations.md
│   │   └── SecretError            text with a password, a PIN, a card number or the like
│   ├── SeedError              an invalid seed file
│   └── AttachmentError        a caller session attached twice, or not at all
├── DeclinedError (1)          the user answered no; nothing was changed
├── NotReadyError (3)          not yet: try again
├── AuthenticationError (4)    credentials that are missing, wrong or insufficient
├── NotFoundError (5)          a named thing does not exist
├── DriftError (6)             the actual state differs from the expected one
├── NotSupportedError (7)      the server lacks a feature
├── DatabaseError (1)          MongoDB answered with an error
│   ├── DatabaseUnavailableError   MongoDB cannot be reached
│   ├── DatabaseOverloadedError    MongoDB or its search process refuses work for now
│   └── NewerVersionError      a document of a later release that this one cannot read
├── EmbeddedError (1)          the embedded mongod could not be started or stopped
└── EmbeddingError (1)         text could not be turned into vectors

The number is the exit code. A class's first docstring line is its message when none is given.
Messages never hold a secret and never end with a period after an id, a path or an address,
so that a double click copies what is meant.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes; the table in docs/cli.md is generated from them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_READY = 3
    AUTHENTICATION = 4
    NOT_FOUND = 5
    DRIFT = 6
    NOT_SUPPORTED = 7
    INTERRUPTED = 130
    TERMINATED = 143

    @property
    def meaning(self) -> str:
        """As the table of exit codes shows it."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "the operation failed, or a confirmation was declined",
    ExitCode.USAGE: "wrong usage, invalid or missing configuration, or no terminal for a confirmation",
    ExitCode.NOT_READY: "not ready yet; try again",
    ExitCode.AUTHENTICATION: "credentials are missing, wrong or insufficient",
    ExitCode.NOT_FOUND: "not found",
    ExitCode.DRIFT: "the actual state differs from the expected one",
    ExitCode.NOT_SUPPORTED: "not supported by this server",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C)",
    ExitCode.TERMINATED: "terminated (SIGTERM)",
}


class LkmongoError(Exception):
    """Something failed."""

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, message: str | None = None, *, why: str | None = None, hint: str | None = None) -> None:
        """Say what is wrong (`message`), the cause (`why`) and what to do next (`hint`)."""
        self.message = message or (self.__doc__ or "").partition("\n")[0].rstrip(".")
        self.why = why
        self.hint = hint
        super().__init__(self.message)


class UsageError(LkmongoError):
    """That is not how this is used."""

    code = "usage"
    exit_code = ExitCode.USAGE


class SettingsError(UsageError):
    """A setting is wrong or missing."""

    code = "bad_setting"


class MissingExtraError(UsageError):
    """A part of lkmongo that this needs is not installed."""

    code = "missing_extra"


class InvalidIdError(UsageError):
    """That cannot be an id."""

    code = "invalid_id"


class InvalidTextError(UsageError):
    """That text cannot be taken."""

    code = "invalid_text"


class LimitError(InvalidTextError):
    """That is more than one caller may."""

    code = "limit"


class SecretError(InvalidTextError):
    """Passwords, PINs, card numbers and the like are not stored."""

    code = "secret"


class SeedError(UsageError):
    """A seed file does not fit its schema."""

    code = "bad_seed"


class AttachmentError(UsageError):
    """A caller session is attached twice, or not at all."""

    code = "bad_attachment"


class DeclinedError(LkmongoError):
    """Nothing was changed."""

    code = "declined"


class ConsentError(LkmongoError):
    """The caller has not agreed that anything is kept of them."""

    code = "not_agreed"


class NotReadyError(LkmongoError):
    """It is not ready yet."""

    code = "not_ready"
    exit_code = ExitCode.NOT_READY


class AuthenticationError(LkmongoError):
    """The credentials were refused."""

    code = "authentication"
    exit_code = ExitCode.AUTHENTICATION


class NotFoundError(LkmongoError):
    """There is no such thing."""

    code = "not_found"
    exit_code = ExitCode.NOT_FOUND


class DriftError(LkmongoError):
    """What is there differs from what should be there."""

    code = "drift"
    exit_code = ExitCode.DRIFT


class NotSupportedError(LkmongoError):
    """This server cannot do that."""

    code = "not_supported"
    exit_code = ExitCode.NOT_SUPPORTED


class DatabaseError(LkmongoError):
    """MongoDB answered with an error."""

    code = "database"


class DatabaseUnavailableError(DatabaseError):
    """MongoDB cannot be reached."""

    code = "database_unavailable"


class DatabaseOverloadedError(DatabaseError):
    """MongoDB is overloaded."""

    code = "database_overloaded"


class NewerVersionError(DatabaseError):
    """A later release of lkmongo wrote this, in a form that this one cannot read."""

    code = "newer_version"

    def __init__(self) -> None:
        super().__init__(hint="upgrade lkmongo here to that release; lkmongo db status counts such documents")


class EmbeddedError(LkmongoError):
    """The embedded MongoDB cannot run here."""

    code = "embedded_mongod"


class EmbeddingError(LkmongoError):
    """Text could not be turned into vectors."""

    code = "embedding"


class UnreachableError(LkmongoError):
    """A service cannot be reached."""

    code = "unreachable"


def connection_failure(error: BaseException, seconds: float) -> str:
    """The `why` for a failed connection."""
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:g} s"
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
