"""The life of search indexes: from accepted to queryable, staged updates, failure, removal.

State is a function of time: nothing runs in the background. A host may lag behind another; then the list shows the
worst of both, and a query meets the state of the host it reaches.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from tests.standin.definitions import Definition
from tests.standin.shown import shown

if TYPE_CHECKING:
    from tests.standin.clock import Clock
    from tests.standin.snapshots import Snapshot


class Phase(StrEnum):
    """Where one version of an index stands on one host."""

    UNSEEN = "UNKNOWN"
    NOT_STARTED = "NOT_STARTED"
    INITIAL_SYNC = "INITIAL_SYNC"
    STEADY = "STEADY"
    STALE = "STALE"
    FAILED = "FAILED"
    DOES_NOT_EXIST = "DOES_NOT_EXIST"


SERVES = {Phase.STEADY, Phase.STALE, Phase.DOES_NOT_EXIST}
"""Phases in which a query is answered."""

_STATUS = {
    Phase.UNSEEN: "PENDING",
    Phase.NOT_STARTED: "PENDING",
    Phase.INITIAL_SYNC: "BUILDING",
    Phase.STEADY: "READY",
    Phase.STALE: "STALE",
    Phase.FAILED: "FAILED",
    Phase.DOES_NOT_EXIST: "DOES_NOT_EXIST",
}
_WORST_FIRST = ("DELETING", "FAILED", "STALE", "PENDING", "BUILDING", "READY", "DOES_NOT_EXIST")
SETTABLE = {
    "READY": Phase.STEADY,
    "BUILDING": Phase.INITIAL_SYNC,
    "FAILED": Phase.FAILED,
    "STALE": Phase.STALE,
    "DOES_NOT_EXIST": Phase.DOES_NOT_EXIST,
}


@dataclass
class Timing:
    """How long things take, in seconds of the clock.

    Attributes:
        unseen: a new index is unknown to the search process, and queries find nothing.
        started: counted from creation, until then the build has not started.
        build: counted from creation or update, until the new version serves.
        drop: a dropped index stays in the list.
        lag: the index's documents trail the collection.
        host_lag: the second host trails the first, in everything.
    """

    unseen: float
    started: float
    build: float
    drop: float
    lag: float
    host_lag: float = 0.0


@dataclass
class Version:
    """One definition of an index."""

    number: int
    definition: dict[str, Any]
    parsed: Definition
    created: float
    build: float
    failure: str | None = None
    forced: Phase | None = None


@dataclass
class View:
    """An index as one host has it at one moment."""

    main: Version
    phase: Phase
    staged: Version | None = None
    staged_phase: Phase | None = None

    @property
    def queryable(self) -> bool:
        return self.phase in (Phase.STEADY, Phase.STALE)

    @property
    def status(self) -> str:
        if self.staged_phase is Phase.FAILED:
            return "FAILED"
        if self.staged_phase is not None and self.phase is Phase.STEADY:
            return "BUILDING"
        return _STATUS[self.phase]


@dataclass
class Index:
    """One search index of one collection."""

    name: str
    kind: str
    collection: str
    timing: Timing
    versions: list[Version]
    id: str = field(default_factory=lambda: str(ObjectId()))
    dropped: float | None = None
    forced: Phase | None = None
    frozen: Snapshot | None = None
    message: str = "the build failed"

    @property
    def latest(self) -> Version:
        return self.versions[-1]

    def view(self, at: float) -> View:
        """The state at a moment of the host's own time."""
        main = self.versions[0]
        view = View(main, self._first_phase(main, at))
        for number, version in enumerate(self.versions[1:], 2):
            if version.created > at:
                break
            done = version.created + version.build
            newer = self.versions[number] if number < len(self.versions) else None
            if newer and newer.created <= at and newer.created < done:
                continue
            phase = version.forced or (Phase.INITIAL_SYNC if at < done else None)
            phase = phase or (Phase.FAILED if version.failure else None)
            if phase is None:
                view = View(version, Phase.STEADY)
            else:
                view.staged, view.staged_phase = version, phase
        if self.forced is not None:
            return View(view.main, self.forced, view.staged, view.staged_phase)
        return view

    def _first_phase(self, version: Version, at: float) -> Phase:
        age = at - version.created
        if age < self.timing.unseen:
            return Phase.UNSEEN
        if age < self.timing.started:
            return Phase.NOT_STARTED
        if age < version.build:
            return Phase.INITIAL_SYNC
        return Phase.FAILED if version.failure else Phase.STEADY

    def force(self, status: str | None, at: float) -> None:
        """Put it into a status, or its update if one is under way; None lets both follow their course again."""
        staged = self.view(at).staged
        self.forced = None
        for version in self.versions:
            version.forced = None
        if status in ("FAILED", "BUILDING") and staged is not None:
            staged.forced = SETTABLE[status]
        elif status is not None:
            self.forced = SETTABLE[status]

    def gone(self, at: float) -> bool:
        """Whether a dropped index has left the list."""
        return self.dropped is not None and at >= self.dropped + self.timing.drop + self.timing.host_lag


class Catalog:
    """Every index of the cluster, by the UUID of its collection: a collection dropped and made again has none."""

    def __init__(self, clock: Clock, timing: Timing, *, hosts: int = 1, seed: int = 0, lists_type: bool = True) -> None:
        self.clock = clock
        self.timing = timing
        self.hosts = hosts
        self.seed = seed
        self.lists_type = lists_type
        self.plans: dict[str, list[tuple[str | None, float | None]]] = {}
        self._indexes: list[Index] = []

    def of(self, collection: str) -> list[Index]:
        """The indexes of a collection that the list shows, in no dependable order."""
        now = self.clock.now()
        self._indexes = [index for index in self._indexes if not index.gone(now)]
        found = [index for index in self._indexes if index.collection == collection]
        random.Random(f"{self.seed} {len(found)} {collection}").shuffle(found)
        return found

    def find(self, collection: str, *, name: str | None = None, index_id: str | None = None) -> Index | None:
        """The index of that name or id, one that is being dropped included."""
        for index in self.of(collection):
            if index.name == name or index.id == index_id:
                return index
        return None

    def collections(self) -> set[str]:
        """UUIDs of all collections with an index."""
        now = self.clock.now()
        return {index.collection for index in self._indexes if not index.gone(now)}

    def count(self, collections: set[str]) -> int:
        """Indexes of these collections."""
        return sum(len(self.of(collection)) for collection in collections)

    def create(self, collection: str, name: str, kind: str, definition: dict[str, Any], parsed: Definition) -> Index:
        """Accept a new index."""
        version = self._version(name, 0, definition, parsed)
        index = Index(name, kind, collection, self.timing, [version])
        self._indexes.append(index)
        return index

    def update(self, index: Index, definition: dict[str, Any], parsed: Definition) -> None:
        """Accept a new definition; the old one serves until it is built."""
        index.versions.append(self._version(index.name, index.latest.number + 1, definition, parsed))

    def drop(self, index: Index, *, at_once: bool) -> None:
        """Accept the removal."""
        if at_once:
            self._indexes.remove(index)
        else:
            index.dropped = self.clock.now()

    def _version(self, name: str, number: int, definition: dict[str, Any], parsed: Definition) -> Version:
        plans = self.plans.get(name) or [(None, None)]
        failure, build = plans.pop(0)
        seconds = self.timing.build if build is None else build
        return Version(number, definition, parsed, self.clock.now(), seconds, failure)

    def host_time(self, host: int) -> float:
        """The moment that a host has reached."""
        return self.clock.now() - host * self.timing.host_lag

    def listing(self, index: Index) -> dict[str, Any]:
        """The document of `$listSearchIndexes`."""
        hosts = [self._host(index, host) for host in range(self.hosts)]
        status = min((host["status"] for host in hosts), key=_WORST_FIRST.index)
        document: dict[str, Any] = {"id": index.id, "name": index.name}
        if self.lists_type:
            document["type"] = index.kind
        return document | {
            "status": status,
            "queryable": all(host["queryable"] for host in hosts),
            "latestDefinitionVersion": self._stamp(index.latest),
            "latestDefinition": index.latest.definition,
            "statusDetail": hosts,
        }

    def _host(self, index: Index, host: int) -> dict[str, Any]:
        view = index.view(self.host_time(host))
        dropping = index.dropped is not None
        detail: dict[str, Any] = {
            "hostname": f"atlas-standin-shard-00-0{host}",
            "status": "DELETING" if dropping else view.status,
            "queryable": view.queryable and not dropping,
            "mainIndex": self._detail(index, view.main, view.phase),
        }
        if view.staged is not None and view.staged_phase is not None:
            detail["stagedIndex"] = self._detail(index, view.staged, view.staged_phase)
        return detail

    def _detail(self, index: Index, version: Version, phase: Phase) -> dict[str, Any]:
        detail: dict[str, Any] = {
            "status": _STATUS[phase],
            "queryable": phase in (Phase.STEADY, Phase.STALE),
            "definitionVersion": self._stamp(version),
            "definition": shown(index.kind, version.definition),
        }
        if phase is Phase.FAILED:
            detail["message"] = version.failure or index.message
        return detail

    def _stamp(self, version: Version) -> dict[str, Any]:
        return {"version": version.number, "createdAt": self.clock.date(version.created)}
