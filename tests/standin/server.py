"""The stand-in as tests use it: a server in a thread of its own, so that synchronous code can use it too."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote_plus

from pymongo import AsyncMongoClient
from pymongo.uri_parser import parse_uri

from tests.standin.catalog import SETTABLE, Catalog, Index, Timing
from tests.standin.clock import Clock
from tests.standin.commands import Recorded
from tests.standin.definitions import VectorDefinition
from tests.standin.engine import Engine
from tests.standin.faults import Fault, Faults, Matcher, error_for
from tests.standin.management import Management
from tests.standin.profiles import profile_named
from tests.standin.proxy import Connection, Shared
from tests.standin.snapshots import Snapshots
from tests.standin.vector_search import indexed

T = TypeVar("T")

_START_SECONDS = 20


async def _settle() -> None:
    """Let callbacks that are due run, among them those that close sockets."""
    for _ in range(5):
        await asyncio.sleep(0)


class Standin:
    """A MongoDB with search, made of a MongoDB without.

    Use it as a context manager, `with` or `async with`. Every method may be called from any thread.

    Args:
        host: of the real server, or the path of its Unix socket.
        port: of the real server; None for a Unix socket.
        profile: one of `profiles.PROFILES`.
        version: of the server that is stood in for, such as "7.0"; None for the profile's own.
        build_seconds: from the creation or update of an index until it serves.
        unseen_seconds, start_seconds: when a new index becomes known and when its build begins; an eighth and a
            quarter of `build_seconds` unless given.
        drop_seconds: how long a dropped index stays in the list; `build_seconds` unless given.
        lag_seconds: how far an index trails its collection.
        hosts, host_lag_seconds: two hosts answer queries in turn, the second one trails.
        clock: "real" seconds, or "virtual" ones that pass by `advance` alone.
        seed: decides every order that the service leaves open.
        recall: below 1, approximate searches with fewer candidates than documents miss some.
        building: "hang" lets queries of an index in its first build wait for `maxTimeMS`.
        management_down_seconds: until then the management service cannot be reached.
        listen: the port; a free one unless given.
        credentials: `user:password` for the stand-in's own connection, percent-encoded.
        select_seconds: how long the real server may take to be there.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = 27017,
        *,
        profile: str = "atlas",
        version: str | None = None,
        build_seconds: float = 0.2,
        unseen_seconds: float | None = None,
        start_seconds: float | None = None,
        drop_seconds: float | None = None,
        lag_seconds: float = 0.0,
        hosts: int = 1,
        host_lag_seconds: float = 0.0,
        clock: Literal["real", "virtual"] = "real",
        seed: int = 1,
        recall: float = 1.0,
        building: Literal["error", "hang"] = "error",
        management_down_seconds: float | None = None,
        listen: int = 0,
        credentials: str = "",
        select_seconds: float = 5.0,
    ) -> None:
        self.host, self.server_port = host, None if "/" in host else port
        self.profile = profile_named(profile, version)
        self.clock = Clock(virtual=clock == "virtual")
        timing = Timing(
            unseen=build_seconds / 8 if unseen_seconds is None else unseen_seconds,
            started=build_seconds / 4 if start_seconds is None else start_seconds,
            build=build_seconds,
            drop=build_seconds if drop_seconds is None else drop_seconds,
            lag=lag_seconds,
            host_lag=host_lag_seconds,
        )
        self.catalog = Catalog(self.clock, timing, hosts=hosts, seed=seed, lists_type=self.profile.lists_type)
        self.faults = Faults()
        self.commands: list[Recorded] = []
        self.seen: dict[str, int] = {}
        self.port = listen
        self._seed, self._recall, self._building = seed, recall, building
        self._management_down = management_down_seconds
        self._credentials = credentials
        self._select_seconds = select_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._replica_set: str | None = None

    @classmethod
    def before(cls, uri: str, **options: Any) -> Self:
        """A stand-in before the server of a connection string; options as for the class."""
        where = parse_uri(uri)
        host, port = where["nodelist"][0]
        login = [quote_plus(where[key]) for key in ("username", "password") if where[key]]
        return cls(host, port, credentials=":".join(login), **options)

    # -- start and stop

    def start(self) -> Self:
        """Listen. The address is `uri` from then on."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="standin", daemon=True)
        self._thread.start()
        if not ready.wait(_START_SECONDS):
            raise TimeoutError("the stand-in did not start")
        if self._error is not None:
            self.stop()
            raise self._error
        return self

    def stop(self) -> None:
        """Stop listening and cut every connection."""
        if self._thread is None:
            return
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._main(ready))
        except BaseException as error:
            self._error = error
        finally:
            ready.set()

    async def _main(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            self._server_uri(),
            appname="standin",
            serverSelectionTimeoutMS=int(self._select_seconds * 1000),
            serverMonitoringMode="poll",
        )
        async with client:
            self._replica_set = (await client.admin.command("hello")).get("setName")
            self.snapshots = Snapshots(client, self.clock)
            management = Management(self.catalog, self.snapshots, self.profile)
            if self._management_down is not None:
                management.down_until = self._management_down
            self.engine = Engine(
                self.profile, self.catalog, self.snapshots, management, client, self._seed, self._recall,
                self._building, self.profile.mongot_down,
            )  # fmt: skip
            self._shared = Shared(
                self.engine, self.faults, self.commands, self.seen, self._connect, self.profile.release
            )
            server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = server.sockets[0].getsockname()[1]
            self._shared.address = self.address
            follower = asyncio.ensure_future(self._follow())
            ready.set()
            await self._stop.wait()
            server.close()
            await _settle()  # who was let in before gets a task that can be ended
            for task in (follower, *self._connections):
                task.cancel()
            await asyncio.gather(follower, *self._connections, return_exceptions=True)
            await _settle()

    def _server_uri(self) -> str:
        where = quote_plus(self.host) if self.server_port is None else f"{self.host}:{self.server_port}"
        login = f"{self._credentials}@" if self._credentials else ""
        return f"mongodb://{login}{where}/?directConnection=true"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client; however early the task is cancelled, its end of the connection is closed."""
        task = asyncio.ensure_future(Connection(self._shared, reader, writer).serve())
        self._connections.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._connections.discard(task)
            writer.close()

        task.add_done_callback(ended)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.server_port is None:
            return await asyncio.open_unix_connection(self.host)
        return await asyncio.open_connection(self.host, self.server_port)

    async def _follow(self) -> None:
        """With a running clock, copy what changes, so that a lagging index can show it later as it was."""
        while not self.clock.virtual:
            lag = self.catalog.timing.lag + self.catalog.timing.host_lag
            await asyncio.sleep(max(0.02, lag / 4) if lag else 0.2)
            if lag:
                await self.snapshots.refresh_all()
                self.snapshots.forget_before(self.clock.now() - 2 * lag)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise RuntimeError("the stand-in is not running")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    # -- where it is

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self) -> str:
        """A connection string that stays with this one node."""
        return f"mongodb://{self.address}/?directConnection=true"

    @property
    def replica_set_uri(self) -> str:
        """A connection string that discovers the replica set, which is the stand-in alone."""
        return f"mongodb://{self.address}/?replicaSet={self._replica_set}"

    # -- what clients did

    def recorded(self, name: str) -> list[Recorded]:
        """The recorded commands of a name, or the aggregates with a stage of that name (with its `$`)."""
        return [item for item in self.commands if name in ((item.name,) if name[:1] != "$" else item.stages)]

    # -- time

    def advance(self, seconds: float) -> None:
        """Let time pass. What was written until now is known to have been there before."""

        async def move() -> None:
            await self.snapshots.refresh_all()
            self.clock.advance(seconds)

        self._call(move())

    # -- indexes

    def index(self, database: str, collection: str, name: str) -> dict[str, Any]:
        """The document of `$listSearchIndexes` for one index."""
        return self.catalog.listing(self._index(database, collection, name))

    def finish_builds(self) -> None:
        """Let as much time pass as any build takes, on every host."""
        self.advance(self.catalog.timing.build + self.catalog.timing.host_lag)

    def plan_build(self, name: str, *, failure: str | None = None, seconds: float | None = None) -> None:
        """Decide how the next build of an index of this name goes, before it is created or updated."""
        self.catalog.plans.setdefault(name, []).append((failure, seconds))

    def set_status(self, database: str, collection: str, name: str, status: str | None, message: str = "") -> None:
        """Put an index into a status, whatever it was in; None lets it follow its course again.

        FAILED with an update under way fails the update and leaves the old version serving. STALE goes on serving what
        it has. BUILDING with an update under way never ends.
        """
        if status is not None and status not in SETTABLE:
            raise ValueError(f"no status {status!r}; there are {', '.join(SETTABLE)}")
        index = self._index(database, collection, name)
        index.message = message or index.message

        async def change() -> None:
            if status == "STALE":
                await self.engine.freeze(database, collection, index)
            elif status is None:
                index.frozen = None
            index.force(status, self.clock.now())

        self._call(change())

    def freeze(self, database: str, collection: str, name: str) -> None:
        """Let an index show its documents as they are now, for ever, though it says READY."""
        self._call(self.engine.freeze(database, collection, self._index(database, collection, name)))

    def set_lag(self, seconds: float) -> None:
        """Change how far indexes trail their collections."""

        async def change() -> None:
            await self.snapshots.refresh_all()
            self.catalog.timing.lag = seconds

        self._call(change())

    def skipped(self, database: str, collection: str, name: str) -> int:
        """Documents whose value at the vector path does not fit the index."""
        index = self._index(database, collection, name)
        parsed = index.latest.parsed
        if not isinstance(parsed, VectorDefinition):
            raise TypeError(f"{name} is no vectorSearch index")

        async def count() -> int:
            found = await self.snapshots.collection(database, collection)
            if found is None:
                return 0
            await self.snapshots.refresh(found)
            snapshot = self.snapshots.at(found.uuid, self.clock.now())
            return sum(indexed(snapshot, vector).skipped for vector in parsed.vectors.values())

        return self._call(count())

    def _index(self, database: str, collection: str, name: str) -> Index:
        found = self._call(self.snapshots.collection(database, collection))
        index = self.catalog.find(found.uuid, name=name) if found else None
        if index is None:
            raise LookupError(f"no search index {name} on {database}.{collection}")
        return index

    # -- what goes wrong

    def set_mongot(self, *, up: bool) -> None:
        """Take the search process away or bring it back; the list of indexes goes on working."""
        self.engine.mongot_down = not up

    def set_management(self, *, up: bool) -> None:
        """Take the management service away or bring it back; queries go on working."""
        self.engine.management.down_until = 0.0 if up else float("inf")

    def fail(
        self,
        matcher: Matcher,
        *,
        code: int = 6,
        message: str | None = None,
        labels: tuple[str, ...] = (),
        times: int | None = 1,
        after: bool = False,
    ) -> Fault:
        """Answer the next `times` matching commands with an error; with `after`, once they have run."""
        error = error_for(code, message, labels)
        return self.faults.arm(Fault(matcher, "error", times, after, error=error))

    def delay(
        self, matcher: Matcher, seconds: float, *, times: int | None = 1, after: bool = False, network: bool = False
    ) -> Fault:
        """Answer later. A search spends the time in the search process and ends at `maxTimeMS`, unless `network`."""
        inside = not (network or after)
        return self.faults.arm(Fault(matcher, "delay", times, after, seconds, inside))

    def drop_connection(
        self, matcher: Matcher, *, times: int | None = 1, after: bool = False, half: bool = False
    ) -> Fault:
        """Cut the connection instead of an answer; `after` the command has run, `half` way through the reply."""
        action: Literal["half", "drop"] = "half" if half else "drop"
        return self.faults.arm(Fault(matcher, action, times, after or half))

    def clear_faults(self) -> None:
        """Nothing goes wrong any more."""
        self.faults.clear()
