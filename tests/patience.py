"""The waits of a call, made longer: a machine that is busy is no MongoDB, disk or model that is away.

Tests, and the commands that tests start, wait as long as this; `impatient` is for those tests
that are about the waits themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import Any

from lkmongo import deadlines

TIMES = 30
_DEADLINES = (
    "TOOL_READ TOOL_CHANGE TOOL_SEARCH PAST_CALLS MONGODB_READ MONGODB_WRITE QUERY_EMBEDDING MEMORY_QUERY_EMBEDDING "
    "BRIEFING_VECTOR DISK PRELOAD LOAD_ATTEMPT RESUME_READ LEASE_RENEWAL HANG_UP SETTLE LEARN AWAY ERASED_END "
    "RECORD_END "
    "END_CALLBACK WEBHOOK"
).split()
_DEFAULTS = {
    "lkmongo.store.mongo.circuit_breaker": ["CircuitBreaker.read"],
    "lkmongo.search.atlas": ["AtlasStrategy.__init__"],
    "lkmongo.search.choose": ["AtlasWithFallback.__init__"],
    "lkmongo.search.rerank": ["RerankedSearch.__init__"],
    "lkmongo.search.strategy": ["QueryEmbedding.__init__", "ExactStrategy.__init__"],
    "lkmongo.agent.caller": ["Caller.preload"],
    "lkmongo.outbox.lease": ["Lease.release"],
    "lkmongo.agent.recorder": ["Recorder.close"],
}
"""Functions whose defaults are such a deadline."""
_OF_CLIENTS = ("serverSelectionTimeoutMS", "connectTimeoutMS", "socketTimeoutMS")


def be_patient(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Wait longer from now on; `put` sets an attribute, and may be one that is undone later."""
    for changed in _longer_ones():
        put(*changed)


def be_patient_with_mongodb(put: Callable[[Any, str, Any], None]) -> None:
    """Likewise, but only for the connections of clients that are made from now on."""
    put(*_longer_connections())


@cache
def _longer_connections() -> tuple[Any, str, Any]:
    client = import_module("lkmongo.store.mongo.client")
    return client, "_OPTIONS", client._OPTIONS | {name: TIMES * client._OPTIONS[name] for name in _OF_CLIENTS}


@cache
def _longer_ones() -> list[tuple[Any, str, Any]]:
    # Imported first: a module that is imported later takes the longer deadlines for its defaults.
    functions = [attrgetter(each)(import_module(name)) for name, names in _DEFAULTS.items() for each in names]
    return [
        *((deadlines, each, TIMES * getattr(deadlines, each)) for each in _DEADLINES),
        *(
            (function, kind, _longer(defaults))
            for function in functions
            for kind in ("__defaults__", "__kwdefaults__")
            if (defaults := getattr(function, kind))
        ),
        _longer_connections(),
    ]


def _longer(defaults: tuple[object, ...] | dict[str, object] | None) -> tuple[object, ...] | dict[str, object] | None:
    if isinstance(defaults, dict):
        return {name: TIMES * value if isinstance(value, float) else value for name, value in defaults.items()}
    return defaults and tuple(TIMES * value if isinstance(value, float) else value for value in defaults)
