"""Run all checks, or those asked for, and report each as soon as it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from lkmongo.doctor.check import DEADLINE, Check, CheckFunction, Finding, Status, check_of, failed, run, skip
from lkmongo.doctor.machine import in_transit, incomplete, program, settings_in_use, space
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
    "mongodb.erasure",
    "indexes",
    "indexes.search",
    "vectors",
    "schema",
    "encryption",
)
_SERVICES = ("embedder", "voyage", "livekit", "phone", "agent", "agent.mind", "speech", "webhook", "audio")
NAMES = ("program", "settings", "disk", "tls", *_DATABASE, *_SERVICES)
"""Every check, in the order in which they are reported."""

_MONGODB = {"MONGODB_URI", "MONGODB_DB", "LKMONGO_HOME"}
_EMBEDDER = {
    "VOYAGE_API_KEY",
    "VOYAGE_BASE_URL",
    "LKMONGO_EMBEDDINGS",
    "LKMONGO_EMBEDDING_BASE_URL",
    "LKMONGO_EMBEDDING_API_KEY",
    "LKMONGO_EMBEDDING_MODEL",
    "LKMONGO_EMBEDDING_DIMENSIONS",
    "LKMONGO_EMBEDDING_QUERY_PREFIX",
    "LKMONGO_EMBEDDING_DOCUMENT_PREFIX",
}
_LIVEKIT = {"LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"}
_LLM = {"LKMONGO_LLM", "LKMONGO_LLM_BASE_URL", "LKMONGO_LLM_API_KEY", "LIVEKIT_INFERENCE_URL", *_LIVEKIT}
_NEEDS: Mapping[str, set[str]] = {
    "disk": {"LKMONGO_HOME"},
    "mongodb": _MONGODB,
    "mongodb.erasure": {"LKMONGO_ERASURE_KEY"},
    "mongodb.search": {"LKMONGO_SEARCH"},
    "indexes.search": {"LKMONGO_SEARCH", *_EMBEDDER},
    "vectors": _EMBEDDER,
    "encryption": {"LKMONGO_ENCRYPTION", "LKMONGO_ENCRYPTION_KEY_FILE", "LKMONGO_KEY_VAULT_URI", "LKMONGO_KMS_KEY"},
    "embedder": _EMBEDDER,
    "voyage": _EMBEDDER,
    "livekit": _LIVEKIT,
    "phone": {
        "LKMONGO_AGENT_NAME",
        "LKMONGO_ERASURE_KEY",
        "LKMONGO_PHONE_REGION",
        "LKMONGO_SIP_TRUNK",
        "LKMONGO_TENANTS",
        *_LIVEKIT,
    },
    "agent": {"LKMONGO_AGENT", "LKMONGO_INSTRUCTIONS"},
    "agent.mind": _LLM,
    "speech": {
        "LKMONGO_SPEECH",
        "LKMONGO_STT",
        "LKMONGO_STT_BASE_URL",
        "LKMONGO_TTS",
        "LKMONGO_TTS_BASE_URL",
        "LKMONGO_TENANTS",
        "LIVEKIT_INFERENCE_URL",
        *_LIVEKIT,
    },
    "webhook": {"LKMONGO_WEBHOOK_URL", "LKMONGO_WEBHOOK_SECRET"},
}
"""The variables that a check depends on: with a wrong one ignored, something else would be checked."""

_EVERY_DOCUMENT = 45.0
"""Seconds for checks that read every document of two collections, 20 s each, or of all at once."""
_IMPORTS = 60.0
"""Seconds for checks that import large libraries (10 s on a slow machine) and then wait 3 s for an answer."""

OnCheck = Callable[[Check], None]


def choose(names: Iterable[str]) -> list[str]:
    """The checks that names of checks or groups, such as "mongodb", stand for; all of them if there are no names.

    Raises:
        UsageError: there is no such check.
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
    own_code: bool = False,
    on_check: OnCheck = lambda _check: None,
    on_status: Callable[[str], None] = lambda _text: None,
) -> list[Check]:
    """Run the checks one after the other, those of network services concurrently.

    Args:
        settings: without the invalid ones.
        wrong: why a variable or a dotenv file is invalid, by its name.
        only: names of checks or groups. Prerequisites are checked as well: every check of the database needs the
            connection.
        own_code: whether to import what LKMONGO_AGENT names.
        on_check: called with each check, in the order of `NAMES`.
        on_status: called with a sentence when something takes a while.

    Raises:
        UsageError: there is no such check.
    """
    return await _Examination(settings, wrong, choose(only), on_check, on_status, own_code=own_code).run()


class _Examination:
    def __init__(
        self,
        settings: Settings,
        wrong: Mapping[str, SettingsError],
        parts: Sequence[str],
        on_check: OnCheck,
        on_status: Callable[[str], None],
        *,
        own_code: bool,
    ) -> None:
        self._settings = settings
        self._own_code = own_code
        self._problems = {**incomplete(settings), **wrong}
        self._parts = parts
        self._on_check = on_check
        self._on_status = on_status
        self._checks: list[Check] = []

    async def run(self) -> list[Check]:
        settings = self._settings
        await self._look("program", _now(program))
        await self._look("settings", _now(lambda: settings_in_use(settings, self._problems)))
        await self._look("disk", _now(lambda: space(settings.data_home)))
        await self._look("tls", _now(lambda: in_transit(settings)))
        if any(part in _DATABASE for part in self._parts):
            await self._database()
        await self._services()
        return self._checks

    def _add(self, check: Check) -> None:
        self._checks.append(check)
        self._on_check(check)

    async def _look(self, name: str, look: CheckFunction, **options: float | None) -> Check | None:
        if name not in self._parts:
            return None
        check = await self._check(name, look, **options)
        self._add(check)
        return check

    async def _check(self, name: str, look: CheckFunction, **options: float | None) -> Check:
        from lkmongo.embed.base import UnknownDimensionsError

        # The embedder's check is what finds out the dimensions.
        asked = {each for each, error in self._problems.items() if isinstance(error, UnknownDimensionsError)}
        needed = _NEEDS.get(name, set()) - (asked if name in {"embedder", "voyage"} else set())
        if bad := next((each for each in self._problems if each in needed), None):
            reported = "settings" in self._parts
            return check_of(name, skip(f"{bad} is wrong: see settings") if reported else failed(self._problems[bad]))
        return await run(name, look, secrets=self._settings.secrets, **options)

    async def _services(self) -> None:
        """Checks that wait for a network run concurrently; the others block the loop and run alone."""
        from lkmongo.doctor import phone, services, speech

        settings = self._settings
        looks: dict[str, tuple[CheckFunction, float]] = {
            "embedder": (lambda: services.embedder(settings), _IMPORTS),
            "voyage": (lambda: services.voyage(settings), _IMPORTS),
            "livekit": (lambda: services.livekit(settings), _IMPORTS),
            "phone": (lambda: self._phone(phone.phone), _IMPORTS),
            "agent": (lambda: services.own_class(settings, own_code=self._own_code), _IMPORTS),
            "agent.mind": (lambda: services.language_model(settings), _IMPORTS),
            "speech": (lambda: speech.speech(settings), _IMPORTS),
            "webhook": (lambda: services.webhook(settings), DEADLINE),
            "audio": (services.audio, DEADLINE),
        }
        for names in (
            {"embedder"},
            {"voyage", "livekit"},
            {"phone"},
            {"agent"},
            {"agent.mind"},
            {"speech"},
            {"webhook"},
            {"audio"},
        ):
            wanted = [name for name in looks if name in names and name in self._parts]
            for check in await asyncio.gather(*(self._check(n, looks[n][0], deadline=looks[n][1]) for n in wanted)):
                self._add(check)

    async def _phone(self, look: Callable[[Settings], Awaitable[Finding]]) -> Finding:
        if any(check.name == "livekit" and check.status is Status.FAIL for check in self._checks):
            return skip("LiveKit does not answer: see livekit")
        return await look(self._settings)

    async def _database(self) -> None:
        """These run alone, so that the latency measured is the database's."""
        from lkmongo.doctor import database
        from lkmongo.store.open import open_store

        async with AsyncExitStack() as stack:
            opened: list[Store] = []

            async def connect() -> Finding:
                store = await stack.enter_async_context(open_store(self._settings, on_status=self._on_status))
                opened.append(store)
                return await database.ping(store, self._settings)

            # No deadline: the driver and a starting mongod have their own.
            check = await self._check("mongodb", connect, deadline=None)
            self._add(check)
            if check.status in {Status.OK, Status.WARN}:
                await self._of_database(opened[0])
            else:
                self._skip_rest("MongoDB does not answer" if check.status is Status.FAIL else check.detail)

    def _skip_rest(self, why: str) -> None:
        reported = {check.name for check in self._checks}
        for name in _DATABASE:
            if name in self._parts and name not in reported:
                self._add(check_of(name, skip(why)))

    async def _of_database(self, store: Store) -> None:
        from lkmongo.doctor import database
        from lkmongo.embed.choose import embedder_for

        settings = self._settings
        capabilities, trouble = await self._capabilities(store)
        privileges = await self._check("mongodb.privileges", lambda: database.privileges(store, settings, capabilities))
        if "mongodb.privileges" in self._parts or privileges.status is Status.FAIL:
            self._add(privileges)
        if privileges.exit_code is ExitCode.AUTHENTICATION:
            self._skip_rest("the user of MONGODB_URI may not read")
            return

        def known(judge: Callable[[Capabilities], Finding]) -> CheckFunction:
            return _now(lambda: judge(capabilities) if capabilities else trouble)

        await self._look("mongodb.version", known(database.version))
        await self._look("mongodb.search", known(lambda found: database.search(found, settings)))
        await self._look("mongodb.clock", lambda: database.clock(store))
        await self._look("mongodb.erasure", lambda: database.erasure(store))
        await self._look("indexes", lambda: database.ordinary(store))

        async def search_indexes_ready() -> Finding:
            if settings.search == "exact":
                return skip("LKMONGO_SEARCH=exact: searches need no search index")
            return (
                await database.search_indexes_ready(store, settings, capabilities, embedder_for(settings))
                if capabilities
                else trouble
            )

        await self._look("indexes.search", search_indexes_ready, deadline=_EVERY_DOCUMENT)
        await self._look("vectors", lambda: database.vectors(store, embedder_for(settings)), deadline=_EVERY_DOCUMENT)
        await self._look("schema", lambda: database.schema(store), deadline=_EVERY_DOCUMENT)
        await self._look("encryption", lambda: database.encryption(store), deadline=_EVERY_DOCUMENT)

    async def _capabilities(self, store: Store) -> tuple[Capabilities | None, Finding]:
        """What the server can do, or why that is unknown."""
        from lkmongo.store.mongo.capabilities import probe

        try:
            return await probe(store.db), skip("")
        except LkmongoError as error:
            return None, failed(error)


def _now(look: Callable[[], Finding]) -> CheckFunction:

    async def look_now() -> Finding:
        return look()

    return look_now
