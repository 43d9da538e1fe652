"""The errors that the real service answers with, as wire documents."""

from __future__ import annotations

import re
from typing import Any

UNSUPPORTED = 9999
"""The stand-in's own code: the real service may well accept this, the stand-in does not model it."""

CODE_NAMES = {
    2: "BadValue",
    6: "HostUnreachable",
    7: "HostNotFound",
    8: "UnknownError",
    9: "FailedToParse",
    13: "Unauthorized",
    14: "TypeMismatch",
    18: "AuthenticationFailed",
    20: "IllegalOperation",
    26: "NamespaceNotFound",
    27: "IndexNotFound",
    43: "CursorNotFound",
    50: "MaxTimeMSExpired",
    68: "IndexAlreadyExists",
    72: "InvalidOptions",
    73: "InvalidNamespace",
    89: "NetworkTimeout",
    91: "ShutdownInProgress",
    115: "CommandNotSupported",
    125: "CommandFailed",
    134: "ReadConcernMajorityNotAvailableYet",
    175: "QueryPlanKilled",
    189: "PrimarySteppedDown",
    197: "InvalidIndexSpecificationOption",
    224: "QueryFeatureNotAllowed",
    262: "ExceededTimeLimit",
    263: "OperationNotSupportedInTransaction",
    323: "APIStrictError",
    396: "IndexInformationTooLarge",
    462: "IngressRequestRateLimitExceeded",
    489: "SearchRequestRejectedDueToOverload",
    9001: "SocketException",
    10107: "NotWritablePrimary",
    11600: "InterruptedAtShutdown",
    11601: "Interrupted",
    31082: "SearchNotEnabled",
    40414: "IDLFailedToParse",
    40415: "IDLUnknownField",
    UNSUPPORTED: "LKDoubleUnsupported",
}

MONGOT_DOWN = "Error connecting to localhost:28000 (127.0.0.1:28000) :: caused by :: Connection refused"
MANAGEMENT_DOWN = "Error connecting to Search Index Management service."
TIMED_OUT = "operation exceeded time limit"
QUOTA = "The maximum number of FTS indexes has been reached for this instance size."
OVERLOADED = "Query rejected: search server is currently at capacity. Please try again later."
BUSY = "Too many concurrent requests. Please try again later."


class CommandError(Exception):
    """An error reply: code, text and labels."""

    def __init__(self, code: int, message: str, labels: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.labels = labels

    def document(self) -> dict[str, Any]:
        """The reply document."""
        name = CODE_NAMES.get(self.code, f"Location{self.code}")
        reply: dict[str, Any] = {"ok": 0.0, "errmsg": self.message, "code": self.code, "codeName": name}
        if self.labels:
            reply["errorLabels"] = list(self.labels)
        return reply


class MongotError(CommandError):
    """An error of the search process; the server puts its own words before the text."""


class ConnectionLost(Exception):  # noqa: N818  it is an event, not an error reply
    """The connection to the client must end without a reply."""


def unsupported(what: str) -> CommandError:
    """What is not modelled is an error, never a pass-through."""
    return CommandError(UNSUPPORTED, f"LKDOUBLE unsupported: {what}")


class DefinitionError(CommandError):
    """A search index definition that the service refuses.

    What it cannot read is refused by a command before it does anything: `createSearchIndexes` names no code then, which
    the server makes 8. What it reads and finds wrong is 125, and so is every mistake of an update.

    Attributes:
        readable: the definition was read, and is wrong in what it means.
    """

    def __init__(self, message: str, *, readable: bool = False) -> None:
        super().__init__(125, message)
        self.readable = readable

    def at_creation(self, number: int) -> CommandError:
        """The error of `createSearchIndexes` for the definition of this number: it tells where in the command."""
        if self.readable:
            return self
        return CommandError(8, re.sub(r'^"', f'"userCommand.indexes[{number}].', self.message))


def bad_definition(why: str) -> DefinitionError:
    """A definition that the service cannot read; the text begins with the path in quotes, if there is one."""
    return DefinitionError(why)


def wrong_definition(why: str) -> DefinitionError:
    """A definition that the service reads, and that means nothing."""
    return DefinitionError(why, readable=True)
