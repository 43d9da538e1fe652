"""Checks of MongoDB: latency, features, privileges, clock, indexes and vectors."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkmongo.doctor.check import Finding, fail, failed, ok, skip, warn
from lkmongo.doctor.machine import address
from lkmongo.errors import AuthenticationError, ExitCode, NotSupportedError
from lkmongo.model import now
from lkmongo.store.indexes import database_indexes
from lkmongo.store.indexes.backfill import Coverage, coverage
from lkmongo.store.indexes.database_indexes import Action
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.client import is_local
from lkmongo.store.mongo.schema import (
    AUDIT,
    AUDIT_CHECKPOINTS,
    COLLECTIONS,
    DECLARATIONS,
    KEYS,
    MEMORIES,
    MEMORY_HISTORY,
    PERSONAL,
    PHONE_ATTEMPTS,
    PHONES,
    PINS,
    RECEIPTS,
    SESSIONS,
    TOMBSTONES,
    TURNS,
    USED_SEALS,
    USERS,
    VISITORS,
)

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder
    from lkmongo.settings import Settings
    from lkmongo.store.indexes.readiness import IndexState
    from lkmongo.store.indexes.upgrade import Versions
    from lkmongo.store.mongo.capabilities import Capabilities
    from lkmongo.store.open import Store

MAX_SKEW = 5.0
"""Seconds that the clocks may differ by: LiveKit's tokens have a start and an end."""
SLOW = 0.1
"""A round trip of so many seconds is audible to the caller."""
FUSION_SINCE = (8, 0)
DESTROYING = frozenset({"dropCollection", "dropDatabase"})
"""What no process of lkmongo does: whoever may is one user for everything."""
_PINGS = 3
Needs = Mapping[str, Sequence[str]]
"""Actions of MongoDB's access control, each with the collections in which it is needed."""
_RECORDED = (USERS, MEMORIES, MEMORY_HISTORY, SESSIONS, TURNS)
_PHONES = (PHONES, PINS, PHONE_ATTEMPTS)
READING: Needs = {"find": [name for name in COLLECTIONS if name not in {RECEIPTS, AUDIT, AUDIT_CHECKPOINTS}]}
"""What an agent reads; of visitors, whether they have logged out."""
WRITING: Needs = {
    "insert": (*_RECORDED, *_PHONES, VISITORS, DECLARATIONS, TOMBSTONES, KEYS, USED_SEALS),
    "update": (*_RECORDED, *_PHONES, VISITORS, DECLARATIONS, TOMBSTONES, USED_SEALS),
    "remove": (*_RECORDED, *_PHONES, VISITORS),
}
"""What an agent writes: sessions and what is remembered, whose number or browser it was, and what keeps forgotten
things from coming back."""
WEB: Needs = {
    "find": (*PERSONAL, DECLARATIONS, TOMBSTONES, KEYS, USED_SEALS, RECEIPTS, AUDIT),
    "insert": (USERS, MEMORIES, MEMORY_HISTORY, SESSIONS, VISITORS, TOMBSTONES, KEYS, RECEIPTS),
    "update": (*PERSONAL, TOMBSTONES, RECEIPTS),
    "remove": (*_RECORDED, *_PHONES, VISITORS),
}
"""What `lkmongo web` does, which merges guests into people, erases people who want that, and records who waited."""
PROVISIONING = dict.fromkeys(("createCollection", "createIndex", "listIndexes"), COLLECTIONS)
SEARCH_PROVISIONING = dict.fromkeys(("createSearchIndexes", "updateSearchIndex", "listSearchIndexes"), COLLECTIONS)


async def ping(store: Store, settings: Settings) -> Finding:
    """Connect, then measure the shortest of a few round trips.

    Raises:
        DatabaseUnavailableError, AuthenticationError: as `Store.ping`.
    """
    await store.ping()
    trips = []
    for _ in range(_PINGS):
        started = time.perf_counter()
        await store.ping()
        trips.append(time.perf_counter() - started)
    hello = await operations.read(lambda: store.db.command("hello"))
    where, facts = _embedded(store, settings.data_home) if settings.mongodb_uri is None else _own(settings, hello)
    summary = f"{where} answers in {min(trips) * 1000:.1f} ms, database {store.db.name}"
    if min(trips) > SLOW:
        return warn(summary, "run the agent near the database: each turn waits for it", facts)
    return ok(summary, *facts)


def _own(settings: Settings, hello: dict[str, Any]) -> tuple[str, list[str]]:
    uri = settings.mongodb_uri
    members = len(hello.get("hosts") or [])
    kind = f"replica set {hello['setName']}, {members} members" if hello.get("setName") else "no replica set"
    kind = "sharded cluster" if hello.get("msg") == "isdbgrid" else kind
    return (address(uri.get_secret_value()) if uri else ""), [kind]


def _embedded(store: Store, home: Path) -> tuple[str, list[str]]:
    from lkmongo.doctor.machine import size
    from lkmongo.local import data_of_other_versions
    from lkmongo.local.folder import Folder

    mongod = store.embedded
    if mongod is None or mongod.server is None:
        return "the embedded MongoDB", []
    server = mongod.server
    folder = Folder(home, server.series)
    source = "on PATH" if server.source == "PATH" else f"of the {server.source}"
    facts = [
        f"mongod {server.version}, {source}: {server.path}",
        f"data in {folder.data}, {size(folder.data) / 1024**2:,.0f} MiB; log in {folder.log}",
        f"address while it runs: {mongod.uri}",
    ]
    others = data_of_other_versions(home, server.series)
    return "the embedded MongoDB", facts + [f"data of another version, not in use: {other}" for other in others]


def version(capabilities: Capabilities) -> Finding:
    """Whether the server has what is used where it is there; the facts name each feature."""
    finding = _version(capabilities)
    facts = [f"{name.replace('_', ' ')}: {'yes' if there else 'no'}" for name, there in capabilities.features.items()]
    return replace(finding, facts=tuple(facts)) if capabilities.search else finding


def _version(capabilities: Capabilities) -> Finding:
    summary = f"MongoDB {capabilities.release}"
    if not capabilities.search:
        return skip(f"{summary}; it only matters on a server with search")
    if capabilities.rank_fusion:
        return ok(f"{summary}, with $rankFusion")
    hint = "upgrade the cluster to MongoDB 8.0 or later"
    if capabilities.version[:2] >= FUSION_SINCE:
        return warn(f"{summary}, and $rankFusion is switched off: the two searches are fused here", hint)
    return warn(f"{summary} has no $rankFusion: the two searches are fused here", hint)


def search(capabilities: Capabilities, settings: Settings) -> Finding:
    """Whether the server has the search that LKMONGO_SEARCH or LKMONGO_EMBEDDINGS requires."""
    if settings.search == "exact":
        return skip("LKMONGO_SEARCH=exact: searches need no search index")
    if capabilities.search:
        return ok("$search and $vectorSearch are there")
    needs = {"LKMONGO_SEARCH": settings.search, "LKMONGO_EMBEDDINGS": settings.embeddings}
    if named := [name for name, value in needs.items() if value == "atlas"]:
        return failed(
            NotSupportedError(
                f"{' and '.join(named)} {'is' if len(named) == 1 else 'are'} atlas, and this MongoDB has no search",
                hint=f"unset {' and '.join(named)}, or set MONGODB_URI to an Atlas cluster",
            )
        )
    if settings.mongodb_uri is None:
        return skip("the embedded MongoDB has no search: searches run exact")
    return warn(
        "this MongoDB has no search: searches run exact, which reads all vectors of a person or a tenant",
        "use MongoDB Atlas, or set LKMONGO_SEARCH=exact if that is what you want",
    )


async def clock(store: Store) -> Finding:
    """Compare this machine's clock with MongoDB's.

    Raises:
        DatabaseError: MongoDB could not be asked.
    """
    before = now()
    hello = await operations.read(lambda: store.db.command("hello", codec_options=store.db.codec_options))
    after = now()
    return judge_clock(hello["localTime"], before + (after - before) / 2, margin=(after - before).total_seconds() / 2)


def judge_clock(there: datetime, here: datetime, *, margin: float = 0.0) -> Finding:
    """Compare two clocks read at the same moment, give or take `margin` seconds."""
    skew = (here - there).total_seconds()
    if abs(skew) - margin <= MAX_SKEW:
        return ok(f"{abs(skew):.1f} s from MongoDB's clock")
    return warn(
        f"this machine's clock is {abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} MongoDB's",
        "set this machine's clock by NTP: LiveKit refuses tokens from another time",
    )


@dataclass(frozen=True, slots=True)
class _Rights:
    """The actions that a user may perform, by collection."""

    allowed: frozenset[tuple[str, str]]
    may_destroy: bool

    @classmethod
    def of(cls, privileges: list[dict[str, Any]], database: str) -> _Rights:
        pairs: set[tuple[str, str]] = set()
        covering = [each for each in privileges if _covers(each["resource"], database)]
        may_destroy = any(DESTROYING & set(each["actions"]) for each in covering)
        for each in covering:
            named = each["resource"].get("collection", "")
            pairs |= {(action, name) for action in each["actions"] for name in COLLECTIONS if named in {"", name}}
        return cls(frozenset(pairs), may_destroy)

    def missing(self, needs: Needs) -> list[str]:
        return [action for action, names in needs.items() if any((action, name) not in self.allowed for name in names)]


def _covers(resource: Mapping[str, Any], database: str) -> bool:
    return bool(resource.get("anyResource")) or resource.get("db") in {"", database}


async def privileges(store: Store, settings: Settings, capabilities: Capabilities | None) -> Finding:
    """Whether the user in MONGODB_URI may read, write, and create indexes, including search indexes if there are any.

    Raises:
        AuthenticationError: it may not even read what an agent does, nor do what the web server does.
    """
    status = await operations.read(lambda: store.db.command("connectionStatus", showPrivileges=True))
    info = status["authInfo"]
    users = ", ".join(f"{user['user']} of {user['db']}" for user in info["authenticatedUsers"])
    if not users:
        return await _nobody(store, settings)
    rights = _Rights.of(info["authenticatedUserPrivileges"], store.db.name)
    hint = f"give the user the role readWrite on {store.db.name}"
    if missing := rights.missing(READING) or rights.missing(WRITING):
        if not rights.missing(WEB):
            return ok(f"{users} may do what lkmongo web does", "an agent and `lkmongo db` need other users")
        if rights.missing(READING):
            raise AuthenticationError(f"{users} may not {', '.join(missing)} in every collection", hint=hint)
        return warn(f"{users} may read only, not {', '.join(missing)}: calls are not recorded", hint)
    needed = PROVISIONING | (SEARCH_PROVISIONING if capabilities and capabilities.search else {})
    if missing := rights.missing(needed):
        return ok(f"{users} may read and write", f"not {', '.join(missing)}: `lkmongo db` needs another user")
    summary = f"{users} may read, write and make indexes"
    if rights.may_destroy:
        return warn(
            f"{summary}, and drop whole collections, which lkmongo never does",
            "give web, workers and operators a user each, with a role of its own: docs/security.md, Roles",
        )
    return ok(summary)


async def _nobody(store: Store, settings: Settings) -> Finding:
    uri = settings.mongodb_uri
    try:
        await operations.read(lambda: store.db[COLLECTIONS[0]].find_one({}, {"_id": 1}))
    except AuthenticationError as error:
        raise AuthenticationError(
            "MongoDB asks for a user and a password, and MONGODB_URI has none",
            why=error.why,
            hint="write them into MONGODB_URI: mongodb+srv://USER:PASSWORD@HOST, special characters percent-encoded",
        ) from error
    if uri is None:
        return ok("no password is needed on a socket that you alone can open")
    summary = "this MongoDB requires no password"
    if is_local(uri.get_secret_value()):
        return ok(f"{summary}; it is on this machine")
    return warn(f"{summary}: whoever can reach it can read and change everything", "enable its access control")


async def erasure(store: Store) -> Finding:
    """Whether the ids of erased people are hidden by a key that is not in the database, and this machine has it.

    And whether telephone numbers, which are kept under it as well, are found by it.

    Raises:
        WrongKeyError: it does not.
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    from lkmongo.store.people.person_hash import PersonHashes

    hashing, key = await PersonHashes(store.db).known(), store.erasure_key
    if key and key.is_set and (lost := await store.phones.under_another_key()):
        return warn(
            f"{lost:,} telephone numbers are kept under another LKMONGO_ERASURE_KEY: no caller is known by them",
            "put the earlier key back; if it is lost, lkmongo phone unlink, and link them anew",
        )
    if hashing and hashing.is_sealed:
        return ok(f"ids of erased people are hidden by the key with the id {hashing.key_id}")
    if key and key.is_set:
        what = "will be" if hashing is None else "are not yet"
        summary = f"ids of erased people {what} hidden by the key with the id {key.id}"
        return ok(summary) if hashing is None else warn(summary, "lkmongo db upgrade, once every machine has the key")
    return warn(
        "what hides the ids of erased people is in the database: whoever has it, or a dump, can confirm a guess",
        "set LKMONGO_ERASURE_KEY to the same on every machine (openssl rand -hex 32), then lkmongo db upgrade",
    )


_MAKE = "lkmongo db indexes"
_NAMED = 5


async def ordinary(store: Store) -> Finding:
    """Whether the ordinary indexes exist; the unique ones prevent duplicates.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    changes = await database_indexes.plan(store.db)
    blocked = [change for change in changes if change.action is Action.BLOCKED]
    missing = [change for change in changes if change.action is Action.CREATE]
    named = [f"{each.index.collection}.{each.index.name}: {each.detail}" for each in blocked]
    if missing:
        named.append("missing: " + ", ".join(f"{each.index.collection}.{each.index.name}" for each in missing))
    if blocked:
        return fail(
            f"{len(blocked)} of {len(changes)} indexes conflict with the ones needed",
            f"drop those, then {_MAKE}",
            named,
        )
    if not missing:
        return ok(f"all {len(changes)} exist")
    summary = f"{len(missing)} of {len(changes)} indexes are missing"
    if store.embedded:
        return warn(f"{summary}; the next call creates them", _MAKE, named)
    return fail(summary, _MAKE, named)


async def search_indexes_ready(
    store: Store, settings: Settings, capabilities: Capabilities, embedder: Embedder
) -> Finding:
    """Whether the search indexes have the right definition, are ready, and find existing documents.

    Raises:
        NotReadyError: the service that manages search indexes does not answer.
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    from lkmongo.store.indexes.definitions import Tuning
    from lkmongo.store.indexes.readiness import tested_states

    if not capabilities.search:
        return skip("this MongoDB has no search")
    return judge_search_indexes(await tested_states(store.db, embedder, Tuning.of(settings)))


def judge_search_indexes(found: Sequence[IndexState]) -> Finding:
    """Report the most serious problem; what only needs time comes last."""
    from lkmongo.store.indexes.canary import Outcome
    from lkmongo.store.indexes.readiness import MISSING
    from lkmongo.store.indexes.search_indexes import BROKEN

    facts = [f"{each.index.collection}.{each.index.name}: {_state(each)}" for each in found]
    kinds = (
        ([each for each in found if each.status == MISSING], "missing", _MAKE, ExitCode.FAILED),
        ([each for each in found if each.status in BROKEN], "broken", f"{_MAKE} --replace", ExitCode.FAILED),
        (
            different := [each for each in found if each.different],
            "defined differently than needed",
            max((each.remedy for each in different), default=_MAKE, key=len),
            ExitCode.FAILED,
        ),
        ([each for each in found if not each.ready], "not built yet", "lkmongo db wait-ready", ExitCode.NOT_READY),
        (
            [each for each in found if each.canary and each.canary.outcome is Outcome.MISSED],
            "ready but miss existing documents",
            "lkmongo db wait-ready",
            ExitCode.NOT_READY,
        ),
    )
    for wrong, what, hint, exit_code in kinds:
        if wrong:
            names = ", ".join(_named(each) for each in wrong[:_NAMED])
            summary = f"{len(wrong)} of {len(found)} search indexes are {what}: {names}"
            return fail(summary, hint, facts, exit_code=exit_code)
    return ok(f"all {len(found)} are ready", *facts)


def _named(state: IndexState) -> str:
    """The name of an index; of a broken one with its status and the server's message."""
    from lkmongo.store.indexes.search_indexes import BROKEN

    if state.status not in BROKEN:
        return state.index.name
    return f"{state.index.name} is {state.status}" + (f" ({state.detail})" if state.detail else "")


def _state(state: IndexState) -> str:
    canary = (
        f"{state.canary.outcome}{f' ({state.canary.detail})' if state.canary.detail else ''}" if state.canary else ""
    )
    tuned = ", ".join(f"{path} {value}" for path, value in state.tuned.items())
    return "; ".join(filter(None, [state.label, tuned, state.detail, f"canary search: {canary}" if canary else ""]))


async def vectors(store: Store, embedder: Embedder) -> Finding:
    """Whether every document has a vector of the current embedder; others are found by words alone.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    return judge_vectors(await coverage(store.db, embedder.model), embedder.model)


def judge_vectors(counted: Sequence[Coverage], model: str) -> Finding:
    facts = [
        f"{each.collection}: too many to count in time"
        if each.documents is None
        else f"{each.collection}: {each.documents:,} documents, {each.no_vector or 0:,} without a vector, "
        f"{each.other_model or 0:,} with another model's"
        for each in counted
    ]
    left = sum((each.no_vector or 0) + (each.other_model or 0) for each in counted)
    if left:
        summary = f"{left:,} {'document has' if left == 1 else 'documents have'} no vector of {model}"
        return warn(f"{summary}: found by words alone", "lkmongo db embed", facts)
    if uncounted := [each.collection for each in counted if each.documents is None]:
        return warn(f"{' and '.join(uncounted)}: too many to count in time", "lkmongo db embed --dry-run", facts)
    total = sum(each.documents or 0 for each in counted)
    return ok(f"all {total:,} are of {model}" if total else "none yet", *facts)


async def schema(store: Store) -> Finding:
    """Whether documents are of an earlier release, which can be upgraded, or of a later one.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    from lkmongo.store.indexes.upgrade import versions

    return judge_versions(await versions(store.db))


def judge_versions(found: Sequence[Versions]) -> Finding:
    older, newer = (
        sum(filter(None, counts)) for counts in zip(*((each.older, each.newer) for each in found), strict=True)
    )
    facts = [f"{each.collection}: {each.older or 0:,} older, {each.newer or 0:,} newer" for each in found]
    if newer:
        summary = f"{newer:,} {'document is' if newer == 1 else 'documents are'} of a later release of lkmongo"
        return warn(f"{summary}, which this one may not be able to read", "upgrade lkmongo on this machine", facts)
    if older:
        summary = f"{older:,} {'document is' if older == 1 else 'documents are'} of an earlier release of lkmongo"
        return warn(summary, "lkmongo db upgrade", facts)
    if uncounted := [each.collection for each in found if each.older is None]:
        return warn(f"{', '.join(uncounted)}: too many to count in time", "lkmongo db upgrade --dry-run")
    return ok("every document is of this release")


async def encryption(store: Store) -> Finding:
    """Whether what people said is encrypted, and the master key opens the vault.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    from lkmongo.store.indexes.encrypt import states

    found = await states(store.db)
    plain, hidden = (sum(filter(None, counts)) for counts in zip(*((s.plain, s.encrypted) for s in found), strict=True))
    facts = [f"{each.collection}: {each.plain or 0:,} plain, {each.encrypted or 0:,} encrypted" for each in found]
    if (vault := store.encryption.vault) is None:
        if hidden:
            summary = f"{hidden:,} documents are encrypted, and LKMONGO_ENCRYPTION is off: they cannot be read"
            return warn(summary, "set LKMONGO_ENCRYPTION and what it needs, as elsewhere", facts)
        return skip("LKMONGO_ENCRYPTION is off: what people said is stored as it was said")
    await vault.warm()
    where = "in a database of its own" if vault.apart else "in the same database: LKMONGO_KEY_VAULT_URI is not set"
    facts = [f"wrapped by {vault.master.where}", f"keys of {await vault.count():,} people, {where}", *facts]
    if other := await vault.to_rewrap():
        return warn(f"{other:,} keys are wrapped by an earlier master key", "lkmongo db encrypt --rewrap", facts)
    if plain:
        return warn(f"{plain:,} documents are not encrypted yet", "lkmongo db encrypt", facts)
    return ok("everything that people said is encrypted", *facts)
