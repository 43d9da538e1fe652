"""A replica set of one node: what gives a single mongod change streams and transactions."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lkmongo.errors import EmbeddedError

if TYPE_CHECKING:
    from pathlib import Path

    from pymongo.database import Database

REPLICA_SET = "lkmongo"
_NOT_INITIALIZED = 94
_ALREADY_INITIALIZED = 23
_POLL = 0.01


def uri_of(socket: Path) -> str:
    """The address of the server at `socket`, for a driver."""
    return f"mongodb://{_host(socket)}/?replicaSet={REPLICA_SET}"


def _host(socket: Path) -> str:
    return quote(os.fsencode(socket), safe="")


def make_primary(socket: Path, seconds: float) -> None:
    """Bring the server at `socket` to where it takes writes, within `seconds`.

    A new one is initiated. One whose socket has another path than last time, because its home or the
    temporary folder is another, no longer finds itself among the members: it is told its new name.

    Raises:
        EmbeddedError: it did not become primary.
    """
    from pymongo import MongoClient
    from pymongo.errors import AutoReconnect, PyMongoError, ServerSelectionTimeoutError

    deadline = time.monotonic() + seconds
    # Only to give these commands: a client that saw the server before it was initiated refuses sessions after.
    client: MongoClient[dict[str, Any]] = MongoClient(
        f"mongodb://{_host(socket)}/?directConnection=true",
        serverSelectionTimeoutMS=5_000,
        socketTimeoutMS=30_000,
    )
    why = "its state did not change"
    with client:
        while time.monotonic() < deadline:
            try:
                hello = client.admin.command("hello")
                if hello.get("isWritablePrimary"):
                    return
                if "setName" not in hello:
                    _configure(client.admin, str(socket))
                why = str(hello.get("info", why))
            except PyMongoError as error:
                # A server closes its connections when it finds that it is no member; one that is gone is not found again.
                if not isinstance(error, AutoReconnect) or isinstance(error, ServerSelectionTimeoutError):
                    raise EmbeddedError(
                        "the embedded MongoDB stopped answering while it started", why=str(error)
                    ) from error
                why = str(error)
            time.sleep(_POLL)
    raise EmbeddedError(f"the embedded MongoDB did not become primary within {seconds:.0f} s", why=why)


def _configure(admin: Database[dict[str, Any]], host: str) -> None:
    from pymongo.errors import OperationFailure

    try:
        config = admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code != _NOT_INITIALIZED:
            raise
        config = None
    if config is None:
        try:
            admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [{"_id": 0, "host": host}]})
        except OperationFailure as error:
            # While it still reads its configuration it says the one or the other; the next look tells.
            if error.code not in {_ALREADY_INITIALIZED, _NOT_INITIALIZED}:
                raise
    elif config["members"][0]["host"] != host:
        config["members"][0]["host"] = host
        config["version"] += 1
        config.pop("term", None)
        admin.command("replSetReconfig", config, force=True)
