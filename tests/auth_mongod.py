"""A mongod with access control, for tests of what a user may do. The embedded one needs no password."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp.test_utils import unused_port
from pymongo import MongoClient

from lkmongo.local import find_server


@dataclass(frozen=True)
class Guarded:
    """Where it is, and who may do what there; every password is `pw`, every user is of the database admin."""

    port: int

    def uri(self, user: str | None = None, password: str = "pw") -> str:
        """The address for a user, or for nobody."""
        name = f"{user}:{password}@" if user else ""
        return f"mongodb://{name}127.0.0.1:{self.port}/?directConnection=true"

    def add(self, user: str, *roles: dict[str, str]) -> str:
        """Make a user with these roles; returns their address."""
        with MongoClient(self.uri("root")) as client:
            client.admin.command("createUser", user, pwd="pw", roles=list(roles))
        return self.uri(user)


@contextlib.contextmanager
def guarded_mongod(folder: Path) -> Iterator[Guarded]:
    """Run one in `folder` until the block ends."""
    port = unused_port()
    command = [
        find_server().path,
        *("--auth", "--dbpath", str(folder), "--bind_ip", "127.0.0.1", "--port", str(port)),
        *("--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"),
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            guarded = Guarded(port)
            with MongoClient(guarded.uri(), serverSelectionTimeoutMS=60_000) as client:
                client.admin.command("createUser", "root", pwd="pw", roles=["root"])
            yield guarded
        finally:
            process.kill()
