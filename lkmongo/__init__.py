"""lkmongo: a LiveKit voice agent that remembers, with MongoDB as its memory.

The names in `__all__` are public (docs/library.md); everything else may change in any version. They are imported when
they are first used, so `import lkmongo` is quick, and imports LiveKit only for what needs it.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` takes longer than all the rest
if TYPE_CHECKING:
    from lkmongo.agent.assistant import Assistant, MemoryAgent
    from lkmongo.agent.caller_session import CallerSession
    from lkmongo.agent.tools import with_deadline
    from lkmongo.declarations import Collection, ProfileField
    from lkmongo.errors import (
        DatabaseError,
        LkmongoError,
        NotFoundError,
        NotReadyError,
        SecretError,
        UsageError,
    )
    from lkmongo.memory.memory import Memory
    from lkmongo.model import Fact, Passage, Profile, SessionEnd, SessionRecord, TenantScope, Turn, UserScope
    from lkmongo.settings import Settings

_HOMES = {
    "lkmongo.agent.assistant": ("Assistant", "MemoryAgent"),
    "lkmongo.agent.caller_session": ("CallerSession",),
    "lkmongo.agent.tools": ("with_deadline",),
    "lkmongo.declarations": ("Collection", "ProfileField"),
    "lkmongo.errors": (
        "DatabaseError",
        "LkmongoError",
        "NotFoundError",
        "NotReadyError",
        "SecretError",
        "UsageError",
    ),
    "lkmongo.memory.memory": ("Memory",),
    "lkmongo.model": ("Fact", "Passage", "Profile", "SessionEnd", "SessionRecord", "TenantScope", "Turn", "UserScope"),
    "lkmongo.settings": ("Settings",),
}

__all__ = [
    "Assistant",
    "CallerSession",
    "Collection",
    "DatabaseError",
    "Fact",
    "LkmongoError",
    "Memory",
    "MemoryAgent",
    "NotFoundError",
    "NotReadyError",
    "Passage",
    "Profile",
    "ProfileField",
    "SecretError",
    "SessionEnd",
    "SessionRecord",
    "Settings",
    "TenantScope",
    "Turn",
    "UsageError",
    "UserScope",
    "with_deadline",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(home), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
