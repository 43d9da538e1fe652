"""Runs PyMongo operations on the client loop, with one retry for reads, and translates errors."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from bson.errors import InvalidDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.results import BulkWriteResult

from lkmongo.errors import (
    AuthenticationError,
    DatabaseError,
    DatabaseOverloadedError,
    DatabaseUnavailableError,
    LkmongoError,
)
from lkmongo.redact import redact
from lkmongo.store.mongo.client import run_on_client_loop

T = TypeVar("T")

_DUPLICATE_KEY = 11_000
_WRONG_CREDENTIALS, _UNAUTHORIZED = 18, 13
_ATLAS = 8000
"""AtlasError, by which small clusters of Atlas refuse a wrong password, what a user may not do, and what they do not
have: only the words tell which."""
_NOT_OFFERED = re.compile("not allowed (or the syntax is incorrect|in this atlas tier)")
_OVERLOADED = {365, 402, 407, 433, 449, 450, 462, 489}
"""Error codes of a server or a search process that takes no more requests. (MongoDB's error codes; newer servers also
label such errors.)"""
_OVERLOADED_LABEL = "SystemOverloadedError"
_BUSY = "too many concurrent requests"
"""What the management of search indexes says when it is busy, with a code that it also has for a full cluster."""


async def read(operation: Callable[[], Awaitable[T]]) -> T:
    """Run a read on the client loop, with one retry after a dropped connection.

    The driver's own retry is off: with a deadline it repeats without a pause, and hides the error behind a timeout.

    Raises:
        DatabaseUnavailableError: MongoDB cannot be reached.
        AuthenticationError: the credentials were refused or are insufficient.
        DatabaseError: any other error.
    """
    try:
        try:
            return await _cancellable(operation)
        except ServerSelectionTimeoutError:
            raise  # the driver has retried already
        except AutoReconnect:
            await asyncio.sleep(random.uniform(0.02, 0.08))  # noqa: S311
            return await _cancellable(operation)
    except PyMongoError as error:
        raise explain(error) from error


async def read_in_batches(
    collection: AsyncCollection[dict[str, Any]], selector: Mapping[str, Any], shown: Mapping[str, Any] | None, size: int
) -> AsyncIterator[list[dict[str, Any]]]:
    """The documents by `_id`, `size` at a time, without a cursor that an error or a pause would end.

    It ends at an `_id` of another type than the first ones have. Raises as `read` does.
    """
    wanted = selector

    async def find() -> list[dict[str, Any]]:
        return await collection.find(wanted, shown, batch_size=size).sort("_id", 1).limit(size).to_list()

    while found := await read(find):
        wanted = {"$and": [selector, {"_id": {"$gt": found[-1]["_id"]}}]}
        yield found


def batches(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The values, `size` at a time, for commands that must not become too large."""
    return (values[start : start + size] for start in range(0, len(values), size))


async def write(operation: Callable[[], Awaitable[T]]) -> T:
    """Run a write on the client loop; the driver retries those that are safe to repeat. Raises as `read` does."""
    try:
        return await _cancellable(operation)
    except (PyMongoError, InvalidDocument) as error:
        raise explain(error) from error


async def transact(work: Callable[[], Awaitable[T]]) -> T:
    """Run a transaction; a cancelled caller waits for its abort, else its locks would be held for a minute.

    Raises as `read` does.
    """
    try:
        return await run_on_client_loop(work)
    except (PyMongoError, InvalidDocument) as error:
        raise explain(error) from error


async def _cancellable(operation: Callable[[], Awaitable[T]]) -> T:
    """Await the operation on the client loop; a cancelled caller does not wait for its end.

    The driver treats some cancellations as a lost connection and retries: cancelled once, an operation may continue for
    half a minute, beyond every deadline.
    """

    async def run() -> T:
        task = asyncio.ensure_future(operation())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                stopping = asyncio.create_task(_stop(task))
                _stopping.add(stopping)
                stopping.add_done_callback(_stopping.discard)
            raise

    return await run_on_client_loop(run)


_CLEAN_UP = 1.0
"""Seconds between two attempts to cancel an operation."""
_stopping: set[asyncio.Task[None]] = set()
"""References to the tasks that cancel abandoned operations; the loop only has weak ones."""


async def _stop(task: asyncio.Future[Any]) -> None:
    """Cancel a task repeatedly until it has ended, with time to clean up: a transaction has to be aborted.

    A loop that closes cancels both once and waits for both; without this, the task could then go on for half a minute.
    """
    while not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=_CLEAN_UP)
    if not task.cancelled():
        task.exception()  # retrieved, else asyncio would warn


async def bulk(collection: AsyncCollection[Any], requests: Sequence[Any]) -> tuple[BulkWriteResult, list[int]]:
    """Run requests in any order; duplicate keys are not an error. An insert costs MongoDB a third of an upsert.

    Returns:
        The result, and the positions of the requests with a duplicate key.

    Raises:
        DatabaseError: as `write` does; also if any other request was refused.
    """

    async def run() -> tuple[BulkWriteResult, list[int]]:
        try:
            return await collection.bulk_write(requests, ordered=False), []
        except BulkWriteError as error:
            details: dict[str, Any] = dict(error.details or {})
            refused = details.get("writeErrors", [])
            if details.get("writeConcernErrors") or any(each["code"] != _DUPLICATE_KEY for each in refused):
                raise
            return BulkWriteResult(details, acknowledged=True), [each["index"] for each in refused]

    return await write(run)


async def upsert(operation: Callable[[], Awaitable[bool]]) -> bool:
    """Run an upsert whose filter has a condition besides the key. Raises as `read` does.

    Returns:
        The operation's result; False if the document exists and the condition does not hold.
    """

    async def run() -> bool:
        try:
            return await operation()
        except DuplicateKeyError:
            # Another process may have inserted it meanwhile: only the second failure proves the condition.
            try:
                return await operation()
            except DuplicateKeyError:
                return False

    return await write(run)


def is_overload(error: Exception) -> bool:
    """Whether a server refused this to shed load: not to be repeated at once."""
    return isinstance(error, OperationFailure) and (
        error.code in _OVERLOADED or error.has_error_label(_OVERLOADED_LABEL) or _BUSY in str(error).lower()
    )


def is_not_offered(error: Exception) -> bool:
    """Whether a small cluster of Atlas refused a command or a stage that it does not have."""
    return isinstance(error, OperationFailure) and error.code == _ATLAS and bool(_NOT_OFFERED.search(str(error)))


def _is_unauthorized(error: OperationFailure) -> bool:
    return error.code == _UNAUTHORIZED or (error.code == _ATLAS and "not allowed to do action" in str(error))


def _has_wrong_credentials(error: OperationFailure) -> bool:
    return error.code == _WRONG_CREDENTIALS or (error.code == _ATLAS and not is_not_offered(error))


def explain(error: Exception) -> LkmongoError:  # noqa: PLR0911 - one answer for each kind of error
    """Translate a driver's error, without documents or credentials."""
    if isinstance(error, OperationFailure) and _is_unauthorized(error):
        return AuthenticationError(
            "the MongoDB user is not allowed to do this",
            why=f"not authorized (code {error.code})",
            hint="give the user of MONGODB_URI the role readWrite on the database",
        )
    if isinstance(error, OperationFailure) and _has_wrong_credentials(error):
        return AuthenticationError(
            "MongoDB rejected the credentials",
            why=f"authentication failed (code {error.code})",
            hint="check the user and the password in MONGODB_URI",
        )
    if isinstance(error, ConfigurationError):
        return DatabaseUnavailableError(why=_short(error), hint="check MONGODB_URI")
    if isinstance(error, ExecutionTimeout):
        return DatabaseError("MongoDB took too long to answer", why=f"code {error.code}", hint="try again")
    if isinstance(error, ConnectionFailure):
        return DatabaseUnavailableError(
            why=_short(error),
            hint="check that it is running, MONGODB_URI, and the network (on Atlas: the IP access list)",
        )
    if isinstance(error, DuplicateKeyError):
        return DatabaseError("a document with this key exists already", why="duplicate key (code 11000)")
    if isinstance(error, DocumentTooLarge | InvalidDocument):
        return DatabaseError("the document cannot be stored", why=type(error).__name__)
    if is_overload(error):
        return DatabaseOverloadedError(why=server_words(error), hint="try again in a minute")
    if isinstance(error, BulkWriteError):
        first: dict[str, Any] = next(iter((error.details or {}).get("writeErrors", [])), {})
        return DatabaseError(why=f"a write of a batch was refused (code {first.get('code', error.code)})")
    return DatabaseError(why=server_words(error))


def server_words(error: Exception) -> str:
    """What the server or the driver says, with the code, without documents or credentials."""
    code = f" (code {error.code})" if isinstance(error, OperationFailure) and error.code else ""
    return f"{_short(error)}{code}"


def _short(error: Exception) -> str:
    """A driver's message without timeouts and topology."""
    text = str(error).partition(" (configured timeouts")[0].partition(", Timeout:")[0]
    text = text.partition(", full error")[0]
    return redact(text)[:300]
