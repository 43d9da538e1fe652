"""What can go wrong with a search on the server, told apart by the code of the answer."""

from __future__ import annotations

import logging

from pymongo.errors import ExecutionTimeout, OperationFailure, PyMongoError

from lkmongo.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    DriftError,
    LkmongoError,
    NotReadyError,
    NotSupportedError,
)
from lkmongo.store import operations
from lkmongo.store.capabilities import NO_SEARCH

logger = logging.getLogger(__name__)

_PROVISION = "lkmongo db indexes"
_UNREACHABLE = {6, 7, 89, 91, 9001}
_TOO_LATE = {50, 262}


class SearchTimeoutError(DatabaseError):
    """The search took too long."""

    code = "search_timeout"


class NotForAtlasError(LkmongoError):
    """This search is one for the exact strategy."""

    code = "not_for_atlas"


def explain(error: PyMongoError | TimeoutError) -> LkmongoError:  # noqa: PLR0911 - one answer for each kind of error
    """Say what kept a search from being answered; equal causes have equal messages, so that one can be told once."""
    if isinstance(error, TimeoutError):
        return SearchTimeoutError(why="no answer within the deadline")
    why = operations.explain(error).why
    code = error.code if isinstance(error, OperationFailure) else None
    if code in NO_SEARCH:
        return NotSupportedError("this MongoDB has no search", why=why, hint="unset LKMONGO_SEARCH")
    if isinstance(error, ExecutionTimeout) or code in _TOO_LATE:
        return SearchTimeoutError(why=why)
    if code in _UNREACHABLE:
        return DatabaseUnavailableError("the search process of MongoDB cannot be reached", why=why)
    if code == 8:  # UnknownError: whatever the search process itself says
        if "while in state" in str(error) or "not initialized" in str(error):
            return NotReadyError("a search index is not ready yet", why=why, hint=_PROVISION)
        return DriftError("a search index does not fit the search", why=why, hint=_PROVISION)
    return operations.explain(error)


def finds_nothing(index: str) -> LkmongoError:
    """What to say of an index that returned nothing of what is there: the server gives no error for that."""
    return DriftError(
        f"{index} finds nothing of what is there",
        why="it is missing, of another name, not built yet, or made for other fields or vectors",
        hint=_PROVISION,
    )


def sentence(error: LkmongoError) -> str:
    """An error on one line, for a result that is degraded by it."""
    return error.message + (f" ({error.why})" if error.why else "") + (f"; run {error.hint}" if error.hint else "")


class Lacking:
    """Logs what the searches of one strategy go without; each cause once, as long as it lasts."""

    def __init__(self) -> None:
        """They lack nothing."""
        self._said: dict[str, str | None] = {}

    def tell(self, collection: str, degraded: str | None) -> None:
        """Note how a search of `collection` went: the `degraded` of its result."""
        if degraded and degraded != self._said.get(collection):
            logger.warning("not all of %s can be found: %s", collection, degraded)
        self._said[collection] = degraded
