"""Look at every part, or at those that were asked for, and tell of each as soon as it is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from lkmongo.doctor.check import DEADLINE, Check, Finding, Look, Status, failed, of, run, skip
from lkmongo.doctor.machine import incomplete, program, settings_in_use, space
from lkmongo.errors import ExitCode, LkmongoError, SettingsError, UsageError

if TYPE_CHECKING:
    from lkmongo.settings import Settings
    from lkmongo.store.mongo.capabilities import Capabilities
    from lkmongo.store.open import Store

_DATABASE = (
    "mongodb",
    "mongodb.privileges",
    "mongodb.version",
    "mongodb.search",
    "mongodb.clock",
    "indexes",
    "indexes.search",
    "vectors",
)
_SERVICES = ("embedder", "voyage", "livekit", "agent", "agent.mind", "audio")
NAMES = ("program", "settings", "disk", *_DATABASE, *_SERVICES)
"""Every part, in the order in which they are told."""

_MONGODB = {"MONGODB_URI", "MONGODB_DB", "LKMONGO_HOME"}
_EMBEDDER = {
    "VOYAGE_API_KEY",
    "VOYAGE_BASE_URL",
    "LKMONGO_EMBEDDINGS",
    "LKMONGO_EMBEDDING_MODEL",
    "LKMONGO_EMBEDDING_DIMENSIONS",
}
_LIVEKIT = {"LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"}
_MIND = {"LKMONGO_LLM", "LKMONGO_LLM_BASE_URL", "LKMONGO_LLM_API_KEY", "LIVEKIT_INFERENCE_URL", *_LIVEKIT}
_NEEDS: Mapping[str, set[str]] = {
    "disk": {"LKMONGO_HOME"},
    "mongodb": _MONGODB,
    "mongodb.search": {"LKMONGO_SEARCH"},
    "indexes.search": {"LKMONGO_SEARCH", *_EMBEDDER},
    "vectors": _EMBEDDER,
    "embedder": _EMBEDDER,
    "voyage": _EMBEDDER,
    "livekit": _LIVEKIT,
    "agent": {"LKMONGO_AGENT", "LKMONGO_INSTRUCTIONS"},
    "agent.mind": _MIND,
}
"""The variables without which a part cannot be judged: with a wrong one left out, another part would be looked at."""

_EVERY_DOCUMENT = 45.0
"""Seconds for what reads every document of two collections; each has 20."""
_IMPORTS = 60.0
"""Seconds for what imports large libraries, 10 s on a slow machine, and waits 3 s for an answer after."""

Tell = Callable[[Check], None]


def choose(names: Iterable[str]) -> list[str]:
    """The parts that are meant by names of parts or of groups, such as "mongodb"; all parts by none.

    Raises:
        UsageError: there is no such part.
    """
    wanted = list(names)
    for name in wanted:
        if not any(_within(part, name) for part in NAMES):
            raise UsageError(f"there is no part called {name!r}", hint=f"one of {', '.join(NAMES)}")
    return [part for part in NAMES if not wanted or any(_within(part, name) for name in wanted)]


def _within(part: str, name: str) -> bool:
    return part == name or part.startswith(f"{name}.")


async def examine(
    settings: Settings,
    wrong: Mapping[str, SettingsError],
    *,
    only: Iterable[str] = (),
    tell: Tell = lambda _check: None,
    on_status: Callable[[str], None] = lambda _text: None,
) -> list[Check]:
    """Look at the parts one after the other, and at services side by side.

    Args:
        settings: without what is wrong.
        wrong: by variable or dotenv file, why it is not accepted.
        only: names of parts or groups. What a part stands on is looked at as well: everything of the database needs
            the database.
        tell: told of each part, in the order of `NAMES`.
        on_status: told in a sentence what takes a while.

    Raises:
        UsageError: there is no such part.
    """
    return await _Examination(settings, wrong, choose(only), tell, on_status).run()


class _Examination:
    def __init__(
        self,
        settings: Settings,
        wrong: Mapping[str, SettingsError],
        parts: Sequence[str],
        tell: Tell,
        on_status: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._problems = {**incomplete(settings), **wrong}
        self._parts = parts
        self._tell = tell
        self._on_status = on_status
        self._checks: list[Check] = []

    async def run(self) -> list[Check]:
        settings = self._settings
        await self._look("program", _now(program))
        await self._look("settings", _now(lambda: settings_in_use(settings, self._problems)))
        await self._look("disk", _now(lambda: space(settings.data_home)))
        if any(part in _DATABASE for part in self._parts):
            await self._database()
        await self._services()
        return self._checks

    def _add(self, check: Check) -> None:
        self._checks.append(check)
        self._tell(check)

    async def _look(self, name: str, look: Look, **options: float | None) -> Check | None:
        """Look at a part that was asked for, unless a setting that it needs is wrong."""
        if name not in self._parts:
            return None
        check = await self._check(name, look, **options)
        self._add(check)
        return check

    async def _check(self, name: str, look: Look, **options: float | None) -> Check:
        if bad := next((each for each in self._problems if each in _NEEDS.get(name, ())), None):
            told = "settings" in self._parts
            return of(name, skip(f"{bad} is wrong: see settings") if told else failed(self._problems[bad]))
        return await run(name, look, secrets=self._settings.secrets, **options)

    async def _services(self) -> None:
        """What waits for a network side by side; what works by itself alone, or others would wait for it in vain."""
        from lkmongo.doctor import services
        from lkmongo.doctor import services as audio
        from lkmongo.doctor import services as embedding
        from lkmongo.doctor import services as livekit_server

        settings = self._settings
        looks: dict[str, tuple[Look, float]] = {
            "embedder": (lambda: embedding.embedder(settings), _IMPORTS),
            "voyage": (lambda: embedding.voyage(settings), _IMPORTS),
            "livekit": (lambda: livekit_server.livekit(settings), _IMPORTS),
            "agent": (lambda: services.own_class(settings), _IMPORTS),
            "agent.mind": (lambda: services.mind(settings), _IMPORTS),
            "audio": (audio.audio, DEADLINE),
        }
        for names in ({"embedder"}, {"voyage", "livekit"}, {"agent"}, {"agent.mind"}, {"audio"}):
            wanted = [name for name in looks if name in names and name in self._parts]
            for check in await asyncio.gather(*(self._check(n, looks[n][0], deadline=looks[n][1]) for n in wanted)):
                self._add(check)

    async def _database(self) -> None:
        """First and by itself, so that the milliseconds are the database's and not those of what runs beside."""
        from lkmongo.doctor import database
        from lkmongo.store.open import open_store

        async with AsyncExitStack() as stack:
            opened: list[Store] = []

            async def connect() -> Finding:
                store = await stack.enter_async_context(open_store(self._settings, on_status=self._on_status))
                opened.append(store)
                return await database.ping(store, self._settings)

            # Its bounds are its own: the driver's, and those of a mongod that starts.
            check = await self._check("mongodb", connect, deadline=None)
            self._add(check)
            if check.status in {Status.OK, Status.WARN}:
                await self._of_database(opened[0])
            else:
                self._skip_rest("MongoDB does not answer" if check.status is Status.FAIL else check.detail)

    def _skip_rest(self, why: str) -> None:
        told = {check.name for check in self._checks}
        for name in _DATABASE:
            if name in self._parts and name not in told:
                self._add(of(name, skip(why)))

    async def _of_database(self, store: Store) -> None:
        from lkmongo.doctor import database
        from lkmongo.doctor import database as indexes
        from lkmongo.embed.choose import embedder_for

        settings = self._settings
        capabilities, trouble = await self._capabilities(store)
        privileges = await self._check("mongodb.privileges", lambda: database.privileges(store, settings, capabilities))
        if "mongodb.privileges" in self._parts or privileges.status is Status.FAIL:
            self._add(privileges)
        if privileges.exit_code is ExitCode.AUTHENTICATION:
            self._skip_rest("the user of MONGODB_URI may not read")
            return

        def known(judge: Callable[[Capabilities], Finding]) -> Look:
            return _now(lambda: judge(capabilities) if capabilities else trouble)

        await self._look("mongodb.version", known(database.version))
        await self._look("mongodb.search", known(lambda found: database.search(found, settings)))
        await self._look("mongodb.clock", lambda: database.clock(store))
        await self._look("indexes", lambda: indexes.ordinary(store))

        async def searchable() -> Finding:
            if settings.search == "exact":
                return skip("LKMONGO_SEARCH=exact: searches need no search index")
            return await indexes.searchable(store, capabilities, embedder_for(settings)) if capabilities else trouble

        await self._look("indexes.search", searchable, deadline=_EVERY_DOCUMENT)
        await self._look("vectors", lambda: indexes.vectors(store, embedder_for(settings)), deadline=_EVERY_DOCUMENT)

    async def _capabilities(self, store: Store) -> tuple[Capabilities | None, Finding]:
        """What the server can do, or why that is not known."""
        from lkmongo.store.mongo.capabilities import probe

        try:
            return await probe(store.db), skip("")
        except LkmongoError as error:
            return None, failed(error)


def _now(look: Callable[[], Finding]) -> Look:
    """A look that waits for nothing."""

    async def wait_for_nothing() -> Finding:
        return look()

    return wait_for_nothing
