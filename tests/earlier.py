"""A database and journals that an earlier release made, with its commands and agents: see data/README.md."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lkmongo.store.mongo.extended_json import loads
from lkmongo.store.open import Store

FOLDER = Path(__file__).parent / "data" / "at_3c280ef"
DATABASE = "database"
"""What the release had stored when workers of its own were killed."""
RECOVERED = "recovered"
"""The same, after that release had recovered what they left."""
JOURNALS = FOLDER / "spool"
"""What they left."""
NAMED = "dc7bc7b2b41b4670"
"""What the journals say that their database is called."""


def documents(state: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every document of a state, with the name of its collection."""
    with gzip.open(FOLDER / f"{state}.jsonl.gz") as lines:
        for line in lines:
            found = loads(line)
            yield found["in"], found["document"]


async def restore(store: Store, state: str = DATABASE) -> None:
    """Load a state into an empty database."""
    by_collection: dict[str, list[dict[str, Any]]] = {}
    for name, document in documents(state):
        by_collection.setdefault(name, []).append(document)
    for name, found in by_collection.items():
        await store.db[name].insert_many(found)


def leave_journals(folder: Path) -> None:
    """Put the journals where a recovery looks for them."""
    shutil.copytree(JOURNALS, folder, copy_function=shutil.copy)  # as if written today: those of 30 days are deleted
