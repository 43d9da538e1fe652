"""What all tests share: a real mongod, a database of their own, and none of the developer's settings."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

from lkmongo import deadlines
from tests.encrypted import encrypted
from tests.patience import be_patient, be_patient_with_mongodb

_DEADLINES = dict(vars(deadlines))

# A machine that is busy makes an example slow, and not wrong.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

_PREFIXES = ("LKMONGO_", "LIVEKIT_", "MONGODB_", "VOYAGE_", "OTEL_", "GITHUB_")


_MEMORY = Path("/dev/shm")
_ENOUGH = 4 * 2**30


def pytest_configure(config: pytest.Config) -> None:
    """Keep the files of the run in memory where there is room: each write of a mongod otherwise waits for the disk.

    The folder is made once, by the process that the workers are started from, and it is gone after the run.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a script's `&` leaves it, for all that is started
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput") or config.option.basetemp or "TMPDIR" in os.environ:
        return
    if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ENOUGH:
        folder = tempfile.mkdtemp(prefix="lkmongo-tests-", dir=_MEMORY)
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two workers a core: the tests wait, for processes and for deadlines, about as long as they work."""
    return 2 * min(os.cpu_count() or 1, 8)


_LONG = (
    "test_faults.py test_voice.py test_worker.py test_keeper.py test_deadlines.py test_long_call.py test_terminal.py "
    "test_users.py test_existing_agent.py test_run.py test_session_end.py test_wav_call.py"
).split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits longest comes first, lest the end of the run be one worker that waits.

    xdist deals the tests out in as many runs of neighbours as there are workers: each run begins with its share.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.path.name in _LONG]
    others = [item for item in items if item.path.name not in _LONG]
    place = {item: (number % workers, False) for number, item in enumerate(long)}
    place |= {item: (number * workers // len(others), True) for number, item in enumerate(others)}
    items.sort(key=place.__getitem__)


def clean_environment() -> dict[str, str]:
    """The environment without anything that would set lkmongo up; as in CI, no embedded mongod lingers."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES)} | {"CI": "true"}


@pytest.fixture(autouse=True)
def _no_settings_leak_in(request: pytest.FixtureRequest, patient: object, monkeypatch: pytest.MonkeyPatch) -> None:
    # `patient` comes before `monkeypatch`, so that a deadline a test sets is undone first: the other way round it would
    # be left thirty times as long for all tests after it.
    for name in list(os.environ):
        if name.startswith(_PREFIXES) and not name.startswith("LKMONGO_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CI", "true")
    if "tmp_path" in request.fixturenames:
        # A .env.local of the checkout must not reach a test.
        monkeypatch.chdir(request.getfixturevalue("tmp_path"))


@pytest.fixture(autouse=True)
def _no_log_levels_leak_out() -> Iterator[None]:
    """A command sets levels for the process it ends with; run inside this one, it would silence the tests after it."""
    before = _log_levels()
    yield
    for name, level in _log_levels().items():
        if level != before.get(name, logging.NOTSET):
            logging.getLogger(name or None).setLevel(before.get(name, logging.NOTSET))


def _log_levels() -> dict[str, int]:
    ours = (name for name in list(logging.root.manager.loggerDict) if name.partition(".")[0] == "lkmongo")
    return {name: logging.getLogger(name or None).level for name in ("", *ours)}


@pytest.fixture(autouse=True)
def _no_declarations_leak_out() -> Iterator[None]:
    """What a test declares for its process is gone after it."""
    from lkmongo import declarations

    yield
    declarations._declared = declarations.Declarations()


_OWN_PATIENCE = {"browser", "cli", "e2e", "faults", "standin_tests"}
"""Folders whose tests start processes, which have patience of their own, or which are about the waits."""


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing is given up that only takes longer because the machine is busy."""
    folder = request.path.relative_to(Path(__file__).parent).parts[0]
    with pytest.MonkeyPatch.context() as patch:
        if "impatient" not in request.fixturenames and folder not in _OWN_PATIENCE:
            be_patient(patch.setattr)
        yield
    assert vars(deadlines) == _DEADLINES, "a test has left a deadline changed"


@pytest.fixture
def impatient() -> None:
    """Wait as long as calls do: for tests that are about it."""


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose mongod stays up, so that each command joins it in a moment."""
    from lkmongo.local.mongod import EmbeddedMongod

    home = tmp_path_factory.mktemp("home with späces")
    with EmbeddedMongod(home):
        yield home


@pytest.fixture(scope="session")
def mongodb_uri(shared_home: Path) -> Iterator[str]:
    """The address of a real mongod that lives as long as the test run: that of the shared home."""
    from lkmongo.local.mongod import EmbeddedMongod

    with EmbeddedMongod(shared_home) as mongod:
        yield mongod.uri


@pytest.fixture(scope="session")
def zygote() -> Iterator[object]:
    """A process that has everything imported and forks for each command."""
    from tests.cli.started import Zygote

    with Zygote(patient=True) as process:
        yield process


@pytest.fixture
def database_name(request: pytest.FixtureRequest) -> str:
    """The name of a database that no other test uses at the time."""
    if {"store", "mongodb_uri"} <= set(request.fixturenames) and len(_EMPTIED) > _REST:
        return _EMPTIED.popleft()
    return f"test_{uuid4().hex[:12]}"


_EMPTIED: deque[str] = deque()
"""Databases that a test has left with all indexes and no document: making one takes a third of a second."""
_REST = 4
"""So many are not used again yet: what a test has cancelled may still be under way."""
_FURNISHED: dict[str, dict[str, Any]] = {}
"""Collections and indexes of a database that a test was given, as they were at first."""


_VAULTS: dict[str, Any] = {}


@pytest.fixture
async def vault(store: object, database_name: str) -> object:
    """The key vault of the store, in which what people said is then encrypted."""
    return _VAULTS[database_name]


_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that a test failed."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def erasure_key(shared_home: Path) -> Any:
    """The key with which commands in the shared home hide erased ids."""
    from lkmongo.settings import Settings
    from lkmongo.store.mongo.erasure_key import load_erasure_key

    return load_erasure_key(Settings.load({"LKMONGO_HOME": str(shared_home)}), embedded=True)


@pytest.fixture
async def store(request: pytest.FixtureRequest, mongodb_uri: str, database_name: str) -> AsyncIterator[object]:
    """An empty store with its indexes; gone, or empty again, after the test."""
    from lkmongo.store.indexes import database_indexes
    from lkmongo.store.mongo.client import create_client
    from lkmongo.store.open import Store

    with pytest.MonkeyPatch.context() as patch:
        if "impatient" not in request.fixturenames:
            be_patient_with_mongodb(patch.setattr)
        made = create_client(mongodb_uri)
    async with made as client:
        if "cli_env" in request.fixturenames:  # which commands have that work in the same database
            client.erasure_key = request.getfixturevalue("erasure_key")
        db = client[database_name]
        if database_name not in _FURNISHED:
            await database_indexes.apply(db)
            _FURNISHED[database_name] = await _shape(db)
        if "vault" in request.fixturenames or os.environ.get("LKMONGO_TEST_ENCRYPTED"):
            async with encrypted(db) as _VAULTS[database_name]:
                yield Store.of(db)
            del _VAULTS[database_name]
        else:
            yield Store.of(db)
        # What a test that failed did not come to end may still write.
        if request.node.stash.get(_FAILED, False) or await _shape(db) != _FURNISHED[database_name]:
            await client.drop_database(database_name)
            del _FURNISHED[database_name]
            return
        for name in await _filled(db):
            await db[name].delete_many({})
        _EMPTIED.append(database_name)


async def _filled(db: Any) -> list[str]:
    """The collections that have a document: to ask for them takes less than to empty those that are empty."""

    def ask(name: str) -> list[dict[str, Any]]:
        return [{"$limit": 1}, {"$project": {"_id": {"$literal": name}}}]

    first, *others = _FURNISHED[db.name]
    found = await db[first].aggregate(
        [*ask(first), *({"$unionWith": {"coll": name, "pipeline": ask(name)}} for name in others)]
    )
    return [each["_id"] async for each in found]


async def _shape(db: Any) -> dict[str, Any]:
    """The collections of a database with their options and indexes, asked for at once."""
    catalog = await db.client.admin.aggregate([{"$listCatalog": {}}, {"$match": {"db": db.name}}])
    return {
        each["name"]: (each["md"]["options"], [index["spec"] for index in each["md"]["indexes"]])
        async for each in catalog
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty LKMONGO_HOME."""
    return tmp_path / "home"
